"""The nodes of a topology: do they make one tree of three tiers?"""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.expand import names_of
from edgebench.topology.model import NodeGroup, Tier, Topology
from edgebench.topology.profile_files import profile_problems
from edgebench.topology.wording import choice_of, did_you_mean

Problem = tuple[str, str]

MAX_NODES = 100_000
_MAX_NAME = 63
_RESERVED_NODES = ("fl", "models")
"""Names that stand in the same place of an MQTT topic."""
_PARENT_TIER: dict[Tier, Tier] = {"device": "edge", "edge": "cloud"}


def check_nodes(topology: Topology) -> Iterator[Problem]:
    """Tiers, parents, profiles and names."""
    yield from _check_cloud(topology)
    yield from profile_problems(topology)
    for name, group in topology.nodes.items():
        yield from _check_group(topology, name, group)
    total = sum(group.count or 1 for group in topology.nodes.values())
    if total > MAX_NODES:
        yield "$.nodes", f"{total:,} nodes, more than {MAX_NODES:,} (lower a count)"
    else:
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
    owner: dict[str, str] = {}
    for group in topology.nodes:
        for node in names_of(topology, group):
            if node in owner:
                yield f"$.nodes.{group}", f"its node '{node}' has the name of a node of '{owner[node]}' (rename one)"
                break
            owner[node] = group
