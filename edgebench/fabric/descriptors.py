"""Open files and sockets: how many this process may have, and waiting for one of any number."""

from __future__ import annotations

import resource
import select
import sys
from typing import Protocol

READABLE = select.POLLIN
WRITABLE = select.POLLOUT

_MOST = 10_240 if sys.platform == "darwin" else 1 << 20
"""What a system without a hard limit still refuses to exceed: macOS' OPEN_MAX, and Linux' fs.nr_open as it comes."""


class HasFileno(Protocol):
    """A socket, or the end of a pipe."""

    def fileno(self) -> int:
        """The file descriptor."""


def most_descriptors() -> int:
    """How many this process, and each that it starts, may have open at most: the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)


def allow_descriptors() -> None:
    """Let this process, and each that it starts, have as many as it may: most systems give 1,024 or 256 unasked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most_descriptors()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def wait_until_ready(what: HasFileno | int, events: int, timeout_s: float) -> bool:
    """Whether it is `READABLE` or `WRITABLE` (or broken) within the time.

    By `poll`, since `select` cannot wait for descriptors above 1,023.
    """
    poll = select.poll()
    poll.register(what, events)
    return bool(poll.poll(timeout_s * 1000.0))
