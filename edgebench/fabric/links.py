"""The links of a run, seen from whoever runs it: the relay process, and what it really does to the bytes."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from edgebench.errors import FabricError
from edgebench.fabric.child_process import ChildProcess
from edgebench.fabric.endpoints import addresses_of
from edgebench.fabric.listening import LOOPBACK, ON_LOOPBACK, Listening
from edgebench.fabric.relay import Counters, LinkCounters, Ports, RelayCommand, RelaySpec, Route
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_model import LinkChange
from edgebench.topology.link_traces import NO_TRACES, LinkTraces

_ANSWER_S = 20.0
_STOP_S = 5.0
_Answer = TypeVar("_Answer", Ports, Counters)


class Relay:
    """The running relay process. It dies with the thread that starts it, even where that one is killed."""

    def __init__(
        self,
        links: tuple[LinkPlan, ...],
        traces: LinkTraces,
        seed: int,
        child: ChildProcess,
        log: Path,
        listening: Listening,
    ) -> None:
        self.links = links
        self._traces = traces
        self._seed = seed
        self._listening = listening
        self._child = child
        self.log = log
        self.on_counters: Callable[[Counters], None] = lambda _counters: None
        """Told of the hiccups and outages that each answer brings, in the thread that asks."""
        self._ports: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopping = False

    @staticmethod
    def start(
        links: Iterable[LinkPlan],
        routes: Iterable[Route],
        *,
        seed: int,
        log_dir: Path,
        traces: LinkTraces = NO_TRACES,
    ) -> Relay:
        """`launch`, and `listen`."""
        relay = Relay.launch(links, seed=seed, log_dir=log_dir, traces=traces)
        try:
            relay.listen(routes)
        except BaseException:
            relay.stop()
            raise
        return relay

    @staticmethod
    def launch(
        links: Iterable[LinkPlan],
        *,
        seed: int,
        log_dir: Path,
        listening: Listening = ON_LOOPBACK,
        traces: LinkTraces = NO_TRACES,
    ) -> Relay:
        """Start the process, and do not wait for it. Its log is `relay.log`. listening: where it does, for all but
        probes. traces: that links name."""
        log = log_dir / "relay.log"
        with log.open("wb") as stderr:
            child = ChildProcess(
                [sys.executable, "-m", "edgebench.fabric.relay"],
                patience_s=_STOP_S,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        return Relay(tuple(links), traces, seed, child, log, listening)

    def listen(self, routes: Iterable[Route]) -> None:
        """Emulate the links and listen for these routes, once; returns when it does. Hosts of routes may be names.

        Raises FabricError when the relay does not come up or a host is unknown.
        """
        spec = RelaySpec(self._seed, self.links, tuple(map(_resolved, routes)), self._listening, self._traces)
        check_spec(spec)
        self._ports.update(self._ask(spec, Ports).ports)

    @property
    def process(self) -> ChildProcess:
        """To be watched by whoever runs it."""
        return self._child

    def open(self, routes: Iterable[Route]) -> None:
        """Listen for more routes."""
        added = tuple(map(_resolved, routes))
        check_spec(RelaySpec(seed=0, links=self.links, routes=added))
        self._ports.update(self._ask(RelayCommand("open", added), Ports).ports)

    def address(self, route: str) -> tuple[str, int]:
        """Where a route listens that is no probe: host and port."""
        return self._listening.host, self._ports[route]

    def probe_address(self, route: str) -> tuple[str, int]:
        """Where a probe does."""
        return LOOPBACK, self._ports[route]

    def counters(self) -> dict[str, LinkCounters]:
        """What has crossed each link up to now."""
        return self._ask(RelayCommand("counters"), Counters).links

    def hear(self) -> None:
        """Have it tell what it has noted, by `on_counters`; nothing where it is not up, stands still, or has ended.

        Raises FabricError where it does not answer.
        """
        with self._lock:
            child = self._child
            if not self._ports or self._stopping or child.is_paused or child.is_killed or child.has_ended:
                return
            try:
                answered = self._answer_to(RelayCommand("counters"), Counters)
            except FabricError:
                if child.is_killed:  # meanwhile, which is told as any death
                    return
                raise
        self.on_counters(answered)

    def cut(self, link: str) -> None:
        """Break every connection across a link, and let none pass until `mend`."""
        self._ask(RelayCommand("down", link=link), Counters)

    def degrade(self, link: str, change: LinkChange) -> None:
        """Make a link another one until `mend`, for the connections across it too; a second change replaces the first.

        The rates of a shared pipe change for all that share it.
        """
        self._ask(RelayCommand("degrade", link=link, change=change), Counters)

    def mend(self, link: str) -> None:
        """Let connections pass again, and as it was planned."""
        self._ask(RelayCommand("up", link=link), Counters)

    def begin(self, at_ns: int) -> None:
        """Traces of rates, and outages, begin at this time of this machine's clock; until then rates are the means."""
        self._ask(RelayCommand("begin", at_ns=at_ns), Counters)

    def pause(self) -> None:
        """Have it stand still, when nobody waits for an answer."""
        with self._lock:
            self._child.pause()

    def stop(self) -> dict[str, LinkCounters] | None:
        """End the relay and all its connections; the final counters, or None where it was dead already."""
        final = None
        with self._lock:
            self._stopping = True
        self._child.resume()
        try:
            if self._ports and not self._child.has_ended:
                with contextlib.suppress(FabricError):
                    final = self._ask(RelayCommand("stop"), Counters).links
                    self._child.wait(_STOP_S)
        finally:
            self._child.end()
        return final

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, message: RelaySpec | RelayCommand, answer: type[_Answer]) -> _Answer:
        with self._lock:
            answered = self._answer_to(message, answer)
        if isinstance(answered, Counters):
            self.on_counters(answered)
        return answered

    def _answer_to(self, message: RelaySpec | RelayCommand, answer: type[_Answer]) -> _Answer:
        try:
            self._child.write_line(msgspec.json.encode(message))
            line = self._child.read_line(_ANSWER_S)
        except TimeoutError as error:
            self._child.end()  # its late answer would be read as the one to the next question
            raise FabricError(f"link relay: no answer in {_ANSWER_S:.0f} s (log: {self.log})") from error
        except (OSError, ValueError) as error:
            raise FabricError(f"link relay: gone: {self._last_words()}") from error
        if not line:
            raise FabricError(f"link relay: gone: {self._last_words()}")
        return msgspec.json.decode(line, type=answer)

    def _last_words(self) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        return f"{lines[-1] if lines else 'no output'} (log: {self.log})"


def check_spec(spec: RelaySpec) -> None:
    """Raise FabricError where a route crosses no link or an unknown one, or links of one pipe differ in their rates."""
    firsts: dict[str, LinkPlan] = {}
    for link in spec.links:
        first = firsts.setdefault(link.pipe, link)
        if _rates_of(first) != _rates_of(link):
            raise FabricError(
                f"links {first.name!r} and {link.name!r} share pipe {link.pipe!r} but differ in their rates"
            )
    names = {link.name for link in spec.links}
    for route in spec.routes:
        if not route.via:
            raise FabricError(f"route {route.name!r}: crosses no link, so it needs no relay")
        for name in route.via:
            if name not in names:
                raise FabricError(f"route {route.name!r}: no link {name!r} in the relay")


def _rates_of(link: LinkPlan) -> tuple[float | None, float | None, str | None, str | None]:
    return link.up_mbit_s, link.down_mbit_s, link.up_trace, link.down_trace


def _resolved(route: Route) -> Route:
    try:
        found = addresses_of(route.host, route.port)
    except OSError as error:
        raise FabricError(f"route {route.name!r}: host {route.host!r} cannot be resolved: {error}") from error
    # A name may stand for both families; servers that listen on one of them mostly mean IPv4.
    addresses = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return msgspec.structs.replace(route, host=str(addresses[0][1][0]))
