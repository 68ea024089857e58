"""Which tier decides which device's samples."""

from __future__ import annotations

from typing import Literal

from edgebench.topology.model import Where, Workload

Placed = Where | Literal["chain"]
_ORDER: tuple[Placed, ...] = ("device", "edge", "cloud", "cascade", "chain")


def where_of(workload: Workload, device: str, group: str) -> Placed | None:
    """Where a device's samples are decided, the device's own name before that of its group; None: it is not said."""
    infer = workload.place.infer
    if isinstance(infer, tuple):
        return "chain"
    return infer if isinstance(infer, str) else infer.get(device, infer.get(group))


def wheres(workload: Workload) -> tuple[Placed, ...]:
    """All that a workload names, each once, from the device upwards."""
    infer = workload.place.infer
    if isinstance(infer, tuple):
        return ("chain",)
    named = {infer} if isinstance(infer, str) else set(infer.values())
    return tuple(where for where in _ORDER if where in named)


def place_of(workload: Workload) -> str:
    """In words: `edge`, `device + edge`, `edge → cloud`."""
    infer = workload.place.infer
    return " → ".join(infer) if isinstance(infer, tuple) else " + ".join(wheres(workload))
