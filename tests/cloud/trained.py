"""The tiny task's models, trained and exported once for all tests of a session."""

from __future__ import annotations

import fcntl
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from cloud.jobs import EpochDone, Trained, TrainedFile, TrainJob
from cloud.trainer import train_now
from tests.cloud.tiny import NAME

LIGHT_TARGETS = (
    ("litert", "float32"),
    ("litert", "float16"),
    ("litert", "dynamic"),
    ("litert", "int8"),
    ("keras", "float32"),
    ("fake", "float32"),
)
HEAVY_TARGETS = (("litert", "float32"), ("litert", "dynamic"), ("keras", "float32"))


class Session(NamedTuple):
    """What one run of the trainer with two jobs brought."""

    progress: tuple[EpochDone, ...]
    light: Trained
    heavy: Trained
    folder: str

    @property
    def streams(self) -> Path:
        return Path(self.folder) / "streams"

    def file(self, size: str, runtime: str, quantisation: str) -> TrainedFile:
        trained = self.light if size == "light" else self.heavy
        wanted = (runtime, quantisation)
        return next(f for f in trained.files if (f.manifest.runtime, f.manifest.quantisation) == wanted)


@cache
def tiny_session() -> Session:
    """Trains on the first call of all workers of a test run."""
    shared = Path(os.environ["EDGEBENCH_CACHE"])
    shared.mkdir(parents=True, exist_ok=True)
    kept = shared / "tiny-session.json"
    with (shared / "tiny-session.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(msgspec.json.encode(_trained(shared / "tiny-session")))
    return msgspec.json.decode(kept.read_bytes(), type=Session)


def _trained(folder: Path) -> Session:
    progress: list[EpochDone] = []
    light, heavy = train_now(
        [
            TrainJob(
                name="light-job",
                task=NAME,
                data=None,
                size="light",
                seed=3,
                epochs=2,
                examples=100,
                out_dir=str(folder / "light"),
                targets=LIGHT_TARGETS,
                stream_dir=str(folder / "streams"),
            ),
            TrainJob(
                name="heavy-job",
                task=NAME,
                data=None,
                size="heavy",
                seed=3,
                epochs=1,
                out_dir=str(folder / "heavy"),
                targets=HEAVY_TARGETS,
            ),
        ],
        on_progress=progress.append,
    )
    return Session(tuple(progress), light, heavy, str(folder))
