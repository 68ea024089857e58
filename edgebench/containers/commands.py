"""Which process has made something, and whether that is over: written on what it makes, as a label."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from edgebench.fabric.child_process import birth_of

_PLACE = Path("/proc/self/ns/pid")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@cache
def own_mark() -> str:
    """Of this process: start of the computer, namespace of processes, number, birth."""
    pid = os.getpid()
    return f"{_where()}:{pid}:{birth_of(pid)}"


def is_over(mark: str) -> bool:
    """Whether that process is gone for certain. One that cannot be seen from here may go on."""
    try:
        boot, namespace, pid, birth = mark.split(":")
    except ValueError:
        return False
    if boot != _boot():
        return True
    return f"{boot}:{namespace}" == _where() and birth_of(int(pid)) != birth


def _where() -> str:
    return f"{_boot()}:{_PLACE.stat().st_ino}"


def _boot() -> str:
    return _BOOT.read_text("utf-8").strip()
