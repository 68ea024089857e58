"""What `benchmarks/fidelity.py` runs, and how it sums up what it found; how pieces are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import edgebench
from benchmarks.fidelity import BENCHES, summed_up, typical
from benchmarks.pieces import OutOfTimeError, Pieces
from benchmarks.quiet import Quiet
from edgebench.experiments.fidelity import Compared, RunFidelity
from edgebench.lab.wheel import code_digest


@pytest.mark.parametrize("name", list(BENCHES))
def test_every_topology_is_sound_and_can_be_simulated(name: str, tmp_path: Path) -> None:
    bench = BENCHES[name]
    made = {
        "telling": bench.telling(name, 20.0, 10.0, tmp_path / "bursts.trace"),
        "here": bench.topology(name, 50.0, 10.0, bench.here),
        "there": bench.topology(name, 50.0, 10.0, bench.there),
    }
    for what, topology in made.items():
        file = tmp_path / f"{what}.yaml"
        file.write_bytes(msgspec.yaml.encode(topology))
        deployment = edgebench.validate(edgebench.load(file))
        plan = deployment.workloads["watch"]
        tiers = {deployment.nodes[decider].tier for decider in plan.deciders.values()}
        assert tiers == ({bench.here, bench.there} if what == "telling" else {getattr(bench, what)})


def told(mean: float, p99: float, backlog: float, formula: float | None) -> Any:
    """Half as far off by its own service times; of the p99 the formula twice as far as of the mean."""
    of_p99 = None if formula is None else 2 * formula
    return {
        "figures": {
            "watch.latency_ms.mean": {"error": mean, "formula_error": formula, "own_service_error": mean / 2},
            "watch.latency_ms.p99": {"error": p99, "formula_error": of_p99, "own_service_error": p99 / 2},
            "watch.backlog": {"error": backlog},
        }
    }


def test_errors_are_summed_up_by_the_load_at_which_they_say_something() -> None:
    runs = {
        "one": {
            "50": told(0.01, -0.10, 3.0, -0.03),
            "80": told(-0.04, 0.02, 3.0, 0.20),
            "120": told(9, 9, -0.07, None),
        },
        "two": {"50": told(0.02, 0.05, 3.0, 0.01), "120": told(9, 9, 0.03, None)},
    }
    assert summed_up(runs) == {
        "missed": 0,
        "of": 8,
        "mean_error": 0.04,
        "p99_error": 0.10,
        "own_mean_error": 0.02,
        "own_p99_error": 0.05,
        "backlog_error": 0.07,
        "formula_error": 0.08,
        "beside_formula_error": 0.0233,
        "worse_by": 0.01,
        "formula_p99_error": 0.16,
        "beside_formula_p99_error": 0.0567,
        "p99_worse_by": 0.04,
    }


def test_what_is_missed_is_counted() -> None:
    runs = {"one": {"50": told(0.051, 0.15, 9, None), "120": told(9, 9, -0.11, None)}}
    found = summed_up(runs)
    assert (found["missed"], found["of"]) == (2, 3)
    runs["one"]["50"]["figures"]["watch.latency_ms.p99"]["error"] = None
    found = summed_up(runs)
    assert (found["missed"], found["p99_error"]) == (3, None), "what was not measured is not met"


def round_of(measured: float | None, error: float | None, *, valid: bool = True) -> RunFidelity:
    own = None if error is None else error / 5
    compared = Compared(measured=measured, predicted=5.0, error=error, own_service_error=own)
    return RunFidelity(["telling"], valid, "measured", {"watch.latency_ms.mean": compared})


def test_of_some_rounds_the_one_in_the_middle_is_told_and_how_far_they_lie_apart() -> None:
    found = typical([round_of(4.0, 0.25), round_of(8.0, -0.375, valid=False), round_of(5.0, 0.0)])
    assert not found["valid"]
    assert found["figures"]["watch.latency_ms.mean"] == {
        "measured": 4.0,
        "predicted": 5.0,
        "error": 0.25,
        "formula": None,
        "formula_error": None,
        "own_service_error": 0.05,
        "errors": [0.25, -0.375, 0.0],
        "own_service_errors": [0.05, -0.075, 0.0],
        "spread": 0.8,
    }, "errors of opposite signs do not make up for each other"


def test_what_a_round_does_not_tell_is_no_better_than_any_error() -> None:
    figure = typical([round_of(4.0, 0.25), round_of(None, None)])["figures"]["watch.latency_ms.mean"]
    assert (figure["measured"], figure["error"], figure["errors"], figure["spread"]) == (None, None, [0.25, None], None)
    figure = typical([round_of(4.0, 0.25), round_of(None, None), round_of(5.0, 0.0)])["figures"]
    assert figure["watch.latency_ms.mean"]["error"] == 0.25


def test_a_piece_that_was_found_is_kept_with_its_state_of_the_code_and_none_begins_too_late(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path, Quiet(anyway=True), minutes=60)
    pieces.find("one", lambda: {"ms": 5})
    later = Pieces(tmp_path, Quiet(anyway=True), minutes=-1)
    later.find("one", lambda: pytest.fail("it is kept"))
    assert later.found("one") == {"ms": 5}
    assert [each["what"] for each in later.told()["watched"]] == ["one"]
    assert later.told()["older"] == []
    (file,) = (tmp_path / "found").iterdir()
    file.write_text(file.read_text().replace(code_digest(), "f00"))
    assert later.found("one") == {"ms": 5}
    assert later.told()["older"] == ["one"], "found with another state of the code, and said so"
    with pytest.raises(OutOfTimeError, match="two"):
        later.find("two", lambda: pytest.fail("it begins too late"))
