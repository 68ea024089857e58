"""What a federated message carries: named records of arrays, metrics and settings, and the bytes they travel as.

It holds all that a Flower `RecordDict` can hold, without Flower, so that devices and edges need neither its memory nor
its internals. A parcel is `EBF1`, the length of its head, the head (MessagePack), and the raw arrays one after another:
an array can be used from a memory-mapped file without a copy, and a message of 100 MB is never in memory twice. Parcels
that travel together are `EBF+`, their number, the length of each, and the parcels.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.decoding import UNREADABLE

RAW = "raw"
"""Array data in C order, little-endian. Other kinds of data (Flower calls them `stype`) are carried as they are."""

STAMPS = ("received_ns", "started_ns", "finished_ns")
"""What a client says in its reply's `meta` of its own clock."""

IN_MEMORY_BYTES = 1 << 20
"""What is larger stays in its file; a smaller one is read at once, which saves a mapping, and its descriptor."""

_MAGIC = b"EBF1"
_TOGETHER = b"EBF+"
_MOST_TOGETHER = 4096
_HEAD_AT = 8
_LARGEST_HEAD_BYTES = 1 << 26

Setting = Any
"""int, float, str, bytes, bool, or a list of one of them; MessagePack tells them apart."""
Bytes = bytes | memoryview


class ContentError(Exception):
    """Bytes that are no parcel, or an array that is not what it claims to be; the message says what is wrong."""


class Array(msgspec.Struct, frozen=True):
    """One array. data: raw bytes, or what `kind` says."""

    dtype: str
    shape: tuple[int, ...]
    data: Bytes
    kind: str = RAW

    @staticmethod
    def of(array: NDArray[Any]) -> Array:
        """An array as it is in memory; copied only where it is not in C order and little-endian."""
        plain = np.ascontiguousarray(array)
        if plain.dtype.byteorder == ">":
            plain = plain.astype(plain.dtype.newbyteorder("<"))
        # A memoryview cannot be cast to bytes where a dimension is 0.
        data = memoryview(plain.data).cast("B") if plain.size else b""
        return Array(str(plain.dtype), tuple(array.shape), data)

    def numpy(self) -> NDArray[Any]:
        """A read-only view of the data, [*shape]. Raises ContentError where data, dtype and shape do not agree."""
        if self.kind != RAW:
            raise ContentError(f"array data of kind '{self.kind}', not {RAW}")
        if any(size < 0 for size in self.shape):  # NumPy takes it for what is left over
            raise ContentError(f"array of {self.dtype} {self.shape}")
        try:
            view = np.frombuffer(self.data, dtype=np.dtype(self.dtype)).reshape(self.shape)
        except (ValueError, TypeError, SyntaxError) as error:
            raise ContentError(f"array of {self.dtype} {self.shape}: {error}") from None
        view.flags.writeable = False
        return view


class Arrays(msgspec.Struct, frozen=True, tag="arrays"):
    """A record of arrays: a model, mostly."""

    items: dict[str, Array]


class Metrics(msgspec.Struct, frozen=True, tag="metrics"):
    """A record of numbers and lists of numbers."""

    items: dict[str, int | float | list[int | float]]


class Config(msgspec.Struct, frozen=True, tag="config"):
    """A record of settings."""

    items: dict[str, Setting]


Record = Arrays | Metrics | Config
Content = dict[str, Record]
"""Records by name, in an order that is kept."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a parcel says of itself.

    message_id: names a request; a reply repeats it in `reply_to`. kind: Flower's message type: `train`, `evaluate`,
    `query`, or one of these with `.action`. group: the round, in most strategies. error: why there is no content.
    meta: stamps and the like, which no app sees.
    """

    message_id: str
    kind: str
    group: str = ""
    reply_to: str = ""
    error: str | None = None
    meta: dict[str, int | float | str] = {}


class Parcel(msgspec.Struct, frozen=True):
    """A message: its head and, unless that tells an error, its content."""

    head: Head
    content: Content


class _Spot(msgspec.Struct, frozen=True, array_like=True):
    """Where an array's data lies among the raw bytes."""

    dtype: str
    shape: tuple[int, ...]
    kind: str
    start: int
    size: int


class _ArraysOut(msgspec.Struct, frozen=True, tag="arrays"):
    items: dict[str, _Spot]


class _Front(msgspec.Struct, frozen=True):
    head: Head
    records: dict[str, _ArraysOut | Metrics | Config]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Front)


def pack(head: Head, content: Mapping[str, Record]) -> list[Bytes]:
    """The buffers of a parcel, in the order in which they travel; array data is not copied."""
    body: list[Bytes] = []
    at = 0
    records: dict[str, _ArraysOut | Metrics | Config] = {}
    for name, record in content.items():
        if not isinstance(record, Arrays):
            records[name] = record
            continue
        spots = {}
        for key, array in record.items.items():
            size = len(array.data)
            spots[key] = _Spot(array.dtype, array.shape, array.kind, at, size)
            body.append(array.data)
            at += size
        records[name] = _ArraysOut(spots)
    front = _encoder.encode(_Front(head, records))
    return [_MAGIC + len(front).to_bytes(_HEAD_AT - len(_MAGIC), "big") + front, *body]


def pack_together(parcels: Sequence[Sequence[Bytes]]) -> list[Bytes]:
    """The buffers of packed parcels as they travel together; of one alone its own."""
    if len(parcels) == 1:
        return list(parcels[0])
    sizes = [sum(map(len, parcel)) for parcel in parcels]
    return [_TOGETHER + struct.pack(f">I{len(sizes)}Q", len(sizes), *sizes), *itertools.chain(*parcels)]


def unpack_together(data: Bytes | mmap.mmap) -> list[Parcel]:
    """The parcels in these bytes, be it one alone. Raises ContentError."""
    view = memoryview(data)
    if bytes(view[: len(_TOGETHER)]) != _TOGETHER:
        return [unpack(data)]
    try:
        (count,) = struct.unpack_from(">I", view, len(_TOGETHER))
        sizes = struct.unpack_from(f">{count}Q", view, _HEAD_AT) if count <= _MOST_TOGETHER else ()
    except struct.error:
        sizes = ()
    ends = list(itertools.accumulate(sizes, initial=_HEAD_AT + 8 * len(sizes)))
    if not sizes or ends[-1] != len(view):
        raise ContentError("federated messages that are cut off")
    return [unpack(view[start:end]) for start, end in itertools.pairwise(ends)]


def unpack(data: Bytes | mmap.mmap) -> Parcel:
    """The parcel in these bytes, whose arrays are views of them. Raises ContentError."""
    view = memoryview(data)
    if len(view) < _HEAD_AT or bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise ContentError("not a federated message")
    size = int.from_bytes(view[len(_MAGIC) : _HEAD_AT], "big")
    if size > _LARGEST_HEAD_BYTES or _HEAD_AT + size > len(view):
        raise ContentError("a federated message that is cut off")
    try:
        front = _decoder.decode(view[_HEAD_AT : _HEAD_AT + size])
    except UNREADABLE as error:
        raise ContentError(f"not a federated message: {error}") from None
    body = view[_HEAD_AT + size :]
    return Parcel(front.head, {name: _read(record, body) for name, record in front.records.items()})


def _read(record: _ArraysOut | Metrics | Config, body: memoryview) -> Record:
    if not isinstance(record, _ArraysOut):
        return record
    items = {}
    for key, spot in record.items.items():
        if spot.start < 0 or spot.size < 0 or spot.start + spot.size > len(body):
            raise ContentError(f"array '{key}' lies outside of its message")
        items[key] = Array(spot.dtype, spot.shape, body[spot.start : spot.start + spot.size], spot.kind)
    return Arrays(items)


def write_parcel(path: Path, buffers: Sequence[Bytes]) -> None:
    """Write a packed parcel to a file."""
    with path.open("wb") as file:
        for buffer in buffers:
            file.write(buffer)


def restamp(path: Path, stamps: Mapping[str, int]) -> None:
    """Put other stamps in the place of those that the head of a parcel's file has, which it need not have.

    Raises ContentError where it is no parcel, or the others take another room than those did.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(_HEAD_AT)[len(_MAGIC) :], "big")
        try:
            front = _decoder.decode(file.read(size))
        except UNREADABLE as error:
            raise ContentError(f"not a federated message: {error}") from None
        meta = {**front.head.meta, **{name: each for name, each in stamps.items() if name in front.head.meta}}
        changed = _encoder.encode(_Front(msgspec.structs.replace(front.head, meta=meta), front.records))
        if len(changed) != size:
            raise ContentError("stamps that take another room")
        file.seek(_HEAD_AT)
        file.write(changed)


def read_parcel(path: Path) -> Parcel:
    """The parcel in a file. A large one is mapped: its arrays stay valid, and the file's room in use, while they live.

    Before Python 3.13 each file that is mapped holds a descriptor. Raises ContentError, and OSError where the file is
    not there or there are too many.
    """
    return unpack(_data_of(path))


def read_together(path: Path) -> list[Parcel]:
    """The parcels in a file, be it one alone; as `read_parcel`."""
    return unpack_together(_data_of(path))


def _data_of(path: Path) -> Bytes | mmap.mmap:
    with path.open("rb", buffering=0) as file:
        is_small = os.fstat(file.fileno()).st_size <= IN_MEMORY_BYTES
        return file.read() if is_small else _mapped(file.fileno())


def _mapped(descriptor: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False)
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)


def stamps_in(meta: Mapping[str, Any]) -> dict[str, int]:
    """Those of `STAMPS` that a client tells, and that are times in ns: a peer may say anything."""
    return {name: value for name in STAMPS if type(value := meta.get(name)) is int and 0 <= value < 1 << 63}


def arrays_in(content: Content) -> dict[str, Array]:
    """The arrays of the first record of arrays; empty where there is none."""
    return next((record.items for record in content.values() if isinstance(record, Arrays)), {})


def metrics_in(content: Content) -> dict[str, int | float | list[int | float]]:
    """The numbers of the first record of metrics; empty where there is none."""
    return next((record.items for record in content.values() if isinstance(record, Metrics)), {})


def configs_in(content: Content) -> dict[str, Setting]:
    """All settings of all records of settings, later ones over earlier ones."""
    return {
        key: value for record in content.values() if isinstance(record, Config) for key, value in record.items.items()
    }


def numpy_arrays(content: Content) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and view of each array of `arrays_in`. Raises ContentError."""
    for name, array in arrays_in(content).items():
        yield name, array.numpy()


def reply_head(request: Head, error: str | None, meta: Mapping[str, int | float | str]) -> Head:
    """The head of a reply to the request with this head. meta: `STAMPS` of the replying side, and the like."""
    return Head(
        message_id=f"re-{request.message_id}",
        kind=request.kind,
        group=request.group,
        reply_to=request.message_id,
        error=error,
        meta=dict(meta),
    )
