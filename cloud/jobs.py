"""What the trainer is asked for, and what it reports."""

from __future__ import annotations

import msgspec

from edgebench.fabric.records import Calibration, Cut
from edgebench.federated.client_bundle import BundleInfo
from edgebench.inference.spec import Manifest
from edgebench.tasks.task import Size
from edgebench.topology.model import Partition, Split


class BundleOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What federated clients need to learn a job's model on: see `cloud.client_bundles`. out_dir: where it is to be
    put."""

    runtime: str
    batch_size: int
    partition: Partition
    clients: int
    out_dir: str


class CascadeOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The larger model of a cascade, and how good the two together are to be (None: nearly as good as it alone)."""

    size: Size
    target: tuple[str, str]
    target_quality: float | None


class SplitOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model is to be cut in two, and for `auto` what is known of where its parts will run.

    speeds_known: whether anything tells how fast the nodes are that will have them; else nothing is predicted.
    first_ms, second_ms: what the whole model takes for one sample where the first part will be, and the second; None:
    as long as where it is made. latency_ms, mbit_s: of the way between the two (None: without a limit).
    """

    after: Split
    speeds_known: bool = True
    first_ms: float | None = None
    second_ms: float | None = None
    latency_ms: float = 0.0
    mbit_s: float | None = None


class HeadOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model before a job's own, which learns from what that gives. target, epochs, examples: as in `TrainJob`."""

    task: str
    size: Size
    target: tuple[str, str]
    epochs: int | None = None
    examples: int | None = None


class TrainJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="train"):
    """One model to train, and the files to make of it.

    name: of the workload (or whatever the caller calls it). data: None for generated data. epochs, examples: None for
    what the task holds right. targets: (runtime, quantisation) of each file; none: nothing is trained. out_dir: for the
    files. stream_dir: where `write_streams` puts the test split; None: nowhere. compressed: samples are to travel as
    pictures, so they have to be some. cascade: train a larger model too, of which there is one more file. split: cut
    the model in two, of which there is a file each instead of that of the whole, for a single target. head: train a
    model before it, of which there is a first file. bundle: the model is to be learned on by federated clients;
    `EvaluateJob`s will follow.
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
    compressed: bool = False
    cascade: CascadeOrder | None = None
    split: SplitOrder | None = None
    head: HeadOrder | None = None
    bundle: BundleOrder | None = None


class EvaluateJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="evaluate"):
    """A federated round's model to be evaluated: the model of an earlier job with the weights of a parcel file.

    of, model: that job, and its `Trained.model`; the trainer's process may be another one since. number: of the round.
    targets: as in `TrainJob`; none: it is evaluated only.
    """

    name: str
    of: TrainJob
    model: str
    number: int
    weights: str
    targets: tuple[tuple[str, str], ...]
    out_dir: str


class EpochDone(msgspec.Struct, frozen=True, tag="progress"):
    """An epoch of a job is done; quality is the task's metric on held-out data. None where a figure is undefined."""

    name: str
    epoch: int
    epochs: int
    loss: float | None
    quality: float | None


class TrainedFile(msgspec.Struct, frozen=True):
    """A file for one target. Its manifest's metrics are those of the file itself, on the split `valid`.

    picture: a PNG file of what the model can draw, where it draws.
    """

    path: str
    manifest: Manifest
    picture: str | None = None


class Trained(msgspec.Struct, frozen=True, tag="trained"):
    """A job is done: its files, in the order of its targets, and that of its cascade's larger model; or those of both
    stages of a chain. cut: where that was cut in two, of `places`; considered: as in `Chained`.

    metrics: of a `EvaluateJob`'s model, on the split `valid`. model: the `.keras` file that federated clients learn on.
    """

    name: str
    files: tuple[TrainedFile, ...]
    bundle: BundleInfo | None = None
    calibration: Calibration | None = None
    cut: Cut | None = None
    places: int = 0
    considered: tuple[Cut, ...] = ()
    metrics: dict[str, float] = {}
    model: str | None = None
