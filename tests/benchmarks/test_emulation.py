"""When benchmarks/emulation.py tells errors, and of which measurement what it has kept is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import emulation
from benchmarks.emulation import Segment, board_key, errors_of, paces_of, typical_of
from tests.lab_kit.paced_boards import COUNTERS, NEW, Pace


def at_load(*, lost: float = 0.0, late_ms: float = 0.0) -> dict[str, Any]:
    """Two real runs, of which the second fell behind, and an emulated one that is 10 % slower than the first."""
    kept_up = {"lost": 0.0, "waited": 0.0, "late_ms": 0.0, "most_late_ms": 0.0}
    real = {"mean": 40.0, "p50": 30.0, "p99": 90.0}
    second = kept_up | {"lost": lost, "late_ms": late_ms}
    return {"real": [real | {"pace": kept_up}, real | {"pace": second}], "emulated": {"mean": 44, "p50": 33, "p99": 99}}


def test_errors_are_told_where_the_board_kept_its_pace() -> None:
    errors, not_told = errors_of({"t": {"20": at_load(), "50": at_load(), "80": at_load()}}, {}, 0.05)
    assert errors == dict.fromkeys(emulation.ERRORS, 0.1)
    assert not_told == {}


def test_an_error_is_not_told_at_loads_where_the_board_lost_much_or_was_late() -> None:
    lost = {"20": at_load(), "50": at_load(lost=0.06), "80": at_load()}
    errors, not_told = errors_of({"t": lost}, {}, 0.0)
    assert [errors[name] for name in ("mean_error", "p50_error", "p99_error")] == [None] * 3
    assert errors["mean_error_80"] == errors["p99_error_80"] == 0.1
    assert set(not_told.values()) == {"t, 50 %, run 1: lost 6.0% (limit 5%)"}
    late = {"20": at_load(), "50": at_load(), "80": at_load(late_ms=0.41)}
    errors, not_told = errors_of({"t": late}, {}, 0.0)
    assert errors["mean_error"] == 0.1
    assert not_told == dict.fromkeys(
        ["mean_error_80", "p99_error_80"], "t, 80 %, run 1: late by 0.410 ms (limit 0.400 ms)"
    )


def test_no_error_is_told_of_invalid_runs_or_by_a_profile_that_was_measured_while_much_was_lost() -> None:
    tasks = {"t": {"20": at_load(), "50": at_load(), "80": at_load()}}
    errors, not_told = errors_of(tasks, {"t, emulated": ["released too late"]}, 0.0)
    assert errors == dict.fromkeys(emulation.ERRORS)
    assert not_told == dict.fromkeys(emulation.ERRORS, "t, emulated: invalid")
    errors, not_told = errors_of(tasks, {}, 0.051)
    assert errors == dict.fromkeys(emulation.ERRORS)
    assert not_told == dict.fromkeys(emulation.ERRORS, "profile: lost 5.1% (limit 5%)")


def test_what_was_lost_is_told_by_load() -> None:
    low, high = Segment(20, 2.0, 10.0, 5), Segment(80, 8.0, 30.0, 5)
    lost_s = [(109.9, 5.0), (110.0, 6.0), (111.0, 6.5), (129.0, 7.0), (130.0, 8.0), (131.0, 8.25)]
    seen = [(at_s, NEW._replace(executed_s=at_s, lost_s=lost)) for at_s, lost in lost_s]
    assert low.end_s < 29.0
    assert high.end_s > 31.0
    by_load = paces_of(seen, 100.0, [low, high])
    assert {load: pace.lost for load, pace in by_load.items()} == {"20": 0.5, "80": 0.25}


def test_what_a_profile_lost_is_that_of_most_of_its_windows() -> None:
    lost_s = executed_s = 0.0
    seen = []
    for calls, of_second in enumerate([0.75] * 10 + [0.5] * 10 + [0.25] * 11):  # a window is ten looks
        seen.append((0.0, Pace(executed_s, lost_s, 0.0, 0.0, (calls, *NEW.late_by[1:]))))
        executed_s += 1.0
        lost_s += of_second
    assert typical_of(seen)["lost"] == 0.5


def test_a_board_tells_how_late_it_called(tmp_path: Path) -> None:
    # 1 s executed, 0.1 s lost, 0.2 s waited for a core; 0.75 s took effect 4 ms late, the rest in time.
    late_by = [6, *[0] * 11, 0, 2, 0, 0, 0]
    file = tmp_path / "counts"
    file.write_bytes(COUNTERS.pack(10**9, 10**8, 2 * 10**8, 750_000_000 * 4000, *late_by))
    assert Pace.read(file).told() == {"lost": 0.1, "waited": 0.2, "late_ms": 3.0, "most_late_ms": 8.192}


def test_what_is_kept_is_of_one_pace_and_one_profile() -> None:
    names = {
        board_key("0123", ("icu-death",), quick=False),
        board_key("4567", ("icu-death",), quick=False),
        board_key("0123", ("icu-death", "sign-recognition"), quick=False),
        board_key("0123", ("icu-death",), quick=True),
    }
    assert len(names) == 4
