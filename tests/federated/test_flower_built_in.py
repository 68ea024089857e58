"""The built-in app's server over an in-process grid: numbers by hand, bad replies, absences, privacy, restarts."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgebench.errors import EdgebenchError
from edgebench.federated.content import Array, Config, Head, Metrics, Parcel, arrays_in, pack, read_parcel, write_parcel
from edgebench.federated.flower.built_in import run_built_in
from edgebench.federated.flower.events import Learned, RoundSeen
from edgebench.federated.flower.grid import LocalGrid
from edgebench.federated.flower.observed import ObservedGrid
from edgebench.topology.model import Buffer as BufferPlan
from edgebench.topology.model import Federated, Strategy
from tests.federated.flower_nodes import Node, adding, failing, failures, listening, replying, values, weights

SEED = 7
FIXED = "DifferentialPrivacyServerSideFixedClipping"


def plan(**fields: Any) -> Federated:
    name, args = fields.pop("strategy", "FedAvg"), fields.pop("args", {})
    return Federated(workload="w", **{"rounds": 2, "strategy": Strategy(name=name, args=args), **fields})


class Run:
    """A finished run of the built-in app."""

    def __init__(
        self,
        nodes: Sequence[Node],
        how: Federated,
        *,
        seed: int = SEED,
        state_dir: Path | None = None,
        most_examples: Mapping[int, int] | None = None,
    ) -> None:
        self.rounds: list[RoundSeen] = []
        self.models: list[Learned] = []
        self.grid = ObservedGrid(
            LocalGrid(nodes, run_id=3), seed=seed, deadline_s=how.deadline_s, on_round=self.rounds.append
        )
        self.model = run_built_in(
            self.grid,
            how,
            weights(a=1.0, b=-1.0),
            seed=seed,
            on_model=self.models.append,
            state_dir=state_dir,
            most_examples=most_examples,
        )

    @property
    def errors(self) -> list[dict[int, str]]:
        return [
            {outcome.node: outcome.error for outcome in seen.outcomes if outcome.error is not None}
            for seen in self.rounds
        ]


def test_fedavg_is_the_mean_weighted_by_examples_and_every_round_is_told() -> None:
    run = Run([adding(1, examples=1), adding(4, examples=2)], plan())
    # (1·1 + 4·2) / 3 = 3 a round
    assert values(run.model) == {"a": 7.0, "b": 5.0}
    assert [values(model.arrays)["a"] for model in run.models] == [1.0, 4.0, 7.0]
    assert [(model.round, model.skipped, model.replayed) for model in run.models] == [
        (0, None, False),
        (1, None, False),
        (2, None, False),
    ]
    assert run.models[1].metrics == {"one": 1.0, "train-loss": 0.5}
    assert [(seen.round, seen.kind, seen.skipped, failures(seen)) for seen in run.rounds] == [
        (1, "train", None, 0),
        (2, "train", None, 0),
    ]
    first, second = run.rounds[0].outcomes
    assert (first.node, first.examples, second.node, second.examples) == (1, 1, 2, 2)
    assert (first.stamps.received_ns, first.stamps.started_ns, first.stamps.finished_ns) == (1, 2, 3)
    assert first.stamps.sent_ns is not None


def test_clients_are_told_how_to_learn() -> None:
    heard: list[dict[str, Any]] = []
    Run(
        [listening(adding(1), heard)], plan(local_epochs=3, batch_size=8, strategy="FedProx", args={"proximal_mu": 0.5})
    )
    assert heard[0].pop("group") != heard[1].pop("group")
    assert heard[1] == {
        "local-epochs": 3,
        "batch-size": 8,
        "learning-rate": 0.05,
        "momentum": 0.9,
        "clip-norm": 1.0,
        "seed": SEED,
        "server-round": 2,
        "proximal-mu": 0.5,
    }


ALL = {
    "FedAvg": {},
    "FedAvgM": {"server_momentum": 0.5},
    "FedAdam": {"eta": 0.1},
    "FedAdagrad": {},
    "FedYogi": {},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.2},
    "FedProx": {"proximal_mu": 0.1},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 2},
    "Bulyan": {"num_malicious_nodes": 1},
    "QFedAvg": {"q": 0.2},
    FIXED: {"noise_multiplier": 0.1, "clipping_norm": 1.0},
    "DifferentialPrivacyClientSideFixedClipping": {
        "noise_multiplier": 0.1,
        "clipping_norm": 1.0,
        "strategy": "FedProx",
    },
    "DifferentialPrivacyServerSideAdaptiveClipping": {"noise_multiplier": 0.1},
    "DifferentialPrivacyClientSideAdaptiveClipping": {"noise_multiplier": 0.1},
}


def clipping(node: Node) -> Node:
    """What the adaptive strategy wants to know of each reply."""

    def answer(request: Parcel) -> Parcel:
        reply = node(request)
        metrics = reply.content["metrics"]
        assert isinstance(metrics, Metrics)
        return Parcel(reply.head, {**reply.content, "metrics": Metrics({**metrics.items, "norm_bit": 0})})

    return answer


@pytest.mark.parametrize("name", ALL)
def test_every_strategy_learns_keeps_the_dtype_and_comes_out_bit_equal_in_any_order(name: str) -> None:
    nodes = [clipping(adding(0.5 + 0.01 * index, examples=index + 1)) for index in range(8)]
    how = plan(strategy=name, args=ALL[name], rounds=3)
    first, again = Run(nodes, how), Run(nodes, how)
    assert [model.skipped for model in first.models] == [None] * 4
    for key, array in first.model.items():
        assert array.dtype == "float32"
        assert bytes(array.data) == bytes(again.model[key].data)
        assert bytes(array.data) != bytes(weights(a=1.0, b=-1.0)[key].data)


def test_chance_comes_from_the_seed() -> None:
    def cohorts(seed: int) -> list[list[int]]:
        run = Run([adding(1)] * 10, plan(fraction=0.3, rounds=3), seed=seed)
        return [[outcome.node for outcome in seen.outcomes] for seen in run.rounds]

    assert cohorts(1) == cohorts(1) != cohorts(2)
    assert all(len(cohort) == 3 and cohort == sorted(cohort) for cohort in cohorts(1))


def poisoned(values: np.ndarray[Any, Any]) -> Node:
    return lambda request: replying(request, {name: Array.of(values) for name in arrays_in(request.content)})


def stray(request: Parcel) -> Parcel:
    """A reply with another record beside the right ones."""
    reply = adding(1)(request)
    return Parcel(reply.head, {**reply.content, "config": Metrics({"x": 1})})


def elsewhere(request: Parcel) -> Parcel:
    reply = adding(1)(request)
    return Parcel(msgspec.structs.replace(reply.head, reply_to="another"), reply.content)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (poisoned(np.full(3, np.nan, np.float32)), "not finite"),
        (poisoned(np.zeros(4, np.float32)), "not float32"),
        (poisoned(np.full(3, 1000, np.float32)), "times the median"),
        (failing("out of memory"), "out of memory"),
        (stray, "records"),
        (elsewhere, "a reply to 'another'"),
        (lambda request: replying(request, {}), "missing"),
        (lambda request: replying(request, arrays_in(request.content), **{"num-examples": 0}), "positive whole"),
        (lambda request: replying(request, arrays_in(request.content), extra=1), "other names than most"),
        (
            lambda request: replying(request, {name: Array("O", (3,), b"\0" * 24) for name in ("a", "b")}),
            "not raw data",
        ),
    ],
)
def test_a_bad_reply_is_a_failure_and_harms_nobody(bad: Node, reason: str) -> None:
    run = Run([adding(1), bad, adding(1)], plan())
    assert values(run.model) == {"a": 3.0, "b": 1.0}
    for errors in run.errors:
        assert list(errors) == [2]
        assert reason in errors[2]


def test_a_round_with_too_few_replies_is_skipped_and_the_next_one_counts() -> None:
    calls = iter(range(10))

    def shaky(request: Parcel) -> Parcel:
        return (failing("asleep") if next(calls) == 0 else adding(1))(request)

    run = Run([adding(1), shaky], plan(min_replies=2))
    assert [seen.skipped for seen in run.rounds] == ["1 of 2 replies are good, 2 needed", None]
    assert [values(model.arrays)["a"] for model in run.models] == [1.0, 1.0, 2.0]
    assert run.models[1].skipped is not None
    assert run.rounds[0].outcomes[0].error is None  # it did its part


def test_bulyan_waits_for_as_many_replies_as_it_needs() -> None:
    run = Run([*[adding(1)] * 6, failing("asleep")], plan(strategy="Bulyan", args={"num_malicious_nodes": 1}))
    assert [seen.skipped for seen in run.rounds] == ["6 of 7 replies are good, 7 needed"] * 2
    assert values(run.model) == {"a": 1.0, "b": -1.0}


def test_a_fixed_clipping_that_is_accounted_for_states_its_epsilon_after_each_round() -> None:
    how = plan(
        strategy=FIXED,
        args={"noise_multiplier": 1.0, "clipping_norm": 1.0, "delta": 1e-4},
    )
    run = Run([adding(1, examples=index + 1) for index in range(4)], how)
    privacies = [model.privacy for model in run.models]
    assert [privacy is not None and privacy.delta for privacy in privacies] == [1e-4] * 3
    epsilons = [privacy.epsilon for privacy in privacies if privacy is not None and privacy.epsilon is not None]
    assert epsilons[0] == 0.0
    # The Gaussian mechanism with σ = 1 at δ = 1e-4, Rényi bound.
    assert epsilons[1] == pytest.approx(4.3, abs=0.3)
    assert epsilons[1] < epsilons[2] < 2 * epsilons[1]


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        (
            FIXED,
            {"noise_multiplier": 0.0, "clipping_norm": 1.0},
            "without noise",
        ),
        (
            FIXED,
            {"noise_multiplier": 1.0, "clipping_norm": 1.0, "strategy": "FedAdam"},
            "FedAdam",
        ),
        (
            FIXED,
            {
                "noise_multiplier": 1.0,
                "clipping_norm": 1.0,
                "strategy": {"name": "FedAvg", "args": {"weighted_by_key": "num-examples"}},
            },
            "num-examples",
        ),
        ("DifferentialPrivacyServerSideAdaptiveClipping", {"noise_multiplier": 0.1}, "adaptive"),
    ],
)
def test_where_no_epsilon_can_be_stated_the_reason_is(name: str, args: dict[str, Any], reason: str) -> None:
    privacy = Run([adding(1)] * 3, plan(strategy=name, args=args)).models[-1].privacy
    assert privacy is not None
    assert privacy.epsilon is None
    assert privacy.reason is not None
    assert reason in privacy.reason


def test_a_private_round_lacking_a_client_is_skipped() -> None:
    how = plan(strategy=FIXED, args={"noise_multiplier": 1.0, "clipping_norm": 1.0})
    run = Run([adding(1), adding(1), failing("asleep")], how)
    assert [seen.skipped for seen in run.rounds] == ["2 of 3 replies are good, 3 needed"] * 2
    assert run.models[-1].privacy is not None
    assert run.models[-1].privacy.epsilon == 0.0


def test_a_client_that_would_count_more_than_others_is_refused_where_all_count_the_same() -> None:
    how = plan(strategy=FIXED, args={"noise_multiplier": 1.0, "clipping_norm": 1.0})
    greedy: Node = lambda request: replying(request, arrays_in(request.content), one=5)  # noqa: E731
    run = Run([adding(1), greedy], how)
    assert run.errors[0] == {2: "metric 'one' is not 1"}


def test_of_a_private_round_the_models_are_all_that_is_told_and_no_update_is_measured_by_the_others() -> None:
    how = plan(strategy=FIXED, args={"noise_multiplier": 1e-9, "clipping_norm": 1.0})
    far = Run([adding(0.01), adding(0.01), adding(1000)], how)
    assert far.errors == [{}, {}]
    assert [(model.skipped, model.metrics) for model in far.models] == [(None, {})] * 3
    # Of norm 1 in six weights; the others' is 0.01·√6.
    assert values_near(far.models[1].arrays)["a"] == pytest.approx(1.0 + (1 / math.sqrt(6) + 0.02) / 3, rel=1e-5)
    private = [replying_with(loss=value) for value in (0.1, 99.0)]
    assert [model.metrics for model in Run(private, how).models] == [{}] * 3


def replying_with(loss: float) -> Node:
    return lambda request: replying(request, arrays_in(adding(0.01)(request).content), **{"train-loss": loss})


def values_near(model: Mapping[str, Array]) -> dict[str, float]:
    return {name: float(array.numpy().mean()) for name, array in model.items()}


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_a_client_that_claims_more_examples_than_it_has_is_refused(mode: str) -> None:
    greedy = adding(2, examples=10**15)
    how = plan(mode=mode, buffer=BufferPlan(updates=1))
    run = Run([adding(1, examples=5), greedy], how, most_examples={1: 5, 2: 40})
    assert values(run.model) == {"a": 3.0, "b": 1.0}
    (_, bad) = run.rounds[0].outcomes
    assert bad.error == "metric 'num-examples' is 1000000000000000, but its client has 40"
    assert bad.examples is None
    assert bad.stamps.arrived_ns is not None
    assert values(Run([adding(1), adding(2)], how, most_examples={2: 1}).models[0].arrays)["a"] == 1.0


def test_where_edges_aggregate_the_cloud_asks_each_of_them_in_every_round() -> None:
    run = Run([adding(1)] * 4, plan(fraction=0.25, aggregate=("edge", "cloud")))
    assert [[outcome.node for outcome in seen.outcomes] for seen in run.rounds] == [[1, 2, 3, 4]] * 2


def test_where_most_have_learned_nothing_whoever_has_counts() -> None:
    run = Run([adding(0), adding(0), adding(3)], plan(rounds=1))
    assert run.errors == [{}]
    assert values(run.model)["a"] == 2.0


class Killed(Exception):
    """Stands for the end of the server's process."""


def dying(node: Node, after: int) -> Node:
    """A client in whose n-th call the server dies."""
    calls = iter(range(after))

    def answer(request: Parcel) -> Parcel:
        if next(calls, None) is None:
            raise Killed
        return node(request)

    return answer


@pytest.mark.parametrize("name", ["FedAvg", "FedAdam", FIXED])
def test_a_server_that_is_started_again_goes_on_and_ends_bit_equal(name: str, tmp_path: Path) -> None:
    how = plan(strategy=name, args=ALL[name], rounds=4, fraction=0.5)
    nodes = [adding(1 + index) for index in range(4)]
    whole = Run(nodes, how)
    asked: list[dict[str, Any]] = []
    with pytest.raises(Killed):
        Run([dying(node, 1) for node in nodes], how, state_dir=tmp_path)
    resumed = Run([listening(node, asked) for node in nodes], how, state_dir=tmp_path)
    n_replayed = sum(seen.replayed for seen in resumed.rounds)
    assert 0 < n_replayed < 4
    assert len(asked) == 2 * (4 - n_replayed)
    assert [model.replayed for model in resumed.models] == [True] * (n_replayed + 1) + [False] * (4 - n_replayed)
    assert {key: bytes(array.data) for key, array in resumed.model.items()} == {
        key: bytes(array.data) for key, array in whole.model.items()
    }
    for before, after in zip(whole.models, resumed.models, strict=True):
        assert before.privacy == after.privacy


def test_a_federation_that_asks_something_else_than_before_is_not_resumed(tmp_path: Path) -> None:
    Run([adding(1)] * 2, plan(rounds=1), state_dir=tmp_path)
    with pytest.raises(EdgebenchError, match=r"something else.*not deterministic"):
        Run([adding(1)] * 2, plan(rounds=2, local_epochs=2), state_dir=tmp_path)
    with pytest.raises(EdgebenchError, match=r"something else.*not deterministic"):
        Run([adding(1)] * 3, plan(rounds=2), state_dir=tmp_path)


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_federation_whose_answers_cannot_be_kept_is_ended(rounds: int, tmp_path: Path) -> None:
    state = tmp_path / "state"

    def losing_the_disk(request: Parcel) -> Parcel:
        shutil.rmtree(state, ignore_errors=True)
        return adding(1)(request)

    with pytest.raises(FileNotFoundError):
        Run([losing_the_disk], plan(rounds=rounds), state_dir=state)
    assert not any(thread.name.startswith("journal") for thread in threading.enumerate())


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    Run([adding(1)] * 2, plan(rounds=1), state_dir=tmp_path)
    (tmp_path / "000001.ebf").write_bytes(b"EBF1\0\0\0\1x")
    with pytest.raises(EdgebenchError, match=r"000001\.ebf: not a journal"):
        Run([adding(1)] * 2, plan(rounds=2), state_dir=tmp_path)


def test_a_journal_with_records_of_no_answer_is_named(tmp_path: Path) -> None:
    Run([adding(1)] * 2, plan(rounds=1), state_dir=tmp_path)
    file = tmp_path / "000001.ebf"
    content = {name.replace("1/", "one/"): record for name, record in read_parcel(file).content.items()}
    write_parcel(file, pack(Head(message_id="1", kind="state"), content))
    with pytest.raises(EdgebenchError, match=r"000001\.ebf: not a journal"):
        Run([adding(1)] * 2, plan(rounds=2), state_dir=tmp_path)


def test_a_journal_whose_lines_are_no_bytes_is_named(tmp_path: Path) -> None:
    Run([adding(1)] * 2, plan(rounds=1), state_dir=tmp_path)
    file = tmp_path / "000001.ebf"
    content = read_parcel(file).content
    content = {name: Config({"lines": 3.0}) if isinstance(each, Config) else each for name, each in content.items()}
    write_parcel(file, pack(Head(message_id="1", kind="state"), content))
    with pytest.raises(EdgebenchError, match=r"000001\.ebf: not a journal"):
        Run([adding(1)] * 2, plan(rounds=2), state_dir=tmp_path)


def buffered(**fields: Any) -> Federated:
    return plan(mode="buffered", **fields)


def test_a_buffered_round_is_made_of_k_updates() -> None:
    # In one process each client answers at once: every round takes in the two first of what three have sent.
    run = Run([adding(1), adding(2), adding(3)], buffered(buffer=BufferPlan(updates=2), rounds=2))
    first, second = run.rounds
    assert [outcome.node for outcome in first.outcomes] == [1, 2]
    assert [outcome.staleness for outcome in first.outcomes] == [0, 0]
    assert values(run.models[1].arrays)["a"] == 2.5
    # The third client's update is one model old; it counts 2 ** -0.5.
    assert {outcome.node: outcome.staleness for outcome in second.outcomes}[3] == 1
    assert values(run.model)["a"] == pytest.approx(2.5 + (3 * 2**-0.5 + 1) / 2, rel=1e-6)


def test_a_buffered_federation_whose_clients_fail_ends_all_the_same() -> None:
    run = Run([failing("asleep")] * 2, buffered(deadline_s=0.2))
    assert [seen.skipped for seen in run.rounds] == ["0 of 1 updates within 0.2 s"] * 2
    assert values(run.model) == {"a": 1.0, "b": -1.0}
    assert run.errors[0] == {1: "asleep", 2: "asleep"}


def test_a_bad_update_does_not_enter_the_buffer() -> None:
    nodes = [adding(1), poisoned(np.full(3, 1000, np.float32)), adding(1), poisoned(np.full(3, np.nan, np.float32))]
    run = Run(nodes, buffered(buffer=BufferPlan(updates=2)))
    assert values(run.model) == {"a": 3.0, "b": 1.0}
    assert "times the median" in run.errors[0][2]
    assert "not finite" in run.errors[0][4]


def test_a_buffered_federation_goes_on_from_its_last_model(tmp_path: Path) -> None:
    Run([adding(1)], buffered(rounds=2), state_dir=tmp_path)
    run = Run([adding(1)], buffered(rounds=3), state_dir=tmp_path)
    assert [(model.round, model.replayed, values(model.arrays)["a"]) for model in run.models] == [
        (2, True, 3.0),
        (3, False, 4.0),
    ]


def test_pacing_is_asked_for_before_each_live_round_only(tmp_path: Path) -> None:
    def paced(rounds: int) -> list[int]:
        before: list[int] = []
        how = plan(rounds=rounds)
        grid = ObservedGrid(LocalGrid([adding(1)], run_id=1), seed=1, deadline_s=60)
        ignore = lambda _model: None  # noqa: E731
        run_built_in(grid, how, weights(a=0), seed=1, on_model=ignore, before_round=before.append, state_dir=tmp_path)
        return before

    assert paced(2) == [1, 2]
    assert paced(4) == [3, 4]


def test_a_model_that_became_infinite_is_not_taken() -> None:
    def huge(request: Parcel) -> Parcel:
        arrays = arrays_in(request.content)
        return replying(request, {name: Array.of(np.full(3, 3e38, np.float32)) for name in arrays})

    run = Run([huge], plan(strategy="FedAvgM", args={"server_learning_rate": 10.0}))
    assert [model.skipped for model in run.models] == [
        None,
        *["the aggregated model holds values that are not finite"] * 2,
    ]
    assert values(run.model) == {"a": 1.0, "b": -1.0}
