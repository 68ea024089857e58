"""The nodes of a topology as numbers: groups are spans of them, and no node is an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgebench.decoding import whole_number
from edgebench.topology import profiles_of
from edgebench.topology.model import Tier, Topology


@dataclass(frozen=True)
class Group:
    """A group of nodes. number: its place in the file. profile: what that calls itself. first: the number of its first
    node among those of its tier."""

    name: str
    number: int
    tier: Tier
    profile: str
    first: int
    count: int
    numbered: bool
    parent: str | None

    def node(self, index: int) -> str:
        """The name of one of its nodes."""
        return f"{self.name}-{index}" if self.numbered else self.name

    def nodes(self) -> Iterator[str]:
        """The names of all, in order."""
        return map(self.node, range(self.count))

    def index(self, name: str) -> int | None:
        """Which of its nodes a name is; None where it is none."""
        if not self.numbered:
            return 0 if name == self.name else None
        number = name.removeprefix(f"{self.name}-")
        found = whole_number(number)
        return found if found is not None and found < self.count and self.node(found) == name else None


@dataclass(frozen=True)
class Fleet:
    """All groups by name, in the order of the file."""

    groups: Mapping[str, Group]

    def of_tier(self, tier: Tier) -> list[Group]:
        """The groups of a tier."""
        return [group for group in self.groups.values() if group.tier == tier]

    def count(self, tier: Tier) -> int:
        """How many nodes a tier has."""
        return sum(group.count for group in self.of_tier(tier))

    @cached_property
    def cloud(self) -> Group:
        """The cloud, which is one."""
        return self.of_tier("cloud")[0]

    def parent(self, group: Group) -> Group:
        """The group of a group's parents."""
        assert group.parent is not None
        return self.groups[group.parent]

    def site(self, group: Group, index: int) -> str:
        """The parent of a node of a group, as long as it does not move."""
        parents = self.parent(group)
        return parents.node(index % parents.count)

    def name(self, tier: Tier, number: int) -> str:
        """The name of a node by its number in its tier."""
        group = next(group for group in self.of_tier(tier) if group.first <= number < group.first + group.count)
        return group.node(number - group.first)

    @cached_property
    def edge_of(self) -> NDArray[np.int64]:
        """The edge of each device: they are dealt round those of the parent group."""
        parts = [
            (self.parent(group).first + np.arange(group.count) % self.parent(group).count)
            for group in self.of_tier("device")
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def number(self, name: str) -> int:
        """The number of a node in its tier by its name."""
        group = self.group_named(name)
        index = group.index(name)
        assert index is not None
        return group.first + index

    def group_named(self, name: str) -> Group:
        """The group of a node by its name."""
        return next(group for group in self.groups.values() if group.index(name) is not None)

    def group_of(self, tier: Tier) -> NDArray[np.int64]:
        """The number of the group of each node of a tier."""
        groups = self.of_tier(tier)
        return np.repeat(np.array([each.number for each in groups], np.int64), [each.count for each in groups])


def fleet_of(topology: Topology) -> Fleet:
    """The nodes of a checked topology."""
    profiles = {file: profile.name for file, profile in profiles_of(topology).items()}
    seen: dict[Tier, int] = {"device": 0, "edge": 0, "cloud": 0}
    groups = {}
    for number, (name, plan) in enumerate(topology.nodes.items()):
        count = plan.count or 1
        profile, numbered = profiles.get(plan.profile, plan.profile), plan.count is not None
        groups[name] = Group(name, number, plan.tier, profile, seen[plan.tier], count, numbered, plan.parent)
        seen[plan.tier] += count
    return Fleet(groups)
