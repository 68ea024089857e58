"""Child processes: how they are started, read and ended. Whatever of ours starts one does it by this module.

Each runs in a session of its own, so that Ctrl-C reaches it only through us, and is ended as a whole: its leader is
asked to (SIGTERM), gets its time, and then the process group is killed and waited for. Nobody takes leave of a leader
before that, for its number could be another's by then. A guard (see `guard`) sees to it that it does not outlive this
process either; those with a lifeline have none, since they end in good order by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.fabric.descriptors import READABLE, wait_until_ready
from edgebench.fabric.guard import guarded
from edgebench.fabric.records import Usage

PATIENCE_S = 5.0
_POLL_S = 0.01
_LOOK_S = 0.2
_GUARD_MARGIN_S = 2.0
"""A guard gets this much longer than what it watches over: the killing is its work."""
_CHUNK_BYTES = 1 << 16
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_HAS_PROC = sys.platform.startswith("linux")
"""Where the system tells by files what psutil tells elsewhere, which a board then has no need of."""
_LISTS_CHILDREN = _HAS_PROC and Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()
"""For each thread, those that it has started, if the kernel was built to."""

_STAND_STILL = """
import os, signal, sys
def tell(number):
    for pid in map(int, sys.argv[1:]):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
tell(signal.SIGSTOP)
print(flush=True)
sys.stdin.read()
tell(signal.SIGCONT)
"""
"""A stopped process does not see that it is needed no more, so another has to."""

_File = int | IO[bytes] | None


class ChildProcess:
    """A program that runs below this process, and ends with it. Use it from a thread that lasts."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        family: bool = False,
        lifeline: bool = False,
        patience_s: float = PATIENCE_S,
        stdin: _File = subprocess.DEVNULL,
        stdout: _File = None,
        stderr: _File = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """family: it runs code that may start processes itself; they all end with it. lifeline: it ends by itself, in
        good order, when its standard input does, a pipe that ends with this process; nothing kills it before.
        patience_s: for an end in good order, once it is asked to."""
        self._lifeline = lifeline
        self._family = family
        self._patience_s = patience_s + (_GUARD_MARGIN_S if family else 0.0)
        self.process = subprocess.Popen(
            list(command) if lifeline else guarded(list(command), family_patience_s=patience_s if family else None),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=None if env is None else dict(env),
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
        self._is_over = False
        self._standstill: subprocess.Popen[bytes] | None = None
        self.is_killed = False
        """Whether it was by `kill`; it may take a moment to end."""
        self._unread = bytearray()
        self._used: Usage | None = None

    @property
    def pid(self) -> int:
        """Of the program, or of the guard of its family."""
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has; it is not taken leave of."""
        return self.status is not None

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs. It is not taken leave of."""
        return _status_of(self.process)

    def usage(self) -> Usage | None:
        """What it and its family have used; None where the system does not tell."""
        used = usage_of_family(self.pid) if self.process.returncode is None else None
        # What a member of the family has used is lost to us where nobody has waited for it.
        if used is not None and (self._used is None or used.cpu_s >= self._used.cpu_s):
            self._used = used
        return self._used

    def core_time_s(self) -> float | None:
        """For how long its threads, and those of its family, have had a core or waited for one, of those there are now.

        None where it has ended, or the system does not tell.
        """
        return core_time_of_family(self.pid) if self.process.returncode is None else None

    def write_line(self, line: bytes) -> None:
        """Say something on its standard input, which must be a pipe. Raises BrokenPipeError where it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def read_line(self, timeout_s: float | None = None, *, most_bytes: int | None = None) -> bytes:
        """The next line on its standard output, which must be a pipe; empty once it has ended.

        Whoever has inherited the pipe and holds it open is not waited for. Raises TimeoutError, and ValueError for a
        line of more than `most_bytes`.
        """
        assert self.process.stdout is not None
        source = self.process.stdout.fileno()
        until_s = None if timeout_s is None else now_s() + timeout_s
        has_ended = False
        seen = 0
        while (end := self._unread.find(b"\n", seen)) < 0:
            seen = len(self._unread)
            if most_bytes is not None and seen > most_bytes:
                raise ValueError(f"a line of more than {most_bytes:,} bytes")
            if until_s is not None and now_s() > until_s:
                raise TimeoutError
            if wait_until_ready(self.process.stdout, READABLE, _LOOK_S):
                chunk = os.read(source, _CHUNK_BYTES)
                if not chunk:
                    # It closes its pipes as it ends: how, is to be known before anybody asks it to.
                    self.wait(_GUARD_MARGIN_S)
                    return b""
                self._unread += chunk
            elif has_ended:
                return b""
            else:
                has_ended = self.has_ended  # what it wrote as it ended is looked for once more
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return line

    def wait(self, timeout_s: float) -> bool:
        """Give it time to end by itself; whether it has."""
        self._await_end(now_s() + timeout_s)
        return self.has_ended

    def hang_up(self) -> None:
        """Close its standard input."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # what was not flushed has nobody to read it
                self.process.stdin.close()

    def ask_to_end(self) -> None:
        """Send SIGTERM, and do not wait."""
        self._send(signal.SIGTERM)

    def reload(self) -> None:
        """Send SIGHUP, by which servers read their configuration again."""
        self._send(signal.SIGHUP)

    def kill(self) -> None:
        """Send SIGKILL, and do not wait."""
        self.is_killed = True
        self._send(signal.SIGKILL)

    def pause(self) -> None:
        """Have it stand still, and all below it, until `resume` or the end of this process, whatever ends that."""
        if self._standstill is not None or self.has_ended:
            return
        self._send(signal.SIGSTOP)  # it starts nothing more
        family = _family_of(self.pid)
        self._standstill = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _STAND_STILL, *map(str, reversed(family))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._standstill.stdout is not None
        self._standstill.stdout.readline()
        _await_standstill(family)

    @property
    def is_paused(self) -> bool:
        """Whether it stands still, and will until it is told to go on."""
        return self._standstill is not None and not self.is_killed

    def resume(self) -> None:
        """Let it go on, and all below it. Not paused is fine."""
        if self._standstill is not None:
            self._standstill.communicate()
            self._standstill = None

    def end(self) -> int:
        """End it and all that it has started; the exit status, negative for a signal. Ended before is fine."""
        self.resume()
        self.ask_to_end()
        return self._end_by(now_s() + self._patience_s)

    def _end_by(self, until_s: float) -> int:
        """Wait for the end that it was asked for, kill what is left of its group then, and take leave."""
        if self._is_over:
            assert self.process.returncode is not None
            return self.process.returncode
        if not self._lifeline:  # one that has it is told twice, the second time in the middle of its end
            self._close_pipes()
        self._await_end(until_s)
        self.usage()  # the system forgets it with the status
        _signal(os.killpg, self.pid, signal.SIGKILL)
        if self._family:
            self._await_end(now_s() + _GUARD_MARGIN_S)
            if self.status == -signal.SIGKILL:
                _kill_session(self.pid)
        status = self.process.wait()
        gone_s = now_s() + _GUARD_MARGIN_S
        while _signal(os.killpg, self.pid, 0) and now_s() < gone_s:
            sleep_s(_POLL_S)
        self._close_pipes()
        self._is_over = True
        return status

    def _send(self, number: int) -> None:
        if self.process.returncode is None:  # not by Popen's own, which takes leave of what has ended
            _signal(os.kill, self.pid, number)

    def _await_end(self, until_s: float) -> None:
        while not self.has_ended and now_s() < until_s:
            sleep_s(_POLL_S)

    def _close_pipes(self) -> None:
        self.hang_up()
        if self.process.stdout is not None:
            self.process.stdout.close()


def end_children(children: Sequence[ChildProcess]) -> None:
    """`ChildProcess.end`, side by side."""
    asked_s = now_s()
    for child in children:
        child.resume()
        child.ask_to_end()
    for child in children:
        child._end_by(asked_s + child._patience_s)


async def start_family(
    command: Sequence[str],
    *,
    patience_s: float,
    limit_bytes: int,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
) -> asyncio.subprocess.Process:
    """A `ChildProcess` of a whole family, with pipes, for an event loop. End it by `end_family`."""
    return await asyncio.create_subprocess_exec(
        *guarded(list(command), family_patience_s=patience_s),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=None if env is None else dict(env),
        limit=limit_bytes,
        start_new_session=True,
    )


async def end_family(process: asyncio.subprocess.Process, patience_s: float) -> int:
    """End it and all that it has started; the exit status, negative for a signal."""
    if process.returncode is None:
        _signal(os.kill, process.pid, signal.SIGTERM)
    kill_s = now_s() + patience_s + _GUARD_MARGIN_S
    # `wait` of asyncio waits for the pipes, too, which somebody else may hold.
    while process.returncode is None:
        await asyncio.sleep(_POLL_S)
        if now_s() > kill_s:
            _signal(os.killpg, process.pid, signal.SIGKILL)
    if process.returncode == -signal.SIGKILL and birth_of(process.pid) is None:  # else the number is another's by now
        await asyncio.to_thread(_kill_session, process.pid)
    for pipe in map(process._transport.get_pipe_transport, (0, 1)):  # type: ignore[attr-defined]
        pipe.close()
    return process.returncode


async def lines_of(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    """The lines on its standard output, until it has ended; whoever else holds the pipe is not waited for."""
    assert process.stdout is not None
    while True:
        reading = asyncio.ensure_future(process.stdout.readline())
        has_ended = False
        try:
            while not (await asyncio.wait({reading}, timeout=_LOOK_S))[0]:
                if has_ended:
                    return
                has_ended = process.returncode is not None  # what it wrote as it ended is looked for once more
        finally:
            if not reading.done():
                reading.cancel()
        line = reading.result()
        if not line:
            break
        yield line
    # It closes its pipes as it ends: how, is to be known before anybody asks it to.
    until_s = now_s() + _GUARD_MARGIN_S
    while process.returncode is None and now_s() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)


def describe_end(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {-status}, {signal.Signals(-status).name}"
    except ValueError:  # a real-time one
        return f"signal {-status}"


def _status_of(process: subprocess.Popen[bytes]) -> int | None:
    if process.returncode is not None:
        return process.returncode
    if sys.platform == "darwin":
        return process.poll()
    try:
        # Not yet reaped: until then its group cannot become another's.
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return process.poll()
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _signal(how: Callable[[int, int], None], number: int, what: int) -> bool:
    """Whether there was anybody to take it."""
    try:
        how(number, what)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return False
    return True


def _await_standstill(family: Sequence[int]) -> None:
    """Wait until all of them have been stopped: one that computes goes on until it is interrupted. Linux only."""
    until_s = now_s() + _GUARD_MARGIN_S
    while _HAS_PROC and now_s() < until_s:
        if all((stat := _stat_of(pid)) is None or stat[0] in "TtZX" for pid in family):
            return
        sleep_s(_POLL_S)


def _kill_session(leader: int) -> None:
    """Kill what is left below a guard that was killed, and cannot do so itself any more. Linux only.

    What has made a session of its own is not found: nothing tells any more whose it was.
    """
    until_s = now_s() + _GUARD_MARGIN_S
    while _HAS_PROC and now_s() < until_s:
        left = [
            pid
            for pid in _processes()
            if pid != leader and (stat := _stat_of(pid)) is not None and stat[3] == str(leader) and stat[0] not in "ZX"
        ]
        if not left:
            return
        for pid in left:
            _signal(os.kill, pid, signal.SIGKILL)
        sleep_s(_POLL_S)


def usage_of_family(pid: int) -> Usage | None:
    """What a process and all below it use, the time of those included that have ended and were waited for.

    None where it is no more.
    """
    used = [usage for member in _family_of(pid) if (usage := _usage_of(member)) is not None]
    return Usage(now_ns(), sum(cpu_s for cpu_s, _ in used), sum(rss for _, rss in used)) if used else None


def core_time_of_family(pid: int) -> float | None:
    """See `ChildProcess.core_time_s`."""
    if not _HAS_PROC:
        return None
    found = []
    for member in _family_of(pid):
        for thread in _threads_of(member):
            with contextlib.suppress(ValueError):  # a thread that has ended
                had_ns, waited_ns, _ = map(int, _contents_of(f"/proc/{member}/task/{thread}/schedstat").split())
                found.append((had_ns + waited_ns) / 1e9)
    return sum(found) or None  # nothing but zeros: the kernel does not count


def _usage_of(pid: int) -> tuple[float, int] | None:
    """CPU time of a process and of its children that were waited for, user and system, s; resident bytes."""
    if (fields := _stat_of(pid)) is not None:
        # An emulator of another processor shows a process that asks about itself no time there.
        cpu_s = sum(os.times()[:4]) if pid == os.getpid() else sum(map(int, fields[11:15])) / _TICKS_PER_S
        return cpu_s, int(fields[21]) * _PAGE_BYTES
    if _HAS_PROC:
        return None
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return sum(process.cpu_times()[:4]), process.memory_info().rss
    except psutil.Error:  # it has ended meanwhile
        return None


def _stat_of(pid: int) -> list[str] | None:
    """What /proc tells of a process, from its state (the third field) on; None where it is no more."""
    # The name, which stands in brackets before, may hold anything.
    return _contents_of(f"/proc/{pid}/stat").decode("utf-8", "replace").rpartition(")")[2].split() or None


def _threads_of(pid: int) -> list[str]:
    """Their numbers; none of a process that is no more."""
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  (see below)
    except OSError:
        return []


def _contents_of(file: str) -> bytes:
    """Of one of the system's; nothing where it is not there, or not any more.

    Not by a `Path`, whose parts are interned anew each time: asked of all processes each second, that fills Python's
    table of interned strings in a few minutes, and each time another one of a megabyte takes its place.
    """
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            return opened.read()
    except OSError:
        return b""


def _family_of(pid: int) -> list[int]:
    """A process and those below it: where the kernel lists them, without a look at every process of the machine."""
    if not _HAS_PROC:
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        return [pid]
    family = [pid]
    if _LISTS_CHILDREN:
        for member in family:  # it grows as it is walked
            for thread in _threads_of(member):
                family += map(int, _contents_of(f"/proc/{member}/task/{thread}/children").split())
        return family
    parents = {other: int(stat[1]) for other in _processes() if (stat := _stat_of(other)) is not None}
    for member in family:
        family += [other for other, parent in parents.items() if parent == member]
    return family


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def birth_of(pid: int) -> str | None:
    """When a process began, by a clock of the system's own, which tells two of one number apart. None: it is gone."""
    if _HAS_PROC:
        return None if (fields := _stat_of(pid)) is None else fields[19]
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
