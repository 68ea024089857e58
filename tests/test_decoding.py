"""What others have written: whatever is wrong with it is one kind of error."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgebench.decoding import NotUtf8Error, from_json, from_msgpack, from_utf8, whole_number
from edgebench.home import expanded


class _Said(msgspec.Struct):
    word: str


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"word": 1}', r"Expected `str`, got `int` - at `\$.word`"),
        (b'{"word": "', "truncated"),
        (b'{"word": "\xff"}', "UTF-8"),
        pytest.param(b'{"x": ' + b"[" * 100_000, "nested too deeply", id="deep"),
    ],
)
def test_json_that_cannot_be_read_is_one_kind_of_error(content: bytes, problem: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=problem):
        from_json(content, _Said)


def test_a_byte_order_mark_before_json_is_passed_over() -> None:
    assert from_json(b'\xef\xbb\xbf{"word": "so"}', _Said) == _Said("so")


def test_a_byte_that_is_no_text_is_told_with_its_line_behind_a_byte_order_mark_too() -> None:
    # The mark is three bytes long: counted without it, the byte would be in the first line.
    assert from_utf8(b"\xef\xbb\xbfone\n") == "one\n"
    for mark in (b"", b"\xef\xbb\xbf"):
        with pytest.raises(NotUtf8Error, match="line 2: byte 0xe9 is not UTF-8") as caught:
            from_utf8(mark + b"a\n\xe9\n")
        assert (caught.value.line, caught.value.byte) == (2, 0xE9)


def test_json_of_no_kind_is_not_nested_without_end_either() -> None:
    assert from_json(b'{"word": [1]}') == {"word": [1]}
    with pytest.raises(msgspec.DecodeError, match="nested too deeply"):
        from_json(b"[" * 100_000)


@pytest.mark.parametrize(
    "content", [b"\xc1", b"\x81\xa4word\xa1\xff", pytest.param(b"\x81\xa1x" + b"\x91" * 100_000, id="deep")]
)
def test_messagepack_that_cannot_be_read_is_one_kind_of_error(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        from_msgpack(content, _Said)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        pytest.param("9" * 5000, None, id="long"),
        ("", None),
        ("-1", None),
        ("1_0", None),
        (" 1", None),
        ("²", None),
        ("٣", None),
    ],
)
def test_a_whole_number_is_digits_alone_and_no_longer_than_64_bits(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_a_path_below_a_users_folder_is_found_and_one_of_no_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert expanded("~/data") == Path("/home/ann/data")
    assert expanded("data/~") == Path("data/~")
    assert expanded("~no-such-user/data") == Path("~no-such-user/data")
    assert expanded("~a\0b/data") == Path("~a\0b/data")
