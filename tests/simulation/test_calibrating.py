"""What a run says of what things take; the runs are simulated ones, of which that is known."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import yaml

import edgebench
from edgebench.errors import EdgebenchError
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.simulate import simulate_with
from edgebench.results.rundir import load_deployment, load_run, write_deployment, write_tables
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.calibration_samples import Apart, samples_of
from edgebench.simulation.service_times import FORWARDED, Cost, ServiceTimes, merged
from edgebench.topology.deployment import OnlinePlan
from tests.simulation.made import CASCADING, LIGHT, MS, TASK, times

TOPOLOGY = {
    "schema": 1,
    "name": "known",
    "seed": 4,
    "duration_s": 20,
    "nodes": {
        "cloud": {"tier": "cloud"},
        "ward": {"tier": "edge", "count": 2, "parent": "cloud"},
        "bed": {"tier": "device", "count": 6, "parent": "ward"},
    },
    "links": [
        {"between": ["bed", "ward"], "latency_ms": 2, "rate_mbit_s": 4},
        {"between": ["ward", "cloud"], "latency_ms": 10, "rate_mbit_s": 2, "shared": True},
    ],
    "workloads": {
        "near": {"task": TASK, "source": "bed", "load": {"kind": "poisson", "rate_hz": 30}, "batch": {"max_batch": 2}},
        "far": {
            "task": TASK,
            "source": "bed",
            "load": {"kind": "poisson", "rate_hz": 8},
            "place": {"infer": "cloud"},
            "batch": {"max_batch": 1},
        },
    },
}
"""The wards' model is busy for 80 % of the time, the uplink for 40 %: most samples wait somewhere."""
COSTS = {
    "size": (2_000,),
    "timer": (100_000, 300_000),
    "capture": (20_000, 60_000),
    "site-up": (200_000, 400_000, 900_000),
    "decode": (10_000, 30_000),
    "wake": (50_000, 150_000),
    "answer": (40_000,),
    "pass-on": (70_000,),
    "backhaul-up": (250_000, 350_000),
    "backhaul-down": (150_000,),
    "hand-back": (15_000,),
    "site-down": (120_000, 180_000),
}


@pytest.fixture(scope="module")
def known() -> ServiceTimes:
    return times({1: [8 * MS, 9 * MS, 10 * MS], 2: [14 * MS]}, COSTS)


@pytest.fixture(scope="module")
def run_dir(known: ServiceTimes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known")
    file = folder / "known.yaml"
    file.write_text(yaml.safe_dump(TOPOLOGY))
    given: TopologyFile = edgebench.load(file)
    found, _ = simulate_with(known, given, folder / "runs")
    return found


def test_a_loaded_run_tells_what_things_take_without_what_waited(run_dir: Path, known: ServiceTimes) -> None:
    found = service_times_of(run_dir)
    assert {size: set(values.tolist()) for size, values in found.infer[LIGHT].items()} == {
        1: {8 * MS, 9 * MS, 10 * MS},
        2: {14 * MS},
    }
    for cost, values in found.costs.items():
        expected = known.costs[cost]
        if cost.step == "wake":  # what comes while a server wakes up may begin a moment later
            assert abs(np.median(values) - np.median(expected)) < 60_000
        else:
            assert set(values.tolist()) <= set(expected.tolist()), cost
            assert np.mean(values) == pytest.approx(np.mean(expected), rel=0.1), cost
    steps = {cost.step for cost in found.costs}
    assert steps == {*COSTS, "reply"}
    assert found.sources == (run_dir.name,)


def calibrated(folder: Path, known: ServiceTimes, **workload: Any) -> ServiceTimes:
    """What `ran` tells."""
    return service_times_of(ran(folder, known, **workload))


def ran(folder: Path, known: ServiceTimes, links: Sequence[Mapping[str, object]] = (), **workload: Any) -> Path:
    """A run of four beds on one ward, whose model is busy for most of the time."""
    nodes = {
        "cloud": {"tier": "cloud"},
        "ward": {"tier": "edge", "parent": "cloud"},
        "bed": {"tier": "device", "count": 4, "parent": "ward"},
    }
    plan = {"task": TASK, "source": "bed", "load": {"kind": "poisson", "rate_hz": 20}, **workload}
    made = {"schema": 1, "name": "ward", "seed": 4, "duration_s": 20, "nodes": nodes, "workloads": {"watch": plan}}
    file = folder / "ward.yaml"
    file.write_text(yaml.safe_dump({**made, "links": [*links]}))
    return simulate_with(known, edgebench.load(file), folder / "runs")[0]


def test_a_batch_that_waits_to_be_full_does_not_make_answers_cost_more(tmp_path: Path) -> None:
    known = times({1: [8 * MS], 2: [20 * MS]}, {"answer": (40_000,)})
    found = calibrated(tmp_path, known, batch={"max_batch": 2, "max_wait_ms": 50})
    assert set(found.costs[Cost("answer", "host", TASK)].tolist()) == {40_000}


def test_a_batch_of_which_a_record_is_missing_tells_nothing(tmp_path: Path) -> None:
    """Of every third full batch the decision on the sample that it waited for was lost on its way."""
    known = times({1: [8 * MS], 2: [20 * MS]}, {"answer": (40_000,), "wake": (50_000,)})
    batch = {"max_batch": 2, "max_wait_ms": 50}
    run_dir = ran(tmp_path, known, batch=batch)
    table = edgebench.load_run(run_dir).records
    started, ready, size = (np.array(table.column(name)) for name in ("started_ns", "ready_ns", "batch"))
    lost = np.zeros(len(table), bool)
    for begun in np.unique(started[size == 2])[::3]:
        (both,) = np.nonzero(started == begun)
        lost[both[np.argmax(ready[both])]] = True
    assert lost.sum() > 50
    arrived = pa.array(np.array(table.column("arrived_ns")), mask=lost)
    place = table.schema.get_field_index("arrived_ns")
    write_tables(run_dir, [table.set_column(place, table.schema.field(place), arrived)])
    found = service_times_of(run_dir)
    assert set(found.costs[Cost("answer", "host", TASK)].tolist()) == {40_000}
    assert 0 < found.costs[Cost("wake", "host")].max() <= 50_000
    assert {size: set(of.tolist()) for size, of in found.infer[LIGHT].items()} == {1: {8 * MS}, 2: {20 * MS}}


def test_what_a_cascade_passes_on_keeps_its_server_busy_though_no_record_says_so(tmp_path: Path) -> None:
    known = times([8 * MS], {"answer": (40_000,), "wake": (50_000, 150_000)}, unsure=0.5)
    found = calibrated(tmp_path, known, batch={"max_batch": 1, "max_wait_ms": 0}, place={"infer": "cascade"})
    assert set(found.costs[Cost("answer", "host", TASK)].tolist()) == {40_000}
    assert found.costs[Cost("wake", "host")].max() <= 150_000


CASCADE: dict[str, Any] = {"place": {"infer": "cascade"}, "batch": {"max_batch": 1}}


def test_a_share_is_that_of_a_cascade_with_the_same_target_and_training(tmp_path: Path) -> None:
    run_dir, file = ran(tmp_path, times([MS], unsure=0.5), **CASCADE), tmp_path / "ward.yaml"
    same = edgebench.simulate(edgebench.load(file, ["workloads.watch.cascade={}"]), calibrate=[run_dir], out=tmp_path)
    assert same.figures.workloads["watch"].lost == 0
    models = "a cascade of icu-death (light, litert, float32 before heavy, litert, float32"
    others = {
        "cascade={target_quality: 0.99}": "target_quality 0.99",
        "train={epochs: 3}": "train.epochs 3",
        "train={examples: 40}": "train.examples 40",
    }
    for change, told in others.items():
        given = edgebench.load(file, [f"workloads.watch.{change}"])
        with pytest.raises(EdgebenchError) as refused:
            edgebench.simulate(given, calibrate=[run_dir], out=tmp_path)
        assert str(refused.value) == (
            f"{file}: $.workloads.watch: nothing is known of the share that {models}; {told}) passes on "
            f"(known: {models})) (name a run in which it is seen with --calibrate)"
        )


def test_shares_of_several_runs_and_workloads_count_together_in_any_order(tmp_path: Path) -> None:
    """One run passes on all there is, the other, which is half as long, nothing; either has a cascade twice."""
    plan = {"task": TASK, "source": "bed", "load": {"kind": "poisson", "rate_hz": 20}, **CASCADE}
    file, runs = tmp_path / "both.yaml", []
    for unsure, duration_s in ((1.0, 20), (0.0, 10)):
        made = {**TOPOLOGY, "links": [], "duration_s": duration_s, "workloads": {"a": plan, "b": plan}}
        file.write_text(yaml.safe_dump(made))
        runs.append(simulate_with(times([MS], unsure=unsure), edgebench.load(file), tmp_path / "runs")[0])
    scheduled = [sum(of.scheduled for of in edgebench.load_run(run).figures.workloads.values()) for run in runs]
    orders = runs, runs[::-1]
    for order in orders:
        assert merged(map(service_times_of, order)).unsure == {CASCADING: (scheduled[0], sum(scheduled))}
    one, other = (edgebench.simulate(file, calibrate=order, out=tmp_path / "out").figures for order in orders)
    assert (one.workloads, one.links) == (other.workloads, other.links)


def test_messages_that_wait_tell_how_long_each_keeps_an_edge_busy(tmp_path: Path) -> None:
    known = times([2 * MS], {"decode": (MS,), "intake": (6 * MS,)})
    found = calibrated(tmp_path, known, batch={"max_batch": 1})
    assert set(found.costs[Cost("decode", "host", TASK)].tolist()) == {MS}
    assert set(found.costs[Cost("intake", "host", TASK)].tolist()) == {6 * MS}


def test_messages_behind_a_link_with_a_rate_may_have_waited_for_that_alone(tmp_path: Path) -> None:
    """An edge is busy with a message for 1 ms; one has the link for 6 ms, and some are there later than that says."""
    known = times([2 * MS], {"size": (2_000,), "decode": (MS,), "site-up": (*[MS] * 24, 40 * MS)})
    links = [{"between": ["bed", "ward"], "rate_mbit_s": 2.7, "shared": True}]
    run_dir = ran(tmp_path, known, links, batch={"max_batch": 1}, load={"kind": "poisson", "rate_hz": 40})
    found = service_times_of(run_dir)
    assert set(found.costs[Cost("decode", "host", TASK)].tolist()) == {MS}
    assert Cost("intake", "host", TASK) not in found.costs


def test_samples_of_a_crowd_say_what_things_take_where_no_others_do(tmp_path: Path) -> None:
    """Due at one time, they hold each other up, on the way as in the process that senses them."""
    (tmp_path / "at-once.txt").write_text("".join(f"{time_s}\n" for time_s in range(20)))
    spread = {"timer": (100_000, 300_000), "site-up": (200_000, 400_000), "site-down": (150_000,)}
    crowds = dict.fromkeys(spread, (9 * MS,))
    apart_dir, crowds_dir = (
        ran(tmp_path, times([MS], costs), batch={"max_batch": 1}, load=load)
        for costs, load in (
            (spread, {"kind": "poisson", "rate_hz": 20}),
            (crowds, {"kind": "trace", "file": str(tmp_path / "at-once.txt")}),
        )
    )
    apart, at_once = service_times_of(apart_dir), service_times_of(crowds_dir)
    timer, site_up = Cost("timer", "host"), Cost("site-up", "host", TASK)
    assert {timer, site_up} <= at_once.crowded
    assert not apart.crowded
    assert set(at_once.costs[site_up].tolist()) == {9 * MS}
    for both in (merged([apart, at_once]), merged([at_once, apart])):
        assert set(both.costs[timer].tolist()) == {100_000, 300_000}
        assert set(both.costs[site_up].tolist()) == {200_000, 400_000}
        assert not {timer, site_up} & both.crowded
    again = merged([merged([at_once, at_once]), apart])
    assert set(again.costs[site_up].tolist()) == {200_000, 400_000}


@pytest.mark.parametrize("n_apart", [19, 20])
def test_too_few_that_were_apart_do_not_tell_beside_many_in_crowds(n_apart: int) -> None:
    values, are_apart = np.arange(100), np.arange(100) < n_apart
    timers, told = Apart[str](), dict[str, list[Any]]()
    timers.add("timer", values, are_apart)
    timers.add("few", values[:5], are_apart[:5])
    assert timers.told(told) == ({"timer"} if n_apart < 20 else set())
    assert sum(map(len, told["timer"])) == (100 if n_apart < 20 else 20)
    assert sum(map(len, told["few"])) == 5


def test_who_was_apart(tmp_path: Path) -> None:
    """Beds that are due together are not; all workloads of one bed that go together are, at each of its times."""
    (tmp_path / "times.txt").write_text("1.0\n2.0\n3.0\n3.0005\n4.0\n")
    workload: dict[str, Any] = {"task": TASK, "source": "bed", "batch": {"max_batch": 1}}
    first = {**workload, "load": {"kind": "trace", "file": str(tmp_path / "times.txt")}}
    second = {**workload, "load": {"kind": "with", "workload": "first"}}
    nodes: dict[str, Any] = {"cloud": {"tier": "cloud"}, "ward": {"tier": "edge", "parent": "cloud"}}
    for beds, expected in ((1, [True, True, False, False, True]), (2, [False] * 10)):
        made = {**TOPOLOGY, "duration_s": 5, "links": [], "workloads": {"first": first, "second": second}}
        made["nodes"] = {**nodes, "bed": {"tier": "device", "count": beds, "parent": "ward"}}
        file = tmp_path / f"{beds}.yaml"
        file.write_text(yaml.safe_dump(made))
        run_dir, _ = simulate_with(times([MS]), edgebench.load(file), tmp_path / "runs")
        for samples in samples_of(load_run(run_dir)).values():
            assert samples.apart[np.argsort(samples["scheduled_ns"])].tolist() == expected


def test_batches_that_begin_as_another_is_done_have_times_of_their_own(tmp_path: Path) -> None:
    known = times([8 * MS, 9 * MS], at_once_ns={1: [6 * MS, 7 * MS]})
    found = calibrated(tmp_path, known, batch={"max_batch": 1})
    assert set(found.infer[LIGHT][1].tolist()) == {8 * MS, 9 * MS}
    assert set(found.at_once[LIGHT][1].tolist()) == {6 * MS, 7 * MS}


def test_what_several_runs_saw_counts_together(run_dir: Path, known: ServiceTimes) -> None:
    once = service_times_of(run_dir)
    twice = merged([once, once])
    cost = Cost("site-up", "host", TASK)
    assert len(twice.costs[cost]) == 2 * len(once.costs[cost])
    assert (np.diff(twice.costs[cost]) >= 0).all()
    assert Cost("reply", task=TASK, how=FORWARDED) in twice.costs


def test_a_run_over_a_link_that_loses_packets_says_nothing_of_messages(run_dir: Path, tmp_path: Path) -> None:
    lossy = shutil.copytree(run_dir, tmp_path / "lossy")
    deployment = load_deployment(lossy)
    links = {name: msgspec.structs.replace(link, loss_percent=1.0) for name, link in deployment.links.items()}
    write_deployment(lossy, msgspec.structs.replace(deployment, links=links))
    with pytest.raises(EdgebenchError, match="a run with links that lose packets or follow a trace does not tell"):
        service_times_of(lossy)


def test_a_run_that_was_placed_online_says_nothing_as_trials_are_in_no_record(run_dir: Path, tmp_path: Path) -> None:
    online = shutil.copytree(run_dir, tmp_path / "online")
    deployment = load_deployment(online)
    how = OnlinePlan("edge", 0.2, 1.0)
    plans = {name: msgspec.structs.replace(plan, online=how) for name, plan in deployment.workloads.items()}
    write_deployment(online, msgspec.structs.replace(deployment, workloads=plans))
    with pytest.raises(EdgebenchError, match="a run with workloads that are placed online does not tell"):
        service_times_of(online)


def test_a_batch_between_two_that_were_measured_lies_between_them() -> None:
    service = times({1: [10, 20], 4: [40, 110]})
    found = service.by_batch(LIGHT, 5)
    lists = [None if each is None else each.tolist() for each in found]
    assert lists == [None, [10, 20], [20, 50], [30, 80], [40, 110], None]


def test_what_no_run_has_seen_is_named() -> None:
    with pytest.raises(EdgebenchError, match=r"nothing is known of what passing a sample on to the cloud costs of x"):
        ServiceTimes().cost(Cost("pass-on", "host", "x"))
    with pytest.raises(
        EdgebenchError, match=r"no service time of icu-death \(light, litert, float32\) on profile host"
    ):
        ServiceTimes().by_batch(LIGHT, 1)
