"""The search for the largest load that holds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgebench.experiments.load_search import Limit, Scale, gaps, limit_of

DEVICES = Scale(1, 8192, whole=True, within=0.0)


def sought(limit: float, start: float, scale: Scale = DEVICES) -> tuple[Limit, list[float]]:
    """What is found, and what was tried, where all loads up to a limit hold."""
    tried: list[float] = []

    def holds(load: float) -> bool:
        tried.append(load)
        return load <= limit

    return limit_of(holds, start, scale), tried


@settings(deadline=None, derandomize=True, database=None)
@given(st.integers(1, 8191), st.integers(1, 8192))
def test_the_limit_holds_and_one_more_does_not(limit: int, start: int) -> None:
    found, tried = sought(limit, start)
    assert found == Limit(limit, limit + 1)
    assert len(tried) == len(set(tried)) <= 27


def test_doubling_and_halving_come_before_bisection() -> None:
    assert sought(21, 8)[1] == [8, 16, 32, 24, 20, 22, 21]
    assert sought(3, 8)[1] == [8, 4, 2, 3]


def test_the_ends_of_the_scale_are_tried_and_nothing_beyond() -> None:
    assert sought(10_000, 5_000) == (Limit(8192, None), [5_000, 8192])
    assert sought(0, 3) == (Limit(None, 1), [3, 1])


def test_a_rate_is_known_within_a_share_of_it() -> None:
    found, tried = sought(1.2345, 0.2, Scale(1e-3, 1e3, whole=False, within=0.02))
    assert found.holds is not None
    assert found.fails is not None
    assert found.holds <= 1.2345 < found.fails <= found.holds * 1.0201
    assert all(load == float(f"{load:.4g}") for load in tried)


def test_a_rate_that_is_asked_for_exactly_ends_where_its_digits_do() -> None:
    found, _ = sought(1.2345, 0.2, Scale(1e-3, 1e3, whole=False, within=0.0))
    assert found == Limit(1.234, 1.235)


def test_a_curve_has_loads_where_none_was_tried_that_is_near() -> None:
    assert gaps([8, 16, 32, 24], 24, (0.25, 0.5, 0.75, 1.25, 1.3), DEVICES) == [6, 12, 18]
