"""What is taken in, and what is not."""

from __future__ import annotations

from edgebench.core.intake import Intake, SequenceTracker
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


def test_a_sequence_does_not_believe_a_leap_into_the_far_future() -> None:
    tracker = SequenceTracker()
    assert [tracker.see(seq) for seq in (0, 1 << 39, 1)] == ["new", "jump", "new"]
