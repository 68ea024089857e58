"""The trainer's child process, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from cloud import model_files, training
from cloud.jobs import BundleOrder, EvaluateJob, Trained, TrainJob
from cloud.trainer import Trainer, train_now
from edgebench.clock import now_s, sleep_s
from edgebench.errors import DataError, ModelError
from edgebench.fabric.slices import StreamInfo
from edgebench.federated.client_bundle import INITIAL
from edgebench.tasks.task import Dataset
from edgebench.topology.model import Iid
from tests.cloud.tiny import TASK
from tests.cloud.trained import LIGHT_TARGETS, Session, tiny_session

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def session() -> Session:
    return tiny_session()


def job(tmp_path: Path, task: str, data: str | None = None, target: tuple[str, str] = ("keras", "float32")) -> TrainJob:
    return TrainJob(
        name="w",
        task=f"tests.cloud.tiny:{task}",
        data=data,
        size="light",
        seed=0,
        out_dir=str(tmp_path),
        targets=(target,),
    )


def trainers() -> list[psutil.Process]:
    """The guard of this process's trainer and the trainer; what tests before started once for all is none."""
    return [each for each in psutil.Process().children(recursive=True) if "cloud.trainer" in each.cmdline()]


def test_each_epoch_of_each_job_is_reported(session: Session) -> None:
    assert [(p.name, p.epoch, p.epochs) for p in session.progress] == [
        ("light-job", 1, 2),
        ("light-job", 2, 2),
        ("heavy-job", 1, 1),
    ]
    assert all(p.quality is not None and 0 <= p.quality <= 1 for p in session.progress)


def test_a_job_yields_a_file_a_target_with_a_manifest_that_describes_it(session: Session) -> None:
    assert [(f.manifest.runtime, f.manifest.quantisation) for f in session.light.files] == list(LIGHT_TARGETS)
    for file in session.light.files:
        manifest = file.manifest
        assert manifest.size_bytes == Path(file.path).stat().st_size
        assert (manifest.input.dtype, manifest.input.shape, manifest.outputs) == ("float32", (8, 3), 1)
        assert (manifest.examples, manifest.seed, manifest.evaluated_on) == (100, 3, "valid")
        assert (manifest.data_source, manifest.real) == ("tiny", False)
        if manifest.runtime != "fake":
            assert manifest.parameters == (24 + 1) * 8 + (8 + 1) * 1
            assert manifest.epochs == 2
    # 300 training samples of 2 a group: all 150 groups.
    assert session.heavy.files[0].manifest.examples == 150


def test_the_metrics_of_a_file_are_near_those_of_the_model_it_was_made_of(session: Session) -> None:
    last = [p for p in session.progress if p.name == "light-job"][-1]
    assert last.quality is not None
    for runtime, quantisation in LIGHT_TARGETS[:-1]:
        metrics = session.file("light", runtime, quantisation).manifest.metrics
        assert metrics["auroc"] == pytest.approx(last.quality, abs=0.05 if quantisation == "int8" else 0.01)


def test_the_stream_files_are_the_test_split(session: Session) -> None:
    expected = tiny_data().test
    for name, array in (("x", expected.x), ("y", expected.y), ("group", expected.group)):
        kept = np.load(session.streams / f"{name}.npy", mmap_mode="r")
        np.testing.assert_array_equal(kept, array)
    info = msgspec.json.decode((session.streams / "stream.json").read_bytes(), type=StreamInfo)
    assert (info.samples, info.input.shape, info.source, info.real) == (70, (8, 3), "tiny", False)


def tiny_data() -> Dataset:
    return TASK.load(None, seed=3)


def test_a_job_without_targets_only_writes_the_streams(tmp_path: Path) -> None:
    wanted = msgspec.structs.replace(job(tmp_path, "CRASHING"), targets=(), stream_dir=str(tmp_path / "s"))
    (trained,) = train_now([wanted])
    assert trained.files == ()
    assert np.load(tmp_path / "s" / "x.npy").shape == (70, 8, 3)


def test_data_that_is_absent_is_a_data_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        train_now([job(tmp_path, "TASK", data="/nowhere")])
    assert str(caught.value) == "/nowhere: no tiny data set; leave --data out"


def test_an_exception_in_a_users_task_names_it_and_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        train_now([job(tmp_path, "FAILING")])
    message = str(caught.value)
    assert message.startswith("task 'tests.cloud.tiny:FAILING': fit failed: ValueError: cannot learn this (")
    assert re.search(r"tests/cloud/tiny\.py, line \d+\)$", message)


def test_a_job_that_has_been_evaluated_for_another_is_not_evaluated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[Path] = []
    outputs_of = model_files.outputs_of

    def noted(path: Path, *rest: Any) -> Any:
        scored.append(path)
        return outputs_of(path, *rest)

    monkeypatch.setattr(model_files, "outputs_of", noted)
    jobs = [msgspec.structs.replace(job(tmp_path, "TASK"), name=name) for name in ("one", "two")]
    with training.TrainerSession() as session:
        session.do(jobs, lambda _: None)
    assert len(scored) == len(set(scored)) > 0


def test_a_crash_of_the_training_is_a_model_error_with_its_signal_and_last_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        train_now([job(tmp_path, "CRASHING")])
    assert "signal 6, SIGABRT" in str(caught.value)
    assert "the ground gives way" in str(caught.value)


def test_a_quantisation_that_a_runtime_lacks_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="keras models are not made in int8; there is float32"):
        train_now([job(tmp_path, "CRASHING", target=("keras", "int8"))])


def test_one_child_serves_one_request_after_another_and_lowers_its_priority_when_asked(tmp_path: Path) -> None:
    async def twice() -> list[tuple[int, int]]:
        seen = []
        async with Trainer() as trainer:
            for nice in (0, 5):
                wanted = msgspec.structs.replace(job(tmp_path, "CRASHING"), targets=(), stream_dir=str(tmp_path / "s"))
                await trainer.train([wanted], nice=nice)
                *_, child = trainers()  # below its guard
                seen.append((child.pid, child.nice()))
        return seen

    before = psutil.Process().children()
    (first, own), (second, lowered) = asyncio.run(twice())
    assert first == second
    assert lowered == max(own, 5)
    assert psutil.Process().children() == before


def test_what_is_loaded_ahead_is_there_when_the_jobs_are_done_and_a_failure_ahead_is_told_by_the_job(
    tmp_path: Path,
) -> None:
    good, bad = job(tmp_path, "TASK"), job(tmp_path / "bad", "TASK", data=str(tmp_path / "nowhere"))

    async def go() -> None:
        async with Trainer() as trainer:
            await trainer.load_ahead([good], nice=0)
            *_, child = trainers()  # below its guard
            assert any("tensorflow" in each.path for each in child.memory_maps())
            await trainer.load_ahead([bad], nice=0)
            (trained,) = await trainer.train([good])
            assert trained.files
            with pytest.raises(DataError, match="nowhere"):
                await trainer.train([bad])
            assert child.is_running()

    asyncio.run(go())


def test_after_a_crash_the_next_request_gets_a_new_child(tmp_path: Path) -> None:
    async def crash_then_go_on() -> int:
        async with Trainer() as trainer:
            with pytest.raises(ModelError):
                await trainer.train([job(tmp_path, "CRASHING")])
            wanted = msgspec.structs.replace(job(tmp_path, "CRASHING"), targets=(), stream_dir=str(tmp_path / "s"))
            return len(await trainer.train([wanted]))

    assert asyncio.run(crash_then_go_on()) == 1


def test_a_child_that_died_between_two_requests_is_no_fault_of_the_next_one(tmp_path: Path) -> None:
    wanted = msgspec.structs.replace(job(tmp_path, "CRASHING"), targets=(), stream_dir=str(tmp_path / "s"))

    async def die_and_go_on() -> int:
        async with Trainer() as trainer:
            await trainer.train([wanted])
            for child in trainers():
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            await asyncio.sleep(1.0)
            return len(await trainer.train([wanted]))

    assert asyncio.run(die_and_go_on()) == 1


def test_a_federated_rounds_model_is_evaluated_by_a_child_that_has_not_made_it(tmp_path: Path) -> None:
    order = BundleOrder(runtime="keras", batch_size=8, partition=Iid(), clients=2, out_dir=str(tmp_path / "bundle"))
    of = msgspec.structs.replace(job(tmp_path, "TASK"), task="occupancy", epochs=1, bundle=order)

    async def evaluated() -> Trained:
        async with Trainer() as trainer:
            (learned,) = await trainer.train([of])
            await trainer.close()
            assert learned.model is not None
            weights = str(tmp_path / "bundle" / INITIAL)
            wanted = EvaluateJob(
                name="w", of=of, model=learned.model, number=1, weights=weights, targets=(), out_dir=str(tmp_path)
            )
            (found,) = await trainer.train([wanted])
            await trainer.close()
            gone = msgspec.structs.replace(wanted, model="/gone.keras")
            with pytest.raises(ModelError, match=r"^/gone\.keras: the model that federated rounds learn on is gone$"):
                await trainer.train([gone])
            return found

    assert asyncio.run(evaluated()).metrics["auroc"] > 0.5


def test_cancelling_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("TINY_PID_FILE", str(pid_file))

    async def cancelled() -> None:
        async with Trainer() as trainer:
            training = asyncio.create_task(trainer.train([job(tmp_path, "SLOW")]))
            while not pid_file.exists() or not pid_file.read_text():
                assert not training.done(), training.result()
                await asyncio.sleep(0.02)
            training.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await training
            assert not psutil.pid_exists(int(pid_file.read_text()))

    asyncio.run(cancelled())
    assert not psutil.pid_exists(int(pid_file.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own watch over orphans is Linux's")
def test_the_child_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", _SLOW_PARENT, str(tmp_path)],
        env={**os.environ, "TINY_PID_FILE": str(pid_file), "PYTHONPATH": str(ROOT)},
    )
    try:
        _until(lambda: pid_file.exists() and pid_file.read_text() != "")
        trainer = psutil.Process(int(pid_file.read_text()))
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    gone, alive = psutil.wait_procs([trainer], timeout=10)
    assert not alive
    assert gone


_SLOW_PARENT = """
import sys
from pathlib import Path
from cloud.trainer import train_now
from tests.cloud.test_trainer import job
train_now([job(Path(sys.argv[1]), "SLOW")])
"""


def _until(condition: object, within_s: float = 60.0) -> None:
    assert callable(condition)
    end_s = now_s() + within_s
    while not condition():
        assert now_s() < end_s, "it did not happen"
        sleep_s(0.02)
