"""The nodes of a topology: do they make one tree of three tiers?"""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.model import NodeGroup, Tier, Topology
from edgebench.topology.profile_files import profile_problems
from edgebench.topology.profiles import HOST
from edgebench.topology.wording import choice_of, did_you_mean

Problem = tuple[str, str]

MAX_NODES = 100_000
_MAX_NAME = 63
_RESERVED_NODES = ("fl", "models")
"""Names that stand in the same place of an MQTT topic."""
_PARENT_TIER: dict[Tier, Tier] = {"device": "edge", "edge": "cloud"}


def check_nodes(topology: Topology, most_nodes: int = MAX_NODES) -> Iterator[Problem]:
    """Tiers, parents, profiles and names, and how many there are."""
    yield from _check_cloud(topology)
    yield from profile_problems(topology)
    for name, group in topology.nodes.items():
        yield from _check_group(topology, name, group)
    total = sum(group.count or 1 for group in topology.nodes.values())
    if total > most_nodes:
        yield "$.nodes", f"{total:,} nodes, more than {most_nodes:,} (lower a count)"
    yield from _check_collisions(topology)


def _check_cloud(topology: Topology) -> Iterator[Problem]:
    clouds = [name for name, group in topology.nodes.items() if group.tier == "cloud"]
    if not clouds:
        yield "$.nodes", "no node of tier cloud (add one: cloud: {tier: cloud})"
    if len(clouds) > 1:
        yield "$.nodes", f"{len(clouds)} groups of tier cloud: {', '.join(clouds)} (keep one)"
    for name in clouds:
        if (topology.nodes[name].count or 1) > 1:
            yield f"$.nodes.{name}.count", f"{topology.nodes[name].count} cloud nodes (there is exactly one)"
        if topology.nodes[name].memory_mb is not None:
            yield f"$.nodes.{name}.memory_mb", "the cloud has what the command's machine has (remove it)"


def _check_group(topology: Topology, name: str, group: NodeGroup) -> Iterator[Problem]:
    path = f"$.nodes.{name}"
    if name in _RESERVED_NODES:
        yield path, f"'{name}' is reserved (choose another name)"
    longest = len(name) if group.count is None else len(f"{name}-{group.count - 1}")
    if longest > _MAX_NAME:
        yield path, f"its nodes' names have up to {longest} characters, more than {_MAX_NAME} (shorten it)"
    if group.memory_mb == "profile" and group.profile == HOST:
        yield f"{path}.memory_mb", f"that of its profile, and that is {HOST} (give a profile, or the memory in MB)"
    yield from _check_parent(topology, path, name, group)


def _check_parent(topology: Topology, path: str, name: str, group: NodeGroup) -> Iterator[Problem]:
    wanted = _PARENT_TIER.get(group.tier)
    if wanted is None:
        if group.parent is not None:
            yield f"{path}.parent", "the cloud has no parent (remove it)"
        return
    fitting = [other for other, candidate in topology.nodes.items() if candidate.tier == wanted]
    article = "an" if wanted == "edge" else "a"
    if group.parent is None:
        yield path, f"a node of tier {group.tier} needs a parent of tier {wanted}{choice_of(fitting)}"
    elif group.parent == name:
        yield f"{path}.parent", f"'{name}' cannot be its own parent (name {article} {wanted} node)"
    elif group.parent not in topology.nodes:
        yield f"{path}.parent", f"no node '{group.parent}'{did_you_mean(group.parent, fitting)}"
    elif group.parent not in fitting:
        tier = topology.nodes[group.parent].tier
        rule = f"the parent of a node of tier {group.tier} is of tier {wanted}"
        yield f"{path}.parent", f"'{group.parent}' is of tier {tier}, {rule}{choice_of(fitting)}"


def _check_collisions(topology: Topology) -> Iterator[Problem]:
    """A node without a number may have the name of one that has: of two groups the later one is told."""
    order = list(topology.nodes)
    for name, group in topology.nodes.items():
        other, _, number = name.rpartition("-")
        numbered = topology.nodes.get(other)
        if group.count is not None or numbered is None or numbered.count is None:
            continue
        if number.isascii() and number.isdigit() and str(int(number)) == number and int(number) < numbered.count:
            first, second = sorted((name, other), key=order.index)
            yield f"$.nodes.{second}", f"its node '{name}' has the name of a node of '{first}' (rename one)"
