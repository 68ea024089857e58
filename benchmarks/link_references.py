"""What a relay is held against that is not ours: the kernel's token bucket, a process that sleeps, a plain copy."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import tbf
from benchmarks.link_probes import Pair, connected, copied, flood_mbit_s, quantile, relayed, run_for, stamp_regularly
from benchmarks.link_settings import Effort, link
from edgebench.clock import NS_PER_MS
from edgebench.fabric.reactor import Reactor

ASLEEP_MS = 20.0
TBF_MBIT_S = (5.0, 20.0, 100.0)


def beside_tbf(effort: Effort) -> dict[str, Any]:
    """Rates of a flood, by rate, here and through the kernel's token bucket."""
    found = {}
    for rate in TBF_MBIT_S:
        theirs = tbf.measure(rate, 2 * effort.flood_s)
        plan = link(0.0, rate)
        with relayed([plan]) as relay, connected(relay, [plan]) as (reactor, pairs):
            ours, _ = flood_mbit_s(reactor, pairs, "up", 2 * effort.flood_s, 0.5)
        found[f"{rate:g} Mbit/s"] = {
            "tbf_mbit_s": round(theirs, 4),
            "ours_mbit_s": round(ours, 4),
            "tbf_ratio": round(ours / (theirs / tbf.PAYLOAD_SHARE), 4),
        }
    return found


def machine_late_ms(effort: Effort) -> dict[str, float]:
    """How late the messages of a program are that sleeps."""
    with copied(f"{ASLEEP_MS:g}") as (reactor, pair):
        stamp_regularly(reactor, (pair.child,), effort.messages, round(1.25 * ASLEEP_MS * NS_PER_MS))
        run_for(reactor, 0.1)
        late_ms = [(there - sent) / NS_PER_MS - ASLEEP_MS for sent, there in pair.parent.flights]
    return {f"p{round(100 * share)}": round(quantile(late_ms, share), 3) for share in (0.5, 0.99)}


def pass_through(effort: Effort) -> dict[str, Any]:
    """A link that is not shaped beside a plain copy."""
    plan = link(0.0, breaks=True)
    rates: dict[str, list[float]] = {"relay": [], "plain": []}
    times_ms: dict[str, list[float]] = {"relay": [], "plain": []}
    for _ in range(3):
        with relayed([plan]) as relay, connected(relay, [plan]) as (reactor, (pair,)):
            _pass(reactor, pair, effort, rates["relay"], times_ms["relay"])
        with copied() as (reactor, pair):
            _pass(reactor, pair, effort, rates["plain"], times_ms["plain"])
    relay_mbit_s, plain_mbit_s = (statistics.median(rates[which]) for which in ("relay", "plain"))
    return {
        "relay_mbit_s": round(relay_mbit_s, 1),
        "plain_mbit_s": round(plain_mbit_s, 1),
        "rate_ratio": round(relay_mbit_s / plain_mbit_s, 3),
        "relay_ms": round(statistics.median(times_ms["relay"]), 4),
        "plain_ms": round(statistics.median(times_ms["plain"]), 4),
    }


def _pass(reactor: Reactor, pair: Pair, effort: Effort, rates: list[float], times_ms: list[float]) -> None:
    stamp_regularly(reactor, (pair.child,), effort.messages, 2 * NS_PER_MS)
    run_for(reactor, 0.1)
    times_ms += [(there - sent) / NS_PER_MS for sent, there in pair.parent.flights]
    rates.append(flood_mbit_s(reactor, [pair], "up", effort.flood_s, 0.2)[0])
