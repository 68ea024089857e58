"""Chains in virtual time: the first stage at the edge, and the second in the cloud, by what a run says of each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import asdict

import edgebench
from edge_node.workload import EdgeWorkload
from edgebench.cli import main
from edgebench.core.deciding import HeadOutput
from edgebench.core.samples import HeadStamps
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.experiments.simulate import simulate_with
from edgebench.fabric.records import Cut
from edgebench.results.rundir import load_run, write_deployment, write_observations
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.chains import place_for
from edgebench.simulation.formula import times_of
from edgebench.simulation.service_times import Cost, Cuts, ServiceTimes, merged
from edgebench.simulation.wire_sizes import forward_bytes, output_bytes
from edgebench.topology.profile_files import written
from tests.profiles import inference, profile
from tests.simulation.made import CUT, HEAD, MS, TAIL, TASK, chain, cut_elsewhere, laid_out, times, with_cuts
from tests.simulation.test_both_ways import same_both_ways
from tests.simulation.wards import WARD, WATCH, ward

CHAINED: dict[str, Any] = {"place": {"infer": ["edge", "cloud"]}, "split": 2}
COSTS = {
    "size": (2_000,),
    "output": (8_000,),
    "site-up": (500_000,),
    "decode": (MS,),
    "wake": (100_000,),
    "hand-on": (200_000,),
    "answer": (50_000,),
    "backhaul-up": (400_000,),
    "backhaul-down": (300_000,),
    "hand-back": (60_000,),
    "site-down": (250_000,),
}
OF_CUT = {"decode": (2 * MS,), "backhaul-up": (700_000,), "reply": (300,), "relay": (40 * MS,)}
"""Of what the first stage gives, which no edge relays."""
KNOWN = times(
    {1: [20 * MS], 2: [26 * MS]},
    COSTS,
    head_ns={1: [3 * MS], 2: [5 * MS]},
    tail_ns={1: [8 * MS], 2: [10 * MS]},
    cut_costs=OF_CUT,
)
"""The first stage takes 3 ms, or 5 for two samples; the second 8, or 10. The whole model takes 20, or 26."""
LINKS = [
    {"between": ["bed", "ward"], "latency_ms": 2, "rate_mbit_s": 4},
    {"between": ["ward", "cloud"], "latency_ms": 30, "rate_mbit_s": 8},
]
ELSEWHERE = {
    1: Cut(1, "first", 4_000, 1.0, 9.0),
    2: Cut(2, "second", 2_000, 3.0, 8.0),
    3: Cut(3, "third", 10, 10.0, 1.0),
}
"""Where the model can be cut; 10, 11 and 11 ms without what goes on."""


def cuts_known(considered: set[int]) -> ServiceTimes:
    return with_cuts(KNOWN, Cuts(ELSEWHERE, frozenset(considered), 3))


def split_ward(folder: Path, *, rate_hz: float = 5, split: Any = 2, **changes: Any) -> Path:
    load = {"kind": "poisson", "rate_hz": rate_hz}
    watch = {**WATCH, **CHAINED, "load": load, "batch": {"max_batch": 2}, "split": split}
    return ward(folder, **{"links": LINKS, "workloads": {"watch": watch}, **changes})


def test_each_stage_takes_its_own_time_and_what_the_first_gives_crosses_the_link(tmp_path: Path) -> None:
    nodes = {**WARD["nodes"], "bed": {"tier": "device", "parent": "ward"}}
    file = split_ward(tmp_path, rate_hz=1, nodes=nodes)
    run_dir, result = simulate_with(KNOWN, edgebench.load(file), tmp_path / "runs", page="no")
    watch = result.workloads["watch"]
    assert watch.hops_ms is not None
    hops = {name: hop.p50 for name, hop in asdict(watch.hops_ms).items() if hop is not None}
    uplink = result.links["ward -> cloud"]
    assert (uplink.up_messages, uplink.down_messages) == (watch.scheduled, watch.scheduled)
    up, down = ((of or 0) / watch.scheduled for of in (uplink.up_bytes, uplink.down_bytes))
    assert 8_000 < up < 8_200
    assert 300 < down < 400
    assert (hops["head_decode"], hops["head_queue"], hops["head_infer"], hops["edge_forward"]) == (1.0, 0.1, 3.0, 0.0)
    assert hops["backhaul_up"] == pytest.approx(30 + 0.7 + up / 1_000, abs=0.001)
    assert (hops["decode"], hops["queue"], hops["infer"], hops["edge_return"]) == (2.0, 0.1, 8.0, 0.06)
    assert hops["backhaul_down"] == pytest.approx(30 + 0.3 + down / 1_000, abs=0.001)
    assert (watch.place, watch.lost, watch.mean_batch) == ("edge → cloud", 0, 1.0)
    assert watch.chain is not None
    assert watch.chain.mean_head_batch == 1.0
    table = edgebench.load_run(run_dir).records
    assert set(table.column("decider").to_pylist()) == {"cloud"}
    took = np.array(table.column("head_finished_ns")) - np.array(table.column("head_started_ns"))
    assert set(took.tolist()) == {3 * MS}


def test_what_goes_on_is_as_large_as_what_an_edge_sends() -> None:
    ns = 1 << 40
    given = HeadOutput("bed-0", ns, 1_000, 0, None, None, HeadStamps(ns, ns, ns, 1), np.zeros(2_000, np.float32))
    sent = len(EdgeWorkload._handed_on(given, ns))
    assert output_bytes(8_000) + forward_bytes("bed-0") == pytest.approx(sent, abs=2)


def test_windows_and_events_agree_where_each_stage_waits_and_drops() -> None:
    load = {"kind": "poisson", "rate_hz": 60}
    queue = {"max_samples": 3, "when_full": "drop-oldest"}
    made = chain(load, duration_s=2.0, beds=4, batch={"max_batch": 2, "max_wait_ms": 5}, queue=queue, **CHAINED)
    same_both_ways(made, KNOWN)


def test_a_closed_loop_through_a_chain_sends_as_fast_as_it_is_decided(tmp_path: Path) -> None:
    file = split_ward(tmp_path, links=[])
    closed = edgebench.load(file, ["workloads.watch.load={kind: single-stream}", "nodes.bed.count=1"])
    _, result = simulate_with(KNOWN, closed, tmp_path / "runs", page="no")
    watch = result.workloads["watch"]
    assert watch.latency_ms is not None
    assert watch.lost == 0
    assert watch.decided == pytest.approx(10_000 / watch.latency_ms.mean, abs=2)


def test_at_120_percent_of_the_first_stage_it_falls_behind_there_and_nowhere_else(tmp_path: Path) -> None:
    """Batches of 2 take 5 ms and 0.2 for handing on each: 370 a second, of which the cloud takes 10.1 ms for two."""
    heads = times({size: [MS] for size in (1, 2)}, COSTS, head_ns={1: [3 * MS], 2: [5 * MS]}, cut_costs=OF_CUT)
    file = split_ward(tmp_path, rate_hz=148, links=[])
    _, result = simulate_with(heads, edgebench.load(file), tmp_path / "runs", page="no")
    hops = result.workloads["watch"].hops_ms
    assert hops is not None
    assert hops.head_queue is not None
    assert hops.head_queue.p99 is not None
    assert hops.queue.p99 is not None
    assert hops.head_queue.p99 > 1_000
    assert hops.queue.p99 < 10
    assert result.workloads["watch"].latency_ms is not None
    assert result.workloads["watch"].latency_ms.max == pytest.approx((0.2 / 1.2) * 12_000, rel=0.15)


def test_a_loaded_run_tells_what_each_stage_takes_without_what_waited(tmp_path: Path) -> None:
    links = [*LINKS[:1], {**LINKS[1], "rate_mbit_s": 80}]
    file = split_ward(tmp_path, rate_hz=45, duration_s=20, links=links)
    run_dir, result = simulate_with(KNOWN, edgebench.load(file), tmp_path / "runs", page="no")
    assert result.workloads["watch"].mean_batch is not None
    assert result.workloads["watch"].mean_batch > 1.2
    found = service_times_of(run_dir)
    by_size = {model: {size: set(of.tolist()) for size, of in sizes.items()} for model, sizes in found.infer.items()}
    assert by_size == {HEAD: {1: {3 * MS}, 2: {5 * MS}}, TAIL: {1: {8 * MS}, 2: {10 * MS}}}
    for cost, values in found.costs.items():
        if cost.step not in ("wake", "intake"):  # what comes while a server wakes up may begin a moment later
            assert set(values.tolist()) <= {*KNOWN.costs[cost].tolist()}, cost
    assert {Cost(step, "host", TASK, CUT) for step in ("hand-on", "decode", "backhaul-up")} <= found.costs.keys()
    assert found.costs[Cost("output", task=TASK, how=CUT)].tolist() == [8_000]


def test_what_is_not_written_down_has_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = edgebench.load(split_ward(tmp_path, rate_hz=30))
    written = simulate_with(KNOWN, given, tmp_path / "written", page="no")[1].workloads["watch"]
    monkeypatch.setattr("edgebench.experiments.simulate.MOST_RECORDED", 100)
    folded = simulate_with(KNOWN, given, tmp_path / "folded", page="no")[1].workloads["watch"]
    assert written.hops_ms is not None
    for hop, found in asdict(written.hops_ms).items():
        mine = getattr(folded.hops_ms, hop)
        assert (mine.p50, mine.p99, mine.mean) == pytest.approx((found.p50, found.p99, found.mean), rel=1e-3), hop
    assert written.chain is not None
    assert folded.chain is not None
    assert folded.chain.mean_head_batch == written.chain.mean_head_batch
    assert folded.chain.measured_ms == pytest.approx(written.chain.measured_ms, rel=1e-6)


def test_auto_cuts_where_the_rule_says_for_the_links_of_the_topology(tmp_path: Path) -> None:
    """Over 8 Mbit/s what goes on takes 16, 8 and 0.04 ms; over 8 Gbit/s next to nothing."""
    far = times({1: [8 * MS], 2: [10 * MS]}, COSTS)
    known = cuts_known({2, 3})
    slow = edgebench.load(split_ward(tmp_path, split="auto"))
    with pytest.raises(TopologyError, match=r"no service time of .*head of the cut at 3"):
        laid_out(slow.topology, known)
    quick = edgebench.load(split_ward(tmp_path, split="auto", links=[]))
    faster = {**ELSEWHERE, 3: Cut(3, "third", 10, 10.0, 2.0)}
    layout = laid_out(quick.topology, with_cuts(known, Cuts(faster, frozenset({2, 3}), 3)))
    assert (layout.flows[0].cut, layout.chains[0].places) == (2, 3)
    assert layout.chains[0].cut is not None
    assert layout.chains[0].cut.predicted_ms == 11.0
    with pytest.raises(TopologyError, match=r"watch\.split: nothing tells where 'auto' cuts icu-death \(calibrate"):
        laid_out(slow.topology, far)


def test_what_the_parts_took_in_different_runs_is_not_compared(tmp_path: Path) -> None:
    """On a quicker machine, which cut it there alone, the third place takes 0.3 ms."""
    made = edgebench.load(split_ward(tmp_path, split="auto", links=[])).topology
    quicker = Cuts({3: Cut(3, "third", 10, 0.1, 0.2)}, frozenset(), 3)
    slower = Cuts({1: Cut(1, "first", 4_000, 4.0, 9.0), 2: ELSEWHERE[2]}, frozenset({1, 2}), 3)
    known = merged([with_cuts(KNOWN, slower), with_cuts(ServiceTimes(), quicker)])
    assert laid_out(made, known).flows[0].cut == 2
    other = Cuts({1: ELSEWHERE[1], 2: Cut(2, "second", 2_000, 30.0, 80.0)}, frozenset({1, 2}), 3)
    with pytest.raises(TopologyError, match=r"by what was timed each time, 'auto' cuts icu-death at one of 1, 2 \("):
        laid_out(made, merged([known, with_cuts(ServiceTimes(), other)]))


def test_auto_is_not_guessed_from_a_run_that_left_out_what_is_worth_a_look_here(tmp_path: Path) -> None:
    """Where the cloud is slower, a later place may be the best though as much goes on there; all take 20 ms at the edge
    and in the cloud together, so the most is to be done at the edge."""
    slow = profile(cores=4, inference=(inference(1, 900.0, runtime="litert"),))
    (tmp_path / "slow.json").write_bytes(written(slow))
    nodes = {**WARD["nodes"], "cloud": {"tier": "cloud", "profile": "slow.json"}}
    made = edgebench.load(split_ward(tmp_path, split="auto", links=[], nodes=nodes)).topology
    alike = {place: Cut(place, "", 10, 4.0 * place, 20.0 - 4 * place) for place in (1, 2, 3)}
    said = r"'auto' chooses among all 3 places at which icu-death can be cut, and a run .* timed 1 alone \(calibrate"
    with pytest.raises(TopologyError, match=said):
        laid_out(made, with_cuts(KNOWN, Cuts(alike, frozenset({1}), 3)))
    all_of = with_cuts(KNOWN, Cuts(alike, frozenset(alike), 3))
    assert place_for("watch", made, all_of) == 3
    as_fast = edgebench.load(split_ward(tmp_path, split="auto", links=[])).topology
    quicker = {**alike, 3: Cut(3, "", 10, 1.0, 1.0)}  # by chance: as much goes on, so that a run does not time it
    assert place_for("watch", as_fast, with_cuts(KNOWN, Cuts(quicker, frozenset(alike), 3))) == 1


def test_the_formula_knows_both_stages() -> None:
    """Poisson arrivals at 80 % of the first stage, an M/D/1 queue; what leaves it is served for 1 ms in the cloud."""
    made = chain({"kind": "poisson", "rate_hz": 20}, duration_s=10, beds=4, **CHAINED)
    said = times_of(laid_out(made, times([MS], head_ns={1: [10 * MS]})))["watch"]
    hops = {hop: took_ns.mean for hop, took_ns in said.hops_ns.items()}
    assert said.latency_ns.mean == pytest.approx(sum(hops.values()))
    assert hops["head_queue"] == pytest.approx(20 * MS)
    assert (hops["head_infer"], hops["infer"]) == (10 * MS, MS)
    assert 0 < hops["queue"] < MS


def test_runs_of_a_chain_predict_each_other_and_it_is_sized(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        simulate_with(KNOWN, edgebench.load(split_ward(tmp_path, rate_hz=rate_hz)), tmp_path / "runs", page="no")[0]
        for rate_hz in (30, 60)
    ]
    figures = edgebench.fidelity([runs[1]], calibrate=[runs[0]]).runs[runs[1].name].figures
    for name in ("throughput_hz", "latency_ms.mean", "hops_ms.head_queue.mean", "hops_ms.queue.p90"):
        error = figures[f"watch.{name}"].error
        assert error is not None
        assert abs(error) < 0.02, name
    assert figures["watch.hops_ms.head_queue.mean"].formula is not None
    file = split_ward(tmp_path)
    words = ["--workload", "watch", "--p99-ms", "110", "--seeds", "1", "--within-percent", "10"]
    more = ["--calibrate", str(runs[0]), "--out", str(tmp_path / "capacity"), "--json"]
    assert main(["capacity", str(file), *words, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 3 < found["limit"] < 122 / 5  # the uplink carries 122 a second


def test_a_run_is_predicted_with_the_cut_that_it_had(tmp_path: Path) -> None:
    """Of the same topology one run found the second place to be better, and another, where head and tail of the first
    were timed to be quicker, that one."""
    given = edgebench.load(split_ward(tmp_path, split="auto", links=[], rate_hz=20))
    heads = {size: np.array([6 * MS]) for size in (1, 2)}
    at_first = cut_elsewhere(dataclasses.replace(KNOWN, infer={**KNOWN.infer, HEAD: heads}), 1)
    both = frozenset({1, 2})
    found = []
    for known, head_ms in ((KNOWN, 4.0), (at_first, 1.0)):
        timed = Cuts({1: Cut(1, "first", 4_000, head_ms, 9.0), 2: ELSEWHERE[2]}, both, 3)
        found.append(simulate_with(with_cuts(known, timed), given, tmp_path / "runs", page="no")[0])
    cuts = [load_run(run_dir).observations.chains[0].cut for run_dir in found]
    assert [None if cut is None else cut.place for cut in cuts] == [2, 1]
    second, first = found
    with pytest.raises(TopologyError, match=r"no service time of .*head of the cut at 1\)"):
        edgebench.fidelity([first], calibrate=[second])
    numbered = edgebench.load(split_ward(tmp_path, split=1, links=[], rate_hz=20))
    known = with_cuts(at_first, Cuts({1: ELSEWHERE[1]}, frozenset(), 3))
    once_more, _ = simulate_with(known, numbered, tmp_path / "runs", page="no")
    figures = edgebench.fidelity([first], calibrate=[second, once_more]).runs[first.name].figures
    of_head = figures["watch.hops_ms.head_infer.mean"]
    assert (of_head.measured, of_head.predicted) == (6.0, 6.0)


def test_first_stages_that_no_record_tells_of_are_not_taken_for_waiting(tmp_path: Path) -> None:
    """The cloud takes 40 ms for one sample, 50 for two, and gets 60 a second: it drops what its queue has no room for,
    which the edge has served."""
    slow = dataclasses.replace(KNOWN, infer={**KNOWN.infer, TAIL: {1: np.array([40 * MS]), 2: np.array([50 * MS])}})
    given = edgebench.load(split_ward(tmp_path, rate_hz=20), ["workloads.watch.queue={max_samples: 3}"])
    run_dir, result = simulate_with(slow, given, tmp_path / "runs", page="no")
    watch = result.workloads["watch"]
    assert watch.lost > 100
    done = load_run(run_dir).observations.tallies["ward"]["watch"].forwarded
    told = f"ward did the first stage of watch for {done} samples, and {watch.decided} records say when"
    with pytest.raises(EdgebenchError) as refused:
        service_times_of(run_dir)
    mend = "run it without devices that move, and with room in the cloud for all that comes"
    assert str(refused.value) == f"{run_dir}: {told} ({mend})"


def test_a_chain_tells_nothing_where_a_device_moves_or_an_edge_drops_what_it_made(tmp_path: Path) -> None:
    given = edgebench.load(split_ward(tmp_path), ["workloads.watch.load={kind: fixed, rate_hz: 5}"])
    run_dir, _ = simulate_with(KNOWN, given, tmp_path / "runs", page="no")
    run = load_run(run_dir)
    assert HEAD in service_times_of(run_dir).infer
    bed = msgspec.structs.replace(run.deployment.nodes["bed-0"], elsewhere=("ward",))
    nodes = {**run.deployment.nodes, "bed-0": bed}
    write_deployment(run_dir, msgspec.structs.replace(run.deployment, nodes=nodes))
    with pytest.raises(EdgebenchError, match=r"ward did the first stage of watch for 150 samples, and 100 records"):
        service_times_of(run_dir)
    write_deployment(run_dir, run.deployment)
    tally = msgspec.structs.replace(run.observations.tallies["ward"]["watch"], dropped={"not-connected": 2})
    tallies = {**run.observations.tallies, "ward": {"watch": tally}}
    write_observations(run_dir, msgspec.structs.replace(run.observations, tallies=tallies))
    with pytest.raises(EdgebenchError, match=r"ward did the first stage of watch for 152 samples, and 150 records"):
        service_times_of(run_dir)


def test_a_run_of_before_chains_were_simulated_is_read_and_says_what_it_lacks(tmp_path: Path) -> None:
    run_dir, result = simulate_with(KNOWN, edgebench.load(split_ward(tmp_path)), tmp_path / "runs", page="no")
    file = run_dir / "observations.json"
    kept = json.loads(file.read_text())
    assert [chain.pop("values") for chain in kept["chains"]] == [2_000]
    file.write_text(json.dumps(kept))
    assert load_run(run_dir).observations.chains[0].values is None
    assert main(["report", str(run_dir)]) == 0
    again = json.loads((run_dir / "result.json").read_text())["workloads"]["watch"]
    assert again["decided"] == result.workloads["watch"].decided
    with pytest.raises(EdgebenchError) as refused:
        service_times_of(run_dir)
    assert str(refused.value) == f"{run_dir}: does not say what goes on between the stages of watch (run it again)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": 3}, "no service time of icu-death (light, litert, float32, head of the cut at 3) on profile host"),
        ({"split": 3}, "nothing is known of the bytes that the first stage of a chain gives of icu-death cut at 3, "),
        ({"split": "auto"}, "$.workloads.watch.split: nothing tells where 'auto' cuts icu-death (calibrate with a run"),
    ],
)
def test_a_cut_that_no_run_had_is_a_line_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    run_dir, _ = simulate_with(KNOWN, edgebench.load(split_ward(tmp_path)), tmp_path / "runs", page="no")
    file = split_ward(tmp_path, **changes)
    assert main(["simulate", str(file), "--calibrate", str(run_dir), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
