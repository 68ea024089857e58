"""Reading pictures, and the variety that training adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebench.errors import DataError
from edgebench.seeds import rng_for
from edgebench.tasks.faces.baseline import equalised
from edgebench.tasks.faces.pictures import is_grey, read_face, varied


def test_the_middle_of_a_picture_is_taken_in_the_shape_of_a_face(tmp_path: Path) -> None:
    # 112 × 192: the largest cut-out is 112 × 96, in the middle, between the columns 48 and 144.
    pixels = np.zeros((112, 192), np.uint8)
    pixels[:, 48:144] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = read_face(tmp_path / "wide.png", grey=True, share=1.0)
    assert found.shape == (56, 48, 1)
    assert (found == 200).all()
    pixels[28:84, 72:120] = 90
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (read_face(tmp_path / "wide.png", grey=True, share=0.5) == 90).all()


def test_colours_stay_where_they_are_wanted(tmp_path: Path) -> None:
    Image.new("RGB", (48, 56), (10, 20, 30)).save(tmp_path / "red.png")
    Image.new("L", (48, 56), 7).save(tmp_path / "grey.pgm")
    assert [is_grey(tmp_path / name) for name in ("red.png", "grey.pgm")] == [False, True]
    assert read_face(tmp_path / "red.png", grey=False, share=1.0)[5, 5].tolist() == [10, 20, 30]
    assert read_face(tmp_path / "grey.pgm", grey=False, share=1.0)[5, 5].tolist() == [7, 7, 7]


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.pgm").write_text("P5 no")
    with pytest.raises(DataError, match=r"1\.pgm: no picture that can be read"):
        read_face(tmp_path / "1.pgm", grey=True, share=1.0)


def test_variety_keeps_the_shape_and_comes_from_the_seed() -> None:
    x = rng_for(0, "noise").integers(0, 256, (20, 56, 48, 3)).astype(np.uint8)
    one, again, other = (varied(x, rng_for(seed, "varied")) for seed in (1, 1, 2))
    assert one.dtype == np.uint8
    assert one.shape == x.shape
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_half_of_the_pictures_are_mirrored_and_all_are_lit_anew() -> None:
    # Left black, right white; a mirrored one has its light on the left.
    x = np.zeros((400, 56, 48, 1), np.uint8)
    x[:, :, 24:] = 255
    found = varied(x, rng_for(3, "varied")).astype(float)
    mirrored = found[:, :, :24].mean(axis=(1, 2, 3)) > found[:, :, 24:].mean(axis=(1, 2, 3))
    assert 0.4 < mirrored.mean() < 0.6
    assert found.mean(axis=(1, 2, 3)).std() > 10


def test_equalised_pixels_are_shares_of_what_is_not_brighter() -> None:
    x = np.array([[[[5], [9]], [[9], [200]]]], np.uint8)
    assert equalised(x).reshape(-1).tolist() == [0.25, 0.75, 0.75, 1.0]
