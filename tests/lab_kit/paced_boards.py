"""Boards whose processor has a speed of its own, however fast this computer's is at the moment.

Under qemu alone a board is as fast as the processor below it, which on a virtual machine may be twice as fast in one
second as in the next. Here a plugin of qemu (`pacing/pace.c`) holds every thread of some programs to a fixed time for
each instruction that it executes: the same work takes the same time, as long as this computer can keep up.
"""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path
from typing import NamedTuple

from tests.lab_kit.boards import BOARDS, HOME, digest, ensure_packages, kept, run_here
from tests.lab_kit.machines import Disk

INSN_NS, SIMD_NS = 40, 480
"""What an instruction takes, and one of the floating-point and vector unit. qemu takes an eighth of that in a loop; but
what wakes for a message finds other things in the processor's caches, and took 12 ns for an instruction and more."""
CORES = 6
"""Of a paced board, whatever it says itself: a thread sleeps for most of the time that its instructions take, and
leaves its processor to others, so that so many go on at once on two."""
COUNTERS = struct.Struct("=4q17q")
"""What the plugin counts: `struct counts` of pace.c."""
QEMU = Path("/usr/bin/qemu-aarch64")
_SOURCES = Path(__file__).parent / "pacing"
_FOLDER = "opt/pace"
_COUNTS = f"{_FOLDER}/counts"


class Pace(NamedTuple):
    """How a board has kept up so far. executed_s: what its threads' instructions should have taken. lost_s: what they
    took longer, as this computer did not keep up, and did not catch up with. waited_s: for a core, when what they had
    waited for had come. late_s2: what they should have executed for between two calls of the system, times how far
    behind they were at the second. late_by: how many of these calls were behind by less than 1 µs, or not, and by less
    than 2, 4, 8 µs and so on."""

    executed_s: float
    lost_s: float
    waited_s: float
    late_s2: float
    late_by: tuple[int, ...]

    @classmethod
    def read(cls, file: Path) -> Pace:
        """What the plugin has counted there."""
        executed, lost, waited, late, *late_by = COUNTERS.unpack(file.read_bytes())
        return cls(executed / 1e9, lost / 1e9, waited / 1e9, late / 1e15, tuple(late_by))

    def since(self, before: Pace) -> Pace:
        """What was counted since then."""
        return Pace(
            self.executed_s - before.executed_s,
            self.lost_s - before.lost_s,
            self.waited_s - before.waited_s,
            self.late_s2 - before.late_s2,
            tuple(after - earlier for after, earlier in zip(self.late_by, before.late_by, strict=True)),
        )

    @property
    def lost(self) -> float:
        """As a share of what was executed."""
        return self.lost_s / self.executed_s

    @property
    def waited(self) -> float:
        """As a share of what was executed."""
        return self.waited_s / self.executed_s

    @property
    def late_ms(self) -> float:
        """How late an instruction's effect was, on average: at the next call of the system."""
        return 1e3 * self.late_s2 / self.executed_s

    @property
    def most_late_ms(self) -> float:
        """No call was later than that: the least power of two, µs, of which it is true."""
        return max(2**power / 1e3 for power, calls in enumerate(self.late_by) if calls)

    def told(self) -> dict[str, float]:
        """For a benchmark's output."""
        return {name: round(getattr(self, name), 4) for name in ("lost", "waited", "late_ms", "most_late_ms")}


NEW = Pace(0.0, 0.0, 0.0, 0.0, (0,) * 17)
"""Of a board that has executed nothing."""


def paced(name: str, layers: tuple[Path, ...]) -> tuple[Path, ...]:
    """A board's layers, Python and the broker that the base install brings being paced there; 64-bit Arm only."""
    board = BOARDS[name]
    assert board.machine == "aarch64", name
    _prepare()
    programs = (f"usr/bin/python{board.python}", f"{HOME.lstrip('/')}/bin/nats-server")
    originals = {program: _found(layers, program) for program in programs}
    about = (pacing_digest(), *map(str, originals.values()))
    return kept(f"{name}-paced-{digest(*about)}", lambda layer: _make(layer, originals)), *layers


def pacing_digest() -> str:
    """A short name for how boards are paced: those of another may be of another speed."""
    _prepare()
    sources = [file.read_text() for file in (_SOURCES / "pace.c", _SOURCES / "launch.c")]
    return digest(*sources, _pace(), str(CORES), run_here(str(QEMU), "--version"))


def pace_of(disk: Disk) -> Pace:
    """Of a paced board, since its disk was new."""
    file = disk.written / _COUNTS
    return Pace.read(file) if file.exists() else NEW


def build_plugin(file: Path) -> None:
    """The plugin, for `QEMU`."""
    _prepare()
    _compile("-shared", "-fPIC", "-ftls-model=initial-exec", str(_SOURCES / "pace.c"), "-o", str(file))


def _prepare() -> None:
    ensure_packages(QEMU, "qemu-user")
    ensure_packages(Path("/usr/bin/gcc"), "gcc", "libc6-dev")  # which brings libc.a, too


def _compile(*words: str) -> None:
    run_here("gcc", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", *words)


def _pace() -> str:
    return f"insn_ns={INSN_NS},simd_ns={SIMD_NS},counts=/{_COUNTS}"


def _found(layers: tuple[Path, ...], program: str) -> Path:
    return next(layer / program for layer in layers if (layer / program).exists())


def _make(layer: Path, originals: dict[str, Path]) -> None:
    folder = layer / _FOLDER
    folder.mkdir(parents=True)
    build_plugin(folder / "pace.so")
    launcher = folder / "launch"
    defined = (f'-DFOLDER="/{_FOLDER}"', f'-DPACE="{_pace()}"')
    _compile("-static", *defined, str(_SOURCES / "launch.c"), "-o", str(launcher))
    for library in re.findall(r"(/\S+) \(0x", run_here("ldd", str(QEMU))):
        shutil.copy(library, folder / ("ld.so" if "/ld-linux" in library else Path(library).name))
    shutil.copy(QEMU, folder / "qemu")
    (folder / "counts").write_bytes(bytes(COUNTERS.size))
    for program, original in originals.items():
        there = layer / program
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original, there.with_name(f"{there.name}.paced"))
        shutil.copy(launcher, there)
