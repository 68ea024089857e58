"""What a training depends on, as one digest: two jobs with the same key give the same files."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from cloud.jobs import TrainJob
from edgebench.errors import home_of
from edgebench.tasks import task_named

_FORMAT = 1
"""Of what is kept under a key; another one is another key."""
_OURS = Path(__file__).resolve().parent.parent
_TRAINING = (
    "cloud",
    *(f"edgebench/{part}" for part in ("core", "fabric", "federated", "inference", "tasks", "topology")),
)
"""Whose code a training runs, or may run: all that stands below the cloud, and the leaves beside it."""
_LIBRARIES = (
    *("ai-edge-litert", "av", "flatbuffers", "keras", "numpy", "onnx", "onnxruntime", "onnxscript", "pillow"),
    *("scikit-learn", "scipy", "soundfile", "tensorflow", "tflite-runtime", "torch"),
)
_MOST_FILES = 20_000


class Ingredients(msgspec.Struct, frozen=True):
    """What a key is made of. job: without where its files go. data: of the files of the data set; none: generated.
    code: of this project's training, and, where the task is a user's own, of the files around it."""

    format: int
    job: TrainJob
    data: str | None
    code: tuple[str, ...]
    libraries: dict[str, str]
    machine: tuple[str, ...]

    @property
    def key(self) -> str:
        """SHA-256, hex."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


def ingredients_of(job: TrainJob) -> Ingredients | None:
    """What a job's files depend on; None where not all of it can be looked at.

    Raises EdgebenchError where there is no such task.
    """
    tasks = (job.task,) if job.head is None else (job.task, job.head.task)
    folders = () if job.data is None else dict.fromkeys(_data_folder(task, Path(job.data)) for task in tasks)
    own = []
    for task in tasks:
        if ":" in task:
            code = _own_code(task)
            if code is None:
                return None
            own.append(code)
    return Ingredients(
        format=_FORMAT,
        job=_without_places(job),
        data="+".join(map(_files_digest, folders)) or None,
        code=(_our_code(), *own),
        libraries=_all_installed() if own else _libraries(),
        machine=(platform.system(), platform.machine(), platform.python_version()),
    )


def _without_places(job: TrainJob) -> TrainJob:
    return msgspec.structs.replace(
        job,
        name="",
        out_dir="",
        stream_dir=None if job.stream_dir is None else "",
        bundle=None if job.bundle is None else msgspec.structs.replace(job.bundle, out_dir=""),
    )


def _data_folder(task: str, data: Path) -> Path:
    """Where a built-in task finds its data set; a user's own may read all there is."""
    if ":" in task or not data.is_dir():
        return data
    found = (source.find(data) for source in task_named(task).sources())
    return next((folder for folder in found if folder is not None), data)


def _files_digest(folder: Path) -> str:
    """Of names, sizes and times of change, since data sets are large."""
    digest = hashlib.sha256(str(folder).encode())
    for path in sorted(_files(folder)):
        try:
            found = path.stat()
        except OSError:  # a link to nothing
            continue
        digest.update(f"\n{path}\x1f{found.st_size}\x1f{found.st_mtime_ns}".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """All files below, those behind links included, each folder once."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        found = Path(place).stat()
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        yield from (Path(place, name) for name in names)


@cache
def _our_code() -> str:
    folders = [path for part in _TRAINING for path in (_OURS / part).rglob("*.py")]
    leaves = [path for path in (_OURS / "edgebench").glob("*.py") if path.stem not in ("api", "cli")]
    return _digest_of([*folders, *leaves], _OURS)


def _own_code(task: str) -> str | None:
    """Of all Python files in the folder of a user's task; None where that is no folder of its own, but half a disk."""
    task_named(task)  # which says what is wrong with it
    home = home_of(sys.modules[task.partition(":")[0]])
    if home is None:
        return None
    files = [home] if home.is_file() else _python_files(home)
    return None if files is None else _digest_of(files, home.parent)


def _python_files(home: Path) -> list[Path] | None:
    files: list[Path] = []
    looked_at = 0
    for place, folders, names in os.walk(home):
        looked_at += len(names)
        if looked_at > _MOST_FILES:
            return None
        if "pyvenv.cfg" in names:  # what is installed there is told by its version
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        files += (Path(place, name) for name in names if name.endswith(".py"))
    return files


def _digest_of(files: Sequence[Path], below: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(below)}\x1f{len(content)}\x1f".encode() + content)
    return digest.hexdigest()


@cache
def _libraries() -> dict[str, str]:
    """Version by name, of those that are installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _all_installed() -> dict[str, str]:
    """What a user's task may use is not known, so it is everything. By the names of folders: to read all of the
    descriptions takes long."""
    marks = (mark for place in map(Path, sys.path) if place.is_dir() for mark in place.glob("*.dist-info"))
    return dict(sorted((name, number) for name, _, number in (mark.stem.rpartition("-") for mark in marks)))
