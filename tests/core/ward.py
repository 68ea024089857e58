"""A bed, a ward and, where it is asked, a cloud, in virtual time: streams, links and servers, and no process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from edgebench.clock import NS_PER_MS
from edgebench.core.deciding import Decider, HeadOutput, Origin, QueuedSample, SampleTaker, Trials, brought_back
from edgebench.core.emulation import EmulatedServer
from edgebench.core.fake_transport import AtOnce, FakeLink, VirtualTime, fake_server
from edgebench.core.intake import Accepted
from edgebench.core.links import Lane, Pipe
from edgebench.core.pending import EarlierLives, Pending
from edgebench.core.samples import Decision, Reading, RejectedError, SampleKey, SampleRecord
from edgebench.core.stream import Stream
from edgebench.core.tallies import Tally
from edgebench.core.timeouts import Expected
from edgebench.inference.fake import FakeRuntime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Batch, Fixed, ModelChoice, Queue, Training
from tests.manifests import manifest

SAMPLE_BYTES = 1_000
MANIFEST = manifest(digest="d" * 64)
_PLAN = WorkloadPlan(
    name="w", task="t", sources=("bed",), deciders={"bed": "ward"}, place="edge", load=Fixed(rate_hz=1.0),
    deadline_ms=None, model=ModelChoice(), train=Training(), rollout=(), batch=Batch(), queue=Queue(), qos=1,
)  # fmt: skip


def plan(**changes: Any) -> WorkloadPlan:
    return msgspec.structs.replace(_PLAN, **changes)


def ms(milliseconds: float) -> int:
    return round(milliseconds * NS_PER_MS)


def link(time: VirtualTime, latency_ms: float = 0.0, rate_mbit_s: float | None = None) -> FakeLink:
    """8 Mbit/s is 1,000 bytes, a sample, a ms."""
    return FakeLink(time, Lane(Pipe(rate_mbit_s), ms(latency_ms), 0, iter(())))


class Numbers:
    """Samples [2] of float32, their number twice, labelled with it."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = itertools.count()

    def capture(self) -> Reading:
        number = np.float32(next(self._numbers))
        return Reading(np.array([number, number]), number.tobytes())


class Payloads:
    """What is sent: the sequence number in the first 8 bytes, the incarnation in 2."""

    @staticmethod
    def of(seq: int, incarnation: int = 0) -> bytes:
        return seq.to_bytes(8, "big") + incarnation.to_bytes(2, "big") + bytes(SAMPLE_BYTES - 10)

    def read(self, payload: bytes | memoryview) -> Accepted:
        if len(payload) < 10:
            raise RejectedError("not-a-sample")
        seq, incarnation = int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:10], "big")
        return Accepted(np.zeros(2, np.float32), seq, None, incarnation)


class LinkWay:
    """Over a link to whoever takes samples in at its other end."""

    backed_up = False

    def __init__(self, up: FakeLink, taker: SampleTaker, origin: Origin, time: VirtualTime, keep: bool = False) -> None:
        self.up = up
        self.taker = taker
        self.held = False
        self.moved: bool | None = None
        self._origin = origin
        self._time = time
        self._keep = keep

    def send(self, stream: Stream, seq: int, scheduled_ns: int, captured_ns: int, reading: Reading) -> Pending:
        payload = Payloads.of(seq, stream.incarnation)
        sent = self.held or self._send(payload) or self._keep  # what is kept can be sent again
        kept = payload if self._keep else b""
        return Pending(
            scheduled_ns,
            captured_ns,
            self._time.now_ns(),
            len(payload),
            reading.label,
            reading.taken_ns,
            kept,
            "" if sent else "not-connected",
        )

    def send_again(self, _incarnation: int, _seq: int, envelope: bytes, *, moved: bool) -> None:
        self.moved = moved
        self._send(envelope)

    def _send(self, payload: bytes) -> bool:
        return self.up.carry(len(payload), lambda: self.taker.take(self._origin, payload))


class Answering:
    """Brings the decisions of a node over a link to a stream, and notes the rest."""

    def __init__(self, time: VirtualTime, down: FakeLink, *, brings_back: bool = False) -> None:
        self._time = time
        self._down = down
        self._brings_back = brings_back
        self.to: Stream | None = None
        self.swaps: list[str] = []
        self.plain: list[tuple[list[float], str | int | None]] = []
        self.decisions: list[Decision] = []

    def answer(self, _origin: Origin, decision: Decision) -> None:
        self.decisions.append(decision)
        self._down.carry(100, lambda: self._arrived(decision))

    def _arrived(self, decision: Decision) -> None:
        now = self._time.now_ns()
        if self._brings_back:
            decision = brought_back(decision, now, now)
        if self.to is not None:
            self.to.decided(decision, now, 100)

    def answer_plain(self, _origin: Origin, output: list[float], _digest: str, sample_id: str | int | None) -> None:
        self.plain.append((output, sample_id))

    def flush(self) -> None:
        return

    def swapped(self, manifest: Manifest) -> None:
        self.swaps.append(manifest.digest)


class Cloudward:
    """Passes on over a link to a cloud's decider."""

    def __init__(self, time: VirtualTime, up: FakeLink, decider: Decider) -> None:
        self._time = time
        self._up = up
        self._decider = decider

    def pass_on(self, device: str, received_ns: int, payload: bytes | memoryview, _key: SampleKey | None) -> None:
        origin = Origin(device, received_ns, self._time.now_ns(), "ward")
        self._up.carry(len(payload), lambda: self._decider.take(origin, payload))


class NextStage:
    """The second stage of a chain, over a link."""

    def __init__(self, time: VirtualTime, up: FakeLink, decider: Decider) -> None:
        self._time = time
        self._up = up
        self._decider = decider
        self.outputs: list[HeadOutput] = []

    def hand_on(self, output: HeadOutput) -> None:
        self.outputs.append(output)
        assert output.seq is not None
        origin = Origin(output.device, output.received_ns, self._time.now_ns(), "ward", output.stamps)
        payload = Payloads.of(output.seq, output.incarnation)
        self._up.carry(output.output.nbytes, lambda: self._decider.take(origin, payload))


class Node:
    """A decider with its server."""

    def __init__(
        self,
        time: VirtualTime,
        name: str,
        plan: WorkloadPlan,
        answers: Answering,
        service_ms: Callable[[int], float] = lambda _size: 1.0,
        upstream: Cloudward | None = None,
        next_stage: NextStage | None = None,
        trials: Trials | None = None,
    ) -> None:
        self.tally = Tally()
        more = {"upstream": upstream, "next_stage": next_stage, "trials": trials}
        self.decider = Decider(name, self.tally, answers, time, **more)  # type: ignore[arg-type]
        self.server: EmulatedServer[QueuedSample] = fake_server(
            time, plan.batch, plan.queue, self.decider, lambda size: ms(service_ms(size))
        )
        self.decider.served_by(self.server)

    def use(self, described: Manifest = MANIFEST) -> None:
        self.decider.expect(described, Payloads())
        self.server.swap(AtOnce(FakeRuntime()), described)


class Bed:
    """A stream on a bed whose ward decides it, over a link of 2 ms each way and 1 ms a sample."""

    def __init__(
        self,
        workload: WorkloadPlan | None = None,
        service_ms: Callable[[int], float] = lambda _size: 1.0,
        expected: Expected | None = None,
        *,
        keep: bool = False,
        incarnation: int = 0,
        earlier: EarlierLives | None = None,
    ) -> None:
        workload = workload or plan()
        self.time = VirtualTime()
        self.up, self.down = link(self.time, 2.0, 8.0), link(self.time, 2.0)
        answers = Answering(self.time, self.down)
        self.ward = Node(self.time, "ward", workload, answers, service_ms)
        self.ward.use()
        self.rows: list[SampleRecord] = []
        self.tally = Tally()
        self.way = LinkWay(self.up, self.ward.decider, Origin("bed"), self.time, keep)
        self.stream = answers.to = Stream(
            "bed",
            workload,
            Numbers(),
            self.way,
            self.tally,
            self.time,
            self.rows,
            expected,
            incarnation,
            earlier or EarlierLives(),
            kept=keep,
        )

    def begin(self, duration_s: float = 1.0, trace_s: list[float] | None = None) -> None:
        self.stream.begin(0, seed=1, duration_s=duration_s, trace_s=trace_s or [])
