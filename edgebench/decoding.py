"""Reading what others have written: a user's file, a message of another process, what a crash has left."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises: where the form is another one, where text is no UTF-8, and where all is nested too deeply."""

_DIGITS = 19
T = TypeVar("T")


@overload
def from_json(content: bytes) -> Any: ...
@overload
def from_json(content: bytes, kind: type[T]) -> T: ...
def from_json(content: bytes, kind: Any = Any) -> Any:
    """What JSON says, behind a byte order mark or not. Raises msgspec.DecodeError, whatever is wrong with it."""
    return _read(msgspec.json.decode, content.removeprefix(codecs.BOM_UTF8), kind)


class NotUtf8Error(ValueError):
    """What is no text in UTF-8. line: of the first byte that is none, from 1; byte: this one."""

    def __init__(self, line: int, byte: int) -> None:
        super().__init__(f"line {line}: byte 0x{byte:02x} is not UTF-8")
        self.line = line
        self.byte = byte


def from_utf8(content: bytes) -> str:
    """Text, behind a byte order mark or not. Raises NotUtf8Error."""
    # Not "utf-8-sig", whose errors count from behind the mark.
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise NotUtf8Error(content.count(b"\n", 0, error.start) + 1, content[error.start]) from error


def from_msgpack(content: bytes, kind: type[T]) -> T:
    """What MessagePack says. Raises msgspec.DecodeError, whatever is wrong with it."""
    found: T = _read(msgspec.msgpack.decode, content, kind)
    return found


def whole_number(text: str) -> int | None:
    """Of at most 19 of the digits 0 to 9 and nothing else, and an int64; None where it is none.

    `int` takes the digits of all scripts, and raises ValueError where they are more than 4,300.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
    return number if number is None or number < 1 << 63 else None


def _read(decode: Callable[..., Any], content: bytes, kind: Any) -> Any:
    try:
        return decode(content, type=kind)
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
