"""The state of a run as the cloud knows it: who is there, who is ready, who has drained, and which phase it is in."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Container, Iterable

from edgebench.core.tallies import Tally, add_tallies
from edgebench.errors import ModelError
from edgebench.fabric.slices import Heartbeat, LiveState, Phase, Refusal, RunState

_NOTES = 20
"""So many are kept for whoever looks twice a second."""


class RunStatus:
    """Written by heartbeats and by the director; `changed` wakes whoever waits for a condition."""

    def __init__(self, devices: Iterable[str], edges: Iterable[str]) -> None:
        self._devices = frozenset(devices)
        self._nodes = self._devices | frozenset(edges)
        self._ready: set[str] = set()
        self._drained: set[str] = set()
        self._uploaded: set[str] = set()
        self._notified: set[str] = set()
        self._dead: set[str] = set()
        self._incarnations: dict[str, int] = {}
        self._processes: dict[tuple[str, int], dict[str, Tally]] = {}
        """By first node and incarnation."""
        self._refused: dict[str, tuple[Refusal, ...]] = {}
        self._waits: dict[str, str] = {}
        self._loading: set[str] = set()
        self._in_use: dict[str, dict[str, str]] = {}
        self._rolling_out: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._decided = asyncio.Event()
        self.phase: Phase = "preparing"
        self.start_ns: int | None = None
        self.round_trip_s = 0.0
        """The longest that a heartbeat and its answer have taken between machines."""
        self.reason: str | None = None
        self.preparing = ""
        self.rollouts: dict[str, str] = {}
        self.rounds: dict[str, int] = {}
        self._rolled_out: dict[str, int] = {}
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._noted = 0

    def beat(self, heartbeat: Heartbeat) -> RunState:
        """Take a heartbeat in, and say how the run stands."""
        self._note_incarnation(heartbeat)
        if heartbeat.ready:
            self._ready.update(heartbeat.nodes)
        if heartbeat.drained:
            self._drained.update(heartbeat.nodes)
        self._processes[heartbeat.nodes[0], heartbeat.incarnation] = heartbeat.totals
        self._refused[heartbeat.nodes[0]] = heartbeat.refused
        self._waits.update(dict.fromkeys(heartbeat.nodes, heartbeat.waits))
        self._loading.difference_update(heartbeat.nodes)
        if heartbeat.loading:
            self._loading.update(heartbeat.nodes)
        self._in_use[heartbeat.nodes[0]] = heartbeat.in_use
        self.round_trip_s = max(self.round_trip_s, heartbeat.round_trip_s)
        self._tell_rollouts()
        return self.told(heartbeat.nodes)

    def told(self, nodes: Iterable[str]) -> RunState:
        """How the run stands, as these nodes hear now."""
        if self.phase == "aborted":
            self._notified.update(nodes)
        self._changed.set()
        return self.now

    @property
    def now(self) -> RunState:
        """How the run stands."""
        return RunState(self.phase, self.start_ns, self.reason)

    def _note_incarnation(self, heartbeat: Heartbeat) -> None:
        """A process that was started again is there, and has yet to do what its last life had done."""
        first = heartbeat.nodes[0]
        if heartbeat.incarnation > self._incarnations.get(first, 0):
            self._incarnations[first] = heartbeat.incarnation
            for done in (self._dead, self._ready, self._drained, self._uploaded, self._notified):
                done.difference_update(heartbeat.nodes)

    def roll_out(self, workload: str, digest: str) -> None:
        """A model was announced while the streams run; those that decide take it on one after another."""
        self._rolling_out[workload] = digest
        self._tell_rollouts()

    def note(self, line: str) -> None:
        """Something for people to read."""
        self._notes.append(line)
        self._noted += 1

    def uploaded(self, nodes: Iterable[str]) -> None:
        """The records of a process are here."""
        self._uploaded.update(nodes)
        self._changed.set()

    def died(self, nodes: Iterable[str]) -> None:
        """Nobody waits for these nodes any more."""
        self._dead.update(nodes)
        self._changed.set()

    def start(self, start_ns: int) -> None:
        """Let the streams begin."""
        self.phase, self.start_ns = "running", start_ns
        self._decided.set()

    def end(self) -> None:
        """Everything is drained: nodes may upload and stop."""
        self.phase = "ending"

    def abort(self, reason: str) -> None:
        """The run cannot go on."""
        self.phase, self.reason = "aborted", reason
        self._changed.set()
        self._decided.set()

    async def decided(self, patience_s: float) -> None:
        """Return when the streams are to begin, or never will; or after so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._decided.wait(), patience_s)

    async def all_ready(self, announced: Container[str]) -> None:
        """Return when every node is ready. announced: digests of the models that they were told of.

        Raises ModelError where one of these is refused: whoever refuses it will never be ready.
        """
        await self._until(lambda: self._ready >= self._nodes - self._dead or bool(self._refusals(announced)))
        if refusals := self._refusals(announced):
            raise ModelError("; ".join(refusals))

    @property
    def is_loading(self) -> bool:
        """Whether any node that is not ready fetches a model, warms it up, or has a first sample on its way."""
        return bool(self._loading & (self._nodes - self._dead - self._ready))

    def not_ready(self) -> list[str]:
        """The nodes that are not, and what they wait for where they say so."""
        waiting = sorted(self._nodes - self._dead - self._ready)
        return [f"{node} ({why})" if (why := self._waits.get(node)) else node for node in waiting]

    async def all_drained(self) -> None:
        """Return when every device has drained."""
        await self._until(lambda: self._drained >= self._devices - self._dead)

    async def all_uploaded(self) -> None:
        """Return when every node's records are here."""
        await self._until(lambda: self._uploaded >= self._nodes - self._dead)

    async def all_notified(self) -> None:
        """Return when every node knows that the run is aborted."""
        await self._until(lambda: self._notified >= self._nodes - self._dead)

    def live(self) -> LiveState:
        """What a watcher sees. Totals are those of the devices."""
        of_devices = [totals for (first, _), totals in self._processes.items() if first in self._devices]
        return LiveState(
            self.phase,
            self.start_ns,
            self.preparing,
            sorted(self._ready),
            sorted(self._drained),
            add_tallies(of_devices),
            self.rollouts,
            self.reason,
            self.rounds,
            self._rolled_out,
            list(self._notes),
            self._noted,
        )

    def _tell_rollouts(self) -> None:
        for workload, digest in list(self._rolling_out.items()):
            used = [
                in_use[workload]
                for node, in_use in self._in_use.items()
                if workload in in_use and node not in self._dead
            ]
            have_it = used.count(digest)
            if have_it < len(used):
                self.rollouts[workload] = f"rolling out: {have_it} of {len(used)} decide with it"
            else:
                self.rollouts[workload] = "rolled out"
                self._rolled_out[workload] = self._rolled_out.get(workload, 0) + 1
                del self._rolling_out[workload]

    def _refusals(self, announced: Container[str]) -> list[str]:
        """In words; a stranger may have announced other models."""
        return [
            f"{node}: {refusal.workload}: {refusal.reason}"
            for node, refused in self._refused.items()
            for refusal in refused
            if refusal.digest in announced
        ]

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
