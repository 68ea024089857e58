"""Runs a command that must not outlive whoever started it, not even where that one is killed with SIGKILL.

    python -I -S guard.py PARENT_PID COMMAND…

On Linux the kernel kills the command when its parent dies, and the command takes the wrapper's place (same pid). Other
systems know no such thing: there the wrapper stays, hands signals on, and kills the command when its parent changes.

A file of its own with only built-in imports, so that it starts in some 40 ms.
"""

from __future__ import annotations

import os
import sys

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_POLL_S = 0.2


def guarded(command: list[str]) -> list[str]:
    """The command that runs `command` so that it dies with the calling process (strictly: with the thread that starts
    it, on Linux; start it from a thread that lasts)."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _die_with_parent() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _stay_and_watch(parent_pid: int, command: list[str]) -> int:
    import signal
    import subprocess

    child = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    while True:
        try:
            status = child.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent_pid:
                child.kill()
                return child.wait()
        else:
            return status if status >= 0 else 128 - status


def main(arguments: list[str]) -> int:
    """Take the command's place (Linux), or watch it (elsewhere); the exit status is the command's."""
    parent_pid, command = int(arguments[0]), arguments[1:]
    if not sys.platform.startswith("linux"):
        return _stay_and_watch(parent_pid, command)
    _die_with_parent()
    if os.getppid() != parent_pid:  # it died before the kernel was told to watch it
        return 128 + _SIGKILL
    os.execvp(command[0], command)  # noqa: S606  (no shell is what is wanted)
    raise AssertionError("execvp came back")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
