"""Reading the files that `profile` names in a topology: what `edgebench profile` has measured, or a data sheet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

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
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: such a path cannot be
        raise TopologyError([one_line(f"{path}: {_reason(error)}")]) from error
    return _read(path, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, _mtime_ns: int) -> Profile:
    given = _given(path)
    if isinstance(given, Profile):
        profile = given
    else:
        other = path.parent / expanded(given.like)
        if not names_a_file(given.like):
            raise TopologyError([one_line(f"{path}: $.like: '{given.like}' is no file (name that of a profile)")])
        try:
            like = _given(other)
        except TopologyError as error:
            raise TopologyError([one_line(f"{path}: $.like: {each}") for each in error.problems]) from error
        if isinstance(like, DataSheet):
            raise TopologyError([one_line(f"{path}: $.like: {other} was not measured either (name one that was)")])
        profile = given.scaled(like)
    problems = [one_line(f"{path}: {place}: {problem}") for place, problem in check_profile(profile)]
    if problems:
        raise TopologyError(problems)
    return profile


def _given(path: Path) -> Profile | DataSheet:
    document = _document(path)
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
    except (YamlError, msgspec.DecodeError) as error:
        raise TopologyError([one_line(f"{path}: {error}")]) from error
    except (OSError, ValueError) as error:
        raise TopologyError([one_line(f"{path}: {_reason(error)}")]) from error
    return document


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"


def written(profile: Profile) -> bytes:
    """A profile as a file, which says the same without another beside it; the times of a distribution on one line."""
    indented = msgspec.json.format(msgspec.json.encode(profile), indent=1)
    return _NUMBERS.sub(lambda numbers: b"".join(numbers[0].split()), indented) + b"\n"
