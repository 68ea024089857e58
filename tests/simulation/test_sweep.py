"""A sweep in virtual time: the front and the crossing of a ward whose beds are farther and farther away."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgebench
from edgebench.cli import main
from edgebench.errors import EdgebenchError
from tests.simulation.wards import WATCH, measured, ward

SPEC = """\
schema: 1
name: distances
topology: ward.yaml
executor: simulate
calibrate: [{run}]
grid:
  links[0].latency_ms: [1, 100]
  workloads.watch.place.infer: [device, edge]
seeds: [1, 2]
rank: {{figure: workloads.watch.latency_ms.p50}}
front: {{workloads.watch.latency_ms.p50: lowest, links.bed -> ward.up_bytes: lowest}}
crossings: {{along: 'links[0].latency_ms', between: workloads.watch.place.infer}}
"""


def test_a_sweep_says_how_far_a_ward_may_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A device needs some 20 + 2 × 8 ms whatever the link, the ward 20 and twice the link."""
    watch = {name: value for name, value in WATCH.items() if name != "batch"}
    ward(tmp_path, duration_s=4, workloads={"watch": {**watch, "load": {"kind": "fixed", "rate_hz": 1}}})
    spec = tmp_path / "distances.yaml"
    spec.write_text(SPEC.format(run=measured(tmp_path)))
    assert main(["sweep", str(spec), "--out", str(tmp_path / "sweeps")]) == 0
    out = capsys.readouterr().out
    assert "edge is better below" in out
    page = (tmp_path / "sweeps" / "distances" / "sweep.html").read_text()
    assert "What nothing beats" in page
    assert "Where the best changes" in page
    swept = edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True)
    assert [cell.state for cell in swept.cells] == ["valid"] * 8
    beaten = [each.settings for each in swept.front if not each.on_front]
    assert beaten == [{"links[0].latency_ms": 100, "workloads.watch.place.infer": "edge"}]
    (found,) = swept.crossings
    assert (found.below, found.above, found.low, found.high) == ("edge", "device", 1, 100)
    assert found.at is not None
    assert 1 < found.at < 100
    assert (
        edgebench.load_run(tmp_path / "sweeps" / "distances" / (swept.cells[0].run or "")).figures.figures == "modelled"
    )


def test_what_the_runs_do_not_tell_of_a_cell_is_known_before_the_first(tmp_path: Path) -> None:
    ward(tmp_path, workloads={"watch": {**WATCH, "model": {"size": "heavy"}}})
    spec = tmp_path / "distances.yaml"
    spec.write_text(SPEC.format(run=measured(tmp_path)).replace("[device, edge]", "[edge]"))
    with pytest.raises(EdgebenchError, match=r"distances\.yaml: links\[0\]\.latency_ms=1.*watch"):
        edgebench.sweep(spec, out=tmp_path / "sweeps")
    assert not (tmp_path / "sweeps").exists()
