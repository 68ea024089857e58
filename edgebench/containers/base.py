"""The image that ours are made on: one that is named, Python's own, or a Debian that is made here."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgebench.containers.commands import own_mark
from edgebench.containers.engine import Engine, EngineError
from edgebench.containers.made import COMMAND

Tell = Callable[[str], None]

_RELEASES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""Those of Debian that have this Python."""
_MIRROR = "http://deb.debian.org/debian"
_MOST_S = 1800.0
_DROPPED = (
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian"),
    *("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/lib/python3/dist-packages/__pycache__"),
)
_NO_SERVICES = "#!/bin/sh\nexit 101\n"
_PYTHON = "import platform; print(platform.python_version(), platform.machine())"


class Bases(NamedTuple):
    """By kind of container. told: what they are, for people."""

    device: str
    edge: str
    told: str


def bases(engine: Engine, named: str | None, tell: Tell) -> Bases:
    """named: by the user. Raises EngineError where there is none."""
    if named is None:
        return _of_python(engine) or _made_before(engine) or _pulled(engine, tell) or _made(engine, tell)
    if engine.image(named) is None:
        tell(f"pulling {named}")
        engine.pull(named)
    return Bases(named, named, f"the base image {named}")


def check_python(engine: Engine, image: str) -> None:
    """The wheels are for the Python of this computer. Raises EngineError where an image has another."""
    said = engine.said_in(image, ("python3", "-c", _PYTHON), {COMMAND: own_mark()})
    version, _, machine = said.partition(" ")
    wanted = platform.python_version_tuple()[:2]
    if "\n" in said or not machine:
        raise EngineError(
            f"the base image {image} has no Python: {said.splitlines()[-1] if said else 'it says nothing'}"
        )
    if tuple(version.split(".")[:2]) != wanted or machine != platform.machine():
        raise EngineError(
            f"the base image {image} has Python {version} for {machine}, and this is {platform.python_version()} "
            f"for {platform.machine()} (name one with Python {'.'.join(wanted)} by --base-image)"
        )


def official() -> str:
    """Python's own image with the Python of this computer."""
    major, minor = sys.version_info[:2]
    release = _RELEASES.get((major, minor), "bookworm")
    return f"python:{major}.{minor}-slim-{release}"


def _of_python(engine: Engine) -> Bases | None:
    name = official()
    return None if engine.image(name) is None else Bases(name, name, f"the base image {name}")


def _made_names() -> tuple[str, str] | None:
    release = _RELEASES.get(sys.version_info[:2])
    return None if release is None else (f"edgebench-base:{release}", f"edgebench-base:{release}-broker")


def _made_before(engine: Engine) -> Bases | None:
    names = _made_names()
    if names is None or None in map(engine.image, names):
        return None
    return Bases(*names, f"{names[0]}, made here by debootstrap")


def _pulled(engine: Engine, tell: Tell) -> Bases | None:
    name = official()
    tell(f"pulling {name}")
    try:
        engine.pull(name)
    except EngineError as error:
        tell(f"{error}; so a base image is made here by debootstrap, which takes some minutes once")
        return None
    return _of_python(engine)


def _made(engine: Engine, tell: Tell) -> Bases:
    """A small Debian with Python, and one with Mosquitto besides. Needs root's rights and Debian's mirror."""
    names, debootstrap = _made_names(), shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    mend = f"name one by --base-image, or have {official()} in the engine"
    if names is None:
        raise EngineError(f"no base image: no release of Debian has Python {platform.python_version()} ({mend})")
    if debootstrap is None or os.geteuid() != 0:
        lacks = "debootstrap is not installed" if debootstrap is None else "debootstrap needs root's rights"
        raise EngineError(f"no base image: {lacks} ({mend})")
    release = names[0].partition(":")[2]
    with tempfile.TemporaryDirectory(prefix="edgebench-base-") as folder:
        root = Path(folder) / "root"
        _do(debootstrap, "--variant=minbase", "--include=python3", release, str(root), _MIRROR)
        _take_in(engine, root, names[0])
        tell("adding Mosquitto to the base image of edges")
        policy = root / "usr/sbin/policy-rc.d"  # the broker is for runs to start
        policy.write_text(_NO_SERVICES, "utf-8")
        policy.chmod(0o755)
        for words in (("update",), ("install", "-y", "--no-install-recommends", "mosquitto")):
            _do("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", *words)
        _take_in(engine, root, names[1])
    return Bases(*names, f"{names[0]}, made here by debootstrap")


def _take_in(engine: Engine, root: Path, name: str) -> None:
    """The root without what no container needs."""
    leave_out = [word for path in _DROPPED for word in ("--exclude", f"./{path}/*")]
    command = ["tar", "-C", str(root), *leave_out, "--one-file-system", "-c", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        assert tar.stderr is not None
        engine.take_in(tar.stdout, name)
        said = tar.stderr.read().decode(errors="replace")
    if tar.returncode != 0:
        raise EngineError(f"{name}: cannot be packed: {said.strip()[-200:]}")


def _do(*command: str) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_MOST_S)
    except subprocess.TimeoutExpired:
        raise EngineError(f"no base image: {Path(command[0]).name} has not ended in {_MOST_S:.0f} s") from None
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise EngineError(f"no base image: {Path(command[0]).name} has failed: {lines[-1] if lines else 'silently'}")
