"""What `benchmarks/crossover.py` runs, and what it says of what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

import edgebench
from benchmarks.crossover import LATENCY, PLACE, UPLINK, UPLINKS_MBIT_S, compared, write_spec, write_topology
from edgebench.experiments.sweep import planned_cells
from edgebench.experiments.sweep_spec import read_spec
from edgebench.results.fronts import Swept, crossings
from edgebench.results.sweeps import Cell
from tests.benchmarks.marks import MARKS

ROOT = Path(__file__).resolve().parents[2]


def test_its_sweep_has_a_cell_for_each_placement_and_uplink_real_and_simulated(tmp_path: Path) -> None:
    write_topology(tmp_path, "cameras", 3, 10.0)
    write_topology(tmp_path, "camera", 1, 10.0)
    deciders = edgebench.validate(edgebench.load(tmp_path / "cameras.yaml")).workloads["people"].deciders
    assert deciders == {"camera-0": "camera-0", "camera-1": "gate", "camera-2": "cloud"}
    spec = write_spec(tmp_path, "real", UPLINKS_MBIT_S, {"executor": "local"})
    cells = planned_cells(read_spec(spec), spec, folder=tmp_path).values()
    assert len(cells) == 21
    uplinks = sorted({settings[UPLINK] for _, settings in cells})
    assert [high / low for low, high in pairwise(uplinks)] == pytest.approx([1.25] * 6, rel=1e-3)


def swept(ms: Mapping[float, Mapping[str, float]], invalid: tuple[float, str] | None = None) -> Swept:
    """Of latencies by uplink and placement."""
    cells = [
        Cell(
            f"{uplink}-{place}",
            {UPLINK: uplink, PLACE: place},
            1,
            "invalid" if (uplink, place) == invalid else "valid",
            "runs/x",
            "",
            {LATENCY: value},
        )
        for uplink, of in ms.items()
        for place, value in of.items()
    ]
    return Swept("x", "x", cells, LATENCY, [], crossings=crossings(cells, LATENCY, "lowest", UPLINK, PLACE))


def test_crossings_are_compared_and_uplinks_without_a_valid_run_of_each_placement_tell_nothing() -> None:
    measured = {uplink: {"device": 100.0, "edge": 100.0 / uplink, "cloud": 200.0} for uplink in (0.5, 2.0, 4.0)}
    modelled = {uplink: {"device": 100.0, "edge": 150.0 / uplink, "cloud": 200.0} for uplink in (0.5, 2.0, 4.0)}
    found = compared(swept(measured, invalid=(4.0, "cloud")), swept(modelled))
    # The edge is behind by 100 ms at 0.5 and ahead by 50 at 2: two thirds of the way, by their logarithms.
    assert found["measured_mbit_s"] == pytest.approx(0.5 * 4 ** (2 / 3), rel=1e-3)
    assert found["simulated_mbit_s"] == pytest.approx(0.5 * 4 ** (200 / 225), rel=1e-3)
    assert found["crossover_error"] == pytest.approx(4 ** (200 / 225 - 2 / 3) - 1, abs=1e-3)
    assert (found["best_agrees"], found["told"]) == (1.0, 2)
    assert [each["best"] for each in found["uplinks"].values()] == ["device", "edge", None]


@pytest.mark.long
def test_it_kills_a_sweep_goes_on_with_it_and_prints_every_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.crossover", "--quick", "--json", "--anyway", "--work", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    about = {"measured_mbit_s", "simulated_mbit_s", "crossover_error", "best_agrees", "told", "uplinks", "pages"}
    kept = {"cells", "killed_after", "repeated", "interrupted", "invalid"}
    assert set(figures) == about | kept | MARKS | {"minutes"}
    assert (figures["cells"], figures["repeated"], len(figures["uplinks"])) == (9, 0, 3)
    assert 4 <= figures["killed_after"] < 9
    assert all(Path(page).is_file() for page in figures["pages"])
