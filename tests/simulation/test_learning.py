"""Federations, simulated: rounds worked out by hand, what they share links with, and what runs tell of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import edgebench
from edgebench.cli import main
from edgebench.clock import NS_PER_S
from edgebench.experiments.simulate import simulate_with
from edgebench.fabric.records import ReplyRecord, RoundRecord
from edgebench.results.figures import Result
from edgebench.results.rundir import StoredRun, load_run
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.event_files import ANSWER_BYTES, HEADERS_BYTES, OFFER_BYTES
from edgebench.simulation.learning_times import OF_SITE, TO_DEVICES, TO_EDGES
from edgebench.simulation.service_times import Cost, ServiceTimes, aggregate_ns, merged
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import TrainingCost
from tests.profiles import ms_times, profile
from tests.simulation.made import MS, TASK, times

STEP, AT_FIRST = (Cost("learn", "host", TASK, f"light, litert, 32 samples{when}") for when in ("", ", at first"))
AT_CLOUD = Cost("aggregate", task=TASK, how="light, FedAvg")
AT_EDGE = Cost("aggregate", task=TASK, how="light, at an edge")
SIZES = {"content": 1_000, "update": 1_000}


def known(of_sizes: Mapping[str, int] = SIZES, **changes: int) -> ServiceTimes:
    """A step takes 4 ms, and everything else so many: each message alone, and one after another."""
    took_ms = {"fetch": 5, "serve": 2, "hand-in": 3, "take": 1, **changes}
    costs = {Cost(step, how=how): took_ms[step] * MS for step in took_ms for how in (TO_DEVICES, TO_EDGES, OF_SITE)}
    costs |= {
        Cost(step, task=TASK, how=f"light, {whom}"): size
        for step, size in of_sizes.items()
        for whom in (TO_DEVICES, TO_EDGES, OF_SITE)
    }
    costs |= {Cost("begin-learning", "host"): MS, STEP: 4 * MS}
    costs |= {Cost("next-round", task=TASK, how="light"): MS, Cost("site", task=TASK, how="light"): 6 * MS}
    found = times()
    sorted_costs = {cost: np.array([value], np.int64) for cost, value in costs.items()}
    aggregate = {AT_CLOUD: {2: np.array([7 * MS])}, AT_EDGE: {1: np.array([8 * MS])}}
    return dataclasses.replace(found, costs={**found.costs, **sorted_costs}, aggregate=aggregate)


@pytest.fixture
def ward() -> dict[str, Any]:
    """Two beds on a ward, 10 ms away from it, that learn in two rounds of the cloud, which is 20 ms away from that."""
    return {
        "schema": 1,
        "name": "ward",
        "duration_s": 8,
        "nodes": {
            "cloud": {"tier": "cloud"},
            "ward": {"tier": "edge", "parent": "cloud"},
            "bed": {"tier": "device", "count": 2, "parent": "ward"},
        },
        "links": [
            {"between": ["bed", "ward"], "latency_ms": 10},
            {"between": ["ward", "cloud"], "latency_ms": 20},
        ],
        "workloads": {
            "watch": {
                "task": TASK,
                "source": "bed",
                "load": {"kind": "fixed", "rate_hz": 1},
                "batch": {"max_batch": 1},
            }
        },
        "federated": [{"workload": "watch", "rounds": 2, "rollout_every": 0}],
    }


def simulated(
    folder: Path, topology: Mapping[str, Any], service: ServiceTimes, *changes: str
) -> tuple[StoredRun, Result]:
    file = folder / "ward.yaml"
    file.write_text(yaml.safe_dump(dict(topology)))
    run_dir, result = simulate_with(service, edgebench.load(file, changes), folder / "runs", page="no")
    return load_run(run_dir), result


def stamps_ms(record: RoundRecord, name: str) -> list[float]:
    """Of the replies, from the beginning of the round."""
    return [(getattr(reply, name) - record.started_ns) / MS for reply in record.replies]


def learned_ms(reply: ReplyRecord, epochs: int = 1) -> float:
    assert reply.examples is not None
    return 4.0 * epochs * -(-reply.examples // 32)


def test_rounds_are_as_worked_out_by_hand(tmp_path: Path, ward: Any) -> None:
    """One way takes 30 ms. A notice goes down, a connection takes a round trip, what asks for the model goes up, the
    server serves one client after the other, and the model comes down."""
    run, result = simulated(tmp_path, ward, known())
    first, second = run.rounds
    assert first.started_ns == MS
    assert stamps_ms(first, "delivered_ns") == [30 + 60 + 30 + 2 + 30 + 5, 30 + 60 + 30 + 4 + 30 + 5]
    for record in run.rounds:
        delivered, started, finished, arrived = (
            stamps_ms(record, f"{name}_ns") for name in ("delivered", "started", "finished", "arrived")
        )
        assert started == [at + 1 for at in delivered]
        took = [learned_ms(reply) for reply in record.replies]
        assert finished == [at + each for at, each in zip(started, took, strict=True)]
        # Brought 3 ms later, by the connection that stands; both take 34 ms, or the second one waits for 1 ms more.
        assert min(arrived) == min(finished) + 34
        assert record.gathered_ns == record.started_ns + max(arrived) * MS
        assert record.ended_ns == record.gathered_ns + 7 * MS
    assert second.started_ns == first.ended_ns + MS
    assert stamps_ms(second, "delivered_ns") == [97, 99]  # three ways, and 7 and 9 ms
    figures = result.federated["watch"]
    assert [(each.clients, each.failures, each.bytes_down, each.quality) for each in figures.rounds] == [
        (2, 0, 2_000, None)
    ] * 2
    assert figures.partition is not None
    assert sum(figures.partition.samples.values()) == sum(reply.examples or 0 for reply in second.replies)
    assert result.verdict.valid, result.verdict.reasons


def test_an_edge_answers_for_its_devices_by_rounds_of_its_own(tmp_path: Path, ward: Any) -> None:
    ward["nodes"]["ward"]["count"] = 2
    ward["federated"][0] |= {"aggregate": ["edge", "cloud"], "edge_rounds": 2}
    run, result = simulated(tmp_path, ward, known())
    of_cloud = [each for each in run.rounds if each.server == "cloud"]
    assert [each.number for each in of_cloud] == [1, 2]
    second = of_cloud[1]
    assert [reply.node for reply in second.replies] == ["ward-0", "ward-1"]
    # Three ways of 20 ms; then two rounds of 10 ms a way, which aggregate in 8.
    assert stamps_ms(second, "delivered_ns") == [67, 69]
    for reply in second.replies:
        held = [each for each in run.rounds if each.server == reply.node and each.number == 2]
        assert [each.inner for each in held] == [1, 2]
        assert held[0].started_ns == reply.delivered_ns == reply.started_ns
        for each in held:
            (bed,) = each.replies
            assert stamps_ms(each, "delivered_ns") == [30 + 2 + 5]
            assert each.ended_ns - each.started_ns == round((37 + 1 + learned_ms(bed) + 3 + 10 + 1 + 8) * MS)
        assert reply.finished_ns == held[1].ended_ns + 6 * MS
        assert reply.examples == held[1].replies[0].examples
    assert [each.site_rounds for each in result.federated["watch"].rounds] == [4, 4]


def test_who_learns_at_once_is_a_choice(tmp_path: Path, ward: Any) -> None:
    ward["federated"][0]["learners"] = {"at_once": 1}
    run, _ = simulated(tmp_path, ward, known())
    first, second = sorted(run.rounds[1].replies, key=lambda reply: reply.started_ns or 0)
    assert second.started_ns == (first.finished_ns or 0) + MS


def test_who_is_late_frees_its_place(tmp_path: Path, ward: Any) -> None:
    """Each bed learns for 188 ms. In each round the second one begins when the first has learned, and is late; the next
    round finds the place free."""
    ward["federated"][0] |= {"deadline_s": 0.4, "learners": {"at_once": 1}}
    run, _ = simulated(tmp_path, ward, known())
    for record, delivered in zip(run.rounds, (157, 97), strict=True):
        assert [learned_ms(reply) for reply in record.replies if reply.error is None] == [188.0]
        (good,) = (reply for reply in record.replies if reply.error is None)
        assert (good.arrived_ns or 0) - record.started_ns == (delivered + 1 + 188 + 34) * MS
        assert record.gathered_ns - record.started_ns == 400 * MS


def test_an_edge_that_the_cloud_gives_up_tells_of_the_round_that_it_held(tmp_path: Path, ward: Any) -> None:
    ward["federated"][0] |= {"rounds": 1, "aggregate": ["edge", "cloud"], "deadline_s": 0.15}
    service = known()
    run, result = simulated(
        tmp_path, ward, dataclasses.replace(service, aggregate={**service.aggregate, AT_EDGE: {2: np.array([8 * MS])}})
    )
    at_edge, at_cloud = sorted(run.rounds, key=lambda record: record.server != "ward")
    assert at_cloud.replies[0].error == "no reply within 0.15 s"
    assert {reply.error for reply in at_edge.replies} == {"the cloud has given it up"}
    assert at_edge.gathered_ns == at_cloud.gathered_ns == at_cloud.started_ns + 150 * MS
    assert at_edge.skipped is not None
    assert not result.verdict.valid


def test_who_is_late_is_not_waited_for(tmp_path: Path, ward: Any) -> None:
    run, _ = simulated(tmp_path, ward, known())
    took_s = [each.ended_ns / NS_PER_S - each.started_ns / NS_PER_S for each in run.rounds]
    ward["federated"][0] |= {"deadline_s": min(took_s) / 2, "min_replies": 2}
    run, result = simulated(tmp_path, ward, known())
    for each in run.rounds:
        assert each.gathered_ns - each.started_ns == int(min(took_s) / 2 * NS_PER_S)
        assert each.skipped is not None
        assert each.skipped.endswith("replies are good, 2 needed")
        late = [reply for reply in each.replies if reply.error is not None]
        assert late
        assert all(reply.error is not None and reply.error.startswith("no reply within") for reply in late)
    assert not result.verdict.valid
    assert "not one of 2 federated rounds gave a model" in result.verdict.reasons[0]


def test_a_large_model_fills_links_in_a_row(tmp_path: Path, ward: Any) -> None:
    """20 MB across two links of 8 Mbit/s, 1 MB/s each, take no longer than across one."""
    for link in ward["links"]:
        link["rate_mbit_s"] = 8
    ward["nodes"]["bed"] = {"tier": "device", "parent": "ward"}
    ward["workloads"]["watch"]["place"] = {"infer": "device"}  # so that no sample has files go by turns
    ward["federated"][0] |= {"rounds": 1, "deadline_s": 100}
    service = known({"content": 20_000_000, "update": 1_000})
    of_one = dataclasses.replace(service, aggregate={AT_CLOUD: {1: np.array([7 * MS])}})
    run, _ = simulated(tmp_path, ward, of_one)
    (delivered_ms,) = stamps_ms(run.rounds[0], "delivered_ns")
    assert delivered_ms == pytest.approx(20_000 + 157, abs=100)


@pytest.mark.parametrize(("place", "share"), [("edge", 1.0), ("cloud", 0.8)])
def test_models_share_a_link_and_let_samples_pass(place: str, share: float, tmp_path: Path, ward: Any) -> None:
    """Two models of 100 kB across 8 Mbit/s, 1 MB/s: where samples cross the link, files leave a fifth of it to them."""
    ward["links"][1]["rate_mbit_s"] = 8
    ward["workloads"]["watch"]["place"] = {"infer": place}
    run, _ = simulated(tmp_path, ward, known({"content": 100_000, "update": 100_000}))
    second = run.rounds[1]
    # Both are there when the link can have carried both; the last pieces of the second are behind those of the first.
    way_ms = 30 + 30 + 30 + 7
    last_ms = max(stamps_ms(second, "delivered_ns"))
    assert last_ms == pytest.approx(way_ms + 200 / share, abs=15)
    assert min(stamps_ms(second, "delivered_ns")) > way_ms + 100 / share
    (link,) = (each for each in run.observations.links if each.name == "ward -> cloud")
    told = 4 * (100_000 + HEADERS_BYTES)  # four models; what else goes down is small
    assert link.down_bytes is not None
    assert link.up_bytes is not None
    assert told <= link.down_bytes <= told + 4 * (260 + 3 * ANSWER_BYTES) + 3_000
    assert link.up_bytes >= 4 * (100_000 + OFFER_BYTES)


def test_samples_wait_for_a_piece_and_not_for_a_model(tmp_path: Path, ward: Any) -> None:
    """A megabyte across 8 Mbit/s takes a second and more; a sample that comes then is hardly later."""
    ward["links"][1]["rate_mbit_s"] = 8
    ward["workloads"]["watch"] |= {"place": {"infer": "cloud"}, "load": {"kind": "fixed", "rate_hz": 19}}
    _, alone = simulated(tmp_path, {**ward, "federated": []}, known())
    _, beside = simulated(tmp_path, ward, known({"content": 1_000_000, "update": 1_000_000}))
    in_rounds = beside.federated["watch"].in_rounds_ms
    assert in_rounds is not None
    latency_ms = alone.workloads["watch"].latency_ms
    assert latency_ms is not None
    idle_ms = latency_ms.p99
    assert idle_ms < in_rounds.p99 < idle_ms + 2 * 2 * 10  # of two pieces, each way


def test_what_was_simulated_tells_what_it_was_simulated_by(tmp_path: Path, ward: Any) -> None:
    ward["federated"][0] |= {"rounds": 4, "learners": {"at_once": 1}}
    service = known()
    run, _ = simulated(tmp_path, ward, service)
    told = service_times_of(run.path)
    for step in ("fetch", "serve"):
        (cost,) = (each for each in told.costs if each.step == step)
        assert told.costs[cost].tolist() == service.costs[cost].tolist() * 3
    assert {told.costs[step].tolist() == [4 * MS] * n for step, n in ((STEP, 6), (AT_FIRST, 2))} == {True}
    assert set(told.costs[Cost("begin-learning", "host")].tolist()) == {MS}
    assert set(told.costs[Cost("content", task=TASK, how=f"light, {TO_DEVICES}")].tolist()) == {1_000}
    # One learns after the other, so that their answers never come at a time, and nobody knows what is the server's.
    assert set(told.costs[Cost("take", how=TO_DEVICES)].tolist()) == {4 * MS}
    assert set(told.costs[Cost("hand-in", how=TO_DEVICES)].tolist()) == {0}
    assert {n: set(values.tolist()) for n, values in told.aggregate[AT_CLOUD].items()} == {2: {7 * MS}}
    assert set(told.costs[Cost("next-round", task=TASK, how="light")].tolist()) == {MS}
    assert not told.infer


def test_rates_tell_of_learning_and_not_of_messages(tmp_path: Path, ward: Any) -> None:
    ward["links"][0]["rate_mbit_s"] = 100
    run, _ = simulated(tmp_path, ward, known())
    told = {cost.step for cost in service_times_of(run.path).costs}
    assert "learn" in told
    assert not told & {"fetch", "serve", "hand-in", "take"}
    with pytest.raises(edgebench.EdgebenchError) as refused:
        simulated(tmp_path, ward, merged([times(), service_times_of(run.path)]))
    what = "nothing is known of what bringing a model to a client takes besides links, between cloud and devices"
    assert f"$.federated[0]: {what} (name a run with this federation by --calibrate" in str(refused.value)
    with pytest.raises(edgebench.EdgebenchError) as refused:
        edgebench.simulate(edgebench.load(run.path), calibrate=[run.path], out=tmp_path / "again")
    alone = "a run with federated learning tells of that alone (name one without, too: --set 'federated=[]')"
    assert str(refused.value) == f"{run.path}: {alone}"


def test_profiles_say_what_learning_takes(tmp_path: Path, ward: Any) -> None:
    cost = TrainingCost(TASK, "light", "litert", 32, step=ms_times(9.0), rest=ms_times(0.5))
    (tmp_path / "board.json").write_bytes(written(profile(cores=4, training=(cost,))))
    ward["nodes"]["bed"]["profile"] = str(tmp_path / "board.json")
    run, _ = simulated(tmp_path, ward, known())
    for record in run.rounds:
        for reply in record.replies:
            steps = -(-(reply.examples or 0) // 32)
            assert reply.started_ns == reply.delivered_ns
            assert (reply.finished_ns or 0) - (reply.started_ns or 0) == round((9 * steps + 0.5) * MS)


@pytest.mark.parametrize(("answers", "took"), [(1, 20), (2, 20), (3, 30), (4, 40), (8, 80)])
def test_aggregating_takes_what_was_measured_of_as_many_or_in_proportion_of_more(answers: int, took: int) -> None:
    of = {2: np.array([20]), 4: np.array([40])}
    assert aggregate_ns(of, answers).tolist() == [took]


def _with(entry: Mapping[str, Any]) -> Sequence[str]:
    return [f"{path}={value}" for path, value in entry.items()]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"federated[0].rollout_every": 1}, "$.federated[0].rollout_every: the simulate executor cannot enforce roll-"),
        ({"federated[0].mode": "buffered"}, "$.federated[0].mode: the simulate executor cannot enforce mode: buffered"),
        ({"federated[0].engine": "ray"}, "$.federated[0].engine: the simulate executor cannot enforce engine 'ray'"),
        ({"links[0].loss_percent": 1}, "$.links[0]: the simulate executor cannot enforce federated learning across"),
    ],
)
def test_what_is_not_simulated_is_refused_by_name(
    changes: Mapping[str, Any], problem: str, tmp_path: Path, ward: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ward.yaml"
    file.write_text(yaml.safe_dump(ward))
    words = [word for change in _with(changes) for word in ("--set", change)]
    assert main(["simulate", str(file), *words]) == 2
    assert any(line.startswith(f"{file}: {problem}") for line in capsys.readouterr().err.splitlines())
