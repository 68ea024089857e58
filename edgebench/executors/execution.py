"""A plan carried out: parts are started on their machines, watched, injected into and stopped."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cloud.cloud_spec import CloudSpec
from edgebench.clock import now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.executors.faults import Injection
from edgebench.executors.injecting import RunInjector
from edgebench.executors.machine import Machine
from edgebench.executors.observed_links import ObservedLinks
from edgebench.executors.orders import (
    AllEnded,
    AwaitBroker,
    BeginLinks,
    Counted,
    Emulate,
    End,
    Ended,
    EndPaths,
    Failed,
    Gone,
    HandedIn,
    HandIn,
    Listen,
    Measured,
    MeasurePath,
    Order,
    PathMeasuredTo,
    PathsServed,
    PathsWatched,
    Report,
    Revoke,
    ServePaths,
    StartBroker,
    StartCloud,
    StartNode,
    StartRelay,
    Up,
)
from edgebench.executors.plan import Part, RunPlan, site_of
from edgebench.executors.power_meter import Meter
from edgebench.executors.supervisor import Lost, Supervisor
from edgebench.executors.wiring import Network, Sited, Wiring
from edgebench.fabric.brokers import BrokerUser
from edgebench.fabric.brokers.permissions import permissions_at
from edgebench.fabric.control import ControlClient
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.records import Brokered, Died, Elsewhere, Invalidated
from edgebench.fabric.shelves import Caller
from edgebench.fabric.slices import WATCHER, LiveState
from edgebench.fabric.spool import Spool
from edgebench.interruption import uninterrupted
from edgebench.lab.messages import DEVICE_PORT
from edgebench.topology.deployment import HERE, Deployment, LinkPlan, boards_at
from edgebench.topology.link_traces import NO_TRACES, LinkTraces, for_relay
from edgebench.topology.wording import listed

Tell = Callable[[str], None]

_ANSWER_S = 60.0
_LOOK_S = 0.01
_DOING = {
    "broker": "starting brokers",
    "relay": "starting the link relay",
    "cloud": "starting the cloud",
    "edge": "starting nodes",
    "agent": "starting nodes",
}


@dataclass(frozen=True)
class RunInputs:
    """What a run needs besides its plan.

    broker_url: an external broker, login included. traces, retrain: see CloudSpec. link_traces: that links name.
    sensors: the file of this machine's. meter: of its power.
    """

    deployment: Deployment
    run_dir: Path
    registry_dir: Path
    data: Path | None
    broker_url: str | None
    traces: dict[str, list[float]]
    retrain: bool = False
    sensors: Path | None = None
    link_traces: LinkTraces = NO_TRACES
    meter: Meter | None = None


class Execution:
    """A run: `start`, `watch`, and `stop` however that went."""

    def __init__(
        self,
        plan: RunPlan,
        machines: Mapping[str, Machine],
        inputs: RunInputs,
        spool: Spool,
        tell: Tell,
        network: Network,
    ) -> None:
        """machines: by name, all that the plan names, and this one. spool: takes what the execution observes, as it
        happens. network: between the machines."""
        self._plan = plan
        self._machines = machines
        self._inputs = inputs
        self._spool = spool
        self._tell = tell
        self._network = network
        self._external = None if inputs.broker_url is None else parse_broker_url(inputs.broker_url)
        self._tokens = {part.name: secrets.token_urlsafe(24) for part in plan.of_kind("edge", "agent")}
        self._watcher_token = secrets.token_urlsafe(24)
        self._links = ObservedLinks(inputs.deployment, spool.write)
        self._started: list[Part] = []
        self._injector: RunInjector | None = None
        self._to_begin: list[Part] = []
        self._sited: dict[str, Sited] = {}
        self._up: set[str] = set()
        self._over: set[str] = set()
        self._handed_in: set[str] = set()
        self._paths_served: dict[str, int] = {}
        self._paths_measured: set[tuple[str, str]] = set()
        self._paths_watched: set[str] = set()
        self._gone: set[str] = set()
        self._revoked: set[str] = set()
        self._stopping = False
        self._ended: list[Ended | Lost] = []
        self._control: ControlClient | None = None
        self._supervisor: Supervisor | None = None

    def start(self) -> None:
        """Start every part on its machine, those of a stage side by side. Raises EdgebenchError where one does not come
        up."""
        if self._external is not None:
            sites = (node.name for node in self._inputs.deployment.nodes.values() if node.tier != "device")
            self._spool.write(*(Brokered(site, "external", None) for site in sites))
        serving = [part for part in self._plan.of_kind("cloud", "edge") if part.offers]
        for part in serving:
            self._send(part, Listen(part))
        self._until(serving, self._up)
        self._control = ControlClient(
            self._wiring().control_url(HERE).url, self._watcher_token, trust=self._network.trust
        )
        self._measure_paths()
        if not self._plan.of_kind("relay"):  # which measures its links with nothing else running beside it
            for part in self._plan.of_kind("cloud"):
                self._started.append(part)
                self._send(part, StartCloud(part, None, self._watcher_token))
        for stage in self._plan.stages():
            self._tell(_DOING[stage[0].kind])
            for part in stage:
                if part not in self._started:
                    self._started.append(part)
                self._send(part, self._order_to_start(part))
            brokers, relays = ([part for part in stage if part.kind == kind] for kind in ("broker", "relay"))
            for part in brokers:
                self._send(part, AwaitBroker(part.name))
            self._until(brokers, self._up)
            if relays:
                self._tell("measuring the links")
            for part in relays:
                self._send(part, Emulate(part.name, tuple(self._wiring().routes(part.machine))))
            self._until(relays, self._up)
        self._supervisor = Supervisor(self._started, self._who_ended, self._control, self._write)
        links = {link.name: self._meets_at(link) for link in self._inputs.deployment.links.values() if link.shaped}
        self._injector = RunInjector(self._machines, links, self._started, self._supervisor, self._order_to_start)

    def watch(self, on_live: Callable[[LiveState], None], on_streaming: Callable[[int], None]) -> None:
        """Return when the run is over, or a part has died that the others cannot do without.

        on_live: called twice a second. on_streaming: called several times a second with the start of the streams in
        ns, once that is known.
        """
        assert self._supervisor is not None
        self._supervisor.watch(on_live, partial(self._begin_links, on_streaming))

    def _begin_links(self, on_streaming: Callable[[int], None], start_ns: int) -> None:
        """What varies by the time of the streams is told of their start, once."""
        waiting, self._to_begin = self._to_begin, []
        for part in waiting:
            self._send(part, BeginLinks(part.name, start_ns))
        on_streaming(start_ns)

    def inject(self, injection: Injection) -> None:
        """Bring a fault about, or to its end, now; the machine where that is writes it down. From any one thread.

        Raises FabricError where it cannot be.
        """
        assert self._injector is not None
        self._injector.inject(injection)

    def stop(self) -> None:
        """End every part that has not ended, which keeps what it recorded; to be called however the run went.

        First the nodes, which hand in what they have recorded, then what they are connected by.
        """
        self._stopping = True
        # Written down from the last to the first: each happens, though one before it should fail.
        with contextlib.ExitStack() as steps:
            for machine in self._machines.values():
                steps.callback(machine.close)
            steps.callback(self._gather)
            steps.callback(self._end_paths)
            for kinds in (("broker",), ("relay",), ("cloud", "edge", "agent")):
                steps.callback(self._end, [part for part in self._started if part.kind in kinds])
            if self._control is not None:
                steps.callback(self._control.close)

    def _measure_paths(self) -> None:
        """What the network does by itself, one path after another, before anything else is on it."""
        served = dict.fromkeys(parent for _, parent in self._plan.paths)
        if served:
            self._tell("measuring the network between the machines")
        for machine in served:
            self._machines[machine].send(ServePaths())
        self._wait(lambda: [machine for machine in served if machine not in self._paths_served])
        for child, parent in self._plan.paths:
            port = self._paths_served[parent]
            self._machines[child].send(MeasurePath(parent, self._network.host(parent, child), port))
            self._wait(lambda: [] if (child, parent) in self._paths_measured else [child])  # noqa: B023

    def _end_paths(self) -> None:
        concerned = dict.fromkeys(machine for path in self._plan.paths for machine in path)
        there = [machine for machine in concerned if machine not in self._gone]
        for machine in there:
            self._machines[machine].send(EndPaths())
        self._wait(lambda: [name for name in there if name not in self._paths_watched | self._gone])

    def _order_to_start(self, part: Part) -> Order:
        match part.kind:
            case "broker":
                port = DEVICE_PORT if boards_at(self._inputs.deployment, site_of(part)) else 0
                deployment = self._inputs.deployment
                users, durability = self._users_at(part), deployment.durability
                return StartBroker(part, deployment.broker_kind, users, port, durability=durability)
            case "relay":
                deployment = self._inputs.deployment
                shaped = (link for link in deployment.links.values() if link.shaped)
                here = tuple(link for link in shaped if self._meets_at(link) == part.machine)
                if any(link.up_trace or link.down_trace or link.outages for link in here):
                    self._to_begin.append(part)
                return StartRelay(part, here, deployment.seed, for_relay(self._inputs.link_traces, here))
            case "cloud":
                return StartCloud(part, self._cloud_spec(), self._watcher_token)
            case "edge" | "agent":
                url = self._wiring().control_url(part.machine).url
                return StartNode(part, url, self._tokens[part.name], small_disk=self._plan.fills_disk_of(part))
            case _:
                raise AssertionError(f"{part.name}: started by {part.started_by}")

    def _users_at(self, broker: Part) -> tuple[BrokerUser, ...]:
        """Who may connect to a broker off loopback: each node, or the device that plays it, for its own topics."""
        passwords, deployment = self._network.passwords, self._inputs.deployment
        if not passwords:
            return ()
        may = permissions_at(deployment, site_of(broker))
        return tuple(BrokerUser(name, passwords[name], what) for name, what in may.items())

    def _cloud_spec(self) -> CloudSpec:
        inputs = self._inputs
        nodes = {
            self._tokens[part.name]: Caller(frozenset(part.nodes), part.machine)
            for part in self._plan.of_kind("edge", "agent")
        }
        return CloudSpec(
            deployment=inputs.deployment,
            endpoints=self._wiring().endpoints(),
            tokens=nodes | {self._watcher_token: Caller(frozenset((WATCHER,)))},
            traces=inputs.traces,
            run_dir=str(inputs.run_dir),
            registry_dir=str(inputs.registry_dir),
            data=str(inputs.data) if inputs.data is not None else None,
            retrain=inputs.retrain,
        )

    def _wiring(self) -> Wiring:
        inputs, plan = self._inputs, self._plan
        return Wiring(inputs.deployment, plan.crossings, self._sited, self._network, self._external)

    def _meets_at(self, link: LinkPlan) -> str:
        """The machine where all who share a link meet."""
        return self._inputs.deployment.nodes[link.parent].machine

    def _send(self, part: Part, order: Order) -> None:
        self._machines[part.machine].send(order)

    def _end(self, parts: Collection[Part]) -> None:
        of_machines: dict[str, list[str]] = {}
        for part in parts:
            of_machines.setdefault(part.machine, []).append(part.name)
        # Those of this machine take as long as they take; the others end meanwhile.
        for machine in sorted(of_machines, key=lambda name: name == HERE):
            self._machines[machine].send(End(tuple(of_machines[machine])))
        self._until(parts, self._over)

    def _gather(self) -> None:
        """Have what the parts have left behind on other machines."""
        took_part = dict.fromkeys(part.machine for part in self._started)
        elsewhere = [name for name in took_part if name != HERE and name not in self._gone]
        for name in elsewhere:
            self._machines[name].send(HandIn())
        self._wait(lambda: [name for name in elsewhere if name not in self._handed_in | self._gone])

    def _until(self, parts: Iterable[Part], done: Collection[str]) -> None:
        """Wait until all of these are told of whose machines are there. Raises FabricError where an order fails."""
        self._wait(
            lambda: [
                f"{part.name} on {part.machine}"
                for part in parts
                if part.name not in done and part.machine not in self._gone
            ]
        )

    def _wait(self, silent: Callable[[], Sequence[str]]) -> None:
        """Until nobody is silent any more. Raises FabricError where nobody has told anything for too long, too."""
        patient_until_s = now_s() + _ANSWER_S
        while True:
            if self._look():
                patient_until_s = now_s() + _ANSWER_S
            names = silent()
            if not names:
                return
            if now_s() > patient_until_s:
                raise FabricError(f"nothing was heard in {_ANSWER_S:.0f} s of {listed(names)}")
            sleep_s(_LOOK_S)

    def _who_ended(self) -> list[Ended | Lost]:
        self._look()
        ended, self._ended = self._ended, []
        return ended

    def _look(self) -> bool:
        """Whether there was anything to hear."""
        failures: list[str] = []
        heard = False
        with uninterrupted():  # what a machine has told it does not tell again, and what it reads meanwhile it closes
            for name, machine in self._machines.items():
                for report in machine.reports():
                    heard = True
                    if isinstance(report, Failed):
                        failures.append(report.reason if name == HERE else f"{name}: {report.reason}")
                    else:
                        self._take(name, report)
        if failures:
            raise FabricError("; ".join(failures))
        return heard

    def _take(self, machine: str, report: Report) -> None:
        match report:
            case Up(part=part, ports=ports):
                self._sited |= {address: Sited(machine, port) for address, port in ports.items()}
                self._up.add(part)
            case Measured(links=measured):
                self._links.measured(measured)
            case Counted(links=counted):
                self._links.counted(counted)
            case Ended():
                self._ended.append(report)
            case AllEnded(parts=parts):
                self._over.update(parts)
            case PathsServed(port=port):
                self._paths_served[machine] = port
            case PathMeasuredTo(to=to, measured=path):
                self._paths_measured.add((machine, to))
                self._links.path_measured((machine, to), path)
            case PathsWatched(to=watched):
                self._paths_watched.add(machine)
                for to, seen in watched.items():
                    self._links.path_watched((machine, to), seen)
            case HandedIn(name=None):
                self._handed_in.add(machine)
            case Gone(why=why, removed=removed):
                self._lose(machine, why, removed=removed)

    def _lose(self, machine: str, why: str, *, removed: bool) -> None:
        revoked_before = machine in self._revoked
        if removed and not revoked_before:
            self._revoked.add(machine)
            self._revoke(machine)
        if machine in self._gone and (revoked_before or not removed):
            return
        self._gone.add(machine)
        if self._stopping:
            self._write(HERE, Invalidated(f"machine {machine} {why}, before it had handed everything in"))
        elif self._supervisor is None:
            raise FabricError(f"machine {machine} {why}")
        else:
            self._ended.append(Lost(machine, why, removed))

    def _revoke(self, machine: str) -> None:
        """End the access of all that ran on a machine, or of a device without Python, wherever it has any."""
        nodes = self._inputs.deployment.nodes.values()
        users = tuple(node.board or node.name for node in nodes if machine == (node.board or node.machine))
        running = [part for part in self._started if part.machine != machine and part.name not in self._over]
        for part in running:
            if part.kind == "broker" and part.name in self._up:
                self._send(part, Revoke(part.name, users))
        if self._stopping or self._supervisor is None:
            return  # the run ends, and with it what serves files; before it is told its part, a cloud does not answer
        for part in running:
            if part.kind in ("cloud", "edge") and part.offers:
                url = self._wiring().server_url(part.name, HERE).url
                try:
                    with ControlClient(url, self._watcher_token, trust=self._network.trust) as server:
                        server.revoke(machine)
                except FabricError as error:
                    self._write(HERE, Invalidated(f"{part.name} does not know that {machine} was removed: {error}"))

    def _write(self, machine: str, entry: Died | Invalidated) -> None:
        self._spool.write(Elsewhere(machine, entry) if machine != HERE and isinstance(entry, Died) else entry)
