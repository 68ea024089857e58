"""Deciding a workload's samples at a node, any edge or the cloud: take in, queue, decide, answer or pass on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.clock import Clock
from edgebench.core.batching import BatchServer, InferenceRequest, Served
from edgebench.core.intake import Accepted, Intake, Memory, Reader
from edgebench.core.samples import VERSION, Decision, HeadStamps, SampleKey, Stamps
from edgebench.core.tallies import Tally
from edgebench.inference.confidence import confidence
from edgebench.inference.spec import Manifest


class Origin(NamedTuple):
    """Where a sample comes from: the device, the edge that passed it on, and when that took it in and sent it on.

    None: none did. head: what that did besides, where it had the first stage of a chain. trial_ns: of a trial, when
    that began, by the clock of the edge; see `replacing`.
    """

    device: str
    forward_in_ns: int | None = None
    forward_out_ns: int | None = None
    edge: str | None = None
    head: HeadStamps | None = None
    trial_ns: int | None = None

    def key(self, incarnation: int, seq: int) -> SampleKey:
        """Of one of its samples."""
        return SampleKey(self.device, incarnation, seq, self.edge or "")


class SampleTaker(Protocol):
    """Who takes the samples of some devices in."""

    @property
    def intake(self) -> Intake:
        """By which it checks and counts them."""
        ...

    def take(self, origin: Origin, payload: bytes | memoryview) -> None:
        """A payload has arrived."""
        ...


class Answers(Protocol):
    """Who brings a workload's decisions back to where its samples came from."""

    def answer(self, origin: Origin, decision: Decision) -> None:
        """Send a decision; it may wait for `flush`."""
        ...

    def answer_plain(self, origin: Origin, output: list[float], digest: str, sample_id: str | int | None) -> None:
        """Send a decision on a sample that came in plain JSON."""
        ...

    def flush(self) -> None:
        """All of a batch are given: send those that still wait."""
        ...

    def swapped(self, manifest: Manifest) -> None:
        """From now on this model decides."""
        ...


class Upstream(Protocol):
    """Who decides what is not decided here."""

    def pass_on(self, device: str, received_ns: int, payload: bytes | memoryview, key: SampleKey | None) -> None:
        """Send on a device's sample as it came. received_ns: when it came. key: None of one in plain JSON."""
        ...


class Trials(Protocol):
    """Who is told of trials."""

    def tried(self, origin: Origin, received_ns: int, finished_ns: int) -> None:
        """One has been decided. Nothing else comes of it."""
        ...

    def let_go(self, origin: Origin) -> None:
        """One will not be decided, for want of room, or because the model failed on it."""
        ...


class HeadOutput(NamedTuple):
    """What the first stage of a chain gives: output float32 [value]. received_ns: when it took the sample in. seq: None
    of one in plain JSON, which has an `id` then, perhaps. key: as in `Upstream`."""

    device: str
    received_ns: int
    seq: int | None
    incarnation: int
    id: str | int | None
    key: SampleKey | None
    stamps: HeadStamps
    output: NDArray[np.float32]


class NextStage(Protocol):
    """Who has the second stage of a chain."""

    def hand_on(self, output: HeadOutput) -> None:
        """Send on what the first stage gives for a sample."""
        ...


class QueuedSample(NamedTuple):
    """What a queued sample is decided for. payload: empty where it is never passed on. seq: None for plain JSON."""

    origin: Origin
    ready_ns: int
    payload: bytes | memoryview
    seq: int | None
    id: str | int | None
    incarnation: int


class Decider:
    """One workload at the node that decides it; the owner of its server, which may call it from a thread of its own."""

    __slots__ = (
        "_answers",
        "_memory",
        "_next_stage",
        "_node",
        "_now_ns",
        "_server",
        "_tally",
        "_thresholds",
        "_trials",
        "_upstream",
        "intake",
    )

    def __init__(
        self,
        node: str,
        tally: Tally,
        answers: Answers,
        clock: Clock,
        *,
        upstream: Upstream | None = None,
        next_stage: NextStage | None = None,
        trials: Trials | None = None,
        sparse: bool = False,
        memory: Memory | None = None,
    ) -> None:
        """upstream: decides what the model is unsure of, where that is asked for. next_stage: decides what the model
        gives, where this is the first stage of a chain. trials: hears of them, where there may be any. sparse, memory:
        as in `Intake`."""
        self.intake = Intake(tally, sparse=sparse, memory=memory)
        self._memory = memory
        self._node = node
        self._tally = tally
        self._answers = answers
        self._upstream = upstream
        self._next_stage = next_stage
        self._trials = trials
        self._now_ns = clock.now_ns
        self._thresholds: dict[str, float] = {}
        self._server: BatchServer[QueuedSample] | None = None

    def served_by(self, server: BatchServer[QueuedSample]) -> None:
        """This server is the decider's."""
        self._server = server

    def expect(self, manifest: Manifest, reader: Reader) -> None:
        """A model that the server is about to decide with, and what reads its samples."""
        self.intake.expect(reader)
        if manifest.threshold is not None:
            self._thresholds[manifest.digest] = manifest.threshold

    def take(self, origin: Origin, payload: bytes | memoryview) -> None:
        """Queue a payload if it is a sound sample."""
        self.came(origin, payload, self._now_ns())

    def came(self, origin: Origin, payload: bytes | memoryview, at_ns: int) -> None:
        """The node has a payload: as `take`."""
        accepted = self.intake.take(origin.device, payload, by=origin.edge)
        if accepted is not None:
            self.taken(origin, payload, accepted, at_ns)

    def accept(self, origin: Origin, payload: bytes | memoryview, accepted: Accepted, received_ns: int) -> None:
        """Take a sample in that its intake has accepted."""
        self.taken(origin, payload, accepted, received_ns)

    def taken(self, origin: Origin, payload: bytes | memoryview, accepted: Accepted, at_ns: int) -> None:
        """Queue a sample that the node has taken in; a trial only where it costs none."""
        assert self._server is not None
        self._server.submit(self._request(origin, payload, accepted, at_ns, self._now_ns()))

    def _request(
        self, origin: Origin, payload: bytes | memoryview, accepted: Accepted, received_ns: int, ready_ns: int
    ) -> InferenceRequest[QueuedSample]:
        kept = b"" if self._upstream is None else payload
        queued = QueuedSample(origin, ready_ns, kept, accepted.seq, accepted.id, accepted.incarnation)
        return InferenceRequest(accepted.x, received_ns, queued, origin.trial_ns is not None)

    def served(self, served: Served[QueuedSample]) -> None:
        """Answer a batch, except what the model is unsure of where that goes on; hand it on in a chain."""
        if self._next_stage is not None:
            self._hand_on(served, self._next_stage)
            return
        threshold = self._thresholds.get(served.digest)
        upstream, trials = self._upstream, self._trials
        stands = None if threshold is None or upstream is None else confidence(served.outputs) >= threshold
        batch = sum(not request.is_trial for request in served.requests)
        for place, (request, output) in enumerate(zip(served.requests, served.outputs, strict=True)):
            queued = request.about
            if upstream is not None and stands is not None and not stands[place]:
                key = None if queued.seq is None else queued.origin.key(queued.incarnation, queued.seq)
                upstream.pass_on(queued.origin.device, request.received_ns, queued.payload, key)
                continue
            if trials is not None and request.is_trial:
                trials.tried(queued.origin, request.received_ns, served.finished_ns)
                continue
            self._tally.decided += 1
            if queued.seq is None:
                self._answers.answer_plain(queued.origin, output.tolist(), served.digest, queued.id)
                continue
            stamps = Stamps(
                request.received_ns,
                queued.ready_ns,
                served.started_ns,
                served.finished_ns,
                self._now_ns(),
                queued.origin.forward_in_ns,
                queued.origin.forward_out_ns,
                head=queued.origin.head,
            )
            decision = Decision(
                VERSION,
                queued.seq,
                queued.incarnation,
                self._node,
                served.digest,
                output.tobytes(),
                batch,
                stamps,
            )
            self._answers.answer(queued.origin, decision)
        self._answers.flush()

    @staticmethod
    def _hand_on(served: Served[QueuedSample], to: NextStage) -> None:
        batch = len(served.requests)
        for request, output in zip(served.requests, served.outputs, strict=True):
            queued = request.about
            stamps = HeadStamps(queued.ready_ns, served.started_ns, served.finished_ns, batch)
            key = None if queued.seq is None else queued.origin.key(queued.incarnation, queued.seq)
            of = (queued.origin.device, request.received_ns, queued.seq, queued.incarnation, queued.id, key)
            to.hand_on(HeadOutput(*of, stamps, output))

    def dropped(self, request: InferenceRequest[QueuedSample], reason: str) -> None:
        """Count a sample that will not be decided."""
        queued = request.about
        if request.is_trial:
            if self._trials is not None:
                self._trials.let_go(queued.origin)
            return
        if self._memory is None or queued.seq is None:
            self._tally.drop(reason)
            return
        # It may come again, and be dropped again, or decided.
        if self._memory.dropped(queued.origin.key(queued.incarnation, queued.seq)):
            self._tally.drop(reason)

    def swapped(self, manifest: Manifest) -> None:
        """Tell of a model that decides from now on."""
        self._answers.swapped(manifest)


class Forwarder:
    """One workload at an edge that passes it on: it takes samples in as a decider does, so that none goes on twice."""

    __slots__ = ("_now_ns", "_upstream", "intake")

    def __init__(self, intake: Intake, upstream: Upstream, clock: Clock) -> None:
        """intake: its own, or that of a decider beside it."""
        self.intake = intake
        self._upstream = upstream
        self._now_ns = clock.now_ns

    def take(self, origin: Origin, payload: bytes | memoryview) -> None:
        """Pass a payload on if it is a sound sample."""
        self.came(origin, payload, self._now_ns())

    def came(self, origin: Origin, payload: bytes | memoryview, at_ns: int) -> None:
        """The node has a payload: as `take`."""
        accepted = self.intake.take(origin.device, payload, by=origin.edge)
        if accepted is not None:
            self.taken(origin, payload, accepted, at_ns)

    def taken(self, origin: Origin, payload: bytes | memoryview, accepted: Accepted, at_ns: int) -> None:
        """Pass a sample on that the node has taken in."""
        key = None if accepted.seq is None else origin.key(accepted.incarnation, accepted.seq)
        self._upstream.pass_on(origin.device, at_ns, payload, key)


def brought_back(decision: Decision, return_in_ns: int, return_out_ns: int) -> Decision:
    """A decision of the cloud's, with the times at which the edge took it in and sent it on."""
    stamps = msgspec.structs.replace(decision.stamps, return_in_ns=return_in_ns, return_out_ns=return_out_ns)
    return msgspec.structs.replace(decision, stamps=stamps)
