"""What a run says of itself when other work disturbs it, and when other work only fills idle cores.

    python benchmarks/disturbance.py [--json] [--quick]

One small ward (8 devices on 2 edges over emulated links, 3 workloads, 48 samples/s, a model that costs nothing) is run
four times, beside nothing, beside work that fills idle cores, and beside work that takes the run's turn:

undisturbed: beside nothing.
idle_nice: beside 4 busy loops at nice 19, all through the run.
idle_loops: beside 4 busy loops of one session, all through the run. (Linux shares the processor among sessions first.)
disturbed: beside 24 busy loops, each in a session of its own, from the middle of the streams to their end.

Nothing else should run on the machine: what does is foreign work, too. Only the processes started here are ended.
`--quick` streams for a few seconds, to see that it runs; its verdicts mean little.

Keys of the printed object; each of the four has:

valid, reasons, kinds: the verdict.
disturbed_share: of the time in which samples were due, in disturbed seconds; spans: these, s from the start of the
    streams.
workloads: by name, `all` and `undisturbed`: `n`, `p50`, `p99` (ms), `throughput_hz` of all samples, and of those that
    no disturbed second touched; undisturbed is null where no second was disturbed.
mean_late_ms, most_late_ms, most_hiccup_ms, busy, full, foreign, stolen, pressure: as in result.json.
load_from_s: when the busy loops had been started, s from the first samples that were written down; null for those that
    were there before.

duration_s, loops, host: what was done, and where.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebench.clock import now_s, sleep_s
from edgebench.fabric.records import SampleRows
from edgebench.fabric.spool import read_spool

DURATION_S, QUICK_S = 40.0, 4.0
PATIENCE_S = 300.0
FILLING, TAKING = 4, 24
BUSY = "while True: pass  # beside a run"

TOPOLOGY = """\
schema: 1
name: disturbance
seed: 7
duration_s: {duration_s}
nodes:
  cloud: {{tier: cloud}}
  ward:  {{tier: edge, count: 2, parent: cloud}}
  bed:   {{tier: device, count: 8, parent: ward}}
links:
  - {{between: [bed, ward], latency_ms: 2, jitter_ms: 0.5, rate_mbit_s: 40}}
workloads:
  death-risk: {{task: icu-death, source: bed, load: {{kind: poisson, rate_hz: 2}}, {model}}}
  decompensation: {{task: icu-decompensation, source: bed, load: {{kind: fixed, rate_hz: 2}}, {model}}}
  heart-failure: {{task: icu-heart-failure, source: bed, load: {{kind: poisson, rate_hz: 2}}, {model}}}
"""


@dataclass(frozen=True)
class Load:
    """Busy loops beside a run. own_sessions: each in a session of its own. from_middle: or all through the run."""

    loops: int = 0
    nice: int = 0
    own_sessions: bool = False
    from_middle: bool = False


LOADS = {
    "undisturbed": Load(),
    "idle_nice": Load(FILLING, nice=19),
    "idle_loops": Load(FILLING),
    "disturbed": Load(TAKING, own_sessions=True, from_middle=True),
}


def measured(names: list[str], duration_s: float) -> dict[str, Any]:
    """These runs, one after the other."""
    figures: dict[str, Any] = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="edgebench-disturbance-") as folder:
            figures[name] = _run(Path(folder), LOADS[name], duration_s)
        print(f"{name}: {'valid' if figures[name]['valid'] else 'invalid'}", file=sys.stderr, flush=True)
    return figures | {
        "duration_s": duration_s,
        "loops": {name: LOADS[name].loops for name in names},
        "host": {"cores": os.cpu_count(), "load_after": round(os.getloadavg()[0], 2)},
    }


def _run(folder: Path, load: Load, duration_s: float) -> dict[str, Any]:
    file, out = folder / "topology.yaml", folder / "runs"
    file.write_text(TOPOLOGY.format(duration_s=duration_s, model="model: {runtime: fake}"))
    command = [sys.executable, "-m", "edgebench.cli", "run", str(file), "--out", str(out), "--json"]
    from_s = None
    with _busy(load if not load.from_middle else Load()), (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        try:
            began_s = _wait_for_rows(process, out)
            if load.from_middle:
                sleep_s(duration_s / 2)
                with _busy(load):
                    from_s = round(now_s() - began_s, 1)
                    sleep_s(duration_s / 2)
            output, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if not output:
        raise SystemExit(f"no result of {' '.join(command)}: {(folder / 'log').read_text(errors='replace')}")
    return _told(json.loads(output)) | {"load_from_s": from_s}


@contextmanager
def _busy(load: Load) -> Iterator[None]:
    """That many busy loops, for as long as this lasts."""
    command = ["nice", "-n", str(load.nice)] if load.nice else []
    command += [sys.executable, "-I", "-S", "-c", BUSY]
    loops = []
    try:
        for _ in range(load.loops):
            loops.append(subprocess.Popen(command, start_new_session=load.own_sessions))  # noqa: PERF401 each counts
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


def _wait_for_rows(process: subprocess.Popen[bytes], out: Path) -> float:
    """When the first samples were written down."""
    until_s = now_s() + PATIENCE_S
    while now_s() < until_s and process.poll() is None:
        for path in out.glob("*/work/bed-*/records.spool"):
            if any(isinstance(entry, SampleRows) and entry.rows for entry in read_spool(path)):
                return now_s()
        sleep_s(0.1)
    raise SystemExit("the streams did not begin")


def _told(result: dict[str, Any]) -> dict[str, Any]:
    disturbance, use = result["disturbance"], result["host_use"]
    return {
        **result["verdict"],
        "disturbed_share": disturbance["share"],
        "spans": disturbance["spans"],
        "workloads": {name: _both(figures) for name, figures in result["workloads"].items()},
        **{key: disturbance[key] for key in ("mean_late_ms", "most_late_ms", "most_hiccup_ms")},
        **{key: use[key] for key in ("busy", "full", "foreign", "stolen", "pressure")},
    }


def _both(figures: dict[str, Any]) -> dict[str, Any]:
    latency, alone = figures["latency_ms"], figures["undisturbed"]
    found = {key: latency[key] for key in ("p50", "p99")}
    return {"all": {"n": figures["decided"], **found, "throughput_hz": figures["throughput_hz"]}, "undisturbed": alone}


def _lines(name: str, figures: dict[str, Any]) -> Iterator[str]:
    """For a person."""
    verdict = "valid" if figures["valid"] else "invalid"
    late = f"timers {figures['mean_late_ms']:.2f} ms late, {figures['most_late_ms']:.2f} in the worst second"
    yield f"{name}: {verdict}, {figures['disturbed_share']:.0%} disturbed; {late}; foreign {figures['foreign']:.0%}"
    for workload, found in figures["workloads"].items():
        alone = found["undisturbed"] or {}
        pairs = (f"{key} {found['all'][key]:.1f} / {alone.get(key) or math.nan:.1f}" for key in found["all"])
        yield f"  {workload:15} all / undisturbed: {', '.join(pairs)}"
    yield from (f"  {reason}" for reason in figures["reasons"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="A run beside other work; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a few seconds each, to see that it runs")
    parser.add_argument("--only", choices=list(LOADS), help="one of the runs only")
    args = parser.parse_args()
    figures = measured([args.only] if args.only else list(LOADS), QUICK_S if args.quick else DURATION_S)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name in [name for name in LOADS if name in figures]:
        print("\n".join(_lines(name, figures[name])))


if __name__ == "__main__":
    main()
