"""What theory says of a station, of the stations that simulations are made of."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from edgebench.simulation.columns import ARRIVED, DEVICE, DUE, READY, SEQ, STARTED
from edgebench.topology.link_model import Link
from tests.simulation.made import MS, Ints, all_rows, chain, laid_out, times

SERVICE_NS = 10 * MS
MESSAGES = 20_000


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
