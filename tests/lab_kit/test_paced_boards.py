"""Boards whose processor has a speed of its own: what an instruction takes, how steady that is, and a lab with one."""

from __future__ import annotations

import statistics
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgebench.clock import now_s
from tests.lab_kit.boards import HOME, build_wheel, equipped, installed
from tests.lab_kit.labs import Lab
from tests.lab_kit.machines import Disk, Machine, network
from tests.lab_kit.needs import need_root_and
from tests.lab_kit.paced_boards import COUNTERS, QEMU, build_plugin, pace_of, paced
from tests.system.running import faults_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

BOARD = "bookworm-arm64"
INSN_NS, SIMD_NS = 7, 50
ROUNDS = 40 * 65536
SLOWLY_S = 1200.0
SUBTRACT, ADD_FLOATS = 0xF1000400, 0x1E602800
COUNT_DOWN = """
import time
for _ in range(7):
    began = time.perf_counter()
    left = 100_000
    while left:
        left -= 1
    print(time.perf_counter() - began)
"""
BUSY = "while True: pass"
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


@pytest.mark.parametrize("with_floats", [False, True])
def test_a_program_takes_the_time_of_its_instructions(with_floats: bool, tmp_path: Path) -> None:
    need_root_and("apt-get")
    build_plugin(tmp_path / "pace.so")
    (tmp_path / "counts").write_bytes(COUNTERS.pack(0, 0))
    program = tmp_path / "program"
    program.write_bytes(counting_down(with_floats))
    program.chmod(0o755)
    plugin = f"{tmp_path}/pace.so,insn_ns={INSN_NS},simd_ns={SIMD_NS},counts={tmp_path}/counts"
    began_s = now_s()
    subprocess.run([str(QEMU), "-plugin", plugin, str(program)], check=True)
    took_s = now_s() - began_s
    executed_ns, _ = COUNTERS.unpack((tmp_path / "counts").read_bytes())
    # The counter is set; each round subtracts and jumps; three instructions end it.
    assert executed_ns == INSN_NS * (1 + 2 * ROUNDS + 3) + (SIMD_NS * ROUNDS if with_floats else 0)
    assert took_s > executed_ns / 1e9


def test_a_board_is_as_fast_beside_other_work_as_without_and_decides_in_a_lab(tmp_path: Path) -> None:
    layers = paced(BOARD, installed(BOARD, build_wheel(tmp_path), tmp_path / "installed"))
    assert layers[2:] == equipped(BOARD)
    with network() as net:
        lab = Lab(net, tmp_path)
        board = lab.board("pi", layers)
        assert isinstance(board.disk, Disk)
        alone_s, beside_s = (statistics.median(map(float, _counted(board, others))) for others in (0, 2))
        pace = pace_of(board.disk)
        assert pace.executed_s > 7 * (alone_s + beside_s) * 0.9
        assert abs(beside_s - alone_s) < 0.01 * alone_s, (alone_s, beside_s, pace)
        lab.join(board, "--as", "edge", program=(f"{HOME}/bin/edgebench",))
        _, result, _ = lab.run(WARD)
        assert faults_of(result) == []
        watch = result["workloads"]["watch"]
        assert (watch["scheduled"], watch["decided"], watch["lost"]) == (20, 20, 0)
        assert result["machines"]["pi"]["arch"] == "aarch64"


def counting_down(with_floats: bool) -> bytes:
    """A program of 64-bit Arm, by hand: an ELF file of one segment that counts from ROUNDS to 0 and ends."""
    body = [ADD_FLOATS] * with_floats + [SUBTRACT]
    back = 0x54000001 | (-len(body) & 0x7FFFF) << 5  # b.ne to the first of the body
    end = (0xD2800000, 0xD2800BC8, 0xD4000001)  # exit_group(0)
    code = struct.pack("<" + "I" * (len(body) + 5), 0xD2A00000 | (ROUNDS >> 16) << 5, *body, back, *end)
    begin, header, segment = 0x400000, 64, 56
    size = header + segment + len(code)
    elf = struct.pack("<4s12B", b"\x7fELF", 2, 1, 1, *[0] * 9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, begin + header + segment, header, 0, 0, header, segment, 1, 0, 0, 0)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, begin, begin, size, size, 0x10000) + code


def _counted(board: Machine, others: int) -> list[str]:
    """What counting takes on a board, s, while so many others want a core of this computer."""
    with ExitStack() as stack:
        for _ in range(others):
            busy = stack.enter_context(subprocess.Popen(["nice", "-n", "19", sys.executable, "-c", BUSY]))
            stack.callback(busy.kill)
        return board.run(f"{HOME}/bin/python", "-c", COUNT_DOWN, timeout_s=SLOWLY_S).stdout.split()
