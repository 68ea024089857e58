"""Whether what a command makes can be kept where a user wants it: known before the minutes that it takes."""

from __future__ import annotations

import os
from pathlib import Path

from edgebench.errors import EdgebenchError


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
