"""Boards whose processor has a speed of its own: what an instruction takes, how steady that is, and a lab with one."""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from edgebench.clock import now_s
from tests.lab_kit.boards import HOME, build_wheel, equipped, installed
from tests.lab_kit.labs import Lab
from tests.lab_kit.machines import Disk, Machine, network
from tests.lab_kit.needs import need_root_and
from tests.lab_kit.paced_boards import CORES, COUNTERS, QEMU, Pace, build_plugin, pace_of, paced
from tests.system.running import faults_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

BOARD = "bookworm-arm64"
INSN_NS, SIMD_NS = 20, 200
LITTLE = 0.01
"""Of what was executed: this computer has kept up."""
BEGIN_S = 0.3
"""What qemu takes to begin and to end."""
ATTEMPTS, COUNTS = 5, 9
BEHIND_S = 0.05
"""That much a thread may be behind, which is not lost yet."""
ADD_FLOATS = 0x1E602800  # d0 = d0 + d0
MANY, NAPS, CALLS = 600 << 16, 50, 1000
NAP_S = 0.002
NANOSLEEP, GETPPID, EXIT = 101, 173, 94
COUNT_DOWN = """
import time
while True:
    began = time.perf_counter()
    left = 100_000
    while left:
        left -= 1
    print(time.perf_counter() - began, flush=True)
"""
BUSY = "print(flush=True)\nwhile True: pass"
WARD = """\
schema: 1
name: ward
duration_s: 10
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, parent: ward}
workloads:
  watch: {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 2}}
machines: {ward: pi}
"""


@pytest.mark.parametrize(("rounds", "floats"), [(MANY, 0), (MANY // 6, 1)])
def test_a_program_takes_the_time_of_its_instructions(rounds: int, floats: int, tmp_path: Path) -> None:
    program = looping(rounds, [ADD_FLOATS] * floats)
    # Four begin it; each round subtracts and jumps; three end it.
    executed_s = (INSN_NS * (4 + 2 * rounds + 3) + SIMD_NS * floats * rounds) / 1e9
    assert executed_s > 1.5
    runs = [ran(program, tmp_path) for _ in range(ATTEMPTS)]
    for pace, took_s in runs:
        assert pace.executed_s == pytest.approx(executed_s, abs=1e-9)
        assert sum(pace.late_by) == 1
        assert took_s > executed_s
    pace, took_s = min(runs, key=lambda run: run[1])
    if pace.lost < LITTLE:
        assert took_s < executed_s * (1 + LITTLE) + pace.late_ms / 1e3 + BEGIN_S, pace


def test_as_many_programs_go_on_at_once_as_a_board_has_cores(tmp_path: Path) -> None:
    """Each takes as long as alone; the best of some attempts, as this computer may have other things to do."""
    program = looping(MANY // 4, [])
    folders = [tmp_path / str(number) for number in range(CORES)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(CORES) as together:
        attempts = [list(together.map(partial(ran, program), folders)) for _ in range(ATTEMPTS)]
    assert min(max(pace.lost for pace, _ in attempt) for attempt in attempts) < LITTLE, attempts


def test_what_a_program_waits_for_a_core_after_it_was_woken_is_counted(tmp_path: Path) -> None:
    nap = [*call(NANOSLEEP), 0xAA1303E0]  # x0 = x19 again
    program = looping(NAPS, nap, time_s=NAP_S)
    alone, _ = ran(program, tmp_path)
    with rivals(1):
        pace, took_s = ran(program, tmp_path, yields=True)
    assert sum(pace.late_by) == sum(alone.late_by) == NAPS + 1
    # Others had the core for a millisecond at least when it should have gone on.
    assert 0.001 < pace.waited_s < took_s - NAPS * NAP_S


def test_how_late_a_program_calls_the_system_is_counted(tmp_path: Path) -> None:
    program = looping(CALLS, [*call(GETPPID), *[ADD_FLOATS] * 100])
    with rivals(1):
        pace, _ = ran(program, tmp_path, yields=True)
    assert sum(pace.late_by) == CALLS + 1
    # It is taken from its core several times, for a millisecond at least; the call after that is late.
    assert pace.most_late_ms > 1
    assert pace.most_late_ms / 2 / (CALLS + 1) <= pace.late_ms <= pace.most_late_ms


def test_a_board_is_as_fast_beside_other_work_as_without_and_decides_in_a_lab(tmp_path: Path) -> None:
    layers = paced(BOARD, installed(BOARD, build_wheel(tmp_path), tmp_path / "installed"))
    assert layers[2:] == equipped(BOARD)
    with network() as net:
        lab = Lab(net, tmp_path)
        board = lab.board("pi", layers)
        assert isinstance(board.disk, Disk)
        alone_s, alone = _counted(board, board.disk)
        with rivals(len(os.sched_getaffinity(0))):
            beside_s, beside = _counted(board, board.disk)
        for took_s, pace in ((alone_s, alone), (beside_s, beside)):
            # It does nothing else, and what is not counted as lost was not.
            assert pace.executed_s * 0.98 - BEHIND_S < sum(took_s), pace
            assert sum(took_s) < (pace.executed_s + pace.lost_s) * 1.02 + BEHIND_S, pace
        if max(alone.lost, beside.lost) < LITTLE:
            assert statistics.median(beside_s) == pytest.approx(statistics.median(alone_s), rel=0.01)
        lab.join(board, "--as", "edge", program=(f"{HOME}/bin/edgebench",))
        _, result, _ = lab.run(WARD)
        assert faults_of(result) == []
        watch = result["workloads"]["watch"]
        assert (watch["scheduled"], watch["decided"], watch["lost"]) == (20, 20, 0)
        assert result["machines"]["pi"]["arch"] == "aarch64"


def looping(rounds: int, body: list[int], time_s: float = 0.0) -> bytes:
    """A program of 64-bit Arm, by hand: an ELF file of one segment that does something so many times, and ends. At its
    end is a time, whose address is in x0 and x19 as it begins."""
    loop = [*body, 0xF1000529]  # x9 = x9 - 1
    back = 0x54000001 | (-len(loop) & 0x7FFFF) << 5  # b.ne to the first of the body
    count = [0xD2800009 | (rounds & 0xFFFF) << 5, 0xF2A00009 | (rounds >> 16) << 5]  # x9
    rest = [0xAA0003F3, *count, *loop, back, 0xD2800000, *call(EXIT)]  # x19 = x0; x0 = 0
    words = [0x10000000 | (1 + len(rest)) << 5, *rest]  # x0 = where the words end
    code = struct.pack(f"<{len(words)}Iqq", *words, int(time_s), round(time_s % 1 * 1e9))
    begin, header, segment = 0x400000, 64, 56
    size = header + segment + len(code)
    elf = struct.pack("<4s12B", b"\x7fELF", 2, 1, 1, *[0] * 9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, begin + header + segment, header, 0, 0, header, segment, 1, 0, 0, 0)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, begin, begin, size, size, 0x10000) + code


def call(number: int) -> list[int]:
    """Instructions that call the system."""
    return [0xD2800008 | number << 5, 0xD4000001]


def ran(program: bytes, folder: Path, *, yields: bool = False) -> tuple[Pace, float]:
    """Run a program at its pace: what was counted, and how long it took, s. yields: on the first core, and all others
    go first."""
    need_root_and("apt-get", "nice", "taskset")
    plugin, counts, file = folder / "pace.so", folder / "counts", folder / "program"
    if not plugin.exists():
        build_plugin(plugin)
    counts.write_bytes(bytes(COUNTERS.size))
    file.write_bytes(program)
    file.chmod(0o755)
    how = ["nice", "-n", "19", "taskset", "-c", _first_core()] if yields else []
    options = f"{plugin},insn_ns={INSN_NS},simd_ns={SIMD_NS},counts={counts}"
    began_s = now_s()
    subprocess.run([*how, str(QEMU), "-plugin", options, str(file)], check=True)
    return Pace.read(counts), now_s() - began_s


@contextmanager
def rivals(number: int) -> Iterator[None]:
    """So many others want a core of this computer: the first, the second and so on."""
    cores = sorted(os.sched_getaffinity(0))[:number]
    with ExitStack() as stack:
        for core in cores:
            line = ["taskset", "-c", str(core), sys.executable, "-c", BUSY]
            busy = stack.enter_context(subprocess.Popen(line, stdout=subprocess.PIPE))
            stack.callback(busy.kill)
            assert busy.stdout is not None
            busy.stdout.readline()
        yield


def _first_core() -> str:
    return str(min(os.sched_getaffinity(0)))


def _counted(board: Machine, disk: Disk) -> tuple[list[float], Pace]:
    """What counting takes on a board each time, s, and how it kept up meanwhile. Not the first time: code that runs for
    the first time is translated."""
    task = board.start(f"{HOME}/bin/python", "-c", COUNT_DOWN)
    said = task.popen.stdout
    assert said is not None
    said.readline()
    before = pace_of(disk)
    took_s = [float(said.readline()) for _ in range(COUNTS)]
    pace = pace_of(disk).since(before)
    task.end()
    return took_s, pace
