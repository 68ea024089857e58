"""Where a run would have no room for what it keeps, a simulation says so, and is not valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgebench
from edgebench.experiments.simulate import simulate_with
from edgebench.results.figures import Verdict
from tests.simulation.made import MS, times
from tests.simulation.wards import WATCH, ward

SLOW = [{"between": ["ward", "cloud"], "rate_mbit_s": 0.8}]
"""100,000 bytes a second."""
IN_CLOUD = {**WATCH, "place": {"infer": "cloud"}}
FIXED = {"kind": "fixed", "rate_hz": 5}
KEPT = "kept {} MB at once, and store.max_mb is 1: a run drops the rest, which no simulation does"


def verdict(folder: Path, *overrides: str, size: int = 20_000, load: Any = FIXED, **changes: Any) -> Verdict:
    """Of three beds, or as many as are given, for 10 s, whose samples have so many bytes."""
    file = ward(folder, links=SLOW, workloads={"watch": {**IN_CLOUD, "load": load}}, **changes)
    given = edgebench.load(file, overrides)
    return simulate_with(times([MS], {"size": (size,)}), given, folder / "runs", page="no")[1].verdict


@pytest.mark.parametrize(
    ("load", "mb"),
    [(FIXED, "2.0"), ({"kind": "offline", "samples": 50}, "3.0")],
    ids=["by windows", "an event after another"],
)
def test_what_is_kept_until_it_is_answered_has_to_fit_into_the_store(tmp_path: Path, load: Any, mb: str) -> None:
    """150 samples of 20 kB come within 10 s, or at once, of which some 50 get through within these 10 s."""
    for most, lines in ((1, 2), (4, 0)):
        store = f"workloads.watch.store.max_mb={most}"
        found = verdict(tmp_path, store, load=load, durability="process")
        assert (found.valid, found.kinds) == (not lines, ["delivery"] * lines)
        for line, node in zip(found.reasons, ("ward", "the devices of bed at ward"), strict=False):
            assert line == f"watch: {node} {KEPT.format(mb)} (raise it, or lower the rate)"


def test_what_waits_for_an_uplink_has_to_fit_into_the_store(tmp_path: Path) -> None:
    """As above; what is on its way once it has left the link is not kept."""
    for most, said in ((1, 1), (4, 0)):
        found = verdict(tmp_path, f"workloads.watch.store.max_mb={most}", "links[0].latency_ms=2000")
        assert len(found.reasons) == said
        kept = "watch: ward kept 2.0 MB at once, and store.max_mb is 1: a run drops the rest but for "
        assert all(line.startswith(kept) for line in found.reasons)
    assert verdict(tmp_path, "workloads.watch.store.max_mb=1", "links[0].rate_mbit_s=null").valid


def test_what_is_not_written_down_is_looked_at_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = "workloads.watch.store.max_mb=1"
    written = verdict(tmp_path, store, durability="process")
    monkeypatch.setattr("edgebench.experiments.simulate.MOST_RECORDED", 10)
    assert verdict(tmp_path, store, durability="process") == written
