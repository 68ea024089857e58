"""Generated patients for as many clients as are asked for, 96 each: task `federated_task:CLIENTS_<number>`.

What is asked of a patient, and the model, are those of the task icu-death, whose generator makes the patients; it has
too few of them for a thousand clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebench.seeds import rng_for
from edgebench.tasks.icu.generator import stays
from edgebench.tasks.icu.published import STEPS, feature_names
from edgebench.tasks.icu.task import DEATH, IcuTask
from edgebench.tasks.task import Dataset, Split

SAMPLES = 96
"""Of each client."""
_HELD_OUT = 200
_AT_ONCE = 4_800
"""Stays made at a time: the generator's intermediate results take several times their room."""
_PREFIX = "CLIENTS_"


@dataclass(frozen=True)
class Ward(IcuTask):
    """See `edgebench.tasks.task.Task`."""

    clients: int = 0

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """One sample a patient, and a patient for each of the clients' samples."""
        assert data is None
        return Dataset(
            source="generated",
            real=False,
            features=feature_names(),
            train=_patients("train", 0, SAMPLES * self.clients, seed),
            valid=_patients("valid", SAMPLES * self.clients, _HELD_OUT, seed),
            test=_patients("test", SAMPLES * self.clients + _HELD_OUT, _HELD_OUT, seed),
        )


def _patients(split: str, first: int, count: int, seed: int) -> Split:
    """So many patients, numbered from `first` on."""
    x = np.empty((count, STEPS, len(feature_names())), np.float32)
    y = np.empty((count, 1), np.float32)
    for start in range(0, count, _AT_ONCE):
        rows = slice(start, min(start + _AT_ONCE, count))
        x[rows], y[rows] = stays(DEATH.outcome, rows.stop - start, rng_for(seed, "benchmark", split, start))
    return Split(x=x, y=y, group=np.arange(first, first + count, dtype=np.int64))


def __getattr__(name: str) -> Ward:
    """`CLIENTS_<number>`."""
    number = name.removeprefix(_PREFIX)
    if number == name or not number.isdecimal():
        raise AttributeError(name)
    return Ward(f"federated_task:{name}", DEATH.outcome, DEATH.published, DEATH.models, clients=int(number))
