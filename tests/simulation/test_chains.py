"""Chains in virtual time: the first stage at the edge, and the second in the cloud, by what a run says of each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import asdict

import edgebench
from edge_node.workload import EdgeWorkload
from edgebench.cli import main
from edgebench.core.deciding import HeadOutput
from edgebench.core.samples import HeadStamps
from edgebench.errors import TopologyError
from edgebench.experiments.simulate import simulate_with
from edgebench.fabric.records import Cut
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.formula import mean_hops_ns
from edgebench.simulation.service_times import Cost, Cuts, ServiceTimes
from edgebench.simulation.wire_sizes import forward_bytes, output_bytes
from tests.simulation.made import CUT, HEAD, LIGHT, MS, TAIL, TASK, chain, laid_out, times
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
KNOWN = times({1: [8 * MS], 2: [10 * MS]}, COSTS, head_ns={1: [3 * MS], 2: [5 * MS]})
"""The first stage takes 3 ms, or 5 for two samples; the second 8, or 10."""
LINKS = [
    {"between": ["bed", "ward"], "latency_ms": 2, "rate_mbit_s": 4},
    {"between": ["ward", "cloud"], "latency_ms": 30, "rate_mbit_s": 8},
]
ELSEWHERE = {
    1: Cut(1, "first", 4_000, 1.0, 9.0),
    2: Cut(2, "second", 2_000, 3.0, 8.0),
    3: Cut(3, "third", 10, 10.0, 1.0),
}
"""Where the model can be cut; 12, 12 and 11 ms without what goes on."""


def cuts_known(considered: set[int]) -> ServiceTimes:
    cuts = Cuts(ELSEWHERE, frozenset(considered), 3)
    return dataclasses.replace(KNOWN, cuts={LIGHT._replace(profile=""): cuts})


def split_ward(folder: Path, *, rate_hz: float = 5, split: Any = 2, **changes: Any) -> Path:
    load = {"kind": "poisson", "rate_hz": rate_hz}
    watch = {**WATCH, **CHAINED, "load": load, "batch": {"max_batch": 2}, "split": split}
    return ward(folder, **{"links": LINKS, "workloads": {"watch": watch}, **changes})


def test_each_stage_takes_its_own_time_and_what_the_first_gives_crosses_the_link(tmp_path: Path) -> None:
    nodes = {**WARD["nodes"], "bed": {"tier": "device", "parent": "ward"}}
    file = split_ward(tmp_path, rate_hz=1, nodes=nodes)
    run_dir, result = simulate_with(KNOWN, edgebench.load(file), tmp_path / "runs", page=False)
    watch = result.workloads["watch"]
    assert watch.hops_ms is not None
    hops = {name: hop.p50 for name, hop in asdict(watch.hops_ms).items() if hop is not None}
    (up, down) = ((link.up_bytes or 0, link.up_messages) for link in (result.links["ward -> cloud"],) * 2)
    assert up == down
    each = up[0] / watch.scheduled
    assert 8_000 < each < 8_200
    assert (hops["head_decode"], hops["head_queue"], hops["head_infer"], hops["edge_forward"]) == (1.0, 0.1, 3.0, 0.0)
    assert hops["backhaul_up"] == pytest.approx(30 + 0.4 + each / 1_000, abs=0.001)
    assert (hops["decode"], hops["queue"], hops["infer"], hops["edge_return"]) == (1.0, 0.1, 8.0, 0.06)
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
    _, result = simulate_with(KNOWN, closed, tmp_path / "runs", page=False)
    watch = result.workloads["watch"]
    assert watch.latency_ms is not None
    assert watch.lost == 0
    assert watch.decided == pytest.approx(10_000 / watch.latency_ms.mean, abs=2)


def test_at_120_percent_of_the_first_stage_it_falls_behind_there_and_nowhere_else(tmp_path: Path) -> None:
    """Batches of 2 take 5 ms and 0.2 for handing on each: 370 a second, of which the cloud takes 10.1 ms for two."""
    heads = times({size: [MS] for size in (1, 2)}, COSTS, head_ns={1: [3 * MS], 2: [5 * MS]})
    file = split_ward(tmp_path, rate_hz=148, links=[])
    _, result = simulate_with(heads, edgebench.load(file), tmp_path / "runs", page=False)
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
    run_dir, result = simulate_with(KNOWN, edgebench.load(file), tmp_path / "runs", page=False)
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
    written = simulate_with(KNOWN, given, tmp_path / "written", page=False)[1].workloads["watch"]
    monkeypatch.setattr("edgebench.experiments.simulate.MOST_RECORDED", 100)
    folded = simulate_with(KNOWN, given, tmp_path / "folded", page=False)[1].workloads["watch"]
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
    known = dataclasses.replace(known, cuts={LIGHT._replace(profile=""): Cuts(faster, frozenset({2, 3}), 3)})
    layout = laid_out(quick.topology, known)
    assert (layout.flows[0].cut, layout.chains[0].places) == (2, 3)
    assert layout.chains[0].cut is not None
    assert layout.chains[0].cut.predicted_ms == 11.0
    with pytest.raises(TopologyError, match=r"watch\.split: nothing tells where 'auto' cuts icu-death \(calibrate"):
        laid_out(slow.topology, far)


def test_the_formula_knows_both_stages() -> None:
    """Poisson arrivals at 80 % of the first stage, an M/D/1 queue; what leaves it is served for 1 ms in the cloud."""
    made = chain({"kind": "poisson", "rate_hz": 20}, duration_s=10, beds=4, **CHAINED)
    hops = mean_hops_ns(laid_out(made, times([MS], head_ns={1: [10 * MS]})))["watch"]
    assert hops["head_queue"] == pytest.approx(20 * MS)
    assert (hops["head_infer"], hops["infer"]) == (10 * MS, MS)
    assert 0 < hops["queue"] < MS


def test_runs_of_a_chain_predict_each_other_and_it_is_sized(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        simulate_with(KNOWN, edgebench.load(split_ward(tmp_path, rate_hz=rate_hz)), tmp_path / "runs", page=False)[0]
        for rate_hz in (30, 60)
    ]
    figures = edgebench.fidelity([runs[1]], calibrate=[runs[0]]).runs[runs[1].name].figures
    for name in ("throughput_hz", "latency_ms.mean", "hops_ms.head_queue.mean", "hops_ms.queue.p90"):
        error = figures[f"watch.{name}"].error
        assert error is not None
        assert abs(error) < 0.02, name
    assert figures["watch.hops_ms.head_queue.mean"].formula is not None
    file = split_ward(tmp_path)
    words = ["--workload", "watch", "--p99-ms", "100", "--seeds", "1", "--within-percent", "10"]
    more = ["--calibrate", str(runs[0]), "--out", str(tmp_path / "capacity"), "--json"]
    assert main(["capacity", str(file), *words, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 3 < found["limit"] < 122 / 5  # the uplink carries 122 a second


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
    run_dir, _ = simulate_with(KNOWN, edgebench.load(split_ward(tmp_path)), tmp_path / "runs", page=False)
    file = split_ward(tmp_path, **changes)
    assert main(["simulate", str(file), "--calibrate", str(run_dir), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
