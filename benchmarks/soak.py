"""An hour in which things go wrong: does anything grow, and do the records agree with what the devices counted?

    python benchmarks/soak.py [--minutes 60] [--topology city] [--seed N] [--out DIR] [--json]

`edgebench run` of a topology that ships, with chaos: its nodes and brokers are killed and started again, devices and
edges stand still, and links are cut and degraded, by the seed. `durability: process` promises that no accepted sample
is lost. Meanwhile every process of the run, the command included, is looked at every few seconds from outside, from the
first sample on: until then first models are trained, which takes an idle machine some minutes, and a busy one as long
as it takes (what a run before has trained in the same --out is not trained again). The exit status is 1 where anything
has grown, counts differ, or a sample was lost; of a run that says that it is invalid for another reason, as a busy
machine's, these still hold.

A figure's growth is a slope over time: Sen's, the median over all pairs of moments of one life of a process, with all
its lives pooled, and the 95 % interval of the seasonal Kendall test (Hirsch et al. 1982), each life a season. The first
minute of a life is left out (a tenth of the time where that is less), and moments are medians of some seconds, since
neighbours are not independent. What lies above `TOLERANCES` with its whole interval has grown; memory has not where the
later halves of the lives do not lie above: what is made once (for a first fault, or as a table comes to its size) is
mostly over by then, and a few steps in lives of some minutes are as steep as any leak. One thing is to grow: who
decides keeps the last answers in a file, up to 16 MB (some hours of `city`), and where in the file each is in memory.
What its answers take so is taken off the slope of its memory before that is judged.

Keys of the printed object:

minutes, seed, run, valid, reasons: what was run, and its verdict. watched_minutes: how long it was looked at.
faults: how often each kind happened. recovery_s: the median and the longest time from the end of a fault to the first
    decision that then reached a device which it concerned; null of none.
processes: by part, `lives` (how often it was started), `samples` (how many moments of its lives count), and of
    `memory_mb` (its own, not shared with others), `descriptors`, `threads` and `files` (in the folder that it works in)
    each the `last` value that was seen, and the slope: `per_h`, `low`, `high` (an hour; null where too little was
    seen), and `late_low`, the `low` of the later half of each life; `answers_mb_per_h`, of that of memory: what its
    answers take.
grown: the parts and figures that have grown; empty where none has.
scheduled, decided, lost, missed: over all workloads, as the records have it (see docs/results.md).
differences: devices and workloads of which the records do not hold as many samples, or decisions, as the device itself
    has counted; empty where they agree. counts_agree: whether it is empty.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from edgebench.clock import now_s, sleep_s
from edgebench.fabric.records import SampleRows
from edgebench.fabric.spool import read_spool
from edgebench.results.rundir import RESULT, load_run, record_batches
from edgebench.topology import load, topology_file

FIGURES = ("memory_mb", "descriptors", "threads", "files")
TOLERANCES = {"memory_mb": 1.0, "descriptors": 0.5, "threads": 0.5, "files": 0.5}
"""By an hour."""
ANSWER_BYTES = 93
"""What a `Ledger` takes in memory for an answer, whatever its size (mean of 20,000, by tracemalloc, CPython 3.11)."""
LOOK_S = 5.0
MOMENTS = 120
"""How many of them the time is cut into."""
WARM_S = 60.0
_Z95 = 1.959964
_MB = 1e6

Moments = Sequence[tuple[float, float]]
"""Of one life of a process: time in h, and what was seen."""


def chaos_for(edges: Sequence[str], devices: Sequence[str]) -> list[dict[str, Any]]:
    """By the hour, on each: an edge is killed 3 times, a device 4 times, a broker twice."""
    links = [f"{edge} -> cloud" for edge in edges]
    return [
        {"kind": "restart", "nodes": list(edges), "rate_per_h": 3, "for_s": [1, 10]},
        {"kind": "restart", "nodes": list(devices), "rate_per_h": 4, "for_s": [1, 10]},
        {"kind": "restart", "brokers": ["cloud", *edges], "rate_per_h": 2, "for_s": [1, 5]},
        {"kind": "pause", "nodes": [*edges, *devices], "rate_per_h": 4, "for_s": [0.5, 5]},
        {"kind": "down", "links": links, "rate_per_h": 6, "for_s": [1, 20]},
        {"kind": "degrade", "links": links, "rate_per_h": 6, "for_s": [5, 30], "to": {"latency_ms": 200}},
    ]


@dataclass
class Life:
    """One process from its start to its end. seen: when, s, and the figures."""

    name: str
    folder: Path | None
    seen: list[tuple[float, dict[str, float]]] = field(default_factory=list)


class Watch:
    """Looks at all processes of a run."""

    def __init__(self, command: int, run_dir: Path) -> None:
        self._command = psutil.Process(command)
        self._run_dir = run_dir
        self.lives: dict[tuple[int, float], Life] = {}

    def look(self) -> None:
        """At each, once."""
        at_s = now_s()
        for process in [self._command, *self._command.children(recursive=True)]:
            try:
                key = process.pid, process.create_time()
                life = self.lives.get(key) or self._life(process)
                if life is not None:
                    life.seen.append((at_s, _figures_of(process, life.folder)))
                    self.lives[key] = life
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it has ended meanwhile

    def _life(self, process: psutil.Process) -> Life | None:
        if process.pid == self._command.pid:
            return Life("edgebench run", self._run_dir)
        words = process.cmdline()
        if "-m" in words:
            module = words[words.index("-m") + 1]
            node = words[words.index("--node") + 1] if "--node" in words else None
            place = module if module == "cloud" else node
            folder = None if place is None else self._run_dir / "work" / place
            return Life(module if node is None else f"{module} {node}", folder)
        broker = next((Path(word).stem for word in words if word.endswith(".conf")), None)
        return None if broker is None else Life(broker, self._run_dir / "work" / broker)


def _figures_of(process: psutil.Process, folder: Path | None) -> dict[str, float]:
    memory = process.memory_full_info()
    return {
        "memory_mb": getattr(memory, "uss", memory.rss) / _MB,
        "descriptors": float(process.num_fds()),
        "threads": float(process.num_threads()),
        "files": 0.0 if folder is None else float(sum(len(files) for _, _, files in os.walk(folder))),
    }


def slope(lives: Sequence[Moments]) -> tuple[float, float, float] | None:
    """Sen's slope over the moments of each life, and its 95 % interval; None where there are too few.

    >>> slope([[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0), (3.0, 11.0), (4.0, 13.0)]])
    (2.0, 2.0, 2.0)
    """
    slopes, variance = [], 0.0
    for moments in lives:
        at, seen = np.array(moments, float).reshape(-1, 2).T
        first, second = np.triu_indices(len(at), 1)
        slopes.append((seen[second] - seen[first]) / (at[second] - at[first]))
        n = len(at)
        variance += n * (n - 1) * (2 * n + 5) / 18
    pooled = np.sort(np.concatenate(slopes)) if slopes else np.zeros(0)
    if len(pooled) < 10:
        return None
    half = _Z95 * math.sqrt(variance)
    low = max(0, math.floor((len(pooled) - half) / 2))
    high = min(len(pooled) - 1, math.ceil((len(pooled) + half) / 2))
    return float(np.median(pooled)), float(pooled[low]), float(pooled[high])


def moments_of(life: Life, figure: str, warm_s: float, width_s: float) -> Moments:
    """Medians of so many seconds each, once a life is warm."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for at_s, seen in life.seen:
        if at_s - life.seen[0][0] >= warm_s:
            bins.setdefault(int(at_s / width_s), []).append((at_s / 3_600, seen[figure]))
    return [(median(at for at, _ in those), median(value for _, value in those)) for those in bins.values()]


def grown_in(lives: Sequence[Life], total_s: float) -> dict[str, dict[str, Any]]:
    """The figures of each part."""
    warm_s, width_s = min(WARM_S, total_s / 10), max(LOOK_S, total_s / MOMENTS)
    by_name: dict[str, list[Life]] = {}
    for life in lives:
        by_name.setdefault(life.name, []).append(life)
    found: dict[str, dict[str, Any]] = {}
    for name, those in sorted(by_name.items()):
        entry: dict[str, Any] = {"lives": len(those), "samples": 0}
        for figure in FIGURES:
            moments = [moments_of(life, figure, warm_s, width_s) for life in those]
            entry["samples"] = sum(map(len, moments))
            per_h, low, high = _rounded(slope(moments))
            _, late_low, _ = _rounded(slope([of_life[len(of_life) // 2 :] for of_life in moments]))
            last = round(those[-1].seen[-1][1][figure], 3)
            entry[figure] = {"last": last, "per_h": per_h, "low": low, "high": high, "late_low": late_low}
        found[name] = entry
    return found


def _rounded(slopes: tuple[float, float, float] | None) -> tuple[float | None, float | None, float | None]:
    if slopes is None:
        return None, None, None
    per_h, low, high = slopes
    return round(per_h, 3), round(low, 3), round(high, 3)


def has_grown(entry: dict[str, Any], figure: str) -> bool:
    """Whether a figure of a part has, of what `grown_in` has found and `answers_mb_per_h`."""
    of_memory = figure == "memory_mb"
    allowed = TOLERANCES[figure] + (entry["answers_mb_per_h"] if of_memory else 0.0)
    lows = [entry[figure]["low"], entry[figure]["late_low"] if of_memory else None]
    return lows[0] is not None and all(low is None or low > allowed for low in lows)


def differences_of(run_dir: Path) -> list[str]:
    """Where records and the devices' own counts disagree."""
    run = load_run(run_dir)
    rows: Counter[tuple[str, str]] = Counter()
    decided: Counter[tuple[str, str]] = Counter()
    for batch in record_batches(run.path, ("node", "workload", "arrived_ns")):
        of = list(zip(batch["node"].to_pylist(), batch["workload"].to_pylist(), strict=True))
        rows.update(of)
        decided.update(key for key, at_ns in zip(of, batch["arrived_ns"].to_pylist(), strict=True) if at_ns is not None)
    found = []
    for device in run.deployment.of_tier("device"):
        for workload, tally in run.observations.tallies.get(device.name, {}).items():
            key = device.name, workload
            for what, counted, recorded in (
                ("samples", tally.scheduled, rows[key]),
                ("decisions", tally.decided, decided[key]),
            ):
                if counted != recorded:
                    found.append(f"{device.name}, {workload}: it counted {counted} {what}, the records hold {recorded}")
    return found


def answers_by(run_dir: Path) -> Counter[str]:
    """How many answers each node has kept: the cloud those that it made, an edge those that went by it."""
    run = load_run(run_dir)
    nodes, kept = run.deployment.nodes, Counter[str]()
    for batch in record_batches(run.path, ("node", "decider")):
        for device, decider in zip(batch["node"].to_pylist(), batch["decider"].to_pylist(), strict=True):
            if decider in (None, "", device):
                continue
            kept.update({decider, nodes[device].sites[0]})
    return kept


def soaked(topology: str, minutes: float, seed: int, out: Path) -> dict[str, Any]:
    """Run it, and look."""
    nodes = load(topology_file(topology)).nodes
    edges = [name for name, group in nodes.items() if group.tier == "edge"]
    devices = [name for name, group in nodes.items() if group.tier == "device"]
    settings = {
        "duration_s": minutes * 60,
        "seed": seed,
        "durability": "process",
        "chaos": chaos_for(edges, devices),
    }
    command = [sys.executable, "-m", "edgebench.cli", "run", topology, "--out", str(out)]
    for name, value in settings.items():
        command += ["--set", f"{name}={json.dumps(value)}"]
    log, before = out / "soak.log", set(out.iterdir())
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        run_dir = _streaming(process, out, log, before)
        watch, began_s = Watch(process.pid, run_dir), now_s()
        while process.poll() is None and now_s() < began_s + minutes * 60:
            watch.look()
            sleep_s(LOOK_S)
        watched_s = now_s() - began_s
        process.wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if process.poll() is None:
            process.terminate()
            process.wait()
    if not (run_dir / RESULT).exists():
        raise SystemExit(f"the run has left no result: {_last_of(log)}")
    return _told(run_dir, list(watch.lives.values()), watched_s, minutes, seed)


def _streaming(process: subprocess.Popen[bytes], out: Path, log: Path, before: Collection[Path]) -> Path:
    """The run's folder, once its first samples are written down. before: what was there when it began."""
    said = ""
    while process.poll() is None:
        if (says := log.read_text(errors="replace").rstrip().rpartition("\n")[2]) != said:
            said = says
            print(said, file=sys.stderr, flush=True)
        for path in out.glob("*/work/*/records.spool"):
            run_dir = path.parents[2]
            if run_dir not in before and any(isinstance(each, SampleRows) and each.rows for each in read_spool(path)):
                return run_dir
        sleep_s(1.0)
    raise SystemExit(f"the run ended before its streams began: {_last_of(log)}")


def _last_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _told(run_dir: Path, lives: list[Life], watched_s: float, minutes: float, seed: int) -> dict[str, Any]:
    result = json.loads((run_dir / RESULT).read_text())
    processes = grown_in(lives, watched_s)
    answers = answers_by(run_dir)
    for name, entry in processes.items():
        node = name.rpartition(" ")[2]
        entry["answers_mb_per_h"] = round(answers[node] * ANSWER_BYTES / _MB / (minutes / 60), 3)
    happened = [fault for fault in result["faults"] if fault["at_s"] is not None]
    recovered = [fault["recovery_s"] for fault in happened if fault["recovery_s"] is not None]
    workloads, differences = result["workloads"].values(), differences_of(run_dir)
    return {
        "minutes": minutes,
        "watched_minutes": round(watched_s / 60, 2),
        "seed": seed,
        "run": str(run_dir),
        "valid": result["verdict"]["valid"],
        "reasons": result["verdict"]["reasons"],
        "faults": dict(sorted(Counter(fault["kind"] for fault in happened).items())),
        "recovery_s": {"median": median(recovered), "most": max(recovered)} if recovered else None,
        "processes": processes,
        "grown": [
            f"{name}: {figure}"
            for name, entry in processes.items()
            for figure in TOLERANCES
            if has_grown(entry, figure)
        ],
        **{key: sum(each[key] for each in workloads) for key in ("scheduled", "decided", "lost", "missed")},
        "differences": differences,
        "counts_agree": not differences,
    }


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    """For a person."""
    verdict = "valid" if figures["valid"] else "invalid"
    yield f"{figures['minutes']:g} minutes, seed {figures['seed']}: {verdict}; faults: {figures['faults']}"
    yield (
        f"{figures['decided']:,} of {figures['scheduled']:,} samples decided, {figures['lost']:,} lost, "
        f"{figures['missed']:,} missed; records and devices' counts {'agree' if figures['counts_agree'] else 'differ'}"
    )
    for name, entry in figures["processes"].items():
        slopes = "; ".join(f"{figure} {_slope_of(entry[figure])}" for figure in FIGURES)
        yield f"{name} ({entry['lives']} lives): {slopes} an hour"
    yield f"grown: {', '.join(figures['grown']) or 'nothing'}"
    yield from figures["differences"]


def _slope_of(entry: dict[str, Any]) -> str:
    return "?" if entry["per_h"] is None else f"{entry['per_h']:+.2f} [{entry['low']:+.2f}, {entry['high']:+.2f}]"


def main() -> int:
    """Measure and print; exit status 1 where something has grown, counts differ, or a sample was lost."""
    parser = argparse.ArgumentParser(description="A long run with faults; see the top of this file.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--topology", default="city", help="one that ships, or a file (default: city)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="where the run's folder is kept (default: nowhere)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and the run ends with it
    with tempfile.TemporaryDirectory() as passing:
        out = args.out or Path(passing)
        out.mkdir(parents=True, exist_ok=True)
        figures = soaked(args.topology, args.minutes, args.seed, out)
    print(json.dumps(figures, indent=2) if args.json else "\n".join(_lines(figures)))
    return 1 if figures["grown"] or figures["differences"] or figures["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
