"""A file system that forgets what was not synced when its machine loses power: the process that serves it is killed.

    python benchmarks/unsynced.py FOLDER MOUNTPOINT

What is written stays in this process's memory, and reaches FOLDER, the disk, when it is synced (fsync or fdatasync).
Names are on the disk at once: files that are made, renamed and removed, as a journal of metadata has it; so a file that
was renamed before it was synced is there, and empty. Needs Linux, libfuse (apt-get install libfuse3-3) and
`pip install mfusepy`, and the right to mount. Source of the idea: LazyFS (Ramos et al., VLDB 2024).
"""

from __future__ import annotations

# The methods of a file system are those of FUSE, and are documented there.
# ruff: noqa: D102
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgebench.clock import now_s, sleep_s

_UP_S = 30.0
_LOOK_S = 0.01


class Unsynced:
    """See above: the operations of FUSE. Called in one thread."""

    use_ns = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory: dict[str, bytearray] = {}
        """What is not on the disk yet: whole files, by path."""

    def _on_disk(self, path: str) -> Path:
        return self._folder / path.lstrip("/")

    def _content(self, path: str) -> bytearray:
        """Of a file that is about to be changed."""
        if path not in self._memory:
            self._memory[path] = bytearray(self._on_disk(path).read_bytes())
        return self._memory[path]

    def getattr(self, path: str, _fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._on_disk(path))
        values = {name: getattr(found, name) for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size")}
        values |= {f"st_{name}time": getattr(found, f"st_{name}time_ns") for name in "amc"}
        if path in self._memory:
            values["st_size"] = len(self._memory[path])
        return values

    def readdir(self, path: str, _fh: int) -> list[str]:
        return [".", "..", *(each.name for each in self._on_disk(path).iterdir())]

    def create(self, path: str, mode: int, _fi: object = None) -> int:
        os.close(os.open(self._on_disk(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, stat.S_IMODE(mode)))
        return 0

    def open(self, path: str, flags: int) -> int:
        if not self._on_disk(path).exists():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if flags & os.O_TRUNC:
            self._memory[path] = bytearray()
        return 0

    def read(self, path: str, size: int, offset: int, _fh: int) -> bytes:
        if path in self._memory:
            return bytes(self._memory[path][offset : offset + size])
        with self._on_disk(path).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def write(self, path: str, data: bytes, offset: int, _fh: int) -> int:
        content = self._content(path)
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, path: str, length: int, _fh: int | None = None) -> int:
        content = self._content(path)
        if length < len(content):
            del content[length:]
        else:
            content.extend(bytes(length - len(content)))
        return 0

    def fsync(self, path: str, _datasync: bool, _fh: int) -> int:
        content = self._memory.pop(path, None)
        if content is not None:
            with self._on_disk(path).open("r+b") as file:  # what was synced before stays, should this process be killed
                file.write(content)
                file.truncate()
        return 0

    def rename(self, old: str, new: str, _flags: int = 0) -> int:
        self._on_disk(old).rename(self._on_disk(new))
        self._memory.pop(new, None)
        for path in [path for path in self._memory if path == old or path.startswith(f"{old}/")]:
            self._memory[new + path.removeprefix(old)] = self._memory.pop(path)
        return 0

    def unlink(self, path: str) -> int:
        self._on_disk(path).unlink()
        self._memory.pop(path, None)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._on_disk(path).mkdir(mode)
        return 0

    def rmdir(self, path: str) -> int:
        self._on_disk(path).rmdir()
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._on_disk(path).chmod(stat.S_IMODE(mode))
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.chown(self._on_disk(path), uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        if times is not None:
            os.utime(self._on_disk(path), ns=times)
        else:
            os.utime(self._on_disk(path))
        return 0

    def statfs(self, _path: str) -> dict[str, int]:
        found = os.statvfs(self._folder)
        return {name: getattr(found, name) for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail")}

    def flush(self, _path: str, _fh: int) -> int:
        return 0

    def release(self, _path: str, _fh: int) -> int:
        return 0

    def fsyncdir(self, _path: str, _datasync: bool, _fh: int) -> int:
        return 0


class Disk:
    """A folder on such a file system, which `cut` lets lose power, and `mount` has again."""

    def __init__(self, disk: Path, mountpoint: Path) -> None:
        """disk: where what survives lies. Both are made."""
        self._disk = disk
        self.mountpoint = mountpoint
        for folder in (disk, mountpoint):
            folder.mkdir(parents=True, exist_ok=True)
        self._server: subprocess.Popen[bytes] | None = None

    def mount(self) -> None:
        """Serve it. Raises OSError where it does not come up."""
        self._server = subprocess.Popen([sys.executable, __file__, str(self._disk), str(self.mountpoint)])
        until_s = now_s() + _UP_S
        while not os.path.ismount(self.mountpoint):
            if self._server.poll() is not None or now_s() > until_s:
                self._server.kill()
                raise OSError(f"{self.mountpoint}: not mounted (may this user, and is libfuse there?)")
            sleep_s(_LOOK_S)

    def cut(self) -> None:
        """Lose what was not synced, once nobody who could sync it is left."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None
            unmount_below(self.mountpoint)


def unmount_below(folder: Path) -> None:
    """Unmount whatever is mounted at a folder, or in it, served or not."""
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        mounted = Path(line.split(" ")[1].encode().decode("unicode_escape"))  # a space is \040 there
        if mounted.is_relative_to(folder):
            subprocess.run(["umount", "-l", str(mounted)], check=True)


def _serve(folder: str, mountpoint: str) -> None:
    import mfusepy  # which cannot be imported where there is no libfuse

    class Mounted(Unsynced, mfusepy.Operations):
        """Of what is not defined here, it says so."""

    mfusepy.FUSE(Mounted(Path(folder)), mountpoint, foreground=True, nothreads=True, attr_timeout=0)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
