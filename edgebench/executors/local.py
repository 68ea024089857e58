"""The local executor: brokers, relay, cloud, edges and devices as processes of this machine."""

from __future__ import annotations

import math
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from cloud.spec import CloudSpec
from edgebench.clock import NS_PER_S, now_ns, now_s, sleep_s
from edgebench.cpu import cpu_times
from edgebench.errors import FabricError
from edgebench.executors.processes import Part, start_part, stop_all
from edgebench.executors.wiring import Wiring
from edgebench.fabric.broker import EmbeddedBroker
from edgebench.fabric.control import ControlClient
from edgebench.fabric.links import Relay
from edgebench.fabric.probing import LinkMeasured, probe
from edgebench.fabric.records import (
    Died,
    Faulted,
    HostUsage,
    HostUsed,
    Invalidated,
    Linked,
    LinkObserved,
    Spool,
    Usage,
    Used,
)
from edgebench.fabric.relay import LinkCounters
from edgebench.fabric.slices import WATCHER, Endpoints, LiveState
from edgebench.topology.deployment import Deployment, LinkPlan
from edgebench.topology.model import Fault
from edgebench.topology.wording import listed

_TICK_S = 0.1
_LIVE_EVERY_S = 0.5
_USAGE_EVERY_S = 1.0
_STOP_PATIENCE_S = 15.0
_ENDING_PATIENCE_S = 60.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class LocalOptions:
    """broker_url: an external broker, login included. traces: see CloudSpec."""

    run_dir: Path
    registry_dir: Path
    data: Path | None
    broker_url: str | None
    traces: dict[str, list[float]]


class LocalRun:
    """One run on this machine. Use `running`, which leaves no process behind whatever happens."""

    def __init__(self, deployment: Deployment, options: LocalOptions, spool: Spool) -> None:
        """spool: what the executor itself observes is written there as it happens."""
        self.deployment = deployment
        self._spool = spool
        self._options = options
        self._logs = options.run_dir / "logs"
        self._work = options.run_dir / "work"
        self._brokers: list[EmbeddedBroker] = []
        self._parts: list[Part] = []
        self._node_parts: list[Part] = []
        self._relay: Relay | None = None
        self._observed: list[LinkObserved] = []
        self._control_url = ""
        self._watcher_token = secrets.token_urlsafe(24)
        self._last_cpu = cpu_times()
        self._reported_dead: set[str] = set()
        self._faults = _schedule(deployment.faults)

    @contextmanager
    def running(self, tell: Tell) -> Iterator[LocalRun]:
        """Start everything; stop everything at the end."""
        try:
            self._start(tell)
            yield self
        finally:
            self._stop()

    def watch(self, on_live: Callable[[LiveState], None]) -> None:
        """Return when the run is over, or a part has died (then the rest is stopped, and keeps what it recorded)."""
        client = ControlClient(self._control_url, self._watcher_token)
        next_live_s = next_usage_s = now_s()
        ending_since_s: float | None = None
        start_ns: int | None = None
        try:
            while any(part.process.poll() is None for part in self._node_parts):
                if self._has_broken(client):
                    return
                if start_ns is not None:
                    self._bring_faults_about(start_ns)
                if now_s() >= next_usage_s:
                    next_usage_s += _USAGE_EVERY_S
                    self._sample_usage()
                if now_s() >= next_live_s:
                    next_live_s += _LIVE_EVERY_S
                    live = _live(client)
                    if live is not None:
                        on_live(live)
                        start_ns = live.start_ns
                        if live.phase == "aborted":
                            return
                        if live.phase == "ending" and ending_since_s is None:
                            ending_since_s = now_s()
                if ending_since_s is not None and now_s() - ending_since_s > _ENDING_PATIENCE_S:
                    late = [part.name for part in self._node_parts if part.process.poll() is None]
                    self._spool.write(Invalidated(f"did not end within {_ENDING_PATIENCE_S:.0f} s: {listed(late)}"))
                    return
                sleep_s(_TICK_S)
            self._has_broken(client)
        finally:
            client.close()

    @property
    def processes(self) -> list[psutil.Process]:
        """Every process of the run that still lives, for whoever must clean up should this one be killed."""
        alive = []
        for part in self._parts:
            if part.process.poll() is None:
                try:
                    alive.append(psutil.Process(part.process.pid))
                except psutil.NoSuchProcess:
                    continue
        return alive

    def _start(self, tell: Tell) -> None:
        tell("starting brokers")
        brokers = self._start_brokers()
        control = socket.create_server(("127.0.0.1", 0))
        with control:
            host, port = control.getsockname()
            self._control_url = f"http://{host}:{port}"
            wiring = Wiring(self.deployment, brokers, self._options.broker_url is not None, self._control_url)
            endpoints = wiring.endpoints(self._start_relay(wiring, tell))
            tell("starting the cloud")
            tokens = self._start_cloud(control, endpoints)
        self._start_nodes(tokens)

    def _start_brokers(self) -> dict[str, str]:
        """Broker URL of each edge's site, and of the cloud."""
        sites = [node.name for node in self.deployment.nodes.values() if node.tier != "device"]
        if self._options.broker_url is not None:
            return dict.fromkeys(sites, self._options.broker_url)
        urls = {}
        for site in sites:
            broker = EmbeddedBroker(f"broker-{site}", self._work / f"broker-{site}")
            self._brokers.append(broker.start())
            self._parts.append(Part(f"broker of {site}", broker.process, log=broker.log))
            urls[site] = broker.url
        return urls

    def _start_relay(self, wiring: Wiring, tell: Tell) -> Callable[[str], tuple[str, int]]:
        """Emulate the shaped links, and measure them before anything else runs. Returns where each route listens."""
        shaped = tuple(link for link in self.deployment.links.values() if link.shaped)
        measured: dict[str, LinkMeasured] = {}
        if shaped:
            self._relay = Relay.start(shaped, wiring.routes(), seed=self.deployment.seed, log_dir=self._logs)
            self._parts.append(Part("link relay", self._relay.process, log=self._logs / "relay.log"))
            tell("measuring the links")
            measured = probe(self._relay)
        self._observed = [_observed(link, measured.get(link.name)) for link in self.deployment.links.values()]
        self._spool.write(*map(Linked, self._observed))
        relay = self._relay
        return relay.address if relay is not None else lambda _route: ("", 0)

    def _start_cloud(self, control: socket.socket, endpoints: dict[str, Endpoints]) -> dict[tuple[str, ...], str]:
        tokens = {nodes: secrets.token_urlsafe(24) for nodes in self._hosting()}
        spec = CloudSpec(
            deployment=self.deployment,
            endpoints=endpoints,
            tokens={token: list(nodes) for nodes, token in tokens.items()} | {self._watcher_token: [WATCHER]},
            traces=self._options.traces,
            run_dir=str(self._options.run_dir),
            registry_dir=str(self._options.registry_dir),
            data=str(self._options.data) if self._options.data is not None else None,
        )
        name = self.deployment.cloud
        work_dir = self._work / name
        work_dir.mkdir(parents=True)
        part = start_part(
            name,
            "cloud",
            ["--listen-fd", str(control.fileno()), "--work-dir", str(work_dir), "--lifeline"],
            log=self._logs / f"{name}.log",
            token=self._watcher_token,
            nodes=[name],
            pass_fds=(control.fileno(),),
        )
        self._parts.append(part)
        self._node_parts.append(part)
        if part.process.stdin is None:
            raise AssertionError("parts are started with a pipe")
        part.process.stdin.write(msgspec.json.encode(spec) + b"\n")
        part.process.stdin.flush()
        return tokens

    def _hosting(self) -> list[tuple[str, ...]]:
        """Which nodes share a process: each edge has its own, the devices of one group at one site share one."""
        hosts = [(edge.name,) for edge in self.deployment.of_tier("edge")]
        of_site: dict[tuple[str, str | None], list[str]] = {}
        for device in self.deployment.of_tier("device"):
            of_site.setdefault((device.group, device.parent), []).append(device.name)
        return hosts + [tuple(devices) for devices in of_site.values()]

    def _start_nodes(self, tokens: dict[tuple[str, ...], str]) -> None:
        for nodes, token in tokens.items():
            first = nodes[0]
            is_edge = self.deployment.nodes[first].tier == "edge"
            work_dir = self._work / first
            arguments = ["--cloud", self._control_url, "--work-dir", str(work_dir), "--lifeline"]
            for node in nodes:
                arguments += ["--node", node]
            part = start_part(
                first if is_edge else f"device agent of {listed(nodes)}",
                "edge_node" if is_edge else "device_agent",
                arguments,
                log=self._logs / f"{first}.log",
                token=token,
                nodes=nodes,
            )
            self._parts.append(part)
            self._node_parts.append(part)

    def _has_broken(self, client: ControlClient) -> bool:
        """Whether a part has died that the others cannot do without, or the cloud has called the run off.

        A dead device agent is written down, and the run goes on for the others. In a run that was called off, parts
        that end are no news.
        """
        if not self._newly_dead():
            return False
        live = _live(client)
        if live is not None and live.phase == "aborted":
            return True
        dead = self._write_down_deaths()
        devices = {device.name for device in self.deployment.of_tier("device")}
        agents_alive = any(part.process.poll() is None and devices & set(part.nodes) for part in self._node_parts)
        if not agents_alive:
            self._write_down_deaths()  # the last of them may have died since
            return True
        if not all(devices.issuperset(part.nodes) and part.nodes for part in dead):
            return True
        try:
            client.report_dead([node for part in dead for node in part.nodes])
        except FabricError:
            return True
        return False

    def _newly_dead(self) -> list[Part]:
        return [part for part in self._parts if part.name not in self._reported_dead and part.death() is not None]

    def _write_down_deaths(self) -> list[Part]:
        dead = self._newly_dead()
        self._spool.write(*(Died(death) for part in dead if (death := part.death()) is not None))
        self._reported_dead.update(part.name for part in dead)
        return dead

    def _bring_faults_about(self, start_ns: int) -> None:
        while self._faults and (now_ns() - start_ns) / NS_PER_S >= self._faults[0].at_s:
            fault = self._faults.pop(0)
            assert self._relay is not None
            (self._relay.cut if fault.kind == "down" else self._relay.mend)(fault.link)
            self._spool.write(Faulted(fault.link, fault.kind, now_ns()))

    def _sample_usage(self) -> None:
        times = cpu_times()
        spent, self._last_cpu = times.since(self._last_cpu), times
        if spent.total_s > 0:
            busy, stolen = 1.0 - spent.idle_s / spent.total_s, spent.stolen_s / spent.total_s
            self._spool.write(HostUsed(HostUsage(now_ns(), busy, stolen)))
        for part in self._parts:
            if part.nodes:
                continue  # node processes record their own
            try:
                process = psutil.Process(part.process.pid)
                cpu, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:
                continue
            self._spool.write(Used([part.name], Usage(now_ns(), cpu.user + cpu.system, memory.rss)))

    def _note_counters(self, counters: dict[str, LinkCounters] | None) -> None:
        for link in self._observed:
            if counters is not None and link.name in counters:
                count = counters[link.name]
                counted = msgspec.structs.replace(
                    link,
                    up_bytes=count.up_bytes,
                    down_bytes=count.down_bytes,
                    up_messages=count.up_messages,
                    down_messages=count.down_messages,
                )
                self._spool.write(Linked(counted))

    def _stop(self) -> None:
        stop_all(self._node_parts, patience_s=_STOP_PATIENCE_S)
        if self._relay is not None:
            self._note_counters(self._relay.stop())
        stop_all([part for part in self._parts if part not in self._node_parts], patience_s=_STOP_PATIENCE_S)
        for broker in self._brokers:
            broker.stop()
            if broker.log.exists():
                shutil.copy(broker.log, self._logs / broker.log.name)


class _Timed(NamedTuple):
    at_s: float
    kind: str
    link: str


def _schedule(faults: tuple[Fault, ...]) -> list[_Timed]:
    """When which link is cut and mended, in order; faults of one link that meet are one."""
    cuts: dict[str, list[tuple[float, float]]] = {}
    for fault in sorted(faults, key=lambda fault: fault.at_s):
        assert fault.link is not None
        until_s = math.inf if fault.for_s is None else fault.at_s + fault.for_s
        of_link = cuts.setdefault(fault.link, [])
        if of_link and fault.at_s <= of_link[-1][1]:
            of_link[-1] = (of_link[-1][0], max(of_link[-1][1], until_s))
        else:
            of_link.append((fault.at_s, until_s))
    timed = [_Timed(at_s, "down", link) for link, of_link in cuts.items() for at_s, _ in of_link]
    timed += [_Timed(end_s, "up", link) for link, of_link in cuts.items() for _, end_s in of_link if end_s < math.inf]
    return sorted(timed)


def _live(client: ControlClient) -> LiveState | None:
    try:
        return client.state()
    except FabricError:  # it is starting, busy or dying; its process tells which
        return None


def _observed(link: LinkPlan, measured: LinkMeasured | None) -> LinkObserved:
    requested = {
        "latency_ms": link.latency_ms,
        "jitter_ms": link.jitter_ms,
        "up_mbit_s": link.up_mbit_s,
        "down_mbit_s": link.down_mbit_s,
    }
    seen: dict[str, float | None] = {}
    if measured is not None:
        seen = {
            "latency_ms": measured.up_delay_ms,
            "down_latency_ms": measured.down_delay_ms,
            "jitter_ms": measured.up_jitter_ms,
            "down_jitter_ms": measured.down_jitter_ms,
            "up_mbit_s": measured.up_mbit_s,
            "down_mbit_s": measured.down_mbit_s,
        }
    steady = measured is None or measured.steady
    return LinkObserved(link.name, _known(requested), _known(seen), None, None, None, None, steady)


def _known(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: figure for name, figure in figures.items() if figure is not None}
