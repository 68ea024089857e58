"""Pictures travel as JPEG, and what is no picture of the right size is never decoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgebench.core.samples import RejectedError
from edgebench.fabric import wire
from edgebench.fabric.pictures import JPEG, compressed, decompressed, picture_size
from edgebench.inference.spec import TensorSpec


def scene(*shape: int) -> NDArray[np.uint8]:
    """A smooth picture of that shape, with an edge in it."""
    y, x = np.mgrid[: shape[-3], : shape[-2]]
    plane = (y * 2 + x + 60 * (x > shape[-2] // 2)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(plane[..., None], shape))


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("uint8", (64, 48, 3), (64, 48, 3)),
        ("uint8", (64, 48, 1), (64, 48, 1)),
        ("uint8", (64, 48), (64, 48, 1)),
        ("uint8", (5, 64, 48, 3), (320, 48, 3)),
        ("uint8", (64,), None),
        ("uint8", (70_000, 8, 3), None),
        ("float32", (64, 48, 3), None),
    ],
)
def test_what_counts_as_a_picture(dtype: str, shape: tuple[int, ...], size: tuple[int, int, int] | None) -> None:
    assert picture_size(TensorSpec(dtype, shape)) == size


@pytest.mark.parametrize("shape", [(64, 48, 3), (64, 48, 1), (5, 64, 48, 3)])
def test_a_picture_comes_back_nearly_as_it_was_in_a_fraction_of_its_bytes(shape: tuple[int, ...]) -> None:
    x = scene(*shape)
    file = compressed(x, 90)
    back = decompressed(memoryview(file), TensorSpec("uint8", shape))
    assert back is not None
    assert back.shape == shape
    assert np.abs(back.astype(int) - x).mean() < 3
    assert len(file) < x.nbytes / 2


def test_the_lower_the_quality_the_fewer_the_bytes() -> None:
    x = scene(64, 48, 3)
    assert len(compressed(x, 20)) < len(compressed(x, 60)) < len(compressed(x, 95))


def file_of(picture: Image.Image, kind: str = "JPEG") -> memoryview:
    file = io.BytesIO()
    picture.save(file, kind)
    return memoryview(file.getvalue())


def progressive() -> memoryview:
    """A sound file of many scans; one could have thousands of empty ones, which take a minute to decode."""
    file = io.BytesIO()
    Image.fromarray(scene(64, 48, 3)).save(file, "JPEG", progressive=True)
    return memoryview(file.getvalue())


@pytest.mark.parametrize(
    "payload",
    [
        file_of(Image.new("RGB", (64, 48))),
        file_of(Image.new("L", (48, 64))),
        file_of(Image.new("RGB", (6_000, 6_000))),
        file_of(Image.new("RGB", (48, 64)), "PNG"),
        memoryview(compressed(scene(64, 48, 3), 75)[:-200]),
        progressive(),
        memoryview(b"\xff\xd8\xff"),
        memoryview(b""),
    ],
    ids=["turned", "grey", "huge", "PNG", "cut off", "progressive", "a beginning", "nothing"],
)
def test_another_picture_or_none_is_refused(payload: memoryview) -> None:
    assert decompressed(payload, TensorSpec("uint8", (64, 48, 3))) is None


def envelope(payload: bytes, shape: tuple[int, ...] = (64, 48, 3), dtype: str = JPEG) -> bytes:
    return wire.encode(wire.Sample(wire.VERSION, 0, 0, 1, 2, 3, dtype, shape, None, memoryview(payload)))


def test_a_node_takes_a_picture_raw_or_compressed() -> None:
    x = scene(64, 48, 3)
    reader = wire.SampleReader(TensorSpec("uint8", x.shape))
    _, raw = reader.envelope(envelope(x.tobytes(), dtype="uint8"))
    _, lossy = reader.envelope(envelope(compressed(x, 90)))
    assert np.array_equal(raw, x)
    assert not np.array_equal(lossy, x)
    assert np.abs(lossy.astype(int) - x).mean() < 3


@pytest.mark.parametrize(
    ("payload", "spec", "reason"),
    [
        (envelope(b"no picture"), TensorSpec("uint8", (64, 48, 3)), "not-a-picture"),
        (envelope(compressed(scene(64, 48, 3), 75), (48, 64, 3)), TensorSpec("uint8", (64, 48, 3)), "wrong-shape"),
        (envelope(compressed(scene(64, 48, 3), 75)), TensorSpec("float32", (64, 48, 3)), "wrong-dtype"),
    ],
)
def test_what_is_no_picture_of_the_task_is_rejected_with_its_reason(
    payload: bytes, spec: TensorSpec, reason: str
) -> None:
    with pytest.raises(RejectedError) as rejected:
        wire.SampleReader(spec).envelope(payload)
    assert rejected.value.reason == reason
