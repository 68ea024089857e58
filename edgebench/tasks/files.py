"""Finding and reading the files of data sets, as people have them: copied from a Mac, unpacked by Windows."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import DataError

_LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"})


def listed(folder: Path, pattern: str) -> list[Path]:
    """What matches beneath a folder, sorted, without what is hidden (`._NAME` and `.DS_Store` of a Mac) and what
    systems leave behind (`Thumbs.db`). Nothing where there is no such folder.

    Raises DataError for a folder that may not be read.
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


def _each(folder: Path, pattern: str) -> Iterator[Path]:
    _check_readable(folder)
    for path in folder.glob(pattern):
        if not any(map(_is_left_over, path.relative_to(folder).parts)):
            yield path


def _check_readable(folder: Path) -> None:
    """`Path.glob` passes over what it may not read as if nothing were there."""
    try:
        next(folder.iterdir(), None)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); make it readable for you") from error


def _is_left_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS
