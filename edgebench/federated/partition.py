"""Who has which data: the training samples of a workload, shared out to its devices, and the files they learn from.

Whole groups (patients, subjects) are dealt, never single samples: in a ward too, a patient lies in one bed.

The files are `x.npy` and `y.npy` (a row a sample), with the rows of each part together, one part after another, and
`starts.npy`: int64 [part + 1], the row at which each part begins, and the number of rows. Rows are read as they are
needed, so that a process holds one batch, or a part that is small, whether it learns for a thousand clients or for one
that has all the data.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.seeds import rng_for
from edgebench.tasks.task import Split
from edgebench.topology.model import Dirichlet, Iid, Natural, Partition

PARTITION_FILES = ("x.npy", "y.npy", "starts.npy")
_HEADER_BYTES = 4096
"""The head of a file, with its dtype and shape, lies within these."""

_SMALL_BYTES = 1 << 21
"""A part of so much is read at once, which takes a fraction of the time that its rows take one by one."""

Indices = NDArray[np.int64]


class PartFigures(msgspec.Struct, frozen=True):
    """What one part holds. label_shares: of its rows, by class (no, yes)."""

    rows: int
    groups: int
    label_shares: tuple[float, ...]


def partition(
    split: Split, plan: Partition, parts: int, seed: int, *, source: str = "the training data"
) -> list[Indices]:
    """The row numbers of each part, ascending: every row in one part, every group in one part, no part empty.

    source: what the data is called in an error. Raises DataError for fewer groups than parts, and for a natural
    partition of data without a natural key.
    """
    groups, group = np.unique(split.group, return_inverse=True)
    if len(groups) < parts:
        raise DataError(
            f"{source}: {len(groups)} patients (or other groups) cannot be shared out to {parts} devices; "
            f"take at most {len(groups)} devices, or more data"
        )
    match plan:
        case Iid():
            part = _iid(len(groups), parts, rng_for(seed, "partition", "iid"))
        case Dirichlet(alpha=alpha):
            label = _most_common(group, classes(split.y))
            part = _dirichlet(label, alpha, parts, rng_for(seed, "partition", "dirichlet"))
        case Natural():
            if split.key is None:
                raise DataError(f"{source}: nothing in it tells its groups apart; set partition to iid or dirichlet")
            key = _most_common(group, np.unique(split.key, return_inverse=True)[1])
            part = _natural(key, parts, rng_for(seed, "partition", "natural"))
    of_row = part[group]
    in_order = np.argsort(of_row, kind="stable").astype(np.int64)
    return np.split(in_order, np.cumsum(np.bincount(of_row, minlength=parts))[:-1])


def describe_partition(plan: Partition) -> str:
    """In a few words, for reports."""
    return f"dirichlet, alpha {plan.alpha:g}" if isinstance(plan, Dirichlet) else str(plan.__struct_config__.tag)


def describe(split: Split, parts: Sequence[Indices]) -> tuple[PartFigures, ...]:
    """Sizes and label shares of each part, for reports."""
    label = classes(split.y)
    count = int(label.max(initial=0)) + 1
    return tuple(
        PartFigures(
            rows=len(rows),
            groups=len(np.unique(split.group[rows])),
            label_shares=tuple((np.bincount(label[rows], minlength=count) / max(len(rows), 1)).tolist()),
        )
        for rows in parts
    )


def classes(y: NDArray[np.float32]) -> Indices:
    """The class of each sample, from 0: the number in its only label column, or the column with the largest."""
    if y.shape[1] > 1:
        return y.argmax(axis=1).astype(np.int64)
    return np.rint(y[:, 0]).astype(np.int64)


def _most_common(group: Indices, value: Indices) -> Indices:
    """The most frequent value (≥ 0) of each group, the least of equally frequent ones: [group]."""
    width = int(value.max(initial=0)) + 1
    pairs, count = np.unique(group * width + value, return_counts=True)
    # By group, then from the most frequent on: the first of each group is the one.
    order = np.lexsort((pairs, -count, pairs // width))
    _, first = np.unique(pairs[order] // width, return_index=True)
    return (pairs[order][first] % width).astype(np.int64)


def _iid(groups: int, parts: int, rng: np.random.Generator) -> Indices:
    return _dealt(np.arange(groups), parts, rng)


def _dealt(members: Indices, parts: int, rng: np.random.Generator) -> Indices:
    """The part of each member, dealt round the parts after a shuffle: [member]."""
    part = np.empty(len(members), np.int64)
    part[rng.permutation(len(members))] = np.arange(len(members)) % parts
    return part


def _dirichlet(label: Indices, alpha: float, parts: int, rng: np.random.Generator) -> Indices:
    """Source: Hsu et al. 2019, "Measuring the effects of non-identical data distribution"; here by class, so that
    every group is used once."""
    part = np.empty(len(label), np.int64)
    for each in np.unique(label):
        members = rng.permutation(np.flatnonzero(label == each))
        shares = rng.dirichlet(np.full(parts, alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for index, mine in enumerate(np.split(members, cuts)):
            part[mine] = index
    sizes = np.bincount(part, minlength=parts)
    for empty in np.flatnonzero(sizes == 0):
        richest = int(sizes.argmax())
        part[rng.choice(np.flatnonzero(part == richest))] = empty
        sizes[richest] -= 1
        sizes[empty] += 1
    return part


def _natural(key: Indices, parts: int, rng: np.random.Generator) -> Indices:
    sizes = np.bincount(key)
    if len(sizes) > parts:
        return _packed(sizes, parts)[key]
    part = np.empty(len(key), np.int64)
    start = 0
    for each, allotted in enumerate(_allotted(sizes, parts)):
        members = np.flatnonzero(key == each)
        part[members] = start + _dealt(members, allotted, rng)
        start += allotted
    return part


def _allotted(sizes: Indices, parts: int) -> list[int]:
    """How many parts each key gets: one, then one more for whichever has most groups a part; never more than groups."""
    allotted = [1] * len(sizes)
    fullest = [(-float(size), key) for key, size in enumerate(sizes)]
    heapq.heapify(fullest)
    for _ in range(parts - len(sizes)):
        _, key = fullest[0]
        allotted[key] += 1
        heapq.heapreplace(fullest, (-float(sizes[key]) / allotted[key], key))
    return allotted


def _packed(sizes: Indices, parts: int) -> Indices:
    """The part of each key: the largest first, each onto the part with the fewest groups so far."""
    part = np.empty(len(sizes), np.int64)
    emptiest = [(0, index) for index in range(parts)]
    for key in np.argsort(-sizes, kind="stable"):
        held, index = emptiest[0]
        part[key] = index
        heapq.heapreplace(emptiest, (held + int(sizes[key]), index))
    return part


def write_partitions(split: Split, parts: Sequence[Indices], directory: Path) -> None:
    """Write the rows `parts` of a split to `PARTITION_FILES` in a folder, in the order in which they are given."""
    directory.mkdir(parents=True, exist_ok=True)
    starts = np.cumsum([0, *(len(rows) for rows in parts)], dtype=np.int64)
    for name, array in (("x", split.x), ("y", split.y)):
        # A part at a time: the whole in another order would be a second copy in memory.
        file = np.lib.format.open_memmap(
            directory / f"{name}.npy", mode="w+", dtype=array.dtype, shape=(int(starts[-1]), *array.shape[1:])
        )
        for rows, start, end in zip(parts, starts[:-1], starts[1:], strict=True):
            file[start:end] = array[rows]
        file.flush()
    np.save(directory / "starts.npy", starts, allow_pickle=False)


def fetch_parts(parts: Collection[int], directory: Path, fetch: Callable[[str, int, int], object]) -> None:
    """Fetch the files of `write_partitions` to a folder, the rows of these parts (one or more) alone.

    fetch(name, start, end): bring these bytes of a file, which may end sooner, to the same place in the file of that
    name, and make that as long as the whole. Raises DataError for files that are not of the form.
    """
    for name in PARTITION_FILES:
        fetch(name, 0, _HEADER_BYTES)
    fetch("starts.npy", 0, (directory / "starts.npy").stat().st_size)
    held = PartitionFile(directory)
    wanted = np.array(sorted(set(parts)), np.int64)
    # Neighbours in one go: an agent may host a thousand clients.
    for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1):
        for name, start, end in held.extents(int(run[0]), int(run[-1])):
            fetch(name, start, end)


class PartitionFile:
    """The parts written by `write_partitions`; `len` is their number.

    Raises DataError for files that are not of its form.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            self._x, self._y = _Rows(directory / "x.npy"), _Rows(directory / "y.npy")
            self._starts: Indices = np.load(directory / "starts.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{directory}: not the parts of a data set ({error})") from error

    def __len__(self) -> int:
        return len(self._starts) - 1

    def part(self, index: int) -> tuple[PartRows, PartRows]:
        """The rows of a part: x [sample, *shape] and y float32 [sample, label]. Raises DataError."""
        start, end = self._rows(index, index)
        return PartRows(self._x, start, end), PartRows(self._y, start, end)

    def extents(self, first: int, last: int) -> list[tuple[str, int, int]]:
        """Where these parts lie: name of the file, first byte, and the one after the last. Raises DataError."""
        start, end = self._rows(first, last)
        return [("x.npy", *self._x.extent(start, end)), ("y.npy", *self._y.extent(start, end))]

    def _rows(self, first: int, last: int) -> tuple[int, int]:
        for index in (first, last):
            if not 0 <= index < len(self):
                raise DataError(f"{self._directory}: no part {index} among {len(self)}")
        return int(self._starts[first]), int(self._starts[last + 1])


class _Rows:
    """Rows of an array in a file, read without mapping it: mapped pages would count as the process's memory."""

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        self._path = path
        self._dtype: np.dtype[Any] = mapped.dtype
        self._shape: tuple[int, ...] = mapped.shape[1:]
        self._offset = mapped.offset
        self.row_bytes = mapped[:1].nbytes

    def extent(self, start: int, end: int) -> tuple[int, int]:
        """The bytes of these rows: the first, and the one after the last."""
        return self._offset + start * self.row_bytes, self._offset + end * self.row_bytes

    def read(self, rows: Indices) -> NDArray[Any]:
        """Raises DataError where the file ends before one of them."""
        read = np.empty((len(rows), *self._shape), self._dtype)
        with self._path.open("rb", buffering=0) as file:
            for place, row in enumerate(rows.tolist()):
                size = os.preadv(file.fileno(), [read[place : place + 1].data], self.extent(row, row)[0])
                if size < self.row_bytes:
                    raise DataError(f"{self._path}: ends before row {row + 1}")
        return read

    def read_all(self, start: int, end: int) -> NDArray[Any] | None:
        """The rows from `start` to `end`; None where the file is cut off."""
        read = np.empty((end - start, *self._shape), self._dtype)
        with self._path.open("rb", buffering=0) as file:
            size = os.preadv(file.fileno(), [read.data], self.extent(start, end)[0])
        return read if size == read.nbytes else None


class PartRows:
    """The samples, or the labels, of one client: rows are read as they are asked for, however many the client has."""

    def __init__(self, rows: _Rows, start: int, end: int) -> None:
        self._rows = rows
        self._start = start
        self._end = end
        self._held: NDArray[Any] | None = None

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, rows: Indices, /) -> NDArray[Any]:
        """The rows of these numbers, from 0: [number, *shape]. Raises DataError where the file is cut off."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"row {rows.min()} or {rows.max()} of {len(self)}")  # beyond lie other clients' rows
        if self._held is None and 0 < len(self) * self._rows.row_bytes <= _SMALL_BYTES:
            self._held = self._rows.read_all(self._start, self._end)
        if self._held is not None:
            return self._held[rows]
        return self._rows.read(self._start + rows)
