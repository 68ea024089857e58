"""Simulations of nodes that were in no run: by what their profiles say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edgebench
from edgebench.cli import main
from edgebench.experiments.simulate import simulate_with
from edgebench.placement.stream_placed import StreamPlacement
from edgebench.results.sample_figures import WorkloadFigures
from edgebench.simulation.by_profile import ByProfile
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import PictureCost
from tests.profiles import inference, message, ms_times, profile
from tests.simulation.made import LIGHT, MS, times
from tests.simulation.wards import COSTS, SLOW, WATCH, measured, of_slow_boards, slow_ward

ONCE = {**WATCH, "load": {"kind": "fixed", "rate_hz": 1}}
BY_SLOW = ["profile slow-board"]


def placed(infer: str, **more: Any) -> dict[str, Any]:
    """The one workload of a ward."""
    plan = {**ONCE, "place": {"infer": infer}, **more}
    return {"watch": {name: value for name, value in plan.items() if infer != "device" or name != "batch"}}


def simulated(file: Path, folder: Path, *runs: Path, changes: tuple[str, ...] = ()) -> edgebench.Run:
    return edgebench.simulate(edgebench.load(file, list(changes)), calibrate=runs, out=folder / "runs")


def p50_ms(figures: WorkloadFigures) -> float:
    assert figures.latency_ms is not None
    return figures.latency_ms.p50


def times_as_long(size_bytes: float) -> float:
    """As a message of 100 bytes takes."""
    return 1 + 2 * (size_bytes - 100) / 99_900


def test_a_topology_of_profiles_needs_no_run(tmp_path: Path) -> None:
    """A message of 100 bytes takes 6 ms from one slow board to another, and the model 20."""
    found = {}
    for infer in ("device", "edge", "cloud"):
        run = simulated(slow_ward(tmp_path, links=[], workloads=placed(infer)), tmp_path)
        assert (run.figures.figures, run.figures.calibrated_by) == ("modelled", BY_SLOW)
        found[infer] = run.figures.workloads["watch"]
        assert (found[infer].decided, found[infer].lost) == (30, 0)
    assert "calibrated by profile slow-board" in run.report.read_text()
    assert p50_ms(found["device"]) == 20.0
    sample = found["edge"].sample_bytes
    assert sample is not None
    assert sample == pytest.approx(48 * 76 * 4, rel=0.01)
    # Decisions have some 130 bytes, and envelopes of what is passed on some 30.
    assert p50_ms(found["edge"]) == pytest.approx(6 * times_as_long(sample) + 20 + 6, abs=0.02)
    there_ms = 6 * times_as_long(sample) + 6 * times_as_long(sample + 32)
    assert p50_ms(found["cloud"]) == pytest.approx(there_ms + 20 + 2 * 6, abs=0.04)


def test_a_run_that_was_emulated_by_the_profile_goes_before_it(tmp_path: Path) -> None:
    file = slow_ward(tmp_path, links=[], workloads=placed("edge"))
    known = of_slow_boards(times([30 * MS], COSTS))
    run_dir, _ = simulate_with(known, edgebench.load(file), tmp_path / "known", page="no")
    watch = simulated(file, tmp_path, run_dir).figures.workloads["watch"]
    assert watch.hops_ms is not None
    assert watch.hops_ms.infer.p50 == 30.0
    assert p50_ms(watch) == pytest.approx(30 + 0.5 + 0.3 + 0.1, abs=0.01)


def test_one_run_of_this_machine_tells_the_rest_of_edges_that_are_boards(tmp_path: Path) -> None:
    """Samples have 2,000 bytes, and take 0.5 ms to the ward besides their link, of which a third is the bed's, as is a
    third of 0.3 ms on the way back."""
    run_dir = measured(tmp_path)
    file = slow_ward(tmp_path, ("ward",), links=[], workloads=placed("edge"))
    run = simulated(file, tmp_path, run_dir)
    assert run.figures.calibrated_by == [run_dir.name, *BY_SLOW]
    expected_ms = 0.5 / 3 + 3 * times_as_long(2_000) + 20 + 4 + 0.3 / 3
    assert p50_ms(run.figures.workloads["watch"]) == pytest.approx(expected_ms, abs=0.02)
    by_cloud = simulated(file, tmp_path, run_dir, changes=("workloads.watch.place.infer=cloud",))
    assert by_cloud.figures.workloads["watch"].decided == 30


def test_a_batch_takes_the_sum_of_the_draws_of_its_split(tmp_path: Path) -> None:
    """Three samples are decided one by one, each in 10 or 30 ms; nine as eight, in 40, and one."""
    known = (inference(1, 10.0, 30.0, runtime="litert"), inference(8, 40.0, runtime="litert"))
    board = profile(cores=4, inference=(*known, inference(32, 100.0, runtime="litert")))
    topology = edgebench.load(slow_ward(tmp_path, board=board)).topology
    found = ByProfile(topology, ServiceTimes()).batches(LIGHT._replace(profile=board.name), [3, 9], 1.0)
    ms, counts = np.unique(found[3] / MS, return_counts=True)
    assert ms.tolist() == [30, 50, 70, 90]
    assert found[3].mean() == 60 * MS
    assert counts / len(found[3]) == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8], abs=0.05)
    assert np.unique(found[9] / MS).tolist() == [50, 70]
    half = ByProfile(topology, ServiceTimes()).batches(LIGHT._replace(profile=board.name), [8], 0.5)
    assert half[8].tolist() == [20 * MS]


SIGNS, JPEG = "sign-recognition", {"kind": "jpeg", "quality": 75}
PICTURES = profile(
    cores=4,
    inference=(inference(1, 20.0, task=SIGNS, runtime="litert"),),
    pictures=(PictureCost(SIGNS, 75, ms_times(1.0), ms_times(2.0)),),
)
SHORT = profile(
    cores=4, inference=SLOW.inference, messages=(message(100, 1.0, 2.0, 3.0), message(1_000, 2.0, 4.0, 6.0))
)
BOTH = profile(cores=4, inference=(*SLOW.inference, msgspec.structs.replace(SLOW.inference[0], size="heavy")))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"changed": ("ward", "cloud")}, "nothing is known of how late a device takes a sample on profile host"),
        ({"changed": ()}, "nothing says what things take (name a run of the same tasks with --calibrate RUN)"),
        (
            {"board": PICTURES, "workloads": placed("edge", task=SIGNS, compress=JPEG)},
            "nothing is known of the bytes of a sample of sign-recognition as JPEG 75 (name a run in which it is ",
        ),
        (
            {"board": SHORT},
            "beyond 1,000 bytes, and there are some of 14,640 (measure the board anew: edgebench profile --message-b",
        ),
        (
            {"durability": "process"},
            "$.durability: process, and no profile tells what keeping samples takes (name a run of the same tasks",
        ),
        ({"board": BOTH, "workloads": placed("cascade", cascade={})}, "passes on"),
    ],
)
def test_what_neither_runs_nor_profiles_tell_is_named_with_the_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, Any], said: str
) -> None:
    file = slow_ward(tmp_path, **{"workloads": placed("edge"), **given})
    assert main(["simulate", str(file), "--out", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert all(("calibrate" in line) != ("edgebench profile" in line) for line in error.splitlines())
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_pictures_are_compressed_and_decompressed_as_long_as_the_profile_says(tmp_path: Path) -> None:
    """A run of this machine tells how many bytes they have."""
    plan = placed("edge", task=SIGNS, compress=JPEG)
    here = slow_ward(tmp_path, (), links=[], workloads=plan)
    made = times([20 * MS], {**COSTS, "size": (2_000,)})
    costs = {
        cost._replace(task=SIGNS if cost.task else "", how=how): each
        for cost, each in made.costs.items()
        for how in ("", "as JPEG 75")
        if not cost.how
    }
    infer = {LIGHT._replace(task=SIGNS): made.infer[LIGHT]}
    known = ServiceTimes(infer=infer, costs=costs, sources=("made up",))
    run_dir, _ = simulate_with(known, edgebench.load(here), tmp_path / "known", page="no")
    file = slow_ward(tmp_path, board=PICTURES, links=[], workloads=plan)
    watch = simulated(file, tmp_path, run_dir).figures.workloads["watch"]
    # Compressing, the way there, decompressing, deciding, the way back.
    assert p50_ms(watch) == pytest.approx(1 + 6 * times_as_long(2_000) + 2 + 20 + 6, abs=0.02)


def test_placements_sweeps_and_capacities_go_by_profiles_alone(tmp_path: Path) -> None:
    quick = profile(name="quick-board", cores=4, inference=(inference(1, 2.0, runtime="litert"),))
    (tmp_path / "quick.json").write_bytes(written(quick))
    file = slow_ward(tmp_path, ("cloud", "ward", "bed"), links=[], workloads=placed("edge"))
    found = edgebench.place(file, "exact", objective=["mean-ms"])
    assert isinstance(found, StreamPlacement)
    assert ([stage.tier for stage in found.stages], found.calibrated_by) == (["device"], tuple(BY_SLOW))
    spec = tmp_path / "boards.yaml"
    spec.write_text(
        "schema: 1\nname: boards\ntopology: ward.yaml\nexecutor: simulate\n"
        f"grid: {{nodes.ward.profile: [{tmp_path}/slow.json, {tmp_path}/quick.json]}}\n"
        "rank: {figure: workloads.watch.latency_ms.p50}\n"
    )
    swept = edgebench.sweep(spec, out=tmp_path / "sweeps")
    assert [cell.state for cell in swept.cells] == ["valid", "valid"]
    slow, fast = (float(cell.values["workloads.watch.latency_ms.p50"] or 0) for cell in swept.cells)
    assert slow - fast == pytest.approx(18, abs=0.01)
    held = edgebench.capacity(file, p99_ms=60, seeds=1, most=4, out=tmp_path / "capacities")
    assert held.calibrated_by == BY_SLOW
    assert not (Path(held.folder) / "measured").exists()
