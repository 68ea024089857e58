"""Watches the parts of a run: who has died and whether that ends the run, how the streams stand, when all is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from edgebench.clock import now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.executors.processes import PartProcess
from edgebench.executors.usage import UsageSampler
from edgebench.fabric.records import Died, Entry, Invalidated
from edgebench.fabric.slices import LiveState
from edgebench.topology.wording import listed

_TICK_S = 0.1
_LIVE_EVERY_S = 0.5
_USAGE_EVERY_S = 1.0
_ENDING_PATIENCE_S = 60.0


class Cloud(Protocol):
    """What is asked of the cloud; its `ControlClient` answers."""

    def state(self) -> LiveState:
        """How the run stands. Raises FabricError where it does not answer."""

    def report_dead(self, nodes: list[str]) -> None:
        """Tell it that devices have died, so that it does not wait for them. Raises FabricError likewise."""


class Supervisor:
    """running: all parts that the command has started. write: what is observed is written down as it happens."""

    def __init__(self, running: Sequence[PartProcess], cloud: Cloud, write: Callable[[Entry], None]) -> None:
        self._running = running
        self._cloud = cloud
        self._write = write
        self._usage = UsageSampler(running, write)
        self._reported_dead: set[str] = set()
        self._expected: set[str] = set()

    def expect_death(self, part: str) -> None:
        """The death of this part is wanted: it ends nothing, and is no reason against the run."""
        self._expected.add(part)

    def watch(self, on_live: Callable[[LiveState], None], on_streaming: Callable[[int], None]) -> None:
        """See `Execution.watch`."""
        next_live_s = next_usage_s = now_s()
        ending_since_s: float | None = None
        start_ns: int | None = None
        while late := [each.part.name for each in self._running if each.part.nodes and not each.process.has_ended]:
            if self._is_broken():
                return
            if start_ns is not None:
                on_streaming(start_ns)
            if now_s() >= next_usage_s:
                # From now on: after a standstill there is one sample of all of it, and no burst of them.
                next_usage_s = now_s() + _USAGE_EVERY_S
                self._usage.sample()
            if now_s() >= next_live_s:
                next_live_s = now_s() + _LIVE_EVERY_S
                live = self._live()
                if live is not None:
                    on_live(live)
                    start_ns = live.start_ns
                    if live.phase == "aborted":
                        return
                    if live.phase == "ending" and ending_since_s is None:
                        ending_since_s = now_s()
            if ending_since_s is not None and now_s() - ending_since_s > _ENDING_PATIENCE_S:
                self._write(Invalidated(f"did not end within {_ENDING_PATIENCE_S:.0f} s: {listed(late)}"))
                return
            sleep_s(_TICK_S)
        self._is_broken()

    def _is_broken(self) -> bool:
        """Whether a part has died that the others cannot do without, or the cloud has called the run off.

        Any other death is written down, and the run goes on without it. In a run that was called off, parts that end
        are no news.
        """
        if not self._newly_dead():
            return False
        live = self._live()
        if live is not None and live.phase == "aborted":
            return True
        dead = self._write_down_deaths()
        if not any(each.part.kind == "agent" and not each.process.has_ended for each in self._running):
            self._write_down_deaths()  # the last of them may have died since
            return True
        if any(each.part.fatal and each.part.name not in self._expected for each in dead):
            return True
        nodes = [node for each in dead for node in each.part.nodes]
        try:
            if nodes:
                self._cloud.report_dead(nodes)
        except FabricError:
            return True
        return False

    def _newly_dead(self) -> list[PartProcess]:
        return [
            each for each in self._running if each.part.name not in self._reported_dead and each.death() is not None
        ]

    def _write_down_deaths(self) -> list[PartProcess]:
        dead = self._newly_dead()
        for each in dead:
            if (death := each.death()) is not None:
                self._write(Died(msgspec.structs.replace(death, expected=each.part.name in self._expected)))
            self._reported_dead.add(each.part.name)
        return dead

    def _live(self) -> LiveState | None:
        try:
            return self._cloud.state()
        except FabricError:  # it is starting, busy or dying; its process tells which
            return None
