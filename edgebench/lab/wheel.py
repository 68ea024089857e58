"""The very code that runs here, as a wheel for the lab's machines, and a digest of it by which two compare theirs.

It is packed from the installed files, be they a clone's or a package's, so whatever this computer runs can be had by
its machines. Packed twice it is the same, byte for byte, so a line that names its hash stays good.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import re
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

import edgebench
from edgebench.fabric.tls import private_folder, write_private
from edgebench.lab.messages import LabError
from edgebench.topology.shipped import shipped

_PACKAGES = ("cloud", "device_agent", "edge_node", "edgebench")
_TOPOLOGIES = "edgebench/topologies"
_PYPROJECT = Path(edgebench.__file__).resolve().parent.parent / "pyproject.toml"
"""Where what runs here is a clone."""
_WHEEL = "Wheel-Version: 1.0\nGenerator: edgebench lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_KEPT = 4
"""An invitation of an hour ago may name the wheel of that time."""


class Wheel(NamedTuple):
    """A file, and its SHA-256, hexadecimal."""

    path: Path
    sha256: str


class _About(NamedTuple):
    """What pip is told of a package: METADATA without a version, and entry_points.txt."""

    metadata: str
    entry_points: str


def own_wheel(folder: Path) -> Wheel:
    """The wheel of what runs here, in this folder. Raises LabError where what runs here was never installed."""
    version, data = _packed(_about())
    path = private_folder(folder) / f"edgebench-{version}-py3-none-any.whl"
    # One of that name may be damaged, or packed by another zlib: what is told is the hash of these bytes.
    if not path.exists() or path.read_bytes() != data:
        write_private(path, data)
        for old in sorted(folder.glob("*.whl"), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
            old.unlink()
    return Wheel(path, hashlib.sha256(data).hexdigest())


@cache
def code_digest() -> str:
    """SHA-256 of the Python source that runs here, hexadecimal."""
    return _digest_of((name, path.read_bytes()) for name, path in _package_files() if path.suffix == ".py")


def _digest_of(files: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 over their names and what is in them, hexadecimal."""
    digest = hashlib.sha256()
    for name, data in files:
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _package_files() -> Iterator[tuple[str, Path]]:
    """Name in the wheel and file, in the order of the names."""
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        home = Path(spec.submodule_search_locations[0])
        for file in sorted(home.rglob("*")):
            name = file.relative_to(home).as_posix()
            if file.is_file() and "__pycache__" not in file.parts and not name.startswith("topologies/"):
                yield f"{package}/{name}", file


@cache
def _about() -> _About:
    """Of a clone, what its pyproject.toml says now: what was installed in it is as old as the last `pip install -e`."""
    if _PYPROJECT.is_file():
        project = tomllib.loads(_PYPROJECT.read_text("utf-8"))["project"]
        if project["name"] == edgebench.__name__:
            return _described(project)
    try:
        installed = distribution(edgebench.__name__)
    except PackageNotFoundError:
        raise LabError(
            "edgebench is not installed here, so there is no wheel of it (pip install -e '.[lab]')"
        ) from None
    metadata = re.sub(r"(?m)^Version: .*\n", "", installed.read_text("METADATA") or "", count=1)
    return _About(metadata, installed.read_text("entry_points.txt") or "")


def _described(project: dict[str, Any]) -> _About:
    """project: the table of that name of a pyproject.toml."""
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        for requirement in requirements:
            what, _, where = requirement.partition(";")
            marker = f"({where.strip()}) and extra == '{extra}'" if where else f"extra == '{extra}'"
            lines.append(f"Requires-Dist: {what.strip()} ; {marker}")
    scripts = [f"{name} = {target}" for name, target in project["scripts"].items()]
    return _About("\n".join((*lines, "")), "\n".join(("[console_scripts]", *scripts, "")))


@cache
def _packed(about: _About) -> tuple[str, bytes]:
    """Its version, by all that is in it, and the wheel."""
    files = [(name, file.read_bytes()) for name, file in _package_files()]
    files += [(f"{_TOPOLOGIES}/{name}.yaml", file.read_bytes()) for name, file in shipped().items()]
    told = [(name, text.encode()) for name, text in zip(_About._fields, about, strict=True)]
    # A version of its own: pip then sees that it differs from what a board has, whatever that was.
    version = f"{edgebench.__version__}+lab.c{_digest_of([*files, *told])[:10]}"
    info = f"edgebench-{version}.dist-info"
    metadata = about.metadata.replace("\nName:", f"\nVersion: {version}\nName:", 1)
    record = []
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:

        def add(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}\n")

        for name, data in files:
            add(name, data)
        add(f"{info}/METADATA", metadata.encode())
        add(f"{info}/WHEEL", _WHEEL.encode())
        add(f"{info}/entry_points.txt", about.entry_points.encode())
        record.append(f"{info}/RECORD,,\n")
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD", _LONG_AGO), "".join(record))
    return version, packed.getvalue()
