"""One topology in processes of this machine and in containers of it: are the figures the same?

    python benchmarks/executors.py [--json] [--quick] [--times N] [--broker mosquitto|nats]

Three wards with two beds each over emulated links, a model of 16 LSTM units at the edges: `times` times with
`--executor local`, then once with `--executor containers` (six containers), which takes a container engine and, the
first time, minutes for its images. The same seed, so the same schedules; the model is trained once. Nothing else
should run on the machine; runs that are not valid are told, and make the benchmark end with exit status 1.

Keys of the printed object:

local: a list of the runs in turn, containers: that one; each has `valid`, `reasons`, `decided`, `lost`, `p50_ms`,
    `p99_ms`, `hops_ms`: by hop `p50`, `p99`, `mean`, and `bound_ms` where it leads from a container to another.
p50_ratio: that of the containers over the median of the local ones. p50_within: whether it is within 10 %.
p99_within: whether the p99 of the containers is within the range of the local ones.
hops: those that differ: `mean_ms`, by how much the mean in the containers exceeds the median of the local ones, beyond
    the bounds of its clocks (below 0: it is less), if by 0.05 ms or more; `p99_ms`, by how much the p99 is above all
    local ones (below 0: below all), likewise. The largest first.
host: `cores`, and the `load` after all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TIMES, DURATION_S, QUICK_S = 5, 40.0, 3.0
PATIENCE_S = 900.0
P50_SHARE = 0.1
LEAST_MS = 0.05

TOPOLOGY = """\
schema: 1
name: executors
seed: 7
duration_s: {duration_s}
nodes:
  cloud: {{tier: cloud}}
  ward:  {{tier: edge, count: 3, parent: cloud}}
  bed:   {{tier: device, count: 6, parent: ward}}
links:
  - {{between: [bed, ward], latency_ms: 2, jitter_ms: 0.5, rate_mbit_s: 40}}
broker: {{kind: {broker}}}
workloads:
  death-risk:
    {{task: icu-death, source: bed, load: {{kind: poisson, rate_hz: 8}}, train: {{epochs: 1, examples: 300}}}}
"""


def measured(times: int, duration_s: float, broker: str) -> dict[str, Any]:
    """The runs, one after the other."""
    with tempfile.TemporaryDirectory(prefix="edgebench-executors-") as directory:
        folder = Path(directory)
        (folder / "topology.yaml").write_text(TOPOLOGY.format(duration_s=duration_s, broker=broker))
        local = [_run(folder, "local") for _ in range(times)]
        containers = _run(folder, "containers")
    return compared(local, containers) | {"host": {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}}


def compared(local: list[dict[str, Any]], containers: dict[str, Any]) -> dict[str, Any]:
    """The runs, as `_told` gives them, beside each other."""
    ratio = containers["p50_ms"] / statistics.median(run["p50_ms"] for run in local)
    p99s = [run["p99_ms"] for run in local]
    differ = {hop: _differs(hop, local, containers) for hop in containers["hops_ms"]}
    return {
        "local": local,
        "containers": containers,
        "p50_ratio": round(ratio, 3),
        "p50_within": abs(ratio - 1) <= P50_SHARE,
        "p99_within": min(p99s) <= containers["p99_ms"] <= max(p99s),
        "hops": dict(
            sorted(((hop, by) for hop, by in differ.items() if by), key=lambda each: -max(map(abs, each[1].values())))
        ),
    }


def _differs(hop: str, local: list[dict[str, Any]], containers: dict[str, Any]) -> dict[str, float]:
    """By how much a hop has grown (or shrunk, below 0), beyond what its clocks leave open."""
    found = containers["hops_ms"][hop]
    if found["mean"] is None:
        return {}
    bound_ms = found.get("bound_ms", 0.0)
    mean = statistics.median(run["hops_ms"][hop]["mean"] for run in local)
    p99s = [run["hops_ms"][hop]["p99"] for run in local]
    by = {
        "mean_ms": _outside(found["mean"], mean - bound_ms, mean + bound_ms),
        "p99_ms": _outside(found["p99"], min(p99s) - bound_ms, max(p99s) + bound_ms),
    }
    return {figure: round(ms, 3) for figure, ms in by.items() if abs(ms) >= LEAST_MS}


def _outside(value: float, least: float, most: float) -> float:
    return value - most if value > most else min(0.0, value - least)


def _run(folder: Path, executor: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgebench.cli", "run", str(folder / "topology.yaml"), "--json"]
    command += ["--out", str(folder / "runs"), "--executor", executor]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    if not done.stdout:
        raise SystemExit(f"no result of {' '.join(command)}: {done.stderr.decode(errors='replace')}")
    result = json.loads(done.stdout)
    if result["workloads"]["death-risk"]["latency_ms"] is None:
        raise SystemExit(f"{executor}: nothing was decided: {'; '.join(result['verdict']['reasons'])}")
    told = _told(result)
    print(f"{executor}: p50 {told['p50_ms']} ms, p99 {told['p99_ms']} ms, valid {told['valid']}", file=sys.stderr)
    return told


def _told(result: dict[str, Any]) -> dict[str, Any]:
    figures = result["workloads"]["death-risk"]
    return {
        "valid": result["verdict"]["valid"],
        "reasons": result["verdict"]["reasons"],
        "decided": figures["decided"],
        "lost": figures["lost"],
        "p50_ms": figures["latency_ms"]["p50"],
        "p99_ms": figures["latency_ms"]["p99"],
        "hops_ms": figures["hops_ms"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Local and in containers; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a few seconds each, to see that it runs")
    parser.add_argument("--times", type=int, default=TIMES, help=f"local runs ({TIMES})")
    brokers = ("mosquitto", "nats")
    parser.add_argument("--broker", choices=brokers, default="mosquitto", help="in all of them (mosquitto)")
    args = parser.parse_args()
    figures = measured(args.times, QUICK_S if args.quick else DURATION_S, args.broker)
    if args.json:
        print(json.dumps(figures, indent=2))
    else:
        for key, value in figures.items():
            print(f"{key:12} {json.dumps(value)}")
    sys.exit(0 if all(run["valid"] for run in [*figures["local"], figures["containers"]]) else 1)


if __name__ == "__main__":
    main()
