"""Boards of another architecture on this computer: Debian roots of 64-bit and of 32-bit Arm, run by qemu's user mode.

To a process there, everything is as on a Raspberry Pi: its Python, its wheels, what `uname` says; it is some 50 times
slower than this computer. A root is made once and kept, in $EDGEBENCH_TEST_CACHE or the user's cache folder:

    python -m tests.lab_kit.boards bookworm-arm64

makes one beforehand (4 minutes, and some 500 MB). What is kept is never written to: a board has a layer above it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT
from tests.lab_kit.machines import Disk, Machine
from tests.lab_kit.needs import SYSTEM_PATH, need_root_and

HOME = "/opt/edgebench"
"""The virtual environment that a board comes with."""
WHEELS = "/opt/wheels"
"""What a board's pip finds, in place of a package index."""
_BUILD_S = 3600.0
_FORMAT = 1
"""Of what is kept: a change of how roots are made takes another number."""
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_DEBIAN = "python3,python3-venv,python3-pip,ca-certificates"


class Board(NamedTuple):
    """A kind of board. machine: what `platform.machine()` says there. packages: Debian's, of which docs/boards.md says
    that such a board needs them before pip; `venv` its options then."""

    suite: str
    architecture: str
    emulator: str
    machine: str
    python: str
    packages: tuple[str, ...] = ()
    venv: tuple[str, ...] = ()


BOARDS = {
    "bookworm-arm64": Board("bookworm", "arm64", "qemu-aarch64", "aarch64", "3.11"),
    "trixie-arm64": Board("trixie", "arm64", "qemu-aarch64", "aarch64", "3.13"),
    "bookworm-armhf": Board(
        "bookworm",
        "armhf",
        "qemu-arm",
        "armv7l",
        "3.11",
        (
            *("gcc", "libc6-dev", "libffi-dev", "python3-dev"),
            *("python3-numpy", "python3-pil", "python3-psutil", "python3-yaml"),
        ),
        ("--system-site-packages",),
    ),
}
"""Raspberry Pi OS of 2023 and of 2025, and the former for 32 bits."""


def cache_folder() -> Path:
    """Where roots are kept."""
    named = os.environ.get("EDGEBENCH_TEST_CACHE")
    if named:
        return Path(named) / "boards"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgebench" / "boards"


def bare_root(name: str) -> Path:
    """Debian as it is after its installation, with Python. Made where it is missing, and where anybody else makes it,
    waited for."""
    board = BOARDS[name]
    _prepare(board)
    return kept(f"{name}-{digest(*board.packages)}", lambda root: _install_debian(board, root))


def equipped(name: str) -> tuple[Path, ...]:
    """The layers of a board with what the base install needs: in `HOME`, without the project itself, and as wheels in
    `WHEELS`, which its pip takes for the package index."""
    base = bare_root(name)
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    key = f"{name}-{digest(*BOARDS[name].packages, *dependencies)}"
    return kept(key, lambda layer: _equip(BOARDS[name], base, layer, dependencies)), base


def installed(name: str, wheel: Path, folder: Path) -> tuple[Path, ...]:
    """The layers of a board with the project in `HOME`, too, from its wheel; the uppermost is written into `folder`."""
    disk = Disk(equipped(name), folder)
    brought = bring(wheel, disk)
    with _builder(name, disk) as machine:
        machine.run(f"{HOME}/bin/pip", "install", "--no-deps", brought, timeout_s=_BUILD_S)
    return disk.written, *disk.layers


def build_wheel(folder: Path) -> Path:
    """The project's wheel."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def bring(file: Path, disk: Disk) -> str:
    """Lay a file onto the disk of a machine that is off; its path there."""
    there = disk.written / "opt/brought"
    there.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, there)
    return f"/opt/brought/{file.name}"


def own_index() -> dict[str, str]:
    """The environment that makes a board's pip ask the package index that this computer's asks."""
    found = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    lines = dict(line.split("=", 1) for line in found.stdout.splitlines() if "=" in line)
    urls = [value.strip("'") for key, value in lines.items() if key.endswith(".index-url")]
    return {"PIP_CERT": f"/{_CERTIFICATES}"} | ({"PIP_INDEX_URL": urls[-1]} if urls else {})


def ensure_packages(brought: Path, *packages: str) -> None:
    """Have these Debian packages on this computer; installed where the file that they bring is missing."""
    with _alone("tools"):
        if not brought.exists():
            run_here("apt-get", "update", "-qq")
            run_here("apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages)


def kept(key: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made where it is missing. What broke off while it was made is made anew."""
    folder = cache_folder() / f"{_FORMAT}-{key}"
    with _alone(key):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            for rest in folder.parent.glob(f"{folder.name}.*"):
                shutil.rmtree(rest)
            make(unfinished)
            unfinished.rename(folder)
    return folder


def digest(*words: str) -> str:
    """A short name for these."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def run_here(*argv: str) -> str:
    """What a command of this computer says that is to be done well."""
    environment = {**os.environ, "PATH": SYSTEM_PATH, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{argv}: {(done.stdout + done.stderr)[-2000:]}"
    return done.stdout


def _prepare(board: Board) -> None:
    """Have what makes and runs such roots; installed where it is missing."""
    need_root_and("apt-get", "unshare", "nsenter", "setpriv", "mount")
    description = Path(f"/usr/lib/binfmt.d/{board.emulator}.conf")
    ensure_packages(description, "qemu-user-static")
    ensure_packages(Path("/usr/sbin/debootstrap"), "debootstrap")
    with _alone("tools"):
        if not (_BINFMT / "register").exists():
            run_here("mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT))
        entry = _BINFMT / board.emulator
        if not entry.exists():
            (_BINFMT / "register").write_text(description.read_text().strip())
    # F: the kernel has opened the emulator, so that it is there in any root.
    assert "F" in entry.read_text().partition("flags:")[2].partition("\n")[0], f"{entry}: without the flag F"


def _install_debian(board: Board, root: Path) -> None:
    packages = ",".join((_DEBIAN, *board.packages))
    how = (f"--arch={board.architecture}", "--variant=minbase", f"--include={packages}")
    run_here("nice", "-n", "15", "debootstrap", *how, board.suite, str(root), _mirror())
    # Whom this computer trusts, and whom it asks for names.
    shutil.copyfile(f"/{_CERTIFICATES}", root / _CERTIFICATES)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)


def _mirror() -> str:
    """The Debian mirror that this computer's apt uses."""
    about = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    found = run_here("apt-get", "indextargets", "--format", "$(REPO_URI)", *about).split()
    if not found:
        run_here("apt-get", "update", "-qq")
        found = run_here("apt-get", "indextargets", "--format", "$(REPO_URI)", *about).split()
    assert found, "apt knows no Debian mirror: see /etc/apt/sources.list"
    return found[0]


def _equip(board: Board, base: Path, layer: Path, dependencies: list[str]) -> None:
    disk = Disk((base,), layer.with_name(f"{layer.name}.disk"))
    pip = f"{HOME}/bin/pip"
    with _builder(layer.name, disk, **own_index()) as machine:
        machine.run("python3", "-m", "venv", *board.venv, HOME, timeout_s=_BUILD_S)
        if board.venv:  # Debian's packages count, which `pip wheel` does not know
            machine.run(pip, "install", *dependencies, timeout_s=_BUILD_S)
            beside = machine.run(pip, "freeze", "--local", timeout_s=_BUILD_S).stdout.split()
            machine.run(pip, "wheel", "--no-deps", "-w", WHEELS, *beside, timeout_s=_BUILD_S)
        else:
            machine.run(pip, "wheel", "-w", WHEELS, *dependencies, timeout_s=_BUILD_S)
            machine.run(pip, "install", "--no-index", "-f", WHEELS, *dependencies, timeout_s=_BUILD_S)
    shutil.rmtree(disk.written / "root/.cache", ignore_errors=True)
    (disk.written / "etc").mkdir(exist_ok=True)
    (disk.written / "etc/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {WHEELS}\n")
    disk.written.rename(layer)
    shutil.rmtree(disk.folder)


@contextmanager
def _builder(name: str, disk: Disk, **environment: str) -> Iterator[Machine]:
    """A machine that has this computer's network."""
    machine = Machine(name, disk=disk, environment=environment)
    machine.power_on()
    try:
        yield machine
    finally:
        machine.power_off()


@contextmanager
def _alone(what: str) -> Iterator[None]:
    """Nobody else does the same meanwhile, in whichever process."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(*equipped(each), sep="\n")
