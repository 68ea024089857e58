"""Seconds in which work that is no part of the run changed what the run saw, and its figures without them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgebench.clock import NS_PER_S
from edgebench.results import stats
from edgebench.results.chunks import Bools, SampleChunk, ms
from edgebench.results.figures import DisturbanceFigures, Span
from edgebench.results.observations import Lateness, Observations
from edgebench.results.sample_figures import Undisturbed
from edgebench.results.values import Ints, Mergeable, Values


@dataclass(frozen=True)
class Disturbance:
    """What was disturbed. spans: int64 [span, 2], from and to in ns, in order and apart from one another."""

    spans: Ints

    @property
    def is_none(self) -> bool:
        """Whether nothing was."""
        return not len(self.spans)

    def touches(self, from_ns: Ints, to_ns: Ints) -> Bools:
        """Whether any of it lies between two times [n], each of which is not after its other [n]."""
        if self.is_none:
            return np.zeros(len(from_ns), np.bool_)
        last = np.searchsorted(self.spans[:, 0], to_ns, side="right") - 1
        return (last >= 0) & (self.spans[last, 1] > from_ns)

    def within_ns(self, from_ns: int, to_ns: int) -> int:
        """How much of the time between two times it takes."""
        return int(np.clip(np.minimum(self.spans[:, 1], to_ns) - np.maximum(self.spans[:, 0], from_ns), 0, None).sum())


def disturbance_of(observations: Observations) -> Disturbance | None:
    """The disturbed seconds of a run, and of a long one the blocks that have any; None where nobody watched.

    A second is disturbed if it was so on any machine; those of different machines begin at different moments.
    """
    if not observations.lateness:
        return None
    spans: list[list[int]] = []
    for from_ns, to_ns in sorted(_span_ns(each) for each in observations.lateness if each.disturbed):
        if spans and spans[-1][1] >= from_ns:
            spans[-1][1] = max(spans[-1][1], to_ns)
        else:
            spans.append([from_ns, to_ns])
    return Disturbance(np.array(spans, np.int64).reshape(-1, 2))


def disturbance_figures(
    observations: Observations, disturbance: Disturbance | None, due_until_ns: int | None, until_ns: int | None
) -> DisturbanceFigures | None:
    """What was disturbed of a run from the start of its streams to a time; None where nobody watched, or none began.

    due_until_ns: until when samples were due; share: of the time until then.
    """
    start_ns = observations.started_ns
    if disturbance is None or start_ns is None or due_until_ns is None or until_ns is None or due_until_ns <= start_ns:
        return None
    during = [each for each in observations.lateness if _span_ns(each)[1] > start_ns and _span_ns(each)[0] < until_ns]
    latest = max(during, key=lambda each: each.most_ns, default=None)
    clipped = np.clip(disturbance.spans, start_ns, until_ns) - start_ns
    due_ns = due_until_ns - start_ns
    by_machine = {
        machine: round(_disturbed_ns(those, start_ns, due_until_ns) / due_ns, 4)
        for machine, those in _by_machine(during).items()
    }
    return DisturbanceFigures(
        share=round(_on_any_ns(during, disturbance, start_ns, due_until_ns) / due_ns, 4),
        spans=[Span(_s(first), _s(last)) for first, last in clipped if last > first],
        disturbed_s=_s(round(_on_any_ns(during, disturbance, start_ns, until_ns))),
        mean_late_ms=stats.rounded(np.mean([ms(each.mean_ns) for each in during])) if during else 0.0,
        most_late_ms=stats.rounded(max((ms(each.mean_ns) for each in during), default=0.0)),
        worst_late_ms=stats.rounded(max((ms(each.worst_ns) for each in during), default=0.0)),
        most_hiccup_ms=0.0 if latest is None else stats.rounded(ms(latest.most_ns)),
        most_hiccup_of=None if latest is None else latest.part,
        machines={machine: share for machine, share in by_machine.items() if share} if len(by_machine) > 1 else {},
    )


def _by_machine(lateness: Iterable[Lateness]) -> dict[str, list[Lateness]]:
    found: dict[str, list[Lateness]] = {}
    for each in lateness:
        found.setdefault(each.machine, []).append(each)
    return found


def _on_any_ns(lateness: Sequence[Lateness], disturbance: Disturbance, from_ns: int, to_ns: int) -> float:
    """How much of a time was disturbed on any machine. Of a long run, which is told in blocks, it is not known how far
    those of several machines coincide, and then it is the most that it can be."""
    disturbed_ns = _disturbed_ns(lateness, from_ns, to_ns)
    several = len({each.machine for each in lateness}) > 1
    return min(disturbed_ns, disturbance.within_ns(from_ns, to_ns)) if several else disturbed_ns


def _disturbed_ns(lateness: Iterable[Lateness], from_ns: int, to_ns: int) -> float:
    """How much of a time was disturbed; of a block that lies half in it, half of the disturbed seconds."""
    overlaps = ((each, min(_span_ns(each)[1], to_ns) - max(_span_ns(each)[0], from_ns)) for each in lateness)
    return sum(overlap_ns * each.disturbed / each.seconds for each, overlap_ns in overlaps if overlap_ns > 0)


def _span_ns(late: Lateness) -> tuple[int, int]:
    """On the server's clock."""
    first_ns = late.second * NS_PER_S + late.ahead_ns
    return first_ns, first_ns + late.seconds * NS_PER_S


@dataclass
class UndisturbedFold(Mergeable):
    """A workload's samples that no disturbed second touched, and what arrived in the other seconds."""

    PARAMETERS: ClassVar = ("disturbance",)
    disturbance: Disturbance
    latency_ns: Values = field(default_factory=Values)
    arrived: int = 0

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk."""
        due_ns, arrived_ns = (chunk.ns[name][chunk.decided] for name in ("scheduled_ns", "arrived_ns"))
        self.latency_ns.update(chunk.latency_ns[~self.disturbance.touches(due_ns, arrived_ns)])
        self.arrived += int((~self.disturbance.touches(arrived_ns, arrived_ns)).sum())

    def figures(self, start_ns: int | None, until_ns: int | None) -> Undisturbed | None:
        """Of the time between; None where nothing of it was disturbed."""
        if start_ns is None or until_ns is None:
            return None
        disturbed_ns = self.disturbance.within_ns(start_ns, until_ns)
        if not disturbed_ns:
            return None
        quiet_ns = until_ns - start_ns - disturbed_ns
        p50, p99 = map(ms, self.latency_ns.percentiles(0.5, 0.99)) if len(self.latency_ns) else (None, None)
        throughput_hz = stats.rounded(self.arrived * NS_PER_S / quiet_ns) if quiet_ns > 0 else None
        return Undisturbed(len(self.latency_ns), p50, p99, throughput_hz)


def _s(ns: int) -> float:
    return stats.rounded(ns / NS_PER_S)
