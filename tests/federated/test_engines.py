"""Flower's own engines: whatever runs a deterministic app, the same model comes out, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.federated.content import Arrays, Head, arrays_in, pack, read_parcel, write_parcel
from edgebench.federated.flower.apps import ClientRunner, client_app, load_app, run_server_app
from edgebench.federated.flower.built_in import run_built_in
from edgebench.federated.flower.engine_job import EngineJob, EngineNodes
from edgebench.federated.flower.events import Learned, MetricsSeen, RoundSeen
from edgebench.federated.flower.grid import LocalGrid
from edgebench.federated.flower.observed import ObservedGrid
from edgebench.topology.model import Federated
from tests.federated.flower_nodes import adding_node, weights

ROOT = Path(__file__).parents[2]
NUMPY_APP = ROOT / "examples" / "flower-numpy"
CLIENTS = 3
SEED = 11
STEP = 0.1

ENGINES = ["ray", "superlink"]

pytestmark = pytest.mark.timeout(600)


def started(engine: str, job: EngineJob, directory: Path, **environment: str) -> subprocess.Popen[bytes]:
    path = directory / "job.json"
    path.write_bytes(msgspec.json.encode(job))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.federated.engine_run", engine, str(path), str(directory)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(engine: str, job: EngineJob, directory: Path) -> list[RoundSeen]:
    with started(engine, job, directory) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output.decode()
    return msgspec.json.decode((directory / "rounds.json").read_bytes(), type=list[RoundSeen])


def course(rounds: list[RoundSeen]) -> list[tuple[Any, ...]]:
    """What does not depend on the engine."""
    return [
        (seen.round, seen.kind, seen.skipped, [(each.node, each.error, each.examples) for each in seen.outcomes])
        for seen in rounds
    ]


@pytest.mark.long  # tests/system/test_federated_app.py has an app on either engine, by a whole run
@pytest.mark.parametrize("engine", ENGINES)
def test_any_app_ends_with_the_model_that_it_has_in_one_process(engine: str, tmp_path: Path) -> None:
    there, here = tmp_path / "there.npy", tmp_path / "here.npy"
    app = load_app(NUMPY_APP).configured({"num-server-rounds": 2, "fraction-train": 0.67, "save-to": str(there)})
    rounds = run(engine, EngineJob(clients=CLIENTS, seed=SEED, deadline_s=60, app=app), tmp_path)

    app = app.configured({"save-to": str(here)})
    runners = [
        ClientRunner(client_app(app), run_id=1, node_id=node, clients=CLIENTS, run_config=app.run_config, seed=SEED)
        for node in range(1, CLIENTS + 1)
    ]
    expected: list[RoundSeen] = []
    metrics: list[MetricsSeen] = []
    nodes = LocalGrid([runner.reply for runner in runners], run_id=1)
    grid = ObservedGrid(nodes, seed=SEED, deadline_s=60, on_round=expected.append, on_metrics=metrics.append)
    run_server_app(app, grid)

    assert np.load(there).tobytes() == np.load(here).tobytes()
    assert course(rounds) == course(expected)
    assert [(seen.kind, seen.round) for seen in metrics] == [
        (kind, n) for n in (1, 2) for kind in ("train", "evaluate")
    ]
    assert (tmp_path / "metrics.json").read_bytes() == msgspec.json.encode(metrics)
    assert [len(seen.outcomes) for seen in rounds] == [2, 3, 2, 3]
    for outcome in rounds[0].outcomes:
        assert outcome.stamps.started_ns is not None
        assert outcome.stamps.finished_ns is not None


@pytest.mark.long  # what is ours about engines, the tests below have on a SuperLink
@pytest.mark.parametrize("engine", ENGINES)
def test_the_built_in_app_ends_with_the_model_that_it_has_in_one_process(engine: str, tmp_path: Path) -> None:
    how = Federated(workload="w", rounds=2)
    first = tmp_path / "first.ebf"
    write_parcel(first, pack(Head(message_id="first", kind="model"), {"arrays": Arrays(weights(a=1.0, b=-1.0))}))
    nodes = EngineNodes("tests.federated.flower_nodes:adding_node", {"step": STEP})
    job = EngineJob(clients=CLIENTS, seed=SEED, deadline_s=60, how=how, initial=str(first), nodes=nodes)
    rounds = run(engine, job, tmp_path)

    local = [adding_node(node, CLIENTS, {"step": STEP}) for node in range(1, CLIENTS + 1)]
    expected: list[RoundSeen] = []
    grid = ObservedGrid(LocalGrid(local, run_id=1), seed=SEED, deadline_s=60, on_round=expected.append)
    models: list[Learned] = []
    run_built_in(grid, how, weights(a=1.0, b=-1.0), seed=SEED, on_model=models.append)

    there = arrays_in(read_parcel(tmp_path / "model.ebf").content)
    assert {name: bytes(array.data) for name, array in there.items()} == {
        name: bytes(array.data) for name, array in models[-1].arrays.items()
    }
    assert course(rounds) == course(expected)


def test_nothing_of_a_superlink_outlives_whoever_has_started_it_but_what_an_app_has_printed(tmp_path: Path) -> None:
    copy = shutil.copytree(NUMPY_APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    told = copy / "flower_numpy" / "client_app.py"
    said = 'import os; print("learning in", os.getcwd(), *map(os.getenv, ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")))'
    told.write_text(told.read_text().replace("    x, y", f"    {said}\n    x, y"))
    app = load_app(tmp_path / "app").configured({"num-server-rounds": 1000})
    job = EngineJob(clients=2, seed=SEED, deadline_s=60, app=app, files_dir=str(tmp_path / "files"))
    environment = {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "0"}
    with started("superlink", job, tmp_path, **environment) as process, ExitStack() as stack:
        stack.callback(process.kill)  # else a test that fails waits for all the rounds
        until_s = now_s() + 400
        while not (tmp_path / "rounds.json").exists():
            assert process.poll() is None
            assert now_s() < until_s
            sleep_s(0.2)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    assert len(family) >= 4
    assert "Starting FedAvg strategy" in (tmp_path / "logs" / "serverapp.log").read_text()
    for client in ("client-0", "client-1"):
        # Each in a folder of its own, and told as on an agent that it has one thread and no GPU.
        said = f"learning in {tmp_path / 'files' / client} 1 -1\n"
        assert said in (tmp_path / "logs" / f"clientapp-{client[-1]}.log").read_text()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_an_app_that_fails_on_a_superlink_says_why(tmp_path: Path) -> None:
    from edgebench.federated.flower.superlink import run_on_superlink
    from tests.federated.engine_run import Keeping

    app = load_app(NUMPY_APP)
    broken = msgspec.structs.replace(app, server_ref="flower_numpy.server_app:nothing")
    job = EngineJob(clients=1, seed=SEED, deadline_s=60, app=broken)
    with pytest.raises(EdgebenchError, match="has no attribute 'nothing'"):
        run_on_superlink(job, Keeping(tmp_path), log_dir=tmp_path / "logs")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be held for another process")
def test_the_ports_of_a_superlink_are_nobody_elses_until_it_binds_to_them() -> None:
    from edgebench.federated.flower.superlink import _held_ports

    with _held_ports(3) as ports:
        assert len(set(ports)) == 3
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
