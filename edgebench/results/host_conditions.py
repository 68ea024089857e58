"""What the machine did to a run, by second, in bounded size: hiccups of all parts, and the use of the host."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.fabric.records import Hiccup, HostUsage, Usage
from edgebench.results.observations import Lateness
from edgebench.results.tolerances import FOREIGN_SHARE, LATE_MS, WORST_LATE_MS

MOST = 3_600
"""Entries that a run keeps of either, and of the use of a process; of one that takes longer, neighbours are merged."""


class HiccupSums:
    """Hiccups of all parts by second, and what they come to."""

    def __init__(self) -> None:
        self._by_second: dict[int, dict[str, tuple[int, int, int]]] = {}

    def add(self, part: str, hiccups: Iterable[Hiccup]) -> None:
        """Add some of a part; those of one second may come in pieces."""
        for each in hiccups:
            of_parts = self._by_second.setdefault(each.second, {})
            most_ns, sum_ns, count = of_parts.get(part, (0, 0, 0))
            of_parts[part] = max(most_ns, each.most_ns), sum_ns + each.sum_ns, count + each.count

    def lateness(self, usage: Sequence[HostUsage], passed: Iterable[str], most: int = MOST) -> list[Lateness]:
        """By second; of more than `most` seconds by so many at a time, each as late as its worst second was.

        usage: of the host all through the run, in order. passed: the parts that samples pass.
        A second is disturbed when the timers of the parts fired late by `LATE_MS` on average, or those of a part that
        samples pass by `WORST_LATE_MS`, while others (foreign processes and other guests of the hardware) took
        `FOREIGN_SHARE` of the processor.
        """
        if not self._by_second:
            return []
        seconds, serving = sorted(self._by_second), frozenset(passed)
        taken = _Shares(usage, lambda use: (use.foreign or 0.0) + use.stolen)
        each_second = [self._of_second(second, serving, taken) for second in seconds]
        step = math.ceil((seconds[-1] + 1 - seconds[0]) / most)
        blocks = itertools.groupby(each_second, key=lambda each: (each.second - seconds[0]) // step)
        return [_worst(seconds[0] + block * step, step, list(these)) for block, these in blocks]

    def _of_second(self, second: int, serving: frozenset[str], taken: _Shares) -> Lateness:
        of_parts = self._by_second[second]
        means_ns = {part: sum_ns / count for part, (_, sum_ns, count) in of_parts.items()}
        mean_ns = sum(means_ns.values()) / len(means_ns)
        worst_ns = max((late_ns for part, late_ns in means_ns.items() if part in serving), default=0.0)
        late = mean_ns >= LATE_MS * NS_PER_MS or worst_ns >= WORST_LATE_MS * NS_PER_MS
        sum_ns, known_ns = taken.within(second * NS_PER_S, (second + 1) * NS_PER_S)
        disturbed = late and known_ns > 0 and sum_ns / known_ns >= FOREIGN_SHARE
        part = max(sorted(of_parts), key=lambda name: of_parts[name][0])
        return Lateness(second, 1, round(mean_ns), of_parts[part][0], part, round(worst_ns), int(disturbed))


def _worst(second: int, seconds: int, these: Sequence[Lateness]) -> Lateness:
    latest = max(these, key=lambda each: each.most_ns)
    return Lateness(
        second,
        seconds,
        max(each.mean_ns for each in these),
        latest.most_ns,
        latest.part,
        max(each.worst_ns for each in these),
        sum(each.disturbed for each in these),
    )


class _Shares:
    """A share of the processor by time, asked for one time after another."""

    def __init__(self, usage: Iterable[HostUsage], share: Callable[[HostUsage], float]) -> None:
        self._spans = [(use.since_ns, use.at_ns, share(use)) for use in usage if use.since_ns is not None]
        self._first = 0

    def within(self, from_ns: int, to_ns: int) -> tuple[float, int]:
        """Of a time that is not before the last that was asked for: the sum over it, and how much is known, ns."""
        while self._first < len(self._spans) and self._spans[self._first][1] <= from_ns:
            self._first += 1
        sum_ns = 0.0
        known_ns = 0
        for since_ns, at_ns, share in itertools.islice(self._spans, self._first, None):
            if since_ns >= to_ns:
                break
            overlap_ns = min(at_ns, to_ns) - max(since_ns, from_ns)
            known_ns += overlap_ns
            sum_ns += overlap_ns * share
        return sum_ns, known_ns


def foreign_to_all(usage: Mapping[str, Sequence[HostUsage]]) -> dict[str, list[float | None]]:
    """What was foreign to the run in each sample, where machines share their cores: what was to a machine, less what
    the parts on the others used in that time. None where either is not known.

    usage: by machine, each in its order and all on one clock.
    """
    found: dict[str, list[float | None]] = {}
    for name, own in usage.items():
        others = [
            _Shares(those, lambda use: math.nan if use.own is None else use.own)
            for other, those in usage.items()
            if other != name
        ]
        found[name] = [_less(use, others) for use in own]
    return found


def _less(use: HostUsage, others: Iterable[_Shares]) -> float | None:
    if use.foreign is None or use.since_ns is None:
        return None
    span_ns = use.at_ns - use.since_ns
    # Of a time of which nothing is told of another machine, nothing ran there.
    left = use.foreign - sum(each.within(use.since_ns, use.at_ns)[0] for each in others) / span_ns
    return None if math.isnan(left) else max(0.0, left)


def merged(usage: Sequence[HostUsage], most: int = MOST) -> list[HostUsage]:
    """As it is, or means of neighbours, so that there are at most `most`."""
    step = math.ceil(len(usage) / most)
    return [_mean(usage[at : at + step]) for at in range(0, len(usage), step)] if step > 1 else list(usage)


def thinned(usage: Sequence[Usage], most: int = MOST) -> list[Usage]:
    """Of a process: as it is, or the last of neighbours, with the most memory of them, so that there are at most
    `most`. The first look stays as it is, since others count from there."""
    step = math.ceil((len(usage) - 1) / (most - 1))
    if step <= 1:
        return list(usage)
    groups = [usage[at : at + step] for at in range(1, len(usage), step)]
    peaks = (max(each.rss_bytes for each in group) for group in groups)
    return [usage[0], *(replace(group[-1], rss_bytes=peak) for group, peak in zip(groups, peaks, strict=True))]


def _mean(these: Sequence[HostUsage]) -> HostUsage:
    return HostUsage(
        at_ns=these[-1].at_ns,
        busy=mean_share(these, [use.busy for use in these]) or 0.0,
        stolen=mean_share(these, [use.stolen for use in these]) or 0.0,
        foreign=mean_share(these, [use.foreign for use in these]),
        pressure=mean_share(these, [use.pressure for use in these]),
        since_ns=these[0].since_ns,
        own=mean_share(these, [use.own for use in these]),
        watts=mean_share(these, [use.watts for use in these]),
    )


def mean_share(usage: Sequence[HostUsage], shares: Sequence[float | None]) -> float | None:
    """The mean of a share [sample] over the time that the samples are about; None where it is never known.

    A sample that does not tell since when it is counts as one of a second.
    """
    spans_ns = [NS_PER_S if use.since_ns is None else use.at_ns - use.since_ns for use in usage]
    known = [(share, span_ns) for share, span_ns in zip(shares, spans_ns, strict=True) if share is not None]
    total_ns = sum(span_ns for _, span_ns in known)
    return sum(share * span_ns for share, span_ns in known) / total_ns if total_ns else None
