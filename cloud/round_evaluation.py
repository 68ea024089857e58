"""The models of federated rounds: evaluated on held-out data and exported, in the trainer's child process."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np

from cloud.client_bundles import set_weights
from cloud.export import Converter
from cloud.jobs import EvaluateJob, Trained, TrainedFile, TrainJob
from cloud.model_files import Fitted, file_for
from edgebench.errors import ModelError
from edgebench.federated.content import numpy_arrays, read_parcel
from edgebench.tasks import task_named
from edgebench.tasks.models import outputs_of
from edgebench.tasks.task import Dataset


class RoundEvaluation:
    """The model of a federated workload, which takes the weights of one round after another."""

    def __init__(self, job: TrainJob, dataset: Dataset, file: Path) -> None:
        """file: the `.keras` one that the job has made. Raises ModelError where it is gone."""
        task = task_named(job.task)  # which may define layers of the model
        if not file.is_file():
            raise ModelError(f"{file}: the model that federated rounds learn on is gone")
        self._keras = keras.models.load_model(file, compile=False, safe_mode=True)
        parameters, outputs = int(self._keras.count_params()), int(self._keras.output_shape[-1])
        # How long the devices have learned is in the records of the rounds.
        self._model = Fitted(job, task, dataset, file, parameters, outputs, epochs=0, train_s=0.0)

    def do(self, job: EvaluateJob, converter: Converter | None) -> Trained:
        """Evaluate a round's model on the split `valid`, and make the files that are wanted of it."""
        task, valid = self._model.task, self._model.dataset.valid
        set_weights(self._keras, dict(numpy_arrays(read_parcel(Path(job.weights)).content)))
        scores = task.score(outputs_of(self._keras, valid.x), valid.y)
        metrics = {name: value for name, value in scores.items() if np.isfinite(value)}
        files: tuple[TrainedFile, ...] = ()
        if job.targets:
            out_dir = Path(job.out_dir)
            out_dir.mkdir(parents=True, exist_ok=True)
            keras_file = out_dir / "model.keras"
            self._keras.save(keras_file)
            model = dataclasses.replace(self._model, file=keras_file, scores={keras_file: metrics})
            files = tuple(file_for(model, converter, runtime, quantisation) for runtime, quantisation in job.targets)
        return Trained(job.name, files, metrics=metrics)
