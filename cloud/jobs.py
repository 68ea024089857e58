"""What the trainer is asked for, and what it reports."""

from __future__ import annotations

import msgspec

from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.tasks.task import Size


class TrainJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model to train, and the files to make of it.

    name: of the workload (or whatever the caller calls it). data: None for generated data. epochs, examples: None for
    what the task holds right. targets: (runtime, quantisation) of each file; none: nothing is trained. out_dir: for the
    files. stream_dir: where `write_streams` puts the test split; None: nowhere.
    """

    name: str
    task: str
    data: str | None
    size: Size
    seed: int
    out_dir: str
    targets: tuple[tuple[str, str], ...]
    epochs: int | None = None
    examples: int | None = None
    stream_dir: str | None = None


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """An epoch of a job is done; quality is the task's metric on held-out data. None where a figure is undefined."""

    name: str
    epoch: int
    epochs: int
    loss: float | None
    quality: float | None


class TrainedFile(msgspec.Struct, frozen=True):
    """A file for one target. Its manifest's metrics are those of the file itself, on the split `valid`."""

    path: str
    manifest: Manifest


class Trained(msgspec.Struct, frozen=True, tag="trained"):
    """A job is done: its files, in the order of its targets."""

    name: str
    files: tuple[TrainedFile, ...]


class StreamInfo(msgspec.Struct, frozen=True):
    """`stream.json` beside the arrays of `write_streams`: one sample, how many there are, their origin."""

    task: str
    input: TensorSpec
    samples: int
    source: str
    real: bool
