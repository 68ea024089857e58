"""From which uplink on should pictures be decided at the edge? A sweep that is run for real, and the same simulated.

    python benchmarks/crossover.py [--json] [--quick] [--anyway] [--work DIR] [--minutes M]

A camera takes pictures of people, which are decided on itself, at the edge above it or in the cloud: three placements,
at seven uplinks of the camera, each 1.25 times the one before, 21 runs by one `edgebench sweep` on this machine. All
three are emulated, by profiles that are made up: a camera that takes 120 ms for a picture, an edge that takes 30 and
a cloud that takes 15. The command is killed once half of the runs are over, and told to go on. The same sweep is then
simulated, calibrated by one other run: of three such cameras on a faster uplink, each of which is decided elsewhere.

Some twelve minutes. `--quick` runs three uplinks for a few seconds each, to see that it works. `--work` keeps what was
found there, piece by piece (the calibrating run, each half of the sweep), and goes on with it; `--minutes` begins no
other piece after that long, says what is left, and ends with status 3: the same line again goes on.

Keys of the printed object:

measured_mbit_s, simulated_mbit_s: the uplink from which on the edge is better than the next best place, by the mean
    latency; null where it is not between those that were run. crossover_error: by how much the simulated one is off,
    as a share of the measured one.
best_agrees: the share of the uplinks at which runs and simulations have the same best placement, or where runs show no
    difference between the two; null where no uplink has valid runs of all. told: so many have.
uplinks: by uplink: `real_ms` and `simulated_ms` (the mean latency by placement, of valid runs), `best`,
    `simulated_best`, `tie` (whether runs show no difference between these two; null where they are one).
cells: of the sweep; killed_after: so many of them were over then; repeated: so many of these that had not failed were
    run again; interrupted: runs of the sweep that came to no end; invalid: cells whose run is not valid.
pages: of the real and of the simulated sweep, with the crossing and the Pareto front drawn, where `--work` keeps them.
minutes: that its pieces took; older: those that were found with another state of the code, with --work, and stand.
disturbed, watched: how busy others kept this computer meanwhile; see `quiet.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

import edgebench
from benchmarks.layers import write_layer
from benchmarks.pieces import Pieces, add_pieces, work_of
from benchmarks.quiet import Quiet, add_anyway
from edgebench.clock import sleep_s
from edgebench.errors import EdgebenchError
from edgebench.results.fronts import Swept
from edgebench.results.sweeps import Cell

TASK = "person-reid"
INFER_MS = {"device": 120.0, "edge": 30.0, "cloud": 15.0}
SPREAD = (0.8, 0.9, 1.0, 1.1, 1.2)
CORES = 4
RATE_HZ = 2.0
UPLINKS_MBIT_S = (0.64, 0.8, 1.0, 1.25, 1.5625, 1.953, 2.441)
"""A picture has 13.8 kB, 0.11 Mbit: at 1.25 Mbit/s it takes 88 ms."""
CALIBRATING_MBIT_S = 8.0
DURATION_S, CALIBRATING_S, QUICK_S, QUICK_CALIBRATING_S = 25.0, 60.0, 3.0, 20.0
LATENCY = "workloads.people.latency_ms.mean"
PLACE = "workloads.people.place.infer"
UPLINK = "links[0].up_mbit_s"
NAME = "crossover"
EDGEBENCH = (sys.executable, "-m", "edgebench.cli")
_LOOKS_S = 0.5
_IN_MID_RUN_S = 4.0
_ENDED_S = 30.0


class Plan(NamedTuple):
    """How long runs take, and which uplinks there are."""

    duration_s: float
    calibrating_s: float
    uplinks: tuple[float, ...]


FULL = Plan(DURATION_S, CALIBRATING_S, UPLINKS_MBIT_S)
QUICK = Plan(QUICK_S, QUICK_CALIBRATING_S, UPLINKS_MBIT_S[::3])


def write_topology(work: Path, name: str, cameras: int, duration_s: float) -> None:
    """So many cameras: one that is decided at the edge, or several of which each is decided elsewhere."""
    for tier, ms in INFER_MS.items():
        write_layer(work, tier, {TASK: ms}, cores=CORES, spread=SPREAD)
    each = dict(zip((f"camera-{number}" for number in range(cameras)), INFER_MS, strict=False))
    plan = {
        "schema": 1,
        "name": name,
        "seed": 11,
        "duration_s": duration_s,
        "nodes": {
            "cloud": {"tier": "cloud", "profile": "cloud.json"},
            "gate": {"tier": "edge", "parent": "cloud", "profile": "edge.json"},
            "camera": {"tier": "device", "parent": "gate", "count": cameras, "profile": "device.json"},
        },
        "links": [
            {
                "between": ["camera", "gate"],
                "latency_ms": 2,
                "up_mbit_s": CALIBRATING_MBIT_S,
                "down_mbit_s": CALIBRATING_MBIT_S,
            },
            {"between": ["gate", "cloud"], "latency_ms": 25, "rate_mbit_s": 20},
        ],
        "workloads": {
            "people": {
                "task": TASK,
                "source": "camera",
                "load": {"kind": "poisson", "rate_hz": RATE_HZ},
                "train": {"epochs": 1},
                "place": {"infer": each if cameras > 1 else "edge"},
            }
        },
    }
    (work / f"{name}.yaml").write_bytes(msgspec.yaml.encode(plan))


def write_spec(work: Path, name: str, uplinks: Sequence[float], how: Mapping[str, Any]) -> Path:
    """The sweep; its file. how: it is run."""
    spec = {
        "schema": 1,
        "name": NAME,
        "topology": "camera.yaml",
        "grid": {UPLINK: list(uplinks), PLACE: list(INFER_MS)},
        "rank": {"figure": LATENCY},
        "front": {LATENCY: "lowest", "links.camera -> gate.up_bytes": "lowest"},
        "crossings": {"along": UPLINK, "between": PLACE},
        **how,
    }
    file = work / f"{name}.yaml"
    file.write_bytes(msgspec.yaml.encode(spec))
    return file


class Sweeps:
    """The sweep and its twin, in a folder."""

    def __init__(self, work: Path, plan: Plan, pieces: Pieces) -> None:
        self._work = work
        self._plan = plan
        self._pieces = pieces
        self._real = work / "real"
        self._folder = self._real / NAME

    def told(self) -> dict[str, Any]:
        """Everything. Raises OutOfTimeError."""
        write_topology(self._work, "cameras", 3, self._plan.calibrating_s)
        write_topology(self._work, "camera", 1, self._plan.duration_s)
        self._pieces.find("calibrating", self._calibrating)
        uplinks, calibrating = self._plan.uplinks, str(self._pieces.found("calibrating"))
        real_spec = write_spec(self._work, "real", uplinks, {"executor": "local"})
        by_it = {"executor": "simulate", "calibrate": [calibrating]}
        simulated_spec = write_spec(self._work, "simulated", uplinks, by_it)
        self._pieces.find("first half", partial(self._first_half, real_spec))
        before = self._pieces.found("first half")
        self._pieces.find("second half", partial(self._second_half, real_spec))
        self._pieces.found("second half")
        real = edgebench.sweep(real_spec, out=self._real, resume=True)
        simulated = edgebench.sweep(simulated_spec, out=self._work / "simulated", resume=True, progress=True)
        now = {cell.key: cell.run for cell in real.cells}
        return {
            **compared(real, simulated),
            "cells": len(real.cells),
            "killed_after": len(before),
            "repeated": sum(run is not None and now.get(key) != run for key, run in before.items()),
            "interrupted": len(list((self._folder / "runs").iterdir())) - len(real.cells),
            "invalid": sum(cell.state != "valid" for cell in real.cells),
            "pages": [str(Path(swept.folder) / "sweep.html") for swept in (real, simulated)],
        }

    def _calibrating(self) -> str:
        """The run directory. Models are kept where the sweep looks for them."""
        run = edgebench.run(self._work / "cameras.yaml", out=self._work / "runs", registry=self._folder / "registry")
        print(f"calibrating: {run.verdict.reasons or 'valid'}", file=sys.stderr, flush=True)
        return str(run.folder.relative_to(self._work))

    def _command(self, spec: Path) -> list[str]:
        return [*EDGEBENCH, "sweep", str(spec), "--out", str(self._real), "--resume"]

    def _first_half(self, spec: Path) -> dict[str, str | None]:
        """Kill the sweep in the middle; the runs of the cells that were over, by their keys."""
        half = len(self._plan.uplinks) * len(INFER_MS) // 2
        with subprocess.Popen(self._command(spec), stdout=subprocess.DEVNULL, start_new_session=True) as process:
            while len(self._cells()) < half and process.poll() is None:
                sleep_s(_LOOKS_S)
            sleep_s(_IN_MID_RUN_S)
            if process.poll() is not None:
                raise SystemExit(f"{spec}: the sweep ended before it was killed, with status {process.returncode}")
            parts = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(parts, timeout=_ENDED_S)
        if alive:
            raise SystemExit(f"the sweep was killed, and {len(alive)} of its processes went on")
        return {cell.key: cell.run for cell in self._cells()}

    def _second_half(self, spec: Path) -> int:
        """Go on to the end."""
        done = subprocess.run(self._command(spec), check=False, stdout=subprocess.DEVNULL)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{spec}: the sweep ended with status {done.returncode}")
        return len(self._cells())

    def _cells(self) -> list[Cell]:
        files = (self._folder / "cells").glob("*.json")
        return [msgspec.json.decode(file.read_bytes(), type=Cell) for file in files]


def compared(real: Swept, simulated: Swept) -> dict[str, Any]:
    """Where the crossing is, and where the best placement is the same."""
    measured, predicted = crossing_of(real), crossing_of(simulated)
    uplinks: dict[str, Any] = {}
    for uplink in sorted({cell.settings[UPLINK] for cell in real.cells}):
        ran, modelled = (_valid_at(uplink, swept) for swept in (real, simulated))
        found: dict[str, Any] = {
            "real_ms": {place: cell.values[LATENCY] for place, cell in ran.items()},
            "simulated_ms": {place: cell.values[LATENCY] for place, cell in modelled.items()},
            "best": None,
            "simulated_best": None,
            "tie": None,
        }
        if ran.keys() == modelled.keys() == INFER_MS.keys():
            best, theirs = (min(of, key=lambda place: of[place]) for of in (found["real_ms"], found["simulated_ms"]))
            tie = None if best == theirs else _alike(Path(real.folder), ran[best], ran[theirs])
            found |= {"best": best, "simulated_best": theirs, "tie": tie}
        uplinks[f"{uplink:g}"] = found
    told = [each for each in uplinks.values() if each["best"] is not None]
    agree = [each["best"] == each["simulated_best"] or each["tie"] for each in told]
    return {
        "measured_mbit_s": measured,
        "simulated_mbit_s": predicted,
        "crossover_error": None if measured is None or predicted is None else round(predicted / measured - 1, 4),
        "best_agrees": round(sum(agree) / len(agree), 4) if agree else None,
        "told": len(told),
        "uplinks": uplinks,
    }


def crossing_of(swept: Swept) -> float | None:
    """From which uplink on the edge is the best place; None where there is none such."""
    return next((each.at for each in swept.crossings if each.above == "edge"), None)


def _valid_at(uplink: float, swept: Swept) -> dict[str, Cell]:
    """By placement."""
    those = (cell for cell in swept.cells if cell.settings[UPLINK] == uplink and cell.state == "valid")
    return {cell.settings[PLACE]: cell for cell in those if cell.values.get(LATENCY) is not None}


def _alike(folder: Path, one: Cell, other: Cell) -> bool:
    """Whether their runs show no difference."""
    (figures,) = edgebench.compare([folder / str(cell.run) for cell in (one, other)]).against.values()
    (found,) = (each for each in figures if each.figure == LATENCY)
    return found.shown not in ("higher", "lower")


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """What is printed for people."""
    for uplink, of in figures["uplinks"].items():
        shown = ", ".join(
            f"{place} {ms:.1f} ms (simulated {of['simulated_ms'].get(place) or float('nan'):.1f})"
            for place, ms in of["real_ms"].items()
        )
        tie = " (a tie)" if of["tie"] else ""
        yield f"{uplink:>7} Mbit/s: {shown}; best: {of['best']}, simulated: {of['simulated_best']}{tie}"
    for name in ("measured_mbit_s", "simulated_mbit_s", "crossover_error", "best_agrees", "repeated", "invalid"):
        yield f"{name:18} {figures[name]}"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="A sweep, run and simulated; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a few seconds each, to see that it works")
    add_pieces(parser)
    add_anyway(parser)
    args = parser.parse_args()
    with work_of(parser, args) as work:
        pieces = Pieces(work, Quiet(anyway=args.anyway), args.minutes)
        try:
            figures = Sweeps(work, QUICK if args.quick else FULL, pieces).told() | pieces.told()
        except EdgebenchError as error:
            raise SystemExit(str(error)) from None
    print(json.dumps(figures, indent=2) if args.json else "\n".join(lines(figures)))


if __name__ == "__main__":
    main()
