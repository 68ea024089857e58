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
    """A disk is full. full: which one, and how far."""

    def __init__(self, full: str, mend: str) -> None:
        super().__init__(f"{full}: {mend}")
        self.full = full


def is_full(error: Exception) -> bool:
    """Whether a disk is full, or somebody's share of it is."""
    return isinstance(error, NoRoomError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def room_in(folder: Path | None, mend: str, *, over: bool = False) -> Iterator[None]:
    """Where a disk is full, raise NoRoomError, which says which one, instead of OSError.

    folder: where this command writes; None where that is for a while only. mend: what is kept, and what to do. over:
    say so in place of what a part of this command, which raised NoRoomError, has said of itself.
    """
    try:
        yield
    except NoRoomError as error:
        if not over:
            raise
        raise NoRoomError(error.full, mend) from error
    except OSError as error:
        if not is_full(error):
            raise
        # Of a file that is copied the second name is the one that is written. Whoever writes to an open file is not
        # told its name.
        written = error.filename2 or error.filename
        places = [each for each in (folder, _temporary()) if each is not None]
        named = [Path(written)] if isinstance(written, str) else places
        disk = min(map(_disk_of, named), key=lambda each: shutil.disk_usage(each).free)
        left = f"{shutil.disk_usage(disk).free / 1e6:.0f} MB left"
        raise NoRoomError(f"{places[0]}: the disk at {disk} is full, or your share of it is ({left})", mend) from error


def _temporary() -> Path:
    """Where what is needed for a while only is written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # it tries each place by writing there
        return Path(os.environ.get("TMPDIR", "."))


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
