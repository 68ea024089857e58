"""The same work on each tier, over a slow uplink: hops and bytes show where it was done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgebench.results.rundir import read_records
from tests.system.running import SMALL, faults_of, run

UPLINK = (
    SMALL
    + """\
links:
  - {between: [bed, ward], latency_ms: 2}
  - {between: [ward, cloud], latency_ms: 20, rate_mbit_s: 20}
"""
)
SAMPLE_BYTES = 48 * 76 * 4
SENT = 160


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One run a tier."""
    found = {}
    for tier in ("device", "edge", "cloud"):
        _, result, _ = run(tmp_path_factory.mktemp(tier), UPLINK, "--set", f"workloads.watch.place.infer={tier}")
        assert faults_of(result) == []
        found[tier] = result
    return found


def hop(result: dict[str, Any], name: str) -> float:
    return float(result["workloads"]["watch"]["hops_ms"][name]["p50"])


def bytes_of(result: dict[str, Any], group: str) -> int:
    return sum(link["bytes"] for name, link in result["links"].items() if name.startswith(group))


def test_every_sample_is_decided_once_on_every_tier(results: dict[str, dict[str, Any]]) -> None:
    for tier, result in results.items():
        figures = result["workloads"]["watch"]
        counts = [figures[key] for key in ("scheduled", "decided", "lost", "duplicated", "reordered", "rejected")]
        assert counts == [SENT, SENT, 0, 0, 0, 0], tier


def test_every_run_knows_how_late_its_timers_were_and_what_others_took(results: dict[str, dict[str, Any]]) -> None:
    for result in results.values():
        disturbance, host = result["disturbance"], result["host_use"]
        assert 0 < disturbance["mean_late_ms"] <= disturbance["most_late_ms"] <= disturbance["most_hiccup_ms"]
        assert disturbance["most_hiccup_of"] in {"cloud", "ward-0", "ward-1", "bed-0", "bed-1", "link relay"}
        assert 0 <= disturbance["share"] <= 1
        assert 0 <= host["foreign"] <= host["busy"]


def test_the_way_to_the_decider_grows_by_the_links_in_between(results: dict[str, dict[str, Any]]) -> None:
    assert hop(results["device"], "uplink") == 0.0
    assert hop(results["edge"], "uplink") >= 2.0
    assert hop(results["cloud"], "uplink") >= 2.0
    # 20 ms of latency, and 14.6 kB at 20 Mbit/s.
    assert hop(results["cloud"], "backhaul_up") >= 20.0 + SAMPLE_BYTES * 8 / 20e6 * 1e3
    assert hop(results["cloud"], "backhaul_down") >= 20.0
    assert hop(results["edge"], "backhaul_up") == hop(results["edge"], "backhaul_down") == 0.0
    assert hop(results["edge"], "downlink") >= 2.0
    assert hop(results["cloud"], "downlink") >= 2.0


def test_samples_cross_only_the_links_below_their_decider(results: dict[str, dict[str, Any]]) -> None:
    samples = SENT * SAMPLE_BYTES
    assert bytes_of(results["device"], "bed") < 0.01 * samples
    assert bytes_of(results["device"], "ward") < 0.01 * samples
    assert samples < bytes_of(results["edge"], "bed") < 1.05 * samples
    assert bytes_of(results["edge"], "ward") < 0.01 * samples
    assert samples < bytes_of(results["cloud"], "bed") < 1.05 * samples
    assert samples < bytes_of(results["cloud"], "ward") < 1.05 * samples


def test_the_links_count_a_message_up_and_a_message_down_for_each_sample(results: dict[str, dict[str, Any]]) -> None:
    for tier, expected in (("edge", 0), ("cloud", SENT)):
        uplinks = [link for name, link in results[tier]["links"].items() if name.startswith("ward")]
        assert expected <= sum(link["messages"] for link in uplinks) - expected < expected + 40, tier


def test_what_was_asked_of_the_uplink_stands_beside_what_was_measured(results: dict[str, dict[str, Any]]) -> None:
    uplink = results["cloud"]["links"]["ward-0 -> cloud"]
    delays = dict.fromkeys(("latency_ms", "latency_p90_ms", "latency_p99_ms"), 20.0)
    assert uplink["requested"] == {**delays, "jitter_ms": 0.0, "up_mbit_s": 20.0, "down_mbit_s": 20.0}
    assert uplink["measured"].keys() >= {*delays, "down_latency_ms", "down_latency_p99_ms", "up_mbit_s", "down_mbit_s"}
    assert uplink["measured"]["latency_ms"] >= 20.0


def test_devices_of_one_site_are_decided_on_three_tiers_and_none_is_lost(tmp_path: Path) -> None:
    mixed = "workloads.watch.place.infer={bed: edge, bed-0: device, bed-1: cloud}"
    one_ward = ["nodes.ward.count=1", "nodes.bed.count=3"]
    _, result, run_dir = run(tmp_path, UPLINK, *(word for each in (mixed, *one_ward) for word in ("--set", each)))
    assert faults_of(result) == []
    figures = result["workloads"]["watch"]
    assert (figures["place"], figures["scheduled"], figures["lost"]) == ("device + edge + cloud", 120, 0)
    records = read_records(run_dir).select(["node", "decider", "forward_in_ns"]).to_pylist()
    decided = {(row["node"], row["decider"], row["forward_in_ns"] is not None) for row in records}
    assert decided == {("bed-0", "bed-0", False), ("bed-1", "cloud", True), ("bed-2", "ward-0", False)}
    # The model went to exactly those that decide.
    observed = json.loads((run_dir / "observations.json").read_text())
    assert {swap["node"] for swap in observed["swaps"]} == {"bed-0", "cloud", "ward-0"}


def test_a_cascade_keeps_what_the_edge_is_sure_of_off_the_uplink(tmp_path: Path) -> None:
    more = [
        "workloads.watch.place.infer=cascade",
        "workloads.watch.cascade={target_quality: 1.0}",
        "workloads.watch.task=tests.system.sure:TASK",
        "workloads.watch.model={runtime: keras}",
        "workloads.watch.cascade.runtime=keras",
        "nodes.ward.count=1",
    ]
    _, result, _ = run(tmp_path, UPLINK, *(word for each in more for word in ("--set", each)))
    assert faults_of(result) == []
    figures, cascade = result["workloads"]["watch"], result["workloads"]["watch"]["cascade"]
    assert (figures["decided"], figures["lost"], figures["reordered"]) == (SENT, 0, 0)
    # The edge's model knows the sign of what is far from zero, the cloud's knows all: half of it is near.
    assert cascade["quality"] == cascade["heavy_quality"] == 1.0
    assert cascade["light_quality"] < 0.9
    assert cascade["expected_share"] == pytest.approx(0.5, abs=0.1)
    assert cascade["share"] == pytest.approx(0.5, abs=0.15)
    assert figures["quality"]["value"] == 1.0
    sizes = {model["origin"]: model["n"] for model in figures["models"]}
    assert sizes == {
        "trained for the edge": SENT - cascade["forwarded"],
        "trained for the cloud": cascade["forwarded"],
    }
    # The extremes are a run on either tier.
    forwarded = cascade["forwarded"] * SAMPLE_BYTES
    assert forwarded < bytes_of(result, "ward") < 1.05 * forwarded + 100_000  # and the models
    assert cascade["kept_bytes"] == pytest.approx((SENT - cascade["forwarded"]) * SAMPLE_BYTES, rel=0.01)
    assert cascade["cloud_latency_ms"]["p50"] > cascade["edge_latency_ms"]["p50"] + 40.0
