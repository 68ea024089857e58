"""Envelopes, plain JSON, and what is neither."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.fabric import wire
from edgebench.inference.spec import TensorSpec

SPEC = TensorSpec("float32", (2, 3))
READER = wire.SampleReader(SPEC)


def envelope(
    x: NDArray[np.float32], seq: int = 0, dtype: str = "float32", shape: tuple[int, ...] | None = None
) -> bytes:
    payload = np.ascontiguousarray(x).data.cast("B")
    return wire.encode(
        wire.Sample(wire.VERSION, seq, 10, 20, 30, dtype, x.shape if shape is None else shape, (1.0,), payload)
    )


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_an_envelope_gives_back_the_tensor_and_its_stamps() -> None:
    sample, x = READER.envelope(envelope(X, seq=7))
    assert (sample.seq, sample.scheduled_ns, sample.captured_ns, sample.sent_ns, sample.label) == (
        7,
        10,
        20,
        30,
        (1.0,),
    )
    np.testing.assert_array_equal(x, X)


def test_an_envelope_costs_few_bytes_beside_its_tensor() -> None:
    assert len(envelope(X)) - X.nbytes < 40


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
        (wire.encode([2, 0, 0, 0, 0, "float32", [2, 3], None, b""]), "wrong-version"),
        (wire.encode([1, -1, 0, 0, 0, "float32", [2, 3], None, b""]), "not-a-sample"),
    ],
)
def test_what_is_no_envelope_is_rejected_with_its_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(wire.RejectedError) as rejected:
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
    with pytest.raises(wire.RejectedError) as rejected:
        READER.plain(payload)
    assert rejected.value.reason == reason


def test_every_truncation_of_an_envelope_is_rejected() -> None:
    whole = envelope(X)
    for size in range(len(whole)):
        with pytest.raises(wire.RejectedError):
            READER.envelope(whole[:size])


def test_a_sequence_tells_new_late_and_repeated_samples_apart() -> None:
    tracker = wire.SequenceTracker()
    assert [tracker.see(seq) for seq in (0, 1, 4, 2, 2, 3, 4, 5, 0)] == [
        "new", "new", "new", "late", "again", "late", "again", "new", "again",
    ]  # fmt: skip


def test_where_only_some_samples_come_those_before_the_first_are_late_and_not_repeated() -> None:
    tracker = wire.SequenceTracker(sparse=True)
    assert [tracker.see(seq) for seq in (5, 3, 4, 3, 6)] == ["new", "late", "late", "again", "new"]


def test_where_only_some_samples_come_gaps_are_forgotten_in_the_end() -> None:
    tracker = wire.SequenceTracker(sparse=True)
    assert {tracker.see(seq) for seq in range(0, 1_000_000, 7)} == {"new"}
    # The latest gaps are still known, the first ones are not.
    assert [tracker.see(seq) for seq in (999_991, 999_991, 1)] == ["late", "again", "again"]
    assert tracker.see(1 << 39) == "jump"


def test_a_sequence_does_not_believe_a_leap_into_the_far_future() -> None:
    tracker = wire.SequenceTracker()
    assert [tracker.see(seq) for seq in (0, 1 << 39, 1)] == ["new", "jump", "new"]
