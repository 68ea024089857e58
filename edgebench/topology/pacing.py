"""Workloads that decide the same frames: each takes its times from another, at the end of which a load stands."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.topology.model import After, Load, With, Workload


def asked_first(load: Load) -> tuple[str, ...]:
    """The workloads that a load takes its times from; none for a load of its own."""
    if isinstance(load, With):
        return (load.workload,)
    return load.workloads if isinstance(load, After) else ()


def pace_setter(workloads: Mapping[str, Workload], name: str) -> str | None:
    """The workload whose load sets the times of this one; None where they go in a circle, or name one that is not.

    Where several are awaited, the first of them leads to it.
    """
    seen: set[str] = set()
    while name in workloads and name not in seen:
        seen.add(name)
        before = asked_first(workloads[name].load)
        if not before:
            return name
        name = before[0]
    return None
