"""Parsed data sets, kept as NumPy archives under `$EDGEBENCH_CACHE` or the user's cache directory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from edgebench.errors import DataError

Arrays = Mapping[str, NDArray[Any]]


def cache_dir() -> Path:
    """Where parsed data is kept."""
    named = os.environ.get("EDGEBENCH_CACHE")
    if named:
        return Path(named)
    return platformdirs.user_cache_path("edgebench")


def cached(name: str, version: int, files: Sequence[Path], parse: Callable[[], Arrays]) -> Arrays:
    """What `parse` gives of `files` (at least one), from the cache where the same `files` were parsed before.

    Files count as the same when names, sizes and modification times are. `version` changes with the
    meaning of the arrays. An archive that cannot be read is parsed anew; one that is out of date is replaced.

    Raises DataError where the cache cannot be written.
    """
    place = hashlib.sha256(str(files[0].parent.resolve()).encode()).hexdigest()[:8]
    path = cache_dir() / f"{name}-{place}-{_key(version, files)}.npz"
    kept = _read(path)
    if kept is not None:
        return kept
    arrays = parse()
    _write(path, arrays)
    for outdated in path.parent.glob(f"{name}-{place}-*.npz"):
        if outdated != path:
            outdated.unlink(missing_ok=True)
    return arrays


def _key(version: int, files: Sequence[Path]) -> str:
    digest = hashlib.sha256(str(version).encode())
    for file in files:
        found = file.stat()
        digest.update(f"\n{file}\x1f{found.st_size}\x1f{found.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _read(path: Path) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        # Absent or damaged; both are mended by parsing.
        return None


def _write(path: Path, arrays: Arrays) -> None:
    # Under another name first: a process that dies here, or one that parses at the same time, leaves no half archive.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    named: dict[str, Any] = dict(arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez(file, **named)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise DataError(f"{path.parent}: cannot keep parsed data ({error.strerror}); set EDGEBENCH_CACHE") from error
