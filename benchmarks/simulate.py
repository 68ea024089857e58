"""Simulating, beside SimPy and ciw, on the same arrivals and service times, on this machine.

    python benchmarks/simulate.py [--json] [--quick] [--anyway] [--ciw PYTHON]

A chain of four first-in-first-out stations, and a tree: 1,000 devices with a link each, four sites whose model decides
micro-batches of at most 8 out of a bounded queue, an uplink that all devices of a site share, and a cloud with such a
model as well; everything goes all the way up, and its decision back to its device. What the reference does is in
`simulate_reference.py`; it is told all times, which ours draws. A figure is the median of the rounds, in which we and
the reference take turns, the reference once and ours several times in a row. ciw brings a package of the name `tests`,
so it is best kept in an environment of its own:
`--ciw` names the interpreter there. `--quick` takes a tenth of everything, to see that it runs. It needs SimPy.

Keys of the printed object:

chain_vs_simpy_ratio, tree_vs_simpy_ratio: messages a second, ours over SimPy's.
chain_vs_ciw_ratio: likewise of the chain; null where ciw is absent.
event_driven_vs_simpy_ratio: of the tree, of our other simulation, which is made of the code that decides in a run.
max_departure_error_s: the largest difference of any departure from the chain or from a site, or arrival of a decision
    at its device, s; what was dropped from a queue in one and not in the other counts as infinite.
dropped: how many messages had to go from a full queue in the tree, in either.
simpy_chain_per_s, simpy_tree_per_s, chain_per_s, tree_per_s, event_driven_per_s, ciw_chain_per_s: messages a second.
    On an idle machine SimPy does at least 20,000 in the chain and 14,000 in the tree, else something is wrong with it.
sixty_million_s, sixty_million_mb: a simulation of a million devices with a message a minute for an hour through the
    tree (both ways), from the topology to the report, in a process of its own: s, and its peak of resident memory in
    10⁶ bytes. sixty_million_messages: how many that were.
growth_exponent: of time over messages, from a sixteenth of that to a quarter of it: the slope of their logarithms.
rounds, host: how often each was measured, and where.
disturbed, watched: how busy others kept the machine during each round; see `quiet.py`, which refuses a disturbed one
    unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.quiet import Quiet, add_anyway
from benchmarks.simulate_reference import Tree, simpy_chain
from edgebench.clock import NS_PER_S, now_s
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.simulate import simulate_with
from edgebench.seeds import rng_for
from edgebench.simulation import columns
from edgebench.simulation.event_costs import EventCosts
from edgebench.simulation.event_driven import EventDriven
from edgebench.simulation.layout import Layout, layout_of
from edgebench.simulation.places import places_of
from edgebench.simulation.service_times import FORWARDED, STEPS, Cascading, Cost, Model, PassedOn, ServiceTimes
from edgebench.simulation.stations import fifo_chain
from edgebench.simulation.vectorised import Vectorised
from edgebench.topology.model import Topology

Ints = NDArray[np.int64]

HERE = Path(__file__).resolve().parent
ROUNDS = 5
STATIONS = 4
CHAIN, CHAINS = 100_000, 100
TREE_S = 60.0
TREES = 10
"""So often either is simulated in a round: it is over in a few ms, where SimPy takes seconds."""
EVENTS_S = 10.0
SITES, DEVICES, MOST, BOUND = 4, 1_000, 8, 64
MILLION, HOUR_S = 1_000_000, 3_600.0
LIGHT = Model("host", "icu-death", "light", "litert", "float32", "train")
HEAVY = Model("host", "icu-death", "heavy", "litert", "float32", "train")


class Chain(NamedTuple):
    """arrivals: ns [message], services: ns [station, message]."""

    arrivals: Ints
    services: Ints


def chain(n: int) -> Chain:
    """Poisson arrivals at 80 % of what each station can do."""
    rng = rng_for(7, "chain")
    arrivals = np.cumsum(rng.exponential(1_250_000.0, n)).astype(np.int64)
    return Chain(arrivals, rng.exponential(1_000_000.0, (STATIONS, n)).astype(np.int64))


def topology(devices: int, rate_hz: float, duration_s: float, uplink_mbit_s: float) -> Topology:
    """The tree: each site is a group of its own, so that its devices share its uplink and no other."""
    sites = [f"site{number}" for number in range(SITES)]
    nodes: dict[str, Any] = {"cloud": {"tier": "cloud"}} | {name: {"tier": "edge", "parent": "cloud"} for name in sites}
    links: list[dict[str, Any]] = [
        {"between": [name, "cloud"], "latency_ms": 10, "up_mbit_s": uplink_mbit_s} for name in sites
    ]
    for number, name in enumerate(sites):
        nodes[f"device{number}"] = {"tier": "device", "count": devices // SITES, "parent": name}
        links.append({"between": [f"device{number}", name], "up_mbit_s": 4})
    workload = {
        "task": LIGHT.task,
        "source": [f"device{number}" for number in range(SITES)],
        "load": {"kind": "poisson", "rate_hz": rate_hz},
        "place": {"infer": "cascade"},
        "batch": {"max_batch": MOST},
        "queue": {"max_samples": BOUND},
        "qos": 0,
    }
    document = {
        "schema": 1,
        "name": "tree",
        "seed": 7,
        "duration_s": duration_s,
        "nodes": nodes,
        "links": links,
        "workloads": {"watch": workload},
    }
    return msgspec.convert(document, Topology, strict=False)


def service_times(light_ns: float, heavy_ns: float) -> ServiceTimes:
    """Batches take their mean and a fifth of it more for each further sample, spread exponentially; nothing else costs
    anything, and all that a site decides goes on."""
    ranks = (np.arange(1_000) + 0.5) / 1_000
    spread = -np.log1p(-ranks)

    def by_size(mean_ns: float) -> dict[int, Ints]:
        return {n: np.rint(mean_ns * (1 + 0.2 * (n - 1)) * spread).astype(np.int64) + 1 for n in range(1, MOST + 1)}

    costs: dict[Cost, Ints] = {}
    for step in STEPS:
        value = np.array([{"size": 2_000, "reply": 100}.get(step, 0)], np.int64)
        if step != "begin":
            names = [("", LIGHT.task), ("host", LIGHT.task), ("host", "")]
            costs |= {Cost(step, profile, task, how): value for profile, task in names for how in ("", FORWARDED)}
    infer = {LIGHT: by_size(light_ns), HEAVY: by_size(heavy_ns)}
    cascade = Cascading(LIGHT._replace(profile=""), HEAVY._replace(profile=""))
    return ServiceTimes(infer, {}, costs, {cascade: PassedOn(1, 1)}, ("made up",))


def small_tree(duration_s: float) -> Layout:
    """A thousand devices, a message a second each."""
    made = topology(DEVICES, 1.0, duration_s, uplink_mbit_s=20)
    return layout_of(made, service_times(2_500_000, 1_500_000), "tree.yaml")


def for_reference(layout: Layout) -> tuple[dict[str, Any], Ints]:
    """What SimPy needs to know of a tree, in which messages are numbered in the order in which they set out; and what
    became of them here: [message, (left its site, was back at its device)], -1 where it was not."""
    rows = np.concatenate([part.copy() for part in Vectorised(layout, places_of(layout.fleet)).run()])
    rows = rows[np.lexsort((rows[:, columns.DEVICE], rows[:, columns.SENT]))]
    costs = EventCosts(layout)
    keys = rows[:, [columns.DEVICE, columns.SEQ]].tolist()
    edge_group = layout.fleet.group_of("edge")[layout.fleet.edge_of].tolist()
    groups = {device: edge_group[device] for device, _ in keys}
    cloud = layout.fleet.cloud.number

    def taken(purpose: int, group: Callable[[int], int]) -> list[list[int]]:
        return [
            [0, *(costs.service_ns(purpose, 0, group(device), device, seq, size) for size in range(1, MOST + 1))]
            for device, seq in keys
        ]

    group_of_device = layout.fleet.group_of("device")[rows[:, columns.DEVICE]]
    up, far = layout.device_lanes("up", np.zeros(DEVICES, np.int64)), layout.edge_lanes("up")
    size = rows[:, columns.SIZE] + layout.arrays.up_bytes[0, group_of_device]
    forward = rows[:, columns.SIZE] + layout.arrays.forward_bytes[0]
    turn = np.empty(len(rows), np.int64)
    turn[np.lexsort((rows[:, columns.SEQ], rows[:, columns.DEVICE]))] = np.arange(len(rows))
    given = {
        "sent_ns": rows[:, columns.SENT].tolist(),
        "device": rows[:, columns.DEVICE].tolist(),
        "link_ns": np.rint(size * up.ns_per_byte[0]).astype(np.int64).tolist(),
        "uplink_ns": np.rint(forward * far.ns_per_byte[0]).astype(np.int64).tolist(),
        "latency_ns": int(far.kinds[0, columns.LATENCY]),
        "site_of": layout.fleet.edge_of.tolist(),
        "batch_ns": taken(columns.INFER, lambda device: groups[device]),
        "cloud_ns": taken(columns.CLOUD_INFER, lambda _: cloud),
        "most": MOST,
        "bound": BOUND,
        "turn": turn.tolist(),
    }
    return given, rows[:, [columns.FORWARD_OUT, columns.ARRIVED]]


def timed_s(work: Callable[[], object]) -> float:
    """How long something takes."""
    before_s = now_s()
    work()
    return now_s() - before_s


def error_s(ours: Ints, theirs: Ints) -> float:
    """The largest difference, infinite where only one of them is there."""
    if ((ours < 0) != (theirs < 0)).any():
        return math.inf
    return float(np.abs(ours - theirs).max()) / NS_PER_S


def measured(rounds: int, share: float, ciw: str | None, quiet: Quiet) -> dict[str, Any]:
    """Everything."""
    given, layout = chain(round(CHAIN * share)), small_tree(TREE_S * share)
    reference, left = for_reference(layout)
    events = small_tree(EVENTS_S * share)
    few = for_reference(events)[0]
    n, m, k = len(given.arrivals), len(left), len(few["sent_ns"])
    fifo_chain(given.arrivals, given.services)  # which compiles it
    errors, speeds = [], []
    for number in range(rounds):
        with quiet.during(f"round {number + 1}"):
            departures: list[float] = []
            tree = Tree(reference)
            simpy_s = timed_s(lambda: departures.extend(simpy_chain(*given))), timed_s(tree.run)  # noqa: B023
            chain_s = timed_s(lambda: [fifo_chain(*given) for _ in range(CHAINS)]) / CHAINS
            trees = [Vectorised(layout, places_of(layout.fleet)) for _ in range(TREES)]
            tree_s = timed_s(lambda: [len(rows) for each in trees for rows in each.run()]) / TREES  # noqa: B023
            driven = EventDriven(events, places_of(events.fleet).deployment(events.topology, "events"))
            events_s = timed_s(lambda: [len(rows) for rows in driven.run()])  # noqa: B023
            few_s = timed_s(Tree(few).run)
            ciw_s = None if ciw is None else _ciw_s(given, ciw)
        theirs = np.array([tree.left_site, tree.arrived]).T
        errors += [error_s(fifo_chain(*given), np.array(departures)), error_s(left, theirs)]
        seconds = (chain_s, *simpy_s, tree_s, events_s, few_s, ciw_s or math.inf)
        speeds.append([count / took_s for count, took_s in zip((n, n, m, m, k, k, n), seconds, strict=True)])
    medians = map(statistics.median, zip(*speeds, strict=True))
    chain_per_s, simpy, simpy_tree, tree_per_s, event_driven, simpy_few, ciw_per_s = medians
    return {
        "chain_vs_simpy_ratio": round(chain_per_s / simpy, 1),
        "tree_vs_simpy_ratio": round(tree_per_s / simpy_tree, 1),
        "chain_vs_ciw_ratio": round(chain_per_s / ciw_per_s, 1) if ciw is not None else None,
        "event_driven_vs_simpy_ratio": round(event_driven / simpy_few, 2),
        "max_departure_error_s": max(errors),
        "dropped": int((left[:, 1] < 0).sum()),
        "chain_per_s": round(chain_per_s),
        "simpy_chain_per_s": round(simpy),
        "tree_per_s": round(tree_per_s),
        "simpy_tree_per_s": round(simpy_tree),
        "event_driven_per_s": round(event_driven),
        "ciw_chain_per_s": round(ciw_per_s) if ciw is not None else None,
        **_many(share, quiet),
        "rounds": rounds,
        "host": {"cores": os.cpu_count()},
        **quiet.told(),
    }


def _ciw_s(given: Chain, python: str) -> float:
    gaps = np.diff(given.arrivals, prepend=0) / NS_PER_S
    fewer = max(1, len(gaps) // 10)  # it is slow, and as slow with fewer
    asked = {"gaps_s": gaps[:fewer].tolist(), "services_s": (given.services[:, :fewer] / NS_PER_S).tolist()}
    command = [python, str(HERE / "simulate_reference.py")]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)) * len(gaps) / fewer


def _many(share: float, quiet: Quiet) -> dict[str, Any]:
    """A million devices, and how the time grows with the messages."""
    parts = (1 / 16, 1 / 8, 1 / 4, 1.0)
    _alone(share * parts[0])  # in which it is compiled, if it has to be
    found = []
    for part in parts:
        with quiet.during(f"{part:g} of the million"):
            found.append(_alone(share * part))
    slope = np.polyfit(np.log([each[2] for each in found[:3]]), np.log([each[0] for each in found[:3]]), 1)[0]
    took_s, peak_mb, messages = found[-1]
    return {
        "sixty_million_s": round(took_s, 2),
        "sixty_million_mb": round(peak_mb),
        "sixty_million_messages": messages,
        "growth_exponent": round(float(slope), 3),
    }


def _alone(share: float) -> tuple[float, float, int]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.simulate", "--million", str(share)],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    took_s, peak_mb, messages = json.loads(done.stdout)
    return took_s, peak_mb, messages


def million(share: float) -> None:
    """Simulate a share of the hour, and print how long it took, the peak of memory and the messages."""
    made = topology(MILLION, 1 / 60, HOUR_S * share, uplink_mbit_s=200)
    with tempfile.TemporaryDirectory(prefix="edgebench-million-") as folder:
        file = Path(folder) / "million.yaml"
        file.write_bytes(msgspec.yaml.encode(made))
        before_s = now_s()
        _, result = simulate_with(service_times(100_000, 50_000), TopologyFile(file, (), made), Path(folder))
        took_s = now_s() - before_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps([took_s, peak_mb, result.workloads["watch"].scheduled]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Simulating, beside SimPy and ciw; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, once, to see that it runs")
    parser.add_argument("--ciw", metavar="PYTHON", help="the interpreter of an environment that has ciw")
    parser.add_argument("--million", type=float, help=argparse.SUPPRESS)
    add_anyway(parser)
    args = parser.parse_args()
    if args.million is not None:
        million(args.million)
        return
    figures = measured(1 if args.quick else ROUNDS, 0.1 if args.quick else 1.0, args.ciw, Quiet(anyway=args.anyway))
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        if not isinstance(value, dict | list):
            print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
