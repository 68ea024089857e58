"""Devices that move, simulated: they take along what is undecided, as in a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import edgebench
from edgebench.cli import main
from edgebench.core.device import Moved
from edgebench.errors import EdgebenchError
from edgebench.experiments import simulate
from edgebench.experiments.simulate import simulate_with
from edgebench.results.rundir import load_run, read_records
from edgebench.simulation import places
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.moving import GREETING_BYTES
from edgebench.simulation.service_times import Cost, ServiceTimes
from edgebench.topology.profile_files import written
from tests.profiles import message, profile
from tests.simulation.made import MS, TASK, times
from tests.simulation.test_contention import PLAIN

TO_THE_OTHER = {"at_s": 1, "node": "car-0", "to": "road-1"}
KNOWN = times(costs={"connect": (3 * MS,)})
"""A decision takes 1 ms, connecting 3 besides the link, and all else nothing."""


@pytest.fixture
def road(tmp_path: Path) -> dict[str, Any]:
    """Two stretches of road, and a car on each: four samples of it fall due around the move of the first."""
    (tmp_path / "due.txt").write_text("0.5\n0.99\n1.05\n1.2\n")
    return {
        "schema": 1,
        "name": "road",
        "duration_s": 3,
        "nodes": {
            "cloud": {"tier": "cloud"},
            "road": {"tier": "edge", "count": 2, "parent": "cloud"},
            "car": {"tier": "device", "count": 2, "parent": "road"},
        },
        "links": [{"between": ["car", "road"], "latency_ms": 20}],
        "workloads": {
            "signs": {
                "task": TASK,
                "source": "car",
                "load": {"kind": "trace", "file": str(tmp_path / "due.txt")},
                "batch": {"max_batch": 1},
            }
        },
        "moves": [TO_THE_OTHER],
    }


def written_down(folder: Path, topology: dict[str, Any]) -> Path:
    file = folder / "road.yaml"
    file.write_text(yaml.safe_dump(topology))
    return file


def simulated(folder: Path, topology: dict[str, Any], known: ServiceTimes = KNOWN, *changes: str) -> dict[str, Any]:
    """The records of the first car by column, and `run`, what was stored."""
    given = edgebench.load(written_down(folder, topology), changes)
    run_dir, result = simulate_with(known, given, folder / "runs", page="no")
    table = read_records(run_dir).to_pydict()
    of_car = [place for place, node in enumerate(table["node"]) if node == "car-0"]
    of_car.sort(key=lambda place: (table["workload"][place], table["seq"][place]))
    columns = {name: [column[place] for place in of_car] for name, column in table.items()}
    return {**columns, "run": load_run(run_dir), "result": result}


def ms(of: list[int | None]) -> list[float | None]:
    return [None if each is None else each / MS for each in of]


def test_a_car_sends_again_at_its_new_site_what_was_undecided(tmp_path: Path, road: Any) -> None:
    """Worked out by hand. It leaves at 1,000 ms, and asks for a connection after 3; that stands after three round trips
    of 40, at 1,123. The second sample is decided at the old site at 1,011, of which nobody hears; the third one waits.
    Both set out then, and are decided one after the other."""
    found = simulated(tmp_path, road)
    assert ms(found["arrived_ns"]) == [541, 1_164, 1_165, 1_241]
    assert ms(found["sent_ns"]) == [500, 990, 1_050, 1_200]
    assert found["decider"] == ["road-0", "road-1", "road-1", "road-1"]
    observed = found["run"].observations
    assert observed.moves == [Moved("car-0", "road-0", "road-1", 1_000 * MS, 1_123 * MS, 1)]
    decided = {name: of["signs"].decided for name, of in observed.tallies.items()}
    assert decided == {"car-0": 4, "car-1": 4, "road-0": 2, "road-1": 7}
    (move,) = found["result"].handovers
    assert (move.connect_ms, move.first_decision_ms, move.resent, move.lost) == (123.0, 164.0, 1, 0)
    links = {link.name: link for link in observed.links}
    old, new, other = (links[name] for name in ("car-0 -> road-0", "car-0 -> road-1", "car-1 -> road-1"))
    assert [each.up_messages for each in (old, new, other)] == [2, 3, 4]
    assert [each.down_messages for each in (old, new, other)] == [2, 3, 4]  # one of them to an end that is closed
    up, down = sum(GREETING_BYTES[::2]), sum(GREETING_BYTES[1::2])
    assert (new.up_bytes, new.down_bytes) == (3 * other.up_bytes // 4 + up, 3 * other.down_bytes // 4 + down)


def test_what_the_cloud_decides_comes_by_the_edge_that_passed_it_on(tmp_path: Path, road: Any) -> None:
    found = simulated(tmp_path, road, KNOWN, "workloads.signs.place.infer=cloud")
    # The other car's were there first, but for those that had to wait for the move.
    assert ms(found["arrived_ns"]) == [541, 1_164, 1_165, 1_241]
    assert found["run"].observations.tallies["cloud"]["signs"].decided == 9
    assert found["run"].observations.tallies["road-1"]["signs"].forwarded == 7


def test_at_qos_0_nothing_is_kept_and_what_falls_due_on_the_way_is_dropped(tmp_path: Path, road: Any) -> None:
    (tmp_path / "due.txt").write_text("0.5\n0.99\n1.05\n1.082\n1.084\n1.2\n")
    found = simulated(tmp_path, road, KNOWN, "workloads.signs.qos=0")
    # The broker has accepted it at 1,083, and is asked for its decisions before it is sent another sample.
    assert ms(found["arrived_ns"]) == [541, None, None, None, 1_125, 1_241]
    observed = found["run"].observations
    assert observed.tallies["car-0"]["signs"].dropped == {"not-connected": 2}
    assert [move.resent for move in observed.moves] == [0]
    assert found["result"].handovers[0].lost == 3


def test_a_car_that_goes_on_before_it_has_come_is_told_so(tmp_path: Path, road: Any) -> None:
    road["nodes"]["road"]["count"] = 3
    road["moves"] = [TO_THE_OTHER, {"at_s": 1.05, "node": "car-0", "to": "road-2"}]
    found = simulated(tmp_path, road)
    assert ms(found["arrived_ns"]) == [541, 1_214, 1_215, 1_241]
    assert found["decider"] == ["road-0", "road-2", "road-2", "road-2"]
    assert [(each.to, each.up_ns) for each in found["run"].observations.moves] == [
        ("road-1", None),
        ("road-2", 1_173 * MS),
    ]


def test_a_move_that_does_not_end_with_the_streams_is_told_too(tmp_path: Path, road: Any) -> None:
    road["moves"] = [{**TO_THE_OTHER, "at_s": 2.9}]
    road["links"][0]["latency_ms"] = 30_000
    found = simulated(tmp_path, road)
    assert [each.up_ns for each in found["run"].observations.moves] == [None]
    assert found["arrived_ns"] == [None] * 4


def test_what_waits_for_a_link_is_gone_once_a_decision_has_come_to_the_end_that_was_closed(
    tmp_path: Path, road: Any
) -> None:
    """A sample takes its link some 85 ms, so that the second one is decided at 1,007 ms, and the link carries that back
    until 1,037; the third would be there at 1,090."""
    road["links"][0]["rate_mbit_s"] = 0.1
    (tmp_path / "due.txt").write_text("0.5\n0.9\n0.92\n0.94\n0.96\n")
    found = simulated(tmp_path, road)
    observed = found["run"].observations
    assert found["decider"] == ["road-0", *["road-1"] * 4]
    assert observed.tallies["road-0"]["signs"].decided == 2
    (old,) = (link for link in observed.links if link.name == "car-0 -> road-0")
    assert (old.up_messages, old.down_messages) == (2, 2)
    assert [each.resent for each in observed.moves] == [4]


def test_what_its_first_site_was_slow_to_decide_is_heard_by_a_car_that_has_come_back(tmp_path: Path, road: Any) -> None:
    """A decision takes 300 ms, so that of the second sample is there at 1,310, when the car has been at the other site
    and come back. It was sent again twice by then: each site takes it in once."""
    road["moves"] = [TO_THE_OTHER, {"at_s": 1.13, "node": "car-0", "to": "road-0"}]
    (tmp_path / "due.txt").write_text("0.99\n")
    slow = times([300 * MS], {"connect": (3 * MS,)})
    found = simulated(tmp_path, road, slow)
    assert (found["decider"], ms(found["arrived_ns"])) == (["road-0"], [1_330])
    links = {link.name: link for link in found["run"].observations.links}
    assert links["car-0 -> road-1"].down_messages == 0  # that site has heard of its leaving long before it has decided
    assert found["run"].observations.tallies["road-0"]["signs"].duplicated == 1


def test_moves_are_told_in_the_order_in_which_they_began(tmp_path: Path, road: Any) -> None:
    road["nodes"]["van"] = {"tier": "device", "parent": "road", "count": 2}
    road["links"].append({"between": ["van", "road"]})
    road["workloads"]["signs"]["source"] = ["car", "van"]
    road["moves"] = [TO_THE_OTHER, {"at_s": 1.05, "node": "van-0", "to": "road-1"}]
    found = simulated(tmp_path, road)
    moves = found["run"].observations.moves
    assert [(each.node, each.up_ns) for each in moves] == [("car-0", 1_123 * MS), ("van-0", 1_053 * MS)]


def test_at_a_site_that_it_comes_back_to_it_is_no_stranger(tmp_path: Path, road: Any) -> None:
    road["moves"] = [TO_THE_OTHER, {"at_s": 2, "node": "car-0", "to": "road-0"}]
    (tmp_path / "due.txt").write_text("0.5\n0.99\n1.05\n1.99\n2.5\n")
    found = simulated(tmp_path, road)
    assert found["decider"] == ["road-0", "road-1", "road-1", "road-0", "road-0"]
    assert ms(found["arrived_ns"])[-2:] == [2_164, 2_541]
    assert [each.name for each in found["run"].observations.links if each.name.startswith("car-0")] == [
        "car-0 -> road-0",
        "car-0 -> road-1",
    ]


def test_what_a_run_took_to_connect_is_what_a_simulation_takes(tmp_path: Path, road: Any) -> None:
    road["links"][0].update(latency_ms=7, rate_mbit_s=0.1, shared=True)
    of_shared = simulated(tmp_path, road)["run"].path  # across which it may have waited for others
    assert Cost("connect", "host") not in service_times_of(of_shared).costs
    del road["links"][0]["shared"]
    run_dir = simulated(tmp_path, road)["run"].path
    told = service_times_of(run_dir)
    assert told.costs[Cost("connect", "host")] == pytest.approx(3 * MS, abs=10)
    again = simulated(tmp_path, road, dataclasses.replace(KNOWN, costs={**KNOWN.costs, **told.costs}))
    (move,), (before,) = again["run"].observations.moves, load_run(run_dir).observations.moves
    assert move.up_ns == pytest.approx(before.up_ns, abs=10)


@pytest.mark.parametrize(
    "link",
    [
        {"loss_percent": 5, "rate_mbit_s": 2},
        {"outages": [{"at_s": 0.9, "for_s": 0.5}]},
        {"shared": True, "rate_mbit_s": 1},
        {"jitter_ms": 5},
    ],
)
@pytest.mark.parametrize("infer", ["edge", "cloud", {"car-0": "device", "car": "edge"}])
def test_nothing_is_lost_on_the_way(tmp_path: Path, road: Any, link: Any, infer: Any) -> None:
    road["links"][0].update(link)
    road["workloads"]["signs"].update(load={"kind": "poisson", "rate_hz": 40}, place={"infer": infer})
    road["moves"] = [
        TO_THE_OTHER,
        {"at_s": 1.5, "node": "car-1", "to": "road-0"},
        {"at_s": 2.5, "node": "car-0", "to": "road-0"},
    ]
    found = simulated(tmp_path, road)
    signs = found["result"].workloads["signs"]
    assert (signs.decided, signs.lost, signs.duplicated) == (signs.scheduled, 0, 0)
    moves = found["run"].observations.moves
    assert [(each.node, each.to) for each in moves] == [("car-0", "road-1"), ("car-1", "road-0"), ("car-0", "road-0")]
    assert all(each.up_ns is not None for each in moves)


def test_boards_whose_threads_wait_for_a_core_move_as_well(tmp_path: Path, road: Any) -> None:
    board = profile(
        cores=1,
        inference=PLAIN.inference,
        messages=tuple(message(size_bytes, 1.0, 2.0, 3.0, qos) for qos in (0, 1) for size_bytes in (100, 100_000)),
    )
    (tmp_path / "slow.json").write_bytes(written(board))
    for group in ("road", "car"):
        road["nodes"][group]["profile"] = "slow.json"
    road["nodes"]["car"]["count"] = 1
    road["links"] = []
    (tmp_path / "own.txt").write_text("0.1\n")
    own = {"task": TASK, "source": "car", "load": {"kind": "trace", "file": str(tmp_path / "own.txt")}}
    road["workloads"]["own"] = {**own, "place": {"infer": "device"}}  # a thread more than its car has cores
    connect = {Cost("connect", "slow-board"): np.array([3 * MS])}
    known = dataclasses.replace(KNOWN, costs={**KNOWN.costs, **connect})
    found = simulated(tmp_path, road, known)
    # A sample takes its car 3 ms, its road 1 and 2, and 20 to be decided; the decision 3 and 1, and its car 2. The
    # second is sent again at 1,003.
    assert ms(found["arrived_ns"]) == [120, 532, 1_035, 1_082, 1_232]
    assert found["decider"] == ["car-0", "road-0", "road-1", "road-1", "road-1"]
    assert [each.resent for each in found["run"].observations.moves] == [1]
    at_qos_0 = simulated(tmp_path, road, known, "workloads.signs.qos=0")
    assert ms(at_qos_0["arrived_ns"]) == [120, 532, None, 1_082, 1_232]


def test_what_no_run_tells_is_named(tmp_path: Path, road: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = written_down(tmp_path, road)
    without = {cost: each for cost, each in KNOWN.costs.items() if cost.step != "connect"}
    with pytest.raises(EdgebenchError) as refused:
        simulate_with(dataclasses.replace(KNOWN, costs=without), edgebench.load(file), tmp_path / "runs")
    said = "nothing is known of what connecting at another site takes besides the link on profile host"
    mend = "(name a run in which one of 'car' moves with --calibrate)"
    assert str(refused.value) == f"{file}: $.moves: {said} {mend}"
    run_dir = simulated(tmp_path, road)["run"].path
    assert main(["simulate", str(file), "--calibrate", str(run_dir), "--out", str(tmp_path / "out"), "--json"]) == 0
    (move,) = json.loads(capsys.readouterr().out)["handovers"]
    assert (move["connect_ms"], move["resent"], move["lost"]) == (123.0, 1, 0)
    (page,) = (tmp_path / "out").glob("*/report.html")
    assert "Devices that moved" in page.read_text()


def test_fidelity_predicts_a_run_in_which_a_device_moves(
    tmp_path: Path, road: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (simulated(tmp_path, {**road, "seed": seed})["run"].path for seed in (1, 2))
    assert main(["fidelity", str(first), "--calibrate", str(second), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["runs"][first.name]
    latency = told["figures"]["signs.latency_ms.mean"]
    assert latency["predicted"] == pytest.approx(latency["measured"])
    assert latency["formula"] is None


def test_more_devices_than_are_told_one_by_one_do_not_move(
    tmp_path: Path, road: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written_down(tmp_path, road)
    monkeypatch.setattr(simulate, "MOST_RECORDED", 3)
    with pytest.raises(EdgebenchError, match=r"\$\.moves: of more than 3 samples none can be of a device that"):
        simulate_with(KNOWN, edgebench.load(file), tmp_path / "runs")
    monkeypatch.setattr(places, "MOST_NAMED", 1)
    with pytest.raises(EdgebenchError, match=r"\$\.moves: of more than 10,000 devices none can move \(use fewer,"):
        simulate.check_simulated(edgebench.load(file))
