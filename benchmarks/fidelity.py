"""Simulations beside runs that took place on this machine: what was predicted of them, and what was measured.

    python benchmarks/fidelity.py [--json] [--quick] [--anyway] [--only NAME]… [--work DIR] [--minutes M]

Three topologies, in which the larger model of speech recognition decides for real: `hub`, where an edge decides sounds
one by one; `gates`, where the cloud decides those that two edges pass on across an uplink that they share; `studio`,
where an edge decides up to eight at once. Of each a short run tells what the model can decide. Then it runs at 20 % of
that, with one device that is decided elsewhere, and `studio` with some of it in bursts, so that all that its other runs
need is seen (which there makes it more than 20 %); at 50, 80 and 120 %; and at 50 % with all of it decided elsewhere.

A computer, a virtual machine above all, is not as fast in one minute as in the next. So all of these take turns, round
by round, each with arrivals of its own and in the other order than the round before, and once more at 20 % in the end.
What the runs of a round take is told by the two at 20 % before and behind it, as `edgebench fidelity` does it; so two
rounds share one of these. Of each figure that round is told in which the error is the middle one by size, whatever its
sign.

Some half an hour, and some more the first time, when the model is trained. `--quick` runs one round of a few seconds
each, to see that it works. `--work` keeps what was found there, piece by piece (a run), and goes on with it;
`--minutes` begins no other piece after that long, says what is left, and ends with status 3: the same line again goes
on.

Keys of the printed object:

mean_error, p99_error: of the latency, the worst of all loads of 50 and 80 % and of those elsewhere: by how much the
    prediction is off, as a share of what was measured.
own_mean_error, own_p99_error: likewise where the model takes what it took in the predicted run itself
    (`own_service_error` of `edgebench fidelity`): what is left when it was no faster or slower than in the runs that
    told. No prediction.
backlog_error: likewise of the samples without a decision when the streams ended, at 120 %.
formula_error, beside_formula_error: of the mean latency, the mean over all runs of which the two-moment formula says
    anything: how far off it is, and how far the prediction of the same runs.
worse_by: by how much at most the prediction of such a mean is farther off than the formula (below 0: nowhere).
formula_p99_error, beside_formula_p99_error, p99_worse_by: likewise of the p99.
missed, of: of how many of all these figures (mean and p99 at 50 and 80 % and elsewhere, backlog at 120 %) the error is
    beyond its limit (`LIMITS`), and how many there are.
runs: by topology and load (`50`, `80`, `120`, `elsewhere`): `rate_hz` of all devices, `valid` (all rounds), and
    `figures` as `edgebench fidelity` has them, by workload and figure, of the round in the middle: `measured`,
    `predicted`, `error`, `formula`, `formula_error`; besides, `errors` and `own_service_errors` by round, of which
    `own_service_error` is the middle one by size, and `spread`: how far the rounds' measurements, whose arrivals
    differ, lie apart, over their median (null of a single round).
capacity_hz: by topology, what the model can decide.
minutes: that its pieces took; older: those that were found with another state of the code, with --work, and stand.
disturbed, watched: how busy others kept this computer meanwhile; see `quiet.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import edgebench
from benchmarks.pieces import Pieces, add_pieces, work_of
from benchmarks.quiet import Quiet, add_anyway, awake
from edgebench.clock import NS_PER_S
from edgebench.errors import EdgebenchError
from edgebench.experiments.fidelity import Compared, RunFidelity
from edgebench.simulation.calibrating import service_times_of

Plan = dict[str, Any]

DURATION_S, PILOT_S, QUICK_S = 20.0, 10.0, 4.0
ROUNDS = 3
LOADS = (50, 80, 120)
CALIBRATING = 20
ELSEWHERE = "elsewhere"
ELSEWHERE_LOAD = 50
SEED, TELLING_SEED = 21, 121
"""Of the first round, and of what tells before it; of each later one it is one more."""
BURST_S, BURST = 0.5, 2
"""How often bursts come, and how many samples each device has in one."""
WORKLOAD: Plan = {
    "task": "speech-recognition",
    "model": {"size": "heavy"},
    "batch": {"max_batch": 1},
    "queue": {"max_samples": 100_000},
    "train": {"epochs": 1},
}
PILOT_HZ = 60.0
LIMITS = {"latency_ms.mean": 0.05, "latency_ms.p99": 0.15, "backlog": 0.10}
BESIDE = ("formula_error", "beside_formula_error", "worse_by")
P99_BESIDE = ("formula_p99_error", "beside_formula_p99_error", "p99_worse_by")
SHOWN = ("throughput_hz", "latency_ms.mean", "latency_ms.p50", "latency_ms.p99")
EDGEBENCH = (sys.executable, "-m", "edgebench.cli")


class Bench(NamedTuple):
    """A topology whose one workload is run at several loads, `here` or `there`.

    few: which devices are decided there in the run that tells what things take; bursts: whether that has some besides,
    so that full batches are seen."""

    nodes: Plan
    links: list[Plan]
    workload: Plan
    devices: int
    here: str
    there: str
    few: str
    bursts: bool = False

    def topology(self, name: str, rate_hz: float, duration_s: float, place: Any, seed: int = SEED) -> Plan:
        """As in a file. rate_hz: of all devices together."""
        each = {"kind": "poisson", "rate_hz": round(rate_hz / self.devices, 4)}
        return {
            "schema": 1,
            "name": f"fidelity-{name}",
            "seed": seed,
            "duration_s": duration_s,
            "nodes": self.nodes,
            "links": self.links,
            "workloads": {"watch": self.workload | {"load": each, "place": {"infer": place}}},
        }

    def telling(self, name: str, rate_hz: float, duration_s: float, trace: Path, seed: int = SEED) -> Plan:
        """The one that tells what things take."""
        in_bursts_hz = self.devices * BURST / BURST_S if self.bursts else 0.0
        place = {self.workload["source"]: self.here, self.few: self.there}
        made = self.topology(name, max(rate_hz - in_bursts_hz, rate_hz / 2), duration_s, place, seed)
        if self.bursts:
            times = (f"{(number + 0.5) * BURST_S:.3f}\n" for number in range(round(duration_s / BURST_S)))
            trace.write_text("".join(BURST * at for at in times))
            burst = {"load": {"kind": "trace", "file": str(trace)}, "place": {"infer": self.here}}
            made["workloads"]["bursts"] = self.workload | burst
        return made

    def capacity_hz(self, run_dir: Path) -> float:
        """How many samples a second its model can decide, batches full and answers included, by what a run tells."""
        times = service_times_of(run_dir)
        (model,) = times.infer
        most = max(times.infer[model])
        full = times.by_batch(model, most, at_once=True)[most]
        assert full is not None
        (answers,) = (values for cost, values in times.costs.items() if cost.step == "answer")
        return float(most * NS_PER_S / (full.mean() + most * answers.mean()))


BENCHES: Mapping[str, Bench] = {
    "hub": Bench(
        nodes={
            "cloud": {"tier": "cloud"},
            "hub": {"tier": "edge", "parent": "cloud"},
            "microphone": {"tier": "device", "count": 4, "parent": "hub"},
        },
        links=[
            {"between": ["microphone", "hub"], "latency_ms": 3, "jitter_ms": 1, "rate_mbit_s": 20},
            {"between": ["hub", "cloud"], "latency_ms": 15, "rate_mbit_s": 40},
        ],
        workload=WORKLOAD | {"source": "microphone"},
        devices=4,
        here="edge",
        there="cloud",
        few="microphone-0",
    ),
    "gates": Bench(
        nodes={
            "cloud": {"tier": "cloud"},
            "gate": {"tier": "edge", "count": 2, "parent": "cloud"},
            "intercom": {"tier": "device", "count": 6, "parent": "gate"},
        },
        links=[
            {"between": ["intercom", "gate"], "latency_ms": 2, "rate_mbit_s": 40},
            {"between": ["gate", "cloud"], "latency_ms": 10, "jitter_ms": 2, "rate_mbit_s": 60, "shared": True},
        ],
        workload=WORKLOAD | {"source": "intercom"},
        devices=6,
        here="cloud",
        there="edge",
        few="intercom-0",
    ),
    "studio": Bench(
        nodes={
            "cloud": {"tier": "cloud"},
            "studio": {"tier": "edge", "parent": "cloud"},
            "stage": {"tier": "device", "count": 8, "parent": "studio"},
        },
        links=[{"between": ["stage", "studio"], "latency_ms": 1}],
        workload=WORKLOAD | {"source": "stage", "batch": {"max_batch": 8, "max_wait_ms": 10}},
        devices=8,
        here="edge",
        there="cloud",
        few="stage-0",
        bursts=True,
    ),
}


class Runs:
    """The runs of one topology. work: where they are kept."""

    def __init__(
        self, name: str, bench: Bench, work: Path, pieces: Pieces, rounds: int, duration_s: float, pilot_s: float
    ) -> None:
        self._name = name
        self._bench = bench
        self._work = work
        self._pieces = pieces
        self._rounds = rounds
        self._duration_s = duration_s
        self._pilot_s = pilot_s

    def measured(self) -> tuple[float, dict[str, Any]]:
        """What the model can decide, a second, and what was found by load. Raises OutOfTimeError."""
        bench = self._bench
        pilot = self._run("pilot", bench.telling(self._name, PILOT_HZ, self._pilot_s, self._trace("pilot")))
        capacity_hz = bench.capacity_hz(pilot)
        asked = {str(load): (load / 100 * capacity_hz, bench.here) for load in LOADS}
        asked[ELSEWHERE] = (ELSEWHERE_LOAD / 100 * capacity_hz, bench.there)
        tellings = [self._telling(0, capacity_hz)]
        taken = []
        for number in range(self._rounds):
            loads = list(asked) if number % 2 == 0 else list(reversed(asked))
            taken.append({load: self._loaded(number, load, *asked[load]) for load in loads})
            tellings.append(self._telling(number + 1, capacity_hz))
        rounds = [self._compared(runs, beside) for runs, beside in zip(taken, pairwise(tellings), strict=True)]
        return capacity_hz, {
            load: {"rate_hz": round(rate_hz, 3)} | typical([of_round[load] for of_round in rounds])
            for load, (rate_hz, _) in asked.items()
        }

    def _telling(self, number: int, capacity_hz: float) -> Path:
        """The run before a round, or behind the last, that tells what things take."""
        seed, rate_hz = TELLING_SEED + number, CALIBRATING / 100 * capacity_hz
        made = self._bench.telling(self._name, rate_hz, self._duration_s, self._trace("bursts"), seed)
        return self._run(f"{CALIBRATING} before {number}", made)

    def _loaded(self, number: int, load: str, rate_hz: float, place: str) -> Path:
        """A run of a round that is predicted."""
        topology = self._bench.topology(self._name, rate_hz, self._duration_s, place, SEED + number)
        return self._run(f"{load} in {number}", topology)

    @staticmethod
    def _compared(runs: Mapping[str, Path], beside: tuple[Path, Path]) -> dict[str, RunFidelity]:
        """By load, of one round."""
        found = edgebench.fidelity(list(runs.values()), calibrate=list(beside)).runs
        return {load: found[run_dir.name] for load, run_dir in runs.items()}

    def _trace(self, piece: str) -> Path:
        return self._work / f"{self._name}-{piece}.trace"

    def _run(self, load: str, topology: Plan) -> Path:
        """A run, unless it is kept; its run directory."""
        piece = f"{self._name}, {load}, {hashlib.sha256(msgspec.json.encode(topology)).hexdigest()[:12]}"
        self._pieces.find(piece, partial(self._ran, piece, topology))
        return self._work / str(self._pieces.found(piece))

    def _ran(self, piece: str, topology: Plan) -> str:
        """Whatever its verdict: what it found out about its host is of no account here."""
        file, out = self._work / f"{piece}.yaml", self._work / "runs"
        file.write_bytes(msgspec.yaml.encode(topology))
        command = [*EDGEBENCH, "run", str(file), "--out", str(out), "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not done.stdout:
            raise SystemExit(f"{file}: {done.stderr}")
        result = json.loads(done.stdout)
        lost = result["workloads"]["watch"]["lost"]
        if lost:
            raise SystemExit(f"{piece}: {lost} samples were lost, so its figures say nothing")
        print(f"{piece}: {result['verdict']['reasons'] or 'valid'}", file=sys.stderr, flush=True)
        return f"runs/{result['run_id']}"


def typical(rounds: Sequence[RunFidelity]) -> dict[str, Any]:
    """What stands under `runs` of a load that was run in some rounds."""
    figures = {}
    for figure in dict.fromkeys(chain.from_iterable(of_round.figures for of_round in rounds)):
        of_all = [of_round.figures.get(figure, Compared(None, None)) for of_round in rounds]
        middle = sorted(of_all, key=lambda each: _size(each.error))[len(of_all) // 2]
        own = [each.own_service_error for each in of_all]
        figures[figure] = msgspec.to_builtins(middle) | {
            "own_service_error": sorted(own, key=_size)[len(own) // 2],
            "errors": [each.error for each in of_all],
            "own_service_errors": own,
            "spread": _spread(of_all),
        }
    return {"valid": all(each.valid for each in rounds), "figures": figures}


def _size(error: float | None) -> float:
    """What is not told is no better than any error."""
    return math.inf if error is None else abs(error)


def _spread(of_all: Sequence[Compared]) -> float | None:
    measured = [each.measured for each in of_all if each.measured is not None]
    if len(measured) < 2 or not (middle := statistics.median(measured)):
        return None
    return round((max(measured) - min(measured)) / middle, 4)


def summed_up(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The worst and the mean errors. runs: by topology and load."""
    below = [each for of in runs.values() for load, each in of.items() if load != str(max(LOADS))]
    above = [of[str(max(LOADS))] for of in runs.values()]
    everywhere = [each for of in runs.values() for each in of.values()]
    judged = [
        (LIMITS[figure], each["figures"][f"watch.{figure}"]["error"])
        for of_load, figures in ((below, ("latency_ms.mean", "latency_ms.p99")), (above, ("backlog",)))
        for each in of_load
        for figure in figures
    ]
    return {
        "missed": sum(error is None or abs(error) > limit for limit, error in judged),
        "of": len(judged),
        "mean_error": _worst(below, "latency_ms.mean"),
        "p99_error": _worst(below, "latency_ms.p99"),
        "own_mean_error": _worst(below, "latency_ms.mean", "own_service_error"),
        "own_p99_error": _worst(below, "latency_ms.p99", "own_service_error"),
        "backlog_error": _worst(above, "backlog"),
        **dict(zip(BESIDE, _beside(everywhere, "latency_ms.mean"), strict=True)),
        **dict(zip(P99_BESIDE, _beside(everywhere, "latency_ms.p99"), strict=True)),
    }


def _beside(runs: list[Any], figure: str) -> tuple[float | None, float | None, float | None]:
    """The formula's mean error, ours, and by how much at most ours is larger, where both say something."""
    told = [each["figures"][f"watch.{figure}"] for each in runs]
    errors = [
        (abs(each["formula_error"]), abs(each["error"]))
        for each in told
        if each["error"] is not None and each["formula_error"] is not None
    ]
    if not errors:
        return None, None, None
    formula, ours = (statistics.fmean(each) for each in zip(*errors, strict=True))
    return round(formula, 4), round(ours, 4), round(max(ours - formula for formula, ours in errors), 4)


def _worst(runs: list[Any], figure: str, which: str = "error") -> float | None:
    """None where any of them has none: it was not measured, or is 0, of which no error is a share."""
    errors = [each["figures"][f"watch.{figure}"][which] for each in runs]
    return None if not errors or None in errors else round(max(map(abs, errors)), 4)


def measured(
    names: list[str], work: Path, pieces: Pieces, rounds: int, duration_s: float, pilot_s: float
) -> dict[str, Any]:
    """Everything. Raises OutOfTimeError."""
    found = {name: Runs(name, BENCHES[name], work, pieces, rounds, duration_s, pilot_s).measured() for name in names}
    runs = {name: of for name, (_, of) in found.items()}
    capacity_hz = {name: round(hz, 2) for name, (hz, _) in found.items()}
    return {**summed_up(runs), "runs": runs, "capacity_hz": capacity_hz, **pieces.told()}


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """What is printed for people."""
    for name, of in figures["runs"].items():
        for load, each in of.items():
            for figure in (*SHOWN, *(["backlog"] if load == str(max(LOADS)) else [])):
                told = each["figures"][f"watch.{figure}"]
                measured, predicted = (_shown(told[side], "9.3f") for side in ("measured", "predicted"))
                formula = told["formula_error"]
                beside = "" if formula is None else f", the formula {formula:+.1%}"
                others = ", ".join(_shown(error, "+.1%") for error in told["errors"])
                own = _shown(told["own_service_error"], "+.1%")
                yield (
                    f"{name:7} {load:10} {figure:16} measured {measured}, predicted {predicted} "
                    f"({_shown(told['error'], '+.1%')}{beside}; by round: {others}; its own service {own})"
                )
            if not each["valid"]:
                yield f"{name:7} {load:10} a run was invalid"
    names = ("mean_error", "p99_error", "own_mean_error", "own_p99_error", "backlog_error")
    for name in (*names, *BESIDE, *P99_BESIDE):
        yield f"{name:24} {'–' if figures[name] is None else f'{figures[name]:.2%}'}"
    yield f"{'missed':24} {figures['missed']} of {figures['of']}"


def _shown(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="Simulations beside real runs; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a few seconds each, to see that it works")
    parser.add_argument("--only", action="append", choices=list(BENCHES), metavar="NAME", help="this topology")
    add_pieces(parser)
    add_anyway(parser)
    args = parser.parse_args()
    rounds, duration_s, pilot_s = (1, QUICK_S, QUICK_S) if args.quick else (ROUNDS, DURATION_S, PILOT_S)
    with work_of(parser, args) as work, awake():
        pieces = Pieces(work, Quiet(anyway=args.anyway), args.minutes)
        try:
            figures = measured(args.only or list(BENCHES), work, pieces, rounds, duration_s, pilot_s)
        except EdgebenchError as error:  # a run that others disturbed all the time, for one, tells nothing
            raise SystemExit(str(error)) from None
    print(json.dumps(figures, indent=2) if args.json else "\n".join(lines(figures)))


if __name__ == "__main__":
    main()
