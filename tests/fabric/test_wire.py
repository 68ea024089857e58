"""Envelopes, plain JSON, and what is neither."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.core.samples import Decision, HeadStamps, RejectedError, Stamps
from edgebench.fabric import wire
from edgebench.inference.spec import TensorSpec

SPEC = TensorSpec("float32", (2, 3))
READER = wire.SampleReader(SPEC)


def envelope(
    x: NDArray[np.float32], seq: int = 0, dtype: str = "float32", shape: tuple[int, ...] | None = None
) -> bytes:
    payload = np.ascontiguousarray(x).data.cast("B")
    return wire.encode(
        wire.Sample(wire.VERSION, seq, 2, 10, 20, 30, dtype, x.shape if shape is None else shape, (1.0,), payload)
    )


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_an_envelope_gives_back_the_tensor_and_its_stamps() -> None:
    sample, x = READER.envelope(envelope(X, seq=7))
    assert (sample.seq, sample.incarnation, sample.scheduled_ns, sample.captured_ns, sample.sent_ns, sample.label) == (
        7,
        2,
        10,
        20,
        30,
        (1.0,),
    )
    np.testing.assert_array_equal(x, X)


def test_an_envelope_costs_few_bytes_beside_its_tensor() -> None:
    assert len(envelope(X)) - X.nbytes < 40


_OF_ONE_FIELD_MORE = b"\x9b" + envelope(X)[1:]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not-a-sample"),
        (b"\xff\x00\x13", "not-a-sample"),
        (envelope(X)[:-1], "not-a-sample"),
        (envelope(X, dtype="float64"), "wrong-dtype"),
        (envelope(X, shape=(3, 2)), "wrong-shape"),
        (envelope(X[:1], shape=(2, 3)), "wrong-length"),
        (envelope(X * np.float32("nan")), "not-finite"),
        (envelope(np.full((2, 3), np.inf, np.float32)), "not-finite"),
        (b"\x00" * 5000, "too-large"),
        (wire.encode([1, 0, 0, 0, 0, "float32", [2, 3], None, b""]), "wrong-version"),
        (wire.encode([wire.VERSION + 1, "of a layout to come"]), "wrong-version"),
        (wire.encode([wire.VERSION, -1, 0, 0, 0, 0, "float32", [2, 3], None, b""]), "not-a-sample"),
        pytest.param(_OF_ONE_FIELD_MORE + b"\x91" * 3000, "not-a-sample", id="deep"),
    ],
)
def test_what_is_no_envelope_is_rejected_with_its_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(RejectedError) as rejected:
        READER.envelope(payload)
    assert rejected.value.reason == reason


def test_huge_finite_values_are_not_taken_for_infinite() -> None:
    _, x = READER.envelope(envelope(np.full((2, 3), 3e38, np.float32)))
    assert x[0, 0] == np.float32(3e38)


@pytest.mark.parametrize("values", [X.tolist(), X.ravel().tolist()])
def test_plain_json_is_taken_nested_or_flat(values: list[object]) -> None:
    payload = wire.encode_json({"values": values, "id": "a1"})
    assert wire.is_plain(payload)
    plain, x = READER.plain(payload)
    assert plain.id == "a1"
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not-a-sample"),
        (b'{"value": [1]}', "not-a-sample"),
        (b'{"values": ' + b"[" * 3000, "not-a-sample"),
        (b'{"values": [1, 2, 3]}', "wrong-shape"),
        (b'{"values": [[1, 2, 3], [4, 5]]}', "wrong-dtype"),
        (b'{"values": ["a", "b", "c", "d", "e", "f"]}', "wrong-dtype"),
        (b'{"values": [1, 2, 3, 4, 5, null]}', "not-finite"),
        (b'{"values": [1, 2, 3, 4, 5, 1e999]}', "not-a-sample"),
        (b'{"values": [1, 2, 3, 4, 5, 1e39]}', "not-finite"),
        (b'{"values": [' + b"1," * 5000 + b"1]}", "too-large"),
    ],
)
def test_json_that_is_no_sample_is_rejected_with_its_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(RejectedError) as rejected:
        READER.plain(payload)
    assert rejected.value.reason == reason


def test_a_manifest_that_is_nested_without_end_is_none() -> None:
    with pytest.raises(RejectedError) as rejected:
        wire.parse_manifest(b'{"x": ' + b"[" * 3000)
    assert rejected.value.reason == "not-a-manifest"


def test_every_truncation_of_an_envelope_is_rejected() -> None:
    whole = envelope(X)
    for size in range(len(whole)):
        with pytest.raises(RejectedError):
            READER.envelope(whole[:size])


def test_a_sample_in_either_form_is_taken_for_what_it_is() -> None:
    framed, plain = READER.read(envelope(X, seq=7)), READER.read(wire.encode_json({"values": X.tolist(), "id": 9}))
    assert (framed.seq, framed.id, plain.seq, plain.id) == (7, None, None, 9)
    np.testing.assert_array_equal(framed.x, plain.x)


STAMPS = Stamps(1, 2, 3, 4, 5)
DECISION = wire.encode(Decision(wire.VERSION, 7, 0, "ward-0", "d" * 64, bytes(4), 1, STAMPS))
PARSERS: list[tuple[Callable[[bytes], object], bytes, str]] = [
    (wire.parse_decision, DECISION, "not-a-decision"),
    (wire.parse_forward, wire.encode(wire.Forward(wire.VERSION, "bed-0", 1, 2, memoryview(b"x"))), "not-a-forward"),
    (
        wire.parse_forward,
        wire.encode(wire.Forward(wire.VERSION, "bed-0", 1, 5, memoryview(b"x"), HeadStamps(2, 3, 4, 8))),
        "not-a-forward",
    ),
    (wire.parse_answer, wire.encode(wire.Answer(wire.VERSION, "bed-0", memoryview(DECISION))), "not-an-answer"),
]


@pytest.mark.parametrize(("parse", "whole", "otherwise"), PARSERS, ids=["decision", "forward", "chained", "answer"])
def test_an_envelope_of_another_version_is_told_from_what_is_none(
    parse: Callable[[bytes], object], whole: bytes, otherwise: str
) -> None:
    parse(whole)
    # MessagePack: the array's length is in the first byte, the version in the second.
    another = whole[:1] + bytes([wire.VERSION - 1]) + whole[2:]
    for payload, reason in ((another, "wrong-version"), (whole[:-1], otherwise), (b"", otherwise)):
        with pytest.raises(RejectedError) as rejected:
            parse(payload)
        assert rejected.value.reason == reason


def test_a_decision_as_version_1_laid_it_out_is_of_the_wrong_version() -> None:
    with pytest.raises(RejectedError) as rejected:
        wire.parse_decision(wire.encode([1, 7, "ward-0", "d" * 64, bytes(4), 1, 1, 2, 3, 4, 5, None, None, None, None]))
    assert rejected.value.reason == "wrong-version"
