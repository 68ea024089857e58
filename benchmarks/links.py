"""Links: what the emulation is asked for, held against what real bytes take through it, on this machine; and against
what is not ours: the kernel's token bucket for rates, its own TCP across a network that drops packets for loss.

    python benchmarks/links.py [--json] [--quick] [--anyway] [--only NAME]

Sixteen settings, each with a relay of its own. Of those without loss, messages of 200 bytes are stamped one way and the
other while nothing else is sent, and the rate is that of a flood of all connections that share it, one way after the
other. Of those with loss, some connections send all the time and others a message 20 times a second, which is answered;
the same is done across TUN devices that delay and drop (`real_tcp.py`), and the law is asked in virtual time. All three
lose the same packets of each connection, by their place among those that it sends, so that they differ by what they
make of it and not by chance. A message is there when the kernel has it for the receiving program: how long that one
then takes to wake is no link's. A virtual machine stands still while its hypervisor serves others, and everything in it
is that much late: if they took more than 0.1 % of the processors' time, the messages of a setting are sent again, up to
five times in all, and that try counts of which they took the least. Where rates are a trace's, messages are timed
before it begins, at its mean rate, and the flood while it plays. `--quick` takes a fraction of the time, to see that it
runs. Real TCP and `tbf` want root, Linux and iproute2; without them `not_measured` says why, and what they would have
told is null.

Keys of the printed object:

median_error: how far off what was asked for the settings are, as a share, the worst of all: of each the median delay
    one way and the other (where that is 5 ms or more: a timer's tenth of a ms is a large share of less), and the rates.
p99_timing_error_ms: of the messages of each setting and way, the p99 of how far the time that each took was off what
    the law says for that very message, with the same draws of jitter; the worst of all, ms.
goodput_error: of the settings with loss, how far the goodput of connections that send all the time is off the law's,
    and off real TCP's, as a share; the worst of all.
settings: by name. `delay_ms` up and down: p50, p90 and p99, each by the law for these messages and as found;
    `timing_error_ms`: p99, up and down; `tries`: of each, what other guests took (`stolen`), and these p99s; `mbit_s`
    up and down: asked and found; `fairness`: bytes of the slowest over those of the fastest that share a pipe. Of those
    with loss: `goodput_mbit_s`: mean by connection and its standard error, of `ours`, the `law` and `real` TCP, each
    connection from its first byte on; `ours_over`: goodput over that of the `law` and of `real` TCP, each with its
    standard error, which is smaller, since the losses are the same; `message_ms`: p50, p90 and p99, likewise;
    `loss_percent`: asked, found.
tbf: by rate: `tbf_mbit_s`, `ours_mbit_s` (TCP payload), and `tbf_ratio`: ours over the bucket's, which counts headers.
machine_late_ms: how late messages are, p50 and p99, that a few lines (`plain_copy.py`) delay by sleeping 20 ms each:
    what of the timing errors is the machine's, and no relay's.
pass_through: a link that is not shaped at all beside a plain copy from socket to socket: `relay_mbit_s`,
    `plain_mbit_s`, `rate_ratio`, and what a message of 200 bytes takes through either, `relay_ms`, `plain_ms` (p50).
congestion_control: of real TCP, by the kernel's name. tun_late_ms: by setting, median and p99 of how late the TUN
    devices carried packets.
not_measured: why real TCP and `tbf` were left out; null where they were not.
host: cores, and the share of CPU time that other guests took (`stolen`).
disturbed, watched: how busy others kept the machine during each; see `quiet.py`, which refuses a disturbed one unless
    `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks import real_tcp
from benchmarks.link_probes import (
    Pair,
    Timing,
    connected,
    flood_mbit_s,
    quantile,
    relayed,
    run_for,
    stamp_regularly,
    timing,
)
from benchmarks.link_references import beside_tbf, machine_late_ms, pass_through
from benchmarks.link_settings import FULL, MOBILE, QUICK, SEED, SETTINGS, Effort, Setting, replaced
from benchmarks.quiet import Quiet, add_anyway
from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns
from edgebench.core.lanes import WAYS, Way, lane_of, pipes_of
from edgebench.core.tcp import TcpFlow, arrivals_ns
from edgebench.cpu import cpu_times
from edgebench.fabric.links import Relay
from edgebench.seeds import rng_for
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_traces import NO_TRACES, RateTrace

LITTLE_STOLEN = 0.001
"""Of the processors' time. What is 1 % of it decides where the p99 is."""
LEAST_RELATIVE_MS = 5.0
MESSAGE_BYTES = 200
MESSAGE_GAP_MS = 50.0
BEFORE_PACKETS = 3
"""Of each way that a connection has sent before it sends what is measured: its handshake, a greeting and an answer."""


def measured(effort: Effort, quiet: Quiet, only: str | None) -> dict[str, Any]:
    """Everything, or the setting of this name."""
    before = cpu_times()
    why_not = real_tcp.why_not()
    settings: dict[str, Any] = {}
    real: dict[str, real_tcp.RealTcp] = {}
    for name, setting in SETTINGS.items():
        if only not in (None, name):
            continue
        print(name, file=sys.stderr, flush=True)
        with quiet.during(name):
            if not setting.plan.loses:
                settings[name] = _without_loss(setting, effort)
                continue
            if why_not is None:
                real[name] = real_tcp.measure(_asked(setting, effort))
            settings[name] = _with_loss(setting, effort, real.get(name))
    beside: dict[str, Any] = {"tbf": None, "machine_late_ms": None, "pass_through": None}
    if only is None:
        with quiet.during("tbf"):
            beside["tbf"] = beside_tbf(effort) if why_not is None else None
        with quiet.during("machine"):
            beside["machine_late_ms"] = machine_late_ms(effort)
        with quiet.during("pass-through"):
            beside["pass_through"] = pass_through(effort)
    spent = cpu_times().since(before)
    return {
        "median_error": _worst(_relative_errors(settings.values())),
        "p99_timing_error_ms": _worst(
            error for each in settings.values() for error in each.get("timing_error_ms", {}).values()
        ),
        "goodput_error": _worst(_goodput_errors(settings.values())),
        "settings": settings,
        **beside,
        "congestion_control": next((each.congestion_control for each in real.values()), None),
        "tun_late_ms": {name: [round(ms, 3) for ms in each.late_ms] for name, each in real.items()},
        "not_measured": why_not,
        "host": {"cores": os.cpu_count(), "stolen": round(spent.stolen_s / spent.total_s, 4)},
        **quiet.told(),
    }


def _worst(errors: Iterable[float]) -> float | None:
    return max((round(abs(error), 4) for error in errors), default=None)


def _relative_errors(settings: Iterable[Any]) -> Iterator[float]:
    for each in settings:
        for percentiles in each.get("delay_ms", {}).values():
            asked, found = percentiles["p50"]
            if asked >= LEAST_RELATIVE_MS:
                yield found / asked - 1
        for asked, found in each.get("mbit_s", {}).values():
            yield found / asked - 1


def _goodput_errors(settings: Iterable[Any]) -> Iterator[float]:
    for each in settings:
        yield from (ratio[0] - 1 for ratio in each.get("ours_over", {}).values() if ratio is not None)


def _without_loss(setting: Setting, effort: Effort) -> dict[str, Any]:
    told = _timed(setting, effort)
    plan = setting.plan
    if plan.up_mbit_s is None or plan.down_mbit_s is None:
        return told
    with relayed(setting.plans, setting.traces) as relay:
        if setting.traces.rates:
            return told | _by_trace(relay, setting, effort)
        return told | _rates(relay, setting, effort)


def _timed(setting: Setting, effort: Effort) -> dict[str, Any]:
    """Messages both ways: of several tries that in which other guests of this machine took the least."""
    tries: list[tuple[float, dict[Way, Timing]]] = []
    while len(tries) < effort.tries and all(stolen > LITTLE_STOLEN for stolen, _ in tries):
        before = cpu_times()
        with relayed(setting.plans, setting.traces) as relay:
            found = _stamped(relay, setting, effort)
        spent = cpu_times().since(before)
        tries.append((round(spent.stolen_s / spent.total_s, 4), found))
    _, counts = min(tries, key=lambda each: each[0])
    return {
        "delay_ms": {way: each.percentiles for way, each in counts.items()},
        "timing_error_ms": {way: round(each.p99_error_ms, 3) for way, each in counts.items()},
        "tries": [
            {"stolen": stolen, **{way: round(each.p99_error_ms, 3) for way, each in found.items()}}
            for stolen, found in tries
        ],
    }


def _stamped(relay: Relay, setting: Setting, effort: Effort) -> dict[Way, Timing]:
    plan = setting.plan
    with connected(relay, setting.plans[:1]) as (reactor, (pair,)):
        # So far apart that neither rate nor jitter makes one wait for another.
        slowest_ms = 8e-3 * MESSAGE_BYTES / min(plan.up_mbit_s or 1e6, plan.down_mbit_s or 1e6)
        gap_ms = max(10.0 if plan.delay_trace else 4.0, 2 * plan.jitter_ms, 2 * slowest_ms)
        # The relay wakes for each as it comes and as it is due. At regular times these coincide where the latency is a
        # multiple of the gap, and who is awake already is not late to wake.
        offsets_ns = rng_for(SEED, "message times").integers(round(gap_ms * NS_PER_MS / 4), size=effort.messages)
        stamp_regularly(
            reactor, (pair.child, pair.parent), effort.messages, round(gap_ms * NS_PER_MS), offsets_ns.tolist()
        )
        run_for(reactor, 0.2 + plan.latency_ms / 1e3 + 10 * plan.jitter_ms / 1e3)
        return {way: timing(pair, way, setting.traces, SEED) for way in WAYS}


def _rates(relay: Relay, setting: Setting, effort: Effort) -> dict[str, Any]:
    """One way after the other: a thousand Mbit/s both ways at once would measure this program."""
    plan, rates = setting.plan, {}
    fairness: list[float] = []
    for way, asked in zip(WAYS, (plan.up_mbit_s, plan.down_mbit_s), strict=True):
        with connected(relay, setting.plans) as (reactor, pairs):
            warm_s = 0.3 + 2 * plan.latency_ms / 1e3
            rate, each = flood_mbit_s(reactor, pairs, way, effort.flood_s, warm_s)
        rates[way] = [asked, round(rate, 4)]
        fairness.append(min(each) / max(each))
    return {"mbit_s": rates} | ({"fairness": round(min(fairness), 3)} if setting.shared_by > 1 else {})


def _by_trace(relay: Relay, setting: Setting, effort: Effort) -> dict[str, Any]:
    """What arrives of a flood by the times of a trace, beside what the law has room for meanwhile."""
    asked: dict[str, list[float]] = {}
    with connected(relay, setting.plans) as (reactor, (pair,)):
        begin_ns = now_ns()
        relay.begin(begin_ns)
        for way in WAYS:
            pair.receiver(way).count()
            pair.sender(way).flood()
        run_for(reactor, 5.2 * min(1.0, effort.flood_s))
        for way in WAYS:
            points = pair.receiver(way).points
            (from_ns, from_bytes), (to_ns, to_bytes) = points[len(points) // 20], points[-1]
            room = [_room_bytes(MOBILE, at_ns - begin_ns - 20 * NS_PER_MS) for at_ns in (from_ns, to_ns)]
            time_ns = to_ns - from_ns
            asked[way] = [
                round(8e3 * (room[1] - room[0]) / time_ns, 4),
                round(8e3 * (to_bytes - from_bytes) / time_ns, 4),
            ]
    return {"mbit_s": asked}


def _room_bytes(trace: RateTrace, time_ns: int) -> int:
    """What may have left by a time, from the trace's own lines."""
    period_ms = sum(trace.gaps_ms)
    rounds, rest_ms = divmod(time_ns // NS_PER_MS, period_ms)
    packets, at_ms = rounds * sum(trace.packets), 0
    for gap_ms, count in zip(trace.gaps_ms, trace.packets, strict=True):
        at_ms += gap_ms
        if at_ms > rest_ms:
            break
        packets += count
    return packets * 1504


def _each(setting: Setting, effort: Effort, kind: str) -> list[LinkPlan]:
    """A link for each connection, which loses packets by draws of its own."""
    names = [f"{kind}-{number}" for number in range(effort.flows)]
    return [replaced(setting.plan, child=name, pipe=name) for name in names]


def _asked(setting: Setting, effort: Effort) -> real_tcp.Asked:
    bulk, chatty = (tuple(plan.name for plan in _each(setting, effort, kind)) for kind in ("bulk", "talk"))
    plan = setting.plan
    assert plan.up_mbit_s is not None, "else this machine's speed would be that of the real one's slow start"
    return real_tcp.Asked(
        latency_ms=plan.latency_ms,
        rate_mbit_s=plan.up_mbit_s,
        loss_percent=plan.loss_percent,
        duration_s=effort.lossy_s,
        bulk=bulk,
        chatty=chatty,
        apart_s=effort.apart_s,
        message_hz=1e3 / MESSAGE_GAP_MS,
        seed=SEED,
    )


def _with_loss(setting: Setting, effort: Effort, real: real_tcp.RealTcp | None) -> dict[str, Any]:
    bulk, chatty = (_each(setting, effort, kind) for kind in ("bulk", "talk"))
    with relayed([*bulk, *chatty]) as relay, connected(relay, [*bulk, *chatty]) as (reactor, pairs):
        flooding, talking = pairs[: effort.flows], pairs[effort.flows :]
        for number, pair in enumerate(flooding):
            pair.parent.count()
            reactor.call_later(number * effort.apart_s, pair.child.flood)
        for pair in talking:
            pair.parent.answer()
            pair.child.ignore()
        count = round(effort.whole_s * 1e3 / MESSAGE_GAP_MS)
        stamp_regularly(reactor, [pair.child for pair in talking], count, round(MESSAGE_GAP_MS * NS_PER_MS))
        run_for(reactor, 0.2)
        ours = [_mean_rate(pair, effort) for pair in flooding]
        ours_ms = [(there - sent) / NS_PER_MS for pair in talking for sent, there in pair.parent.flights]
        counters = relay.counters().values()
    packets, lost = sum(each.up_packets for each in counters), sum(each.up_lost for each in counters)
    law, law_ms = _law(bulk, chatty, effort)
    theirs = None if real is None else real.mbit_s
    return {
        "goodput_mbit_s": {
            "ours": _mean_and_error(ours),
            "law": _mean_and_error(law),
            "real": None if theirs is None else _mean_and_error(theirs),
        },
        "ours_over": {"law": _ratio(ours, law), "real": None if theirs is None else _ratio(ours, theirs)},
        "message_ms": {
            "ours": _percentiles(ours_ms),
            "law": _percentiles(law_ms),
            "real": None if real is None else _percentiles(real.message_ms),
        },
        "loss_percent": [setting.plan.loss_percent, round(100 * lost / packets, 3)],
    }


def _mean_rate(pair: Pair, effort: Effort) -> float:
    """From the first byte on, slow start included."""
    (_, before_bytes), (began_ns, _), *_ = points = pair.parent.points
    ends_ns = began_ns + round(effort.lossy_s * NS_PER_S)
    return (max(upto for at_ns, upto in points if at_ns <= ends_ns) - before_bytes) * 8 / 1e6 / effort.lossy_s


def _law(bulk: Sequence[LinkPlan], chatty: Sequence[LinkPlan], effort: Effort) -> tuple[list[float], list[float]]:
    """Goodputs and message times by the law, in virtual time."""

    def flow(plan: LinkPlan) -> TcpFlow:
        up, down = (
            lane_of(plan, way, pipe, NO_TRACES, SEED) for way, pipe in zip(WAYS, pipes_of(plan, NO_TRACES), strict=True)
        )
        for lane in (up, down):
            for _ in range(BEFORE_PACKETS):
                if lane.losses is not None:
                    lane.losses.among(0, 1)
        return TcpFlow((up,), (down,), 0)

    rates, times_ms = [], []
    for plan in bulk:
        flooded = flow(plan)
        flooded.offer(0, 1 << 40)
        flooded.advance(round(effort.lossy_s * NS_PER_S + plan.latency_ms * NS_PER_MS))
        rates.append(flooded.arrived * 8 / 1e6 / effort.lossy_s)
    offers = [
        (round(place * MESSAGE_GAP_MS * NS_PER_MS), MESSAGE_BYTES)
        for place in range(round(effort.whole_s * 1e3 / MESSAGE_GAP_MS))
    ]
    for plan in chatty:
        arrived_ns = arrivals_ns(flow(plan), offers)
        times_ms += [(there - sent) / NS_PER_MS for there, (sent, _) in zip(arrived_ns, offers, strict=True)]
    return rates, times_ms


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Of the means, and its standard error, of connections that lost the same packets."""
    ratio = statistics.mean(ours) / statistics.mean(theirs)
    _, error = _mean_and_error([mine - ratio * their for mine, their in zip(ours, theirs, strict=True)])
    return [round(ratio, 4), round(error / statistics.mean(theirs), 4)]


def _mean_and_error(values: Sequence[float]) -> list[float]:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return [round(statistics.mean(values), 4), round(error, 4)]


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{round(100 * share)}": round(quantile(values, share), 2) for share in (0.5, 0.9, 0.99)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Links: asked for and found; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a fraction of the time, to see that it runs")
    parser.add_argument("--only", metavar="NAME", choices=SETTINGS, help="one of the settings")
    add_anyway(parser)
    args = parser.parse_args()
    figures = measured(QUICK if args.quick else FULL, Quiet(anyway=args.anyway), args.only)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, each in figures["settings"].items():
        print(f"{name:32} {_shown(each)}")
    for name in (
        "median_error",
        "p99_timing_error_ms",
        "goodput_error",
        "tbf",
        "machine_late_ms",
        "pass_through",
        "not_measured",
    ):
        print(f"{name:32} {json.dumps(figures[name])}")


def _shown(setting: dict[str, Any]) -> str:
    """In a line."""
    if "goodput_mbit_s" in setting:
        goodput = ", ".join(f"{who} {each[0]} ± {each[1]}" for who, each in setting["goodput_mbit_s"].items() if each)
        messages = "; ".join(f"{who} {list(each.values())}" for who, each in setting["message_ms"].items() if each)
        return f"Mbit/s: {goodput}; messages, ms: {messages}"
    delays = "; ".join(f"{way} {asked_found['p50']}" for way, asked_found in setting["delay_ms"].items())
    rates = "; ".join(f"{way} {asked_found}" for way, asked_found in setting.get("mbit_s", {}).items())
    return f"ms: {delays}, off by {setting['timing_error_ms']}" + (f"; Mbit/s: {rates}" if rates else "")


if __name__ == "__main__":
    main()
