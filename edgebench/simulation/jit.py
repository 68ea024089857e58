"""numba, and where what it compiles is kept: in the user's cache, never where the package is installed.

A kernel is compiled when it is first called, and found again by later processes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config

from edgebench.tasks.cache import cache_dir

_MOST_KEPT = 4
"""States of our sources whose compiled code is kept."""

F = TypeVar("F", bound=Callable[..., object])


def inlined(function: F) -> F:
    """As `jit`, for what kernels call for each message."""
    return _compiled(function, forceinline=True, _nrt=False)


def jit(function: F) -> F:
    """The function, which makes no arrays, compiled when it is first called. References to arrays are not counted in
    it, which would cost more than most of what is done with a message: whoever calls it holds them. NUMBA_CACHE_DIR has
    its usual meaning."""
    return _compiled(function, _nrt=False)


def making(function: F) -> F:
    """As `jit`, for what makes arrays."""
    return _compiled(function, _nrt=True)


def _compiled(function: F, **options: Any) -> F:
    settings = vars(config)
    named = settings["CACHE_DIR"]
    folder = None if named else _folder()
    try:
        if folder is not None:
            settings["CACHE_DIR"] = str(folder)
        is_kept = bool(named) or folder is not None
        return cast(F, numba.njit(cache=is_kept, nogil=True, **options)(function))
    finally:
        settings["CACHE_DIR"] = named


@cache
def _folder() -> Path | None:
    """One for each state of what is compiled, since numba looks at the file of a function alone, and not at those of
    what it calls and of the constants in it; None where nothing can be written."""
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source = file.read_bytes()
        if file.name == "columns.py" or b"simulation.jit import" in source:
            digest.update(source)
    folder = cache_dir() / "compiled" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folders = sorted(folder.parent.iterdir(), key=lambda each: each.stat().st_mtime)
    except OSError:
        return None
    for old in folders[:-_MOST_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder if os.access(folder, os.W_OK) else None
