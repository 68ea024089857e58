"""Trace files of links: how delays and rates vary, and when nothing passes.

Rates are in mahimahi's format (Netravali et al. 2015): each line is a time in ms at which `OPPORTUNITY_BYTES` may
leave, and the last one the time after which all repeat.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from edgebench.decoding import whole_number
from edgebench.errors import TopologyError
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_model import Outage, traces_of
from edgebench.topology.model import Topology
from edgebench.topology.trace import numbered_lines

OPPORTUNITY_BYTES = 1504
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
MOST_TIMES, MOST_DELAYS = 500_000, 100_000
"""Of all the traces of a topology: of rates, ms in which something may leave."""
_MOST_LINES = 10_000_000
_MOST_DELAY_MS = 60_000.0
_MOST_S = 604_800.0
_RATE_LINES = "each line is a time in ms at which 1,504 bytes may leave"
_DELAY_LINES = "each line is a delay in ms"
_OUTAGE_LINES = "each line is when and how long in s, like '12.5 3', with 'reset' behind it where it breaks connections"


class RateTrace(msgspec.Struct, frozen=True):
    """When how many packets may leave: `gaps_ms` since the time before, none but the first 0, and `packets` then."""

    gaps_ms: tuple[int, ...]
    packets: tuple[int, ...]

    @property
    def mean_mbit_s(self) -> float:
        """The rate as a whole."""
        return sum(self.packets) * OPPORTUNITY_BYTES * 8 / 1e3 / sum(self.gaps_ms)


def read_rate_trace(path: Path) -> RateTrace:
    """A trace of rates; it is not over at once. Raises TopologyError with the file and the line."""
    lines = _lines(path, _RATE_LINES, "no capacity in it")
    times_ms = [_whole(path, number, line) for number, line in lines]
    for (number, _), (before, after) in zip(lines[1:], pairwise(times_ms), strict=True):
        if after < before:
            raise _wrong(path, number, f"{after} comes after {before}", "sort the times")
    if times_ms[-1] == 0:
        raise TopologyError([f"{path}: all its times are 0 (the last is the time after which it repeats)"])
    if times_ms[-1] > _MOST_S * 1e3:
        raise _wrong(path, lines[-1][0], f"{times_ms[-1]} ms is more than a week", _RATE_LINES)
    packets = Counter(times_ms)
    return RateTrace(tuple(after - before for before, after in pairwise((0, *packets))), tuple(packets.values()))


def read_delay_trace(path: Path) -> list[float]:
    """Delays in ms. Raises TopologyError with the file and the line."""
    lines = _lines(path, _DELAY_LINES, "no delays in it")
    return [_number(path, number, line, _MOST_DELAY_MS, _DELAY_LINES) for number, line in lines]


def quantiles_ms(delays_ms: Sequence[float]) -> list[float]:
    """The `QUANTILES` of a trace: each is one of its delays."""
    ordered = sorted(delays_ms)
    return [ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in QUANTILES]


class LinkTraces(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is in the traces that links name; delays in ms."""

    rates: dict[str, RateTrace] = msgspec.field(default_factory=dict)
    delays: dict[str, list[float]] = msgspec.field(default_factory=dict)
    outages: dict[str, tuple[Outage, ...]] = msgspec.field(default_factory=dict)


NO_TRACES = LinkTraces()


def link_traces_of(topology: Topology, folder: Path = Path()) -> LinkTraces:
    """Those of a topology's links, which name them relative to a folder, or absolutely. Raises TopologyError."""
    named = [traces_of(link) for link in topology.links]
    rates = {each[field] for each in named for field in ("rate_trace", "up_trace", "down_trace") if field in each}
    return LinkTraces(
        rates={name: read_rate_trace(folder / name) for name in sorted(rates)},
        delays={name: read_delay_trace(folder / name) for each in named if (name := each.get("delay_trace"))},
        outages={name: read_outage_trace(folder / name) for each in named if (name := each.get("outage_trace"))},
    )


def for_relay(traces: LinkTraces, links: Iterable[LinkPlan]) -> LinkTraces:
    """What a relay needs of them for these links, whose plans hold their outages."""
    links = tuple(links)
    rates = {name for link in links for name in (link.up_trace, link.down_trace)}
    delays = {link.delay_trace for link in links}
    return LinkTraces(
        rates={name: trace for name, trace in traces.rates.items() if name in rates},
        delays={name: trace for name, trace in traces.delays.items() if name in delays},
    )


def read_outage_trace(path: Path) -> tuple[Outage, ...]:
    """Outages, one after the other. Raises TopologyError with the file and the line."""
    outages: list[Outage] = []
    until_s = 0.0
    for number, line in _lines(path, _OUTAGE_LINES, "no outages in it"):
        words = line.split()
        reset = words[-1] == "reset"
        if len(words) != 2 + reset:
            raise _wrong(path, number, f"'{line[:40]}' is no outage", _OUTAGE_LINES)
        at_s, for_s = (_number(path, number, word, _MOST_S, _OUTAGE_LINES) for word in words[:2])
        if not for_s and not reset:
            raise _wrong(path, number, "0 s is no outage", "remove the line, or write 'reset' behind it")
        if at_s < until_s:
            raise _wrong(path, number, f"{at_s:g} s is before {until_s:g} s, when the one above ends", "sort the lines")
        until_s = at_s + for_s
        outages.append(Outage(at_s, for_s or None, reset=reset))
    return tuple(outages)


def _lines(path: Path, write: str, empty: str) -> list[tuple[int, str]]:
    lines = numbered_lines(path, write)
    if not lines:
        raise TopologyError([f"{path}: {empty} ({write})"])
    if len(lines) > _MOST_LINES:
        raise TopologyError([f"{path}: {len(lines):,} lines, more than {_MOST_LINES:,} (shorten it: it repeats)"])
    return lines


def _whole(path: Path, number: int, text: str) -> int:
    value = whole_number(text)
    if value is None:
        problem = "too large a number" if text.isascii() and text.isdigit() else "no whole number"
        raise _wrong(path, number, f"'{text[:40]}' is {problem}", _RATE_LINES)
    return value


def _number(path: Path, number: int, text: str, most: float, write: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise _wrong(path, number, f"'{text[:40]}' is no number from 0 to {most:,.0f}", write)
    return value


def _wrong(path: Path, number: int, problem: str, mend: str) -> TopologyError:
    return TopologyError([f"{path}: line {number}: {problem} ({mend})"])
