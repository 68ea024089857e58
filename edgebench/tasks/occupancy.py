"""Is anybody in the room? Temperature, humidity, light and carbon dioxide of the last ten minutes tell.

Source: Candanedo and Feldheim 2016; https://archive.ics.uci.edu/dataset/357/occupancy+detection (CC BY 4.0).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.seeds import rng_for
from edgebench.tasks import sources
from edgebench.tasks.classifier import Classifier
from edgebench.tasks.files import finite, read_text
from edgebench.tasks.task import Dataset, DataSource, ModelInfo, Size, Split

if TYPE_CHECKING:
    import keras

NAME = "UCI occupancy detection"
FILES = ("datatraining.txt", "datatest.txt", "datatest2.txt")
"""As published: to train on, and two tests; the first of them is `valid` here, the second `test`."""
HOW_TO_GET = (
    "the UCI occupancy detection data (CC BY 4.0, https://archive.ics.uci.edu/dataset/357/): datatraining.txt, "
    "datatest.txt and datatest2.txt in occupancy/"
)
COLUMNS = ("Temperature", "Humidity", "Light", "CO2", "HumidityRatio")
STEPS = 10
"""Minutes of a sample."""
_PREFIX = "occupancy_"
"""Before their names in copies of them that are about."""
_EVERY = 5
"""A sample begins every so many minutes."""
_HOUR = 60 // _EVERY


class Occupancy(Classifier):
    """Implements `edgebench.tasks.task.Task`; samples float32 [10, 5], the last ten minutes."""

    name = "occupancy"
    classes = 2
    scenario = "smart-home"
    models: Mapping[Size, ModelInfo] = {
        "light": ModelInfo("dense 16", 833),
        "heavy": ModelInfo("LSTM 32", 4_897),
    }

    def sources(self) -> Sequence[DataSource]:
        """See `Task.sources`."""
        return (DataSource(NAME, "occupancy", (FILES[0], _PREFIX + FILES[0]), HOW_TO_GET, _load),)

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`. A group is an hour."""
        return _generated(seed) if data is None else sources.load(self.name, self.sources(), data)

    def build(self, size: Size, dataset: Dataset) -> keras.Model:
        """See `Classifier.build`."""
        import keras

        x = dataset.train.x
        inputs = keras.Input(x.shape[1:], name="sample")
        # Each column by itself: int8 has one scale for all constants of a layer, and beside the humidity ratio's those
        # of the others would be none.
        columns = []
        for column in range(len(COLUMNS)):
            values = x[..., column]
            scale = keras.layers.Normalization(mean=[values.mean()], variance=[values.var() + 1e-6])
            columns.append(scale(inputs[..., column : column + 1]))
        steps = keras.layers.Concatenate()(columns)
        if size == "light":
            found = keras.layers.Dense(16, activation="relu")(keras.layers.Flatten()(steps))
        else:
            found = keras.layers.LSTM(32)(steps)
        return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(found), name=size)


def _load(folder: Path) -> Dataset:
    prefix = "" if (folder / FILES[0]).exists() else _PREFIX
    splits = [_windows(*_read(folder / (prefix + name)), first=1_000_000 * place) for place, name in enumerate(FILES)]
    train, valid, test = splits
    return Dataset(source=NAME, real=True, features=COLUMNS, train=train, valid=valid, test=test)


def _read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Values [minute, 5] and whether anybody was there [minute]."""
    names = (*COLUMNS, "Occupancy")
    numbers = []
    mend = f"fetch {HOW_TO_GET} again"
    with io.StringIO(read_text(path, HOW_TO_GET), newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            lacking = [name for name in names if name not in header]
            if lacking:
                raise DataError(f"{path}: no column '{lacking[0]}'; {mend}")
            for row in filter(None, reader):
                where = f"{path}, line {reader.line_num}"
                # As published, each row begins with its number, which has no name in the header.
                named = dict(zip(header, row[len(row) > len(header) :], strict=True))
                numbers.append([finite(named[name], name, where, mend) for name in names])
        except (csv.Error, ValueError) as error:
            raise DataError(f"{path}, line {reader.line_num}: not numbers in columns ({error}); {mend}") from error
    rows = np.array(numbers, np.float32).reshape(-1, len(names))
    values, present = rows[:, :-1], rows[:, -1]
    if len(values) < STEPS:
        raise DataError(f"{path}: {len(values)} minutes, fewer than {STEPS}; fetch {HOW_TO_GET} again")
    return values, present


def _windows(values: NDArray[np.float32], present: NDArray[np.float32], *, first: int) -> Split:
    """Ten minutes at a time, each with the answer for its last one; hours are numbered from `first`."""
    ends = np.arange(STEPS - 1, len(values), _EVERY)
    x = values[ends[:, None] + np.arange(1 - STEPS, 1)]
    return Split(x=x, y=present[ends, None], group=first + np.arange(len(ends), dtype=np.int64) // _HOUR)


def _generated(seed: int) -> Dataset:
    """Three weeks, one and one: people come and go, breathe, switch the light on, and leave it on now and then."""
    weeks = (("train", 3), ("valid", 1), ("test", 1))
    train, valid, test = (
        _windows(*_lived_in(rng_for(seed, "occupancy", name), days=7 * count), first=1_000_000 * place)
        for place, (name, count) in enumerate(weeks)
    )
    return Dataset(source="generated", real=False, features=COLUMNS, train=train, valid=valid, test=test)


def _lived_in(rng: np.random.Generator, *, days: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Minutes of a room, as `_read` gives them."""
    minutes = days * 24 * 60
    hour = np.arange(minutes) / 60 % 24
    at_work = (hour > 8) & (hour < 18) & (np.arange(minutes) // 1440 % 7 < 5)
    # In a visit's minute somebody comes or goes, at work oftener than at night.
    turns = rng.random(minutes) < np.where(at_work, 0.02, 0.004)
    present = ((np.cumsum(turns) % 2 == 1) & (rng.random(minutes // 60 + 1).repeat(60)[:minutes] < 0.8)).astype(float)
    breath = np.exp(-np.arange(180) / 40)
    air = 430 + 12 * np.convolve(present, breath)[:minutes] + rng.normal(0, 15, minutes)
    daylight = 250 * np.clip(np.sin((hour - 7) / 11 * np.pi), 0, None) * rng.uniform(0.3, 1, days).repeat(1440)
    lamp = 320 * ((present > 0) & (daylight < 150) | (rng.random(days).repeat(1440) < 0.15))
    warmth = 20.5 + 0.01 * np.convolve(present, breath)[:minutes] + 0.4 * np.sin(hour / 24 * 2 * np.pi)
    humidity = 27 + rng.normal(0, 2, days).repeat(1440) + 0.02 * np.convolve(present, breath)[:minutes]
    light = np.clip(daylight + lamp + rng.normal(0, 12, minutes), 0, None)
    warmth += rng.normal(0, 0.05, minutes)
    values = np.stack([warmth, humidity, light, air, humidity * 1.6e-4 * np.exp(0.06 * (warmth - 20.5))], axis=1)
    return values.astype(np.float32), present.astype(np.float32)


TASK = Occupancy()
