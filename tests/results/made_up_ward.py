"""A made-up run of the size of a real one, to look at and to test a report with: three workloads, one roll-out."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from edgebench.core.samples import SampleRecord
from edgebench.core.tallies import Tally
from edgebench.fabric.records import HostUsage, LinkObserved, ModelEvent, Swap, Usage
from edgebench.results.observations import Observations
from edgebench.seeds import rng_for
from edgebench.topology.deployment import Deployment, LinkPlan, NodePlan
from edgebench.topology.model import Poisson
from tests.results import factory
from tests.results.factory import FIRST, SECOND, at_ms

DURATION_S = 40
SWAP_MS = {"ward-0": 17_320.0, "ward-1": 17_410.0}
WORKLOADS = {"death-risk": "icu-death", "decompensation": "icu-decompensation", "heart-failure": "icu-heart-failure"}
DIGESTS = {"death-risk": FIRST, "decompensation": "c" * 64, "heart-failure": "d" * 64}
BEDS = tuple(f"bed-{n}" for n in range(8))


def ward_of(bed: str) -> str:
    return f"ward-{int(bed.rsplit('-', 1)[1]) % 2}"


def deployment() -> Deployment:
    nodes = [NodePlan("cloud", "cloud", "cloud", "host", None, ("ward-0", "ward-1"))]
    nodes += [
        NodePlan(ward, "ward", "edge", "host", "cloud", tuple(b for b in BEDS if ward_of(b) == ward))
        for ward in SWAP_MS
    ]
    nodes += [NodePlan(bed, "bed", "device", "host", ward_of(bed), ()) for bed in BEDS]
    links = [LinkPlan(bed, ward_of(bed), 2, 0.5, 40, 40, bed) for bed in BEDS]
    links += [LinkPlan(ward, "cloud", 20, 2, 20, 50, "ward-cloud") for ward in SWAP_MS]
    plans = [
        factory.workload(
            name,
            task=task,
            sources=BEDS,
            deciders={bed: ward_of(bed) for bed in BEDS},
            load=Poisson(rate_hz=2),
            deadline_ms=500 if name == "heart-failure" else 150,
        )
        for name, task in WORKLOADS.items()
    ]
    return msgspec.structs.replace(
        factory.deployment(),
        run_id="20260101T000000Z-icu-ward",
        name="icu-ward",
        duration_s=DURATION_S,
        nodes={node.name: node for node in nodes},
        links={link.name: link for link in links},
        workloads={plan.name: plan for plan in plans},
    )


def rows(seed: int = 7, *, lose: int = 0) -> list[SampleRecord]:
    """Some 640 samples a workload; `lose` of those of death-risk due from 25 s on never get their decision."""
    found = []
    for workload in WORKLOADS:
        for bed in BEDS:
            rng = rng_for(seed, "made-up", workload, bed)
            due = np.cumsum(rng.exponential(500, 2 * DURATION_S + 60))
            for seq, at in enumerate(due[due < 1_000 * DURATION_S]):
                found.append(_row(rng, workload, bed, seq, float(at)))
    found.sort(key=lambda row: row.scheduled_ns)
    for at, row in enumerate(found):
        if lose and row.workload == "death-risk" and row.scheduled_ns > at_ms(25_000):
            found[at] = factory.lost(row.seq, (row.scheduled_ns - at_ms(0)) / 1e6, node=row.node)
            lose -= 1
    return found


def _row(rng: np.random.Generator, workload: str, bed: str, seq: int, at_due_ms: float) -> SampleRecord:
    later = workload == "death-risk" and at_due_ms > SWAP_MS[ward_of(bed)]
    training = 5_000 < at_due_ms < 17_000
    sense = 0.2 + float(rng.exponential(0.6 if training else 0.2))
    hops = (
        sense,
        5.2 + float(rng.uniform(-0.5, 0.5)) + float(rng.exponential(0.4)),
        float(rng.exponential(1.2 if training else 0.4)),
        0.09 + float(rng.exponential(0.03)) + (0.2 if later else 0.0),
        2.3 + float(rng.uniform(-0.5, 0.5)) + float(rng.exponential(0.3)),
    )
    label = float(rng.random() < 0.3)
    skill = 1.6 if later else 0.6
    output = float(1 / (1 + np.exp(-(rng.normal() + skill * (2 * label - 1)))))
    row = factory.row(seq, at_due_ms, hops, node=bed, workload=workload, label=[label], output=[output])
    return factory.changed(
        row,
        captured_ns=at_ms(at_due_ms + sense / 2),
        decider=ward_of(bed),
        digest=SECOND if later else DIGESTS[workload],
        batch=int(rng.integers(1, 3)),
    )


def _model(workload: str, digest: str, ready_ms: float, announced_ms: float | None, auroc: float) -> ModelEvent:
    event = factory.model(digest, ready_ms, announced_ms, auroc)
    return msgspec.structs.replace(event, workload=workload)


def observations(**changes: Any) -> Observations:
    rng = rng_for(7, "made-up", "machine")
    firsts = [Swap(ward, name, DIGESTS[name], at_ms(-900), at_ms(-800)) for name in WORKLOADS for ward in SWAP_MS]
    seconds = [Swap(ward, "death-risk", SECOND, at_ms(at - 90), at_ms(at)) for ward, at in SWAP_MS.items()]
    tallies = {bed: {name: Tally() for name in WORKLOADS} for bed in BEDS}
    tallies |= {"ward-0": {"death-risk": Tally(rejected={"not-an-envelope": 3, "wrong-shape": 1}, plain_json=1)}}
    hosts_of = {"cloud": ["cloud"], "ward-0": ["ward-0"], "ward-1": ["ward-1"], "devices": list(BEDS)}
    speed = {"cloud": 0.05, "ward-0": 0.12, "ward-1": 0.11, "devices": 0.15}
    memory = {"cloud": 140.0, "ward-0": 58.0, "ward-1": 57.0, "devices": 61.0}
    usage: dict[str, list[Usage]] = {}
    for process, cores in speed.items():
        spent = 1.5
        usage[process] = []
        for second in range(-2, DURATION_S + 2):
            training = process == "cloud" and 5 < second < 17
            spent += (1.5 if training else cores) * float(rng.uniform(0.8, 1.2))
            rss = memory[process] + (500 if training else 0) + float(rng.uniform(0, 1)) + 0.05 * second
            usage[process].append(Usage(at_ms(1_000 * second), spent, int(rss * 1e6)))
    links = []
    for name, link in deployment().links.items():
        up, down = (4_700_000, 61_000) if link.parent != "cloud" else (81_000, 310_000)
        asked = {"latency_ms": link.latency_ms, "jitter_ms": link.jitter_ms, "up_mbit_s": link.up_mbit_s or 0.0}
        asked["down_mbit_s"] = link.down_mbit_s or 0.0
        found = {"latency_ms": link.latency_ms + 0.21, "jitter_ms": link.jitter_ms * 0.97}
        found |= {"up_mbit_s": asked["up_mbit_s"] * 0.991, "down_mbit_s": asked["down_mbit_s"] * 0.987}
        links.append(LinkObserved(name, asked, found, up, down, 240, 241))
    observed = factory.observations(
        ended_ns=at_ms(1_000 * DURATION_S),
        command_started_ns=at_ms(-14_200),
        tallies=tallies,
        swaps=firsts + seconds,
        usage=usage,
        hosts_of=hosts_of,
        closed=["cloud", *SWAP_MS, *BEDS],
        models=[
            _model("death-risk", FIRST, -1_200, -1_000, 0.71),
            _model("death-risk", SECOND, 17_000, 17_050, 0.86),
            _model("decompensation", DIGESTS["decompensation"], -1_200, -1_000, 0.74),
            _model("heart-failure", DIGESTS["heart-failure"], -1_200, -1_000, 0.73),
        ],
        links=links,
        host_usage=[
            HostUsage(at_ms(500 * n), 0.93 if 10 < n < 34 else 0.31, 0.004) for n in range(-4, 2 * DURATION_S + 2)
        ],
        host={
            "cores": 2,
            "cpu": "Made-up CPU @ 2.1 GHz",
            "memory_mb": 8_000,
            "system": "Linux 6.1",
            "python": "3.11.2",
        },
        versions={"edgebench": "0.1.0", "numpy": "2.4.0", "paho-mqtt": "2.2.0", "ai-edge-litert": "2.3.0"},
        data_sources=dict.fromkeys(WORKLOADS, "generated"),
    )
    return msgspec.structs.replace(observed, **changes)
