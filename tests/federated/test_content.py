"""What travels: arrays and stamps that are not what they claim to be."""

from __future__ import annotations

from typing import Any

import pytest

from edgebench.federated.content import Array, ContentError, Head, pack, pack_together, stamps_in, unpack_together


@pytest.mark.parametrize("dtype", ["f4,(", "f4,(2", "", "nonsense", "O", "f4\0", "M8[x"])
def test_a_dtype_that_is_none_or_no_plain_one_is_named(dtype: str) -> None:
    with pytest.raises(ContentError, match=r"array of .* \(2,\): "):
        Array(dtype, (2,), bytes(8)).numpy()


@pytest.mark.parametrize("shape", [(3,), (-3,), (1 << 63,), (1 << 62, 8)])
def test_a_shape_that_does_not_fit_the_data_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ContentError, match=r"array of float32"):
        Array("float32", shape, bytes(8)).numpy()


@pytest.mark.parametrize("wrong", [-1, 1 << 63, (1 << 64) - 1, 1.5, "1", None, True])
def test_a_clients_stamp_is_taken_where_it_is_a_time(wrong: Any) -> None:
    told = {"received_ns": wrong, "started_ns": 0, "finished_ns": (1 << 63) - 1, "node": 3}
    assert stamps_in(told) == {"started_ns": 0, "finished_ns": (1 << 63) - 1}


def together(count: int) -> bytes:
    return b"".join(pack_together([pack(Head(message_id=str(at), kind="train"), {}) for at in range(count)]))


@pytest.mark.parametrize("count", [1, 3])
def test_parcels_that_travel_together_come_apart_in_their_order(count: int) -> None:
    assert [parcel.head.message_id for parcel in unpack_together(together(count))] == [str(at) for at in range(count)]


@pytest.mark.parametrize(
    "wrong", [together(3)[:-1], together(3) + b"x", together(3)[:20], b"EBF+", b"EBF+\xff\xff\xff\xff", b"EBF+\0\0\0\0"]
)
def test_parcels_that_travel_together_and_are_cut_off_are_none(wrong: bytes) -> None:
    with pytest.raises(ContentError, match="cut off"):
        unpack_together(wrong)
