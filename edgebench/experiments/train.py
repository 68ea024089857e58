"""`edgebench train`: train a task's models, evaluate them on the test split, export them, and keep them.

Quality is a matter of luck too, so each model is trained from several seeds, on the same data. What is exported and
kept is the model of the seed that did best on the split `valid`; the test split chooses nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgebench.clock import now_ns
from edgebench.errors import EdgebenchError, ModelError
from edgebench.experiments.places import check_file, check_folder
from edgebench.experiments.progress import Silent, TrainProgress
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest
from edgebench.report.tables import standard_output
from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.task import Dataset, Size, Task
from edgebench.topology.wording import things

if TYPE_CHECKING:
    from cloud.export import Converter
    from cloud.jobs import TrainedFile
    from cloud.model_files import Fitted

_DATA_SEED = 0
_LATENCY_CALLS = 300
_LATENCY_WARM_UP_CALLS = 20
_DYNAMIC_MAY_LOSE = 0.005
_USUAL: tuple[Size, ...] = ("light", "heavy")
_EXPORTS = ("float32", "float16", "dynamic", "int8")

Tell = Callable[[str], None]


class DataResult(msgspec.Struct, frozen=True):
    """Where the data comes from, and how many samples each split has."""

    source: str
    real: bool
    n_train: int
    n_test: int


class SeedStatistics(msgspec.Struct, frozen=True):
    """A metric over the seeds, whose values stand in their order; std is that of the sample (n − 1), 0 for one seed."""

    median: float
    mean: float
    std: float
    values: tuple[float, ...]


class Exported(msgspec.Struct, frozen=True):
    """A LiteRT file (of a torch module, an ONNX one), run on the test split.

    latency_us: median of a single sample's inference on this machine.
    """

    bytes: int
    metrics: dict[str, float]
    latency_us: float


class NotExported(msgspec.Struct, frozen=True):
    """Why there is no such file."""

    error: str


class ModelResult(msgspec.Struct, frozen=True):
    """One size. beside: metrics on the further test sets of `Dataset.beside`. intervals: 95 % bootstrap over groups
    (patients, say), of the exported seed's model. train_s: mean of a training."""

    parameters: int
    metrics: dict[str, SeedStatistics]
    beside: dict[str, dict[str, SeedStatistics]]
    intervals: dict[str, tuple[float, float]]
    train_s: float
    exports: dict[str, Exported | NotExported]


class BaselineResult(msgspec.Struct, frozen=True):
    """The classical model, fitted on the same data. beside: as in `ModelResult`."""

    name: str
    metrics: dict[str, float]
    beside: dict[str, dict[str, float]]


class TrainResult(msgspec.Struct, frozen=True):
    """What `edgebench train --json` prints. All metrics are on the test split, but for those of `beside`."""

    task: str
    data: DataResult
    seeds: int
    models: dict[str, ModelResult]
    baseline: BaselineResult


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """data: the data set's folder (None: generated data). size: train this one only (None: light and heavy). seeds: of
    how many trainings of each model. out, registry: where models are kept, see `keep`. progress: show on stderr what is
    being done, and hide what TensorFlow writes there."""

    data: Path | None = None
    size: Size | None = None
    seeds: int = 3
    out: Path | None = None
    registry: Path | None = None
    progress: bool = False


def train(task: str, options: TrainOptions) -> TrainResult:
    """Train a task's models, and keep them where the options say. Raises EdgebenchError."""
    from cloud.export import QUIET

    if options.seeds < 1:
        raise EdgebenchError(f"--seeds {options.seeds}: at least 1")
    # Training takes minutes; whether its result can be kept is known now.
    if options.out is not None:
        check_file("--out", options.out)
    if options.registry is not None:
        check_folder("--registry", options.registry)
    progress = TrainProgress() if options.progress else Silent()
    temporary = tempfile.TemporaryDirectory(prefix="edgebench-train-")
    with with_environment(QUIET), progress, temporary as work:
        if options.progress:
            progress.tell("loading Keras")
            load_keras_quietly()
        sizes = sizes_of(task, options.size)
        result, files = train_task(
            task, options.data, sizes, seeds=options.seeds, work_dir=Path(work), tell=progress.tell
        )
        kept = keep(files, out=options.out, registry=options.registry)
        for line in kept:
            progress.note(line)
    return result


@contextlib.contextmanager
def with_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for a while: the process may be somebody else's."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def train_task(
    name: str, data: Path | None, sizes: Sequence[Size], *, seeds: int, work_dir: Path, tell: Tell
) -> tuple[TrainResult, dict[str, TrainedFile]]:
    """Train the sizes from seeds 0 … n − 1; the figures, and for each size the LiteRT file to keep (in `work_dir`).
    Raises DataError, and ModelError where not even a float32 file can be made.
    """
    from cloud.export import Converter

    task = task_named(name)
    with Converter() as converter:
        tell("loading the data")
        dataset = task.load(data, seed=_DATA_SEED)
        models: dict[str, ModelResult] = {}
        files: dict[str, TrainedFile] = {}
        for size in sizes:
            models[size], files[size] = _one_size(name, task, dataset, size, seeds, work_dir / size, converter, tell)
        tell("fitting the baseline")
        baseline = task.baseline(dataset, seed=_DATA_SEED)
    about = DataResult(dataset.source, dataset.real, len(dataset.train), len(dataset.test))
    besides = {where: dict(metrics) for where, metrics in baseline.beside.items()}
    told = BaselineResult(baseline.name, dict(baseline.metrics), besides)
    return TrainResult(name, about, seeds, models, told), files


def sizes_of(name: str, asked: Size | None) -> list[Size]:
    """What to train of a task: the size that is asked for, or light and heavy, or which of them the task has.

    Raises EdgebenchError where it has none of that size.
    """
    models = task_named(name).models
    if asked is None:
        return [size for size in models if size in _USUAL] or list(models)
    if asked not in models:
        raise EdgebenchError(f"{name} has no size '{asked}' (write --size {' or '.join(models)})")
    return [asked]


def keep(files: dict[str, TrainedFile], *, out: Path | None, registry: Path | None) -> list[str]:
    """Write the light model (or the only one) to `out`, its manifest and what it can draw beside it; put all into the
    registry. What was written where, a line each."""
    from cloud.registry import Registry

    lines = []
    if out is not None:
        chosen = files.get("light") or next(iter(files.values()))
        written = [str(out), f"{out}.json", *([] if chosen.picture is None else [f"{out}.png"])]
        lines.append(f"{_which(chosen)}: {', '.join(written)}")
        shutil.copyfile(chosen.path, out)
        described = msgspec.json.format(msgspec.json.encode(chosen.manifest))
        out.with_name(out.name + ".json").write_bytes(described)
        if chosen.picture is not None:
            shutil.copyfile(chosen.picture, out.with_name(out.name + ".png"))
    if registry is not None:
        store = Registry(registry)
        digests = {_which(file): store.put(Path(file.path), file.manifest) for file in files.values()}
        lines += [f"{which}: sha256:{digest} in {registry}" for which, digest in digests.items()]
    return lines


def _which(file: TrainedFile) -> str:
    return f"{file.manifest.model_size}, {file.manifest.quantisation}"


def spread(values: Sequence[float]) -> SeedStatistics:
    """Of at least one value."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return SeedStatistics(float(np.median(values)), float(np.mean(values)), std, tuple(map(float, values)))


def spreads(scores: Sequence[Mapping[str, float]]) -> dict[str, SeedStatistics]:
    """Of each metric, over scores of one kind; what a score does not name is undefined there."""
    metrics = dict.fromkeys(metric for score in scores for metric in score)
    return {metric: spread([score.get(metric, np.nan) for score in scores]) for metric in metrics}


def choice(files: dict[str, TrainedFile], metric: str) -> TrainedFile:
    """The file to keep: `dynamic`, which is the smallest that every model has, unless it loses more than 0.005 of the
    metric on `valid` against `float32`, or could not be made."""
    plain = files["float32"]
    small = files.get("dynamic", plain)
    lost = plain.manifest.metrics.get(metric, np.nan) - small.manifest.metrics.get(metric, np.nan)
    return plain if lost > _DYNAMIC_MAY_LOSE else small


def _one_size(
    name: str, task: Task, dataset: Dataset, size: Size, seeds: int, work_dir: Path, converter: Converter, tell: Tell
) -> tuple[ModelResult, TrainedFile]:
    from cloud.model_files import file_for, outputs_of

    scores: list[dict[str, float]] = []
    beside: dict[str, list[dict[str, float]]] = {where: [] for where in dataset.beside}
    models: list[tuple[float, Fitted, np.ndarray]] = []
    for seed in range(seeds):
        model = _fitted(name, task, dataset, size, seed, seeds, work_dir / str(seed), tell)
        saved = file_for(model, None, model.native, "float32")
        outputs = outputs_of(Path(saved.path), saved.manifest, dataset.test.x)
        scores.append(task.score(outputs, dataset.test.y))
        for where, split in dataset.beside.items():
            beside[where].append(task.score(outputs_of(Path(saved.path), saved.manifest, split.x), split.y))
        models.append((saved.manifest.metrics.get(task.metric, -np.inf), model, outputs))
    _, best, outputs = max(models, key=lambda entry: entry[0])
    tell(f"{size}: bootstrap intervals")
    intervals = task.intervals(outputs, dataset.test.y, seed=_DATA_SEED, group=dataset.test.group)
    exports, files = _exports(task, dataset, best, size, converter, tell)
    if "float32" not in files:
        failed = exports["float32"]
        raise ModelError(f"{name}, {size}: {failed.error if isinstance(failed, NotExported) else 'no float32 file'}")
    result = ModelResult(
        parameters=best.parameters,
        metrics=spreads(scores),
        beside={where: spreads(found) for where, found in beside.items()},
        intervals=intervals,
        train_s=float(np.mean([model.train_s for _, model, _ in models])),
        exports=exports,
    )
    return result, choice(files, task.metric)


def _fitted(
    name: str, task: Task, dataset: Dataset, size: Size, seed: int, seeds: int, work_dir: Path, tell: Tell
) -> Fitted:
    from cloud.jobs import EpochDone, Trained, TrainJob
    from cloud.training import fitted

    def report(event: EpochDone | Trained) -> None:
        if isinstance(event, EpochDone):
            quality = "–" if event.quality is None else f"{event.quality:.3f}"
            done = f"epoch {event.epoch} of {event.epochs}, {task.metric} {quality} on valid"
            tell(f"{size}, seed {seed + 1} of {seeds}: {done}")

    tell(f"{size}, seed {seed + 1} of {seeds}")
    targets = (("keras", "float32"),)  # or ONNX: whatever the model is made of is kept in any case
    job = TrainJob(name=size, task=name, data=None, size=size, seed=seed, out_dir=str(work_dir), targets=targets)
    return fitted(job, task, dataset, report)


def _exports(
    task: Task, dataset: Dataset, model: Fitted, size: str, converter: Converter, tell: Tell
) -> tuple[dict[str, Exported | NotExported], dict[str, TrainedFile]]:
    from cloud.model_files import file_for, outputs_of

    exports: dict[str, Exported | NotExported] = {}
    files: dict[str, TrainedFile] = {}
    for quantisation in _EXPORTS:
        tell(f"{size}: exporting and evaluating {quantisation}")
        try:
            file = file_for(model, converter, "litert" if model.native == "keras" else model.native, quantisation)
        except ModelError as error:
            exports[quantisation] = NotExported(str(error))
            continue
        path = Path(file.path)
        metrics = task.score(outputs_of(path, file.manifest, dataset.test.x), dataset.test.y)
        latency_us = single_sample_us(path, file.manifest, dataset)
        exports[quantisation] = Exported(file.manifest.size_bytes, metrics, latency_us)
        files[quantisation] = file
    return exports, files


def single_sample_us(path: Path, manifest: Manifest, dataset: Dataset) -> float:
    """Median time in µs in which the model decides one sample of the test split."""
    rows = rng_for(_DATA_SEED, "latency").integers(0, len(dataset.test), _LATENCY_CALLS)
    runtime = open_runtime(path, manifest)
    for row in rows[:_LATENCY_WARM_UP_CALLS]:
        runtime.infer(dataset.test.x[row : row + 1])
    spent_ns = []
    for row in rows:
        x = dataset.test.x[row : row + 1]
        start_ns = now_ns()
        runtime.infer(x)
        spent_ns.append(now_ns() - start_ns)
    runtime.close()
    return float(np.median(spent_ns)) / 1_000


def load_keras_quietly() -> None:
    """TensorFlow writes greetings straight to descriptor 2 while it loads, whatever its log level is."""
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import keras  # noqa: F401
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def print_tables(result: TrainResult) -> None:
    """Print the figures for people."""
    from rich.table import Table

    kind = "real" if result.data.real else "generated"
    console = standard_output()
    console.print(
        f"{result.task} on {kind} data ({result.data.source}): {result.data.n_train} samples to train on, "
        f"{result.data.n_test} to test on, {things(result.seeds, 'seed')}"
    )
    quality = Table("model", "metric", "median", "mean ± std", "95 % interval", "parameters", "training")
    quality.title = "Test split"
    for size, model in result.models.items():
        for metric, value in model.metrics.items():
            bounds = model.intervals.get(metric)
            interval = "–" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
            about = (interval, f"{model.parameters:,}", f"{model.train_s:.1f} s")
            quality.add_row(size, metric, *_shown(value), *about)
    for metric, found in result.baseline.metrics.items():
        quality.add_row(result.baseline.name, metric, f"{found:.3f}", "", "", "", "")
    console.print(quality)
    for where in dict.fromkeys(where for model in result.models.values() for where in model.beside):
        further = Table("model", "metric", "median", "mean ± std", title=f"Beside the test split: {where}")
        for size, model in result.models.items():
            for metric, value in model.beside[where].items():
                further.add_row(size, metric, *_shown(value))
        for metric, found in result.baseline.beside.get(where, {}).items():
            further.add_row(result.baseline.name, metric, f"{found:.3f}", "")
        console.print(further)
    exports = Table("model", "LiteRT file", "bytes", "metrics", "one sample", title="Exports, run on the test split")
    for size, model in result.models.items():
        for quantisation, export in model.exports.items():
            if isinstance(export, NotExported):
                exports.add_row(size, quantisation, "–", export.error, "–")
                continue
            metrics = ", ".join(f"{metric} {found:.3f}" for metric, found in export.metrics.items())
            exports.add_row(size, quantisation, f"{export.bytes:,}", metrics, f"{export.latency_us:.0f} µs")
    console.print(exports)


def _shown(value: SeedStatistics) -> tuple[str, str]:
    spread_of_one = len(value.values) == 1
    return f"{value.median:.3f}", "–" if spread_of_one else f"{value.mean:.3f} ± {value.std:.3f}"
