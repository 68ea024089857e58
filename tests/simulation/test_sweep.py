"""A sweep in virtual time: the front and the crossing of a ward whose beds are farther and farther away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgebench
from edgebench.cli import main
from edgebench.errors import EdgebenchError
from edgebench.experiments.simulate import simulate_with
from edgebench.experiments.sweep import sweep
from edgebench.results.fronts import Swept
from tests.simulation.made import MS, times
from tests.simulation.wards import COSTS, WATCH, measured, ward

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
    assert "modelled" in out
    page = (tmp_path / "sweeps" / "distances" / "sweep.html").read_text()
    assert "What nothing beats" in page
    assert "Where the best changes" in page
    swept = edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True)
    assert [cell.state for cell in swept.cells] == ["valid"] * 8
    assert [cell.figures for cell in swept.cells] == ["modelled"] * 8
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


DURABLE = """\
schema: 1
name: durable
topology: ward.yaml
executor: simulate
calibrate: [{runs}]
grid:
  durability: [{levels}]
rank: {{figure: workloads.watch.hops_ms.infer.p50}}
"""


def kept_as(folder: Path, durability: str, ms: int) -> Path:
    """The directory of a run that promised that, and whose decisions took so long."""
    given = edgebench.load(folder / "ward.yaml", [f"durability={durability}"])
    return simulate_with(times([ms * MS], COSTS), given, folder / durability, page="no")[0]


def durable(folder: Path, runs: list[Path], levels: str) -> Path:
    spec = folder / "durable.yaml"
    spec.write_text(DURABLE.format(runs=", ".join(map(str, runs)), levels=levels))
    return spec


def test_each_cell_is_simulated_by_the_runs_that_promised_what_it_does(tmp_path: Path) -> None:
    ward(tmp_path)
    runs = [kept_as(tmp_path, durability, ms) for durability, ms in (("none", 20), ("process", 40))]
    swept = edgebench.sweep(durable(tmp_path, runs, "none, process"), out=tmp_path / "sweeps")
    assert [(each.settings, each.mean) for each in swept.leaderboard] == [
        ({"durability": "none"}, 20.0),
        ({"durability": "process"}, 40.0),
    ]
    by = [edgebench.load_run(Path(swept.folder, str(cell.run))).figures.calibrated_by for cell in swept.cells]
    assert by == [[run.name] for run in runs]
    alone = edgebench.sweep(durable(tmp_path, runs[:1], "none"), out=tmp_path / "sweeps", resume=True)
    assert alone.cells == swept.cells[:1]


def test_a_cell_without_a_run_of_its_durability_and_a_run_without_a_cell_are_told_before_the_first(
    tmp_path: Path,
) -> None:
    ward(tmp_path)
    runs = [kept_as(tmp_path, durability, 20) for durability in ("none", "process")]
    for those, levels, said in (
        (runs[:1], "none, process", "durability=process: $.durability: process, and no run of $.calibrate had that"),
        (runs, "none", f"$.calibrate: {runs[1]} had durability process, which no cell has (leave it out)"),
    ):
        spec = durable(tmp_path, those, levels)
        with pytest.raises(EdgebenchError) as refused:
            edgebench.sweep(spec, out=tmp_path / "sweeps")
        assert str(refused.value).startswith(f"{spec}: {said}")
    assert not (tmp_path / "sweeps").exists()


def test_an_error_that_nobody_thought_of_is_a_failure_of_its_cell_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where run directories should go there is a file."""
    ward(tmp_path)
    spec = durable(tmp_path, [kept_as(tmp_path, each, 20) for each in ("none", "process")], "none, process")
    folder = tmp_path / "sweeps" / "durable"
    folder.mkdir(parents=True)
    (folder / "runs").write_text("")
    assert main(["sweep", str(spec), "--out", str(tmp_path / "sweeps"), "--json"]) == 1
    cells = json.loads(capsys.readouterr().out)["cells"]
    for cell in cells:
        assert (cell["state"], cell["run"], cell["values"]) == ("failed", None, {})
        assert cell["problem"].startswith("FileExistsError: ")
        assert f"cells/{cell['key']}.log" in cell["problem"]
        assert "Traceback" in (folder / "cells" / f"{cell['key']}.log").read_text()
    (folder / "runs").unlink()
    again = edgebench.sweep(spec, out=tmp_path / "sweeps", resume=True)
    assert [cell.state for cell in again.cells] == ["valid", "valid"]
    assert list((folder / "cells").glob("*.log")) == []


PLACED = """\
schema: 1
name: placed
topology: ward.yaml
executor: simulate
calibrate: [{run}]
"""
NEAR_AND_FAR = "links[0].latency_ms"


def where(swept: Swept) -> list[str]:
    """Where the samples of each cell were decided."""
    runs = [edgebench.load_run(Path(swept.folder, str(cell.run))) for cell in swept.cells]
    return [run.figures.workloads["watch"].place for run in runs]


def test_a_policy_places_each_cell_by_its_other_settings_and_once(tmp_path: Path) -> None:
    """A device needs some 36 ms, the ward some 20 and twice the link, the cloud 60 more."""
    ward(tmp_path, duration_s=4)
    spec, lines = tmp_path / "placed.yaml", list[str]()
    asked = f"grid: {{policy: [all-edge, best-layer], '{NEAR_AND_FAR}': [1, 100]}}\nobjective: [mean-ms=2]\n"
    spec.write_text(PLACED.format(run=measured(tmp_path)) + asked)
    swept = sweep(spec, tmp_path / "sweeps", tell=lines.append)
    assert [tuple(cell.settings.values()) for cell in swept.cells] == [
        ("all-edge", 1),
        ("all-edge", 100),
        ("best-layer", 1),
        ("best-layer", 100),
    ]
    assert where(swept) == ["edge", "edge", "edge", "device"]
    files = sorted((tmp_path / "sweeps" / "placed" / "placements").iterdir())
    assert [json.loads(file.read_text())["objective"] for file in files] == [{"mean-ms": 2.0}] * 4
    assert any(line.startswith("placement ") for line in lines)
    again = list[str]()
    assert sweep(spec, tmp_path / "sweeps", resume=True, tell=again.append).cells == swept.cells
    assert again == []


def test_the_file_of_a_placement_is_a_setting(tmp_path: Path) -> None:
    file, run = ward(tmp_path, duration_s=4), measured(tmp_path)
    edgebench.place(file, "all-device", calibrate=[run], out=tmp_path / "near.json")
    spec = tmp_path / "placed.yaml"
    spec.write_text(PLACED.format(run=run) + "grid: {placement: [near.json, null]}\n")
    assert where(edgebench.sweep(spec, out=tmp_path / "sweeps")) == ["device", "edge"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "list: [{policy: greedy, placement: near.json}]",
            "policy=greedy, placement=near.json: placement and policy: give one of the two (and null for the other)",
        ),
        ("grid: {policy: [3]}", "policy=3: policy: 3 is no name (write text, or null)"),
        ("grid: {policy: [gredy]}", "policy=gredy: --policy gredy: no such policy (did you mean 'greedy'?)"),
        ("grid: {placement: [near.json]}", "placement=near.json: {folder}/near.json: no such file"),
        ("objective: [bytes]", "$.objective: nothing is placed by a policy (remove it, or vary policy)"),
    ],
)
def test_a_placement_that_cannot_be_is_told_before_the_first_cell(tmp_path: Path, asked: str, said: str) -> None:
    ward(tmp_path)
    spec = tmp_path / "placed.yaml"
    spec.write_text(PLACED.format(run=measured(tmp_path)) + asked + "\n")
    with pytest.raises(EdgebenchError) as refused:
        edgebench.sweep(spec, out=tmp_path / "sweeps")
    assert str(refused.value).startswith(f"{spec}: {said.format(folder=tmp_path)}")
    assert not (tmp_path / "sweeps" / "placed" / "cells").exists()
