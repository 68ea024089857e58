"""The work of the trainer's child process: load, train, export, evaluate.

Models are exported in a further child while the next one trains.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.cascading import calibrated
from cloud.export import Converter, check_quantisation
from cloud.jobs import CascadeOrder, EpochDone, EvaluateJob, HeadOrder, Trained, TrainedFile, TrainJob
from cloud.model_files import Fitted, file_for, outputs_of
from edgebench.clock import now_s
from edgebench.errors import DataError, ModelError
from edgebench.fabric.pictures import picture_size
from edgebench.fabric.records import Calibration
from edgebench.fabric.slices import STREAM_FILES, STREAM_INFO, StreamInfo
from edgebench.tasks import task_named
from edgebench.tasks.task import Dataset, Epoch, FitOptions, Split, Task
from edgebench.topology.model import Dirichlet

if TYPE_CHECKING:
    from cloud.round_evaluation import RoundEvaluation

Report = Callable[[EpochDone | Trained], None]


def write_streams(task: Task, dataset: Dataset, directory: Path) -> StreamInfo:
    """Write the test split as what sensors sense: `x.npy`, `y.npy`, `group.npy` (a row a sample), and `STREAM_INFO`."""
    directory.mkdir(parents=True, exist_ok=True)
    test = dataset.test
    for name, array in zip(STREAM_FILES, (test.x, test.y, test.group), strict=True):
        np.save(directory / name, np.ascontiguousarray(array), allow_pickle=False)
    info = StreamInfo(task.name, dataset.spec, len(dataset.test), dataset.source, dataset.real, dataset.features)
    (directory / STREAM_INFO).write_bytes(msgspec.json.format(msgspec.json.encode(info)))
    return info


class TrainerSession:
    """Does one list of jobs after another. What it loads for one, the converter above all, serves the next."""

    def __init__(self) -> None:
        self._converter: Converter | None = None
        self._loaded: dict[tuple[str, str | None, int], Dataset] = {}
        self._federated: dict[tuple[str, str | None, int], Dataset] = {}
        self._round_evaluations: dict[str, RoundEvaluation] = {}

    def load(self, jobs: Sequence[TrainJob | EvaluateJob]) -> None:
        """What these jobs need and does not depend on what they come to: converter, training framework, data."""
        self._check_and_convert(jobs)
        for job in jobs:
            if isinstance(job, TrainJob):
                self._dataset(job)
                if any(runtime != "fake" for runtime, _ in job.targets):
                    import keras  # noqa: F401  (whoever trains imports it again, at no cost)

    def do(self, jobs: Sequence[TrainJob | EvaluateJob], report: Report) -> None:
        """Do the jobs in their order; `report` is called from this thread and from the exporting one."""
        self._check_and_convert(jobs)
        models = _Models(report)
        with ThreadPoolExecutor(1, thread_name_prefix="export") as pool:
            exports: list[Future[None]] = []
            for job in jobs:
                if isinstance(job, EvaluateJob):
                    report(self._round_evaluation(job).do(job, self._converter))
                    continue
                task, dataset = task_named(job.task), self._dataset(job)
                _check(job, task, dataset)
                if job.stream_dir is not None:
                    write_streams(task, dataset, Path(job.stream_dir))
                head = None
                if job.head is not None:
                    # Files are made one at a time, by whichever thread.
                    before = self._head_model(job, job.head, dataset, models)
                    head = pool.submit(file_for, before, self._converter, *job.head.target).result()
                    dataset = seen_by(head, dataset)
                model = models.fitted(job, task, dataset)
                larger = None if job.cascade is None else models.fitted(_larger(job, job.cascade), task, dataset)
                if job.bundle is not None and model.native == "onnx":
                    raise ModelError(f"{job.task}: a torch module is learned federatedly by a Flower app only")
                exports.append(pool.submit(_export, model, head, larger, self._converter, report))
            for export in exports:
                export.result()

    def _check_and_convert(self, jobs: Sequence[TrainJob | EvaluateJob]) -> None:
        for job in jobs:
            for runtime, quantisation in job.targets:
                check_quantisation(runtime, quantisation)
        if self._converter is None and any(map(_wants_converter, jobs)):
            self._converter = Converter()

    def lower_priority(self, nice: int) -> None:
        """Be this nice from now on, with all threads that there are; less nice than before is not to be had."""
        for thread in _threads_of(os.getpid(), *([] if self._converter is None else [self._converter.pid])):
            with contextlib.suppress(ProcessLookupError):  # threads come and go
                if os.getpriority(os.PRIO_PROCESS, thread) < nice:
                    os.setpriority(os.PRIO_PROCESS, thread, nice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._converter is not None:
            self._converter.close()

    def _round_evaluation(self, job: EvaluateJob) -> RoundEvaluation:
        # Keras takes seconds to load, and not every run trains.
        from cloud.round_evaluation import RoundEvaluation

        if job.name not in self._round_evaluations:
            self._round_evaluations[job.name] = RoundEvaluation(job.of, self._dataset(job.of), Path(job.model))
        return self._round_evaluations[job.name]

    def _head_model(self, job: TrainJob, head: HeadOrder, dataset: Dataset, models: _Models) -> Fitted:
        """The model before that of a job. Raises DataError where it takes other samples than the job's task has."""
        own = msgspec.structs.replace(
            job,
            task=head.task,
            size=head.size,
            targets=(head.target,),
            epochs=head.epochs,
            examples=head.examples,
            out_dir=str(Path(job.out_dir) / "head"),
            stream_dir=None,
            head=None,
        )
        learned = self._dataset(own)
        if learned.spec != dataset.spec:
            takes = f"takes {learned.spec.dtype} {list(learned.spec.shape)}"
            has = f"samples of {job.task} are {dataset.spec.dtype} {list(dataset.spec.shape)}"
            raise DataError(f"$.workloads.{job.name}.head.task: {head.task} {takes}, and {has} (name another)")
        return models.fitted(own, task_named(head.task), learned)

    def _dataset(self, job: TrainJob) -> Dataset:
        key = (job.task, job.data, job.seed)
        known = self._loaded | self._federated
        if key not in known:
            data = Path(job.data) if job.data else None
            known = self._loaded = {key: task_named(job.task).load(data, seed=job.seed)}
        if job.bundle is not None:
            self._federated[key] = known[key]  # its rounds are evaluated on it
        return known[key]


class _Models:
    """Trains what several jobs ask for once only."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._made: dict[tuple[object, ...], Fitted] = {}

    def fitted(self, job: TrainJob, task: Task, dataset: Dataset) -> Fitted:
        """The model of a job, new or of an earlier one that wanted the same."""
        wanted = (job.task, job.data, job.size, job.seed, job.epochs, job.examples, job.head)
        if wanted not in self._made or self._made[wanted].parameters == 0:
            self._made[wanted] = fitted(job, task, dataset, self._report)
        return replace(self._made[wanted], job=job)


def seen_by(head: TrainedFile, dataset: Dataset) -> Dataset:
    """A data set in whose samples' place stands what a model gives for them."""

    def seen(split: Split) -> Split:
        return replace(split, x=outputs_of(Path(head.path), head.manifest, split.x))

    return replace(
        dataset,
        train=seen(dataset.train),
        valid=seen(dataset.valid),
        test=seen(dataset.test),
        beside={name: seen(split) for name, split in dataset.beside.items()},
        features=(),
    )


def _check(job: TrainJob, task: Task, dataset: Dataset) -> None:
    """Raises DataError where the data cannot do what its workload asks for."""
    if job.compressed and picture_size(dataset.spec) is None:
        spec = f"{dataset.spec.dtype} {list(dataset.spec.shape)}"
        raise DataError(f"$.workloads.{job.name}.compress: samples of {job.task} are {spec}, no pictures (remove it)")
    by_class = job.bundle is not None and isinstance(job.bundle.partition, Dirichlet)
    if by_class and callable(task.loss) and dataset.train.y.shape[1] > 1:
        why = f"labels of {job.task} are no classes"
        raise DataError(f"$.federated: workload {job.name}: {why} (set partition.kind to iid or natural)")


def _threads_of(*processes: int) -> list[int]:
    """Thread ids, since Linux keeps a priority for each thread; elsewhere the processes themselves."""
    found: list[int] = []
    for process in processes:
        folder = Path(f"/proc/{process}/task")
        found += [int(entry.name) for entry in folder.iterdir()] if folder.is_dir() else [process]
    return found


def _larger(job: TrainJob, cascade: CascadeOrder) -> TrainJob:
    out_dir = str(Path(job.out_dir) / "cascade")
    return msgspec.structs.replace(job, size=cascade.size, targets=(cascade.target,), out_dir=out_dir, bundle=None)


def _export(
    model: Fitted, head: TrainedFile | None, larger: Fitted | None, converter: Converter | None, report: Report
) -> None:
    job = model.job
    if job.split is not None:
        from cloud.splitting import split_files

        report(split_files(model, job.split, converter))
        return
    files = tuple(file_for(model, converter, runtime, quantisation) for runtime, quantisation in job.targets)
    files = files if head is None else (head, *files)
    calibration = None
    if larger is not None:
        assert job.cascade is not None
        files = (*files, file_for(larger, converter, *job.cascade.target))
        calibration = _calibrated(model, files[0], files[-1], job.cascade.target_quality)
    bundle = learned_on = None
    if job.bundle is not None:
        from cloud.client_bundles import write_bundle

        bundle = write_bundle(model.task, model.file, model.dataset.train, job.bundle, job.seed, converter)
        learned_on = str(model.file)
    report(Trained(job.name, files, bundle, calibration, model=learned_on))


def _calibrated(model: Fitted, small: TrainedFile, large: TrainedFile, target: float | None) -> Calibration:
    valid = model.dataset.valid
    light, heavy = (outputs_of(Path(file.path), file.manifest, valid.x) for file in (small, large))

    def quality(outputs: NDArray[np.float32]) -> float:
        return model.task.score(outputs, valid.y)[model.task.metric]

    if not (np.isfinite(quality(light)) and np.isfinite(quality(heavy))):
        why = f"{model.task.metric} is undefined on the held-out data, so a cascade cannot be calibrated"
        raise DataError(f"$.workloads.{model.job.name}.place.infer: {why} (use device, edge or cloud)")
    return calibrated(light, heavy, quality, target)


def _wants_converter(job: TrainJob | EvaluateJob) -> bool:
    if any(runtime == "litert" for runtime, _ in job.targets):
        return True
    if isinstance(job, EvaluateJob):
        return False
    of_bundle = job.bundle is not None and job.bundle.runtime == "litert"
    of_head = job.head is not None and job.head.target[0] == "litert"
    return of_bundle or of_head or (job.cascade is not None and job.cascade.target[0] == "litert")


def fitted(job: TrainJob, task: Task, dataset: Dataset, report: Report) -> Fitted:
    """Train the model of a job, unless none of its targets needs one."""
    out_dir = Path(job.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    keras_file = out_dir / "model.keras"
    epochs, drawn = 0, b""

    def tell(epoch: Epoch) -> None:
        nonlocal epochs, drawn
        epochs, drawn = epoch.epoch, epoch.picture
        report(EpochDone(job.name, epoch.epoch, epoch.epochs, _defined(epoch.loss), _defined(epoch.quality)))

    if all(runtime == "fake" for runtime, _ in job.targets):
        return Fitted(job, task, dataset, keras_file, 0, dataset.valid.y.shape[1], 0, 0.0)
    import keras

    start_s = now_s()
    options = FitOptions(seed=job.seed, epochs=job.epochs, examples=job.examples, progress=tell)
    model = task.fit(job.size, dataset, options)
    train_s = now_s() - start_s
    if not isinstance(model, keras.Model):
        from cloud.onnx_export import write_onnx

        onnx_file = out_dir / "model.onnx"
        outputs = write_onnx(model, dataset.spec, onnx_file)
        parameters = sum(weight.numel() for weight in model.parameters())
        return Fitted(job, task, dataset, onnx_file, parameters, outputs, epochs, train_s)
    model.save(keras_file)
    picture = _kept_picture(drawn, out_dir / "drawn.png")
    parameters, outputs = int(model.count_params()), int(model.output_shape[-1])
    return Fitted(job, task, dataset, keras_file, parameters, outputs, epochs, train_s, picture)


def _kept_picture(drawn: bytes, path: Path) -> Path | None:
    if not drawn:
        return None
    from edgebench.tasks.images import caption_of

    path.write_bytes(drawn)
    caption_of(path)  # or the report would find out that it is none
    return path


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
