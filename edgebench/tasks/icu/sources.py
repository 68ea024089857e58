"""Where a task's data comes from: the sources that know its answer, found by the layout of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench.errors import DataError
from edgebench.tasks.icu import eicu, mimic3, physionet2012
from edgebench.tasks.icu.generator import Outcome
from edgebench.tasks.task import Dataset


@dataclass(frozen=True)
class Source:
    """A layout: any one of `markers` (files or folders) tells it, `folder` is its usual name."""

    folder: str
    markers: Sequence[str]
    how_to_get: str
    load: Callable[[Path], Dataset]


def sources(outcome: Outcome) -> tuple[Source, ...]:
    """The sources that know this outcome, in the order in which they are preferred.

    Death is asked of PhysioNet 2012 first, which has the most patients that anyone may have; the others
    of eICU first, which has one label for all.
    """
    icu = Source(eicu.FOLDER, eicu.MARKERS, eicu.HOW_TO_GET, lambda folder: eicu.load(folder, outcome))
    name = mimic3.FOLDERS[outcome]
    benchmark = Source(
        name,
        mimic3.MARKERS,
        f"{mimic3.HOW_TO_GET}: its {name}/ with train/ and test/",
        lambda folder: mimic3.load(folder, outcome),
    )
    if outcome == "death":
        challenge = physionet2012
        first = Source(challenge.FOLDER, challenge.MARKERS, challenge.HOW_TO_GET, challenge.load)
        return first, benchmark, icu
    return icu, benchmark


def load(outcome: Outcome, data: Path) -> Dataset:
    """The data set in `data`: the folder of a set itself, or one that holds it.

    Raises DataError with what is missing, from whom it can be had, and where to put it.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; --data names a folder with {_choices(outcome)}")
    for source in sources(outcome):
        folder = next((f for f in _places(data, source.folder) if _tells(f, source)), None)
        if folder is not None:
            return source.load(folder)
    raise DataError(f"{data}: no data for icu-{outcome}; put there {_choices(outcome)}")


def _choices(outcome: Outcome) -> str:
    return ", or ".join(source.how_to_get for source in sources(outcome))


def _places(data: Path, name: str) -> Iterator[Path]:
    yield data
    yield data / name
    for child in sorted(path for path in data.iterdir() if path.is_dir()):
        yield child / name
        # A folder under another name may hold the set, but not that of another task of the same benchmark.
        if child.name not in mimic3.FOLDERS.values():
            yield child


def _tells(folder: Path, source: Source) -> bool:
    return any((folder / marker).exists() for marker in source.markers)
