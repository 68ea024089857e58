"""Watches the parts of a run: who has died and whether that ends the run, how the streams stand, when all is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from edgebench.clock import NS_PER_S, now_ns, now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.executors.orders import Ended
from edgebench.executors.plan import Part
from edgebench.fabric.records import Death, Died, Invalidated
from edgebench.fabric.slices import LiveState
from edgebench.topology.deployment import HERE
from edgebench.topology.wording import listed

_TICK_S = 0.1
_LIVE_EVERY_S = 0.5
_ENDING_PATIENCE_S = 60.0


class Cloud(Protocol):
    """What is asked of the cloud; its `ControlClient` answers."""

    def state(self) -> LiveState:
        """How the run stands. Raises FabricError where it does not answer."""

    def report_dead(self, nodes: list[str]) -> None:
        """Tell it that devices have died, so that it does not wait for them. Raises FabricError likewise."""


class Lost(NamedTuple):
    """A machine of the run is not there any more. why: after its name. removed: by the operator's word, which ends the
    run; else the others go on where they can."""

    machine: str
    why: str
    removed: bool = False


class _Dead(NamedTuple):
    part: Part
    expected: bool
    returns: bool


class Supervisor:
    """parts: all that the command has started. ended: who has ended, or been lost, since it was called before. write:
    what is observed of a machine is written down as it happens."""

    def __init__(
        self,
        parts: Iterable[Part],
        ended: Callable[[], Sequence[Ended | Lost]],
        cloud: Cloud,
        write: Callable[[str, Died | Invalidated], None],
    ) -> None:
        self._parts = {part.name: part for part in parts}
        self._running = dict(self._parts)
        self._forsaken: list[str] = []
        self._incarnation: dict[str, int] = dict.fromkeys(self._running, 0)
        self._ended = ended
        self._cloud = cloud
        self._write = write
        self._newly_dead: list[tuple[Part, Ended | None]] = []
        self._expected: dict[tuple[str, int], bool] = {}
        """Part and incarnation whose death is wanted -> whether it is to be started again."""
        self._changing = threading.Lock()
        self._start_ns: int | None = None
        self._removed = False
        self._lost: set[str] = set()

    # The following three may be called from another thread.

    def expect_death(self, part: str, *, returns: bool = False) -> None:
        """The death of this part is wanted: it ends nothing, and is no reason against the run. returns: it is to be
        started again, so that it is waited for."""
        with self._changing:
            if self._parts[part].machine not in self._lost:
                self._expected[part, self._incarnation[part]] = returns

    def started_again(self, part: Part, incarnation: int) -> None:
        """This part, which was killed as was wanted, is there again."""
        with self._changing:
            self._incarnation[part.name] = incarnation
            if part.machine not in self._lost:  # of which nothing will ever be heard
                self._running[part.name] = part

    def forsake(self, part: Part) -> None:
        """This part was killed as was wanted, and is not started again after all."""
        with self._changing:
            self._expected[part.name, self._incarnation[part.name]] = False
            self._forsaken += part.nodes

    def watch(self, on_live: Callable[[LiveState], None], on_streaming: Callable[[int], None]) -> None:
        """See `Execution.watch`."""
        next_live_s = now_s()
        ending_since_s: float | None = None
        while late := self._hosting():
            if self._is_broken():
                return
            if self._start_ns is not None:
                on_streaming(self._start_ns)
            if now_s() >= next_live_s:
                next_live_s = now_s() + _LIVE_EVERY_S
                live = self._live()
                if live is not None:
                    on_live(live)
                    self._start_ns = live.start_ns
                    if live.phase == "aborted":
                        return
                    if live.phase == "ending" and ending_since_s is None:
                        ending_since_s = now_s()
            if ending_since_s is not None and now_s() - ending_since_s > _ENDING_PATIENCE_S:
                self._write(HERE, Invalidated(f"did not end within {_ENDING_PATIENCE_S:.0f} s: {listed(late)}"))
                return
            sleep_s(_TICK_S - now_s() % _TICK_S)  # machines look at each full second
        self._is_broken()

    def _hosting(self) -> list[str]:
        """The parts that host nodes and run."""
        self._look()
        with self._changing:
            return [part.name for part in self._running.values() if part.nodes]

    def _look(self) -> None:
        """Nodes end by themselves when all is done; a broker or a relay never does."""
        for each in self._ended():
            with self._changing:
                if isinstance(each, Lost):
                    self._lose(each)
                    continue
                part = self._running[each.part]
                if self._incarnation[each.part] == each.incarnation:  # else it is there again already
                    del self._running[each.part]
                if each.status != 0 or not part.nodes:
                    self._newly_dead.append((part, each))

    def _lose(self, lost: Lost) -> None:
        """With a machine all that runs there is lost; how it ended, nobody knows."""
        self._removed |= lost.removed
        self._lost.add(lost.machine)
        parts = [part for part in self._running.values() if part.machine == lost.machine]
        for part in parts:
            self._newly_dead.append((self._running.pop(part.name), None))
        for part in self._parts.values():  # and none comes back that was to
            life = part.name, self._incarnation[part.name]
            if part.machine == lost.machine and self._expected.get(life):
                self._expected[life] = False
                self._forsaken += part.nodes
        when = "" if self._start_ns is None else f" at {(now_ns() - self._start_ns) / NS_PER_S:.1f} s"
        what = f", and with it {listed([part.name for part in parts])}" if parts else ""
        self._write(HERE, Invalidated(f"machine {lost.machine}{when} {lost.why}{what}"))

    def _is_broken(self) -> bool:
        """Whether a part has died that the others cannot do without, a machine was removed, or the cloud has called the
        run off.

        Any other death is written down, and the run goes on without it. In a run that was called off, parts that end
        are no news.
        """
        if self._removed:
            self._write_down_deaths()
            return True
        if not self._newly_dead and not self._forsaken:
            return False
        live = self._live()
        if live is not None and live.phase == "aborted":
            return True
        self._look()
        dead = self._write_down_deaths()
        if not self._agents_left():
            self._look()
            self._write_down_deaths()  # the last of them may have died since
            return True
        if any(death.part.fatal and not death.expected for death in dead):
            return True
        nodes = [node for death in dead if not death.returns for node in death.part.nodes]
        with self._changing:
            forsaken, self._forsaken = self._forsaken, []
        nodes += forsaken
        try:
            if nodes:
                self._cloud.report_dead(nodes)
        except FabricError:
            return True
        return False

    def _write_down_deaths(self) -> list[_Dead]:
        dead, self._newly_dead = self._newly_dead, []
        found = []
        for part, ended in dead:
            expected = returns = False
            if ended is not None:
                with self._changing:
                    wanted = self._expected.get((part.name, ended.incarnation))
                # Who ends otherwise than it is killed has done so by itself, just before.
                expected = wanted is not None and ended.status == -signal.SIGKILL
                returns = expected and bool(wanted)
                death = Death(part.name, ended.status, ended.at_ns, ended.last_words, part.nodes, expected, returns)
                self._write(part.machine, Died(death))
            found.append(_Dead(part, expected, returns))
        return found

    def _agents_left(self) -> bool:
        """Whether there are any, or any that are to be started again; or there never were, since all devices are
        without our software."""
        if not any(part.kind == "agent" for part in self._parts.values()):
            return True
        with self._changing:
            names = {*self._running}
            names |= {name for (name, last), back in self._expected.items() if back and last == self._incarnation[name]}
            return any(self._parts[name].kind == "agent" for name in names)

    def _live(self) -> LiveState | None:
        try:
            return self._cloud.state()
        except FabricError:  # it is starting, busy or dying; its process tells which
            return None
