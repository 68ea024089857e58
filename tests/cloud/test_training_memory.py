"""What was trained is remembered: told by what it depends on, whole or not at all, and not for ever."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from cloud.jobs import BundleOrder, Trained, TrainedFile, TrainJob
from cloud.training_key import Ingredients, ingredients_of
from cloud.training_memory import TrainingMemory
from edgebench.fabric.digests import digest_of
from edgebench.fabric.records import TrainedWhen
from edgebench.federated.client_bundle import BundleInfo
from edgebench.topology.model import Iid
from tests.manifests import manifest

WHEN = TrainedWhen("20261128T100000Z-small", "2026-11-28T10:07:09Z")


def job_in(work: Path, name: str = "risk", **changes: object) -> TrainJob:
    bundle = BundleOrder(runtime="litert", batch_size=8, partition=Iid(), clients=2, out_dir=str(work / "bundle"))
    job = TrainJob(
        name=name,
        task="icu-death",
        data=None,
        size="light",
        seed=3,
        out_dir=str(work / "training-1"),
        targets=(("litert", "dynamic"),),
        stream_dir=str(work / "stream"),
        bundle=bundle,
    )
    return msgspec.structs.replace(job, **changes)


def ingredients(job: TrainJob) -> Ingredients:
    found = ingredients_of(job)
    assert found is not None
    return found


def done(job: TrainJob, content: bytes = b"weights") -> Trained:
    """What a trainer would leave behind and report, of which one file is in the folder of another job."""
    assert job.stream_dir is not None
    assert job.bundle is not None
    files = {
        "model": Path(job.out_dir).parent / "training-0" / "model.dynamic.tflite",
        "keras": Path(job.out_dir) / "model.keras",
        "x": Path(job.stream_dir) / "x.npy",
        "step": Path(job.bundle.out_dir) / "step.tflite",
    }
    for name, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + name.encode())
    described = msgspec.structs.replace(
        manifest(), digest=digest_of(files["model"]), size_bytes=files["model"].stat().st_size
    )
    info = BundleInfo("icu-death", "binary_crossentropy", "litert", ("step.tflite",), (3, 4), (1, 2))
    return Trained(job.name, (TrainedFile(str(files["model"]), described),), bundle=info, model=str(files["keras"]))


@dataclass
class Kept:
    memory: TrainingMemory
    root: Path
    job: TrainJob
    trained: Trained

    @property
    def folder(self) -> Path:
        return self.root / ingredients(self.job).key


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    memory, job = TrainingMemory(tmp_path / "cache"), job_in(tmp_path / "first")
    trained = done(job)
    memory.keep(job, ingredients(job), trained, WHEN)
    return Kept(memory, tmp_path / "cache", job, trained)


def test_a_job_of_another_name_in_other_folders_is_given_all_files_of_the_same_training(
    kept: Kept, tmp_path: Path
) -> None:
    again = job_in(tmp_path / "second", name="danger")
    found = kept.memory.recall(again, ingredients(again))
    assert found is not None
    assert (found.when, found.trained.name) == (WHEN, "danger")
    (file,) = found.trained.files
    assert Path(file.path).is_relative_to(again.out_dir)
    assert Path(file.path).read_bytes() == b"weightsmodel"
    assert file.manifest == kept.trained.files[0].manifest
    assert found.trained.bundle == kept.trained.bundle
    assert found.trained.model is not None
    assert Path(found.trained.model).name == "model.keras"
    assert (tmp_path / "second" / "stream" / "x.npy").read_bytes() == b"weightsx"
    assert (tmp_path / "second" / "bundle" / "step.tflite").read_bytes() == b"weightsstep"


@pytest.mark.parametrize(
    "changes",
    [{"seed": 4}, {"task": "icu-decompensation"}, {"size": "heavy"}, {"epochs": 1}, {"examples": 9}, {"bundle": None},
     {"targets": (("litert", "int8"),)}, {"compressed": True}, {"stream_dir": None}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_whatever_a_training_depends_on_makes_it_another_one(kept: Kept, changes: dict[str, object]) -> None:
    other = msgspec.structs.replace(kept.job, **changes)
    assert kept.memory.recall(other, ingredients(other)) is None


def test_other_libraries_and_other_code_make_it_another_training(kept: Kept) -> None:
    made_of = ingredients(kept.job)
    assert {"keras", "numpy", "tensorflow"} <= made_of.libraries.keys()
    for changed in (
        msgspec.structs.replace(made_of, libraries={**made_of.libraries, "keras": "0"}),
        msgspec.structs.replace(made_of, code=("0",)),
        msgspec.structs.replace(made_of, data="0"),
    ):
        assert kept.memory.recall(kept.job, changed) is None


@pytest.mark.parametrize("part", ["entry.json", "stream/x.npy", "bundle/step.tflite"])
def test_a_damaged_entry_is_told_and_goes(kept: Kept, tmp_path: Path, part: str) -> None:
    damaged = kept.folder / part
    content = damaged.read_bytes()
    damaged.unlink()  # the run's own file is the same one
    damaged.write_bytes(b"?" + content[1:])
    again = job_in(tmp_path / "second")
    assert kept.memory.recall(again, ingredients(again)) is None
    assert not kept.folder.exists()


def test_an_entry_that_lacks_a_file_is_told_and_goes_and_nothing_of_it_is_left_to_be_written_into(
    kept: Kept, tmp_path: Path
) -> None:
    (kept.folder / "stream" / "x.npy").unlink()
    again = job_in(tmp_path / "second")
    assert kept.memory.recall(again, ingredients(again)) is None
    assert not kept.folder.exists()
    assert [path for path in (tmp_path / "second").rglob("*") if path.is_file()] == []


def test_what_an_entry_says_never_leads_out_of_a_jobs_folders(kept: Kept, tmp_path: Path) -> None:
    entry = kept.folder / "entry.json"
    entry.write_bytes(entry.read_bytes().replace(b"stream/x.npy", b"stream/../../x.npy"))
    assert kept.memory.recall(kept.job, ingredients(kept.job)) is None


def test_what_is_trained_again_takes_the_place_of_what_was_remembered(kept: Kept, tmp_path: Path) -> None:
    job = job_in(tmp_path / "second")
    kept.memory.keep(job, ingredients(job), done(job, b"better"), TrainedWhen("another run", "2026-11-28T11:00:00Z"))
    found = kept.memory.recall(kept.job, ingredients(kept.job))
    assert found is not None
    assert found.when.run_id == "another run"
    assert Path(found.trained.files[0].path).read_bytes() == b"bettermodel"
    assert [path.name for path in kept.root.iterdir()] == [kept.folder.name]


def test_what_was_used_longest_ago_goes_when_the_cache_is_full(tmp_path: Path) -> None:
    memory = TrainingMemory(tmp_path / "cache", limit_bytes=100)
    jobs = [job_in(tmp_path / str(seed), seed=seed) for seed in range(3)]
    for age_s, job in zip((20, 30, 0), jobs, strict=True):
        trained = done(job)  # of 43 bytes
        memory.keep(job, ingredients(job), trained, WHEN)
        at_s = (tmp_path / "cache").stat().st_mtime - age_s
        os.utime(tmp_path / "cache" / ingredients(job).key, (at_s, at_s))
    last = job_in(tmp_path / "last", seed=2)
    assert [memory.recall(job, ingredients(job)) is not None for job in jobs[:2]] == [True, False]
    assert memory.recall(last, ingredients(last)) is not None


def test_a_cache_that_cannot_be_written_harms_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_bytes(b"")
    job = job_in(tmp_path)
    TrainingMemory(tmp_path / "cache").keep(job, ingredients(job), done(job), WHEN)
    assert "risk: not remembered" in caplog.text
    assert TrainingMemory(tmp_path / "cache").recall(job, ingredients(job)) is None


def test_data_is_told_by_its_files_behind_links_too(tmp_path: Path) -> None:
    real, data = tmp_path / "real", tmp_path / "data"
    real.mkdir()
    data.mkdir()
    (data / "set").symlink_to(real)
    (real / "loop").symlink_to(data)
    job = job_in(tmp_path, data=str(data))
    keys = [ingredients(job).key]
    (real / "Outcomes-a.txt").write_text("RecordID\n")
    keys.append(ingredients(job).key)
    os.utime(real / "Outcomes-a.txt", (1, 1))
    keys.append(ingredients(job).key)
    assert len(set(keys)) == 3


def test_a_users_task_is_told_by_the_python_files_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "ward_task.py").write_text("from tests.cloud.tiny import TASK\n")
    (own / "shape.py").write_text("WIDTH = 8\n")
    (own / "runs").mkdir()
    monkeypatch.syspath_prepend(str(own))
    job = job_in(tmp_path, task="ward_task:TASK")
    before = ingredients(job)
    (own / "runs" / "result.json").write_text("{}")
    assert ingredients(job) == before
    (own / "shape.py").write_text("WIDTH = 9\n")
    assert ingredients(job).key != before.key
    assert "pytest" in {name.lower() for name in before.libraries}
    del sys.modules["ward_task"]
