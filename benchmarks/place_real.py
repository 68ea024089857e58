"""Jobs that are placed and then run for real, on emulated layers: a slow device, an edge, a fast cloud. See `place.py`.

What the layers take is made up, as in the rest of that benchmark; what is seen here is whether runs come in the order
that placements predict.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import edgebench
from benchmarks.layers import write_layer
from edgebench.experiments.place import LIMIT_S
from edgebench.experiments.placing import place_jobs
from edgebench.placement.files import written
from edgebench.placement.placed import Placement
from edgebench.placement.policies import POLICIES
from edgebench.results.comparison.resampling import of_mean
from edgebench.seeds import rng_for
from edgebench.topology.job_model import Job
from edgebench.topology.strict_yaml import dump

SAMPLE_BYTES = 14_592
INFER_MS = {"icu-decompensation": 105.0, "icu-death": 8.0, "icu-heart-failure": 347.0}
"""By the parameters of the published models; times so many on each layer:"""
SLOWER = {"device": 4.0, "edge": 0.8, "cloud": 0.08}


def in_order(jobs: Sequence[Job], repeats: int) -> dict[str, Any]:
    """Place jobs of one sample each by all policies, run each different placement so often, and compare the orders."""
    with tempfile.TemporaryDirectory(prefix="place-real-") as made:
        folder = Path(made)
        given = edgebench.load(_topology(folder, jobs))
        placements = {policy: place_jobs(given, policy, None, LIMIT_S) for policy in POLICIES}
        by_tiers: dict[tuple[str, ...], str] = {}
        for policy, placement in placements.items():
            by_tiers.setdefault(tuple(job.tier for job in placement.jobs), policy)
        real: dict[str, list[float]] = {policy: [] for policy in by_tiers.values()}
        invalid = dict.fromkeys(real, 0)
        for repeat, policy in itertools.product(range(repeats), real):
            print(f"run {repeat + 1} of {repeats} by {policy}", file=sys.stderr, flush=True)
            took_s = _run(given, placements[policy], folder)
            if took_s is None:
                invalid[policy] += 1
            else:
                real[policy].append(took_s)
    modelled = {policy: placements[policy].weighted_response_s for policy in real}
    return {
        "real": {
            policy: {
                "tiers": [job.tier for job in placements[policy].jobs],
                "modelled_s": round(modelled[policy], 3),
                "real_s": [round(each, 3) for each in found],
                "invalid": invalid[policy],
            }
            for policy, found in real.items()
        },
        **order(modelled, real),
    }


def order(modelled: Mapping[str, float], real: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """How many pairs runs tell apart, and whether none of these is the other way round than it was predicted.

    What lies within the intervals of both is a tie; what has no runs is told of nothing.
    """
    apart = wrong = 0
    for one, other in itertools.combinations([policy for policy in modelled if real[policy]], 2):
        mine, theirs = _interval(real[one]), _interval(real[other])
        if mine[1] < theirs[0] or theirs[1] < mine[0]:
            apart += 1
            wrong += bool((modelled[one] - modelled[other]) * (np.mean(real[one]) - np.mean(real[other])) < 0)
    return {"pairs_apart": apart, "real_order_agrees": wrong == 0 if apart else None}


def _interval(values: Sequence[float]) -> tuple[float, float]:
    return of_mean(values) or (min(values), max(values))


def _run(given: edgebench.TopologyFile, placement: Placement, folder: Path) -> float | None:
    """The weighted sum of the response times, s; None of a run that is not valid."""
    file = folder / "placed.json"
    file.write_text(written(placement), "utf-8")
    topology = edgebench.load(given.path, placement=file)
    figures = edgebench.run(topology, out=folder / "runs").figures
    total_s = 0.0
    for job in placement.jobs:
        latency = figures.workloads[f"job-{job.job}"].latency_ms
        if latency is None:
            raise SystemExit(f"job {job.job} was never decided: {figures.verdict.reasons}")
        total_s += job.priority * latency.mean / 1e3
    for reason in figures.verdict.reasons:
        print(f"not valid: {reason}", file=sys.stderr, flush=True)
    return total_s if figures.verdict.valid else None


def _topology(folder: Path, jobs: Sequence[Job]) -> Path:
    for tier, slower in SLOWER.items():
        # With one core it serves one job at a time.
        write_layer(folder, tier, {task: ms * slower for task, ms in INFER_MS.items()}, cores=1)
    document: dict[str, Any] = {
        "schema": 1,
        "name": "jobs",
        "nodes": {
            "cloud": {"tier": "cloud", "profile": "cloud.json"},
            "ward": {"tier": "edge", "parent": "cloud", "profile": "edge.json"},
            "bed": {"tier": "device", "count": len(jobs), "parent": "ward", "profile": "device.json"},
        },
        "links": [
            {"between": ["bed", "ward"], "latency_ms": 20, "rate_mbit_s": 10},
            {"between": ["ward", "cloud"], "latency_ms": 150, "rate_mbit_s": 10},
        ],
        "jobs": [
            {"release_s": job.release_s, "priority": job.priority, "task": job.task, "device": job.device}
            | {"size_bytes": SAMPLE_BYTES}
            for job in jobs
        ],
        "place": {"cost": {"by": "measured", "sample_bytes": {job.task: SAMPLE_BYTES for job in jobs}}},
    }
    path = folder / "jobs.yaml"
    path.write_text(dump(document), "utf-8")
    return path


def a_few_jobs() -> list[Job]:
    """Two of each kind, of a patient each, within a second."""
    rng = rng_for(0, "real jobs")
    return [
        Job(
            release_s=round(float(rng.uniform(0, 1)), 3),
            priority=int(rng.integers(1, 4)),
            task=task,
            device=f"bed-{index}",
            size_bytes=SAMPLE_BYTES,
        )
        for index, task in enumerate([*INFER_MS, *INFER_MS])
    ]
