"""A device's share of a workload's stream file, over and over."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.core.samples import Reading
from edgebench.errors import FabricError
from edgebench.fabric.slices import STREAM_FILES, Share


class StreamFile:
    """The samples of a workload, read from the file one at a time, so that they never fill a device's memory.

    dtype, shape: of one sample. y: float32 [sample, label].
    """

    def __init__(self, directory: Path) -> None:
        x_file, y_file, group_file = (directory / name for name in STREAM_FILES)
        x = np.load(x_file, mmap_mode="r", allow_pickle=False)
        self.dtype: np.dtype[Any] = x.dtype
        self.shape: tuple[int, ...] = x.shape[1:]
        self._offset = x.offset
        self._row_bytes = x[:1].nbytes
        self._fd = os.open(x_file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._fd)
        self.y: NDArray[np.float32] = np.load(y_file, allow_pickle=False)
        group: NDArray[np.int64] = np.load(group_file, allow_pickle=False)
        # Not np.unique, which brings 10 MB of masked arrays along.
        groups = np.sort(group)
        groups = groups[np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))]
        self._groups = len(groups)
        self._rank = np.searchsorted(groups, group)
        """Of each sample's group among all: int64 [sample]."""

    def row(self, index: int) -> NDArray[Any]:
        """A sample [*shape]."""
        raw = os.pread(self._fd, self._row_bytes, self._offset + index * self._row_bytes)
        return np.frombuffer(raw, self.dtype).reshape(self.shape)

    def rows_of(self, share: Share) -> NDArray[np.int64]:
        """Indices of the samples of every `share.of`-th group, from `share.index` on, in the order of the file.

        With more devices than groups, devices stream the same groups. Raises FabricError for an empty file.
        """
        if not self._groups:
            raise FabricError("the stream file has no sample")
        return np.flatnonzero(self._rank % min(share.of, self._groups) == share.index % self._groups)


class Replay:
    """One device's share of a workload's samples, in their order and with their labels."""

    def __init__(self, stream: StreamFile, share: Share) -> None:
        self._stream = stream
        self._rows = stream.rows_of(share)
        self._next = 0
        self.dtype = str(stream.dtype)
        self.shape = stream.shape

    def capture(self) -> Reading:
        """The next sample."""
        row = int(self._rows[self._next])
        self._next = (self._next + 1) % len(self._rows)
        return Reading(self._stream.row(row), self._stream.y[row].tobytes())
