"""`edgebench capacity` by simulations, and what is said before the first run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

import edgebench
from edgebench.cli import main
from edgebench.errors import EdgebenchError
from edgebench.experiments.capacity import CapacityOptions, load_of
from edgebench.experiments.capacity_search import Load, Search
from edgebench.experiments.cells import cell_key
from edgebench.experiments.given import TopologyFile, open_topology, with_overrides
from edgebench.experiments.load_search import Scale
from edgebench.experiments.measuring_runs import _settings, _steady_links
from edgebench.experiments.simulate import check_simulated, simulate_with
from edgebench.results.capacities import Capacity
from edgebench.results.figures import ReasonKind, Result, Verdict
from edgebench.results.rundir import load_deployment
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.service_times import merged
from edgebench.topology.link_model import Link
from tests.simulation.wards import WATCH, measured, ward


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ward(tmp_path_factory.mktemp("capacity"))


@pytest.fixture(scope="module")
def run_dir(file: Path) -> Path:
    return measured(file.parent)


@pytest.fixture(scope="module")
def found(file: Path, run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Capacity:
    return edgebench.capacity(
        file, "watch", p99_ms=60, within_percent=0, calibrate=[run_dir], out=tmp_path_factory.mktemp("found")
    )


def p99_ms(file: Path, run_dir: Path, beds: float, seed: int, out: Path) -> float:
    topology = edgebench.load(file, [f"nodes.bed.count={beds:.0f}", f"seed={seed}"])
    latency = edgebench.simulate(topology, calibrate=[run_dir], out=out).figures.workloads["watch"].latency_ms
    assert latency is not None
    return latency.p99


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        (["workloads.watch.place.infer={bed: edge, bed-1: cloud}"], "$.workloads.watch.place.infer"),
        (["nodes.ward.count=2", "moves=[{at_s: 1, node: bed-1, to: ward-0}]"], "$.moves[0].node"),
    ],
)
def test_devices_that_are_named_are_not_made_more(file: Path, run_dir: Path, changes: list[str], path: str) -> None:
    given = edgebench.load(file, changes)
    with pytest.raises(EdgebenchError) as refused:
        edgebench.capacity(given, "watch", p99_ms=60, calibrate=[run_dir])
    said = "names single devices of 'bed', whose number is to be varied (use --by rate)"
    assert str(refused.value) == f"{file}: {path}: {said}"
    load_of(given, CapacityOptions(workload="watch", p99_ms=60, by="rate"))


def test_no_rate_is_tried_at_which_a_device_may_have_no_sample(file: Path, run_dir: Path, tmp_path: Path) -> None:
    found = edgebench.capacity(file, "watch", p99_ms=1, by="rate", seeds=1, calibrate=[run_dir], out=tmp_path)
    assert found.limit is None
    assert found.curve[0].load == 0.1  # of 10 s
    assert "p99" in found.curve[0].runs[0].against[0]
    page = (Path(found.folder) / "capacity.html").read_text()
    assert "The dashed line" not in page
    assert json.loads(page.split('id="figures">')[1].split("</script>")[0])["latency"]["data"][1]["x"] == [
        point.load for point in found.curve
    ]


def test_devices_move_as_early_in_the_shorter_run_that_tells_what_things_take(file: Path, tmp_path: Path) -> None:
    for duration_s, at_s in ((40, 5.0), (10, None)):
        moves = f"moves=[{{at_s: {duration_s / 4}, node: bed-1, to: ward-0}}]"
        given = edgebench.load(file, ["nodes.ward.count=2", f"duration_s={duration_s}", moves])
        as_it_is, bursts = _settings(given, check_simulated(given), tmp_path).values()
        moved = [json.loads(each.removeprefix("moves=")) for each in as_it_is if each.startswith("moves=")]
        assert moved == ([] if at_s is None else [[{"at_s": at_s, "node": "bed-1", "to": "ward-0"}]])
        assert "moves=[]" in bursts


def test_the_curve_is_drawn_with_the_bound_and_the_limit(found: Capacity) -> None:
    page = (Path(found.folder) / "capacity.html").read_text()
    encoded = page.split('id="figures">')[1].split("</script>")[0]
    charts = json.loads(encoded)
    assert [*charts] == ["latency", "throughput"]  # a simulation decides nothing, so it has no quality
    p50, p99, worst, bound = charts["latency"]["data"]
    assert p99["x"] == [point.load for point in found.curve]
    assert p99["y"] == [round(point.p99_ms or 0.0, 4) for point in found.curve]
    assert all(high >= mean for high, mean in zip(worst["y"], p99["y"], strict=True))
    assert (p50["line"]["shape"], bound["y"]) == ("hv", [60.0, 60.0])
    assert [shape["x0"] for shape in charts["throughput"]["layout"]["shapes"]] == [found.limit]
    assert f"{found.limit:,.0f} devices hold" in page


def test_the_limit_holds_with_each_seed_and_the_next_step_up_does_not(
    file: Path, run_dir: Path, found: Capacity, tmp_path: Path
) -> None:
    assert found.seeds == [4, 5, 6]
    assert found.limit is not None
    assert found.next == found.limit + 1
    at, beyond = (
        [p99_ms(file, run_dir, beds, seed, tmp_path) for seed in found.seeds] for beds in (found.limit, found.next)
    )
    assert max(at) <= 60 < max(beyond)


def test_a_ward_of_20_ms_a_decision_holds_no_more_than_it_has_time_for(found: Capacity) -> None:
    """5 Hz of 20.15 ms each: not ten beds."""
    assert found.limit is not None
    assert 3 <= found.limit <= 9
    loads = [point.load for point in found.curve]
    assert loads == sorted(loads)
    assert [point.holds for point in found.curve] == [load <= found.limit for load in loads]
    overloaded = found.curve[-1]
    assert overloaded.offered_hz == pytest.approx(5 * overloaded.load, rel=0.05)
    assert overloaded.throughput_hz < 50
    assert overloaded.runs[0].against[0].endswith("is more than 60 ms")
    assert (found.figures, found.metric, found.curve[0].quality) == ("modelled", "auroc", None)


def test_each_run_and_the_curve_are_kept(found: Capacity) -> None:
    folder = Path(found.folder)
    assert json.loads((folder / "capacity.json").read_bytes())["limit"] == found.limit
    runs = [run.run for point in found.curve for run in point.runs]
    assert sorted(each.name for each in folder.iterdir() if each.is_dir()) == sorted([*runs, "cells"])
    kept = edgebench.load_run(folder / runs[0]).figures
    assert kept.workloads["watch"].deadline_ms == 60


def test_the_rate_of_three_beds_is_sought_within_a_share(
    file: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--by", "rate", "--seeds", "1", "--within-percent", "10", "--calibrate", str(run_dir)]
    assert main(["capacity", str(file), *words, "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "ward, watch: p99 within 100 ms, modelled, seeds 4"
    (said,) = [line for line in out.splitlines() if " holds; " in line]
    rate_hz = float(said.split()[0])
    assert 5 < rate_hz < 50 / 3
    assert err.splitlines()[0].startswith("5 Hz: p99 ")


def test_where_nothing_holds_it_is_said_and_the_exit_status_is_1(
    file: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--p99-ms", "15", "--seeds", "1", "--calibrate", str(run_dir), "--out", str(tmp_path)]
    assert main(["capacity", str(file), *words]) == 1
    assert "Not even 1 device holds: p99 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workload", "wach"], "--workload wach: no workload is called so (did you mean 'watch'?)"),
        (["--seeds", "0"], "--seeds 0: gives no run (give 1 or more)"),
        (["--p99-ms", "0"], "--p99-ms 0: is no bound (give milliseconds, more than 0)"),
        (["--most", "2"], "--most 2: is below the topology's own load of 3 (give more)"),
        (["--most", "7.5"], "--most 7.5: is no number of devices (give a whole number)"),
        (["--executor", "loca"], "--executor loca: no such executor (known: simulate, local, lab, containers)"),
        (["--executor", "local", "--calibrate", "x"], "--calibrate: real runs need none (leave it out, or --executor)"),
        (["--resume", "absent"], "--resume absent: no search has left anything there (leave it out)"),
        (["--calibrate", "absent"], "absent: no such run directory (see runs/)"),
        (
            ["--by", "rate", "--set", "workloads.watch.load={kind: single-stream}"],
            "$.workloads.watch.load: has no rate (fixed, poisson and server loads have one; or --by devices)",
        ),
        (
            ["--set", "workloads.watch.deadline_ms="],
            "$.workloads.watch: has no deadline to keep (give a bound: --p99-ms)",
        ),
    ],
)
def test_a_mistake_is_a_line_before_the_first_run(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["capacity", str(file), *words, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.rstrip().removeprefix(f"{file}: ") == said
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_without_a_run_to_calibrate_by_what_things_take_is_measured_first(tmp_path: Path) -> None:
    """By two short runs on this machine, the second of which fills the batches that more load makes."""
    watch = {**WATCH, "model": {"runtime": "fake"}, "batch": {"max_batch": 2}, "deadline_ms": 1_000}
    file = ward(tmp_path, workloads={"watch": watch}, duration_s=1)
    found = edgebench.capacity(file, seeds=1, most=6, out=tmp_path / "out")
    first, full = (edgebench.load_run(Path(found.folder) / "measured" / each) for each in found.calibrated_by)
    assert first.figures.workloads["watch"].scheduled == 15
    batch = full.figures.workloads["watch"].mean_batch
    assert batch is not None
    assert batch > 1.5
    as_asked, bare = (load_deployment(Path(found.folder) / "measured" / each) for each in found.calibrated_by)
    assert all(link.shaped for link in as_asked.links.values())
    assert not any(link.shaped for link in bare.links.values())
    assert {run.run for point in found.curve for run in point.runs} <= {
        each.name for each in Path(found.folder).iterdir()
    }


def test_what_things_take_is_measured_across_links_that_are_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "delays.txt").write_text("4\n6\n6\n90\n")
    (tmp_path / "rate.txt").write_text("10\n20\n")  # 1,504 bytes each
    below = {"between": ["bed", "ward"], "delay_trace": "delays.txt", "up_trace": "rate.txt", "down_mbit_s": 3}
    above = {"between": ["ward", "cloud"], "latency_ms": 30, "jitter_ms": 2, "outages": [{"at_s": 9, "for_s": 1}]}
    given = open_topology(ward(tmp_path, links=[{**below, "shared": True, "energy": "wifi"}, above]))
    steady = with_overrides(given, [*_steady_links(given), "duration_s=5"]).topology.links
    assert steady == (
        Link(("bed", "ward"), latency_ms=6, up_mbit_s=1.2032, down_mbit_s=3, shared=True, energy="wifi"),
        Link(("ward", "cloud"), latency_ms=30, jitter_ms=2),
    )
    same = open_topology(ward(tmp_path))
    assert [*_steady_links(same)] == []


@pytest.mark.long
def test_the_cloud_of_a_cascade_is_measured_with_batches_that_no_edge_of_it_would_fill(tmp_path: Path) -> None:
    watch = {"task": "icu-death", "source": "bed", "load": {"kind": "fixed", "rate_hz": 5}, "deadline_ms": 2_000}
    watch |= {"place": {"infer": "cascade"}, "batch": {"max_batch": 6}, "train": {"epochs": 1, "examples": 60}}
    file = ward(tmp_path, workloads={"watch": watch}, duration_s=2)
    found = edgebench.capacity(file, seeds=1, most=12, out=tmp_path / "out")
    assert found.ended is None
    *_, asked = (edgebench.load_run(Path(found.folder) / "measured" / each) for each in found.calibrated_by)
    assert len(found.calibrated_by) == 3
    in_the_cloud = asked.figures.workloads["watch"]
    assert in_the_cloud.mean_batch is not None
    assert in_the_cloud.mean_batch > 4.5
    times = merged(service_times_of(Path(found.folder) / "measured" / each) for each in found.calibrated_by)
    heavy = {model: sizes for model, sizes in times.infer.items() if model.size == "heavy"}
    assert [max(sizes) for sizes in heavy.values()] == [6]


def test_several_groups_are_not_made_larger_together(run_dir: Path, tmp_path: Path) -> None:
    nodes = {
        "cloud": {"tier": "cloud"},
        "ward": {"tier": "edge", "parent": "cloud"},
        "bed": {"tier": "device", "parent": "ward"},
        "cot": {"tier": "device", "parent": "ward"},
    }
    links = [{"between": ["ward", "cloud"], "latency_ms": 30}]
    two = ward(tmp_path, nodes=nodes, links=links, workloads={"watch": {**WATCH, "source": ["bed", "cot"]}})
    with pytest.raises(EdgebenchError, match="several groups feed it, bed, cot"):
        edgebench.capacity(two, calibrate=[run_dir], out=tmp_path)


def test_a_batch_that_nobody_measured_ends_the_search_with_what_holds(
    file: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "workloads.watch.batch.max_batch=8", "--seeds", "1", "--calibrate", str(run_dir)]
    assert main(["capacity", str(file), *words, "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "The search ended before the limit was known: at " in out
    assert "watch: a batch of " in out
    kept = json.loads(next(tmp_path.glob("*/capacity.json")).read_bytes())
    assert kept["limit"] >= 3
    assert kept["ended"] in " ".join(out.split())


def test_an_error_at_the_topologys_own_load_is_told_as_it_is(file: Path, run_dir: Path, tmp_path: Path) -> None:
    topology = edgebench.load(file, ["workloads.watch.batch.max_batch=8", "nodes.bed.count=30"])
    with pytest.raises(EdgebenchError, match=r"^watch: a batch of \d came about at ward"):
        edgebench.capacity(topology, seeds=1, calibrate=[run_dir], out=tmp_path)


class Machine:
    """Runs simulations, and says of some, by load and seed, as often as is given, that something has spoiled them."""

    def __init__(self, run_dir: Path, spoiled: dict[tuple[int, int], int], reason: str, kind: ReasonKind) -> None:
        self._times = service_times_of(run_dir)
        self._spoiled = spoiled
        self._reason, self._kind = reason, kind
        self.ran: list[tuple[int, int]] = []

    def key(self, given: TopologyFile) -> str:
        return cell_key(check_simulated(given), given.topology)

    def run(self, given: TopologyFile, out: Path) -> tuple[Path, Result]:
        topology = given.topology
        self.ran.append((topology.nodes["bed"].count or 1, topology.seed))
        run_dir, result = simulate_with(self._times, given, out, page="no")
        if self._spoiled.get(self.ran[-1], 0):
            self._spoiled[self.ran[-1]] -= 1
            verdict = Verdict(False, [self._reason], [self._kind])
            return run_dir, msgspec.structs.replace(result, verdict=verdict, executor="local")
        return run_dir, result


def sought(file: Path, machine: Machine, out: Path) -> Capacity:
    load = Load(edgebench.load(file), "watch", "devices", "bed", 60, 3, Scale(1, 48, True, 0))
    return Search(load, machine, "local", [4, 5], out, lambda _: None).found()


def test_a_run_that_the_machine_has_spoiled_is_made_again(
    file: Path, run_dir: Path, found: Capacity, tmp_path: Path
) -> None:
    noise = "foreign work disturbed 27 % of the time"
    machine = Machine(run_dir, {(3, 5): 2}, noise, "disturbance")
    again = sought(file, machine, tmp_path)
    assert machine.ran[:4] == [(3, 4), (3, 5), (3, 5), (3, 5)]
    assert (again.limit, again.ended) == (found.limit, None)
    own = next(point for point in again.curve if point.load == 3)
    assert [list(run.spoiled.values()) for run in own.runs] == [[], [noise, noise]]


def test_a_load_at_which_every_run_is_spoiled_ends_the_search_and_is_not_said_not_to_hold(
    file: Path, run_dir: Path, tmp_path: Path
) -> None:
    machine = Machine(run_dir, {(6, 4): 3}, "link bed -> ward: one-way latency measured 4 ms", "link")
    known = sought(file, machine, tmp_path)
    assert (known.limit, known.next, [point.load for point in known.curve]) == (3, None, [3])
    assert known.ended is not None
    assert known.ended.startswith("at 6 devices: seed 4: 3 runs were spoiled by what is no matter of the load")
    assert json.loads((tmp_path / "capacity.json").read_bytes())["ended"] == known.ended


def test_a_real_load_that_does_not_hold_with_one_seed_is_not_run_with_another(
    file: Path, run_dir: Path, tmp_path: Path
) -> None:
    machine = Machine(run_dir, {(6, 4): 1}, "watch: 3 of 300 samples were lost (none may be)", "delivery")
    found = sought(file, machine, tmp_path)
    assert (6, 5) not in machine.ran
    assert (found.limit, found.next) == (5, 6)


def test_what_was_run_before_ctrl_c_is_not_run_again(
    file: Path, run_dir: Path, found: Capacity, tmp_path: Path
) -> None:
    class Interrupted(Machine):
        def run(self, given: TopologyFile, out: Path) -> tuple[Path, Result]:
            if len(self.ran) == 2:
                raise KeyboardInterrupt
            return super().run(given, out)

    with pytest.raises(KeyboardInterrupt):
        sought(file, Interrupted(run_dir, {}, "", "run"), tmp_path)
    kept = json.loads((tmp_path / "capacity.json").read_bytes())
    assert (kept["limit"], kept["next"]) == (3, None)
    assert kept["ended"] == "it was interrupted, or is under way"
    machine = Machine(run_dir, {}, "", "run")
    assert sought(file, machine, tmp_path).limit == found.limit
    assert {(3, 4), (3, 5)}.isdisjoint(machine.ran)


def test_a_search_that_is_gone_on_with_finds_the_same_by_the_runs_that_are_missing(
    file: Path, run_dir: Path, found: Capacity, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(found.folder, folder)
    (folder / "capacity.json").unlink()
    cells = sorted((folder / "cells").iterdir())
    cells[0].unlink()
    before = sum(each.is_dir() for each in folder.iterdir())
    again = edgebench.capacity(
        file, "watch", p99_ms=60, within_percent=0, calibrate=[run_dir], out=tmp_path / "unused", resume=folder
    )
    assert (again.limit, again.next, len(again.curve)) == (found.limit, found.next, len(found.curve))
    assert sum(each.is_dir() for each in folder.iterdir()) == before + 1
    assert sorted((folder / "cells").iterdir()) == cells
    assert not (tmp_path / "unused").exists()


def test_halving_many_devices_ends_at_a_whole_number(file: Path) -> None:
    load = load_of(edgebench.load(file, ["nodes.bed.count=3000"]), CapacityOptions())
    assert load.scale.least == 2


def test_a_device_that_is_alone_keeps_its_name(file: Path) -> None:
    load = load_of(edgebench.load(file, ["nodes.bed.count="]), CapacityOptions())
    assert load.topology(1, 4).topology.nodes["bed"].count is None
    assert load.topology(2, 4).topology.nodes["bed"].count == 2


def test_what_has_jobs_alone_has_no_capacity(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("schema: 1\nname: jobs\nnodes: {cloud: {tier: cloud}}\njobs: []\n")
    with pytest.raises(EdgebenchError, match="has no workload"):
        load_of(edgebench.load(file), CapacityOptions())
