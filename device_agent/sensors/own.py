"""A sensor of a user's own: `module:attribute`, a function that is given what it is for, and yields samples.

def ecg(context):
    with serial.Serial("/dev/ttyACM0") as port:
        while True:
            yield read_window(port)     # an array of context.shape, when it is there
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.sensors.live import ReadingError, Taken, taken_now
from device_agent.sensors.rows import finite
from edgebench.errors import describe_error
from edgebench.fabric.sensors import SensorChoice, SensorError
from edgebench.inference.spec import TensorSpec


@dataclass(frozen=True)
class SensorContext:
    """What a sensor of one's own is for: a sample of `dtype` and `shape`, whose last axis may be `features`."""

    node: str
    workload: str
    task: str
    dtype: str
    shape: tuple[int, ...]
    features: tuple[str, ...]


class Whole:
    """Takes arrays that are samples already."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec

    def take(self, reading: Any) -> NDArray[Any]:
        """See `Fitting`."""
        try:
            found = np.asarray(reading)
        except ValueError as error:
            raise ReadingError(f"no array: {error}") from None
        if found.shape != self._spec.shape:
            raise ReadingError(f"an array {list(found.shape)}, where a sample is {list(self._spec.shape)}")
        if not np.can_cast(found.dtype, self._spec.dtype, "same_kind"):
            raise ReadingError(f"an array of {found.dtype}, where a sample is {self._spec.dtype}")
        # Its own: the sensor may use its array again.
        with np.errstate(over="ignore"):  # which is then said of it
            return finite(np.array(found, dtype=self._spec.dtype, order="C"))

    def sample(self, kept: NDArray[Any]) -> NDArray[Any]:
        """See `Fitting`."""
        return kept


class Own:
    """Runs the function that stands at `module:attribute`."""

    def __init__(self, choice: SensorChoice, context: SensorContext) -> None:
        """Raises SensorError where there is none."""
        module_name, _, attribute = choice.source.partition(":")
        if choice.folder not in sys.path:
            sys.path.insert(0, choice.folder)
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            raise SensorError(f"module {module_name!r} cannot be imported: {describe_error(error)}") from error
        function = getattr(module, attribute, None)
        if not callable(function):
            raise SensorError(f"module {module_name!r} has no function {attribute!r}")
        self._function: Callable[[SensorContext], object] = function
        self._context = context

    def read(self, over: threading.Event) -> Iterator[Taken]:
        """What it yields, until it is over."""
        readings = self._function(self._context)
        if not isinstance(readings, Iterator):
            raise SensorError(f"gives {type(readings).__name__}, and nothing that yields samples (write yield)")
        for reading in readings:
            yield taken_now(reading)
            if over.is_set():
                return
