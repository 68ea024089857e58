"""Runs a command that must not outlive whoever started it, not even where that one is killed with SIGKILL.

    python -I -S guard.py PARENT_PID PATIENCE_S|- COMMAND…

With `-` the command is alone: on Linux the kernel kills it when its parent dies, and it takes the wrapper's place (same
pid). With a patience the wrapper stays, and whatever the command has started, in whichever group or session, ends with
it: when the command ends, when the parent dies, or that many seconds after SIGTERM, which is handed on (as SIGHUP is).
On Linux it adopts the orphans below it; elsewhere the command's process group is what it can reach.

A file of its own with only built-in imports, so that it starts in some 40 ms.
"""

from __future__ import annotations

import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGKILL = 9
_POLL_S = 0.2
_LONG_S = 60.0
_ALONE = "-"
_LINUX = sys.platform.startswith("linux")
_NOT_RUN = 127


def guarded(command: list[str], *, family_patience_s: float | None = None) -> list[str]:
    """The command that runs `command` so that it dies with the calling process (strictly: with the thread that starts
    it, on Linux; start it from a thread that lasts).

    family_patience_s: for a command that may start processes itself, all of which are to end with it: how long it has
    to end by itself once it is asked to. The process is the guard's then, and its status is the command's.
    """
    how = _ALONE if family_patience_s is None else str(family_patience_s)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), how, *command]


def _control(option: int, value: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _stay(parent_pid: int, patience_s: float, command: list[str]) -> int:
    """Run the command below this process; its wait status once nothing of it is left."""
    import signal

    orphaned = signal.SIGUSR1
    watched = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, orphaned}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # a signal without a handler may be dropped
    if _LINUX:
        _control(_PR_SET_CHILD_SUBREAPER, 1)
        _control(_PR_SET_PDEATHSIG, orphaned)
    else:
        signal.setitimer(signal.ITIMER_REAL, _POLL_S, _POLL_S)
    if os.getppid() != parent_pid:
        return _SIGKILL
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored is inherited
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _run(command)
        finally:
            os._exit(_NOT_RUN)
    # Pipes are between the command and the parent: each sees the other's end at once.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nowhere, stream)
    asked, waited_s = False, 0.0
    status = None
    while status is None:
        number = signal.sigwait(watched)
        if number == signal.SIGCHLD:
            status = _reaped(pid)
        elif number == orphaned or os.getppid() != parent_pid:
            break
        elif number == signal.SIGALRM:
            waited_s += _POLL_S * asked
            if asked and waited_s >= patience_s:
                break
        elif number == signal.SIGHUP:
            os.kill(pid, signal.SIGHUP)
        elif not asked:
            asked = True
            os.kill(pid, signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, _POLL_S, _POLL_S)
    return _end_family(pid, status)


def _run(command: list[str]) -> None:
    try:
        if _LINUX:
            _control(_PR_SET_PDEATHSIG, _SIGKILL)
        os.execvp(command[0], command)  # noqa: S606  (no shell is what is wanted)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())


def _reaped(pid: int) -> int | None:
    """Take leave of the children that have ended; the status of `pid`, if it is one of them."""
    status = None
    while True:
        try:
            ended, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if ended == 0:
            return status
        if ended == pid:
            status = how


def _end_family(pid: int, status: int | None) -> int:
    """Kill and wait for the command and all that has come of it; the command's status."""
    _kill(os.killpg, pid)
    while True:
        for child in _children() if _LINUX else ():
            _kill(os.kill, child)
        try:
            # The children of what dies here become ours, and are found in the next turn.
            ended, how = os.waitpid(-1, 0)
        except ChildProcessError:
            return _SIGKILL if status is None else status
        if ended == pid:
            status = how


def _children() -> list[int]:
    me, found = str(os.getpid()), []
    for entry in os.listdir("/proc"):  # noqa: PTH208  (pathlib takes longer to load than all of this)
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            if fields[1] == me:
                found.append(int(entry))
    return found


def _kill(how: object, number: int) -> None:
    try:
        how(number, _SIGKILL)  # type: ignore[operator]
    except (ProcessLookupError, PermissionError):
        return  # gone already; macOS says the latter of a group of zombies


def _end_as(status: int) -> int:
    """End in the way that a wait status tells: the exit status, or the same signal."""
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status)
    import resource
    import signal

    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command's own core is enough
    if number != _SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number


def main(arguments: list[str]) -> int:
    """Take the command's place, or watch over its family; the exit status is the command's."""
    parent_pid, how, command = int(arguments[0]), arguments[1], arguments[2:]
    if how != _ALONE or not _LINUX:
        return _end_as(_stay(parent_pid, _LONG_S if how == _ALONE else float(how), command))
    _control(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent_pid:  # it died before the kernel was told to watch it
        return 128 + _SIGKILL
    os.execvp(command[0], command)  # noqa: S606  (no shell is what is wanted)
    raise AssertionError("execvp came back")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
