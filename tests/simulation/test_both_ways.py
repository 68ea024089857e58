"""What is simulated a window at a time is what the decision logic of a run does, an event after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation.made import MS, chain, event_driven, laid_out, times, topology, vectorised

_BURSTS = Path(__file__).with_name("bursts.txt")
_RATE_TRACES = [str(Path(__file__).with_name(f"{name}.txt")) for name in ("lte", "slow")]
_DELAY_TRACES = [str(Path(__file__).with_name(f"{name}.txt")) for name in ("delays", "delays-seldom-long")]
_DELAYS = st.sampled_from([0.0, 0.0, 0.2, 2.0, 20.0])
_RATES = st.sampled_from([None, 0.1, 1.0, 40.0])
_COSTS_NS = st.sampled_from([(0,), (1,), (20_000,), (10_000, 50_000, 90_000), (0, 3_000_000)])


@st.composite
def links(draw: st.DrawFn, between: tuple[str, str]) -> dict[str, Any]:
    latency_ms = draw(_DELAYS)
    delays = {
        "latency_ms": latency_ms,
        "jitter_ms": draw(st.sampled_from([0.0, 0.5])) * latency_ms,
        "jitter": draw(st.sampled_from(["uniform", "normal", "pareto"])),
    }
    traces = {f"{way}_trace": draw(st.sampled_from([None, None, *_RATE_TRACES])) for way in ("up", "down")}
    return {
        "between": between,
        **({"delay_trace": draw(st.sampled_from(_DELAY_TRACES))} if draw(st.integers(0, 3)) == 0 else delays),
        **traces,
        **{f"{way}_mbit_s": draw(_RATES) for way in ("up", "down") if traces[f"{way}_trace"] is None},
        "shared": draw(st.booleans()),
    }


@st.composite
def loads(draw: st.DrawFn, others: list[str]) -> dict[str, Any]:
    kinds = ["fixed", "poisson", "server", "trace", *(["with"] if others else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "trace":
        return {"kind": "trace", "file": str(_BURSTS)}
    if kind == "with":
        return {"kind": "with", "workload": draw(st.sampled_from(others))}
    rate_hz = draw(st.sampled_from([2.0, 10.0, 40.0]))
    return {"kind": kind, "rate_hz": rate_hz} | ({"p99_ms": 100.0} if kind == "server" else {})


@st.composite
def topologies(draw: st.DrawFn) -> Any:
    """Up to five wards and a dozen beds in groups, up to three workloads."""
    nodes: dict[str, Any] = {"cloud": {"tier": "cloud"}}
    found = []
    wards = [f"ward{number}" for number in range(draw(st.integers(1, 2)))]
    for name in wards:
        nodes[name] = {"tier": "edge", "count": draw(st.sampled_from([None, 2, 3])), "parent": "cloud"}
        found.append(draw(links((name, "cloud"))))
    beds = [f"bed{number}" for number in range(draw(st.integers(1, 3)))]
    for name in beds:
        parent = draw(st.sampled_from(wards))
        nodes[name] = {"tier": "device", "count": draw(st.sampled_from([None, 1, 2, 4])), "parent": parent}
        found.append(draw(links((name, parent))))
    workloads: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 3))):
        load = draw(loads([name for name, plan in workloads.items() if plan["source"] == beds]))
        source = beds if load["kind"] == "with" else draw(st.sampled_from([beds, beds[:1]]))
        where = draw(st.sampled_from(["device", "edge", "edge", "cloud", "cascade", "chain", "mixed"]))
        mixed = {bed: draw(st.sampled_from(["device", "edge", "cloud"])) for bed in source}
        workloads[f"w{number}"] = {
            "source": source,
            "load": load,
            "place": {"infer": {"mixed": mixed, "chain": ["edge", "cloud"]}.get(where, where)},
            **({"split": 2} if where == "chain" else {}),
            "batch": {
                "max_batch": draw(st.integers(1, 4)),
                "max_wait_ms": draw(st.sampled_from([0.0, 0.0, 1.0, 25.0])),
            },
            "queue": {
                "max_samples": draw(st.sampled_from([1, 2, 5, 4096])),
                "when_full": draw(st.sampled_from(["drop-oldest", "drop-newest"])),
            },
            "qos": draw(st.sampled_from([0, 1])),
        }
    return topology(nodes, workloads, links=found, duration_s=1.0, seed=draw(st.integers(0, 99)))


@st.composite
def service(draw: st.DrawFn) -> Any:
    """From hardly anything to more than there is time for."""
    unit_ns = draw(st.sampled_from([1, 100_000, 5 * MS, 15 * MS]))
    infer = {size: [unit_ns * size, unit_ns * (size + 1)] for size in range(1, 5)}
    steps = ("timer", "capture", "site-up", "decode", "wake", "answer", "pass-on", "backhaul-up", "backhaul-down")
    more = ("hand-on", "hand-back", "site-down", "hear", "intake", "relay")
    costs = {step: draw(_COSTS_NS) for step in (*steps, *more)}
    costs["output"] = draw(st.sampled_from([(4,), (40_000,)]))
    head = draw(st.sampled_from([None, {size: [unit_ns, 3 * unit_ns] for size in range(1, 5)}]))
    costs["size"] = draw(st.sampled_from([(1_000,), (10, 20_000)]))
    at_once = draw(st.sampled_from([None, {1: [unit_ns], 3: [2 * unit_ns]}]))
    return times(infer, costs, unsure=draw(st.sampled_from([0.0, 0.3, 1.0])), at_once_ns=at_once, head_ns=head)


def same_both_ways(made: Any, taken: Any) -> None:
    layout = laid_out(made, taken)
    expected, expected_counts = event_driven(layout)
    for messages in (3, 60, 1 << 12):
        found, counts = vectorised(layout, messages)
        for name, column in expected.items():
            assert found[name] == column, name
        assert counts == expected_counts


@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(topologies(), service())
def test_windows_and_events_give_the_same_records_counts_and_bytes(made: Any, taken: Any) -> None:
    same_both_ways(made, taken)


def test_more_may_fall_due_at_one_time_than_there_is_room_for_in_the_first_part(tmp_path: Path) -> None:
    (tmp_path / "bursts.txt").write_text("0\n0.1\n0.5\n")
    load = {"kind": "trace", "file": str(tmp_path / "bursts.txt")}
    same_both_ways(chain(load, duration_s=1.0, beds=40), times(costs={"site-up": (1_000,)}))


@pytest.mark.long
@settings(max_examples=1_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(topologies(), service())
def test_windows_and_events_give_the_same_on_a_thousand_topologies(made: Any, taken: Any) -> None:
    same_both_ways(made, taken)
