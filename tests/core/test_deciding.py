"""Deciding, forwarding and answering in virtual time."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgebench.core.batching import InferenceRequest
from edgebench.core.deciding import Decider, Forwarder, Origin, QueuedSample
from edgebench.core.fake_transport import VirtualTime
from edgebench.core.intake import Intake
from edgebench.core.samples import HeadStamps, SampleKey
from edgebench.core.tallies import Tally
from edgebench.topology.model import Batch, Queue
from tests.core.ward import MANIFEST, Answering, Cloudward, NextStage, Node, Payloads, link, ms, plan


def at_ward(time: VirtualTime, batch: Batch | None = None, queue: Queue | None = None) -> tuple[Node, Answering]:
    answers = Answering(time, link(time))
    return Node(time, "ward", plan(batch=batch or Batch(max_batch=2), queue=queue or Queue()), answers), answers


def test_a_decision_carries_the_digest_and_the_stamps_of_its_way() -> None:
    time = VirtualTime(ms(100))
    ward, answers = at_ward(time)
    ward.use()
    ward.decider.take(Origin("bed", 5, 6), Payloads.of(0))
    time.run()
    (decision,) = answers.decisions
    assert (decision.seq, decision.decider, decision.digest, decision.batch) == (0, "ward", "d" * 64, 1)
    assert msgspec.structs.astuple(decision.stamps) == (
        *(ms(100), ms(100), ms(100), ms(101), ms(101)),
        *(5, 6, None, None, None),
    )
    assert ward.tally.decided == 1
    assert answers.swaps == ["d" * 64]


def test_what_waits_while_a_batch_is_decided_is_the_next_batch() -> None:
    time = VirtualTime()
    ward, answers = at_ward(time)
    ward.use()
    for seq, at_ms in enumerate((0.0, 0.2, 0.4, 0.6)):
        time.call_at(ms(at_ms), lambda seq=seq: ward.decider.take(Origin("bed"), Payloads.of(seq)))  # type: ignore[misc]
    time.run()
    assert [(each.seq, each.batch, each.stamps.started_ns) for each in answers.decisions] == [
        (0, 1, 0),
        (1, 2, ms(1)),
        (2, 2, ms(1)),
        (3, 1, ms(2)),
    ]


def test_a_partial_batch_waits_for_more_as_long_as_it_may() -> None:
    time = VirtualTime()
    ward, answers = at_ward(time, Batch(max_batch=3, max_wait_ms=5.0))
    ward.use()
    for seq, at_ms in enumerate((0.0, 4.0, 20.0)):
        time.call_at(ms(at_ms), lambda seq=seq: ward.decider.take(Origin("bed"), Payloads.of(seq)))  # type: ignore[misc]
    time.run()
    assert [(each.batch, each.stamps.started_ns) for each in answers.decisions] == [(2, ms(5)), (2, ms(5)), (1, ms(25))]


class Noted:
    def __init__(self, time: VirtualTime) -> None:
        self.trials: list[tuple[str, int | None, int, int, int]] = []
        self.gone: list[int | None] = []
        self._time = time

    def tried(self, origin: Origin, received_ns: int, finished_ns: int) -> None:
        self.trials.append((origin.device, origin.trial_ns, received_ns, finished_ns, self._time.now_ns()))

    def let_go(self, origin: Origin) -> None:
        self.gone.append(origin.trial_ns)


def test_a_trial_is_decided_beside_the_others_and_neither_answered_nor_counted() -> None:
    time = VirtualTime()
    noted, answers = Noted(time), Answering(time, link(time))
    ward = Node(time, "ward", plan(batch=Batch(max_batch=2), queue=Queue(max_samples=3)), answers, trials=noted)
    ward.use()
    sample = ward.decider.intake.read(Payloads.of(1))
    assert sample is not None
    assert ward.decider.intake.read(b"no sample") is None
    ward.decider.take(Origin("bed"), Payloads.of(0))
    ward.decider.accept(Origin("bed", trial_ns=ms(-7)), b"", sample, 0)
    ward.decider.take(Origin("bed"), Payloads.of(1))
    time.run()
    assert noted.trials == [("bed", ms(-7), 0, ms(1), ms(1))]
    # The first batch had the trial in it, too.
    assert [(each.seq, each.batch) for each in answers.decisions] == [(0, 1), (1, 1)]
    assert (ward.tally.decided, ward.tally.duplicated, ward.tally.rejected) == (2, 0, {"not-a-sample": 1})
    for seq in range(2, 5):
        ward.decider.take(Origin("bed"), Payloads.of(seq))
    ward.decider.accept(Origin("bed", trial_ns=0), b"", sample, 0)  # which has no room
    assert noted.gone == [0]
    time.run()
    assert (ward.tally.decided, ward.tally.dropped, len(noted.trials)) == (5, {}, 1)


def test_a_model_is_swapped_between_two_batches() -> None:
    time = VirtualTime()
    ward, answers = at_ward(time, Batch(max_batch=1))
    ward.use()
    ward.decider.take(Origin("bed"), Payloads.of(0))
    time.run(ms(0.5))
    ward.use(msgspec.structs.replace(MANIFEST, digest="e" * 64))
    ward.decider.take(Origin("bed"), Payloads.of(1))
    time.run()
    assert [each.digest[0] for each in answers.decisions] == ["d", "e"]
    assert [digest[0] for digest in answers.swaps] == ["d", "e"]


def test_what_is_dropped_from_a_full_queue_is_counted_and_not_answered() -> None:
    time = VirtualTime()
    ward, answers = at_ward(time, Batch(max_batch=1), Queue(max_samples=2))
    for seq in range(4):
        ward.decider.intake.expect(Payloads())
        ward.decider.take(Origin("bed"), Payloads.of(seq))
    ward.use()
    time.run()
    assert [each.seq for each in answers.decisions] == [2, 3]
    assert ward.tally.dropped == {"queue-full": 2}


def test_an_edge_that_forwards_takes_a_sample_once_and_the_cloud_knows_when() -> None:
    time = VirtualTime()
    answers = Answering(time, link(time, 10.0), brings_back=True)
    cloud = Node(time, "cloud", plan(), answers)
    cloud.use()
    tally = Tally()
    ward = Forwarder(Intake(tally), Cloudward(time, link(time, 10.0), cloud.decider), time)
    ward.intake.expect(Payloads())
    time.run(ms(3))
    for seq in (0, 0):
        ward.take(Origin("bed"), Payloads.of(seq))
    time.run()
    (decision,) = answers.decisions
    assert (decision.decider, decision.stamps.forward_in_ns, decision.stamps.forward_out_ns) == ("cloud", ms(3), ms(3))
    assert (decision.stamps.received_ns, decision.stamps.finished_ns) == (ms(13), ms(14))
    assert tally.duplicated == 1


@pytest.mark.parametrize(("threshold", "decided_by"), [(1.01, "cloud"), (0.0, "ward")])
def test_a_cascade_passes_on_what_its_model_is_unsure_of(threshold: float, decided_by: str) -> None:
    time = VirtualTime()
    answers = Answering(time, link(time))
    cloud = Node(time, "cloud", plan(), answers)
    cloud.use()
    ward = Node(time, "ward", plan(), answers, upstream=Cloudward(time, link(time, 10.0), cloud.decider))
    ward.use(msgspec.structs.replace(MANIFEST, threshold=threshold))
    ward.decider.take(Origin("bed"), Payloads.of(0))
    time.run()
    assert [each.decider for each in answers.decisions] == [decided_by]
    assert (ward.tally.decided, cloud.tally.decided) == ((0, 1) if decided_by == "cloud" else (1, 0))


def test_the_first_stage_of_a_chain_hands_on_what_it_gives_and_the_second_decides() -> None:
    time = VirtualTime()
    answers = Answering(time, link(time))
    cloud = Node(time, "cloud", plan(), answers)
    cloud.use(msgspec.structs.replace(MANIFEST, digest="e" * 64))
    onward = NextStage(time, link(time, 10.0), cloud.decider)
    ward = Node(time, "ward", plan(batch=Batch(max_batch=2)), answers, next_stage=onward)
    ward.use()
    for seq, at_ms in enumerate((0.0, 0.2, 0.4)):
        time.call_at(ms(at_ms), lambda seq=seq: ward.decider.take(Origin("bed"), Payloads.of(seq)))  # type: ignore[misc]
    time.run()
    # Samples 1 and 2 come while 0 is decided, and are the next batch.
    assert [each.stamps for each in onward.outputs] == [
        HeadStamps(0, 0, ms(1), 1),
        HeadStamps(ms(0.2), ms(1), ms(2), 2),
        HeadStamps(ms(0.4), ms(1), ms(2), 2),
    ]
    assert [each.key for each in onward.outputs] == [SampleKey("bed", 0, seq) for seq in range(3)]
    assert [(each.decider, each.digest[0]) for each in answers.decisions] == [("cloud", "e")] * 3
    first = answers.decisions[0].stamps
    assert first.head == HeadStamps(0, 0, ms(1), 1)
    assert (first.forward_in_ns, first.forward_out_ns, first.received_ns) == (0, ms(1), ms(11))
    assert (ward.tally.decided, cloud.tally.decided) == (0, 3)


def test_an_output_that_the_first_stage_never_gave_is_counted_there_and_decided_nowhere() -> None:
    time = VirtualTime()
    answers = Answering(time, link(time))
    cloud = Node(time, "cloud", plan(), answers)
    cloud.use()
    onward = NextStage(time, link(time), cloud.decider)
    ward = Node(time, "ward", plan(queue=Queue(max_samples=1)), answers, next_stage=onward)
    ward.decider.intake.expect(Payloads())
    for seq in range(3):
        ward.decider.take(Origin("bed"), Payloads.of(seq))
    ward.use()
    time.run()
    assert ward.tally.dropped == {"queue-full": 2}
    assert [each.seq for each in answers.decisions] == [2]


class Forgetful:
    """A memory to which everything is news."""

    def __init__(self) -> None:
        self.gone: list[SampleKey] = []

    def takes(self, _key: SampleKey) -> bool:
        return True

    def dropped(self, key: SampleKey) -> bool:
        self.gone.append(key)
        return self.gone.count(key) == 1


def test_what_is_kept_elsewhere_and_comes_again_is_dropped_once() -> None:
    time, tally, memory = VirtualTime(), Tally(), Forgetful()
    decider = Decider("ward", tally, Answering(time, link(time)), time, memory=memory)
    for seq in (7, 8, 7):
        queued = QueuedSample(Origin("bed"), 0, b"", seq, None, 0)
        decider.dropped(InferenceRequest(np.zeros(1), 0, queued), "queue-full")
    assert tally.dropped == {"queue-full": 2}
    assert [key.seq for key in memory.gone] == [7, 8, 7]
