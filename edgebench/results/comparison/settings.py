"""What is not the same in the topologies of runs, in what they ran with, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgebench.fabric.digests import digest_of
from edgebench.results.comparison.figures import SettingDifference
from edgebench.results.figures import Result
from edgebench.results.rundir import TOPOLOGY, TRACES, read_overrides
from edgebench.topology import load
from edgebench.topology.deployment import HERE, Deployment

Path_ = tuple[str, ...]
Leaves = dict[Path_, Any]

_OWN = ("run_id", "seed")
"""What two runs of one topology do not share."""
_NAMED = ("workloads", "federated", "joint")
"""Parts of a topology of which those are compared that all sides have."""


def topology_of(deployment: Deployment, folder: Path) -> dict[str, Any]:
    """What was run, as plain data without the run's own name and seed: a trace by what is in its file, chance by its
    law."""
    plain = _plain(deployment)
    plain["faults"] = [fault for fault in plain["faults"] if not fault["entry"].startswith("chaos[")]
    if (folder / TOPOLOGY).is_file():
        plain["chaos"] = _plain(load(folder / TOPOLOGY, read_overrides(folder)).chaos)
    return {name: _by_content(value, folder) for name, value in plain.items() if name not in _OWN}


def topology_differences(sides: Mapping[str, tuple[Deployment, dict[str, Any]]]) -> list[SettingDifference]:
    """By path, of what all sides have; where a name is a node's or a link's, by its group. sides: name -> deployment,
    and `topology_of` it.
    """
    group_of = {node.name: node.group for deployment, _ in sides.values() for node in deployment.nodes.values()}
    shared_nodes = set.intersection(*(set(deployment.nodes) for deployment, _ in sides.values()))
    shared_links = set.intersection(*(set(deployment.links) for deployment, _ in sides.values()))
    gone = {*group_of, *(name for deployment, _ in sides.values() for name in deployment.links)}
    gone -= shared_nodes | shared_links
    shared = {part: set.intersection(*(set(each[part]) for _, each in sides.values())) for part in _NAMED}

    def compared(path: Path_) -> bool:
        return gone.isdisjoint(path) and not (path[0] in shared and len(path) > 1 and path[1] not in shared[path[0]])

    def leaves(plain: dict[str, Any]) -> Leaves:
        found = {path: value for path, value in _leaves(plain) if compared(path)}
        return {path: _without(gone, value) for path, value in found.items()}

    by_side: dict[str, Leaves] = {}
    for name, (deployment, plain) in sides.items():
        by_side[name] = {**_counts(deployment), **leaves(plain)}
    return _differences(by_side, group_of)


def versions_of(result: Result) -> dict[str, Any]:
    """What a run ran with: packages and brokers."""
    brokers = {f"{each.kind} {each.version or ''}".strip() for each in result.brokers.values()}
    elsewhere = {
        f"{machine}.{package}": version
        for machine, each in result.machines.items()
        if machine != HERE
        for package, version in each.versions.items()
    }
    return {**result.versions, **elsewhere, "broker": sorted(brokers)}


def models_of(result: Result) -> dict[str, Any]:
    """The models that decided, or were to."""
    return {
        f"models.{name}": [f"{model.digest[:12]} ({model.runtime}, {model.quantisation})" for model in each.models]
        for name, each in result.workloads.items()
    }


def host_of(result: Result) -> dict[str, Any]:
    """What a run was on."""
    elsewhere = {
        f"{name}.{what}": getattr(machine, what)
        for name, machine in result.machines.items()
        if name != HERE
        for what in ("arch", "cores", "memory_mb", "computer")
    }
    here = {what: value for what, value in result.host.items() if what != "usable_cores"}  # of `cores`, for the report
    return {**here, **elsewhere}


def plain_differences(sides: Mapping[str, Sequence[dict[str, Any]]]) -> list[SettingDifference]:
    """By name. sides: name -> what each of its runs has."""
    return _differences({name: _together(runs) for name, runs in sides.items()}, {})


def key_of(plain: object) -> bytes:
    """The same for what is the same."""
    return msgspec.json.encode(plain, order="deterministic")


def _plain(value: object) -> Any:
    """As it would be read from a JSON file."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _together(runs: Sequence[dict[str, Any]]) -> Leaves:
    """What runs have; a list of what each of them has where they differ."""
    found: Leaves = {}
    for name in dict.fromkeys(name for each in runs for name in each):
        by_key = {key_of(each.get(name)): each.get(name) for each in runs}
        values = [by_key[key] for key in sorted(by_key)]  # in whatever order the runs were named
        found[(name,)] = values[0] if len(values) == 1 else values
    return found


def _by_content(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {name: _by_content(each, folder) for name, each in value.items()}
    if isinstance(value, list):
        return [_by_content(each, folder) for each in value]
    if isinstance(value, str) and value.startswith(f"{TRACES}/") and (folder / value).is_file():
        return f"{value} (sha256 {digest_of(folder / value)[:12]})"
    return value


def _counts(deployment: Deployment) -> Leaves:
    """How many nodes each group has, and links each pair of groups."""
    nodes = Counter(node.group for node in deployment.nodes.values())
    links = Counter(link_group(link, deployment) for link in deployment.links)
    found: Leaves = {("nodes", group): count for group, count in nodes.items()}
    found |= {("links", pair): count for pair, count in links.items()}
    return found


def link_group(link: str, deployment: Deployment) -> str:
    """`bed-0 -> ward-0` as `bed -> ward`."""
    ends = (deployment.nodes.get(name) for name in link.split(" -> "))
    return " -> ".join(link if node is None else node.group for node in ends)


def _leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, (*path, str(name)))
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        for place, each in enumerate(value):
            yield from _leaves(each, (*path, f"[{place}]"))
    else:
        yield path, value


def _without(gone: set[str], value: Any) -> Any:
    """A list without names of what is not on all sides: how many there are, is said once."""
    return [each for each in value if each not in gone] if isinstance(value, list) else value


def _differences(by_side: Mapping[str, Leaves], group_of: Mapping[str, str]) -> list[SettingDifference]:
    found: dict[tuple[str, bytes], SettingDifference] = {}
    for path in dict.fromkeys(path for leaves in by_side.values() for path in leaves):
        values = {side: leaves[path] for side, leaves in by_side.items() if path in leaves}
        if len(values) == len(by_side) and len({key_of(value) for value in values.values()}) == 1:
            continue
        of_groups = {side: _group(value, group_of) for side, value in values.items()}
        if len({key_of(value) for value in of_groups.values()}) > 1:
            values = of_groups
        shown = ".".join(_group(part, group_of) for part in path).replace(".[", "[")
        place = (shown, key_of(values))
        earlier = found.get(place)
        found[place] = SettingDifference(shown, values, 1 if earlier is None else earlier.places + 1)
    return list(found.values())


def _group(value: Any, group_of: Mapping[str, str]) -> Any:
    """The names of nodes and links by their groups."""
    if not isinstance(value, str):
        return value
    return " -> ".join(group_of.get(name, name) for name in value.split(" -> "))
