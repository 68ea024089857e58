"""`edgebench simulate`, and the function of its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from msgspec.structs import asdict

import edgebench
from edgebench.cli import main
from edgebench.errors import EdgebenchError
from edgebench.executors.disks import SmallDisk
from edgebench.experiments.simulate import _take_beside, simulate_with
from edgebench.fabric.records import Brokered
from edgebench.results.rundir import load_run, write_observations
from edgebench.simulation import recording
from edgebench.simulation.columns import Rows
from tests.simulation.made import MS, TASK, times

TOPOLOGY: dict[str, Any] = {
    "schema": 1,
    "name": "ward",
    "seed": 4,
    "duration_s": 10,
    "nodes": {
        "cloud": {"tier": "cloud"},
        "ward": {"tier": "edge", "parent": "cloud"},
        "bed": {"tier": "device", "count": 3, "parent": "ward"},
    },
    "links": [{"between": ["bed", "ward"], "latency_ms": 2, "rate_mbit_s": 4}],
    "workloads": {
        "watch": {
            "task": TASK,
            "source": "bed",
            "load": {"kind": "fixed", "rate_hz": 5},
            "deadline_ms": 100,
            "batch": {"max_batch": 1},
        }
    },
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulated") / "ward.yaml"
    path.write_text(yaml.safe_dump(TOPOLOGY))
    return path


@pytest.fixture(scope="module")
def run_dir(file: Path) -> Path:
    """A run to calibrate by, simulated itself."""
    costs = {"size": (2_000,), "site-up": (500_000,), "site-down": (300_000,), "wake": (100_000,), "answer": (50_000,)}
    found, _ = simulate_with(times([20 * MS], costs), edgebench.load(file), file.parent / "runs")
    return found


def test_a_run_that_is_named_twice_tells_what_things_take_once(file: Path, run_dir: Path, tmp_path: Path) -> None:
    beside = run_dir.parent / "." / ".." / run_dir.parent.name / run_dir.name
    found = edgebench.simulate(file, calibrate=[run_dir, beside], out=tmp_path)
    assert found.figures.calibrated_by == [run_dir.name]


def test_a_simulation_is_simulated_again_by_the_runs_that_told_what_things_take(
    file: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "calibrating" / run_dir.name
    shutil.copytree(run_dir, there)
    given = edgebench.load(file, ["seed=9", "workloads.watch.load.rate_hz=7"])
    first = edgebench.simulate(given, calibrate=[there], out=tmp_path / "runs")
    again = edgebench.replay(first.folder)
    assert again.run.folder.parent == first.folder.parent
    columns = ["node", "seq", "scheduled_ns", "arrived_ns"]
    assert again.run.records.select(columns).equals(first.records.select(columns))
    assert (again.comparison.topology, again.run.figures.calibrated_by) == ([], [run_dir.name])
    shutil.rmtree(there)
    assert main(["replay", str(first.folder)]) == 2
    gone = f"what things take was told by {there}, which is not there (put it back)"
    assert capsys.readouterr().err == f"{first.folder}: {gone}\n"
    (first.folder / "options.json").unlink()  # as of a version that did not keep it
    assert main(["replay", str(first.folder)]) == 2
    lost = f"does not say where {run_dir.name} were, which say what things take (edgebench simulate it again)"
    assert capsys.readouterr().err == f"{first.folder}: {lost}\n"


def test_a_simulation_leaves_what_a_run_does_and_says_that_it_is_modelled(
    file: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(file), "--calibrate", str(run_dir), "--out", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["figures"], result["calibrated_by"], result["executor"]) == ("modelled", [run_dir.name], "simulate")
    watch = result["workloads"]["watch"]
    assert (watch["scheduled"], watch["decided"], watch["lost"], watch["late"]) == (150, 150, 0, 0)
    assert watch["hops_ms"]["infer"]["p50"] == 20.0
    assert watch["quality"]["undefined"] == "a simulation tells when something is decided, and not what"
    assert result["started_to_first_decision_s"] is None
    (folder,) = tmp_path.iterdir()
    again = edgebench.load_run(folder, rebuild=True)
    assert (
        again.figures.workloads["watch"].latency_ms == edgebench.load_run(run_dir).figures.workloads["watch"].latency_ms
    )
    assert again.records.num_rows == 150
    page = again.report.read_text()
    assert "Every figure here is modelled" in page
    assert "generated data" not in page


def test_twice_the_beds_and_a_slower_link_are_predicted(file: Path, run_dir: Path, tmp_path: Path) -> None:
    more = edgebench.load(file, ["nodes.bed.count=6", "links[0].latency_ms=12"])
    run = edgebench.simulate(more, calibrate=[run_dir], out=tmp_path)
    watch = run.figures.workloads["watch"]
    assert (watch.scheduled, watch.decided) == (300, 300)
    assert watch.latency_ms is not None
    assert watch.latency_ms.p50 > 12 * 2 + 20


def test_tables_keep_what_was_handed_out_when_its_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_ROWS_A_TABLE", 4)
    memory = np.zeros((3, 2), np.int64)

    def handed_out() -> Iterator[Rows]:
        for number in range(5):
            memory[:] = number
            yield memory[: 2 + number % 2]

    tables = list(recording.joined(handed_out()))
    assert [table[:, 0].tolist() for table in tables] == [[0, 0, 1, 1, 1], [2, 2, 3, 3, 3], [4, 4]]


def test_rows_are_taken_in_order_beside_the_next_ones_and_none_after_one_that_fails() -> None:
    asked, taken = [], []

    def made() -> Iterator[Rows]:
        for number in range(4):
            asked.append(number)
            yield np.full((1, 1), number)

    def take(rows: Rows) -> None:
        taken.append(int(rows[0, 0]))
        if rows[0, 0] == 2:
            raise EdgebenchError("no more")

    with pytest.raises(EdgebenchError, match="no more"):
        _take_beside(made(), take)
    assert (taken, asked) == ([0, 1, 2], [0, 1, 2, 3])


def test_an_overloaded_ward_falls_behind_by_as_much_as_it_must(file: Path, run_dir: Path, tmp_path: Path) -> None:
    """12 beds ask for 60 decisions/s of 20.05 ms each: after 10 s some 2 s of work are left."""
    run = edgebench.simulate(edgebench.load(file, ["nodes.bed.count=12"]), calibrate=[run_dir], out=tmp_path)
    watch = run.figures.workloads["watch"]
    assert (watch.scheduled, watch.lost) == (600, 0)
    assert watch.latency_ms is not None
    assert watch.latency_ms.max == pytest.approx((600 * 20.05 - 10_000), rel=0.02)


def test_a_closed_loop_sends_as_fast_as_it_is_decided(file: Path, run_dir: Path, tmp_path: Path) -> None:
    """A sample is away for half as long as it takes to decide, so of three beds one always waits at the ward."""
    changes = ["workloads.watch.load={kind: single-stream}"]
    run = edgebench.simulate(edgebench.load(file, changes), calibrate=[run_dir], out=tmp_path)
    watch = run.figures.workloads["watch"]
    assert watch.lost == 0
    assert watch.decided == pytest.approx(10_000 / 20, abs=4)
    assert run.records.num_rows == watch.scheduled


def test_what_is_not_written_down_has_the_same_figures(
    file: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["workloads.watch.load={kind: poisson, rate_hz: 14}", "workloads.watch.queue.max_samples=2"]
    given = edgebench.load(file, changes)
    written = edgebench.simulate(given, calibrate=[run_dir], out=tmp_path / "written").figures
    monkeypatch.setattr("edgebench.experiments.simulate.MOST_RECORDED", 100)
    folded = edgebench.simulate(given, calibrate=[run_dir], out=tmp_path / "folded")
    one, other = written.workloads["watch"], folded.figures.workloads["watch"]
    assert one.dropped > 0
    assert one.latency_ms is not None
    assert one.hops_ms is not None
    assert other.latency_ms is not None
    for name in ("scheduled", "decided", "lost", "late", "dropped", "throughput_hz", "mean_batch", "sample_bytes"):
        assert getattr(other, name) == getattr(one, name), name
    assert asdict(other.latency_ms) == pytest.approx(asdict(one.latency_ms), rel=1e-3)
    for hop, found in asdict(one.hops_ms).items():
        mine = getattr(other.hops_ms, hop)
        assert (mine is None) == (found is None), hop
        if found is None:  # of the first stage of a chain
            continue
        assert (mine.p50, mine.p99, mine.mean) == pytest.approx((found.p50, found.p99, found.mean), rel=1e-3), hop
    assert folded.figures.links == written.links
    assert "Latency over time" in folded.report.read_text()
    with pytest.raises(EdgebenchError, match="keeps no records"):
        edgebench.load_run(folded.folder, rebuild=True)


def test_devices_that_are_too_many_to_be_named_are_told_by_their_site(
    file: Path, run_dir: Path, tmp_path: Path
) -> None:
    changes = ["nodes.ward.count=40", "nodes.bed.count=20010", "workloads.watch.load.rate_hz=0.05"]
    run = edgebench.simulate(edgebench.load(file, changes), calibrate=[run_dir], out=tmp_path)
    beds = [node for node in run.figures.nodes.values() if node.tier == "device"]
    assert [node.count for node in beds] == [501] * 10 + [500] * 30
    watch = run.figures.workloads["watch"]
    assert watch.scheduled == watch.decided == pytest.approx(20_010 * 0.5, rel=0.03)
    assert sum(link.up_messages or 0 for link in run.figures.links.values()) == watch.scheduled
    with pytest.raises(EdgebenchError, match=r"\$\.workloads\.watch\.load: a load of this kind on so many devices"):
        edgebench.simulate(
            edgebench.load(file, [*changes[:2], "workloads.watch.load={kind: single-stream}"]),
            calibrate=[run_dir],
            out=tmp_path / "closed",
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["workloads.watch.place.infer=cloud"], "nothing is known of what passing a sample on to the cloud costs"),
        (["workloads.watch.model.size=heavy"], "no service time of icu-death (heavy, litert, float32) on profile host"),
        (["workloads.watch.task=occupancy"], "no service time of occupancy (light, litert, float32) on profile host"),
        (
            ["place.online={}"],
            "$.place.online: the simulate executor cannot enforce placing while a run goes on, --placement online",
        ),
        (["workloads.watch.rollout=[{at_s: 5}]"], "the simulate executor cannot enforce a roll-out"),
        (["faults=[{kind: kill, node: ward, at_s: 2}]"], "the simulate executor cannot enforce faults"),
        (["nodes.ward.memory_mb=500"], "the simulate executor cannot enforce a limit of memory"),
    ],
)
def test_what_is_not_known_or_cannot_be_simulated_is_a_line(
    file: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], said: str
) -> None:
    words = [word for change in changes for word in ("--set", change)]
    out = tmp_path / "runs"
    assert main(["simulate", str(file), "--calibrate", str(run_dir), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not out.exists()


def test_a_run_by_another_kind_of_broker_does_not_say_what_messages_take(
    file: Path, run_dir: Path, tmp_path: Path
) -> None:
    kept = shutil.copytree(run_dir, tmp_path / "kept")
    served = [Brokered(site, "mosquitto", "2.0") for site in ("cloud", "ward")]
    write_observations(kept, msgspec.structs.replace(load_run(kept).observations, brokers=served))
    with pytest.raises(EdgebenchError) as refused:
        edgebench.simulate(edgebench.load(file, ["broker.kind=nats"]), calibrate=[kept], out=tmp_path / "out")
    assert str(refused.value) == (
        f"{file}: $.broker.kind: nats, and mosquitto served {kept} (calibrate with a run of the same)"
    )
    edgebench.simulate(edgebench.load(file), calibrate=[kept], out=tmp_path / "out")


def test_a_batch_that_nobody_measured_ends_a_simulation_and_leaves_nothing(
    file: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "nodes.bed.count=12", "--set", "workloads.watch.batch.max_batch=8"]
    assert main(["simulate", str(file), "--calibrate", str(run_dir), "--out", str(tmp_path), *words]) == 2
    assert "watch: a batch of 3 came about at ward" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_a_run_to_calibrate_by_nothing_is_simulated(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(file)]) == 2
    assert "name a run of the same tasks with --calibrate RUN" in capsys.readouterr().err
    assert main(["run", str(file), "--executor", "simulate"]) == 2
    assert "(use edgebench simulate)" in capsys.readouterr().err


def test_a_full_disk_is_named_and_nothing_of_a_simulation_stays(
    file: Path, run_dir: Path, tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "disk"
    before = list(place.iterdir())
    disk.fill()
    assert main(["simulate", str(file), "--calibrate", str(run_dir), "--out", str(place)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{place}: the disk at {place} is full, or your share of it is (0 MB left): ")
    assert err.endswith(": nothing of it is kept; make room, or name another folder with --out\n")
    disk.free()
    assert list(place.iterdir()) == before
