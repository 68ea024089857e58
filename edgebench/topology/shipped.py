"""The topologies that ship with edgebench, by name."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from edgebench.errors import TopologyError
from edgebench.topology.wording import did_you_mean, one_line

_PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS = (_PACKAGE / "topologies", _PACKAGE.parent / "topologies")
"""In an installed package, and in a clone."""


def shipped() -> Mapping[str, Path]:
    """Name -> file, in the order of the names."""
    folder = next((each for each in _FOLDERS if each.is_dir()), None)
    return {} if folder is None else {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def shipped_file(name: str) -> Path:
    """The file of the topology that ships under this name. Raises TopologyError."""
    found = shipped()
    if name not in found:
        raise TopologyError([f"{name}: no topology that ships{did_you_mean(name, found)}"])
    return found[name]


def about(file: Path) -> str:
    """The first sentence of a topology's comment, which says what it shows; empty where it has none."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), file.read_text("utf-8").splitlines())
    text = " ".join(line.removeprefix("#").strip() for line in comment)
    sentence, stop, _ = text.partition(". ")
    return sentence + stop.strip()


def topology_file(given: str | Path) -> Path:
    """The file that a user means by a path, or by the name of a topology that ships.

    A file that is there wins. Raises TopologyError for a bare name that is neither; a path to nothing comes back as it
    is, for `load` to refuse.
    """
    path = Path(given)
    known = shipped()
    if path.name != str(given) or path.suffix or path.is_file():
        return path
    if path.name in known:
        return known[path.name]
    if path.exists():
        return path
    problem = f"{given}: neither a file nor a topology that ships{did_you_mean(path.name, known)}"
    raise TopologyError([one_line(problem)])
