"""Strategies that survive a client which sends garbage, with a guard that lets it pass; FedAvg, which does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgebench.federated.content import Array, Parcel, arrays_in
from edgebench.federated.flower.built_in import run_built_in
from edgebench.federated.flower.grid import LocalGrid
from edgebench.federated.flower.observed import ObservedGrid
from edgebench.seeds import rng_for
from edgebench.topology.model import Federated, Strategy
from tests.federated.flower_nodes import adding, replying, values, weights

HONEST = [adding(0.9), adding(1.0), adding(1.0), adding(1.1)]


def garbage(request: Parcel) -> Parcel:
    """Finite, of the right shapes, and a thousand times too large."""
    rng = rng_for(3, request.head.group)
    arrays = arrays_in(request.content)
    return replying(request, {name: Array.of(rng.normal(0, 1e3, 3).astype(np.float32)) for name in arrays})


def learned(name: str, args: dict[str, Any], max_update_ratio: float) -> dict[str, Array]:
    how = Federated(workload="w", rounds=3, strategy=Strategy(name=name, args=args), max_update_ratio=max_update_ratio)
    grid = ObservedGrid(LocalGrid([*HONEST, garbage], run_id=1), seed=1, deadline_s=how.deadline_s)
    return run_built_in(grid, how, weights(w=0.0), seed=1, on_model=lambda _learned: None)


@pytest.mark.parametrize(
    ("name", "args"), [("Krum", {"num_malicious_nodes": 1}), ("FedTrimmedAvg", {"beta": 0.2}), ("FedMedian", {})]
)
def test_a_robust_strategy_survives_a_device_that_sends_garbage(name: str, args: dict[str, Any]) -> None:
    model = learned(name, args, max_update_ratio=1e6)["w"].numpy()
    # Each of three rounds adds what honest clients add: between 0.9 and 1.1.
    assert (model >= 2.7 - 1e-5).all()
    assert (model <= 3.3 + 1e-5).all()


def test_fedavg_is_harmed_by_it_unless_the_guard_refuses_it() -> None:
    assert np.abs(learned("FedAvg", {}, max_update_ratio=1e6)["w"].numpy() - 3.0).max() > 100
    assert values(learned("FedAvg", {}, max_update_ratio=5.0))["w"] == pytest.approx(3.0)
