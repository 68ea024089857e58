"""Finding and reading the files of data sets, as people have them: copied from a Mac, unpacked by Windows."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import math
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from edgebench.errors import DataError

_LEFT_BY_SYSTEMS = frozenset(
    {
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"),
        # What disks have at their top, mostly closed to all but the system.
        *("lost+found", "system volume information"),
    }
)
_WILD = re.compile(r"[*?\[]")
_MOST = 3.4e38
"""What samples, float32, hold at most."""


def listed(folder: Path, pattern: str) -> list[Path]:
    """What matches beneath a folder, sorted, without what is hidden (`._NAME` and `.DS_Store` of a Mac) and what
    systems leave behind (`Thumbs.db`). Nothing where there is no such folder. pattern: as `Path.glob` takes it, `**`
    excepted.

    Raises DataError for a folder, this one or one below that may hold what matches, that may not be read.
    """
    return sorted(_each(folder, pattern))


def holds(folder: Path, pattern: str) -> bool:
    """Whether `listed` would find anything."""
    return next(_each(folder, pattern), None) is not None


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, as `listed` has them."""
    return [path for path in listed(folder, "*") if path.is_dir()]


def read_text(path: Path, how_to_get: str) -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises DataError for one that is missing or no text."""
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; it belongs to {how_to_get}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it belongs to {how_to_get}") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: a byte that is no UTF-8; convert the file, or take it as it comes with {how_to_get}"
        ) from error


def read_lines(path: Path, how_to_get: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, each with its number from 1. Raises DataError as `read_text`."""
    # Not `splitlines`, which ends lines at characters that JSON and transcripts may hold, and counts otherwise than
    # editors do.
    lines = enumerate(io.StringIO(read_text(path, how_to_get), newline=None), start=1)
    return [(number, line.rstrip("\n")) for number, line in lines if line.strip()]


@contextlib.contextmanager
def read_table(path: Path, how_to_get: str, delimiter: str = ",") -> Iterator[csv.DictReader[str]]:
    """The rows of a CSV file, whose first one names the columns. Raises DataError as `read_text`, and while it is read
    where it is no table."""
    with io.StringIO(read_text(path, how_to_get), newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        try:
            yield reader
        except csv.Error as error:
            where = f"{path}, line {reader.line_num}"
            raise DataError(f"{where}: no row of a table ({error}); take it as it comes with {how_to_get}") from error


def finite(cell: str | None, name: str, where: str, mend: str) -> float:
    """The number in a cell of a text file. name: of the cell; where: its file and line.

    Raises DataError for what is no number, is `nan` or `inf`, or is beyond what a sample can hold.
    """
    try:
        number = float(cell or "")
    except ValueError:
        number = math.nan
    if not abs(number) <= _MOST:
        raise DataError(f"{where}: {name} is {cell!r}, no finite number; {mend}")
    return number


def _each(folder: Path, pattern: str) -> Iterator[Path]:
    """Level by level: `Path.glob` passes over folders that it may not read as if nothing were in them."""
    part, _, rest = pattern.partition("/")
    for name in _matching(folder, part):
        if not _is_left_over(name):
            yield from _each(folder / name, rest) if rest else [folder / name]


def _matching(folder: Path, part: str) -> list[str]:
    """The names in a folder that a pattern without `/` matches."""
    try:
        if _WILD.search(part):
            return sorted(path.name for path in folder.iterdir() if fnmatchcase(path.name, part))
        (folder / part).stat()
        return [part]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); make it readable for you") from error


def _is_left_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS
