from __future__ import annotations

from typing import Any

from benchmarks.executors import compared


def run(p50_ms: float, p99_ms: float, uplink_ms: float, bound_ms: float | None = None) -> dict[str, Any]:
    bound = {} if bound_ms is None else {"bound_ms": bound_ms}
    hops = {
        "uplink": {"p50": uplink_ms, "p99": uplink_ms, "mean": uplink_ms, **bound},
        "infer": {"p50": 1.0, "p99": 1.0, "mean": 1.0},
    }
    return {"p50_ms": p50_ms, "p99_ms": p99_ms, "hops_ms": hops}


LOCAL = [run(10.0, 19.0, 4.0), run(10.2, 22.0, 4.2), run(9.8, 20.0, 3.9)]


def test_containers_that_are_as_local_runs_are_are_within() -> None:
    found = compared(LOCAL, run(10.9, 21.0, 4.3, bound_ms=0.4))
    assert found["p50_ratio"] == 1.09
    assert (found["p50_within"], found["p99_within"], found["hops"]) == (True, True, {})


def test_a_hop_that_takes_longer_in_containers_is_named_with_what_its_clocks_cannot_explain() -> None:
    found = compared(LOCAL, run(12.0, 25.0, 6.0, bound_ms=0.5))
    assert (found["p50_within"], found["p99_within"]) == (False, False)
    assert found["hops"] == {"uplink": {"mean_ms": 1.5, "p99_ms": 1.3}}


def test_a_hop_that_is_faster_in_containers_is_named_as_well() -> None:
    found = compared(LOCAL, run(8.0, 18.0, 2.0, bound_ms=0.5))
    assert (found["p50_within"], found["p99_within"]) == (False, False)
    assert found["hops"] == {"uplink": {"mean_ms": -1.5, "p99_ms": -1.4}}


def test_a_hop_with_a_longer_tail_alone_is_named_by_it() -> None:
    tail = run(10.0, 25.0, 4.0)
    tail["hops_ms"]["infer"]["p99"] = 2.5
    assert compared(LOCAL, tail)["hops"] == {"infer": {"p99_ms": 1.5}}


def test_a_hop_of_which_the_clocks_say_nothing_is_not_named() -> None:
    unknown = run(10.0, 20.0, 4.0)
    unknown["hops_ms"]["uplink"] = {"p50": None, "p99": None, "mean": None}
    assert compared(LOCAL, unknown)["hops"] == {}
