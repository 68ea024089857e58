"""A disk of its own for what a node keeps, small enough to be filled: a file system in memory, which wants root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from io import RawIOBase
from pathlib import Path

from edgebench.errors import FabricError

SIZE_MB = 64
"""Room for the longest ledger, and for writing it anew."""
_CHUNK = bytes(1 << 20)
_FILL = ".full"
_TAKE_EVERY_S = 0.005


class SmallDisk:
    """Mounted on a folder, with what that holds by then; at `close` it goes away, and what it held stays in the
    folder."""

    def __init__(self, folder: Path) -> None:
        """Raises FabricError where it cannot be mounted."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._filling: threading.Thread | None = None
        self._freed = threading.Event()
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0700", "edgebench", str(folder))

    def fill(self) -> None:
        """Leave no room on it, and take what others give back until it is freed."""
        file = (self._folder / _FILL).open("wb", buffering=0)
        _take_all(file)
        self._freed.clear()
        self._filling = threading.Thread(target=self._keep_full, args=(file,), name="full disk", daemon=True)
        self._filling.start()

    def _keep_full(self, file: RawIOBase) -> None:
        with file:
            while not self._freed.wait(_TAKE_EVERY_S):
                _take_all(file)

    def free(self) -> None:
        """Give the room back. Not filled is fine."""
        if self._filling is not None:
            self._freed.set()
            self._filling.join()
            self._filling = None
        (self._folder / _FILL).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        self.free()
        with tempfile.TemporaryDirectory(dir=self._folder.parent) as passing:
            for path in self._folder.iterdir():
                shutil.copy2(path, passing)
            unmount(self._folder)
            for path in Path(passing).iterdir():
                shutil.copy2(path, self._folder)


def _take_all(file: RawIOBase) -> None:
    with contextlib.suppress(OSError):  # by which a full disk is told
        while file.write(_CHUNK):
            pass


def unmount(folder: Path) -> None:
    """Take a disk away, whoever still uses it. Raises FabricError."""
    _run("umount", "-l", str(folder))


def left_in(folder: Path) -> list[Path]:
    """Where disks are mounted below a folder."""
    import psutil

    places = (Path(partition.mountpoint) for partition in psutil.disk_partitions(all=True))
    return [place for place in places if folder.resolve() in place.parents]


def why_not() -> str | None:
    """Why no disk can be mounted here; None where one can."""
    if os.geteuid() != 0:
        return "a small disk is mounted for it, which wants root"
    with tempfile.TemporaryDirectory() as folder:
        try:
            SmallDisk(Path(folder) / "disk").close()
        except FabricError as error:
            return str(error)
    return None


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8", errors="replace")
    except OSError as error:
        raise FabricError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise FabricError(f"a small disk cannot be had here: {done.stderr.strip() or command[0]}")
