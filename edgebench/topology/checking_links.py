"""The links of a topology: what they join, whether their figures agree, and the traces that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgebench.errors import TopologyError
from edgebench.topology.link_model import LEAST_DEVIATION, Jitter, Link, Outage, traces_of
from edgebench.topology.link_traces import (
    MOST_DELAYS,
    MOST_TIMES,
    RateTrace,
    read_delay_trace,
    read_outage_trace,
    read_rate_trace,
)
from edgebench.topology.model import Topology
from edgebench.topology.wording import MAKE_SOONER, did_you_mean, not_within

Problem = tuple[str, str]

_READERS: dict[str, Callable[[Path], Any]] = {
    "rate_trace": read_rate_trace,
    "up_trace": read_rate_trace,
    "down_trace": read_rate_trace,
    "delay_trace": read_delay_trace,
    "outage_trace": read_outage_trace,
}
_MOST_TURNS = 10_000
"""So many of an outage that comes again are compared with others."""
_BOTH_WAYS = ("rate_mbit_s", "rate_trace")
_ONE_WAY = (("up_mbit_s", "up_trace"), ("down_mbit_s", "down_trace"))


def check_links(topology: Topology) -> Iterator[Problem]:
    """What each link joins, and that its numbers agree."""
    seen: dict[frozenset[str], int] = {}
    read: dict[str, RateTrace | list[float] | tuple[Outage, ...]] = {}
    for index, link in enumerate(topology.links):
        path = f"$.links[{index}]"
        yield from _check_ends(topology, f"{path}.between", link)
        pair = frozenset(link.between)
        if pair in seen:
            yield f"{path}.between", f"joins what $.links[{seen[pair]}] joins already (remove one)"
        seen.setdefault(pair, index)
        yield from _check_figures(path, link)
        yield from _check_rates(path, link)
        for number, outage in enumerate(link.outages):
            yield from _check_outage(f"{path}.outages[{number}]", outage, topology.duration_s)
        for field, name in traces_of(link).items():
            try:
                read[name] = _READERS[field](Path(name))
            except TopologyError as error:
                yield f"{path}.{field}", str(error)
        yield from _check_outages(path, link, read, topology.duration_s)
    times = sum(len(trace.gaps_ms) for trace in read.values() if isinstance(trace, RateTrace))
    delays = sum(len(trace) for trace in read.values() if isinstance(trace, list))
    if times > MOST_TIMES:
        yield (
            "$.links",
            f"their traces of rates have {times:,} ms, more than {MOST_TIMES:,} (shorten them: they repeat)",
        )
    if delays > MOST_DELAYS:
        yield (
            "$.links",
            f"their traces of delays have {delays:,} lines, more than {MOST_DELAYS:,} (shorten them: they repeat)",
        )


def _check_ends(topology: Topology, path: str, link: Link) -> Iterator[Problem]:
    unknown = [(index, name) for index, name in enumerate(link.between) if name not in topology.nodes]
    for index, name in unknown:
        yield f"{path}[{index}]", f"no node '{name}'{did_you_mean(name, topology.nodes)}"
    if unknown:
        return
    child, parent = link.between
    if topology.nodes[child].parent == parent:
        return
    if topology.nodes[parent].parent == child:
        yield path, f"the parent comes second (write [{parent}, {child}])"
    else:
        yield path, f"'{parent}' is not the parent of '{child}' (links join a node and its parent)"


def _check_figures(path: str, link: Link) -> Iterator[Problem]:
    if link.delay_trace is not None:
        plain = Link(between=link.between)
        for field in ("latency_ms", "jitter_ms", "jitter"):
            if getattr(link, field) != getattr(plain, field):
                yield (
                    f"{path}.{field}",
                    "has no effect beside delay_trace, which is the whole delay (remove one of the two)",
                )
    elif problem := jitter_problem(link.latency_ms, link.jitter_ms, link.jitter):
        yield f"{path}.jitter_ms", problem
    elif link.jitter != "uniform" and not link.jitter_ms:
        yield f"{path}.jitter", "has no effect without jitter_ms (give it, or remove this)"


def _check_rates(path: str, link: Link) -> Iterator[Problem]:
    """At most one rate or trace each way."""
    given = [field for field in _BOTH_WAYS if getattr(link, field) is not None]
    if len(given) > 1:
        yield f"{path}.rate_trace", "stands beside rate_mbit_s (remove one of the two)"
    for rate, trace in _ONE_WAY:
        if getattr(link, rate) is not None and getattr(link, trace) is not None:
            yield f"{path}.{trace}", f"stands beside {rate} (remove one of the two)"
    one_way = [field for way in _ONE_WAY for field in way if getattr(link, field) is not None]
    if given and one_way:
        if set(one_way) <= {"up_mbit_s", "down_mbit_s"} and given == ["rate_mbit_s"]:
            one_way = ["up_mbit_s", "down_mbit_s"]
        yield f"{path}.{given[0]}", f"is both directions at once (give it alone, or {' and '.join(one_way)})"


def _check_outage(path: str, outage: Outage, duration_s: float) -> Iterator[Problem]:
    if outage.at_s >= duration_s:
        yield f"{path}.at_s", not_within(outage.at_s, duration_s)
    if outage.for_s is None and not outage.reset:
        yield path, "does nothing (say for_s, for how long, or reset: true)"
    if outage.every_s is not None and outage.every_s <= (outage.for_s or 0.0):
        yield (
            f"{path}.every_s",
            f"begins again after {outage.every_s:g} s, before it has ended (must be more than for_s)",
        )


def _check_outages(path: str, link: Link, read: Mapping[str, Any], duration_s: float) -> Iterator[Problem]:
    """Of all together: some happen, and one after the other."""
    of_trace: tuple[Outage, ...] = () if link.outage_trace is None else read.get(link.outage_trace, ())
    if of_trace and of_trace[0].at_s >= duration_s:
        first = f"its first outage, at {of_trace[0].at_s:g} s, is not within the run of {duration_s:g} s {MAKE_SOONER}"
        yield f"{path}.outage_trace", f"{link.outage_trace}: {first}"
    until_s = began_s = 0.0
    for at_s, for_s in sorted(_spans(*link.outages, *of_trace, duration_s=duration_s)):
        if at_s < until_s:
            yield f"{path}.outages", f"that at {at_s:g} s begins before that at {began_s:g} s has ended (part them)"
            return
        began_s, until_s = at_s, at_s + for_s


def _spans(*outages: Outage, duration_s: float) -> Iterator[tuple[float, float]]:
    """When each begins within a run, and for how long."""
    for each in outages:
        at_s, turns = each.at_s, 0
        while at_s < duration_s and turns < _MOST_TURNS:
            yield at_s, each.for_s or 0.0
            if each.every_s is None:
                break
            turns += 1
            at_s = each.at_s + turns * each.every_s


def jitter_problem(latency_ms: float, jitter_ms: float, jitter: Jitter) -> str | None:
    """What is wrong with a jitter around a latency, if anything is: bytes would arrive before they have left."""
    most_ms = latency_ms / LEAST_DEVIATION[jitter]
    if jitter_ms <= most_ms:
        return None
    if jitter == "uniform":
        return f"{jitter_ms:g} ms of jitter around a latency of {latency_ms:g} ms (must not be larger)"
    return f"{jitter_ms:g} ms of {jitter} jitter around a latency of {latency_ms:g} ms (at most {most_ms:.4g})"
