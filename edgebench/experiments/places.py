"""Whether what a command makes can be kept where a user wants it: known before the minutes that it takes, as far as it
can be."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError


class NoRoomError(EdgebenchError):
    """A disk is full."""


@contextlib.contextmanager
def room_in(folder: Path, mend: str) -> Iterator[None]:
    """Where a disk is full, raise NoRoomError, which says which one, instead of OSError. mend: what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Whoever writes to an open file is not told its name.
        named = [Path(error.filename)] if isinstance(error.filename, str) else [folder, Path(tempfile.gettempdir())]
        disk = min(map(_disk_of, named), key=lambda each: shutil.disk_usage(each).free)
        left = f"{shutil.disk_usage(disk).free / 1e6:.0f} MB left"
        raise NoRoomError(f"{folder}: the disk at {disk} is full, or your share of it is ({left}): {mend}") from error


def _disk_of(path: Path) -> Path:
    """Where the file system is mounted that a path is on."""
    place = path.resolve()
    while not os.path.ismount(place):
        place = place.parent
    return place


def check_file(option: str, path: Path) -> None:
    """A file that can be written, in a folder that is there. Raises EdgebenchError."""
    if path.is_dir():
        raise EdgebenchError(f"{option} {path}: is a folder (name a file)")
    if not path.parent.is_dir():
        raise EdgebenchError(f"{option} {path}: no folder {path.parent} (make it first)")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise EdgebenchError(f"{option} {path}: may not be written (name another)")


def check_folder(option: str, path: Path) -> None:
    """A folder that is there, or that can be made, and that may be written to. Raises EdgebenchError."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        named = "is a file" if there == path else f"{there} is a file"
        raise EdgebenchError(f"{option} {path}: {named} (name a folder)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise EdgebenchError(f"{option} {path}: {there} may not be written to (name another folder)")
