"""Numbers, from lines of text or from messages, fitted into samples."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.sensors.live import ReadingError
from edgebench.inference.spec import TensorSpec
from edgebench.topology.wording import listed

_WORDS = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


class Rows:
    """A reading holds a task's features, by their names or in their order: one step of a sample [step, feature], which
    holds the last ones, or the whole of a sample [feature]. Or it holds all numbers of a sample, in their order."""

    def __init__(self, spec: TensorSpec, features: Sequence[str]) -> None:
        self._spec = spec
        self._features = tuple(features)
        self._size = int(np.prod(spec.shape))
        fits = bool(spec.shape) and spec.shape[-1] == len(self._features)
        self._steps = spec.shape[0] if fits and len(spec.shape) == 2 else None
        self._takes_features = fits and len(spec.shape) <= 2
        self._window: deque[NDArray[np.float64]] = deque(maxlen=self._steps or 1)

    def take(self, reading: Any) -> NDArray[Any] | None:
        """See `Fitting`. reading: a mapping of names to numbers, or numbers."""
        values = self._values(reading)
        if values.size == self._size and self._steps != 1:
            return self._typed(values.reshape(self._spec.shape))
        if not self._takes_features or values.size != len(self._features):
            raise ReadingError(f"{values.size:,} numbers, where {self._wanted()}")
        self._window.append(values)
        if self._steps is None or len(self._window) < self._steps:
            return None
        return self._typed(np.stack(self._window))

    def sample(self, kept: NDArray[Any]) -> NDArray[Any]:
        """See `Fitting`."""
        return kept

    def _values(self, reading: Any) -> NDArray[np.float64]:
        if isinstance(reading, Mapping):
            lacking = [name for name in self._features if name not in reading]
            if lacking or not self._takes_features:
                raise ReadingError(f"without {listed(lacking)}" if lacking else f"names, where {self._wanted()}")
            values = np.array([number(reading[name], name) for name in self._features])
        else:
            values = np.array([number(value) for value in _flat(reading)])
        return finite(values)

    def _typed(self, values: NDArray[np.float64]) -> NDArray[Any]:
        dtype = np.dtype(self._spec.dtype)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if values.min() < limits.min or values.max() > limits.max:
                raise ReadingError(f"a number beyond {limits.min:,} to {limits.max:,}")
        with np.errstate(over="ignore"):  # which is then said of it
            return finite(values.astype(dtype))

    def _wanted(self) -> str:
        whole = f"a sample has {self._size:,}"
        if not self._takes_features:
            return whole
        return f"the task has {len(self._features):,} features ({listed(self._features)})" + (
            "" if self._steps is None else f", and {whole}"
        )


def finite(values: NDArray[Any]) -> NDArray[Any]:
    """The same. Raises ReadingError where one is none that a model could make anything of."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ReadingError("a number that is not finite")
    return values


def _flat(reading: Any) -> list[Any]:
    if isinstance(reading, list):
        return [value for each in reading for value in _flat(each)]
    return [reading]


def parsed(text: str, otherwise: Any) -> Any:
    """What JSON says; `otherwise` where it is none, or is nested too deeply to be a reading."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise


def number(value: Any, name: str = "") -> float:
    """A number, or a word that stands for 0 or 1. Raises ReadingError."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        value = word
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        of = f"{name} is " if name else ""
        raise ReadingError(f"{of}{str(value)[:40]!r}, which is no number") from None
