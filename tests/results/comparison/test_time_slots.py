"""Samples by when they were due, and the values of each slot to 0.2 %."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.results.chunks import TIMES, chunks_of
from edgebench.results.comparison.time_slots import LATENCY, SlotFold, SlotHistogram
from edgebench.seeds import rng_for
from tests.results import factory


def test_values_are_kept_to_a_fifth_of_a_percent_with_their_signs() -> None:
    ns = np.array([0, 1, 200, -200, 1_234_567, -98_765_432_109, 3_600_000_000_000])
    histogram = SlotHistogram(2)
    histogram.update(np.array([0, 0, 0, 1, 1, 1, 1]), ns)
    counts, values_ms = histogram.table()
    assert values_ms * 1e6 == pytest.approx(np.sort(ns), rel=0.002)
    assert counts.sum(axis=1).tolist() == [3, 4]
    assert histogram.sum_ms * 1e6 == pytest.approx([201, ns[3:].sum()])


def test_it_is_the_same_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = rng_for(3, "histogram")
    slots, ns = rng.integers(0, 5, 4_000), rng.integers(0, 10**9, 4_000)
    whole, parts = SlotHistogram(5), SlotHistogram(5)
    whole.update(slots, ns)
    monkeypatch.setattr("edgebench.results.comparison.time_slots._OPEN_KEYS", 700)
    for chunk in np.array_split(np.arange(4_000), 17):
        parts.update(slots[chunk], ns[chunk])
    for place in (0, 1):
        assert np.array_equal(whole.table()[place], parts.table()[place])


def test_samples_count_when_they_were_due_and_decisions_when_they_came() -> None:
    # Due at 100, 1,100 and 1,900 ms; the first takes 15 ms, the second 2,000 ms, the third is lost.
    rows = [factory.row(0, 100), factory.row(1, 1_100, (1, 3, 2, 4, 1_990)), factory.lost(2, 1_900)]
    fold = SlotFold(factory.START_NS, 1e9, 4, deadline_ms=150)
    for _, chunk in chunks_of(factory.table(*rows).select(TIMES).to_batches(), ["death-risk"]):
        fold.update(chunk)
    assert fold.scheduled.tolist() == [1, 2, 0, 0]
    assert fold.decided.tolist() == [1, 1, 0, 0]
    assert fold.late.tolist() == [0, 1, 0, 0]
    assert fold.arrived.tolist() == [1, 0, 0, 1]
    assert fold.spread[LATENCY].sum_ms.tolist() == pytest.approx([15, 2_000, 0, 0])
    assert fold.spread["uplink"].sum_ms.tolist() == pytest.approx([3, 3, 0, 0])
