"""This machine: brokers, relays, cloud, edge nodes and device agents as its processes."""

from __future__ import annotations

import contextlib
import queue
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from edgebench.clock import now_s
from edgebench.errors import EdgebenchError, FabricError
from edgebench.executors.disks import SmallDisk
from edgebench.executors.injecting import MachineInjector
from edgebench.executors.orders import (
    AllEnded,
    AwaitBroker,
    BeginLinks,
    Counted,
    Emulate,
    End,
    EndPaths,
    Failed,
    HandedIn,
    HandIn,
    KeepPiece,
    Listen,
    Measured,
    MeasureMachine,
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
from edgebench.executors.plan import Part, site_of
from edgebench.executors.power_meter import Meter
from edgebench.executors.processes import PartProcess, start_part
from edgebench.executors.usage import UsageSampler
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.brokers.server import Broker
from edgebench.fabric.child_process import birth_of, end_children
from edgebench.fabric.links import Relay
from edgebench.fabric.listening import ON_LOOPBACK, FreePorts, Listening
from edgebench.fabric.node_process import STORE
from edgebench.fabric.paths import NetworkPath, PathServer, PathWatched
from edgebench.fabric.probing import probe
from edgebench.fabric.records import Brokered, Entry, Faulted, Hiccuped
from edgebench.fabric.relay import Counters
from edgebench.fabric.tls import Trust, context_to, server_context, tls_name
from edgebench.interruption import uninterrupted

PROCESSES = "processes"
"""The file among what is worked with that lists the processes of a run: pid, and when that was born."""

RECORDS = "records.spool"
"""What a node process records, in the folder that it works in."""

_HEARING_EVERY_S = 60.0
"""How often relays are asked for what they have to tell."""

_PROGRAMS = {"edge": "edge_node", "agent": "device_agent"}


class ThisMachine:
    """See `Machine`. What it starts dies with the thread that gives the orders, even where that one is killed."""

    def __init__(
        self,
        folder: Path,
        note: Callable[[Entry], None],
        listening: Listening = ON_LOOPBACK,
        trust: Trust | None = None,
        sensors: Path | None = None,
        meter: Meter | None = None,
        *,
        for_runs_only: bool = False,
    ) -> None:
        """folder: where logs and what is worked with lie. note: what is observed of this machine, and of parts that do
        not record it themselves, is handed to it as it happens. listening: where parts do. trust: by which they speak
        TLS; without it they are on loopback. sensors: the file of this machine's. meter: of its power. for_runs_only:
        all that this process does is work for a run."""
        self._work_dir = folder / "work"
        self._log_dir = folder / "logs"
        for directory in (self._work_dir, self._log_dir):
            directory.mkdir(parents=True, exist_ok=True)
        self._note = note
        self._listening_at = listening
        self._ports = FreePorts(listening)
        self._trust = trust
        self._sensors = sensors
        self._running: list[PartProcess] = []
        self._brokers: dict[str, Broker] = {}
        self._relays: dict[str, Relay] = {}
        self._listening: dict[str, socket.socket] = {}
        self._port_of: dict[str, int] = {}
        self._disks: dict[str, SmallDisk] = {}
        self._injector = MachineInjector(self, note)
        self._path_server: PathServer | None = None
        self._paths: dict[str, NetworkPath] = {}
        self._told: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._told_ended: set[tuple[str, int]] = set()
        self._taken_leave_of: set[str] = set()
        self._telling = threading.Lock()
        self._usage = UsageSampler(self._running, note, meter, for_runs_only=for_runs_only)
        self._next_usage_s = _usage_after(now_s())
        self._next_hearing_s = now_s() + _HEARING_EVERY_S

    def send(self, order: Order) -> None:
        """Do it, and return when it is done."""
        try:
            self._obey(order)
        except (EdgebenchError, OSError) as error:
            self._told.put(Failed(str(error)))

    def reports(self) -> Sequence[Report]:
        """See `Machine`; the use of this machine is noted once a second meanwhile."""
        if now_s() >= self._next_hearing_s:
            self._next_hearing_s = now_s() + _HEARING_EVERY_S
            for relay in self._relays.values():
                try:
                    relay.hear()
                except FabricError as error:
                    self._told.put(Failed(str(error)))
        if now_s() >= self._next_usage_s:
            # After a standstill there is one sample of all of it, and no burst of them.
            self._next_usage_s = _usage_after(now_s())
            self._usage.sample()
        self._tell_ended()
        told = []
        while not self._told.empty():
            told.append(self._told.get())
        return told

    def left_behind(self) -> Iterator[tuple[str, Path]]:
        """What there is to hand in once all has ended: logs, and records of parts that cannot have done so themselves.

        Each with its name, which tells its place below the run's folder.
        """
        found = [path for path in self._log_dir.iterdir() if path.is_file()]
        found += [
            self._work_dir / each.part.nodes[0] / RECORDS
            for each in self._running
            if each.part.nodes and each.process.status != 0
        ]
        for path in found:
            if path.exists():
                yield path.relative_to(self._log_dir.parent).as_posix(), path

    def close(self) -> None:
        """See `Machine`."""
        with contextlib.ExitStack() as steps:
            for listening in self._listening.values():
                steps.callback(listening.close)
            for disk in self._disks.values():
                steps.callback(disk.close)
            steps.callback(self._end_paths)
            steps.callback(self._end, [each.part.name for each in self._running])

    def _obey(self, order: Order) -> None:
        match order:
            case Listen(part=part):
                self._listen(part)
            case AwaitBroker(part=name):
                self._await_broker(name)
            case Revoke(part=name, users=users):
                self._brokers[name].revoke(*users)
            case StartBroker() | StartRelay() | StartCloud() | StartNode():
                with uninterrupted():  # a process that is started is known, or there is none
                    self._start_process(order)
            case Emulate():
                self._emulate(order)
            case BeginLinks(part=name, at_ns=at_ns):
                self._relays[name].begin(at_ns)
            case End(parts=names):
                self._end(names)
                self._tell_ended()
                self._told.put(AllEnded(names))
            case ServePaths() | MeasurePath() | EndPaths():
                self._on_paths(order)
            case HandIn():
                self._told.put(HandedIn())  # all of it is in its place
            case KeepPiece() | MeasureMachine():
                raise AssertionError("the runner of a lab's machine sees to these")
            case _:
                self._injector.inject(order)

    def _listen(self, part: Part) -> None:
        for address in part.offers:
            listening = self._listening[address] = self._ports.listen()
            self._port_of[address] = listening.getsockname()[1]
        self._told.put(Up(part.name, {address: self._port_of[address] for address in part.offers}))

    def _start_process(self, order: StartBroker | StartRelay | StartCloud | StartNode) -> None:
        match order:
            case StartBroker():
                self._start_broker(order)
            case StartRelay():
                self._start_relay(order)
            case StartCloud():
                self._start_cloud(order)
            case StartNode():
                self._start_node(order)

    def _start_broker(self, order: StartBroker) -> None:
        if order.incarnation:
            self._forget(order.part.name)
            broker = self._brokers[order.part.name]
            broker.launch_again()
            self._runs(PartProcess(order.part, broker.process, broker.log, order.incarnation))
            self._injector.note("start", order.part.name, order.fault)
            return
        name = f"broker-{site_of(order.part)}"
        settings = BrokerSettings(
            name,
            self._work_dir / name,
            self._ports.host,
            order.port or self._ports.free(),
            self._trust,
            order.users,
            mutual=self._trust is not None,
            durability=order.durability,
        )
        broker = make_broker(settings, order.kind)
        self._brokers[order.part.name] = broker
        broker.launch()
        self._runs(PartProcess(order.part, broker.process, broker.log))

    def _await_broker(self, name: str) -> None:
        part = self.named(name).part
        broker = self._brokers[name].until_up()
        self._note(Brokered(site_of(part), broker.kind, broker.version))
        self._told.put(Up(name, dict.fromkeys(part.offers, broker.port)))

    def _start_relay(self, order: StartRelay) -> None:
        relay = Relay.launch(
            order.links,
            seed=order.seed,
            log_dir=self._log_dir,
            listening=self._listening_at,
            traces=order.traces,
        )
        relay.on_counters = partial(self._note_relay, order.part.name)
        self._relays[order.part.name] = relay
        self._runs(PartProcess(order.part, relay.process, relay.log))

    def _note_relay(self, name: str, counters: Counters) -> None:
        """As it comes: a day of it is megabytes."""
        if counters.hiccups:
            self._note(Hiccuped(name, counters.hiccups))
        for each in counters.outages:
            self._note(Faulted(each.link, each.step, each.at_ns))

    def _emulate(self, order: Emulate) -> None:
        relay = self._relays[order.part]
        relay.listen(order.routes)
        self._told.put(Measured(probe(relay)))
        self._told.put(Up(order.part, {route.name: relay.address(route.name)[1] for route in order.routes}))

    def _start_cloud(self, order: StartCloud) -> None:
        part = order.part
        if all(each.part.name != part.name for each in self._running):
            work_dir = self._work_dir / part.name
            work_dir.mkdir(parents=True)
            self._start(part, "cloud", ["--work-dir", str(work_dir), "--lifeline"], part.name, order.token)
        if order.spec is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended already, which is told as any end is
                self.named(part.name).process.write_line(msgspec.json.encode(order.spec))

    def _start_node(self, order: StartNode) -> None:
        part, first = order.part, order.part.nodes[0]
        arguments = ["--cloud", order.control_url, "--work-dir", str(self._work_dir / first), "--lifeline"]
        arguments += ["--incarnation", str(order.incarnation)]
        for node in part.nodes:
            arguments += ["--node", node]
        if order.incarnation:
            self._forget(part.name)
            for address in part.offers:
                self._listening[address] = self._ports.listen(self._port_of[address])
        if order.small_disk and part.name not in self._disks:
            self._disks[part.name] = SmallDisk(self._work_dir / first / STORE)
        self._start(part, _PROGRAMS[part.kind], arguments, first, order.token, order.incarnation)
        if order.incarnation:
            self._injector.note("start", part.name, order.fault)

    def _start(
        self, part: Part, program: str, arguments: list[str], name: str, token: str, incarnation: int = 0
    ) -> PartProcess:
        """Start a program of ours. Where it listens already is its own from then on, and dies with it."""
        with contextlib.ExitStack() as handed_down:
            descriptors = []
            for address in part.offers:
                descriptors.append(handed_down.enter_context(self._listening.pop(address)).fileno())
                arguments = [*arguments, "--listen-fd", str(descriptors[-1])]
            log = self._log_dir / f"{name}.log"
            process = start_part(
                part,
                program,
                arguments,
                log=log,
                token=token,
                trust=self._trust,
                sensors=self._sensors,
                pass_fds=tuple(descriptors),
                incarnation=incarnation,
            )
        self._runs(process)
        return process

    def _forget(self, name: str) -> None:
        """Take leave of a part that was killed, and told of as any that ends: it is started again."""
        gone = self.named(name)
        gone.process.end()
        self._tell_ended()
        with self._telling:
            self._running.remove(gone)

    def _runs(self, process: PartProcess) -> None:
        self._running.append(process)
        # For whoever must clean up should this process be killed.
        with (self._work_dir / PROCESSES).open("a", encoding="utf-8") as listed:
            listed.write(f"{process.process.pid} {birth_of(process.process.pid)}\n")

    def _on_paths(self, order: ServePaths | MeasurePath | EndPaths) -> None:
        assert self._trust is not None
        match order:
            case ServePaths():
                listening = self._ports.listen()
                secured = server_context(self._trust, require_client_certificate=True)
                self._path_server = PathServer(listening, secured)
                self._told.put(PathsServed(listening.getsockname()[1]))
            case MeasurePath(to=machine, host=host, port=port):
                name = tls_name(machine)
                path = self._paths[machine] = NetworkPath(host, port, context_to(name, self._trust), name)
                self._told.put(PathMeasuredTo(machine, path.measure()))
                path.watch()
            case EndPaths():
                self._told.put(PathsWatched(self._end_paths()))

    def _end_paths(self) -> dict[str, PathWatched]:
        if self._path_server is not None:
            self._path_server.close()
        return {machine: seen for machine, path in self._paths.items() if (seen := path.close()) is not None}

    def _end(self, names: Sequence[str]) -> None:
        """Those that host nodes, side by side; then relays and brokers among them. Each takes leave once."""
        names = [name for name in names if name not in self._taken_leave_of]
        self._taken_leave_of.update(names)
        with contextlib.ExitStack() as steps:
            for name in names:
                if name in self._brokers:
                    steps.callback(self._stop_broker, name)
                elif name in self._relays:
                    steps.callback(self._stop_relay, name)
            alone = [each.process for each in self._running if each.part.name in names and each.part.nodes]
            steps.callback(end_children, alone)

    def _stop_broker(self, name: str) -> None:
        broker = self._brokers[name]
        broker.stop()
        if broker.log.exists():
            shutil.copy(broker.log, self._log_dir / broker.log.name)
        if refused := broker.refused():
            self._note(Brokered(site_of(self.named(name).part), broker.kind, broker.version, refused))

    def _stop_relay(self, name: str) -> None:
        relay = self._relays[name]
        if counters := relay.stop():
            self._told.put(Counted(counters))

    def _tell_ended(self) -> None:
        with self._telling:
            for each in self._running:
                told = each.part.name, each.incarnation
                if told not in self._told_ended and (ended := each.ended()) is not None:
                    self._told_ended.add(told)
                    self._told.put(ended)

    # What faults happen to; see `Parts`.

    def relay_across(self, link: str) -> Relay:
        """See `Parts`."""
        for relay in self._relays.values():
            if any(each.name == link for each in relay.links):
                return relay
        raise FabricError(f"link '{link}' is not emulated here")

    def pause(self, name: str) -> None:
        """See `Parts`."""
        if name in self._relays:
            self._relays[name].pause()  # who asks it something just now gets the answer first
        else:
            self.named(name).process.pause()

    def disk_of(self, name: str) -> SmallDisk:
        """See `Parts`."""
        if name not in self._disks:
            raise FabricError(f"part '{name}' has no disk of its own here")
        return self._disks[name]

    def named(self, name: str) -> PartProcess:
        """See `Parts`."""
        for each in self._running:
            if each.part.name == name:
                return each
        raise FabricError(f"no part '{name}' runs here")


def _usage_after(last_s: float) -> int:
    """When to sample again: at each full second, so that machines which share a computer, and its clock, look at the
    same time; not before half of one."""
    return int(last_s + 1.5)
