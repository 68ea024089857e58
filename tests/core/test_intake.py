"""What is taken in, and what is not."""

from __future__ import annotations

import tracemalloc

from edgebench.core.intake import Intake, SequenceTracker
from edgebench.core.samples import SampleKey
from edgebench.core.tallies import Tally
from tests.core.ward import Payloads


def expecting(tally: Tally, *, sparse: bool = False) -> Intake:
    intake = Intake(tally, sparse=sparse)
    intake.expect(Payloads())
    return intake


def test_before_the_first_model_nothing_can_be_checked_so_all_is_rejected() -> None:
    tally = Tally()
    assert Intake(tally).take("bed-0", Payloads.of(0)) is None
    assert tally.rejected == {"no-model-yet": 1}


def test_rejects_duplicates_and_late_samples_are_counted_by_name() -> None:
    tally = Tally()
    intake = expecting(tally)
    taken = [intake.take("bed-0", Payloads.of(seq)) for seq in (0, 2, 1, 1)]
    assert [accepted is not None for accepted in taken] == [True, True, True, False]
    assert intake.take("bed-1", Payloads.of(0)) is not None
    assert intake.take("bed-0", b"?") is None
    assert intake.take("bed-0", Payloads.of(1 << 39)) is None
    assert (tally.duplicated, tally.reordered) == (1, 1)
    assert tally.rejected == {"not-a-sample": 1, "sequence-jump": 1}


def test_what_comes_by_another_edge_is_no_duplicate() -> None:
    tally = Tally()
    intake = expecting(tally, sparse=True)
    assert intake.take("bed-0", Payloads.of(5), by="ward-0") is not None
    assert intake.take("bed-0", Payloads.of(5), by="ward-1") is not None
    assert intake.take("bed-0", Payloads.of(5), by="ward-1") is None
    assert tally.duplicated == 1


def test_a_device_that_was_started_again_counts_anew_from_wherever_its_schedule_is() -> None:
    tally = Tally()
    intake = expecting(tally)
    assert intake.take("bed-0", Payloads.of(0)) is not None
    assert intake.take("bed-0", Payloads.of(500_000, incarnation=1)) is not None
    assert intake.take("bed-0", Payloads.of(0, incarnation=1)) is None
    assert intake.take("bed-0", Payloads.of(1)) is not None
    assert (tally.duplicated, tally.rejected) == (1, {})


class Remembering:
    """Samples that are news, whatever their order says."""

    def __init__(self, *news: bool) -> None:
        self._news = list(news)
        self.asked: list[SampleKey] = []

    def takes(self, key: SampleKey) -> bool:
        self.asked.append(key)
        return self._news.pop(0)

    def dropped(self, key: SampleKey) -> bool:
        raise AssertionError(key)


def test_where_more_is_promised_a_memory_says_what_is_news() -> None:
    tally = Tally()
    memory = Remembering(True, True, False)
    intake = Intake(tally, memory=memory)
    intake.expect(Payloads())
    # One that was dropped comes again, and one that an earlier life of the node has decided.
    taken = [intake.take("bed", Payloads.of(seq), by="ward") is not None for seq in (0, 0, 1)]
    assert taken == [True, True, False]
    assert (tally.reordered, tally.duplicated) == (1, 1)
    assert memory.asked == [SampleKey("bed", 0, seq, "ward") for seq in (0, 0, 1)]


def test_a_sequence_tells_new_late_and_repeated_samples_apart() -> None:
    tracker = SequenceTracker()
    assert [tracker.see(seq) for seq in (0, 1, 4, 2, 2, 3, 4, 5, 0)] == [
        "new", "new", "new", "late", "again", "late", "again", "new", "again",
    ]  # fmt: skip


def test_where_only_some_samples_come_those_before_the_first_are_late_and_not_repeated() -> None:
    tracker = SequenceTracker(sparse=True)
    assert [tracker.see(seq) for seq in (5, 3, 4, 3, 6)] == ["new", "late", "late", "again", "new"]


def test_where_only_some_samples_come_gaps_are_forgotten_in_the_end() -> None:
    tracker = SequenceTracker(sparse=True)
    assert {tracker.see(seq) for seq in range(0, 1_000_000, 7)} == {"new"}
    # The latest gaps are still known, the first ones are not.
    assert [tracker.see(seq) for seq in (999_991, 999_991, 1)] == ["late", "again", "again"]
    assert tracker.see(1 << 39) == "jump"


def test_what_is_remembered_of_a_sequence_stays_small() -> None:
    tracemalloc.start()
    try:
        tracker = SequenceTracker(sparse=True)
        for seq in range(0, 1_000_000, 2):
            tracker.see(seq)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert tracker.see(999_999) == "new"
    assert used < 40_000


def test_a_sequence_does_not_believe_a_leap_into_the_far_future() -> None:
    tracker = SequenceTracker()
    assert [tracker.see(seq) for seq in (0, 1 << 39, 1, (1 << 39) + 1, 2)] == ["new", "jump", "new", "jump", "new"]


def test_a_device_that_was_cut_off_for_very_long_is_believed_by_its_second_sample() -> None:
    tracker = SequenceTracker()
    assert [tracker.see(seq) for seq in (0, 300_000, 300_002, 300_001, 1)] == ["new", "jump", "new", "late", "again"]


def test_what_an_edge_has_checked_may_go_on_after_any_gap() -> None:
    tally = Tally()
    cloud = Intake(tally, sparse=True)
    cloud.expect(Payloads())
    for seq in (0, 250_000, 249_500, 249_500, 500_000):
        cloud.take("bed", Payloads.of(seq), by="ward")
    assert (tally.duplicated, tally.reordered, tally.rejected) == (1, 1, {})
    for seq in (0, 250_000):
        cloud.take("bed", Payloads.of(seq))  # whoever sends that itself is not believed
    assert tally.rejected == {"sequence-jump": 1}
