"""Workloads that decide the same frames: each takes its times from another, at the end of which a load stands."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.topology.model import After, Load, With, Workload


def asked_first(load: Load) -> tuple[str, ...]:
    """The workloads that a load takes its times from; none for a load of its own."""
    if isinstance(load, With):
        return (load.workload,)
    return load.workloads if isinstance(load, After) else ()


def goes_in_a_circle(workloads: Mapping[str, Workload], name: str) -> bool:
    """Whether a workload waits for itself in the end, by any way."""
    seen: set[str] = set()
    waiting = list(asked_first(workloads[name].load))
    while waiting:
        before = waiting.pop()
        if before == name:
            return True
        if before in workloads and before not in seen:
            seen.add(before)
            waiting += asked_first(workloads[before].load)
    return False


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
