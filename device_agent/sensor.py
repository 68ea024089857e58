"""What a device senses: its share of a workload's stream file, over and over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import FabricError
from edgebench.fabric.slices import Share


class StreamFile:
    """The samples of a workload, memory-mapped, so that a thousand devices in one process share one copy.

    x: [sample, *shape]; y: float32 [sample, label]; group: int64 [sample].
    """

    def __init__(self, directory: Path) -> None:
        self.x: NDArray[Any] = np.load(directory / "x.npy", mmap_mode="r", allow_pickle=False)
        self.y: NDArray[np.float32] = np.load(directory / "y.npy", allow_pickle=False)
        self._group: NDArray[np.int64] = np.load(directory / "group.npy", allow_pickle=False)

    def rows_of(self, share: Share) -> NDArray[np.int64]:
        """Indices of the samples of every `share.of`-th group, from `share.index` on, in the order of the file.

        With more devices than groups, devices stream the same groups. Raises FabricError for an empty file.
        """
        groups = np.unique(self._group)
        if len(groups) == 0:
            raise FabricError("the stream file has no sample")
        if share.of <= len(groups):
            mine = groups[share.index :: share.of]
        else:
            mine = groups[share.index % len(groups)][np.newaxis]
        return np.flatnonzero(np.isin(self._group, mine))


class Sensor:
    """One device's source of samples for one workload."""

    def __init__(self, stream: StreamFile, share: Share) -> None:
        self._stream = stream
        self._rows = stream.rows_of(share)
        self._next = 0
        self.dtype = str(stream.x.dtype)
        self.shape = stream.x.shape[1:]

    def capture(self) -> tuple[NDArray[Any], tuple[float, ...]]:
        """The next sample [*shape], contiguous, and its label."""
        row = self._rows[self._next]
        self._next = (self._next + 1) % len(self._rows)
        return np.ascontiguousarray(self._stream.x[row]), tuple(self._stream.y[row].tolist())
