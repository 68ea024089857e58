"""What a device kept, and what it recorded, make what its next life goes on with."""

from __future__ import annotations

from pathlib import Path

from device_agent.outbox import Outbox, Recorded
from edgebench.core.pending import Pending
from edgebench.core.samples import SampleKey
from edgebench.core.tallies import Tally
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import SampleRows, TallySnapshot
from edgebench.fabric.spool import Spool
from edgebench.topology.model import Store
from tests.core.ward import plan
from tests.results import factory

W = "death-risk"


def pending(size_bytes: int = 100) -> Pending:
    return Pending(1, 2, 3, size_bytes, b"label", None, bytes(size_bytes))


def key(seq: int, incarnation: int = 0) -> SampleKey:
    return SampleKey("bed-0", incarnation, seq)


def test_a_sample_sets_out_once_it_is_kept_and_the_next_life_finds_it(tmp_path: Path) -> None:
    reactor = Reactor()
    outbox = Outbox(tmp_path / "w.outbox", plan(name=W), "process", reactor)
    set_out: list[int] = []
    for seq in range(3):
        assert outbox.put(key(seq), pending(), lambda seq=seq: set_out.append(seq))  # type: ignore[misc]
    outbox.drop([key(1)])
    outbox.close()
    assert set_out == [0, 1, 2]
    again = Outbox(tmp_path / "w.outbox", plan(name=W), "process", reactor)
    assert again.undecided() == {key(0): pending(), key(2): pending()}
    again.close()
    reactor.close()


def test_what_has_no_room_does_not_set_out(tmp_path: Path) -> None:
    reactor = Reactor()
    outbox = Outbox(tmp_path / "w.outbox", plan(name=W, store=Store(max_mb=1)), "process", reactor)
    set_out: list[int] = []
    taken = [outbox.put(key(seq), pending(300_000), lambda: set_out.append(1)) for seq in range(4)]
    assert (taken, len(set_out)) == ([True, True, True, False], 3)
    outbox.close()
    reactor.close()


def test_a_next_life_goes_on_with_what_is_not_recorded_and_counts_what_the_last_did_not(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "records.spool")
    # Five samples were decided and recorded, of eight that were counted; two more were kept and not counted any more.
    rows = [factory.row(seq, 0) for seq in range(5)]
    spool.write(SampleRows(rows), TallySnapshot(0, "bed-0", {W: Tally(scheduled=8, decided=5)}, 0))
    spool.close()
    kept = {key(seq): pending() for seq in range(4, 10)}
    recorded = Recorded(tmp_path / "records.spool", {W: kept})
    assert recorded.done == {W: {key(4)}}
    earlier = recorded.of("bed-0", W)
    assert list(earlier.undecided) == [(0, seq) for seq in range(5, 10)]
    assert (earlier.sensed, earlier.uncounted, earlier.accounted) == (10, 2, 10)


def test_a_third_life_does_not_count_again_what_the_second_has_missed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "records.spool")
    spool.write(
        TallySnapshot(0, "bed-0", {W: Tally(scheduled=3)}, 0),
        TallySnapshot(0, "bed-0", {W: Tally(scheduled=8)}, 0),
        TallySnapshot(0, "bed-0", {W: Tally(scheduled=5, missed=4)}, 1),
    )
    spool.close()
    earlier = Recorded(tmp_path / "records.spool", {W: {}}).of("bed-0", W)
    assert (earlier.sensed, earlier.uncounted, earlier.accounted) == (13, 0, 17)


def test_what_was_dropped_and_is_recorded_as_lost_counts_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "records.spool")
    rows = [factory.row(seq, 0) for seq in range(5)]
    rows += [factory.row(seq, 0, arrived_ns=None) for seq in (5, 6)]
    spool.write(SampleRows(rows), TallySnapshot(0, "bed-0", {W: Tally(scheduled=7, dropped={"store-full": 2})}, 0))
    spool.close()
    earlier = Recorded(tmp_path / "records.spool", {W: {key(7): pending()}}).of("bed-0", W)
    assert (earlier.sensed, earlier.uncounted, earlier.accounted) == (8, 1, 8)
