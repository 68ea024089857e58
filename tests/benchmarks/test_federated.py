from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.federated import growth_exponent
from benchmarks.federated_bench import Bench
from edgebench.federated.partition import partition
from edgebench.tasks import task_named
from edgebench.topology.model import Iid
from tests.benchmarks.marks import check_marks

ROOT = Path(__file__).resolve().parents[2]


def test_an_app_without_a_network_and_its_bytes_alone_are_timed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    run = bench.app_alone("app", 1000, 3, clients=2)
    assert len(run.rounds_s) == 2
    assert run.round_s > 0
    assert bench.bytes_alone(200_000, 3, clients=2) > 0


@pytest.mark.timeout(300)
def test_the_part_of_the_large_model_prints_every_figure_that_the_docstring_names() -> None:
    command = [sys.executable, "benchmarks/federated.py", "--quick", "--json", "--anyway", "--part", "large"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    check_marks(figures, watched=1)
    found = figures["large"]
    assert found["model_mb"] == 4.0
    assert found["link_s"] == pytest.approx(4.0 * 8 / 400)
    assert found["down_s"] > 0
    assert found["up_s"] > 0
    assert found["round_s"] > found["down_s"]
    parts = {"cloud", "relay", "edge", "agent", "learner", "federation"}
    assert set(found["peak_rss_mb"]) == set(found["growth_mb"]) == parts


def test_growth_is_the_exponent_of_a_power_of_the_clients() -> None:
    assert growth_exponent({4: 0.2, 16: 0.8, 64: 3.2}) == pytest.approx(1.0)
    assert growth_exponent({4: 1.0, 16: 2.0}) == pytest.approx(0.5)


def test_each_client_of_the_scale_has_96_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    task = task_named("federated_task:CLIENTS_3")
    assert task.name == "federated_task:CLIENTS_3"
    train = task.load(None, seed=1).train
    assert train.x.shape == (3 * 96, 48, 76)
    assert [len(part) for part in partition(train, Iid(), 3, seed=1)] == [96, 96, 96]
