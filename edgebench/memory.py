"""The memory that processes use, and that this one may, as the machine has it or a container's limits leave it, in
bytes."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import NamedTuple


class Limit(NamedTuple):
    """Files of a cgroup, as a container sees them: its limit, its use, and of what the use is made."""

    limit: Path
    used: Path
    stat: Path


_CGROUP = Path("/sys/fs/cgroup")
LIMITS = (
    Limit(_CGROUP / "memory.max", _CGROUP / "memory.current", _CGROUP / "memory.stat"),
    Limit(
        _CGROUP / "memory/memory.limit_in_bytes",
        _CGROUP / "memory/memory.usage_in_bytes",
        _CGROUP / "memory/memory.stat",
    ),
)
"""Of version 2 and of version 1."""
_DROPPED_WHEN_NEEDED = "inactive_file"
_M_ARENA_MAX = -8


def physical_bytes() -> int:
    """What the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def most_bytes() -> int:
    """What there is, or what a container may have of it."""
    return min((physical_bytes(), *(size for each in LIMITS if (size := _number(each.limit)) is not None)))


def available_bytes() -> int:
    """What could be had now without anything being swapped or killed."""
    import psutil  # which a board that only senses does not need

    left = [psutil.virtual_memory().available]
    for each in LIMITS:
        limit, used = _number(each.limit), _number(each.used)
        if limit is not None and used is not None:
            left.append(max(0, limit - used + _droppable(each.stat)))
    return min(left)


def resident_bytes(process: int | str) -> int:
    """What a process has in use (`self`: this one). Raises OSError where the system does not tell."""
    # Not by a `Path`, whose parts are interned anew each time: asked twice a second, that fills Python's table of
    # interned strings in some 20 minutes, and the next one takes a megabyte.
    with open(f"/proc/{process}/statm", "rb") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def share_one_heap() -> None:
    """Have all threads allocate from one heap, where the C library would give each its own: glibc. It is for processes
    whose threads are many and do little; to be called before there are any."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Let the system have what this process has freed, where its C library does not by itself: glibc keeps it."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _number(file: Path) -> int | None:
    """What is in the file; None where it is not there, or sets no limit."""
    try:
        text = file.read_text("utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _droppable(stat: Path) -> int:
    try:
        lines = stat.read_text("utf-8").splitlines()
    except OSError:
        return 0
    found = (line.split() for line in lines)
    return sum(int(words[1]) for words in found if len(words) == 2 and words[0] == _DROPPED_WHEN_NEEDED)
