"""Nodes with fewer cores than threads, simulated: each job waits for a core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edgebench
from edgebench.cli import main
from edgebench.errors import EdgebenchError
from edgebench.experiments import simulate
from edgebench.experiments.capacity_search import spoiled_by
from edgebench.experiments.measuring_runs import _settings
from edgebench.experiments.simulate import check_simulated, simulate_with
from edgebench.fabric.records import Cut
from edgebench.results.figures import Verdict
from edgebench.results.rundir import load_deployment, load_run, read_records, read_result
from edgebench.simulation import contention
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.layout import UnmeasuredBatch
from edgebench.simulation.service_times import Cuts, ServiceTimes
from edgebench.topology.deployment import Deployment
from edgebench.topology.profiles import MessageCost, Profile
from tests.profiles import inference, message, ms_times, profile
from tests.simulation.made import LIGHT as HERE
from tests.simulation.made import MS, times, with_cuts
from tests.simulation.wards import WATCH, measured, slow_ward

LIGHT_THERE = HERE._replace(profile="slow-board")
PLAIN = profile(
    inference=(inference(1, 20.0, runtime="litert"),),
    messages=(message(100, 1.0, 2.0, 3.0), message(100_000, 1.0, 2.0, 3.0)),
)
"""Any message takes its broker 1 ms, 2 to be taken in, and 3 to be sent; a sample 20 to be decided."""


LIGHT = inference(1, 10.0, runtime="litert")
APART = profile(
    inference=(LIGHT, msgspec.structs.replace(LIGHT, size="heavy")),
    messages=tuple(
        MessageCost(qos, size_bytes, ms_times(1.0 * k), ms_times(2.1 * k), ms_times(3.3 * k), ms_times(0.7 * k))
        for qos in (0, 1)
        for size_bytes, k in ((100, 1.0), (100_000, 5.0))
    ),
    wake=ms_times(0.3),
)
"""Each part of a message takes a time of its own."""


def with_cores(board: Profile, number: int) -> Profile:
    given = {name: getattr(board, name) for name in ("inference", "messages", "wake")}
    return profile(cores=number, **given)


def plan(infer: Any, load: Any, **more: Any) -> dict[str, Any]:
    found = {**WATCH, "load": load, "place": {"infer": infer}, **more}
    return {name: value for name, value in found.items() if infer != "device" or name != "batch"}


def simulated(
    folder: Path, cores: int, workloads: dict[str, Any], board: Profile = PLAIN, *, beds: int = 3, **more: Any
) -> Path:
    """The run directory of beds on one ward, all of them with so many cores each."""
    file = slow_ward(folder, links=[], board=with_cores(board, cores), workloads=workloads, **more)
    given = edgebench.load(file, [f"nodes.bed.count={beds}"])
    known = with_cuts(times(unsure=0.4), Cuts({2: Cut(2, "second", 400, 6.0, 4.0)}, frozenset({2}), 3))
    found, _ = simulate_with(known, given, folder / "runs", page="no")
    return found


def latencies_ms(run_dir: Path, workload: str = "watch") -> list[float]:
    """In the order of devices, and of their samples."""
    names = ("workload", "node", "seq", "scheduled_ns", "arrived_ns")
    table = read_records(run_dir).to_pydict()
    rows = sorted(zip(*(table[name] for name in names), strict=True))
    return [(arrived - due) / 1e6 for name, *_, due, arrived in rows if name == workload and arrived is not None]


@pytest.fixture
def at_once(tmp_path: Path) -> dict[str, str]:
    """A load of one sample of each bed."""
    (tmp_path / "due.txt").write_text("1\n")
    return {"kind": "trace", "file": str(tmp_path / "due.txt")}


def test_jobs_wait_for_a_core_in_the_order_in_which_their_threads_asked(tmp_path: Path, at_once: Any) -> None:
    """Worked out by hand. Three cores: the broker, messages and the model have one each, and the model's thread sends
    one answer before it decides the next sample. One core: at 3 the first of two samples reaches the ward's broker, is
    taken in until 6, and decided from 7 to 27, since the broker had asked before; the other one is taken in until 29,
    and decided from 33 to 53, behind the first answer and the broker's part of it."""
    two = {"watch": plan("edge", at_once)}
    for cores, expected in ((3, [32, 55]), (1, [35, 59])):
        assert latencies_ms(simulated(tmp_path, cores, two, beds=2)) == expected


def test_a_core_that_all_of_a_device_share_is_waited_for(tmp_path: Path, at_once: Any) -> None:
    """The first of what falls due at one time is decided, for 20 ms; then the other one is sent."""
    both = {"own": plan("device", at_once), "watch": plan("edge", at_once)}
    run_dir = simulated(tmp_path, 1, both, beds=1)
    assert latencies_ms(run_dir, "own") == [20]
    assert latencies_ms(run_dir) == [20 + 3 + 1 + 2 + 20 + 3 + 1 + 2]


def test_one_core_decides_as_many_as_all_that_it_does_leaves_time_for(tmp_path: Path) -> None:
    """39 samples a second, of which each keeps a ward busy for 27 ms, and of these the thread of its model for 23."""
    load = {"kind": "fixed", "rate_hz": 13}
    for cores, decided in ((1, 10_000 / 27), (3, 390)):
        table = read_records(simulated(tmp_path, cores, {"watch": plan("edge", load)})).to_pydict()
        finished_s = np.array([at for at in table["finished_ns"] if at is not None]) / 1e9
        assert (finished_s < 10).sum() == pytest.approx(decided, rel=0.01)


PLACES: dict[str, dict[str, Any]] = {
    "device": {"infer": "device"},
    "edge": {"infer": "edge", "batch": {"max_batch": 1, "max_wait_ms": 3}, "qos": 0},
    "cloud": {"infer": "cloud"},
    "cascade": {"infer": "cascade", "cascade": {}},
    "chain": {"infer": ["edge", "cloud"], "split": 2},
    "mixed": {"infer": {"bed-0": "device", "bed-1": "edge", "bed-2": "cloud"}},
}
GROUPS = ("bed", "ward", "cloud"), ("ward",), ("bed", "cloud")
"""Those of which each job asks for a core."""


@pytest.mark.parametrize("place", PLACES)
def test_with_cores_for_all_it_takes_what_it_takes_where_nobody_waits(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the nanosecond, as nothing is drawn, and samples are far from each other: records, counts and bytes."""
    workloads = {"watch": plan(load={"kind": "fixed", "rate_hz": 0.5}, **PLACES[place])}
    found = []
    for groups in (*GROUPS, ()):

        def chosen(deployment: Deployment, groups: tuple[str, ...] = groups) -> list[str]:
            return [name for name, node in deployment.nodes.items() if node.group in groups]

        monkeypatch.setattr(contention, "contended_nodes", chosen)
        run_dir = simulated(tmp_path, 9, workloads, APART, beds=3 if place == "mixed" else 1, duration_s=20)
        table = read_records(run_dir).to_pydict()
        order = sorted(range(len(table["seq"])), key=lambda row: (table["node"][row], table["seq"][row]))
        columns = {name: [column[row] for row in order] for name, column in table.items()}
        stored = load_run(run_dir)
        found.append((columns, stored.observations.tallies, stored.observations.links))
    assert len(found[0][0]["seq"]) == (30 if place == "mixed" else 10)
    of_windows = found.pop()
    assert found == [of_windows] * len(GROUPS)


def test_what_cores_would_do_that_nobody_knows_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = slow_ward(tmp_path, links=[], board=with_cores(PLAIN, 2), workloads={"watch": WATCH}, durability="process")
    assert main(["simulate", str(file), "--calibrate", str(measured(tmp_path)), "--out", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == (
        f"{file}: $.nodes.ward.profile: fewer cores than threads, and nothing tells what durability: process takes of "
        "them (edgebench run it)\n"
    )
    below = slow_ward(tmp_path, ("ward",), links=[], board=with_cores(PLAIN, 2), workloads={"watch": WATCH})
    with pytest.raises(EdgebenchError, match=r"takes besides the link of icu-death on profile host \(name"):
        simulate_with(ServiceTimes(), edgebench.load(below), tmp_path / "runs", page="no")
    one = ServiceTimes(infer={LIGHT_THERE: {1: np.array([20 * MS]), 8: np.array([40 * MS])}})
    watch = {**WATCH, "load": {"kind": "fixed", "rate_hz": 40}, "batch": {"max_batch": 8, "max_wait_ms": 500}}
    short = slow_ward(tmp_path, links=[], board=with_cores(PLAIN, 2), workloads={"watch": watch})
    with pytest.raises(UnmeasuredBatch, match=r"'slow-board' tells nothing of 8 \(measure it, or"):
        simulate_with(one, edgebench.load(short), tmp_path / "runs", page="no")
    monkeypatch.setattr(simulate, "MOST_RECORDED", 10)
    with pytest.raises(EdgebenchError, match=r"\$\.nodes\.ward\.profile: fewer cores than threads, of so many devices"):
        simulated(tmp_path, 2, {"watch": WATCH})
    assert not list((tmp_path / "runs").glob("*"))


def test_threads_are_counted_node_by_node(tmp_path: Path) -> None:
    """Each bed has one, though their group has two; the ward has four, for a model and what it passes on."""
    workloads = {"watch": plan(load={"kind": "fixed", "rate_hz": 1}, **PLACES["mixed"])}
    deployment = load_deployment(simulated(tmp_path, 1, workloads))
    assert contention.contended_nodes(deployment) == ["cloud", "ward"]


def test_a_run_of_nodes_that_wait_for_cores_tells_inference_alone(tmp_path: Path) -> None:
    load = {"kind": "poisson", "rate_hz": 5}
    waiting, alone = (simulated(tmp_path, cores, {"watch": plan("edge", load)}) for cores in (1, 3))
    told, all_told = service_times_of(waiting), service_times_of(alone)
    assert {cost.step for cost in told.costs} == {"size", "reply"}
    assert {cost.step for cost in all_told.costs} > {"site-up", "site-down", "wake", "answer", "decode"}
    assert told.infer.keys() == all_told.infer.keys()


def test_what_messages_to_nodes_that_wait_for_cores_take_is_measured_without_profiles(tmp_path: Path) -> None:
    def wanted(cores: int, *groups: str) -> list[list[str]]:
        file = slow_ward(tmp_path, groups, board=with_cores(PLAIN, cores), workloads={"watch": WATCH})
        given = edgebench.load(file)
        settings = _settings(given, check_simulated(given), tmp_path)
        return [changes for how, changes in settings.items() if how.startswith("without profiles")]

    assert wanted(1, "ward") == [["duration_s=10.0", "nodes.ward.profile=host"]]
    assert wanted(3, "ward") == wanted(1, "ward", "bed", "cloud") == []


def test_what_waits_for_a_core_to_be_sent_is_not_kept_for_the_cloud(tmp_path: Path) -> None:
    """210 samples of 15 kB a second, of which one core can pass on some 170: the others are in the ward's memory, and
    its store has room for what crosses the uplink."""
    load = {"kind": "fixed", "rate_hz": 70}
    links = [{"between": ["ward", "cloud"], "rate_mbit_s": 1_000}]
    workloads = {"watch": plan("cloud", load, store={"max_mb": 1})}
    file = slow_ward(tmp_path, ("ward",), links=links, board=with_cores(PLAIN, 1), workloads=workloads)
    _, result = simulate_with(times([1_000], {"size": (15_000,)}), edgebench.load(file), tmp_path / "runs", page="no")
    assert result.verdict.valid, result.verdict.reasons
    latency = result.workloads["watch"].latency_ms
    assert latency is not None
    assert latency.max > 1_000


def test_what_a_connection_would_not_have_survived_is_no_matter_of_chance(tmp_path: Path) -> None:
    """A simulation comes out the same each time, so a search takes it for a load that does not hold."""
    result = read_result(simulated(tmp_path, 3, {"watch": WATCH}, beds=1))
    broken = msgspec.structs.replace(result, verdict=Verdict(False, ["silent"], ["link"], []))
    assert spoiled_by(broken) is None
    assert spoiled_by(msgspec.structs.replace(broken, executor="local")) == "silent"
