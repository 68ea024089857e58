"""Deciding a workload's samples at a node: take in, check, queue, decide, reply. The same at any edge and the cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from edgebench.clock import now_ns
from edgebench.core.samples import Decision, Stamps
from edgebench.core.tallies import Tally
from edgebench.fabric import wire
from edgebench.inference.confidence import confidence
from edgebench.inference.runtime import Runtime
from edgebench.inference.serving import InferenceRequest, ModelServer, Served
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan


class Origin(NamedTuple):
    """Where a sample comes from: the device, the edge that passed it on, and when that took it in and sent it on.

    None: none did.
    """

    device: str
    forward_in_ns: int | None = None
    forward_out_ns: int | None = None
    edge: str | None = None


class Accepted(NamedTuple):
    """A sound sample. seq is None for plain JSON, `plain` None for an envelope."""

    x: NDArray[Any]
    seq: int | None
    plain: wire.PlainSample | None


class Intake:
    """Checks what claims to be a sample, and counts what is not: malformed, or seen before."""

    def __init__(self, tally: Tally, *, sparse: bool = False) -> None:
        """sparse: of each device's samples only some are to come this way."""
        self._tally = tally
        self._sparse = sparse
        self._reader: wire.SampleReader | None = None
        self._trackers: dict[tuple[str, str | None], wire.SequenceTracker] = {}

    def expect(self, manifest: Manifest) -> None:
        """From now on samples have the input of this model."""
        self._reader = wire.SampleReader(manifest.input)

    def take(self, device: str, payload: bytes | memoryview, *, by: str | None = None) -> Accepted | None:
        """The sample of a device, or None where it is counted as rejected or duplicated.

        by: the edge that passed it on. What comes by another edge is no duplicate: the device has moved there, and
        would not hear of a decision that went to the old one.
        """
        try:
            if self._reader is None:
                raise wire.RejectedError("no-model-yet")
            if wire.is_plain(payload):
                plain, x = self._reader.plain(payload)
                self._tally.plain_json += 1
                return Accepted(x, None, plain)
            sample, x = self._reader.envelope(payload)
            order = self._tracker(device, by).see(sample.seq)
            if order == "jump":
                raise wire.RejectedError("sequence-jump")
        except wire.RejectedError as rejected:
            self.reject(rejected.reason)
            return None
        if order == "again":
            self._tally.duplicated += 1
            return None
        if order == "late":
            self._tally.reordered += 1
        return Accepted(x, sample.seq, None)

    def reject(self, reason: str) -> None:
        """Count a payload that is no sample."""
        self._tally.reject(reason)

    def _tracker(self, device: str, by: str | None) -> wire.SequenceTracker:
        tracker = self._trackers.get((device, by))
        if tracker is None:
            tracker = self._trackers[device, by] = wire.SequenceTracker(sparse=self._sparse)
        return tracker


class _Asked(NamedTuple):
    origin: Origin
    ready_ns: int
    payload: bytes | memoryview
    seq: int | None
    plain: wire.PlainSample | None


class Decider:
    """One workload's model at one node. `reply(origin, body)` is called in the server's thread."""

    def __init__(
        self,
        node: str,
        plan: WorkloadPlan,
        tally: Tally,
        *,
        reply: Callable[[Origin, bytes], None],
        on_swap: Callable[[Manifest], None],
        pass_on: Callable[[str, int, bytes | memoryview], None] | None = None,
        sparse: bool = False,
    ) -> None:
        """pass_on: takes the device, the time of arrival and the payload of a sample that the model is unsure of.

        sparse: as in `Intake`.
        """
        self.intake = Intake(tally, sparse=sparse)
        self._pass_on = pass_on
        self._thresholds: dict[str, float] = {}
        self._node = node
        self._tally = tally
        self._reply = reply
        self._server: ModelServer[_Asked] = ModelServer(
            plan.name, plan.batch, plan.queue, on_served=self._served, on_drop=self._dropped, on_swap=on_swap
        )

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this (warm) model from the next batch on."""
        self.intake.expect(manifest)
        if manifest.threshold is not None:
            self._thresholds[manifest.digest] = manifest.threshold
        self._server.swap(runtime, manifest)

    def decide(self, origin: Origin, payload: bytes | memoryview) -> None:
        """Queue a payload if it is a sound sample."""
        received_ns = now_ns()
        accepted = self.intake.take(origin.device, payload, by=origin.edge)
        if accepted is not None:
            kept = b"" if self._pass_on is None else payload
            asked = _Asked(origin, now_ns(), kept, accepted.seq, accepted.plain)
            self._server.submit(InferenceRequest(accepted.x, received_ns, asked))

    def _served(self, served: Served[_Asked]) -> None:
        threshold = self._thresholds.get(served.digest)
        stands = None if threshold is None or self._pass_on is None else confidence(served.outputs) >= threshold
        for place, (request, output) in enumerate(zip(served.requests, served.outputs, strict=True)):
            asked = request.about
            if self._pass_on is not None and stands is not None and not stands[place]:
                self._pass_on(asked.origin.device, request.received_ns, asked.payload)
                continue
            self._tally.decided += 1
            if asked.plain is not None:
                plain = wire.PlainDecision(output.tolist(), served.digest, self._node, asked.plain.id)
                body = wire.encode_json(plain)
            else:
                body = wire.encode(
                    Decision(
                        wire.VERSION,
                        asked.seq or 0,
                        self._node,
                        served.digest,
                        output.tobytes(),
                        len(served.requests),
                        Stamps(
                            request.received_ns,
                            asked.ready_ns,
                            served.started_ns,
                            served.finished_ns,
                            now_ns(),
                            asked.origin.forward_in_ns,
                            asked.origin.forward_out_ns,
                        ),
                    )
                )
            self._reply(asked.origin, body)

    def _dropped(self, _request: InferenceRequest[_Asked], reason: str) -> None:
        self._tally.drop(reason)
