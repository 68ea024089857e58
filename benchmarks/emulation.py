"""Nodes that are emulated by a profile, held against the machine that was profiled: an independent slow one.

    python benchmarks/emulation.py [--json] [--quick] [--anyway] [--task TASK]… [--samples N] [--max-batch N]
        [--work DIR] [--minutes M]

The machine is a Debian of 64-bit Arm under qemu's user mode, with the project's base install, some hundreds of times
slower than this computer. qemu alone is as fast as the processor below it happens to be; so a plugin of qemu holds
Python and the broker there to a fixed time for each instruction (see `tests/lab_kit/paced_boards.py`), and counts where
this computer did not keep up. It is profiled by `edgebench profile`, in a run of its own; but for the number of its
cores, of which such a machine has more than it says (see there). Then, task by task, an edge
decides what a device sends it by the same trace, in a lab: on that machine (three runs), and on one that is as fast as
this computer, emulated by the profile. The trace holds Poisson arrivals at 20, 50 and 80 % of what the machine
can decide one by one (by the profile's means: inference and the answer), one after another with a pause between them.
The device, the cloud and the links are this computer's in both.

Then as many emulated devices at once as this computer holds, each deciding for itself at 20 % of its capacity what
takes that machine longest of these tasks.

It needs root's rights (namespaces), and a root of the emulated machine, which is made once and kept (see
`tests/lab_kit/boards.py`). `--quick` takes few samples, one task and one run, to see that it works. `--max-batch` has
edges decide no more samples together, and the machine be profiled for no more: a network of which 32 take it minutes
cannot be profiled otherwise. `--work` keeps what
was found there, piece by piece (the profile, a run), and goes on with what was found of the same tasks and samples on a
machine that is paced alike. `--minutes` begins no other piece after that long, says what is left, and ends with status
3: the same line again goes on.

Where this computer did not keep up, or a run is invalid, an error is null, and `not_told` has the reason. It has kept
up where, at every load of which the error is, the slow machine lost no more than `LOST_LIMIT`, and what it did was late
by no more than `LATE_LIMIT` of the mean latency, and while it was profiled it typically lost no more than `LOST_LIMIT`,
too.

Keys of the printed object:

mean_error, p50_error, p99_error: of the latency, from a sample's being due to its decision: the worst over tasks at 20
    and 50 % load, emulated less real over real (of three runs: the mean of the figure), as a share.
mean_error_80, p99_error_80: likewise at 80 % load.
real_spread: the worst over tasks, at 20 and 50 %, of how far the means of the three real runs lie apart, over their
    mean; p99_spread: of their p99. spread_80, p99_spread_80: likewise.
not_told: by error that is null: why.
invalid: by run that is invalid: the reasons of its verdict.
lost: what the slow machine lost at a load of a run where this computer did not keep up with it, as a share of the time
    that its instructions should have taken. waited: likewise, how long its threads waited for a core when they should
    have gone on; they may have caught up. late_ms: how late an instruction's effect was, on average: at the next call
    of the system (to send something is one). most_late_ms: no such call was later. Each the worst.
by_profile: all four while it was profiled, each the median of windows of 5 s: while a process starts, code runs for the
    first time and is translated, which is lost, and not measured.
nodes_at_once: the most emulated devices at once, of those that were tried, whose releases were as punctual as a verdict
    asks, and of whose first ten the mean latency is within 1 % of that in a run of these ten alone; 0: not even the
    fewest.
at_once: by number of devices: `task`, `late_share`, `mean_slip_ms`, `mean_error`, `busy` (of this computer's cores).
tasks: by task, and load (`20`, `50`, `80`): `n`, `rate_hz`, `real` (a list) and `emulated`: `mean`, `p50`, `p99`
    (ms), and `hops`: the mean of each hop that is not 0; of a real run also `pace`: `lost` and so on there.
profile: `infer_ms` by task: mean and p99 of a single sample; `messages`: medians by qos and size, ms. board: what it
    is. minutes: that its pieces took; older: those found with another state of the code, with --work, that stand.
disturbed, watched: how busy others kept this computer meanwhile; see `quiet.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from benchmarks.pieces import Pieces, add_pieces, work_of
from benchmarks.quiet import Quiet, add_anyway
from edgebench.clock import now_s
from edgebench.experiments.profiling.kit import Kit, Wanted
from edgebench.lab.wheel import code_digest
from edgebench.results.chunks import HOPS
from edgebench.results.rundir import read_records
from edgebench.seeds import rng_for
from edgebench.topology.profile_files import read_profile, written
from edgebench.topology.profiles import ModelKey, Profile
from tests.lab_kit.boards import HOME, build_wheel, digest, equipped, installed
from tests.lab_kit.labs import Lab
from tests.lab_kit.machines import Disk, Machine, Task, network
from tests.lab_kit.paced_boards import CORES, Pace, pace_of, paced, pacing_digest

TASKS = ("icu-death", "sign-recognition", "face-recognition", "action-recognition", "person-reid")
LOADS = (20, 50, 80)
BOARD = "bookworm-arm64"
REAL_RUNS = 3
SAMPLES, QUICK_SAMPLES = 500, 40
LEAD_S, PAUSE_S = 2.0, 3.0
AT_ONCE = (100, 150, 200)
AT_ONCE_S, QUICK_AT_ONCE_S = 30.0, 6.0
FEW = 10
SAME_MEAN = 0.01
BEGIN_S, RUN_S = 3600.0, 6 * 3600.0
LOOK_S = 0.5
LOST_LIMIT, LATE_LIMIT = 0.05, 0.01
"""A decision passes some five threads, each of which may be as late."""
LOOKS_A_WINDOW = 10
ERRORS = {
    "mean_error": ("mean", LOADS[:2]),
    "p50_error": ("p50", LOADS[:2]),
    "p99_error": ("p99", LOADS[:2]),
    "mean_error_80": ("mean", LOADS[2:]),
    "p99_error_80": ("p99", LOADS[2:]),
}
"""Of which figure, and at which loads."""
EDGEBENCH = (sys.executable, "-m", "edgebench.cli")

TOPOLOGY = """\
schema: 1
name: {name}
seed: 11
duration_s: {duration_s}
nodes:
  cloud: {{tier: cloud}}
  ward:  {{tier: edge, parent: cloud{profile}}}
  bed:   {{tier: device, parent: ward}}
workloads:
  watch: {{task: {task}, source: bed, load: {{kind: trace, file: {trace}}}{batch}}}
machines: {{ward: pi}}
"""

MANY = """\
schema: 1
name: at-once
seed: 11
duration_s: {duration_s}
nodes:
  cloud: {{tier: cloud}}
  ward:  {{tier: edge, parent: cloud}}
  bed:   {{tier: device, count: {count}, parent: ward, profile: {profile}}}
workloads:
  watch: {{task: {task}, source: bed, load: {{kind: poisson, rate_hz: {rate_hz}}}, place: {{infer: device}}}}
"""


def capacity_hz(profile: Profile, task: str) -> float:
    """How many single samples a second the edge's model can decide there, its answers included."""
    known = profile.model_times(ModelKey(task, "light", "litert", "float32"))
    if 1 not in known:
        raise SystemExit(f"{task}: the board's profile has no times of single samples (see above why)")
    infer = known[1]
    answer = profile.message_costs(1)[0].answer
    return 1e6 / (infer.mean_us + answer.mean_us)


class Segment:
    """Arrivals at one load, s from the start."""

    def __init__(self, load: int, rate_hz: float, begin_s: float, count: int) -> None:
        gaps = rng_for(11, "arrivals", str(load)).exponential(1 / rate_hz, count)
        self.load, self.rate_hz, self.begin_s = load, rate_hz, begin_s
        self.at_s = begin_s + np.cumsum(gaps)

    @property
    def end_s(self) -> float:
        """When the last has come, and what waits then is surely decided."""
        return float(self.at_s[-1]) + PAUSE_S


def segments_of(profile: Profile, task: str, samples: int) -> list[Segment]:
    """One after another."""
    found, begin_s = [], LEAD_S
    for load in LOADS:
        found.append(Segment(load, load / 100 * capacity_hz(profile, task), begin_s, samples))
        begin_s = found[-1].end_s
    return found


def write_topology(
    folder: Path, task: str, segments: list[Segment], *, profile: Path | None, max_batch: int | None
) -> str:
    """The topology of a task; its trace goes into the folder."""
    trace = folder / f"{task}.trace"
    trace.write_text("".join(f"{at_s:.6f}\n" for segment in segments for at_s in segment.at_s))
    return TOPOLOGY.format(
        name=f"emulation-{task}",
        duration_s=round(segments[-1].end_s, 1),
        task=task,
        trace=trace,
        profile="" if profile is None else f", profile: {profile}",
        batch="" if max_batch is None else f", batch: {{max_batch: {max_batch}}}",
    )


def figures_of(run_dir: Path, segments: list[Segment]) -> dict[str, Any]:
    """By load, from the records of a run."""
    rows = {name: np.array(column, np.float64) for name, column in _stamps(run_dir).items()}
    due_s = (rows["scheduled_ns"] - _start_ns(run_dir)) / 1e9
    found = {}
    begin_s = 0.0
    for segment in segments:
        among = (due_s >= begin_s) & (due_s < segment.end_s)
        begin_s = segment.end_s
        of_it = {name: column[among] for name, column in rows.items()}
        latency_ms = (of_it["arrived_ns"] - of_it["scheduled_ns"]) / 1e6
        stamps = ("scheduled_ns", "sent_ns", "received_ns", "ready_ns", "started_ns", "finished_ns", "arrived_ns")
        hops = ("sense", "uplink", "decode", "queue", "infer", "downlink")
        assert set(hops) <= set(HOPS)
        found[str(segment.load)] = {
            "n": len(latency_ms),
            "mean": float(np.mean(latency_ms)),
            "p50": float(np.percentile(latency_ms, 50)),
            "p99": float(np.percentile(latency_ms, 99)),
            "hops": {
                hop: round(float(np.mean(of_it[after] - of_it[before])) / 1e6, 3)
                for hop, (before, after) in zip(hops, pairwise(stamps), strict=True)
            },
            "batch": float(np.mean(of_it["batch"])),
        }
    return found


def paces_of(seen: list[tuple[float, Pace]], start_s: float, segments: list[Segment]) -> dict[str, Pace]:
    """By load. seen: how a board had kept up at some times; start_s: of the run, by the same clock."""
    found = {}
    for segment in segments:
        within = [pace for at_s, pace in seen if segment.begin_s <= at_s - start_s <= segment.end_s]
        found[str(segment.load)] = within[-1].since(within[0])
    return found


def typical_of(seen: list[tuple[float, Pace]]) -> dict[str, float]:
    """The medians of windows, as `Pace.told`. seen: how a board had kept up, look by look."""
    windows = [after.since(before) for (_, before), (_, after) in pairwise(seen[::LOOKS_A_WINDOW])]
    told = [window.told() for window in windows if window.executed_s > 0 and sum(window.late_by) > 0]
    return {name: statistics.median(each[name] for each in told) for name in told[0]}


def _stamps(run_dir: Path) -> dict[str, list[Any]]:
    wanted = ("scheduled_ns", "sent_ns", "received_ns", "ready_ns", "started_ns", "finished_ns", "arrived_ns", "batch")
    rows = read_records(run_dir).to_pydict()
    lost = sum(each is None for each in rows["arrived_ns"])
    if lost:
        raise SystemExit(f"{run_dir}: {lost} samples were lost, so its figures say nothing")
    return {name: rows[name] for name in wanted}


def _start_ns(run_dir: Path) -> int:
    started = json.loads((run_dir / "observations.json").read_text())["started_ns"]
    assert isinstance(started, int)
    return started


def board_key(pacing: str, tasks: tuple[str, ...], *, quick: bool, max_batch: int | None = None) -> str:
    """A short name for a paced board and how it is profiled. Arrivals are by the profile, so all depends on that."""
    most = () if max_batch is None else (f"batches of {max_batch}",)
    return digest(pacing, "quick" if quick else "thorough", *most, *tasks)


class Bench:
    """Where all of it goes on. work: what was found there before is not found again, unless it was something else."""

    def __init__(
        self,
        work: Path,
        pieces: Pieces,
        tasks: tuple[str, ...],
        samples: int,
        runs: int,
        *,
        quick: bool,
        max_batch: int | None,
    ) -> None:
        self.work = work
        self.pieces = pieces
        self.tasks = tasks
        self.samples = samples
        self.runs = runs
        self.quick = quick
        self.max_batch = max_batch
        self.board = f"board {board_key(pacing_digest(), tasks, quick=quick, max_batch=max_batch)}"
        self.profile_file = work / f"{self.board}.json".replace(" ", "-")
        self.by_profile: dict[str, float] = {}
        self.invalid: dict[str, list[str]] = {}

    def layers(self) -> tuple[Path, ...]:
        """Of the paced board, with the project installed as it is now: a lab takes no other."""
        layer = self.work / f"layer-{code_digest()[:12]}"
        if not layer.exists():
            unfinished = self.work / "layer.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            with tempfile.TemporaryDirectory() as folder:
                installed(BOARD, build_wheel(Path(folder)), unfinished)
            (unfinished / "written").rename(layer)
        return paced(BOARD, (layer, *equipped(BOARD)))

    def profile(self) -> Profile:
        """Of the board, measured there."""
        piece = f"profile of {self.board}"
        self.pieces.find(piece, self._measure_board)
        self.by_profile = self.pieces.found(piece)
        return read_profile(self.profile_file)

    def _measure_board(self) -> dict[str, float]:
        kit = self.work / "kit"
        # Where TensorFlow is: as a user would, by profiling this computer.
        Kit(kit).complete(Wanted(self.tasks, ("light",), ("float32",), ()), _say)
        options = ["--size", "light", "--format", "float32", *(["--quick"] if self.quick else [])]
        options += [word for task in self.tasks for word in ("--task", task)]
        options += [] if self.max_batch is None else ["--max-batch", str(self.max_batch)]
        disk = Disk(self.layers(), self.work / "profiled")
        shutil.rmtree(disk.folder, ignore_errors=True)
        # Nothing learns here, and of all things that takes longest.
        shutil.copytree(kit, disk.written / "opt/kit", ignore=shutil.ignore_patterns("*-step"))
        machine = Machine("pi", disk=disk)
        machine.power_on()
        try:
            command = ("profile", *options, "--models", "/opt/kit", "--name", "board", "--out", "/root/board.json")
            profiling = machine.start(f"{HOME}/bin/edgebench", *command)
            said, seen = _watched(profiling, disk)
            _say(said)
            if profiling.popen.returncode != 0:
                raise SystemExit(f"{HOME}/bin/edgebench profile: exit status {profiling.popen.returncode}")
            measured_there = read_profile(disk.written / "root/board.json")
            self.profile_file.write_bytes(written(replace(measured_there, cores=CORES)))
        finally:
            machine.power_off()
        return typical_of(seen)

    def task(self, task: str, profile: Profile) -> dict[str, Any]:
        """Both sides of one task."""
        segments = segments_of(profile, task, self.samples)
        what = f"{task}, {self.samples} samples a load, {self.board}"
        emulated_pieces = [f"{what}, emulated"]
        pieces = [f"{what}, run {number}" for number in range(self.runs)]
        self._run_there(task, segments, emulated_pieces, profile=self.profile_file)
        self._run_there(task, segments, pieces, profile=None)
        found = {piece: self.pieces.found(piece) for piece in (*emulated_pieces, *pieces)}
        self.invalid |= {piece: each["invalid"] for piece, each in found.items() if each["invalid"]}
        emulated, *real = (each["loads"] for each in found.values())
        return {
            str(segment.load): {
                "n": self.samples,
                "rate_hz": round(segment.rate_hz, 3),
                "real": [each[str(segment.load)] for each in real],
                "emulated": emulated[str(segment.load)],
            }
            for segment in segments
        }

    def _ran(self, file: Path) -> tuple[dict[str, Any], Path]:
        """A run of this computer alone, whatever its verdict: the result and the run directory."""
        out = self.work / "runs"
        before = set(out.glob("*/deployment.json"))
        done = subprocess.run(
            [*EDGEBENCH, "run", str(file), "--out", str(out), "--json"], check=False, capture_output=True, text=True
        )
        if not done.stdout:
            raise SystemExit(f"{file}: {done.stderr}")
        result = json.loads(done.stdout)
        _say(f"{file.name}: {result['verdict']['reasons'] or 'valid'}")
        (new,) = set(out.glob("*/deployment.json")) - before
        return result, new.parent

    def _run_there(self, task: str, segments: list[Segment], pieces: list[str], *, profile: Path | None) -> None:
        """A run for each piece that is not kept, in a lab that the board has joined, or a machine emulated by it."""
        lacking = [piece for piece in pieces if not self.pieces.has(piece)]
        if not lacking:
            return
        self.pieces.begin(lacking[0])
        text = write_topology(self.work, task, segments, profile=profile, max_batch=self.max_batch)
        with tempfile.TemporaryDirectory(dir=self.work, prefix="lab-") as folder, network() as net:
            lab = Lab(net, Path(folder))
            if profile is None:
                machine = lab.board("pi", self.layers())
                lab.join(machine, "--as", "edge", program=(f"{HOME}/bin/edgebench",))
            else:
                machine = lab.machine("pi")
                lab.join(machine, "--as", "edge")
            for piece in lacking:
                self.pieces.find(piece, lambda: self._ran_there(lab, machine.disk, text, segments))

    @staticmethod
    def _ran_there(lab: Lab, disk: Disk | None, text: str, segments: list[Segment]) -> dict[str, Any]:
        running = lab.start_run(text)
        # From the first decision on: code that runs for the first time is translated, which takes its time.
        lab.until_streaming(running, 1, timeout_s=BEGIN_S)
        said, seen = _watched(running, disk)
        _, result, run_dir = lab.result(running, said)
        invalid = result["verdict"]["reasons"]
        _say(f"{run_dir.name}: {invalid or 'valid'}")
        loads = figures_of(run_dir, segments)
        if disk is not None:
            for load, pace in paces_of(seen, _start_ns(run_dir) / 1e9, segments).items():
                loads[load]["pace"] = pace.told()
        return {"invalid": invalid, "loads": loads}

    def at_once(self, profile: Profile) -> dict[str, Any]:
        """Ever more emulated devices."""
        counts = (FEW, *(AT_ONCE[:1] if self.quick else AT_ONCE))
        found = {}
        for count in counts:
            piece = f"{count} at once, {self.board}"
            self.pieces.find(piece, partial(self._at_once, profile, count))
            found[count] = self.pieces.found(piece)
        alone_ms = found[FEW]["mean_ms"]
        return {
            str(count): {**each, "mean_error": round(abs(each["mean_ms"] - alone_ms) / alone_ms, 5)}
            for count, each in found.items()
        }

    def _at_once(self, profile: Profile, count: int) -> dict[str, Any]:
        duration_s = QUICK_AT_ONCE_S if self.quick else AT_ONCE_S
        means_us = {
            task: profile.model_times(ModelKey(task, "light", "litert", "float32"))[1].mean_us for task in self.tasks
        }
        task = max(means_us, key=lambda each: means_us[each])
        rate_hz = 0.2e6 / means_us[task]
        file = self.work / f"at-once-{count}.yaml"
        file.write_text(
            MANY.format(
                duration_s=duration_s, count=count, profile=self.profile_file, task=task, rate_hz=f"{rate_hz:.6f}"
            )
        )
        result, run_dir = self._ran(file)
        releases = [each["emulated"] for each in result["nodes"].values() if each["emulated"] is not None]
        released = sum(each["released"] for each in releases)
        kinds = set(result["verdict"]["kinds"])
        return {
            "task": task,
            "mean_ms": round(_mean_of_few_ms(run_dir), 4),
            "late_share": round(sum(each["late"] for each in releases) / released, 5),
            "mean_slip_ms": round(sum(each["mean_slip_ms"] * each["released"] for each in releases) / released, 4),
            "busy": result["host_use"]["busy"],
            "punctual": not kinds & {"emulation", "load", "host"},
        }


def _watched(running: Task, disk: Disk | None) -> tuple[str, list[tuple[float, Pace]]]:
    """What a command says, when it has ended, and how a board kept up meanwhile."""
    seen: list[tuple[float, Pace]] = []
    until_s = now_s() + RUN_S
    while True:
        if disk is not None:
            seen.append((now_s(), pace_of(disk)))
        try:
            return running.popen.communicate(timeout=LOOK_S)[0], seen
        except subprocess.TimeoutExpired:
            if now_s() > until_s:
                raise


def _mean_of_few_ms(run_dir: Path) -> float:
    rows = read_records(run_dir).to_pydict()
    first = {f"bed-{number}" for number in range(FEW)}
    latency_ms = [
        (arrived - due) / 1e6
        for node, due, arrived in zip(rows["node"], rows["scheduled_ns"], rows["arrived_ns"], strict=True)
        if node in first and arrived is not None
    ]
    return statistics.fmean(latency_ms)


def measured(bench: Bench) -> dict[str, Any]:
    """Everything. Raises OutOfTimeError."""
    profile = bench.profile()
    tasks = {task: bench.task(task, profile) for task in bench.tasks}
    at_once = bench.at_once(profile)
    held = [
        int(count)
        for count, each in at_once.items()
        if int(count) > FEW and each["punctual"] and each["mean_error"] <= SAME_MEAN
    ]
    errors, not_told = errors_of(tasks, bench.invalid, bench.by_profile["lost"])
    low, high = _at(tasks, LOADS[:2]), _at(tasks, LOADS[2:])
    paces = [run["pace"] for each in (*low, *high) for run in each["real"]]
    return {
        **errors,
        "not_told": not_told,
        "invalid": bench.invalid,
        "real_spread": _spread(low, "mean"),
        "p99_spread": _spread(low, "p99"),
        "spread_80": _spread(high, "mean"),
        "p99_spread_80": _spread(high, "p99"),
        **{name: max(pace[name] for pace in paces) for name in bench.by_profile},
        "by_profile": bench.by_profile,
        "nodes_at_once": max(held, default=0),
        "at_once": at_once,
        "tasks": tasks,
        "profile": _told(profile, bench.tasks),
        "board": msgspec.to_builtins(profile.origin),
        **bench.pieces.told(),
    }


def errors_of(
    tasks: dict[str, Any], invalid: dict[str, list[str]], lost_by_profile: float
) -> tuple[dict[str, float | None], dict[str, str]]:
    """`ERRORS`, and why some are not told. tasks: as printed; invalid: runs, and why they are."""
    of_all = [f"{run}: invalid" for run in invalid]
    if lost_by_profile > LOST_LIMIT:
        of_all.append(f"profile: lost {lost_by_profile:.1%} (limit {LOST_LIMIT:.0%})")
    errors: dict[str, float | None] = {}
    not_told = {}
    for name, (figure, loads) in ERRORS.items():
        reasons = of_all + [
            f"{task}, {load} %, run {number}: {reason}"
            for task, by_load in tasks.items()
            for load in loads
            for number, run in enumerate(by_load[str(load)]["real"])
            for reason in _fell_behind(run)
        ]
        errors[name] = None if reasons else _worst(_at(tasks, loads), figure)
        if reasons:
            not_told[name] = "; ".join(reasons)
    return errors, not_told


def _fell_behind(run: dict[str, Any]) -> list[str]:
    """Where this computer did not keep up with the board at a load."""
    pace, late_limit_ms = run["pace"], LATE_LIMIT * run["mean"]
    reasons = []
    if pace["lost"] > LOST_LIMIT:
        reasons.append(f"lost {pace['lost']:.1%} (limit {LOST_LIMIT:.0%})")
    if pace["late_ms"] > late_limit_ms:
        reasons.append(f"late by {pace['late_ms']:.3f} ms (limit {late_limit_ms:.3f} ms)")
    return reasons


def _at(tasks: dict[str, Any], loads: tuple[int, ...]) -> list[dict[str, Any]]:
    return [by_load[str(load)] for by_load in tasks.values() for load in loads]


def _worst(found: list[dict[str, Any]], figure: str) -> float:
    errors = []
    for each in found:
        real = statistics.fmean(run[figure] for run in each["real"])
        errors.append(abs(each["emulated"][figure] - real) / real)
    return round(max(errors), 4)


def _spread(found: list[dict[str, Any]], figure: str) -> float:
    spreads = []
    for each in found:
        values = [run[figure] for run in each["real"]]
        spreads.append((max(values) - min(values)) / statistics.fmean(values))
    return round(max(spreads), 4)


def _told(profile: Profile, tasks: tuple[str, ...]) -> dict[str, Any]:
    infer = {}
    for task in tasks:
        times = profile.model_times(ModelKey(task, "light", "litert", "float32"))[1]
        infer[task] = {"mean": round(times.mean_us / 1e3, 3), "p99": round(float(np.percentile(times.us, 99)) / 1e3, 3)}
    messages = {
        f"qos {each.qos}, {each.size_bytes} bytes": {
            name: round(float(np.median(getattr(each, name).us)) / 1e3, 3)
            for name in ("relay", "receive", "send", "answer")
        }
        for each in profile.messages
    }
    return {"infer_ms": infer, "messages": messages, "kept": len(written(profile))}


def _by_reason(not_told: dict[str, str]) -> dict[str, str]:
    """Figures that are not told for the same reasons, together."""
    found: dict[str, list[str]] = {}
    for name, reasons in not_told.items():
        found.setdefault(reasons, []).append(name)
    return {reasons: ", ".join(names) for reasons, names in found.items()}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="Emulated nodes against a slow machine; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one task, few samples, to see that it works")
    parser.add_argument("--task", action="append", metavar="TASK", help=f"(default: {', '.join(TASKS)})")
    parser.add_argument("--samples", type=int, metavar="N", help=f"at each load ({SAMPLES})")
    parser.add_argument("--max-batch", type=int, metavar="N", help="that edges decide together (default: a topology's)")
    add_pieces(parser)
    add_anyway(parser)
    args = parser.parse_args()
    tasks = tuple(args.task or (TASKS[:1] if args.quick else TASKS))
    samples = args.samples or (QUICK_SAMPLES if args.quick else SAMPLES)
    with work_of(parser, args) as work:
        pieces = Pieces(work, Quiet(anyway=args.anyway), args.minutes)
        runs, how = 1 if args.quick else REAL_RUNS, {"quick": args.quick, "max_batch": args.max_batch}
        figures = measured(Bench(work, pieces, tasks, samples, runs, **how))
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for task, loads in figures["tasks"].items():
        for load, each in loads.items():
            real = {name: statistics.fmean(run[name] for run in each["real"]) for name in ("mean", "p50", "p99")}
            emulated = each["emulated"]
            told = all(figures[name] is not None for name, (_, of) in ERRORS.items() if int(load) in of)
            shown = ", ".join(
                f"{name} {real[name]:.2f} → {emulated[name]:.2f} ms"
                + (f" ({emulated[name] / real[name] - 1:+.1%})" if told else "")
                for name in real
            )
            print(f"{task:20} {load} %: {shown}")
    for name in ERRORS:
        print(f"{name:16} {'not told' if figures[name] is None else f'{figures[name]:.2%}'}")
    for reasons, names in _by_reason(figures["not_told"]).items():
        print(f"not told ({names}): {reasons}")
    for name in ("real_spread", "p99_spread", "spread_80", "p99_spread_80", "lost", "waited"):
        print(f"{name:16} {figures[name]:.2%}")
    print(f"late             {figures['late_ms']:.3f} ms, at most {figures['most_late_ms']:.1f}")
    print(f"lost by profile  {figures['by_profile']['lost']:.2%}")
    print(f"nodes_at_once    {figures['nodes_at_once']}")


if __name__ == "__main__":
    main()
