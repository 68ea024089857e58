"""Reading the files that `profile` names in a topology: what `edgebench profile` has measured, or a data sheet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgebench.decoding import from_json
from edgebench.errors import TopologyError
from edgebench.home import expanded, home
from edgebench.topology.model import Topology
from edgebench.topology.overrides import json_path
from edgebench.topology.profiles import HOST, SUFFIXES, DataSheet, Profile, check_profile, names_a_file
from edgebench.topology.shape import ShapeError, typed
from edgebench.topology.strict_yaml import Value, YamlError, parse
from edgebench.topology.wording import did_you_mean, one_line

LARGEST_BYTES = 64 << 20
_NUMBERS = re.compile(rb"\[[-+.,\deE\s]+\]")


def kept_profile(name: str) -> Path:
    """Where a profile is kept that was measured under a name, and given no other file."""
    return home() / "profiles" / f"{name}.json"


def profile_file(given: str, topology: Path) -> str:
    """What a node says of its profile in a topology's file, as an absolute path; as it is where it names no file.

    A name is that of another file beside it, but for its suffix, or of a profile that is kept.
    """
    folder = topology.parent
    if names_a_file(given):
        return str(folder / expanded(given))
    if given != HOST:
        for path in (*(folder / f"{given}{suffix}" for suffix in SUFFIXES), kept_profile(given)):
            if path.is_file() and path != topology:
                return str(path)
    return given


def profiles_of(topology: Topology, folder: Path = Path()) -> dict[str, Profile]:
    """The profiles that its nodes name, by what they say. folder: where relative ones are.

    Raises TopologyError, with lines that begin with the file.
    """
    named = {group.profile for group in topology.nodes.values()} - {HOST}
    return {name: read_profile(folder / name) for name in sorted(named)}


def profile_problems(topology: Topology) -> Iterator[tuple[str, str]]:
    """Those of the profiles that a topology's nodes name: (path in the topology, problem)."""
    by_name: dict[str, str] = {}
    for group, node in topology.nodes.items():
        path = f"$.nodes.{group}.profile"
        if node.profile == HOST:
            continue
        if not names_a_file(node.profile):
            names = sorted(file.stem for file in kept_profile(HOST).parent.glob("*.json"))
            mend = did_you_mean(node.profile, names) or f" (write {HOST}, a file, or a name edgebench profile has kept)"
            yield path, f"no profile '{node.profile}'{mend}"
            continue
        try:
            profile = read_profile(Path(node.profile))
        except TopologyError as error:
            for problem in error.problems:
                yield path, problem
            continue
        other = by_name.setdefault(profile.name, node.profile)
        if other != node.profile:
            yield path, f"{node.profile} calls itself '{profile.name}', and so does {other} (change the name in one)"


def read_profile(path: Path) -> Profile:
    """The profile in a file, or the one that a data sheet makes of another's.

    Raises TopologyError, with lines that begin with the file.
    """
    file = _now(path)
    given = _given(file)
    return _sound(file, None if isinstance(given, Profile) else _like(path, given))


class _File(NamedTuple):
    """A file as it is: written anew, it is another one."""

    path: Path
    mtime_ns: int
    size_bytes: int
    inode: int


def _now(path: Path) -> _File:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise TopologyError([one_line(f"{path}: no such file")]) from error
    except OSError as error:
        raise TopologyError([one_line(f"{path}: cannot be read: {error.strerror}")]) from error
    except ValueError as error:  # such a path cannot be
        raise TopologyError([one_line(f"{path}: cannot be read: {error}")]) from error
    return _File(path, found.st_mtime_ns, found.st_size, found.st_ino)


def _like(path: Path, sheet: DataSheet) -> _File:
    """The profile that a data sheet, which is in `path`, scales."""
    if not names_a_file(sheet.like):
        raise TopologyError([one_line(f"{path}: $.like: '{sheet.like}' is no file (name that of a profile)")])
    try:
        other = _now(path.parent / expanded(sheet.like))
        is_sheet = isinstance(_given(other), DataSheet)
    except TopologyError as error:
        raise TopologyError([one_line(f"{path}: $.like: {each}") for each in error.problems]) from error
    if is_sheet:
        raise TopologyError([one_line(f"{path}: $.like: {other.path} was not measured either (name one that was)")])
    return other


@lru_cache(maxsize=64)
def _sound(file: _File, like: _File | None) -> Profile:
    """like: what a data sheet scales."""
    profile = _given(file)
    if isinstance(profile, DataSheet):
        measured = None if like is None else _given(like)
        assert isinstance(measured, Profile)
        profile = profile.scaled(measured)
    problems = [one_line(f"{file.path}: {place}: {problem}") for place, problem in check_profile(profile)]
    if problems:
        raise TopologyError(problems)
    return profile


@lru_cache(maxsize=64)
def _given(file: _File) -> Profile | DataSheet:
    path, document = file.path, _document(file.path)
    if not isinstance(document, dict):
        raise TopologyError([f"{path}: no profile (write one with edgebench profile --out FILE)"])
    try:
        return typed(document, Profile | DataSheet)  # type: ignore[arg-type]
    except ShapeError as error:
        raise TopologyError([one_line(f"{path}: {json_path(error.steps)}: {error.problem}")]) from error


def _document(path: Path) -> Value:
    try:
        source = path.read_bytes()
        if path.suffix != ".json":
            return parse(source)
        if len(source) > LARGEST_BYTES:
            raise TopologyError([f"{path}: larger than {LARGEST_BYTES >> 20} MiB (is this a profile?)"])
        document: Value = from_json(source)
    except OSError as error:
        raise TopologyError([one_line(f"{path}: cannot be read: {error.strerror}")]) from error
    except (YamlError, msgspec.DecodeError) as error:
        raise TopologyError([one_line(f"{path}: {error}")]) from error
    return document


def written(profile: Profile) -> bytes:
    """A profile as a file, which says the same without another beside it; the times of a distribution on one line."""
    indented = msgspec.json.format(msgspec.json.encode(profile), indent=1)
    return _NUMBERS.sub(lambda numbers: b"".join(numbers[0].split()), indented) + b"\n"
