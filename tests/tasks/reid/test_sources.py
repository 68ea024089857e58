"""The layout of Market-1501, made up and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebench.errors import DataError
from edgebench.tasks.reid.labels import QUERY, ROLE
from edgebench.tasks.reid.task import REID
from tests.tasks.leftovers import strew


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """Eight people to learn from, two to search for; every picture is of one grey, ten times the person."""
    folder = tmp_path / "data" / "corner-shop"
    for part, people in (("bounding_box_train", range(1, 9)), ("query", (11, 12)), ("bounding_box_test", (11, 12))):
        for person in people:
            for camera in (1, 2):
                _picture(folder / part / f"{person:04d}_c{camera}s1_000451_03.jpg", 10 * person)
    for name in ("-1_c1s1_000001_00.jpg", "0000_c2s1_000001_00.jpg"):
        _picture(folder / "bounding_box_test" / name, 0)
        _picture(folder / "bounding_box_train" / name, 0)
    strew(folder.parent)
    return folder


def _picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 128), (grey, grey, grey)).save(path)


def test_people_are_learned_from_held_out_or_searched_for(market: Path) -> None:
    data = REID.load(market.parent, seed=0)
    assert data.source == "corner-shop, in the layout of Market-1501"
    assert data.real
    assert data.spec.shape == (96, 48, 3)
    assert data.train.x.dtype == np.uint8
    learned, held_out = set(data.train.group.tolist()), set(data.valid.group.tolist())
    assert learned | held_out == set(range(1, 9))
    assert (len(learned), len(held_out)) == (5, 3)
    # Queries first, then the gallery in the order of the names.
    assert data.test.y.tolist() == [
        [11, 1, 0, 0], [11, 2, 0, 1], [12, 1, 0, 2], [12, 2, 0, 3], [-1, 1, 1, 0],
        [0, 2, 1, 1], [11, 1, 1, 2], [11, 2, 1, 3], [12, 1, 1, 4], [12, 2, 1, 5],
    ]  # fmt: skip
    assert data.test.x[[0, -1], 50, 20, 0].tolist() == [110, 120]
    assert (data.valid.y[:, ROLE] == QUERY).sum() == 6
    assert REID.load(market, seed=5).train.group.tolist() == data.train.group.tolist()


def test_market_1501_is_told_by_what_only_it_has(market: Path) -> None:
    (market / "gt_query").mkdir()
    assert REID.load(market, seed=0).source == "Market-1501"


def test_an_empty_folder_says_what_to_put_there_and_whence(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        REID.load(tmp_path, seed=0)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: no data for person-reid; put there Market-1501 (Zheng et al. 2015")
    assert "\n" not in message


def test_what_is_wrong_with_a_folder_is_named(market: Path) -> None:
    def message() -> str:
        with pytest.raises(DataError) as caught:
            REID.load(market, seed=0)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for name in ("queue.jpg", f"{'9' * 200}_c1s1.jpg", f"{1 << 24}_c1s1.jpg"):
        odd = market / "query" / name
        _picture(odd, 1)
        assert f"{odd}: no name like 0002_c1s1_000451_03.jpg" in message()
        odd.unlink()
    broken = market / "query" / "0013_c1s1_000451_03.jpg"
    broken.write_bytes(b"no picture")
    assert f"{broken}: no picture that can be read" in message()
    broken.unlink()
    twice = market / "query" / "0003_c1s1_000451_03.jpg"
    _picture(twice, 1)
    assert "person 3 is in bounding_box_train and in the test too" in message()
    twice.unlink()
    for path in (market / "bounding_box_train").glob("000[1-3]*"):
        path.unlink()
    assert "pictures of 5 people; it takes 6" in message()
    for path in (market / "query").iterdir():
        path.unlink()
    _picture(market / "bounding_box_train" / "0001_c1s1_000451_03.jpg", 1)
    assert f"{market / 'query'}: no .jpg files" in message()


def test_the_pets_crops_are_read_as_they_lie(real_data: Path) -> None:
    if not (real_data / "pets-reid").is_dir():
        pytest.skip(f"no pets-reid in {real_data}")
    data = REID.load(real_data, seed=0)
    assert data.source == "pets-reid, in the layout of Market-1501"
    assert (len(data.train) + len(data.valid), len(data.test)) == (874, 559)
    assert (data.test.y[:, ROLE] == QUERY).sum() == 47
    assert not set(data.train.group) & set(data.valid.group)
    baseline = REID.baseline(data, seed=0)
    assert baseline.name == "cosine of the mean colours of 16 stripes"
    assert baseline.metrics["rank1"] == pytest.approx(33 / 47)


def test_a_picture_that_says_it_is_vast_is_a_line(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vast = min((market / "query").glob("0*.jpg"))
    Image.new("RGB", (200, 200)).save(vast)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 128)
    with pytest.raises(DataError) as caught:
        REID.load(market, seed=0)
    assert f"{vast}: no picture that can be read (Image size (40000 pixels) exceeds limit" in str(caught.value)
