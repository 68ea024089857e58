"""Simulations of nodes that runs emulate: by what nodes of the same profile took."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import edgebench
from edgebench.errors import EdgebenchError
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.simulate import simulate_with
from edgebench.simulation.layout import layout_of
from edgebench.topology.profile_files import written
from tests.profiles import profile
from tests.simulation.made import MS, times
from tests.simulation.wards import COSTS, SLOW, WATCH, of_slow_boards, slow_ward


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of emulated nodes, simulated itself."""
    folder = tmp_path_factory.mktemp("emulated")
    found, _ = simulate_with(of_slow_boards(times([20 * MS], COSTS)), edgebench.load(slow_ward(folder)), folder)
    return found


def test_emulated_nodes_take_what_nodes_of_their_profile_took(run_dir: Path, tmp_path: Path) -> None:
    more = edgebench.load(slow_ward(tmp_path), ["nodes.bed.count=6"])
    run = edgebench.simulate(more, calibrate=[run_dir], out=tmp_path / "runs")
    watch = run.figures.workloads["watch"]
    assert (run.figures.figures, watch.decided, watch.lost) == ("modelled", 300, 0)
    assert watch.hops_ms is not None
    assert watch.hops_ms.infer.p50 == 20.0
    assert {(node.profile, node.emulated) for node in run.figures.nodes.values()} == {("slow-board", None)}
    assert (run.folder / "profiles" / "slow-board.json").is_file()
    again = edgebench.simulate(edgebench.load(run.folder), calibrate=[run_dir], out=tmp_path / "again")
    assert again.figures.workloads["watch"].latency_ms == watch.latency_ms


def test_a_message_between_two_machines_takes_what_it_took_between_two_such(run_dir: Path, tmp_path: Path) -> None:
    beside_fast_beds = edgebench.load(slow_ward(tmp_path, ("cloud", "ward")))
    with pytest.raises(EdgebenchError, match="on profile host below slow-board"):
        edgebench.simulate(beside_fast_beds, calibrate=[run_dir], out=tmp_path / "runs")


def test_a_run_with_another_machine_of_the_same_name_tells_nothing(run_dir: Path, tmp_path: Path) -> None:
    file = slow_ward(tmp_path)
    (tmp_path / "slow.json").write_bytes(written(profile(cores=8, inference=SLOW.inference)))
    with pytest.raises(EdgebenchError, match=r"slow\.json: is not the 'slow-board' that .* had"):
        edgebench.simulate(file, calibrate=[run_dir], out=tmp_path / "runs")


def contended(given: TopologyFile) -> list[str]:
    return list(layout_of(given.topology, of_slow_boards(times([20 * MS], COSTS)), given.path).contended)


def test_a_node_that_nothing_passes_needs_no_core(tmp_path: Path) -> None:
    """A cloud with one core, of which nobody asks anything, and then something."""
    (tmp_path / "one.json").write_bytes(written(msgspec.structs.replace(SLOW, name="one-core", cores=1)))
    file = slow_ward(tmp_path, ("ward", "bed"))
    assert contended(edgebench.load(file, ["nodes.cloud.profile=one.json"])) == []
    by_cloud = edgebench.load(file, ["nodes.cloud.profile=one.json", "workloads.watch.place.infer=cloud"])
    assert contended(by_cloud) == ["cloud"]


def test_threads_that_wait_for_a_core_are_told_by_the_profile(run_dir: Path, tmp_path: Path) -> None:
    """The ward has one for its broker, one for messages, and one for each of three models, and four cores."""
    file = slow_ward(tmp_path, workloads=dict.fromkeys(("one", "another", "third"), WATCH))
    assert contended(edgebench.load(file)) == ["ward"]
    run = edgebench.simulate(edgebench.load(file), calibrate=[run_dir], out=tmp_path / "runs")
    assert run.figures.calibrated_by == [run_dir.name, "profile slow-board"]
    assert [each.decided for each in run.figures.workloads.values()] == [150] * 3
