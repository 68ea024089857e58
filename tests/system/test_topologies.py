"""The topologies of the scenarios run: shorter, and with less training, than a user would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgebench.topology import load
from tests.conftest import ROOT
from tests.system.running import faults_of, run

# Several models are trained for some of them.
pytestmark = pytest.mark.timeout(700)

FOLDER = ROOT / "topologies"
RUN_ELSEWHERE = {"icu-ward", "icu-federated"}
SHORTER = {
    "icu-hospital": ["--duration-s", "6"],
    "surveillance": ["--duration-s", "4"],
    # Its tasks are the city's, but for occupancy, of which tests/benchmarks/test_inference.py trains and runs a model.
    "smart-home": ["--duration-s", "8"],
    "vehicle": ["--duration-s", "6", "--set", "moves[0].at_s=3"],
    "city": ["--duration-s", "6"],
}


def test_every_topology_is_run_by_some_test() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == RUN_ELSEWHERE | SHORTER.keys()


LONG = {"smart-home", "vehicle"}
"""Joint decisions and moves, tests/system/test_joint.py and test_moves.py have by smaller runs."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in SHORTER]
)
def test_a_scenario_runs_and_loses_nothing(name: str, tmp_path: Path) -> None:
    file = FOLDER / f"{name}.yaml"
    less = [
        word
        for each in load(file).workloads
        for word in ("--set", f"workloads.{each}.train={{epochs: 1, examples: 300}}")
    ]
    _, result, run_dir = run(tmp_path, file.read_text(), *less, *SHORTER[name])
    assert faults_of(result) == []
    for figures in result["workloads"].values():
        assert figures["scheduled"] > 0
        assert figures["decided"] == figures["scheduled"]
        assert figures["quality"]["value"] is not None or figures["quality"]["n"] < 30
    report = (run_dir / "report.html").read_text()
    assert "<h1>" in report
    if name in SCENES:
        SCENES[name](result, report)


def _surveillance(result: dict[str, Any], report: str) -> None:
    figures = result["workloads"]
    sizes = [figures[f"people-{how}"]["sample_bytes"] for how in ("raw", "q90", "q50", "q10")]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.2 * sizes[0]
    # What is compressed costs the device and the edge time.
    assert figures["people-q90"]["hops_ms"]["decode"]["p50"] > figures["people-raw"]["hops_ms"]["decode"]["p50"]

    # What DG-Net, which decides in the cloud, makes of people.
    assert (
        figures["people-cloud"]["hops_ms"]["backhaul_up"]["p50"]
        > 0
        == figures["people-q90"]["hops_ms"]["backhaul_up"]["p50"]
    )
    assert report.count('<img src="data:image/png;base64,') == 1


def _vehicle(result: dict[str, Any], _report: str) -> None:
    driving = result["joint"]["driving"]
    assert driving["decided"] == driving["frames"] > 0
    assert driving["latency_ms"]["mean"] < driving["parts_ms"]
    assert driving["right"] is not None
    (handover,) = result["handovers"]
    assert (handover["to"], handover["lost"]) == ("road-1", 0)


def _city(result: dict[str, Any], _report: str) -> None:
    cascade = result["workloads"]["signs"]["cascade"]
    signs = result["workloads"]["signs"]
    assert cascade["forwarded"] == round(cascade["share"] * signs["decided"])
    # Each is decided by one of the two, and what the edge keeps does not cross the uplink.
    assert (cascade["edge_latency_ms"] is None) == (cascade["forwarded"] == signs["decided"])
    assert (cascade["cloud_latency_ms"] is None) == (cascade["forwarded"] == 0)
    assert (cascade["kept_bytes"] > 0) == (cascade["forwarded"] < signs["decided"])


SCENES = {"surveillance": _surveillance, "vehicle": _vehicle, "city": _city}
