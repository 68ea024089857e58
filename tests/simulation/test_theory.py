"""What theory says of a station, and must hold of any, of the simulations that `edgebench simulate` makes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebench.simulation.columns import ABSENT, ARRIVED, DEVICE, DUE, FINISHED, READY, SENT, SEQ, STARTED
from edgebench.topology.link_model import Link
from tests.simulation.made import MS, Ints, all_rows, chain, laid_out, times

SERVICE_NS = 10 * MS
MESSAGES = 20_000
_QUICK = settings(max_examples=50, deadline=None, derandomize=True, database=None)
_SERVICES_NS = st.lists(st.integers(1, 30 * MS), min_size=1, max_size=20)


def simulated(load: float, service_ns: Ints, seed: int) -> Ints:
    """The rows of four beds whose ward is busy for a share of the time."""
    rate_hz = load * 1e9 / SERVICE_NS
    made = chain({"kind": "poisson", "rate_hz": rate_hz / 4}, duration_s=MESSAGES / rate_hz, beds=4)
    layout = laid_out(msgspec.structs.replace(made, seed=seed), times(service_ns))
    return all_rows(layout)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("kind", ["M/M/1", "M/D/1"])
def test_a_ward_makes_samples_wait_as_long_as_theory_says(kind: str, load: float) -> None:
    """The mean of twenty runs is within their 99.9 % interval. Source: Pollaczek 1930 and Khinchine 1932."""
    spread = -np.log1p(-(np.arange(10_000) + 0.5) / 10_000)
    service_ns = np.array([SERVICE_NS]) if kind == "M/D/1" else np.rint(SERVICE_NS * spread).astype(np.int64) + 1
    square = float((service_ns.astype(float) ** 2).mean()) / SERVICE_NS**2
    means = []
    for seed in range(20):
        rows = simulated(load, service_ns, seed)
        rows = rows[np.argsort(rows[:, DUE])][MESSAGES // 10 :]
        means.append(float((rows[:, STARTED] - rows[:, READY]).mean()) / SERVICE_NS)
    half = 3.883 * float(np.std(means, ddof=1)) / math.sqrt(len(means))  # Student's t, 19 degrees of freedom
    assert abs(float(np.mean(means)) - load * square / (2 * (1 - load))) < half


def test_parts_of_any_size_make_no_difference_where_much_is_behind() -> None:
    """A link that carries less than is sent, so that most of it waits for a later window."""
    made = chain({"kind": "poisson", "rate_hz": 50}, duration_s=20, beds=4)
    link = {"between": ["bed", "ward"], "up_mbit_s": 0.3}
    made = msgspec.structs.replace(made, links=msgspec.convert([link], tuple[Link, ...], strict=False))
    layout = laid_out(made, times([MS]))
    found = []
    for messages in (5, 100, 1 << 13):
        rows = all_rows(layout, messages)
        found.append(rows[np.lexsort((rows[:, SEQ], rows[:, DEVICE]))][:, [DEVICE, SEQ, DUE, STARTED, ARRIVED]])
    assert (found[0][:, 4] - found[0][:, 2]).max() > 1_000 * MS
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def of_a_ward(
    service_ns: Sequence[int],
    seed: int,
    *,
    beds: int = 3,
    rate_hz: float = 40,
    duration_s: float = 3,
    link: dict[str, float] | None = None,
) -> Ints:
    """The rows of beds that send by chance across links to a ward, which decides one sample after another."""
    load = {"kind": "poisson", "rate_hz": rate_hz}
    made = chain(load, duration_s=duration_s, beds=beds, queue={"max_samples": 100_000})
    links = msgspec.convert([{"between": ["bed", "ward"], **(link or {})}], tuple[Link, ...], strict=False)
    made = msgspec.structs.replace(made, seed=seed, links=links)
    return all_rows(laid_out(made, times(sorted(service_ns))))


@_QUICK
@given(_SERVICES_NS, st.integers(0, 1_000))
def test_a_ward_serves_in_order_and_is_idle_only_while_nobody_waits(service_ns: list[int], seed: int) -> None:
    rows = of_a_ward(service_ns, seed, link={"latency_ms": 2, "jitter_ms": 1, "up_mbit_s": 1})
    rows = rows[np.lexsort((rows[:, STARTED], rows[:, READY]))]
    before = np.concatenate([[0], rows[:-1, FINISHED]])
    assert (rows[:, STARTED] == np.maximum(before, rows[:, READY])).all()
    assert set((rows[:, FINISHED] - rows[:, STARTED]).tolist()) <= set(service_ns)


@_QUICK
@given(_SERVICES_NS, st.integers(0, 1_000))
def test_littles_law_holds_of_a_ward(service_ns: list[int], seed: int) -> None:
    """What is there on average, seen at each moment at which anything begins or ends, is the rate times the stay."""
    rows = of_a_ward(service_ns, seed)
    ready, finished = np.sort(rows[:, READY]), np.sort(rows[:, FINISHED])
    at = np.unique(np.concatenate([ready, finished]))
    there = np.searchsorted(ready, at, side="right") - np.searchsorted(finished, at, side="right")
    waits = np.sort(rows[:, STARTED])
    served = np.searchsorted(waits, at, side="right") - np.searchsorted(finished, at, side="right")
    assert (there >= 0).all()
    assert ((served == 0) | (served == 1)).all()
    assert (served == (there > 0)).all()
    span = at[-1] - at[0]
    mean_there = float((there[:-1] * np.diff(at)).sum()) / span
    assert mean_there == pytest.approx(len(rows) / span * float((rows[:, FINISHED] - rows[:, READY]).mean()))


@_QUICK
@given(_SERVICES_NS, st.integers(0, 1_000), st.sampled_from([0.2, 0.5, 1.0]), st.sampled_from([1, 2, 10]))
def test_more_capacity_never_hurts(service_ns: list[int], seed: int, mbit_s: float, faster: int) -> None:
    """A model that is faster, behind links that carry more: no sample is decided later."""
    arrived = []
    for speed in (1, faster):
        link = {"latency_ms": 3, "up_mbit_s": speed * mbit_s, "down_mbit_s": speed * mbit_s}
        rows = of_a_ward([each // speed + 1 for each in service_ns], seed, link=link)
        rows = rows[np.lexsort((rows[:, SEQ], rows[:, DEVICE]))]
        arrived.append((rows[:, [DEVICE, SEQ, SENT]], rows[:, ARRIVED]))
    (which, slow), (same, fast) = arrived
    assert (which == same).all()
    open_then = slow == ABSENT  # when the simulation was over
    assert (open_then | ((fast != ABSENT) & (fast <= slow))).all()


def test_a_ward_that_is_asked_for_too_much_falls_behind_as_it_must() -> None:
    """It is sent half as much again as it decides, so the wait grows by half of the time that passes."""
    rows = of_a_ward([25 * MS], 7, beds=4, rate_hz=15, duration_s=120)
    rows = rows[rows[:, STARTED] != ABSENT]
    rows = rows[np.argsort(rows[:, READY])]
    waited_ns = rows[:, STARTED] - rows[:, READY]
    slope = np.polyfit(rows[:, READY].astype(float), waited_ns.astype(float), 1)[0]
    assert slope == pytest.approx(0.5, abs=0.05)
    assert (rows[1:, STARTED] == rows[:-1, FINISHED])[100:].all()
