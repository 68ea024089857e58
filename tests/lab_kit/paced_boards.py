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

INSN_NS, SIMD_NS = 5, 80
"""What an instruction takes, and one of the floating-point and vector unit: twice to three times what qemu takes."""
COUNTERS = struct.Struct("=qq")
"""What the plugin counts, ns: executed, and lost."""
QEMU = Path("/usr/bin/qemu-aarch64")
_SOURCES = Path(__file__).parent / "pacing"
_FOLDER = "opt/pace"
_COUNTS = f"{_FOLDER}/counts"


class Pace(NamedTuple):
    """How a board has kept up so far. executed_s: what its threads' instructions should have taken, lost_s: by how much
    they took longer, as this computer did not keep up."""

    executed_s: float
    lost_s: float

    def lost_since(self, before: Pace) -> float:
        """As a share of what was executed since then."""
        return (self.lost_s - before.lost_s) / (self.executed_s - before.executed_s)


NEW = Pace(0.0, 0.0)
"""Of a board that has executed nothing."""


def paced(name: str, layers: tuple[Path, ...]) -> tuple[Path, ...]:
    """A board's layers, Python and the broker that the base install brings being paced there; 64-bit Arm only."""
    board = BOARDS[name]
    assert board.machine == "aarch64", name
    _prepare()
    programs = (f"usr/bin/python{board.python}", f"{HOME.lstrip('/')}/bin/nats-server")
    originals = {program: _found(layers, program) for program in programs}
    sources = [file.read_text() for file in (_SOURCES / "pace.c", _SOURCES / "launch.c")]
    about = (*sources, _pace(), run_here(str(QEMU), "--version"), *map(str, originals.values()))
    return kept(f"{name}-paced-{digest(*about)}", lambda layer: _make(layer, originals)), *layers


def pace_of(disk: Disk) -> Pace:
    """Of a paced board, since its disk was new."""
    file = disk.written / _COUNTS
    if not file.exists():
        return NEW
    executed_ns, lost_ns = COUNTERS.unpack(file.read_bytes())
    return Pace(executed_ns / 1e9, lost_ns / 1e9)


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
    (folder / "counts").write_bytes(COUNTERS.pack(0, 0))
    for program, original in originals.items():
        there = layer / program
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original, there.with_name(f"{there.name}.paced"))
        shutil.copy(launcher, there)
