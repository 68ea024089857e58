"""What a node drops, and how often that counts."""

from __future__ import annotations

from edgebench.core.samples import SampleKey
from edgebench.core.tallies import Tally
from edgebench.fabric.drops import DroppedOnce


def test_a_sample_that_is_dropped_each_time_it_comes_is_counted_once() -> None:
    tally = Tally()
    no_room = DroppedOnce(tally, "store-full")
    for seq in (1, 2, 1, 3, 2, 1):
        no_room.drop(SampleKey("bed", 0, seq))
    no_room.drop(SampleKey("bed", 1, 1))
    assert tally.dropped == {"store-full": 4}
