"""A model cut in two: latency against the place at which it is cut, measured and predicted, and what `auto` chooses.

    python benchmarks/split.py [--json] [--quick] [--anyway] [--begin TIER] [--task TASK] [--slower N] [--mbit R]
        [--work DIR]

This computer is profiled (`edgebench profile --quick`), and the edge is emulated: N times as slow, by a data sheet that
describes no machine of anybody's. The cloud is this computer, R Mbit/s away. (With `--begin device` that is the device,
and its edge is this computer.) Then one run cuts the model where `auto` says, and one run each at every place where it
can be cut; for comparison the whole is decided where the first part is, and where the second is. Devices send so seldom
that next to nothing waits. Models are hardly trained, which changes what they decide, and not how long that takes.
`--quick` takes three places, and no emulation, to see that it works. `--work` keeps the profile and the runs.

Keys of the printed object:

chosen: the number of the place that `auto` chose; measured_best: of that with the least latency.
chosen_over_best_ratio: the latency at the one over that at the other; 1 where they are the same.
by_place: by number: `layer`, `output_bytes`, `predicted_ms`, `measured_ms` (the mean from a sample's being where the
    first part is to its decision's being made), `latency_ms` (mean and p99 of the whole).
first_ms, second_ms: the same time where whoever has the first part, or the second, decides with the whole model.
mean_error, worst_error: of what is predicted, as a share of what is measured, over the places.
invalid: by run that was not valid, the reasons.
disturbed, watched: how busy others kept this computer meanwhile; see `quiet.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.quiet import Quiet, add_anyway, awake

EDGEBENCH = (sys.executable, "-m", "edgebench.cli")
TASK = "sign-recognition"
TOPOLOGY = """\
schema: 1
name: split
seed: 5
duration_s: {duration_s}
nodes:
  cloud: {{tier: cloud}}
  road:  {{tier: edge, parent: cloud{of_road}}}
  car:   {{tier: device, parent: road{of_car}}}
links:
  - {{between: [{link}], latency_ms: 5, rate_mbit_s: {mbit}}}
workloads:
  seen: {{task: {task}, source: car, load: {{kind: fixed, rate_hz: {rate_hz}}}, {batch}{place},
         train: {{epochs: 1, examples: 500}}}}
"""
DATA_SHEET = """\
kind: data-sheet
schema: 1
name: slow-board
cores: 4
memory_mb: 4000
like: here.json
times_slower: {slower}
source: no machine of anybody's, for this benchmark alone
"""
LARGEST_BYTES = 1 << 17
"""Of what goes on somewhere in the network of that task, and more."""
DECIDING = ("decode", "queue", "infer")


class Tiers(NamedTuple):
    """Who has the first part, and who the second; hops_there: of what the second decides by itself, from its being
    where the first is."""

    first: str
    second: str
    link: str
    hops_there: tuple[str, ...]


TIERS = {
    "edge": Tiers("edge", "cloud", "road, cloud", ("edge_forward", "backhaul_up", *DECIDING)),
    "device": Tiers("device", "edge", "car, road", ("uplink", *DECIDING)),
}


def cut(tiers: Tiers, split: int | str) -> str:
    """The fields of a workload that is cut."""
    return f"place: {{infer: [{tiers.first}, {tiers.second}]}}, split: {split}"


def whole(tier: str) -> str:
    """Likewise, of one that is not."""
    return f"place: {{infer: {tier}}}"


def text_of(options: argparse.Namespace, place: str) -> str:
    """The topology of a run. place: the fields of its workload that say where it is decided."""
    slow = "" if options.quick else ", profile: slow-board.yaml"
    on_device = options.begin == "device"
    return TOPOLOGY.format(
        duration_s=4 if options.quick else 30,
        rate_hz=5,
        of_road="" if on_device else slow,
        of_car=slow if on_device else "",
        link=TIERS[options.begin].link,
        # A device decides by itself without batches.
        batch="" if place == whole("device") else "batch: {max_batch: 1}, ",
        mbit=options.mbit,
        task=options.task,
        place=place,
    )


class Bench:
    """The runs."""

    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self._work = work
        self._options = options
        self.invalid: dict[str, list[str]] = {}
        """By run, the reasons."""

    def prepare(self) -> None:
        """Profile this computer, unless that was done."""
        (self._work / "slow-board.yaml").write_text(DATA_SHEET.format(slower=self._options.slower))
        profile = self._work / "here.json"
        if not self._options.quick and not profile.exists():
            asked = ("--task", self._options.task, "--quick", "--message-bytes", str(LARGEST_BYTES), "--name", "here")
            subprocess.run((*EDGEBENCH, "profile", *asked, "--out", str(profile)), check=True, stdout=sys.stderr)

    def run(self, name: str, place: str) -> dict[str, Any]:
        """The figures of a run."""
        topology = self._work / f"{name}.yaml"
        topology.write_text(text_of(self._options, place))
        line = (*EDGEBENCH, "run", str(topology), "--out", str(self._work / "runs"), "--json")
        done = subprocess.run(line, check=False, stdout=subprocess.PIPE)
        if not done.stdout:
            raise SystemExit(f"{name}: the run came to nothing (exit status {done.returncode})")
        result = json.loads(done.stdout)
        if not result["verdict"]["valid"]:
            self.invalid[name] = result["verdict"]["reasons"]
        figures: dict[str, Any] = result["workloads"]["seen"]
        if figures["lost"]:
            raise SystemExit(f"{name}: {figures['lost']} samples were lost")
        return figures


def measured(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All keys but those of `quiet`."""
    bench, quiet, tiers = Bench(work, options), Quiet(anyway=options.anyway), TIERS[options.begin]
    bench.prepare()
    by_place: dict[int, dict[str, Any]] = {}
    with awake(), quiet.during("all runs"):
        chosen = bench.run("auto", cut(tiers, "auto"))["chain"]
        count = chosen["places"]
        for number in sorted({1, max(1, count // 2), count}) if options.quick else range(1, count + 1):
            by_place[number] = _at(bench.run(f"place-{number}", cut(tiers, number)))
        first_ms = _mean_ms(bench.run(tiers.first, whole(tiers.first)), DECIDING)
        second_ms = _mean_ms(bench.run(tiers.second, whole(tiers.second)), tiers.hops_there)
    number = chosen["cut"]["place"]
    if number not in by_place:
        by_place[number] = _at(bench.run(f"place-{number}", cut(tiers, number)))
    others = {"first_ms": first_ms, "second_ms": second_ms, "invalid": bench.invalid}
    return summed_up(number, by_place) | others | quiet.told()


def summed_up(number: int, by_place: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """What follows from the figures of each place, of which that of this number was chosen."""
    best = min(by_place, key=lambda each: by_place[each]["measured_ms"])
    errors: list[float] = [each["predicted_ms"] / each["measured_ms"] - 1 for each in by_place.values()]
    worst = max(errors, key=abs)
    return {
        "chosen": number,
        "measured_best": best,
        "chosen_over_best_ratio": round(by_place[number]["measured_ms"] / by_place[best]["measured_ms"], 4),
        "by_place": by_place,
        "mean_error": round(sum(map(abs, errors)) / len(errors), 4),
        "worst_error": round(worst, 4),
    }


def _at(figures: dict[str, Any]) -> dict[str, Any]:
    made, latency = figures["chain"]["cut"], figures["latency_ms"]
    return {
        **{name: made[name] for name in ("layer", "output_bytes", "predicted_ms")},
        "measured_ms": figures["chain"]["measured_ms"],
        "latency_ms": {name: latency[name] for name in ("mean", "p99")},
    }


def _mean_ms(figures: dict[str, Any], hops: tuple[str, ...]) -> float:
    return round(sum(figures["hops_ms"][hop]["mean"] for hop in hops), 4)


def main() -> int:
    """Print what was measured."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one object (it always does)")
    parser.add_argument("--quick", action="store_true", help="three places, without emulation, to see that it works")
    parser.add_argument("--task", default=TASK, help=f"whose model is cut (default: {TASK})")
    parser.add_argument("--begin", choices=[*TIERS], default="edge", help="who has the first part (default: edge)")
    parser.add_argument("--slower", type=float, default=20.0, metavar="N", help="its times over this computer's")
    parser.add_argument("--mbit", type=float, default=10.0, metavar="R", help="of its link to the second, Mbit/s")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keep profile and runs here, and go on with the profile"
    )
    add_anyway(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgebench-split-") as folder:
        work = Path(folder) if options.work is None else options.work
        work.mkdir(parents=True, exist_ok=True)
        print(json.dumps(measured(options, work.resolve()), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
