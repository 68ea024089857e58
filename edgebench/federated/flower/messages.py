"""Between Flower's messages and parcels, without loss.

Flower keeps an array as the bytes of a `.npy` file. A parcel has the raw data and says dtype and shape itself, so the
bytes after the file's header travel as they are, without a copy. What is no plain little-endian array in C order, or is
no `.npy` file at all, travels as it is, under the name of its kind.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.app.constants import DEFAULT_TTL
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode, SType
from numpy.typing import NDArray

from edgebench.federated.content import (
    RAW,
    Array,
    Arrays,
    Config,
    Content,
    ContentError,
    Head,
    Metrics,
    Parcel,
    Record,
)

SERVER_NODE = 0
"""The server's node id; clients are 1, 2, …"""
ERROR_CODE = "error_code"
_NPY_MAGIC = b"\x93NUMPY"
_PLAIN_KINDS = frozenset("biufcmMSU")
"""Kinds of dtypes whose bytes are their whole value: booleans, numbers, times, strings of a fixed width."""


def to_content(records: RecordDict) -> Content:
    """What a Flower `RecordDict` holds. Arrays are views of its bytes. Raises ContentError."""
    content: Content = {}
    for name, record in records.items():
        if isinstance(record, ArrayRecord):
            content[name] = Arrays({key: _array(array) for key, array in record.items()})
        elif isinstance(record, MetricRecord):
            content[name] = Metrics({key: _plain(value) for key, value in record.items()})
        else:
            content[name] = Config({key: _plain(value) for key, value in record.items()})
    return content


def to_records(content: Mapping[str, Record]) -> RecordDict:
    """A Flower `RecordDict` of this content. Raises ContentError where Flower could not use it."""
    records = RecordDict()
    try:
        for name, record in content.items():
            if isinstance(record, Arrays):
                arrays = ArrayRecord()
                for key, array in record.items.items():
                    arrays[key] = _flower_array(array)
                records[name] = arrays
            elif isinstance(record, Metrics):
                records[name] = MetricRecord(dict(record.items))
            else:
                records[name] = ConfigRecord(dict(record.items))
    except TypeError as error:
        raise ContentError(f"not what a Flower message can hold: {error}") from None
    return records


def to_parcel(message: Message, **meta: int | float | str) -> Parcel:
    """The message as it travels. meta: what else its head says. Raises ContentError."""
    content = to_content(message.content) if message.has_content() else {}
    return Parcel(head_of(message, **meta), content)


def head_of(message: Message, **meta: int | float | str) -> Head:
    """The head of the message's parcel."""
    about = message.metadata
    meta = {"run_id": about.run_id, "created_at": about.created_at, "ttl": about.ttl, **meta}
    error = None
    if message.has_error():
        error = message.error.reason or ""
        meta[ERROR_CODE] = message.error.code
    return Head(
        message_id=about.message_id,
        kind=about.message_type,
        group=about.group_id,
        reply_to=about.reply_to_message_id,
        error=error,
        meta=meta,
    )


def to_message(parcel: Parcel, *, run_id: int, src: int, dst: int) -> Message:
    """The Flower message in a parcel, from node `src` to node `dst`. Raises ContentError.

    An error without a reason and one with an empty reason are the same.
    """
    head = parcel.head
    try:
        about = Metadata(
            run_id=run_id,
            message_id=head.message_id,
            src_node_id=src,
            dst_node_id=dst,
            reply_to_message_id=head.reply_to,
            group_id=head.group,
            created_at=float(head.meta.get("created_at", 0.0)),
            ttl=float(head.meta.get("ttl", DEFAULT_TTL)),
            message_type=head.kind,
        )
        if head.error is not None:
            code = int(head.meta.get(ERROR_CODE, ErrorCode.CLIENT_APP_RAISED_EXCEPTION))
            return make_message(metadata=about, error=Error(code, head.error or None))
    except (ValueError, OverflowError) as error:
        raise ContentError(f"not a Flower message: {error}") from None
    return make_message(metadata=about, content=to_records(parcel.content))


def read_quickly(message: Message) -> Message:
    """The same message, for an aggregation, which reads each array by itself: their headers are known already."""
    if message.has_error():
        return message
    records = RecordDict()
    for name, record in message.content.items():
        if isinstance(record, ArrayRecord):
            arrays = ArrayRecord()
            for key, array in record.items():
                arrays[key] = _QuickArray(array.dtype, tuple(array.shape), array.stype, array.data)
            records[name] = arrays
        else:
            records[name] = record
    return make_message(metadata=message.metadata, content=records)


class _QuickArray(FlowerArray):
    """It must not leave the process: Flower tells what it gets by the names of classes."""

    def numpy(self) -> NDArray[Any]:
        """As Flower's, which parses the header each time."""
        shape = tuple(self.shape)
        start = _raw_data_at(self.data, self.dtype, shape) if self.stype == SType.NUMPY else None
        if start is None or start == len(self.data):
            return super().numpy()
        return np.frombuffer(self.data, np.dtype(self.dtype), offset=start).reshape(shape).copy()


def between(about: Metadata, src: int, dst: int) -> Metadata:
    """A copy of what a message says of itself, with other nodes."""
    copied = Metadata(
        run_id=about.run_id,
        message_id=about.message_id,
        src_node_id=src,
        dst_node_id=dst,
        reply_to_message_id=about.reply_to_message_id,
        group_id=about.group_id,
        created_at=about.created_at,
        ttl=about.ttl,
        message_type=about.message_type,
        src_task_id=about.src_task_id,
        dst_task_id=about.dst_task_id,
    )
    copied.delivered_at = ""
    return copied


def chosen_ttl_s(message: Message) -> float | None:
    """How long its app wants a message to live, s; None where that is left to Flower."""
    return None if message.metadata.ttl == DEFAULT_TTL else message.metadata.ttl


def error_reply(request: Message, code: int, reason: str) -> Message:
    """What stands for a reply that did not come, or was refused."""
    return Message(Error(code, reason), reply_to=request)


def refused(reply: Message, reason: str) -> Message:
    """What stands for a reply that did come, and must not be used."""
    return make_message(metadata=reply.metadata, error=Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason))


def _plain(value: Any) -> Any:
    """Flower takes subclasses (`numpy.float64` is a float), MessagePack does not."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    kinds: tuple[type[Any], ...] = (bool, int, float, str, bytes)
    for kind in kinds:
        if isinstance(value, kind):
            return kind(value)
    raise ContentError(f"a value of type {type(value).__name__} cannot travel")


def _array(array: FlowerArray) -> Array:
    shape = tuple(array.shape)
    if array.stype == SType.NUMPY:
        start = _raw_data_at(array.data, array.dtype, shape)
        if start is not None:
            return Array(array.dtype, shape, memoryview(array.data)[start:])
    if array.stype == RAW:
        raise ContentError(f"an array of stype '{RAW}' cannot travel: the name is taken")
    return Array(array.dtype, shape, array.data, array.stype)


def _raw_data_at(data: bytes, dtype: str, shape: tuple[int, ...]) -> int | None:
    """Where the raw data begins in the bytes of a `.npy` file; None where it is not what a parcel calls raw."""
    if data[:6] == _NPY_MAGIC and data[6:8] == b"\x01\x00":
        start = 10 + int.from_bytes(data[8:10], "little")
    elif data[:6] == _NPY_MAGIC and data[6:8] == b"\x02\x00":
        start = 12 + int.from_bytes(data[8:12], "little")
    else:
        return None
    layout = _layout(data[:start])
    if layout is None or layout[:2] != (dtype, shape) or layout[2] != len(data) - start:
        return None
    return start


@lru_cache(maxsize=4096)
def _layout(header: bytes) -> tuple[str, tuple[int, ...], int] | None:
    """dtype, shape and size in bytes that the header of a `.npy` file tells; None where its data is not raw."""
    read = np.lib.format.read_array_header_1_0 if header[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(io.BytesIO(header[8:]))
    except ValueError:
        return None
    if fortran or not _is_plain(dtype):
        return None
    return str(dtype), tuple(shape), dtype.itemsize * math.prod(shape)


def _is_plain(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in _PLAIN_KINDS and dtype.newbyteorder("<") == dtype


def _flower_array(array: Array) -> FlowerArray:
    shape = tuple(array.shape)
    if array.kind != RAW:
        data = bytes(array.data)
        if array.kind == SType.NUMPY:
            _check_npy(data)
        return FlowerArray(array.dtype, shape, array.kind, data)
    header, size = _npy_header(array.dtype, shape)
    if size != len(array.data):
        raise ContentError(f"array of {array.dtype} {shape} in {len(array.data)} bytes")
    return FlowerArray(array.dtype, shape, SType.NUMPY, b"".join((header, array.data)))


@lru_cache(maxsize=4096)
def _npy_header(dtype: str, shape: tuple[int, ...]) -> tuple[bytes, int]:
    """The header of a `.npy` file, and how many bytes of data follow it."""
    try:
        exact = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise ContentError(f"'{dtype}' is no dtype") from None
    if not _is_plain(exact) or any(size < 0 for size in shape):
        raise ContentError(f"an array of {dtype} {shape} is not raw data")
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(exact)
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue(), exact.itemsize * math.prod(shape)


def _check_npy(data: bytes) -> None:
    # Strategies read arrays without asking whether they can be read, and what they raise ends the server's app.
    if data[:6] != _NPY_MAGIC:
        raise ContentError("not an array: no .npy data")
    try:
        np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, TypeError, SyntaxError, EOFError, OSError) as error:
        raise ContentError(f"not an array: {error}") from None
