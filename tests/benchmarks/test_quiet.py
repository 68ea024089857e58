from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.quiet import awake, judged
from edgebench.clock import NS_PER_S, now_s, sleep_s
from edgebench.fabric.records import HostUsage

ROOT = Path(__file__).resolve().parents[2]
PAIR = """
import json, sys
from benchmarks.quiet import Quiet
from edgebench.clock import sleep_s

quiet = Quiet(anyway=sys.argv[1] == "anyway")
with quiet.during("pair 1"):
    sleep_s(1.5)
print(json.dumps(quiet.told()))
"""


@pytest.fixture
def busy() -> Iterator[None]:
    """A process that is no part of what the test starts."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


def _pair(how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PAIR, how], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.usefixtures("busy")
def test_a_pair_that_others_disturb_is_refused_in_one_line() -> None:
    done = _pair("")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("pair 1: others took ")
    assert "of the processor (limit 5%)" in line
    assert "--anyway" in line


@pytest.mark.usefixtures("busy")
def test_anyway_goes_on_and_marks_it() -> None:
    done = _pair("anyway")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["disturbed"] is True
    (pair,) = told["watched"]
    assert (pair["what"], pair["disturbed"]) == ("pair 1", True)
    assert "pair 1: foreign " in done.stderr
    assert done.stderr.endswith(" (disturbed)\n")


def _usage(from_s: float, to_s: float, foreign: float, stolen: float) -> HostUsage:
    return HostUsage(int(to_s * NS_PER_S), 0.9, stolen, foreign, None, int(from_s * NS_PER_S))


def test_what_others_took_is_the_mean_over_time() -> None:
    # 3 s of 2 % and 1 s of 10 % are 4 %, and half a per cent was stolen throughout.
    usage = [_usage(0, 3, 0.02, 0.005), _usage(3, 4, 0.1, 0.005)]
    found = judged("pair", usage)
    assert (found["foreign"], found["stolen"], found["pressure"], found["disturbed"]) == (0.04, 0.005, None, False)
    assert judged("pair", [*usage, _usage(4, 5, 0.1, 0.005)])["disturbed"]


def test_stolen_time_disturbs_like_any_other() -> None:
    assert judged("pair", [_usage(0, 2, 0.01, 0.05)])["disturbed"]


@pytest.mark.skipif(sys.platform != "linux", reason="processors are kept awake on Linux alone")
def test_processors_are_kept_awake_by_work_that_gives_way_and_ends() -> None:
    def spinning() -> set[int]:
        return {each.pid for each in psutil.Process().children() if os.sched_getscheduler(each.pid) == os.SCHED_IDLE}

    with awake():
        until_s = now_s() + 10.0
        while len(pids := spinning()) < len(os.sched_getaffinity(0)) and now_s() < until_s:
            sleep_s(0.02)
        assert len(pids) == len(os.sched_getaffinity(0))
    assert not any(map(psutil.pid_exists, pids))
