"""One workload that an edge decides itself or has the cloud decide, whichever is quicker as the run goes on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from edgebench.clock import now_ns
from edgebench.core.deciding import Decider, Forwarder, Origin
from edgebench.core.intake import Accepted, Intake
from edgebench.core.replacing import OnlinePlacement, Replaced, Takes, Trial
from edgebench.fabric import wire
from edgebench.fabric.reactor import Reactor

_log = logging.getLogger(__name__)


_CROSSINGS = 5
"""Of so many the quickest tells how long bytes keep the link busy; what the others took longer was due to others."""


class Edge(Protocol):
    """The node that takes samples in and has a way to the cloud."""

    def takes_in(self, came_ns: int, size_bytes: int, then: Callable[[int], None]) -> None:
        """A message has come: `then(at_ns)` when the node has taken it in."""
        ...

    def ask(self, request: bytes) -> bool:
        """Send the cloud a trial; whether it has set out, by the way that samples would go now."""
        ...


class EitherPlace:
    """Takes in samples as a decider or a forwarder does, each once: one is decided where it was sent when the node had
    taken it in.

    Called in the reactor's thread, but for `done`, `tried` and `let_go`.
    """

    def __init__(
        self,
        decider: Decider,
        forwarder: Forwarder,
        placement: OnlinePlacement,
        edge: Edge,
        reactor: Reactor,
        moved: Callable[[Replaced], None],
    ) -> None:
        """decider, forwarder: with one intake. moved: is told of each move."""
        self._decider = decider
        self._forwarder = forwarder
        self._placement = placement
        self._edge = edge
        self._reactor = reactor
        self._moved = moved
        self._done: deque[tuple[int, int]] = deque()
        self._takes: Takes | None = None
        self._asked_ns: int | None = None
        self._way_ns: int | None = None
        self._crossings_ns: deque[int] = deque(maxlen=_CROSSINGS)

    @property
    def intake(self) -> Intake:
        """See `SampleTaker`."""
        return self._decider.intake

    def take(self, origin: Origin, payload: bytes | memoryview) -> None:
        """See `SampleTaker`."""
        self._edge.takes_in(now_ns(), len(payload), partial(self._came, origin, payload))

    def _came(self, origin: Origin, payload: bytes | memoryview, at_ns: int) -> None:
        accepted = self.intake.take(origin.device, payload, by=origin.edge)
        if accepted is not None:
            self._taken(origin, payload, accepted, at_ns)

    def _taken(self, origin: Origin, payload: bytes | memoryview, accepted: Accepted, at_ns: int) -> None:
        # Before its own decision can be done.
        self._note_done()
        is_tried = accepted.seq is not None and self._placement.took_in(at_ns)
        is_here = self._placement.tier == "edge"
        taker = self._decider if is_here else self._forwarder
        taker.taken(origin, payload, accepted, at_ns)
        if not is_tried:
            return
        if is_here:
            self._ask_cloud(at_ns, payload)
        else:
            self._decider.taken(Origin(origin.device, trial_ns=at_ns), b"", accepted, at_ns)

    def use(self, takes: Takes) -> None:
        """What the edge's own model takes."""
        self._takes = takes

    def done(self, began_ns: int, ended_ns: int) -> None:
        """A decision leaves the edge, on a sample that it took in at `began_ns`, whoever made it."""
        self._done.append((began_ns, ended_ns))

    def tried(self, began_ns: int, finished_ns: int) -> None:
        """The edge's own model has decided a trial."""
        self._reactor.call_soon_threadsafe(partial(self._tried_here, began_ns, finished_ns - began_ns))

    def let_go(self, began_ns: int) -> None:
        """The edge's own model does not decide a trial."""
        self._reactor.call_soon_threadsafe(partial(self._placement.let_go, began_ns))

    def answered(self, payload: bytes) -> None:
        """The cloud has answered a trial. Raises RejectedError."""
        now = now_ns()
        answer = wire.parse_trial_answer(payload)
        took_ns = now - answer.began_ns
        if answer.began_ns != self._asked_ns:
            if answer.held_ns is not None:
                self._placement.answered_late(took_ns)
        elif answer.let_go:
            self._placement.let_go(answer.began_ns)
        elif answer.held_ns is None:
            self._way_ns = took_ns
        elif self._way_ns is not None and self._takes is not None:
            self._crossings_ns.append(max(0, took_ns - answer.held_ns - self._way_ns))
            takes = Takes(answer.single_ns, answer.each_ns, self._takes.max_batch)
            self._look(answer.began_ns, Trial(took_ns, min(self._crossings_ns), takes))

    def uplink_is_up(self) -> None:
        """What was under way to the cloud may be lost."""
        if self._placement.tier == "edge":
            self._placement.forget_trial()

    def _ask_cloud(self, at_ns: int, payload: bytes | memoryview) -> None:
        """Two messages: what the second takes longer is due to its size, to its decision, and to chance."""
        self._asked_ns, self._way_ns = at_ns, None
        requests = wire.TrialRequest(wire.VERSION, at_ns), wire.TrialRequest(wire.VERSION, at_ns, memoryview(payload))
        if not all(self._edge.ask(wire.encode(request)) for request in requests):
            self._placement.forget_trial()

    def _tried_here(self, began_ns: int, took_ns: int) -> None:
        if self._takes is not None:
            self._look(began_ns, Trial(took_ns, 0, self._takes))

    def _look(self, began_ns: int, trial: Trial) -> None:
        self._note_done()
        replaced = self._placement.tried(began_ns, trial, now_ns())
        if replaced is not None:
            measured, predicted = f"{replaced.measured_ms:.1f} ms", f"{replaced.predicted_ms:.1f} ms predicted"
            _log.info("%s: from %s to %s: %s, %s", replaced.workload, replaced.left, replaced.to, measured, predicted)
            self._moved(replaced)

    def _note_done(self) -> None:
        while self._done:
            self._placement.done(*self._done.popleft())
