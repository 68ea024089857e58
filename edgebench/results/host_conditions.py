"""What the machine did to a run, by second, in bounded size: hiccups of all parts, and the use of the host."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from edgebench.fabric.hiccups import COMMAND
from edgebench.fabric.records import Hiccup, HostUsage, Lateness

MOST = 3_600
"""Entries that a run keeps of either; of one that takes longer than an hour, neighbours are merged."""


class HiccupSums:
    """Hiccups of all parts by second, and what they come to."""

    def __init__(self) -> None:
        self._by_second: dict[int, dict[str, tuple[int, int, int]]] = {}

    def add(self, part: str, hiccups: Iterable[Hiccup]) -> None:
        """Add some of a part; those of one second may come in pieces."""
        if part == COMMAND:
            return
        for each in hiccups:
            of_parts = self._by_second.setdefault(each.second, {})
            most_ns, sum_ns, count = of_parts.get(part, (0, 0, 0))
            of_parts[part] = max(most_ns, each.most_ns), sum_ns + each.sum_ns, count + each.count

    def lateness(self, most: int = MOST) -> list[Lateness]:
        """By second; of more than `most` seconds by so many at a time, each as its worst second was."""
        if not self._by_second:
            return []
        first = min(self._by_second)
        step = math.ceil((max(self._by_second) + 1 - first) / most)
        blocks = itertools.groupby(sorted(self._by_second), key=lambda second: (second - first) // step)
        return [_worst(first + block * step, step, map(self._of_second, seconds)) for block, seconds in blocks]

    def _of_second(self, second: int) -> Lateness:
        of_parts = self._by_second[second]
        mean_ns = sum(sum_ns / count for _, sum_ns, count in of_parts.values()) / len(of_parts)
        part = max(sorted(of_parts), key=lambda name: of_parts[name][0])
        return Lateness(second, 1, round(mean_ns), of_parts[part][0], part)


def _worst(second: int, seconds: int, of_seconds: Iterable[Lateness]) -> Lateness:
    these = list(of_seconds)
    latest = max(these, key=lambda each: each.most_ns)
    return Lateness(second, seconds, max(each.mean_ns for each in these), latest.most_ns, latest.part)


def merged(usage: Sequence[HostUsage], most: int = MOST) -> list[HostUsage]:
    """As it is, or means of neighbours, so that there are at most `most`."""
    step = math.ceil(len(usage) / most)
    return [_mean(usage[at : at + step]) for at in range(0, len(usage), step)] if step > 1 else list(usage)


def _mean(these: Sequence[HostUsage]) -> HostUsage:
    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return HostUsage(
        at_ns=these[-1].at_ns,
        busy=sum(use.busy for use in these) / len(these),
        stolen=sum(use.stolen for use in these) / len(these),
        foreign=mean([use.foreign for use in these]),
        pressure=mean([use.pressure for use in these]),
        since_ns=these[0].since_ns,
    )
