"""A task of one's own: does a bearing of a machine wear out? Its vibration tells; the model is one of Keras's."""

from pathlib import Path
from typing import Any

import numpy as np

from edgebench.errors import DataError
from edgebench.seeds import rng_for
from edgebench.tasks.classifier import Classifier
from edgebench.tasks.task import Dataset, Split

SAMPLES = 256  # of vibration, 0.1 s
MACHINES = {"train": 200, "valid": 40, "test": 60}
WINDOWS = 10  # of each machine


class Bearing(Classifier):
    name = "bearing:TASK"
    classes, epochs, learning_rate = 2, 30, 3e-3

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        if data is not None:
            raise DataError(f"{data}: this example has generated data only (leave --data out)")
        splits, first = {}, 0
        for split, machines in MACHINES.items():
            splits[split] = generated(rng_for(seed, "bearing", split), machines, first)
            first += machines
        return Dataset(source="generated", real=False, features=("vibration",), **splits)

    def build(self, size: str, dataset: Dataset) -> Any:
        import keras  # here, since nodes and reports need the task, and no Keras
        from keras import layers

        inside = [layers.Conv1D(8, 9, 4, activation="relu"), layers.Conv1D(16, 9, 4, activation="relu")]
        ends = [layers.GlobalAveragePooling1D(), layers.Dense(1, activation="sigmoid")]
        return keras.Sequential([keras.Input((SAMPLES, 1), name="sample"), *inside, *ends])


def generated(rng: np.random.Generator, machines: int, first: int) -> Split:
    """A worn bearing rings, shortly and again and again, under the hum of the machine."""
    machine = np.repeat(np.arange(machines), WINDOWS)
    worn = (rng.random(machines) < 0.4)[machine]
    time = np.arange(SAMPLES) / 2560
    hum = np.sin(2 * np.pi * (rng.uniform(24, 51, machines)[machine, None] * time + rng.random((len(machine), 1))))
    since_knock = (time + rng.random((len(machine), 1))) % (1 / rng.uniform(60, 110, machines)[machine, None])
    ring = np.exp(-since_knock * 900) * np.sin(2 * np.pi * 800 * since_knock)
    strength = np.where(worn, rng.uniform(0.2, 1.2, machines)[machine], 0.0)[:, None]
    x = hum + strength * ring + rng.normal(0, 0.25, (len(machine), SAMPLES))
    return Split(x=x[..., None].astype(np.float32), y=worn[:, None].astype(np.float32), group=first + machine)


TASK = Bearing()
