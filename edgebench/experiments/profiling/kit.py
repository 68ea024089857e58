"""The models that a machine is measured with: a folder, made once where TensorFlow is, and copied to where it is not.

What a model decides does not matter here, only how long it takes; so each is trained for a moment on generated data.

    TASK/samples.npy            some samples, [sample, *shape]
    TASK/SIZE-FORMAT.model      a model file, and beside it, `.json`, its manifest
    TASK/SIZE-step/             a training step of LiteRT on 32 samples, the weights that it begins with, and what it
                                learns on; SIZE-step-N/ on N
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args
from urllib.parse import quote

import msgspec
import numpy as np

from edgebench.decoding import from_json
from edgebench.errors import EdgebenchError, ModelError
from edgebench.inference.spec import Manifest
from edgebench.tasks import task_named
from edgebench.tasks.task import Dataset, Loss, Size, Task

if TYPE_CHECKING:
    from cloud.export import Converter

Tell = Callable[[str], None]
SAMPLES, STEP, STEP_SPEC, WEIGHTS = "samples.npy", "step.tflite", "step.json", "weights.parcel"
LEARNED_X, LEARNED_Y = "x.npy", "y.npy"
FORMATS = ("float32", "float16", "dynamic", "int8")
SIZES: tuple[Size, ...] = ("light", "heavy")
QUICK_FORMATS = FORMATS[:1]
QUICK_SIZES = SIZES[:1]
BATCH = 32
"""Samples a training step; what topologies have unless they say another."""
_SAMPLES = 16
_SEED = 0
_FAILED = ".failed"
"""Instead of a model: why there is none, as the converter said it."""


def _manifest_of(model: Path) -> Manifest:
    """The description beside a model file. Raises ModelError."""
    file = model.with_suffix(".json")
    try:
        return from_json(file.read_bytes(), Manifest)
    except (OSError, msgspec.DecodeError) as error:
        problem = f"no description of a model: {error} (make the models anew, in a new folder)"
        raise ModelError(f"{file}: {problem}") from error


class KitModel(NamedTuple):
    """A model file."""

    path: Path
    manifest: Manifest
    samples: Path


class KitStep(NamedTuple):
    """A training step. batch: its samples. folder: of its files."""

    task: str
    size: Size
    batch: int
    folder: Path


class Wanted(NamedTuple):
    """What is to be measured: models of these tasks, sizes and number formats, training steps on so many samples."""

    tasks: tuple[str, ...]
    sizes: tuple[Size, ...]
    formats: tuple[str, ...]
    batches: tuple[int, ...]


class _Lacking(NamedTuple):
    task: str
    size: Size
    formats: list[str]
    batches: list[int]


class Kit:
    """The models in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def complete(self, wanted: Wanted, tell: Tell) -> None:
        """Make what is not there yet. Raises EdgebenchError where TensorFlow, which makes it, is not there either."""
        lacking = list(self._lacking(wanted))
        if not lacking:
            return
        if any(importlib.util.find_spec(each) is None for each in ("tensorflow", "keras")):
            self._check_models(lacking, tell)
            return
        # A board that has its models has no use for any of these.
        from cloud.export import QUIET, Converter
        from edgebench.experiments.train import load_keras_quietly, with_environment

        with with_environment(QUIET), Converter() as converter:
            load_keras_quietly()
            datasets: dict[str, Dataset] = {}
            for name, size, formats, batches in lacking:
                found = task_named(name)
                steps = [f"training steps of {batch} samples" for batch in batches]
                tell(f"making models of {name}, {size}: {', '.join([*formats, *steps])}")
                dataset = datasets.get(name)
                if dataset is None:
                    dataset = found.load(None, seed=_SEED)
                    datasets = {name: dataset}
                self._make(name, found, dataset, size, formats, batches, converter)

    def models(self, wanted: Wanted) -> Iterator[KitModel]:
        """Those that there are."""
        for task in wanted.tasks:
            for size in wanted.sizes:
                for each in wanted.formats:
                    path = self._model(task, size, each)
                    if path.exists():
                        yield KitModel(path, _manifest_of(path), self._folder(task) / SAMPLES)

    def steps(self, wanted: Wanted) -> Iterator[KitStep]:
        """Training steps that there are."""
        for task in wanted.tasks:
            for size in wanted.sizes:
                for batch in wanted.batches:
                    folder = self._step(task, size, batch)
                    if (folder / WEIGHTS).exists():
                        yield KitStep(task, size, batch, folder)

    def failures(self, wanted: Wanted) -> Iterator[str]:
        """What could not be made, and why, a line each."""
        for task in wanted.tasks:
            for size in wanted.sizes:
                paths = {each: self._model(task, size, each) for each in wanted.formats}
                steps = {f"training step of {n} samples": self._step(task, size, n) / STEP for n in wanted.batches}
                for what, path in (paths | steps).items():
                    failed = path.with_suffix(_FAILED)
                    if failed.exists():
                        yield f"{task}, {size}, {what}: cannot be made: {failed.read_text('utf-8').strip()}"

    def files(self, wanted: Wanted) -> Iterator[tuple[str, Path]]:
        """All that another machine needs of it to measure this, by name within the folder."""
        for task in wanted.tasks:
            found = [self._folder(task) / SAMPLES]
            for size in wanted.sizes:
                for each in wanted.formats:
                    path = self._model(task, size, each)
                    found += [path, path.with_suffix(".json"), path.with_suffix(_FAILED)]
                for batch in wanted.batches:
                    found += sorted(self._step(task, size, batch).glob("*"))
            yield from ((path.relative_to(self._root).as_posix(), path) for path in found if path.exists())

    def _check_models(self, lacking: Sequence[_Lacking], tell: Tell) -> None:
        """Where nothing is made: raise EdgebenchError where a model is lacking, and tell of steps."""
        for task, size, formats, batches in lacking:
            if formats:
                raise EdgebenchError(
                    f"{self._root}: has no model of {task}, {size}, {formats[0]}, and nothing here makes one (make the "
                    "folder where edgebench[lab] is installed, with edgebench profile --models DIR, and copy it here)"
                )
            for batch in batches:
                tell(f"{task}, {size}: training steps of {batch} samples: not measured: the models have none")

    def _lacking(self, wanted: Wanted) -> Iterator[_Lacking]:
        """Of a task and a size the number formats, and the samples of training steps, that nobody has tried to make."""
        for task in wanted.tasks:
            found = task_named(task)
            for size in wanted.sizes:
                if size not in found.models:
                    continue
                formats = [each for each in wanted.formats if not self._is_known(task, size, each)]
                batches = [batch for batch in wanted.batches if not self._is_step_known(task, size, batch)]
                batches = batches if task_loss(found) is not None else []
                if formats or batches:
                    yield _Lacking(task, size, formats, batches)

    def _is_step_known(self, task: str, size: Size, batch: int) -> bool:
        folder = self._step(task, size, batch)
        return (folder / WEIGHTS).exists() or (folder / STEP).with_suffix(_FAILED).exists()

    def _is_known(self, task: str, size: Size, quantisation: str) -> bool:
        path = self._model(task, size, quantisation)
        return path.exists() or path.with_suffix(_FAILED).exists()

    def _make(
        self,
        name: str,
        task: Task,
        dataset: Dataset,
        size: Size,
        formats: Sequence[str],
        batches: Sequence[int],
        converter: Converter,
    ) -> None:
        from cloud.jobs import TrainJob
        from cloud.model_files import unscored_file
        from cloud.training import fitted

        folder = self._folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / SAMPLES, dataset.test.x[:_SAMPLES], allow_pickle=False)
        with tempfile.TemporaryDirectory(prefix="edgebench-kit-") as work:
            job = TrainJob(
                name=name,
                task=name,
                data=None,
                size=size,
                seed=_SEED,
                out_dir=work,
                targets=(("keras", "float32"),),
                epochs=1,
            )
            model = fitted(job, task, dataset, lambda _: None)
            runtime = "litert" if model.native == "keras" else model.native
            for quantisation in formats:
                path = self._model(name, size, quantisation)
                try:
                    file = unscored_file(model, converter, runtime, quantisation)
                except ModelError as error:
                    path.with_suffix(_FAILED).write_text(f"{error}\n")
                    continue
                path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(file.manifest)))
                _put(Path(file.path), path)
            for batch in batches:
                folder = self._step(name, size, batch)
                folder.mkdir(exist_ok=True)
                if model.native == "keras":
                    self._make_step(task, model.file, dataset, batch, folder, converter)
                else:
                    (folder / STEP).with_suffix(_FAILED).write_text("LiteRT learns models of Keras alone\n")

    def _make_step(
        self, task: Task, keras_file: Path, dataset: Dataset, batch: int, folder: Path, converter: Converter
    ) -> None:
        import keras

        from cloud.client_bundles import weights_of, write_weights
        from cloud.export import StepConversion

        loss = task_loss(task)
        assert loss is not None
        out = str(folder / STEP)
        try:
            converter.convert_step(
                StepConversion(task=task.name, model=str(keras_file), loss=loss, batch=batch, out=out)
            )
        except ModelError as error:
            (folder / STEP).with_suffix(_FAILED).write_text(f"{error}\n")
            return
        np.save(folder / LEARNED_X, dataset.train.x[:batch], allow_pickle=False)
        np.save(folder / LEARNED_Y, dataset.train.y[:batch], allow_pickle=False)
        model = keras.models.load_model(keras_file, compile=False, safe_mode=True)
        write_weights(folder / WEIGHTS, weights_of(model))

    def _folder(self, task: str) -> Path:
        return self._root / quote(task, safe="")

    def _model(self, task: str, size: Size, quantisation: str) -> Path:
        return self._folder(task) / f"{size}-{quantisation}.model"

    def _step(self, task: str, size: Size, batch: int) -> Path:
        return self._folder(task) / (f"{size}-step" if batch == BATCH else f"{size}-step-{batch}")


def task_loss(task: Task) -> Loss | None:
    """The loss by which devices learn with LiteRT alone; None where there is none, or one of the task's own."""
    loss = getattr(task, "loss", None)
    return loss if loss in get_args(Loss) else None


def _put(source: Path, target: Path) -> None:
    """Whole, or not at all."""
    unfinished = target.with_name(f"{target.name}.part")
    shutil.copyfile(source, unfinished)
    unfinished.replace(target)
