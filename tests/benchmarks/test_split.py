"""What `benchmarks/split.py` runs, and what it makes of it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import edgebench
from benchmarks.split import TASK, TIERS, cut, summed_up, text_of, whole


@pytest.mark.parametrize("begin", [*TIERS])
def test_every_topology_is_sound(begin: str, tmp_path: Path) -> None:
    options = argparse.Namespace(quick=True, anyway=True, begin=begin, task=TASK, mbit=10.0, slower=20.0)
    tiers = TIERS[begin]
    for split in ("auto", 3, None):
        for place in [cut(tiers, split)] if split is not None else [whole(tiers.first), whole(tiers.second)]:
            file = tmp_path / "split.yaml"
            file.write_text(text_of(options, place))
            deployment = edgebench.validate(edgebench.load(file))
            plan = deployment.workloads["seen"]
            assert plan.split == split
            (link,) = (link for link in deployment.links.values() if link.shaped)
            assert [deployment.nodes[name].tier for name in (link.child, link.parent)] == [*tiers[:2]]


def test_the_place_that_was_chosen_is_held_against_the_best_that_was_measured() -> None:
    took_ms = {1: 30.0, 2: 20.0, 4: 25.0}
    found = summed_up(4, {number: {"predicted_ms": 22.0, "measured_ms": took} for number, took in took_ms.items()})
    assert (found["chosen"], found["measured_best"], found["chosen_over_best_ratio"]) == (4, 2, 1.25)
    assert found["worst_error"] == pytest.approx(22 / 30 - 1, abs=1e-4)
