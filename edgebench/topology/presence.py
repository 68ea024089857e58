"""When devices are there that come late, or go before the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from edgebench.clock import NS_PER_S
from edgebench.topology.fault_model import DEPARTURES, FaultPlan

_END_OF_TIME_NS = (1 << 63) - 1


class Presence(msgspec.Struct, frozen=True):
    """A device is there from a time to another, s from the start of the streams; None: to the end. joins, leaves: the
    faults by which it comes and goes, by their place in the deployment."""

    from_s: float
    to_s: float | None
    joins: int | None
    leaves: int | None

    @property
    def span_ns(self) -> tuple[int, int]:
        """In ns, to the end of time where it stays to the end."""
        to_ns = _END_OF_TIME_NS if self.to_s is None else int(self.to_s * NS_PER_S)
        return int(self.from_s * NS_PER_S), to_ns


def presences(faults: Iterable[FaultPlan]) -> dict[str, tuple[Presence, ...]]:
    """Of each device that is not there all the time, in order. faults: of a whole deployment."""
    by_device: dict[str, list[tuple[float, int, FaultPlan]]] = {}
    for number, fault in enumerate(faults):
        if fault.kind in DEPARTURES and fault.node is not None and fault.at_s is not None:
            by_device.setdefault(fault.node, []).append((fault.at_s, number, fault))
    return {device: tuple(_of(sorted(those, key=lambda each: each[0]))) for device, those in by_device.items()}


def _of(those: list[tuple[float, int, FaultPlan]]) -> Iterator[Presence]:
    came: tuple[float, int | None] | None = None if those[0][2].kind == "join" else (0.0, None)
    for at_s, number, fault in those:
        if fault.kind == "join":
            came = at_s, number
        elif came is not None:
            yield Presence(came[0], at_s, came[1], number)
            came = None
    if came is not None:
        yield Presence(came[0], None, came[1], None)
