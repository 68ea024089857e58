"""What `benchmarks/split.py` runs, and what it makes of it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import edgebench
from benchmarks.split import CUT, TASK, summed_up, text_of

QUICK = argparse.Namespace(quick=True, anyway=True, task=TASK, mbit=10.0, slower=20.0)


@pytest.mark.parametrize("place", [CUT.format("auto"), CUT.format(3), "place: {infer: edge}"])
def test_every_topology_is_sound(place: str, tmp_path: Path) -> None:
    file = tmp_path / "split.yaml"
    file.write_text(text_of(QUICK, place))
    plan = edgebench.validate(edgebench.load(file)).workloads["seen"]
    assert (plan.split is None) == (place not in (CUT.format("auto"), CUT.format(3)))


def test_the_place_that_was_chosen_is_held_against_the_best_that_was_measured() -> None:
    took_ms = {1: 30.0, 2: 20.0, 4: 25.0}
    found = summed_up(4, {number: {"predicted_ms": 22.0, "measured_ms": took} for number, took in took_ms.items()})
    assert (found["chosen"], found["measured_best"], found["chosen_over_best_ratio"]) == (4, 2, 1.25)
    assert found["worst_error"] == pytest.approx(22 / 30 - 1, abs=1e-4)
