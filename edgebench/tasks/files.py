"""Finding and reading the files of data sets, as people have them: copied from a Mac, unpacked by Windows."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import math
import os
import re
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from edgebench.decoding import NotUtf8Error, from_utf8
from edgebench.errors import DataError

_LEFT_BY_SYSTEMS = frozenset(
    {
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"),
        # What disks have at their top, mostly closed to all but the system.
        *("lost+found", "system volume information"),
    }
)
_WILD = re.compile(r"[*?\[]")
MOST = 3.4e38
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
    return [path for path in listed(folder, "*") if is_folder(path)]


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder. Raises DataError for one that may not be read, or led to."""
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return False
        os.scandir(path).close()
    except OSError as error:
        # What links lead nowhere to, and in circles to, is none.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise _unreadable(path, error) from error
    return True


def read_text(path: Path, how_to_get: str) -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises DataError for one that is missing or no text."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; it belongs to {how_to_get}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it belongs to {how_to_get}") from error
    try:
        return from_utf8(content)
    except NotUtf8Error as error:
        mend = f"convert the file, or take it as it comes with {how_to_get}"
        raise DataError(f"{path}, line {error.line}: a byte that is no UTF-8; {mend}") from error


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
    if not abs(number) <= MOST:
        raise DataError(f"{where}: {name} is {cell!r}, no finite number; {mend}")
    return number


def _each(folder: Path, pattern: str) -> Iterator[Path]:
    """Level by level: `Path.glob` passes over folders that it may not read as if nothing were in them."""
    part, _, rest = pattern.partition("/")
    if not rest:
        yield from (folder / name for name in _matching(folder, part))
        return
    # In order, so that it does not hang on a disk whether a folder that may not be read is met before what is sought.
    for name in sorted(_matching(folder, part)):
        yield from _each(folder / name, rest)


def _matching(folder: Path, part: str) -> Iterator[str]:
    """The names in a folder that a pattern without `/` matches, in no order."""
    try:
        if _WILD.search(part):
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries]
        else:
            (folder / part).stat()
            names = [part]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unreadable(folder, error) from error
    yield from (name for name in names if fnmatchcase(name, part) and not _is_left_over(name))


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder}: cannot be read ({error.strerror}); make it readable for you")


def _is_left_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS
