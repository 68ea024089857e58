"""Whether processes of others have ended, which may happen while it is asked."""

from __future__ import annotations

import psutil

from edgebench.clock import now_s, sleep_s

WAIT_S = 60.0


def is_gone(pid: int) -> bool:
    """Whether there is no such process, or it waits for somebody to take leave of it."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def check_gone(*pids: int) -> None:
    """A test fails where one of them does not end."""
    until_s = now_s() + WAIT_S
    while not all(map(is_gone, pids)):
        assert now_s() < until_s
        sleep_s(0.01)
