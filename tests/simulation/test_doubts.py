"""Whoever predicts by a run that was not valid says so, and why."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import msgspec
import pytest

import edgebench
from edgebench.cli import main
from edgebench.core.tallies import Tally
from edgebench.results.rundir import RESULT, load_run, write_observations
from edgebench.simulation.calibrating import doubts_of
from edgebench.topology.model import Cascade
from tests.simulation.wards import measured, ward

SWEEP = """\
schema: 1
name: beds
topology: ward.yaml
executor: simulate
calibrate: [{run}]
grid: {{nodes.bed.count: [1, 2]}}
rank: {{figure: workloads.watch.latency_ms.p50}}
"""


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that tells what things take and is not valid, beside the file of a ward."""
    folder = tmp_path_factory.mktemp("spoiled")
    run_dir = measured(folder)
    why = ["the power failed", "a door was open"]
    write_observations(run_dir, msgspec.structs.replace(load_run(run_dir).observations, invalidated=why))
    assert not edgebench.load_run(run_dir, rebuild=True).verdict.valid
    ward(folder, duration_s=2)
    return run_dir


@pytest.mark.parametrize("command", ["simulate", "fidelity", "place", "sweep", "capacity"])
def test_it_is_said_in_the_terminal_and_to_programs(
    spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Of all of them in the same words."""
    doubt = f"{spoiled.name}, which says what things take, is not valid: the power failed; a door was open"
    file, calibrate, out = str(spoiled.parents[1] / "ward.yaml"), ["--calibrate", str(spoiled)], str(tmp_path / "out")
    run = edgebench.simulate(file, calibrate=[spoiled], out=tmp_path / "runs")
    spec = tmp_path / "beds.yaml"
    spec.write_text(SWEEP.format(run=spoiled).replace("ward.yaml", file))
    words = {
        "simulate": [file, *calibrate, "--out", out],
        "fidelity": [str(run.folder), *calibrate],
        "place": [file, "--policy", "all-edge", *calibrate],
        "sweep": [str(spec), "--out", out],
        "capacity": [file, "--seeds", "1", "--most", "4", *calibrate, "--out", out],
    }[command]
    assert main([command, *words]) == 0
    assert doubt in " ".join(capsys.readouterr().out.split())
    shutil.rmtree(out, ignore_errors=True)
    assert main([command, *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    notes = {
        "simulate": lambda: told["verdict"]["notes"],
        "fidelity": lambda: told["runs"][run.folder.name]["notes"],
    }.get(command, lambda: told["notes"])()
    simulated = f"{spoiled.name}, by which it was predicted, was simulated itself"  # as it was for this test
    assert notes == ([simulated, doubt] if command == "fidelity" else [doubt])
    page = tmp_path / "out" / "beds" / "sweep.html" if command == "sweep" else run.report
    assert doubt in page.read_text()
    assert run.verdict.valid


def test_that_nothing_tells_whether_a_run_is_valid_is_said_as_well(spoiled: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(spoiled, tmp_path / "kept")
    (kept / RESULT).unlink()
    (note,) = edgebench.simulate(
        spoiled.parents[1] / "ward.yaml", calibrate=[kept], out=tmp_path / "runs"
    ).verdict.notes
    assert note == (
        f"{spoiled.name}, which says what things take, has no result.json, so that nothing tells whether it is valid "
        f"(edgebench report {kept} writes it)"
    )


def test_a_run_whose_cascade_passed_on_what_nobody_decided_says_so(spoiled: Path, tmp_path: Path) -> None:
    stored = load_run(spoiled)
    name = next(iter(stored.deployment.workloads))
    plan = msgspec.structs.replace(stored.deployment.workloads[name], cascade=Cascade())
    tallies = {"cloud": {name: Tally(decided=5, dropped={"queue-full": 3})}}
    tallies["ward"] = {name: Tally(dropped={"store-full": 2, "queue-full": 7})}
    lossy = dataclasses.replace(
        stored,
        deployment=msgspec.structs.replace(stored.deployment, workloads={name: plan}),
        observations=msgspec.structs.replace(stored.observations, tallies=tallies),
    )
    *_, doubt = doubts_of(lossy)
    assert doubt.endswith(f"is not whole: {name} passed on 5 samples that nobody decided: its cascade's share is more")
    assert len(doubts_of(lossy)) == len(doubts_of(stored)) + 1
