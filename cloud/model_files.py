"""A trained model as files: one for each runtime and quantisation it is wanted for, described and evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.export import BATCHES, REPRESENTATIVE_SAMPLES, Conversion, Converter, check_quantisation
from cloud.jobs import TrainedFile, TrainJob
from edgebench.errors import ModelError
from edgebench.fabric.digests import digest_of
from edgebench.inference.fake import FakeModel
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest
from edgebench.seeds import rng_for
from edgebench.tasks.task import Dataset, Split, Task


@dataclass(frozen=True)
class Fitted:
    """A freshly trained model, saved in `file`: a `.keras` one, or an `.onnx` one of a torch module.

    parameters: 0 where the targets need no model (fake ones).
    picture: a PNG file of what it can draw, where it draws. scores: of its files, by path; its jobs share them.
    """

    job: TrainJob
    task: Task
    dataset: Dataset
    file: Path
    parameters: int
    outputs: int
    epochs: int
    train_s: float
    picture: Path | None = None
    scores: dict[Path, dict[str, float]] = field(default_factory=dict)

    @property
    def native(self) -> str:
        """The runtime that runs `file` as it is."""
        return "onnx" if self.file.suffix == ".onnx" else "keras"

    @property
    def metrics(self) -> dict[str, float]:
        """Of `file` as it is, on the split `valid`; those that are defined."""
        return _scored(self, _manifest_of(self, self.file, self.native, "float32"), self.file)


def file_for(model: Fitted, converter: Converter | None, runtime: str, quantisation: str) -> TrainedFile:
    """The file of a model for one target, evaluated on the split `valid` by running it.

    converter: for LiteRT only. Raises ModelError where there is no such file to be had.
    """
    path = _written(model, converter, runtime, quantisation)
    described = _manifest_of(model, path, runtime, quantisation)
    if runtime == model.native:
        described = msgspec.structs.replace(described, metrics=model.metrics)
    elif runtime != "fake":  # what that gives means nothing, and may not even be of the task's form
        metrics = _scored(model, described, path)
        described = msgspec.structs.replace(described, metrics=metrics, metrics_before_export=model.metrics)
    return TrainedFile(str(path), described, None if model.picture is None else str(model.picture))


def unscored_file(model: Fitted, converter: Converter | None, runtime: str, quantisation: str) -> TrainedFile:
    """As `file_for`, without metrics: for whoever wants to know how long it takes, and not how good it is."""
    path = _written(model, converter, runtime, quantisation)
    return TrainedFile(str(path), _manifest_of(model, path, runtime, quantisation))


def _manifest_of(model: Fitted, path: Path, runtime: str, quantisation: str) -> Manifest:
    """Of one of the model's files, without metrics."""
    job, dataset = model.job, model.dataset
    return Manifest(
        digest=digest_of(path),
        size_bytes=path.stat().st_size,
        task=job.task,
        model_size=job.size,
        runtime=runtime,
        quantisation=quantisation,
        input=dataset.spec,
        outputs=model.outputs,
        batches=BATCHES,
        parameters=model.parameters,
        data_source=dataset.source,
        real=dataset.real,
        examples=_examples_used(dataset.train, job.examples),
        epochs=model.epochs,
        seed=job.seed,
        evaluated_on="valid",
        metrics={},
        train_s=model.train_s,
    )


def _scored(model: Fitted, described: Manifest, path: Path) -> dict[str, float]:
    """The defined metrics of a file on the split `valid`."""
    if path not in model.scores:
        model.scores[path] = _score(model, described, path)
    return model.scores[path]


def _score(model: Fitted, described: Manifest, path: Path) -> dict[str, float]:
    valid = model.dataset.valid
    found = model.task.score(outputs_of(path, described, valid.x), valid.y)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def outputs_of(path: Path, manifest: Manifest, x: NDArray[Any]) -> NDArray[np.float32]:
    """Outputs float32 [sample, output] of a model file for samples [sample, *shape]."""
    at_once = manifest.batches[-1]
    runtime = open_runtime(path, manifest)
    try:
        return np.concatenate([runtime.infer(x[i : i + at_once]) for i in range(0, len(x), at_once)])
    finally:
        runtime.close()


def _written(model: Fitted, converter: Converter | None, runtime: str, quantisation: str) -> Path:
    check_quantisation(runtime, quantisation)
    if runtime == model.native:
        return model.file
    if runtime != "fake":
        if model.native == "onnx":
            raise ModelError(
                f"{runtime} files are made of Keras models, and this is a torch module (set runtime: onnx)"
            )
        if runtime == "onnx":
            raise ModelError("onnx files are made of torch modules, this is a Keras model (set runtime: litert)")
    out_dir = model.file.parent
    if runtime == "fake":
        path = out_dir / "model.fake.json"
        path.write_bytes(msgspec.json.encode(FakeModel()))
        return path
    if converter is None:
        raise ModelError("a LiteRT file takes a converter")
    path = out_dir / f"model.{quantisation}.tflite"
    if path.exists():
        return path  # made for another job that asked for the same model
    samples = _representative(model.dataset.train, out_dir, model.job.seed) if quantisation == "int8" else None
    converter.convert(Conversion(model.job.task, str(model.file), quantisation, samples, str(path)))
    return path


def _examples_used(split: Split, examples: int | None) -> int:
    available = len(np.unique(split.group))
    return available if examples is None else min(examples, available)


def _representative(split: Split, directory: Path, seed: int) -> str:
    rng = rng_for(seed, "representative")
    rows = np.sort(rng.choice(len(split), REPRESENTATIVE_SAMPLES, replace=len(split) < REPRESENTATIVE_SAMPLES))
    path = directory / "representative.npy"
    np.save(path, split.x[rows], allow_pickle=False)
    return str(path)
