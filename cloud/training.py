"""The work of the trainer's child process: load, train, export, evaluate.

A child does a list of jobs, since loading a training framework takes longer than training a small model; models are
exported in a further child while the next one trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.export import BATCHES, REPRESENTATIVE_SAMPLES, Conversion, Converter, check_quantisation
from cloud.jobs import Progress, StreamInfo, Trained, TrainedFile, TrainJob
from cloud.registry import digest_of
from edgebench.clock import now_s
from edgebench.inference.fake import FakeModel
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest
from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.task import Dataset, Epoch, Split, Task

Report = Callable[[Progress | Trained], None]


def write_streams(task: Task, dataset: Dataset, directory: Path) -> StreamInfo:
    """Write the test split as what sensors sense: `x.npy`, `y.npy`, `group.npy` (a row a sample), `stream.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, array in (("x", dataset.test.x), ("y", dataset.test.y), ("group", dataset.test.group)):
        np.save(directory / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
    info = StreamInfo(task.name, dataset.spec, len(dataset.test), dataset.source, dataset.real)
    (directory / "stream.json").write_bytes(msgspec.json.format(msgspec.json.encode(info)))
    return info


def do_jobs(jobs: Sequence[TrainJob], report: Report) -> None:
    """Do the jobs in their order; `report` is called from this thread and from the exporting one."""
    for job in jobs:
        for runtime, quantisation in job.targets:
            check_quantisation(runtime, quantisation)
    converts = any(runtime == "litert" for job in jobs for runtime, _ in job.targets)
    converter = Converter() if converts else None
    loaded: dict[tuple[str, str | None, int], Dataset] = {}
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="export") as pool:
            exports: list[Future[None]] = []
            for job in jobs:
                task, key = task_named(job.task), (job.task, job.data, job.seed)
                if key not in loaded:
                    loaded = {key: task.load(Path(job.data) if job.data else None, seed=job.seed)}
                dataset = loaded[key]
                if job.stream_dir is not None:
                    write_streams(task, dataset, Path(job.stream_dir))
                candidate = _Candidate(job, task, dataset, report)
                exports.append(pool.submit(partial(_export, candidate, converter, report)))
            for export in exports:
                export.result()
    finally:
        if converter is not None:
            converter.close()


def _export(candidate: _Candidate, converter: Converter | None, report: Report) -> None:
    report(candidate.exported(converter))


class _Candidate:
    """A model of a job, freshly trained."""

    def __init__(self, job: TrainJob, task: Task, dataset: Dataset, report: Report) -> None:
        self._job = job
        self._task = task
        self._dataset = dataset
        self._out_dir = Path(job.out_dir)
        self._out_dir.mkdir(parents=True, exist_ok=True)
        self._epochs = 0
        self._parameters = 0
        self._outputs = dataset.valid.y.shape[1]
        self._keras_file = self._out_dir / "model.keras"
        self._train_s = 0.0
        start_s = now_s()
        if any(runtime != "fake" for runtime, _ in job.targets):
            model = task.fit(
                job.size,
                dataset,
                seed=job.seed,
                epochs=job.epochs,
                examples=job.examples,
                progress=lambda epoch: self._tell(epoch, report),
            )
            self._train_s = now_s() - start_s
            self._parameters = int(model.count_params())
            self._outputs = int(model.output_shape[-1])
            model.save(self._keras_file)

    def _tell(self, epoch: Epoch, report: Report) -> None:
        self._epochs = epoch.epoch
        report(Progress(self._job.name, epoch.epoch, epoch.epochs, _defined(epoch.loss), _defined(epoch.quality)))

    def exported(self, converter: Converter | None) -> Trained:
        """The files of all targets, evaluated."""
        return Trained(self._job.name, tuple(self._file(converter, *target) for target in self._job.targets))

    def _file(self, converter: Converter | None, runtime: str, quantisation: str) -> TrainedFile:
        path = self._written(converter, runtime, quantisation)
        undescribed = Manifest(
            digest=digest_of(path),
            size_bytes=path.stat().st_size,
            task=self._job.task,
            model_size=self._job.size,
            runtime=runtime,
            quantisation=quantisation,
            input=self._dataset.spec,
            outputs=self._outputs,
            batches=BATCHES,
            parameters=self._parameters,
            data_source=self._dataset.source,
            real=self._dataset.real,
            examples=examples_used(self._dataset.train, self._job.examples),
            epochs=self._epochs,
            seed=self._job.seed,
            evaluated_on="valid",
            metrics={},
            train_s=self._train_s,
        )
        valid = self._dataset.valid
        metrics = defined(self._task.score(outputs_of(path, undescribed, valid.x), valid.y))
        return TrainedFile(str(path), msgspec.structs.replace(undescribed, metrics=metrics))

    def _written(self, converter: Converter | None, runtime: str, quantisation: str) -> Path:
        if runtime == "keras":
            return self._keras_file
        if runtime == "fake":
            path = self._out_dir / "model.fake.json"
            path.write_bytes(msgspec.json.encode(FakeModel()))
            return path
        assert converter is not None
        path = self._out_dir / f"model.{quantisation}.tflite"
        samples = representative(self._dataset.train, self._out_dir, self._job.seed) if quantisation == "int8" else None
        converter.convert(Conversion(self._job.task, str(self._keras_file), quantisation, samples, str(path)))
        return path


def examples_used(split: Split, examples: int | None) -> int:
    """How many groups (patients, subjects) a training takes from a split."""
    available = len(np.unique(split.group))
    return available if examples is None else min(examples, available)


def representative(split: Split, directory: Path, seed: int) -> str:
    """A file of samples to calibrate full-integer models with, drawn from a split."""
    rows = rng_for(seed, "representative").choice(
        len(split), REPRESENTATIVE_SAMPLES, replace=len(split) < REPRESENTATIVE_SAMPLES
    )
    path = directory / "representative.npy"
    np.save(path, split.x[np.sort(rows)], allow_pickle=False)
    return str(path)


def outputs_of(path: Path, manifest: Manifest, x: NDArray[Any]) -> NDArray[np.float32]:
    """Outputs float32 [sample, output] of a model file for samples [sample, *shape]."""
    runtime = open_runtime(path, manifest, warm_for=min(len(x), BATCHES[-1]))
    try:
        parts = [runtime.infer(x[i : i + BATCHES[-1]]) for i in range(0, len(x), BATCHES[-1])]
    finally:
        runtime.close()
    return np.concatenate(parts)


def defined(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics that have a value; one label only leaves most of them undefined."""
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
