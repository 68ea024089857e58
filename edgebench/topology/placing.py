"""Which tier decides which device's samples."""

from __future__ import annotations

from edgebench.topology.model import Where, Workload

_ORDER: tuple[Where, ...] = ("device", "edge", "cloud", "cascade")


def where_of(workload: Workload, device: str, group: str) -> Where | None:
    """Where a device's samples are decided, the device's own name before that of its group; None: it is not said."""
    infer = workload.place.infer
    return infer if isinstance(infer, str) else infer.get(device, infer.get(group))


def wheres(workload: Workload) -> tuple[Where, ...]:
    """All that a workload names, each once, from the device upwards."""
    infer = workload.place.infer
    named = {infer} if isinstance(infer, str) else set(infer.values())
    return tuple(where for where in _ORDER if where in named)
