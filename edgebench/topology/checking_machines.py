"""Which node runs on which machine: whether the entries name nodes, and each machine gets one."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.deployment import HERE
from edgebench.topology.expand import names_of
from edgebench.topology.model import Topology
from edgebench.topology.wording import did_you_mean, listed

Problem = tuple[str, str]


def check_machines(topology: Topology) -> Iterator[Problem]:
    """All entries; the nodes have to be sound."""
    groups = {group: names_of(topology, group) for group in topology.nodes}
    group_of = {name: group for group, names in groups.items() for name in names}
    for name, named in topology.machines.items():
        path = f"$.machines.{name}"
        if name not in groups and name not in group_of:
            yield path, f"no node '{name}'{did_you_mean(name, [*groups, *group_of])}"
            continue
        group = name if name in groups else group_of[name]
        nodes = groups[group] if name in groups else [name]
        if topology.nodes[group].tier == "cloud" and named not in (HERE, (HERE,)):
            yield path, "the cloud is where the command runs (remove the entry, or run the command there)"
        elif name in groups and nodes != [name] and set(nodes) <= topology.machines.keys():
            yield path, "has no effect, since each of its nodes is named too (remove one of the two)"
        elif isinstance(named, tuple):
            yield from _of_list(path, named, nodes)


def _of_list(path: str, named: tuple[str, ...], nodes: list[str]) -> Iterator[Problem]:
    if not named:
        yield path, f"is empty (name at least one machine, or {HERE})"
    without = [machine for place, machine in enumerate(named) if place >= len(nodes) and machine not in named[:place]]
    if without:
        count = "the one node" if len(nodes) == 1 else f"its {len(nodes)} nodes"
        yield path, f"no node is left for {listed(without)}, of {count} (name no more machines than nodes)"
