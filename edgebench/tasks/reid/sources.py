"""Cut-out pedestrians in the layout of Market-1501."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.decoding import whole_number
from edgebench.errors import DataError
from edgebench.tasks.cache import cached
from edgebench.tasks.files import listed
from edgebench.tasks.images import read_rgb
from edgebench.tasks.reid.labels import DISTRACTOR, GALLERY, IDENTITY, JUNK, QUERY, labels_of, roles_within
from edgebench.tasks.splits import place_of
from edgebench.tasks.task import Dataset, DataSource, Split

HEIGHT, WIDTH = 96, 48
"""Three quarters of the 128 × 64 of Market-1501."""
FEATURES = ("red", "green", "blue")
TRAIN, SEARCHED, ASKED = "bounding_box_train", "bounding_box_test", "query"
FEWEST_PEOPLE = 6
"""To learn from, valid included."""
_VALID_SHARE, _FEWEST_VALID = 0.15, 3
_NAME = re.compile(r"(-1|[0-9]+)_c([0-9]+)")
_FIRST_UNTOLD = 1 << 24
"""From here on labels, float32, do not tell each number from the next."""
_VERSION = 1

MARKET = "Market-1501"
MARKET_HOW = (
    "Market-1501 (Zheng et al. 2015, for research, https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html): "
    "bounding_box_train/, bounding_box_test/, query/ and gt_query/ in Market-1501-v15.09.15/"
)
OTHER_HOW = (
    "your own cut-out pedestrians named as there, PPPP_cC….jpg for person P in camera C, in a folder with "
    "bounding_box_train/, bounding_box_test/ and query/"
)


def sources() -> tuple[DataSource, ...]:
    """The layouts, the preferred one first."""
    return (
        DataSource(
            MARKET, "Market-1501-v15.09.15", ("gt_query", "gt_bbox"), MARKET_HOW, lambda f: load_market(f, MARKET)
        ),
        DataSource(
            "pedestrians in the layout of Market-1501",
            "pedestrians",
            (f"{TRAIN}/*_c*.jpg", f"{SEARCHED}/*_c*.jpg"),
            OTHER_HOW,
            lambda f: load_market(f, f"{f.resolve().name}, in the layout of Market-1501"),
        ),
    )


def load_market(folder: Path, name: str) -> Dataset:
    """Pictures uint8 [96, 48, 3]; labels as `labels.py` says; a group is a person.

    Of the people to learn from, 15 % by their numbers (three at least) are for valid. Test has the queries and the
    gallery.

    Raises DataError for missing folders, names that say no person and camera, unreadable pictures, too few people, and
    people who are both learned from and searched for.
    """
    x, y = _read(folder, TRAIN, GALLERY)
    known = y[:, IDENTITY] > DISTRACTOR
    x, y = x[known], y[known]
    people = sorted(set(y[:, IDENTITY].astype(np.int64).tolist()), key=lambda who: place_of(str(who)))
    if len(people) < FEWEST_PEOPLE:
        raise DataError(f"{folder / TRAIN}: pictures of {len(people)} people; it takes {FEWEST_PEOPLE}")
    valid = people[: max(_FEWEST_VALID, round(_VALID_SHARE * len(people)))]
    held_out = np.isin(y[:, IDENTITY], valid)
    test = [_read(folder, ASKED, QUERY), _read(folder, SEARCHED, GALLERY)]
    test_x, test_y = (np.concatenate(parts) for parts in zip(*test, strict=True))
    both = sorted(set(people) & set(test_y[:, IDENTITY].astype(np.int64).tolist()))
    if both:
        raise DataError(f"{folder}: person {both[0]} is in {TRAIN} and in the test too; rename or remove one of them")
    return Dataset(
        source=name,
        real=True,
        features=FEATURES,
        train=split_of(x[~held_out], y[~held_out]),
        valid=split_of(x[held_out], with_queries(y[held_out])),
        test=split_of(test_x, test_y),
    )


def split_of(x: NDArray[np.uint8], y: NDArray[np.float32]) -> Split:
    """A split whose groups are people."""
    return Split(x=x, y=y, group=y[:, IDENTITY].astype(np.int64))


def with_queries(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """The labels with some of the pictures as queries."""
    identity, camera = y[:, :2].astype(np.int64).T
    return labels_of(identity, camera, roles_within(identity, camera))


def _read(folder: Path, part: str, role: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The pictures of one of the folders and their labels."""
    files = listed(folder / part, "*.jpg")
    if not files:
        raise DataError(f"{folder / part}: no .jpg files; it belongs to the layout of Market-1501")
    labelled = np.array([_person_and_camera(file) for file in files], np.int64)
    found = cached(
        f"reid-{folder.name}-{part}", _VERSION, files, lambda: {"x": np.stack([_picture(file) for file in files])}
    )
    return found["x"], labels_of(labelled[:, 0], labelled[:, 1], np.full(len(files), role))


def _person_and_camera(file: Path) -> tuple[int, int]:
    labelled = _NAME.match(file.name)
    person, camera = (None, None) if labelled is None else map(_number, labelled.groups())
    if person is None or camera is None:
        raise DataError(f"{file}: no name like 0002_c1s1_000451_03.jpg, person and camera; rename or remove it")
    return person, camera


def _number(text: str) -> int | None:
    number = JUNK if text == "-1" else whole_number(text)
    return number if number is not None and number < _FIRST_UNTOLD else None


def _picture(file: Path) -> NDArray[np.uint8]:
    return read_rgb(file, (HEIGHT, WIDTH))
