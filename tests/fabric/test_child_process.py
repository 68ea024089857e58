"""How child processes are read and ended: real ones, which start others and hold their pipes open."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.fabric import child_process
from edgebench.fabric.child_process import (
    ChildProcess,
    describe_end,
    end_children,
    end_family,
    lines_of,
    start_family,
)
from edgebench.fabric.descriptors import HasFileno, wait_until_ready
from tests.fabric.ended import check_gone, is_gone

WAIT_S = 30.0
LIMIT_BYTES = 1 << 16
BUSY = "for _ in range(3):\n    sum(range(2_000_000))\n"
STARTS = "import os, signal, subprocess, sys, time\nother = subprocess.Popen(['sleep', '1000'])\n"
SAYS = STARTS + "print(other.pid, flush=True)\n"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("family", [False, True], ids=["alone", "family"])
def test_lines_come_one_by_one_and_then_the_end_though_another_holds_the_pipe(family: bool) -> None:
    child = ChildProcess(python(SAYS + "print('two\\nthr', end='', flush=True)"), family=family, stdout=subprocess.PIPE)
    other = int(child.read_line(WAIT_S))
    assert child.read_line(WAIT_S) == b"two"
    assert child.read_line(WAIT_S) == b""  # half a line is none
    assert child.end() == 0
    check_gone(other)


@pytest.mark.parametrize("family", [False, True], ids=["alone", "family"])
def test_a_child_that_closes_its_pipe_before_it_ends_has_its_own_status(family: bool) -> None:
    child = ChildProcess(
        python("import os, time; os.close(1); time.sleep(0.3); os._exit(6)"), family=family, stdout=subprocess.PIPE
    )
    assert child.read_line(WAIT_S) == b""
    assert child.end() == 6


def test_no_line_within_the_time_is_a_timeout_and_what_comes_later_is_read_whole() -> None:
    child = ChildProcess(
        python("import sys; print('on', end='', flush=True); sys.stdin.readline(); print('e')"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with pytest.raises(TimeoutError):
        child.read_line(0.3)
    child.write_line(b"go")
    assert child.read_line(WAIT_S) == b"one"
    child.end()


@pytest.mark.skipif(sys.platform == "darwin", reason="tells nobody of an end without taking leave")
@pytest.mark.parametrize(("how", "status"), [("_exit(6)", 6), ("kill(os.getpid(), 9)", -9)], ids=["exit", "signal"])
def test_the_number_of_a_child_that_has_ended_is_nobody_elses_until_its_group_is_ended(how: str, status: int) -> None:
    child = ChildProcess(python(f"import os; os.{how}"), lifeline=True, stdin=subprocess.PIPE)
    assert child.wait(WAIT_S)
    assert child.status == status
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert child.end() == status
    assert not psutil.pid_exists(child.pid)


def test_a_child_with_a_lifeline_outlives_its_parent_as_long_as_it_needs(tmp_path: Path) -> None:
    done = tmp_path / "done"
    code = f"import sys, time\nsys.stdin.read()\ntime.sleep(0.5)\nopen({str(done)!r}, 'w')"
    parent = (
        "import os, subprocess, sys\nfrom edgebench.fabric.child_process import ChildProcess\n"
        f"ChildProcess([sys.executable, '-c', {code!r}], lifeline=True, stdin=subprocess.PIPE)\nos.kill(os.getpid(), 9)"
    )
    assert subprocess.run(python(parent)).returncode == -signal.SIGKILL
    until_s = now_s() + WAIT_S
    while not done.exists():
        assert now_s() < until_s
        sleep_s(0.01)


def test_the_end_of_a_child_that_does_not_listen_comes_after_its_patience() -> None:
    code = SAYS + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(1000)"
    child = ChildProcess(python(code), patience_s=0.2, stdout=subprocess.PIPE)
    other = int(child.read_line(WAIT_S))
    assert child.read_line(WAIT_S) == b"up"
    assert child.end() == -signal.SIGKILL
    check_gone(other)


def test_a_familys_use_of_the_machine_is_counted_and_kept() -> None:
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\nprint('done', flush=True)\n"
    child = ChildProcess(python(code + "sys.stdin.read()"), family=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.read_line(WAIT_S) == b"done"
    used = child.usage()
    assert used is not None
    assert used.cpu_s > 0.05
    assert used.rss_bytes > 1 << 22
    child.end()
    last = child.usage()
    assert last is not None
    assert last.cpu_s >= used.cpu_s


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil tells of a family")
def test_a_family_is_counted_though_members_end_just_as_they_are_looked_at() -> None:
    child = ChildProcess(python("import os\nwhile True:\n    if not os.fork():\n        os._exit(0)\n    os.wait()"))
    until_s = now_s() + 0.5
    while now_s() < until_s:
        assert child.usage() is not None
        child.core_time_s()
    child.end()


def test_leaders_are_ended_side_by_side_with_their_groups() -> None:
    children = [
        ChildProcess(python(SAYS + "time.sleep(1000)"), lifeline=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    others = [int(child.read_line(WAIT_S)) for child in children]
    end_children(children)
    assert [child.end() for child in children] == [-signal.SIGTERM] * 3
    for other in others:
        check_gone(other)


@pytest.mark.parametrize(("then", "status"), [("sys.exit(4)", 4), ("time.sleep(1000)", -signal.SIGTERM)])
def test_an_event_loop_reads_to_the_end_and_ends_what_is_left(then: str, status: int) -> None:
    async def read() -> tuple[list[bytes], int]:
        process = await start_family(python(SAYS + then), patience_s=5.0, limit_bytes=LIMIT_BYTES)
        lines = []
        async for line in lines_of(process):
            lines.append(line)
            if status < 0:
                break
        return lines, await end_family(process, 5.0)

    lines, found = asyncio.run(asyncio.wait_for(read(), WAIT_S))
    assert (len(lines), found) == (1, status)
    check_gone(int(lines[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="a guard that is killed is the kernel's to see to")
def test_an_event_loop_does_not_wait_for_the_pipe_of_a_child_that_is_killed_with_its_guard() -> None:
    code = SAYS.replace("'1000']", f"'{3 * WAIT_S}'], start_new_session=True") + "time.sleep(1000)"

    async def read() -> int:
        process = await start_family(python(code), patience_s=5.0, limit_bytes=LIMIT_BYTES)
        async for line in lines_of(process):
            psutil.Process(process.pid).kill()
            other = int(line)
        status = await end_family(process, 5.0)
        psutil.Process(other).kill()
        return status

    assert asyncio.run(asyncio.wait_for(read(), WAIT_S)) == -signal.SIGKILL


def test_an_end_is_told_in_words() -> None:
    assert [describe_end(status) for status in (3, -9, -63)] == ["status 3", "signal 9, SIGKILL", "signal 63"]


def test_what_a_child_wrote_as_it_ended_is_read_though_nothing_was_there_a_moment_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = STARTS + "sys.stdin.readline()\nprint(other.pid, flush=True)"  # who holds the pipe
    child = ChildProcess(python(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    looks = iter([False])

    def look(what: HasFileno, event: int, timeout_s: float) -> bool:
        if next(looks, True):
            return wait_until_ready(what, event, timeout_s)
        child.write_line(b"end")
        assert child.wait(WAIT_S)
        return False

    monkeypatch.setattr(child_process, "wait_until_ready", look)
    other = int(child.read_line(WAIT_S))
    assert child.read_line(WAIT_S) == b""
    assert child.end() == 0
    check_gone(other)


@pytest.mark.skipif(sys.platform == "darwin", reason="does not tell who is of a session")
def test_what_a_family_has_started_ends_though_its_guard_was_killed() -> None:
    child = ChildProcess(python(SAYS + "time.sleep(1000)"), family=True, stdout=subprocess.PIPE)
    other = int(child.read_line(WAIT_S))
    child.kill()
    assert child.read_line(WAIT_S) == b""
    assert child.end() == -signal.SIGKILL
    assert is_gone(other)


@pytest.mark.skipif(sys.platform == "darwin", reason="does not tell who is of a session")
def test_an_event_loop_ends_what_a_family_has_started_though_its_guard_was_killed() -> None:
    async def read() -> int:
        process = await start_family(python(SAYS + "time.sleep(1000)"), patience_s=5.0, limit_bytes=LIMIT_BYTES)
        async for line in lines_of(process):
            process.kill()
            other = int(line)
        assert await end_family(process, 5.0) == -signal.SIGKILL
        return other

    other = asyncio.run(asyncio.wait_for(read(), WAIT_S))
    assert is_gone(other)


def status_of(pid: int) -> str:
    return str(psutil.Process(pid).status())


def test_whoever_computes_has_stopped_when_it_is_paused() -> None:
    child = ChildProcess(python("while True: pass"))
    for _ in range(20):
        child.pause()
        assert status_of(child.pid) == psutil.STATUS_STOPPED
        child.resume()
    assert child.end() == -signal.SIGTERM


def test_whoever_is_paused_stands_still_with_all_that_it_has_started() -> None:
    child = ChildProcess(python(SAYS + "time.sleep(1000)"), stdout=subprocess.PIPE)
    other = int(child.read_line(WAIT_S))
    child.pause()
    child.pause()
    assert {status_of(child.pid), status_of(other)} == {psutil.STATUS_STOPPED}
    child.resume()
    assert psutil.STATUS_STOPPED not in {status_of(child.pid), status_of(other)}
    child.pause()
    assert child.end() == -signal.SIGTERM


HOLDER = """
import subprocess, sys
from edgebench.fabric.child_process import ChildProcess
child = ChildProcess([sys.executable, "-c", "import sys; sys.stdin.read()"], lifeline=True, stdin=subprocess.PIPE)
child.pause()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_whoever_is_paused_goes_on_and_ends_when_whoever_paused_it_is_killed() -> None:
    with subprocess.Popen(python(HOLDER), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        paused = int(holder.stdout.readline())
        assert status_of(paused) == psutil.STATUS_STOPPED
        holder.kill()
    check_gone(paused)


LOOKING = """
import os, tracemalloc
from edgebench.fabric.child_process import usage_of_family
assert usage_of_family(os.getpid()) is not None
tracemalloc.start()
for _ in range(20_000):
    usage_of_family(os.getpid())
print(tracemalloc.get_traced_memory()[0])
"""
"""In a new process: in one that runs tests Python's table of interned strings may have room for more."""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil tells of a family")
def test_looking_at_a_family_every_second_of_hours_leaves_nothing_behind() -> None:
    said = subprocess.run([sys.executable, "-c", LOOKING], capture_output=True, text=True, check=True).stdout
    assert int(said) < 20_000
