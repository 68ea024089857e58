"""How near the policies of `edgebench place` come to the optimum, and how long a thousand jobs take.

    python benchmarks/place.py [--quick] [--json] [--anyway]

Random job traces of the three medical jobs of Hao et al. 2021 on the layers of `examples/medical-jobs/ward.yaml`: each
job is of a patient (a device) of its own, of a random one of the tasks, with a priority of 1 to 3, released within
2 s, with 1 to 20 MB of data. Each policy is given the same traces; `exact` proves its optima by CP-SAT. Speeds and
links are made up, so the times are those of the model, not of any machine.

Keys of the printed object:

traces, jobs: how many traces, of how many jobs each.
tabu_over_exact_mean, tabu_over_exact_worst: the weighted sum of response times by `tabu` over that by `exact`, which is
    proven in all traces but `not_proven`.
over_exact: by policy, `mean` and `worst` of the same ratio.
better_than_baselines: the share of the traces in which `tabu` is not worse than any baseline, and better than all but
    those that reach the optimum.
thousand_jobs_s: what `tabu` takes for a trace of 1,000 jobs of 100 patients, released within 600 s, s;
    thousand_jobs_over_greedy: its weighted sum over that of its start.
medical_alone: of the three jobs of `examples/medical-jobs/jobs.csv`, by task and tier: `transmission_s`,
    `processing_s`, and `response_s`, if the job were alone.
medical_together: all three by each policy, by its name: `placed` (a tier a job), `response_s` (of each),
    `weighted_response_s`, `last_end_s`.
real: two jobs of each kind, of one sample each, placed by each policy and run for real on emulated layers (a slow
    device, an edge, a fast cloud; none with --quick): by policy `tiers`, `modelled_s` and `real_s`, the weighted sums
    of response times, of each run; `invalid` ones are counted alone. Of policies that place alike, the first.
pairs_apart: how many pairs of them runs tell apart: neither lies within the interval of the other. real_order_agrees:
    whether all these come in the order that the placements predict; null where there are none, and both with --quick.
disturbed, watched: how busy others kept the machine while the time was taken; see `quiet.py`, which refuses what was
    disturbed unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import edgebench
from benchmarks.place_real import a_few_jobs, in_order
from benchmarks.quiet import Quiet, add_anyway
from edgebench.clock import now_s
from edgebench.experiments.placing import place_jobs, problem_of
from edgebench.placement.model import Orders, Problem
from edgebench.placement.policies import POLICIES, policy_named
from edgebench.placement.schedule import value_s
from edgebench.seeds import rng_for
from edgebench.topology.job_model import Job
from edgebench.topology.model import Topology

WARD = Path(__file__).resolve().parents[1] / "examples" / "medical-jobs" / "ward.yaml"
TASKS = ("icu-decompensation", "icu-death", "icu-heart-failure")
BASELINES = ("all-device", "all-edge", "all-cloud", "best-layer", "greedy", "random")
TRACES, JOBS, QUICK_TRACES = 200, 8, 4
LIMIT_S = 120.0
REPEATS = 3
PROVEN = 1e-6


def random_jobs(rng: np.random.Generator, number: int, devices: int, within_s: float) -> tuple[Job, ...]:
    """A trace."""
    return tuple(
        Job(
            release_s=float(rng.uniform(0, within_s)),
            priority=int(rng.integers(1, 4)),
            task=TASKS[int(rng.integers(len(TASKS)))],
            device=f"bed-{index % devices}",
            size_bytes=int(rng.integers(1_000_000, 20_000_000)),
        )
        for index in range(number)
    )


def random_problem(seed: int, number: int, devices: int, within_s: float) -> Problem:
    """A trace, on a ward with so many beds."""
    ward = edgebench.load(WARD).topology
    beds = msgspec.structs.replace(ward.nodes["bed"], count=devices)
    topology: Topology = msgspec.structs.replace(ward, nodes={**ward.nodes, "bed": beds})
    return problem_of(topology, random_jobs(rng_for(seed, "job trace"), number, devices, within_s), WARD)


def decided(problem: Problem, policy: str, seed: int = 0) -> tuple[Orders, float, float | None]:
    """What a policy decides, its weighted sum, and the bound."""
    decision = policy_named(policy, LIMIT_S)(problem, rng_for(seed, "place", policy))
    return decision.orders, value_s(problem, decision.orders), decision.bound_s


def small_traces(traces: int) -> dict[str, Any]:
    """The policies over the optimum."""
    ratios: dict[str, list[float]] = {policy: [] for policy in POLICIES if policy != "exact"}
    not_proven = 0
    for seed in range(traces):
        problem = random_problem(seed, JOBS, JOBS, 2.0)
        _, optimum, bound = decided(problem, "exact", seed)
        not_proven += bound is None or (optimum - bound) / optimum > PROVEN
        for policy, found in ratios.items():
            found.append(decided(problem, policy, seed)[1] / optimum)
        if (seed + 1) % 20 == 0:
            print(f"{seed + 1} of {traces} traces", file=sys.stderr, flush=True)
    better = [
        all(tabu <= base + PROVEN and (tabu < base - PROVEN or base < 1 + PROVEN) for base in bases)
        for tabu, *bases in zip(ratios["tabu"], *(ratios[policy] for policy in BASELINES), strict=True)
    ]
    return {
        "traces": traces,
        "jobs": JOBS,
        "tabu_over_exact_mean": round(float(np.mean(ratios["tabu"])), 6),
        "tabu_over_exact_worst": round(max(ratios["tabu"]), 6),
        "not_proven": not_proven,
        "over_exact": {
            policy: {"mean": round(float(np.mean(found)), 4), "worst": round(max(found), 4)}
            for policy, found in ratios.items()
        },
        "better_than_baselines": sum(better) / len(better),
    }


def thousand_jobs(quiet: Quiet) -> dict[str, Any]:
    """The time that `tabu` takes."""
    problem = random_problem(0, 1_000, 100, 600.0)
    start = decided(problem, "greedy")[1]
    with quiet.during("a thousand jobs"):
        began_s = now_s()
        found = decided(problem, "tabu")[1]
        took_s = now_s() - began_s
    return {"thousand_jobs_s": round(took_s, 3), "thousand_jobs_over_greedy": round(found / start, 4)}


def medical() -> dict[str, Any]:
    """The three jobs of the example, alone and together."""
    file = edgebench.load(WARD)
    placements = {policy: place_jobs(file, policy, None, LIMIT_S) for policy in POLICIES}
    by_tier = {name.removeprefix("all-"): placements[name].jobs for name in ("all-device", "all-edge", "all-cloud")}
    alone: dict[str, dict[str, Any]] = {}
    for tier, jobs in by_tier.items():
        for job in jobs:
            alone.setdefault(job.task, {})[tier] = {
                "transmission_s": round(job.transmission_s, 3),
                "processing_s": round(job.processing_s, 3),
                "response_s": round(job.transmission_s + job.processing_s, 3),
            }
    together = {
        policy: {
            "placed": [job.tier for job in placement.jobs],
            "response_s": [round(job.response_s, 3) for job in placement.jobs],
            "weighted_response_s": round(placement.weighted_response_s, 3),
            "last_end_s": round(max(job.end_s for job in placement.jobs), 3),
        }
        for policy, placement in placements.items()
    }
    return {"medical_alone": alone, "medical_together": together}


def tables(figures: dict[str, Any]) -> str:
    """The two tables of the medical jobs, in Markdown."""
    alone = figures["medical_alone"]
    tiers = ("cloud", "edge", "device")

    def cells(by_tier: dict[str, dict[str, float]]) -> list[str]:
        told = [by_tier[tier] for tier in tiers]
        times = [f"{each['transmission_s']} + {each['processing_s']} = {each['response_s']}" for each in told]
        return [*times, min(tiers, key=lambda tier: by_tier[tier]["response_s"])]

    first = _table(["job", *tiers, "its best"], [[task, *cells(by_tier)] for task, by_tier in alone.items()])
    rows = [
        [
            policy,
            ", ".join(found["placed"]),
            ", ".join(map(str, found["response_s"])),
            str(found["weighted_response_s"]),
            str(found["last_end_s"]),
        ]
        for policy, found in figures["medical_together"].items()
    ]
    return f"{first}\n\n{_table(['policy', 'placed', 'response, s', 'weighted sum, s', 'last end, s'], rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few traces: does it work?")
    parser.add_argument("--json", action="store_true")
    add_anyway(parser)
    args = parser.parse_args()
    quiet = Quiet(anyway=args.anyway)
    figures = small_traces(QUICK_TRACES if args.quick else TRACES) | thousand_jobs(quiet) | medical()
    not_run: dict[str, Any] = {"real": {}, "pairs_apart": None, "real_order_agrees": None}
    figures |= not_run if args.quick else in_order(a_few_jobs(), REPEATS)
    figures |= quiet.told()
    if args.json:
        print(json.dumps(figures, indent=2))
        return 0
    print(tables(figures) + "\n")
    for key, value in figures.items():
        if not key.startswith("medical"):
            print(f"{key:26} {json.dumps(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
