"""The main job as a stranger runs it: sensors stream, edges decide, the cloud trains, a better model rolls out."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgebench.results.rundir import read_records
from edgebench.topology import load
from tests.conftest import ROOT
from tests.system.running import faults_of, run

BESIDE_OTHERS = ("--duration-s", "120")
"""Time to train the better model while other tests take the trainer's turn, which has the lowest priority."""
TOPOLOGIES = sorted((ROOT / "topologies").glob("*.yaml"))


def check_main_job(result: dict[str, Any], run_dir: Path) -> None:
    """All three workloads decided in full, and exactly one better model took over without a sample lost."""
    assert faults_of(result) == []
    assert list(result["workloads"]) == ["death-risk", "decompensation", "heart-failure"]
    for name, figures in result["workloads"].items():
        assert figures["decided"] == figures["scheduled"] >= 480, name
        assert figures["lost"] == figures["duplicated"] == figures["reordered"] == figures["rejected"] == 0, name
    models = result["workloads"]["death-risk"]["models"]
    assert len(models) == 2
    assert models[1]["validated"]["value"] > models[0]["validated"]["value"]
    assert sum(model["n"] for model in models) == result["workloads"]["death-risk"]["decided"]
    assert all(model["n"] > 0 for model in models)
    kept = {path.stem for path in (run_dir / "models").glob("*.model")}
    assert {model["digest"] for model in models} <= kept
    check_each_ward_swaps_once(run_dir)


def check_each_ward_swaps_once(run_dir: Path) -> None:
    """At each ward the digests of the decisions change exactly once, in the order in which they were made."""
    rows = [row for row in read_records(run_dir).to_pylist() if row["workload"] == "death-risk"]
    for ward in ("ward-0", "ward-1"):
        mine = sorted((row for row in rows if row["decider"] == ward), key=lambda row: row["started_ns"])
        digests = [row["digest"] for row in mine]
        assert sum(one != other for one, other in pairwise(digests)) == 1, ward


def check_rebuilt_identically(run_dir: Path) -> None:
    """`edgebench report` makes the same result and report from the records alone."""
    made = [run_dir / "result.json", run_dir / "report.html"]
    before = [path.read_bytes() for path in made]
    for path in made:
        path.unlink()
    subprocess.run([sys.executable, "-m", "edgebench.cli", "report", str(run_dir)], capture_output=True, check=False)
    assert [path.read_bytes() for path in made] == before


@pytest.mark.timeout(700)
def test_the_ward_runs_on_generated_patients(tmp_path: Path) -> None:
    _, result, run_dir = run(tmp_path, (ROOT / "topologies" / "icu-ward.yaml").read_text(), *BESIDE_OTHERS)
    check_main_job(result, run_dir)
    assert all(figures["quality"]["real"] is False for figures in result["workloads"].values())
    assert "generated" in (run_dir / "report.html").read_text()
    check_rebuilt_identically(run_dir)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_ward_runs_on_real_patients(tmp_path: Path, real_data: Path) -> None:
    text = (ROOT / "topologies" / "icu-ward.yaml").read_text()
    _, result, run_dir = run(tmp_path, text, "--data", str(real_data), *BESIDE_OTHERS)
    check_main_job(result, run_dir)
    sources = {name: figures["quality"]["source"] for name, figures in result["workloads"].items()}
    assert "PhysioNet" in sources["death-risk"]
    assert "eICU" in sources["decompensation"] == sources["heart-failure"]
    assert all(figures["quality"]["real"] is True for figures in result["workloads"].values())


def test_every_topology_in_the_folder_says_what_it_shows() -> None:
    for path in TOPOLOGIES:
        assert path.read_text().startswith("# "), path
        assert load(path).name == path.stem
