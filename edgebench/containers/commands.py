"""Which process has made something, and whether that is over: written on what it makes, as a label."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

from edgebench.fabric.child_process import birth_of

_PLACE = Path("/proc/self/ns/pid")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_COMPUTER = Path("/etc/machine-id")


@cache
def own_mark() -> str:
    """Of this process: computer, start of the computer, namespace of processes, number, birth."""
    pid = os.getpid()
    return f"{_computer()}:{_boot()}:{_namespace()}:{pid}:{birth_of(pid)}"


def is_over(mark: str) -> bool:
    """Whether that process is gone for certain. One that cannot be seen from here may go on: of another computer, whose
    commands use the same engine, in another namespace, or of another user where those are hidden."""
    try:
        computer, boot, namespace, number, birth = mark.split(":")
        pid = int(number)
    except ValueError:
        return False
    if computer != _computer():
        return False
    if boot != _boot():
        return True
    if namespace != _namespace():
        return False
    born = birth_of(pid)
    return _is_gone(pid) if born is None else born != birth


def _is_gone(pid: int) -> bool:
    """By the kernel's word, also where /proc hides others' processes (hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _computer() -> str:
    """A word for this computer that does not tell which one it is."""
    try:
        name = _COMPUTER.read_text("utf-8").strip()
    except OSError:
        name = ""
    return hashlib.sha256(f"edgebench {name or platform.node()}".encode()).hexdigest()[:16]


def _namespace() -> str:
    return str(_PLACE.stat().st_ino)


def _boot() -> str:
    return _BOOT.read_text("utf-8").strip()
