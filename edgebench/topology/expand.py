"""From groups to nodes: names, and who belongs to whom."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.deployment import HERE, NodePlan
from edgebench.topology.model import Topology


def names_of(topology: Topology, group: str) -> list[str]:
    """The names of a group's nodes: `<group>` alone, or `<group>-0` … when it has a count."""
    count = topology.nodes[group].count
    return [group] if count is None else [f"{group}-{index}" for index in range(count)]


def parent_of(topology: Topology, group: str, index: int) -> str | None:
    """The parent of a group's node: the nodes are dealt round those of the parent group."""
    parent = topology.nodes[group].parent
    if parent is None:
        return None
    count = topology.nodes[parent].count
    return parent if count is None else f"{parent}-{index % count}"


def link_names(topology: Topology) -> dict[str, str]:
    """The links between single nodes, `child -> parent`, each with the same of their groups."""
    links = {
        f"{name} -> {parent_of(topology, group, index)}": f"{group} -> {plan.parent}"
        for group, plan in topology.nodes.items()
        if plan.parent is not None
        for index, name in enumerate(names_of(topology, group))
    }
    group_of = {name: group for group in topology.nodes for name in names_of(topology, group)}
    moved = {f"{move.node} -> {move.to}": f"{group_of[move.node]} -> {group_of[move.to]}" for move in topology.moves}
    return moved | links


def machine_of(topology: Topology, group: str, index: int, name: str) -> str:
    """The machine of a group's node, whose own entry goes before that of its group."""
    if name != group and name in topology.machines:
        named, index = topology.machines[name], 0
    else:
        named = topology.machines.get(group, HERE)
    return named if isinstance(named, str) else named[index % len(named)]


def expand(topology: Topology) -> dict[str, NodePlan]:
    """All nodes of a checked topology, in the order of its groups."""
    parents = dict(_parents(topology))
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, parent in parents.items():
        if parent is not None:
            children[parent].append(name)
    elsewhere: dict[str, dict[str, None]] = {name: {} for name in parents}
    for move in topology.moves:
        if move.to != parents[move.node]:
            elsewhere[move.node][move.to] = elsewhere[move.to][move.node] = None
    return {
        name: NodePlan(
            name=name,
            group=group,
            tier=topology.nodes[group].tier,
            profile=topology.nodes[group].profile,
            parent=parents[name],
            children=tuple(children[name]),
            elsewhere=tuple(elsewhere[name]),
            machine=machine_of(topology, group, index, name),
            memory_mb=memory_mb if isinstance(memory_mb := topology.nodes[group].memory_mb, int) else None,
        )
        for group in topology.nodes
        for index, name in enumerate(names_of(topology, group))
    }


def _parents(topology: Topology) -> Iterator[tuple[str, str | None]]:
    for group in topology.nodes:
        for index, name in enumerate(names_of(topology, group)):
            yield name, parent_of(topology, group, index)
