"""Folders of people, each with a folder of pictures: ORL's and Labeled Faces in the Wild."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.decoding import whole_number
from edgebench.errors import DataError
from edgebench.tasks.cache import Arrays, cached
from edgebench.tasks.faces.labels import labels_of
from edgebench.tasks.faces.pictures import is_grey, read_face
from edgebench.tasks.files import folders, listed, read_lines
from edgebench.tasks.splits import place_of
from edgebench.tasks.task import Dataset, DataSource, Split

FEWEST_PEOPLE = 20
TEST_PEOPLE = 10
"""At least; a third of the people where that is more."""
_VALID_SHARE = 1 / 6
MOST_PICTURES = 50
"""Of one person; further ones are left out, lest a few people outweigh all the others."""
_SUFFIXES = (".pgm", ".png", ".jpg", ".jpeg", ".bmp")
_VERSION = 1

ORL = "ORL faces"
ORL_HOW = (
    "the ORL database of faces (AT&T Laboratories Cambridge, free with credit to them, "
    "https://cam-orl.co.uk/facedatabase.html): s1/, s2/, … with their pictures in orl-faces/"
)
LFW = "Labeled Faces in the Wild"
LFW_HOW = (
    "Labeled Faces in the Wild (University of Massachusetts, for research, http://vis-www.cs.umass.edu/lfw/): the "
    "people's folders and pairs.txt in lfw/"
)
PEOPLE = "a folder of people"
PEOPLE_HOW = "your own pictures of 20 or more people, a folder each, in faces/"

_LFW_PICTURES = ("lfw", "lfw_funneled", "lfw-funneled", "lfw-deepfunneled")
"""What the archives unpack into; scikit-learn puts the list beside it, in `lfw_home/`."""
_LFW_MARKERS = ("pairs.txt", "Aaron_Eckhart", *(f"{place}/Aaron_Eckhart" for place in _LFW_PICTURES))
LFW_SHARE = 0.55
"""Of an LFW picture, so much of its middle is the face."""
LFW_TEST_FOLDS = 5
"""The pairs of so many of its ten folds, the last ones, are the test split; nobody in them is learned from."""


def sources() -> tuple[DataSource, ...]:
    """The layouts, the preferred one first."""
    return (
        DataSource(
            LFW,
            "lfw",
            _LFW_MARKERS,
            LFW_HOW,
            load_lfw,
        ),
        DataSource(ORL, "orl-faces", ("s1/*.pgm", "s1/*.png"), ORL_HOW, lambda folder: load_people(folder, ORL)),
        # By its name only: many sets are folders of folders of pictures.
        DataSource(PEOPLE, "", ("faces/*/*",), PEOPLE_HOW, lambda folder: load_people(folder / "faces", PEOPLE)),
    )


def load_people(folder: Path, name: str, share: float = 1.0) -> Dataset:
    """Pictures uint8 [56, 48, 1 or 3] of `<person>/<picture>`, grey if the first one is.

    The people are in the splits by their names: a third of them, at least 10, are for test, a sixth for valid. A
    group is a person.

    Raises DataError for pictures that cannot be read and for too few people.
    """
    files = _files(folder)
    people = sorted(files)
    if len(people) < FEWEST_PEOPLE:
        raise DataError(f"{folder}: pictures of {len(people)} people; it takes {FEWEST_PEOPLE}, each with a folder")
    read = _pictures(folder, [file for person in people for file in files[person]], share)
    person = np.repeat(np.arange(len(people)), [len(files[person]) for person in people])
    by_place = np.argsort([place_of(each) for each in people])
    test = max(TEST_PEOPLE, round(len(people) / 3))
    valid = max(round(len(people) * _VALID_SHARE), 2)
    parts = {"test": by_place[:test], "valid": by_place[test : test + valid], "train": by_place[test + valid :]}
    splits = {}
    for part, chosen in parts.items():
        rows = np.flatnonzero(np.isin(person, chosen))
        splits[part] = Split(x=read[rows], y=labels_of(person[rows]), group=person[rows])
    return Dataset.of(splits, source=name, real=True, features=_features(read))


def load_lfw(folder: Path) -> Dataset:
    """Labeled Faces in the Wild: the middle of each picture, and the listed pairs where there is `pairs.txt`.

    The test split has the pairs of the last `LFW_TEST_FOLDS` folds, whose people are in no other fold, each picture
    once for each of its pairs. People outside those pairs are in train and valid. Without `pairs.txt` the people
    are split as in `load_people`.

    Raises DataError for pictures and lists that cannot be read.
    """
    table = folder / "pairs.txt"
    people_in = next((place for place in map(folder.joinpath, _LFW_PICTURES) if place.is_dir()), folder)
    if not table.exists():
        return load_people(people_in, LFW, LFW_SHARE)
    pairs = [pair for pair in read_pairs(table) if pair.fold >= pair.folds - LFW_TEST_FOLDS]
    files = _files(people_in)
    paired = {name for pair in pairs for name, _ in pair.pictures}
    people = sorted(files.keys() | paired)
    number = {name: index for index, name in enumerate(people)}
    others = [(name, file) for name in people if name not in paired for file in files[name]]
    shown = [(name, _lfw_file(people_in, name, picture, table)) for pair in pairs for name, picture in pair.pictures]
    unique = sorted({file for _, file in others + shown})
    at = {file: index for index, file in enumerate(unique)}
    read = _pictures(folder, unique, LFW_SHARE)

    def split(rows: Sequence[tuple[str, Path]], pairs: Sequence[tuple[int, int]] | None = None) -> Split:
        """These pictures; pairs: the number and the fold of each one's pair, if any."""
        person = np.array([number[name] for name, _ in rows], np.int64)
        pair, fold = np.array([(-1, -1)] * len(rows) if pairs is None else pairs, np.int64).reshape(-1, 2).T
        return Split(x=read[[at[file] for _, file in rows]], y=labels_of(person, pair, fold), group=person)

    valid = {name for name in files if place_of(name) < _VALID_SHARE}
    return Dataset(
        source=LFW,
        real=True,
        features=_features(read),
        train=split([row for row in others if row[0] not in valid]),
        valid=split([row for row in others if row[0] in valid]),
        test=split(shown, [(place, pair.fold) for place, pair in enumerate(pairs) for _ in pair.pictures]),
    )


@dataclass(frozen=True)
class Pair:
    """Two pictures to compare, each a person's name and the number of the picture; its fold, of how many."""

    pictures: tuple[tuple[str, int], tuple[str, int]]
    fold: int
    folds: int


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a `pairs.txt`: a line with the number of folds and of pairs, then for each fold that many same pairs
    (a name and two numbers) and as many different ones (a name and a number, twice).

    Raises DataError for a line that is neither, and where some are missing.
    """
    lines = [(number, line.split()) for number, line in read_lines(path, LFW_HOW)]
    head = lines[0][1] if lines else []
    if len(head) != 2 or not _are_numbers(*head):
        raise DataError(f"{path}: line 1 is not the number of folds and of pairs; fetch it anew with {LFW_HOW}")
    folds, each = (int(cell) for cell in head)
    if len(lines) != 1 + folds * 2 * each:
        raise DataError(
            f"{path}: {len(lines) - 1} pairs, not {folds} × 2 × {each}, as line 1 says; fetch it anew with {LFW_HOW}"
        )
    return [_pair(path, n, line, place // (2 * each), folds) for place, (n, line) in enumerate(lines[1:])]


def _are_numbers(*cells: str) -> bool:
    return all(whole_number(cell) is not None for cell in cells)


def _pair(path: Path, number: int, line: list[str], fold: int, folds: int) -> Pair:
    match line:
        case [name, first, second] if _are_numbers(first, second):
            return Pair(((name, int(first)), (name, int(second))), fold, folds)
        case [name, first, other, second] if _are_numbers(first, second):
            return Pair(((name, int(first)), (other, int(second))), fold, folds)
    raise DataError(f"{path}: line {number} is no pair; fetch it anew with {LFW_HOW}")


def _lfw_file(folder: Path, name: str, picture: int, table: Path) -> Path:
    file = folder / name / f"{name}_{picture:04d}.jpg"
    if not file.exists():
        raise DataError(f"{file}: missing, and {table.name} lists it; it belongs to {LFW_HOW}")
    return file


def _files(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each person who has any, by the person's folder, in the order of their names."""
    found = {
        person.name: [file for file in listed(person, "*") if file.suffix.lower() in _SUFFIXES]
        for person in folders(folder)
    }
    return {name: files[:MOST_PICTURES] for name, files in found.items() if files}


def _pictures(folder: Path, files: Sequence[Path], share: float) -> NDArray[np.uint8]:
    def parse() -> Arrays:
        grey = is_grey(files[0])
        return {"x": np.stack([read_face(file, grey=grey, share=share) for file in files])}

    return cached(f"faces-{folder.name}-{share:g}", _VERSION, files, parse)["x"]


def _features(x: NDArray[np.uint8]) -> tuple[str, ...]:
    return ("grey",) if x.shape[-1] == 1 else ("red", "green", "blue")
