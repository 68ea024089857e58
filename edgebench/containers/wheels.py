"""The wheels that an image is made of, gathered by this computer's pip, so that nothing is fetched while it is built.

They are of the versions that are installed here, as far as these can be had.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from edgebench.containers.engine import EngineError
from edgebench.lab.wheel import Wheel, own_wheel

_MOST_S = 1800.0
_VERSION = re.compile(r"[0-9][\w.!]*")
_KEPT = 6


class Wheels(NamedTuple):
    """own: edgebench's. others: what it needs, in the order of their names. pip: which installs them."""

    own: Wheel
    others: tuple[Path, ...]
    pip: Path

    def digest(self) -> str:
        """SHA-256 over all of them, hexadecimal: by their names, since a file of a name never changes, and our own."""
        names = [*(path.name for path in self.others), self.pip.name, self.own.sha256]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()


def gathered(packages: tuple[str, ...], cache: Path, extras: tuple[str, ...] = ()) -> Wheels:
    """Those of edgebench's base install, of its extras and of packages besides, from the cache where they are there.

    Raises EngineError where they cannot be had.
    """
    own = own_wheel(cache / "own")
    constraints = _installed()
    asked = f"{platform.python_version()} {platform.machine()}\n{_needs(own)}\n{(extras, packages)}\n{constraints}"
    folder = cache / f"wheels-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _gather(own, extras, packages, constraints, folder)
        for old in sorted(cache.glob("wheels-*"), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old)
    found = sorted(folder.glob("*.whl"))
    pip = next(each for each in found if each.name.startswith("pip-"))
    return Wheels(own, tuple(each for each in found if each != pip), pip)


def _gather(own: Wheel, extras: tuple[str, ...], packages: tuple[str, ...], constraints: str, folder: Path) -> None:
    """Into the folder, which is there when all of them are."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        constraints_file, wheels = Path(made) / "constraints.txt", Path(made) / "wheels"
        constraints_file.write_text(constraints, "utf-8")
        wheels.mkdir()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--dest", str(wheels), "--constraint", str(constraints_file)]
        try:
            pip = subprocess.run(
                [*command, f"{own.path}[{','.join(extras)}]" if extras else str(own.path), "pip", *packages],
                check=False,
                capture_output=True,
                text=True,
                timeout=_MOST_S,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"the wheels for the images could not be gathered in {_MOST_S:.0f} s") from None
        if pip.returncode != 0:
            lines = [line for line in pip.stderr.splitlines() if line.startswith("ERROR")] or pip.stderr.splitlines()
            why = lines[-1].removeprefix("ERROR: ") if lines else f"pip ended with {pip.returncode}"
            raise EngineError(f"the wheels for the images cannot be gathered by pip: {why}")
        (wheels / own.path.name).unlink(missing_ok=True)
        wheels.replace(folder)


def _needs(own: Wheel) -> str:
    """What edgebench requires, which the name of its wheel does not tell."""
    with zipfile.ZipFile(own.path) as wheel:
        name = next(each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
        return "\n".join(re.findall(r"(?m)^Requires-Dist: .*$", wheel.read(name).decode()))


def _installed() -> str:
    """The versions that are installed here, as constraints for pip."""
    found = {
        each.metadata["Name"].lower(): each.version
        for each in distributions()
        if each.metadata["Name"] and _VERSION.fullmatch(each.version)
    }
    found.pop("edgebench", None)
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
