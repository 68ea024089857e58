"""Federated rounds: their time, memory, scale and bytes, each beside a reference, on this machine, in one run.

    python benchmarks/federated.py [--json] [--quick] [--anyway] [--part round|memory|scale|large|hierarchy]

The system is `edgebench run`: brokers, cloud, edges and agents as processes of their own, while the devices stream at a
low rate; without emulated links unless stated, and all on loopback. `--quick` does next to nothing, to see that it
runs; its figures mean little. `--part` does one part.

Keys of the printed object, by part. MB are 10^6 bytes. Memory is the most that was seen during a run; of PSS, a page
that n processes share is 1/n in each.

round: one Flower app (`federated_app`: its clients add to an array of `values` float32), timed by its own clock: it
    writes down the time at the end of each round. The first round of a run is left out.
  system_s, superlink_s, bare_s, bytes_s: the median round of edgebench; of Flower's SuperLink as it installs; of the
    app in one process, its clients called one by one (`LocalGrid`); and the time that a round's bytes take through two
    brokers and a relay between them, and back, by paho alone (see `federated_reference.py`).
  round_vs_superlink_ratio: system_s / superlink_s.
  round_vs_bare_ratio: system / (bare + bytes), the median of the turns' (`bare_ratios`).
  client_mb, superlink_client_mb: `pss` and `rss` of all processes of the client side over the number of clients: the
    device agent and its learner; SuperNodes and what they start.
  phases_ms: where a round's time goes, as in result.json: the median of each phase, in the last turn.
memory: an agent with the built-in app (icu-death, light, LiteRT), 96 samples a client.
  agent_rss_mb, learner_rss_mb, together_rss_mb, together_pss_mb: with one device. together_alone_mb: the same without
    the rest of the testbed: what is private to either, and once what the one with more of it shares.
  each_further_client_mb: `pss` and `rss` of what `devices` devices in one agent take beyond one, by their number less
    one. each_further_wanted_mb: 5 MB and three times the model.
scale: so many clients of one agent at one edge, each with 96 samples and one local epoch (icu-death, light, LiteRT).
    A round begins 3 s after the one before, or when that is over.
  round_s: by number of clients, the median of the rounds after the first; client_ms: that by the number of clients.
  steps_ms: what one client that is alone takes to learn, in its learner. learn_vs_steps_ratio: a round over that times
    the number of clients, shared out to the cores: what a round costs beside learning.
  growth_exponent: the slope of log(round_s) over log(clients), by least squares; a round that grows linearly has 1.
  ray_round_s, round_vs_ray_ratio: the same with engine: ray, and round_s over it, by number of clients.
large: the app of `round` with an array of `model_mb` and one device, over a link of `mbit_s` between edge and cloud.
  down_s, up_s: the medians of the rounds after the first, from asking to delivery, and from the end of learning to
    arrival, as in result.json. link_s: what the link's rate alone takes for either. round_s: by the app's clock.
  peak_rss_mb: of cloud, relay, edge, agent, learner and federation (the cloud's process), the most that each ever had.
  growth_mb: that, less the same with an array of 0.4 MB.
hierarchy: `devices` devices on two edges (icu-death), aggregated by the cloud alone (`flat`), and by the edges first
    (`hierarchical`), on the same links.
  uplink_bytes_ratio: bytes from edges to cloud, hierarchical over flat; downlink_bytes_ratio: from cloud to edges.
  flat, hierarchical: `up_mb`, `down_mb`, `quality` of the last model on held-out data, `round_s`.
  quality_difference: of the two, hierarchical less flat.
host: `cores`; `stolen`, the share of CPU time that other guests took; `load_before`, the load average as it began.
disturbed, watched: how busy others kept the machine during each turn or part; see `quiet.py`, which refuses a disturbed
    one unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.federated_bench import MB, Bench
from benchmarks.quiet import Quiet, add_anyway
from edgebench.cpu import core_count, cpu_times

CLIENTS = 4
BYTES_EACH = 4
"""Of a float32."""
SMALL_VALUES = 100_000
LINK_MBIT_S = 400.0
WARD = "federated_task:CLIENTS_"
"""The task with 96 samples for each of so many clients."""
FURTHER_CLIENT_MB = 5.0
INTERVAL_S = 3.0


@dataclass(frozen=True)
class Size:
    """How much is done. turns: of `round`, without the SuperLink. All else is of a run; duration_s: of its streams."""

    turns: int
    rounds: int
    superlink_rounds: int
    devices: int
    clients: tuple[int, ...]
    ray_clients: tuple[int, ...]
    learned_rounds: int
    large_values: int
    site_devices: int
    duration_s: float


FULL = Size(
    turns=5,
    rounds=40,
    superlink_rounds=8,
    devices=50,
    clients=(4, 16, 64, 256, 1000),
    ray_clients=(4, 64, 256),
    learned_rounds=5,
    large_values=25_000_000,
    site_devices=4,
    duration_s=8.0,
)
QUICK = Size(
    turns=1,
    rounds=4,
    superlink_rounds=2,
    devices=3,
    clients=(2, 4),
    ray_clients=(2,),
    learned_rounds=2,
    large_values=1_000_000,
    site_devices=2,
    duration_s=2.0,
)


def round_part(bench: Bench, size: Size, quiet: Quiet) -> dict[str, Any]:
    """One app on four engines."""
    bare_s, bytes_s, systems = [], [], []
    for number in range(size.turns):
        with quiet.during(f"round, turn {number + 1}"):
            bare_s.append(bench.app_alone("app", SMALL_VALUES, size.rounds, clients=CLIENTS).round_s)
            bytes_s.append(bench.bytes_alone(BYTES_EACH * SMALL_VALUES, size.rounds, clients=CLIENTS))
            systems.append(
                bench.app_on_system(SMALL_VALUES, size.rounds, clients=CLIENTS, duration_s=size.duration_s, every_s=1.0)
            )
        _tell(f"round: system {systems[-1].round_s:.4f} s, bare {bare_s[-1]:.4f} s, bytes {bytes_s[-1]:.4f} s")
    with quiet.during("round, SuperLink"):
        superlink = bench.app_alone("superlink", SMALL_VALUES, size.superlink_rounds, clients=CLIENTS)
    _tell(f"round: SuperLink {superlink.round_s:.2f} s")
    system_s = statistics.median(each.round_s for each in systems)
    ratios = [each.round_s / (bare + wire) for each, bare, wire in zip(systems, bare_s, bytes_s, strict=True)]
    phases = [each["phases_s"] for each in systems[-1].figures["rounds"][1:]]
    return {
        "round_vs_superlink_ratio": round(system_s / superlink.round_s, 5),
        "round_vs_bare_ratio": round(statistics.median(ratios), 3),
        "bare_ratios": _rounded(ratios, 3),
        "system_s": round(system_s, 5),
        "superlink_s": round(superlink.round_s, 3),
        "bare_s": round(statistics.median(bare_s), 5),
        "bytes_s": round(statistics.median(bytes_s), 5),
        "client_mb": _each(max(run.watch.most_pss for run in systems), max(run.watch.most_rss for run in systems)),
        "superlink_client_mb": _each(superlink.watch.most_pss, superlink.watch.most_rss),
        "phases_ms": {
            name: round(statistics.median(each[name] for each in phases) * 1e3, 2) for name in sorted(phases[0])
        },
        "clients": CLIENTS,
        "values": SMALL_VALUES,
        "rounds": size.rounds,
        "superlink_rounds": size.superlink_rounds,
    }


def memory_part(bench: Bench, size: Size, quiet: Quiet) -> dict[str, Any]:
    """One device in an agent, and many."""
    how = f"rounds: {size.learned_rounds}, rollout_every: 0"
    with quiet.during("memory"):
        (figures, one), (_, many) = (
            bench.system(how, task=f"{WARD}{devices}", devices=devices, duration_s=size.duration_s)
            for devices in (1, size.devices)
        )
    model_mb = statistics.median(each["bytes_down"] for each in figures["rounds"]) / MB
    further = size.devices - 1
    _tell(f"memory: {one.most_pss:.1f} MB with one device, {many.most_pss:.1f} MB with {size.devices}")
    return {
        "agent_rss_mb": round(one.rss["agent"], 1),
        "learner_rss_mb": round(one.rss["learner"], 1),
        "together_rss_mb": round(one.most_rss, 1),
        "together_pss_mb": round(one.most_pss, 1),
        "together_alone_mb": round(one.most_alone, 1),
        "each_further_client_mb": {
            "pss": round((many.most_pss - one.most_pss) / further, 3),
            "rss": round((many.most_rss - one.most_rss) / further, 3),
        },
        "each_further_wanted_mb": round(FURTHER_CLIENT_MB + 3 * model_mb, 2),
        "devices": size.devices,
        "model_mb": round(model_mb, 3),
    }


def scale_part(bench: Bench, size: Size, quiet: Quiet) -> dict[str, Any]:
    """More and more clients."""
    round_s, ray_s = {}, {}
    with quiet.during("scale, 1 client"):
        steps_s = statistics.median(each["phases_s"]["learn"] for each in _learned(bench, 1, size, "mqtt")[1:])
    for clients in size.clients:
        with quiet.during(f"scale, {clients} clients"):
            round_s[clients] = _learned_s(bench, clients, size, "mqtt")
            if clients in size.ray_clients:
                ray_s[clients] = _learned_s(bench, clients, size, "ray")
    return {
        "steps_ms": round(1e3 * steps_s, 2),
        "learn_vs_steps_ratio": _by_clients(
            {clients: s * core_count() / (clients * steps_s) for clients, s in round_s.items()}, 2
        ),
        "growth_exponent": round(growth_exponent(round_s), 3),
        "round_s": _by_clients(round_s, 4),
        "client_ms": _by_clients({clients: 1e3 * s / clients for clients, s in round_s.items()}, 2),
        "round_vs_ray_ratio": _by_clients({clients: round_s[clients] / s for clients, s in ray_s.items()}, 3),
        "ray_round_s": _by_clients(ray_s, 4),
        "rounds": size.learned_rounds,
    }


def _learned(bench: Bench, clients: int, size: Size, engine: str) -> list[dict[str, Any]]:
    """The rounds."""
    # The model of a round is evaluated beside the next one: with some time between them, not at its expense.
    how = f"rounds: {size.learned_rounds}, rollout_every: 0, interval_s: {INTERVAL_S}, engine: {engine}"
    figures, _ = bench.system(
        how, task=f"{WARD}{clients}", devices=clients, duration_s=size.duration_s, rate_hz=0.1, every_s=5.0
    )
    rounds: list[dict[str, Any]] = figures["rounds"]
    return rounds


def _learned_s(bench: Bench, clients: int, size: Size, engine: str) -> float:
    median_s = statistics.median(each["duration_s"] for each in _learned(bench, clients, size, engine)[1:])
    _tell(f"scale: {clients} clients, {engine}: {median_s:.3f} s a round")
    return median_s


def growth_exponent(round_s: Mapping[int, float]) -> float:
    """The slope of log(seconds) over log(clients) by least squares. round_s: by number of clients, two at least."""
    clients, seconds = (list(map(math.log, each)) for each in (round_s.keys(), round_s.values()))
    return statistics.linear_regression(clients, seconds).slope


def large_part(bench: Bench, size: Size, quiet: Quiet) -> dict[str, Any]:
    """A large model over a link, and who has to hold it."""
    links = f"[{{between: [edge, cloud], latency_ms: 1, rate_mbit_s: {LINK_MBIT_S}}}]"
    with quiet.during("large"):
        large, small = (
            bench.app_on_system(values, 4, clients=1, duration_s=size.duration_s, links=links, every_s=0.25)
            for values in (size.large_values, SMALL_VALUES)
        )
    model_mb = BYTES_EACH * size.large_values / MB
    phases = [each["phases_s"] for each in large.figures["rounds"][1:]]
    peaks = {part: (peak, peak - small.watch.peak_rss[part]) for part, peak in large.watch.peak_rss.items()}
    _tell(f"large: {large.round_s:.2f} s a round with {model_mb:g} MB")
    return {
        "down_s": round(statistics.median(each["distribute"] for each in phases), 3),
        "up_s": round(statistics.median(each["collect"] for each in phases), 3),
        "link_s": round(8 * model_mb / LINK_MBIT_S, 3),
        "round_s": round(large.round_s, 3),
        "peak_rss_mb": {part: round(peak, 1) for part, (peak, _) in peaks.items()},
        "growth_mb": {part: round(growth, 1) for part, (_, growth) in peaks.items()},
        "model_mb": model_mb,
        "mbit_s": LINK_MBIT_S,
    }


def hierarchy_part(bench: Bench, size: Size, quiet: Quiet) -> dict[str, Any]:
    """Edges that aggregate for their sites, and edges that pass everything on."""
    links = "[{between: [edge, cloud], latency_ms: 10, rate_mbit_s: 20}]"
    found = {}
    for name, aggregate in (("flat", "[cloud]"), ("hierarchical", "[edge, cloud]")):
        how = f"rounds: {size.learned_rounds}, rollout_every: 0, aggregate: {aggregate}"
        devices = 2 * size.site_devices
        with quiet.during(f"hierarchy, {name}"):
            figures, _ = bench.system(how, edges=2, devices=devices, duration_s=size.duration_s, links=links)
        uplinks = [share for link, share in figures["links"].items() if link.endswith(" -> cloud")]
        found[name] = {
            "up_mb": round(sum(share["up_bytes"] for share in uplinks) / MB, 3),
            "down_mb": round(sum(share["down_bytes"] for share in uplinks) / MB, 3),
            "quality": figures["quality_after"],
            "round_s": round(statistics.median(each["duration_s"] for each in figures["rounds"][1:]), 3),
        }
        _tell(f"hierarchy: {name}: {found[name]['up_mb']} MB up, quality {found[name]['quality']}")
    flat, hierarchical = found["flat"], found["hierarchical"]
    return {
        "uplink_bytes_ratio": round(hierarchical["up_mb"] / flat["up_mb"], 4),
        "downlink_bytes_ratio": round(hierarchical["down_mb"] / flat["down_mb"], 4),
        "quality_difference": round(hierarchical["quality"] - flat["quality"], 4),
        **found,
        "devices": 2 * size.site_devices,
        "rounds": size.learned_rounds,
    }


PARTS: dict[str, Callable[[Bench, Size, Quiet], dict[str, Any]]] = {
    "round": round_part,
    "memory": memory_part,
    "scale": scale_part,
    "large": large_part,
    "hierarchy": hierarchy_part,
}


def measured(size: Size, parts: Sequence[str], quiet: Quiet) -> dict[str, Any]:
    """These parts."""
    before, load = cpu_times(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="edgebench-federated-") as directory:
        bench = Bench(Path(directory))
        found: dict[str, Any] = {part: PARTS[part](bench, size, quiet) for part in parts}
    spent = cpu_times().since(before)
    stolen = round(spent.stolen_s / spent.total_s, 4)
    return {**found, "host": {"cores": os.cpu_count(), "stolen": stolen, "load_before": round(load, 2)}, **quiet.told()}


def wanted(figures: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """What is wanted of a figure, by part and key."""
    bounds = {
        ("round", "round_vs_superlink_ratio"): "≤ 0.01",
        ("round", "round_vs_bare_ratio"): "≤ 2",
        ("memory", "together_alone_mb"): "≤ 100",
        ("memory", "each_further_client_mb"): f"≤ {figures.get('memory', {}).get('each_further_wanted_mb')}",
        ("scale", "growth_exponent"): "≤ 1",
        ("hierarchy", "quality_difference"): "within 0.01",
    }
    if "hierarchy" in figures:
        bounds["hierarchy", "uplink_bytes_ratio"] = f"{2 / figures['hierarchy']['devices']:g}"
    return bounds


def _by_clients(values: Mapping[int, float], digits: int) -> dict[str, float]:
    return {str(clients): round(value, digits) for clients, value in values.items()}


def _each(pss: float, rss: float) -> dict[str, float]:
    return {"pss": round(pss / CLIENTS, 1), "rss": round(rss / CLIENTS, 1)}


def _rounded(values: Sequence[float], digits: int) -> list[float]:
    return [round(value, digits) for value in values]


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Federated rounds beside references; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="next to nothing, to see that it runs")
    parser.add_argument("--part", choices=list(PARTS), help="one part only")
    add_anyway(parser)
    args = parser.parse_args()
    parts = [args.part] if args.part else list(PARTS)
    figures = measured(QUICK if args.quick else FULL, parts, Quiet(anyway=args.anyway))
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    bounds = wanted(figures)
    for part in (*parts, "host"):
        for key, value in figures[part].items():
            print(f"{part:10} {key:26} {json.dumps(value)}  {bounds.get((part, key), '')}".rstrip())


if __name__ == "__main__":
    main()
