"""Strategies by name: what a topology may say of them, and how its mistakes are named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgebench.errors import EdgebenchError
from edgebench.federated.cohort import cloud_fraction, cohort_size
from edgebench.federated.flower.strategies import (
    PRIVATE,
    STRATEGIES,
    check_strategy,
    make_strategy,
)
from edgebench.topology.model import Federated

FIXED = "DifferentialPrivacyServerSideFixedClipping"
ENOUGH = {"noise_multiplier": 1.0, "clipping_norm": 1.0}


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        ("FedAvgg", {}, "no strategy 'FedAvgg' (did you mean 'FedAvg'?)"),
        ("FedXgbBagging", {}, "strategy FedXgbBagging: it aggregates trees, and the built-in app's models have none"),
        ("FedAvgM", {"momentum": 0.9}, "strategy FedAvgM: no argument 'momentum' (did you mean 'server_momentum'?)"),
        (
            "FedTrimmedAvg",
            {"x": 1},
            "strategy FedTrimmedAvg: no argument 'x' (known: weighted_by_key, beta)",
        ),
        ("FedTrimmedAvg", {"beta": 0.5}, "strategy FedTrimmedAvg: `beta` must be in the range [0, 0.5)."),
        ("FedTrimmedAvg", {"beta": "much"}, "strategy FedTrimmedAvg: argument 'beta' is 'much', not a number"),
        (
            "Krum",
            {"num_malicious_nodes": 0.5},
            "strategy Krum: argument 'num_malicious_nodes' is 0.5, not a whole number",
        ),
        (
            "Krum",
            {"num_malicious_nodes": True},
            "strategy Krum: argument 'num_malicious_nodes' is True, not a whole number",
        ),
        (
            "FedAvg",
            {"fraction_train": 0.5},
            "strategy FedAvg: argument 'fraction_train' cannot be given: the topology's 'fraction' decides it",
        ),
        (
            "Bulyan",
            {"selection_rule": "x"},
            "strategy Bulyan: argument 'selection_rule' is a function, which a topology cannot give",
        ),
        (
            "Bulyan",
            {"num_malicious_nodes": 2},
            "strategy Bulyan: a round asks 8 clients, and needs 11 (4 × num_malicious_nodes + 3)",
        ),
        (FIXED, {"noise_multiplier": 1.0}, f"strategy {FIXED}: argument 'clipping_norm' is missing (give it in args)"),
        (
            FIXED,
            {**ENOUGH, "accountant": "x"},
            f"strategy {FIXED}: argument 'accountant' cannot be given: edgebench chooses it",
        ),
        (FIXED, {**ENOUGH, "delta": 2.0}, f"strategy {FIXED}: argument 'delta' is 2.0, not a number between 0 and 1"),
        (
            FIXED,
            {**ENOUGH, "num_sampled_clients": 5},
            f"strategy {FIXED}: argument 'num_sampled_clients' is not 8, what a round asks",
        ),
        (FIXED, {**ENOUGH, "strategy": "FedAv"}, "no strategy 'FedAv' (did you mean 'FedAvg'?)"),
        (
            FIXED,
            {**ENOUGH, "strategy": 3},
            f"strategy {FIXED}: argument 'strategy' is a name, or {{name: …, args: {{…}}}}",
        ),
        (
            FIXED,
            {**ENOUGH, "strategy": FIXED},
            f"strategy {FIXED}: its strategy is private already (name one of {', '.join(STRATEGIES)})",
        ),
        (FIXED, {**ENOUGH, "noise_multiplier": -1.0}, "should be a non-negative value"),
        (FIXED.replace("Fixed", "Adaptive"), {"noise_multiplier": 1.0}, "is too low to achieve the desired"),
    ],
)
def test_a_mistake_is_named_with_its_place(name: str, args: dict[str, Any], reason: str) -> None:
    with pytest.raises(EdgebenchError) as caught:
        check_strategy(name, args, clients=8, fraction=1.0)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cohort_is_as_large_as_flower_makes_it_and_never_empty() -> None:
    assert [cohort_size(8, fraction) for fraction in (1.0, 0.5, 0.3, 0.01)] == [8, 4, 2, 1]


def test_a_private_strategy_needs_every_sampled_client() -> None:
    made = make_strategy(FIXED, ENOUGH, clients=8, fraction=0.5)
    assert (made.min_replies, made.is_private) == (4, True)


def test_where_edges_aggregate_the_cloud_asks_all_of_them() -> None:
    how = Federated(workload="w", rounds=1, fraction=0.3)
    assert cloud_fraction(how) == 0.3
    assert cloud_fraction(msgspec.structs.replace(how, aggregate=("edge", "cloud"))) == 1.0


def test_all_strategies_of_flower_are_known_or_refused_with_a_reason() -> None:
    from flwr.serverapp import strategy

    known = {*STRATEGIES, *PRIVATE, "FedXgbBagging", "FedXgbCyclic", "Result", "Strategy"}
    assert set(strategy.__all__) == known
