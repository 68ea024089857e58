from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak import FIGURES, Life, grown_in, has_grown, slope
from edgebench.seeds import rng_for

ROOT = Path(__file__).resolve().parents[2]


def moments(per_h: float, noise: float, *, seed: int, begins: float = 0.0, n: int = 60) -> list[tuple[float, float]]:
    rng = rng_for(seed, "soak")
    hours = begins + np.arange(n) / 60
    return list(zip(hours.tolist(), (5.0 * seed + per_h * hours + rng.normal(0, noise, n)).tolist(), strict=True))


def test_a_slope_is_that_within_lives_whatever_their_levels_are() -> None:
    found = slope([moments(3.0, 0.5, seed=1), moments(3.0, 0.5, seed=9, begins=1.0)])
    assert found is not None
    per_h, low, high = found
    assert low < 3.0 < high
    assert per_h == pytest.approx(3.0, abs=0.4)
    assert high - low < 1.5
    assert slope([[(0.0, 1.0)], []]) is None


def test_what_grows_is_told_from_what_varies() -> None:
    def life(name: str, per_h: float, seed: int) -> Life:
        seen = [
            (at_h * 3_600, dict.fromkeys(FIGURES, 4.0) | {"memory_mb": value})
            for at_h, value in moments(per_h, 2.0, seed=seed, n=120)
        ]
        return Life(name, None, seen)

    found = grown_in([life("steady", 0.0, 1), life("leaks", 20.0, 2), life("leaks", 20.0, 3)], 7_200.0)
    assert (found["leaks"]["lives"], found["steady"]["lives"]) == (2, 1)
    assert found["leaks"]["memory_mb"]["low"] > 15.0
    assert found["steady"]["memory_mb"]["low"] < 1.0
    assert found["steady"]["threads"] == {"last": 4.0, "per_h": 0.0, "low": 0.0, "high": 0.0, "late_low": 0.0}


def test_steps_that_each_life_makes_once_are_no_growth_and_what_goes_on_is() -> None:
    def life(name: str, memory_mb: Callable[[float], float]) -> Life:
        noise = rng_for(5, "soak").normal(0, 0.01, 180)
        seen = [
            (5.0 * number, dict.fromkeys(FIGURES, 4.0) | {"memory_mb": memory_mb(5.0 * number) + wobble})
            for number, wobble in enumerate(noise.tolist())
        ]
        return Life(name, None, seen)

    def settles_mb(at_s: float) -> float:
        return 26.0 + 0.4 * sum(at_s > step_s for step_s in (200, 330, 450))

    # Four lives of 15 minutes: 0.4 MB three times before the middle, or 2 MB an hour.
    lives = [life("settles", settles_mb) for _ in range(4)]
    lives += [life("leaks", lambda at_s: 26.0 + 2.0 * at_s / 3_600) for _ in range(4)]
    found = grown_in(lives, 3_600.0)
    for entry in found.values():
        entry["answers_mb_per_h"] = 0.5
        assert entry["memory_mb"]["low"] > 1.5
    assert {name: has_grown(entry, "memory_mb") for name, entry in found.items()} == {"settles": False, "leaks": True}


def test_a_few_threads_that_stay_are_growth_whenever_they_came_and_so_is_memory_of_short_lives() -> None:
    def slopes(low: float, late_low: float | None) -> dict[str, float | None]:
        return {"per_h": low, "low": low, "high": low, "late_low": late_low}

    entry = {"answers_mb_per_h": 0.5, "threads": slopes(0.6, 0.0), "memory_mb": slopes(1.6, None)}
    assert has_grown(entry, "threads")
    assert has_grown(entry, "memory_mb")
    entry["memory_mb"] = slopes(1.4, 9.0)
    assert not has_grown(entry, "memory_mb")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_short_soak_looks_at_every_process_and_the_counts_agree(tmp_path: Path) -> None:
    topology = tmp_path / "ward.yaml"
    topology.write_text(
        "schema: 1\nname: ward\nnodes:\n  cloud: {tier: cloud}\n  ward: {tier: edge, parent: cloud}\n"
        "  bed: {tier: device, count: 2, parent: ward}\nworkloads:\n"
        "  watch: {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 5}, model: {runtime: fake}}\n"
    )
    command = [sys.executable, "benchmarks/soak.py", "--minutes", "1", "--topology", str(topology), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    figures = json.loads(done.stdout)
    assert figures["counts_agree"], figures["differences"]
    assert figures["lost"] == 0
    assert {"edgebench run", "edge_node ward", "cloud", "broker-ward", "broker-cloud"} <= set(figures["processes"])
    assert all(set(FIGURES) < set(entry) for entry in figures["processes"].values())
