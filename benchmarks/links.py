"""Links: what the emulation is asked for, held against what real bytes take through it, on this machine.

    python benchmarks/links.py [--json] [--quick] [--anyway]

The relay is started with five links and probed as before every run (`edgebench.fabric.probing`), in both directions:
delays by a hundred stamps of 8 bytes, rates by 0.3 s of TCP payload. Each round has a relay of its own, and a figure is
the median of the rounds. `--quick` takes one round, to see that it runs.

Keys of the printed object:

delay_20_ms_error_ms: of the link of 20 ms and 20 Mbit/s, the one-way delay measured less the one asked for, ms; of the
    two directions the one that is further off.
rate_20_mbit_s_error_percent: of the same link, the rate measured over the one asked for, less 1, in %; of the two
    directions the one that is further off.
links: by name, each with `requested` and `measured` (both `latency_ms`, `jitter_ms`, `mbit_s`; measured are `up`, from
    the child to the parent, and `down`; a rate is null where the link is unlimited), `latency_error_ms` and
    `rate_error_percent` (as above), and `steady`: in how many of the rounds the machine was quiet enough for
    undisturbed figures.
rounds, host: how often each was measured, and where; `host.stolen` is the share of CPU time that other guests took.
disturbed, watched: how busy others kept the machine during each round; see `quiet.py`, which refuses a disturbed one
    unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.quiet import Quiet, add_anyway
from edgebench.cpu import cpu_times
from edgebench.fabric.links import Relay
from edgebench.fabric.probing import LinkMeasured, probe
from edgebench.topology.deployment import LinkPlan

ROUNDS = 5
PROMISED = "20 ms, 20 Mbit/s"
LINKS = {
    PROMISED: LinkPlan("wan", "cloud", 20.0, 0.0, 20.0, 20.0, "wan"),
    "2 ms, 100 Mbit/s": LinkPlan("lan", "cloud", 2.0, 0.0, 100.0, 100.0, "lan"),
    "50 ± 10 ms, 10 Mbit/s up, 40 down": LinkPlan("mobile", "cloud", 50.0, 10.0, 10.0, 40.0, "mobile"),
    "300 ms, 1 Mbit/s": LinkPlan("satellite", "cloud", 300.0, 0.0, 1.0, 1.0, "satellite"),
    "1 ms, unlimited": LinkPlan("near", "cloud", 1.0, 0.0, None, None, "near"),
}


def measured(rounds: int, quiet: Quiet) -> dict[str, Any]:
    """Everything."""
    before = cpu_times()
    found: dict[str, list[LinkMeasured]] = {name: [] for name in LINKS}
    for number in range(rounds):
        with (
            quiet.during(f"round {number + 1}"),
            tempfile.TemporaryDirectory(prefix="edgebench-links-") as directory,
            Relay.start(LINKS.values(), [], seed=number, log_dir=Path(directory)) as relay,
        ):
            probed = probe(relay)
        for name, plan in LINKS.items():
            found[name].append(probed[plan.name])
    spent = cpu_times().since(before)
    links = {name: _compared(LINKS[name], each) for name, each in found.items()}
    return {
        "delay_20_ms_error_ms": links[PROMISED]["latency_error_ms"],
        "rate_20_mbit_s_error_percent": links[PROMISED]["rate_error_percent"],
        "links": links,
        "rounds": rounds,
        "host": {"cores": os.cpu_count(), "stolen": round(spent.stolen_s / spent.total_s, 4)},
        **quiet.told(),
    }


def _compared(plan: LinkPlan, rounds: list[LinkMeasured]) -> dict[str, Any]:
    latency_ms = [statistics.median(each.up_delays_ms[0] for each in rounds)]
    latency_ms.append(statistics.median(each.down_delays_ms[0] for each in rounds))
    jitter_ms = [statistics.median(each.up_jitter_ms for each in rounds)]
    jitter_ms.append(statistics.median(each.down_jitter_ms for each in rounds))
    mbit_s = [_median([each.up_mbit_s for each in rounds]), _median([each.down_mbit_s for each in rounds])]
    percents = [
        100.0 * (rate / asked - 1.0)
        for rate, asked in zip(mbit_s, (plan.up_mbit_s, plan.down_mbit_s), strict=True)
        if rate is not None and asked is not None
    ]
    rate_error_percent = max(percents, key=abs) if percents else None
    latency_error_ms = max((each - plan.latency_ms for each in latency_ms), key=abs)
    return {
        "requested": {
            "latency_ms": plan.latency_ms,
            "jitter_ms": plan.jitter_ms,
            "mbit_s": {"up": plan.up_mbit_s, "down": plan.down_mbit_s},
        },
        "measured": {
            "latency_ms": _both(latency_ms),
            "jitter_ms": _both(jitter_ms),
            "mbit_s": _both(mbit_s),
        },
        "latency_error_ms": round(latency_error_ms, 3),
        "rate_error_percent": None if rate_error_percent is None else round(rate_error_percent, 2),
        "steady": sum(each.steady for each in rounds),
    }


def _median(rates: list[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return statistics.median(known) if known else None


def _both(values: list[float] | list[float | None]) -> dict[str, float | None]:
    up, down = (None if value is None else round(value, 3) for value in values)
    return {"up": up, "down": down}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Links: asked for and measured; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one round, to see that it runs")
    add_anyway(parser)
    args = parser.parse_args()
    figures = measured(1 if args.quick else ROUNDS, Quiet(anyway=args.anyway))
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{'link':34} {'ms up':>8} {'ms down':>8} {'error':>9} {'Mbit/s up':>10} {'down':>8} {'error':>8}")
    for name, link in figures["links"].items():
        delay, rate = link["measured"]["latency_ms"], link["measured"]["mbit_s"]
        rates = f"{rate['up']:10.3f} {rate['down']:8.3f} {link['rate_error_percent']:+6.2f} %" if rate["up"] else ""
        print(f"{name:34} {delay['up']:8.3f} {delay['down']:8.3f} {link['latency_error_ms']:+6.3f} ms {rates}")


if __name__ == "__main__":
    main()
