"""Training is remembered: a second run of a topology streams without it, federated rounds included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.system.running import faults_of, run

pytestmark = pytest.mark.timeout(900)

LEARNING = """\
schema: 1
name: learning
seed: 3
duration_s: 3
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 2, parent: ward}
workloads:
  watch: {task: "tests.cloud.tiny:LEARNABLE", source: bed, load: {kind: fixed, rate_hz: 5}}
federated:
  - {workload: watch, rounds: 1, interval_s: 0, deadline_s: 60}
"""


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))


def model_of(result: dict[str, Any]) -> dict[str, Any]:
    """The one that the run began with."""
    found: dict[str, Any] = result["workloads"]["watch"]["models"][0]
    assert found["origin"] == "trained before the streams began"
    return found


@pytest.mark.usefixtures("patience")
def test_a_second_run_remembers_what_the_first_has_trained_and_goes_on_learning(tmp_path: Path) -> None:
    _, first, first_dir = run(tmp_path, LEARNING)
    _, second, second_dir = run(tmp_path, LEARNING)
    assert (faults_of(first), faults_of(second)) == ([], [])
    trained, remembered = model_of(first), model_of(second)
    assert (trained["trained"], trained["trained_in"]) == ("this run", first_dir.name)
    assert (remembered["trained"], remembered["trained_in"]) == ("remembered", first_dir.name)
    assert remembered["trained_at"] == trained["trained_at"]
    assert remembered["digest"] == trained["digest"]
    # Its rounds are evaluated on the model that was remembered, by a trainer that has not trained it.
    (round_,) = second["federated"]["watch"]["rounds"]
    assert round_["quality"] is not None
    assert first_dir.name in (second_dir / "report.html").read_text()


@pytest.mark.long
@pytest.mark.usefixtures("patience")
def test_retrain_trains_whatever_is_remembered(tmp_path: Path) -> None:
    text = LEARNING.partition("federated:")[0]
    run(tmp_path, text)
    _, again, again_dir = run(tmp_path, text, "--retrain")
    assert faults_of(again) == []
    assert (model_of(again)["trained"], model_of(again)["trained_in"]) == ("this run", again_dir.name)
