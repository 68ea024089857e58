"""What a stream senses with."""

from __future__ import annotations

from typing import Protocol

from edgebench.core.samples import Reading


class Sensor(Protocol):
    """One device's source of samples for one workload. dtype, shape: of a sample."""

    dtype: str
    shape: tuple[int, ...]

    def capture(self) -> Reading:
        """See `SampleSource`."""
        ...
