"""What federated messages cost by the way they travel: this tree beside another revision of it.

    python benchmarks/transport.py [--against REVISION] [--quick] [--json] [--anyway]

Both run the same topologies, turn by turn, with the Flower app of `federated_app` (it adds one to an array), a model
that decides without work, and, in `many`, the built-in app. REVISION is checked out beside the tree for as long as it
takes; as it comes it is the last one that sent federated messages over MQTT, piece by piece. Without a network of
others, on an otherwise idle machine: a run that others disturb ends it (see `quiet.py`).

Keys of the printed object, each with `ours`, `theirs`, and `ratio`, ours over theirs:

round_s: the median round of 4 clients with an array of 0.4 MB, nothing shaped. link_round_s: the same over an uplink of
20 Mbit/s and 10 ms that they share. link_bytes: what crossed it, both ways, over
    the arrays' bytes.
broken_s: 1 client, 4 MB over 20 Mbit/s, cut once for a second in mid-transfer: the longest round, less the median one.
    broken_bytes: bytes of all rounds by the server's count, what went twice included, over the arrays' own.
beside_p50_ms, beside_p99_ms: latency of samples that the cloud decides, at 20 Hz each from 8 devices, while these send
    1 MB each over one uplink of 10 Mbit/s; they are due while a round is going on. beside_p50_vs_idle,
    beside_p99_vs_idle: the same over those of samples that are due after it, with the link to themselves.
many_client_ms: a round of `clients` clients in one agent with the light model of icu-death, one local epoch on 96
samples,
    over their number. many_slip_p99_ms: how late their samples (at 0.1 Hz each) were sensed.
large_s: a round with 100 MB and 1 client over 400 Mbit/s. large_growth_mb: of each process, the most memory that it
ever
    had, less the same with 0.4 MB.
disturbed, watched: see `quiet.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.federated import WARD
from benchmarks.federated_bench import Bench
from benchmarks.quiet import Quiet, add_anyway

ROOT = Path(__file__).resolve().parents[1]
OVER_MQTT = "6ac1209"
"""The last revision whose federated messages went over MQTT, piece by piece."""
VALUES_BYTES = 4


@dataclass(frozen=True)
class Scale:
    """How much is done. turns: of each part but the last two. duration_s: of a run's streams."""

    turns: int
    rounds: int
    clients: int
    learned_rounds: int
    large_values: int
    duration_s: float


FULL = Scale(turns=5, rounds=40, clients=1000, learned_rounds=5, large_values=25_000_000, duration_s=8.0)
QUICK = Scale(turns=1, rounds=4, clients=4, learned_rounds=2, large_values=1_000_000, duration_s=3.0)


class Tree:
    """One of the two revisions."""

    def __init__(self, root: Path, directory: Path) -> None:
        directory.mkdir()
        self._bench = Bench(directory, root)

    def unshaped(self, scale: Scale) -> dict[str, float]:
        """Rounds on loopback."""
        run = self._bench.app_on_system(100_000, scale.rounds, clients=4, duration_s=scale.duration_s, every_s=1.0)
        return {"round_s": run.round_s}

    def link(self, scale: Scale) -> dict[str, float]:
        """Rounds over a link that all share."""
        links = "[{between: [edge, cloud], latency_ms: 10, rate_mbit_s: 20, shared: true}]"
        rounds = max(3, scale.rounds // 4)
        run = self._bench.app_on_system(
            100_000, rounds, clients=4, duration_s=scale.duration_s, every_s=1.0, links=links
        )
        uplink = self._bench.result["links"]["edge-0 -> cloud"]
        crossed = uplink["up_bytes"] + uplink["down_bytes"]
        return {"link_round_s": run.round_s, "link_bytes": crossed / (2 * 4 * rounds * 100_000 * VALUES_BYTES)}

    def broken(self, _scale: Scale) -> dict[str, float]:
        """A link that breaks in mid-transfer."""
        links = "[{between: [edge, cloud], latency_ms: 10, rate_mbit_s: 20}]"
        faults = 'faults: [{at_s: 4, link: "edge-0 -> cloud", kind: down, for_s: 1}]'
        rounds, values = 5, 1_000_000
        run = self._bench.app_on_system(
            values, rounds, clients=1, duration_s=12.0, every_s=1.0, links=links, more=faults
        )
        moved = sum(each["bytes_up"] + each["bytes_down"] for each in run.figures["rounds"])
        took_s = [each["duration_s"] for each in run.figures["rounds"]]
        return {
            "broken_s": max(took_s) - statistics.median(took_s),
            "broken_bytes": moved / (2 * rounds * values * VALUES_BYTES),
        }

    def beside(self, scale: Scale) -> dict[str, float]:
        """Samples beside rounds."""
        links = "[{between: [edge, cloud], latency_ms: 5, rate_mbit_s: 10, shared: true}]"
        run = self._bench.app_on_system(
            250_000,
            1,  # which leaves a while without one
            clients=8,
            duration_s=4 * scale.duration_s,
            every_s=1.0,
            links=links,
            # 200 bytes: those of intensive care would fill the link by themselves.
            task="occupancy",
            rate_hz=20.0,
            place="cloud",
        )
        beside, idle = run.figures["in_rounds_ms"], run.figures["between_rounds_ms"]
        return {
            "beside_p50_ms": beside["p50"],
            "beside_p99_ms": beside["p99"],
            "beside_p50_vs_idle": beside["p50"] / idle["p50"],
            "beside_p99_vs_idle": beside["p99"] / idle["p99"],
        }

    def many(self, scale: Scale) -> dict[str, float]:
        """Many clients of one agent."""
        how = f"rounds: {scale.learned_rounds}, rollout_every: 0, interval_s: 3"
        figures, _ = self._bench.system(
            how,
            task=f"{WARD}{scale.clients}",
            devices=scale.clients,
            duration_s=scale.duration_s,
            rate_hz=0.1,
            every_s=5.0,
        )
        took_s = statistics.median(each["duration_s"] for each in figures["rounds"][1:])
        slip = self._bench.result["workloads"]["watch"]["slip_ms"]
        return {"many_client_ms": 1e3 * took_s / scale.clients, "many_slip_p99_ms": slip["p99"]}

    def large(self, scale: Scale) -> dict[str, Any]:
        """A large model."""
        links = "[{between: [edge, cloud], latency_ms: 1, rate_mbit_s: 400}]"
        large, small = (
            self._bench.app_on_system(values, 4, clients=1, duration_s=scale.duration_s, links=links, every_s=0.25)
            for values in (scale.large_values, 100_000)
        )
        peaks = {part: peak - small.watch.peak_rss.get(part, 0.0) for part, peak in large.watch.peak_rss.items()}
        return {"large_s": large.round_s, "large_growth_mb": peaks}


TURNS: dict[str, Callable[[Tree, Scale], dict[str, float]]] = {
    "unshaped": Tree.unshaped,
    "link": Tree.link,
    "broken": Tree.broken,
    "beside": Tree.beside,
}
ONCE: dict[str, Callable[[Tree, Scale], dict[str, Any]]] = {"many": Tree.many, "large": Tree.large}


def measured(scale: Scale, ours: Tree, theirs: Tree, quiet: Quiet) -> dict[str, Any]:
    """Everything, turn by turn."""
    found: dict[str, Any] = {}
    for part, measure in (TURNS | ONCE).items():
        pairs = []
        for turn in range(scale.turns if part in TURNS else 1):
            with quiet.during(f"{part}, turn {turn + 1}"):
                pairs.append((measure(theirs, scale), measure(ours, scale)))
            print(f"{part}: ours {pairs[-1][1]}, theirs {pairs[-1][0]}", file=sys.stderr, flush=True)
        for key in pairs[0][0]:
            found[key] = _compared([before[key] for before, _ in pairs], [now[key] for _, now in pairs])
    return {**found, **quiet.told()}


def _compared(theirs: list[Any], ours: list[Any]) -> dict[str, Any]:
    """Medians, and the median of the turns' ratios."""
    if isinstance(ours[0], dict):
        shown = [{part: round(value, 1) for part, value in each[0].items()} for each in (ours, theirs)]
        return {"ours": shown[0], "theirs": shown[1]}
    ratios = [now / before for now, before in zip(ours, theirs, strict=True) if before]
    return {
        "ours": round(statistics.median(ours), 5),
        "theirs": round(statistics.median(theirs), 5),
        "ratio": round(statistics.median(ratios), 3) if ratios else None,
    }


@contextmanager
def checked_out(revision: str, directory: Path) -> Iterator[Path]:
    """A tree of the revision, beside this one."""
    tree = directory / "theirs"
    command = ["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(tree), revision]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    try:
        yield tree
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Transports of federated messages; see the top of this file.")
    parser.add_argument("--against", default=OVER_MQTT, metavar="REVISION", help="what this tree is held against")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="next to nothing, to see that it runs")
    add_anyway(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgebench-transport-") as folder:
        directory = Path(folder)
        with checked_out(args.against, directory) as tree:
            ours, theirs = Tree(ROOT, directory / "a"), Tree(tree, directory / "b")
            figures = measured(QUICK if args.quick else FULL, ours, theirs, Quiet(anyway=args.anyway))
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for key, value in figures.items():
        print(f"{key:18} {json.dumps(value)}")


if __name__ == "__main__":
    main()
