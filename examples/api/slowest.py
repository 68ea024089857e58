"""Run a topology, and read its records as a table: what did the slowest decisions wait for?

python examples/api/slowest.py icu-ward --set duration_s=10
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np

import edgebench

COLUMNS = ["node", "decider", "scheduled_ns", "received_ns", "started_ns", "arrived_ns"]


def slowest(run: edgebench.Run, count: int) -> Iterator[str]:
    """A line each: device, decider, latency, and time in the decider's queue."""
    records = run.records.select(COLUMNS)
    decided = records.filter(records.column("arrived_ns").is_valid())
    devices, deciders, due_ns, received_ns, started_ns, arrived_ns = (
        decided.column(name).to_numpy(zero_copy_only=False) for name in COLUMNS
    )
    latency_ms, queue_ms = (arrived_ns - due_ns) / 1e6, (started_ns - received_ns) / 1e6
    for row in np.argsort(-latency_ms)[:count]:
        yield f"{devices[row]} by {deciders[row]}: {latency_ms[row]:.1f} ms, of which {queue_ms[row]:.1f} in the queue"


def main(words: Sequence[str]) -> int:
    """Exit status 0 for a valid run, 1 for an invalid one, 2 for what has to be mended first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("topology")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--out", default="runs")
    args = parser.parse_args(words)
    try:
        run = edgebench.run(edgebench.load(args.topology, args.set), out=args.out)
    except edgebench.EdgebenchError as error:
        print(error, file=sys.stderr)
        return 2
    for line in slowest(run, 5):
        print(line)
    for reason in run.verdict.reasons:
        print(f"invalid: {reason}")
    return 0 if run.verdict.valid else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
