"""What each kind of broker costs one site, in turns on this machine.

    python benchmarks/brokers.py [--json] [--quick] [--anyway] [--broker mosquitto|nats] [--qos 0|1]
                                 [--durability none|process|power]

`devices` devices at 1 Hz at one edge, which decides with an LSTM of 16 units (a sample is 14.6 kB): the runs of
`agent_1000_devices` in `stream.py`, once with each kind that is installed, or with the one that is named. `--quick`
does next to nothing, to see that it runs; its figures mean little.

Keys of the printed object; every run must decide each of its samples once, or the benchmark fails:

<kind>: `version`, `devices`, and while they streamed: `broker_cores`, `broker_mb` (most memory), `edge_cores`, `cores`
    and `slip_p99_ms` (of the agent), `latency_p50_ms`, `latency_p99_ms`, `decided`, `lost`, `valid`, `reasons`.
broker_cores_ratio: Mosquitto over nats-server, where both were tried.
qos: of the samples and the decisions; durability: what they survive (see docs/reliability.md).
disturbed, watched: see `quiet.py`, which refuses a disturbed pair unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, get_args

from benchmarks.quiet import Quiet, add_anyway
from benchmarks.stream import FULL, QUICK, Bench, Size, many_devices
from edgebench.errors import FabricError
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.brokers.server import Kind
from edgebench.topology.model import Durability

KINDS: tuple[Kind, ...] = get_args(Kind)


def measured(
    kinds: tuple[Kind, ...], size: Size, quiet: Quiet, qos: int, durability: Durability = "none"
) -> dict[str, Any]:
    """One after the other. Raises SystemExit where the one that is asked for is not installed."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edgebench-brokers-") as directory:
        bench = Bench(Path(directory), durability=durability)
        for kind in kinds:
            try:
                _, program = choose(kind)
            except FabricError as error:
                if len(kinds) == 1:
                    raise SystemExit(str(error)) from error
                continue
            bench.broker = kind
            with quiet.during(kind):
                found[kind] = {"version": program.version, **many_devices(bench, size, qos)}
    figures = {**found, "qos": qos, "durability": durability, **quiet.told()}
    if len(found) == len(KINDS):
        cores = [found[kind]["broker_cores"] for kind in ("mosquitto", "nats")]
        figures["broker_cores_ratio"] = round(cores[0] / cores[1], 3)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What each kind of broker costs one site; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="next to nothing, to see that it runs")
    parser.add_argument("--broker", choices=KINDS, help="this kind only")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--durability", choices=get_args(Durability), default="none", help="none as it comes")
    add_anyway(parser)
    args = parser.parse_args()
    kinds = (args.broker,) if args.broker else KINDS
    figures = measured(kinds, QUICK if args.quick else FULL, Quiet(anyway=args.anyway), args.qos, args.durability)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for key, value in figures.items():
        print(f"{key:20} {json.dumps(value)}")


if __name__ == "__main__":
    main()
