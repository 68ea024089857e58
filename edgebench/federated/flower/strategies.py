"""Flower's strategies by name, with arguments from a topology, as the built-in app uses them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid, strategy
from flwr.serverapp.exception import AggregationError, InconsistentMessageReplies
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore.privacy_accounting import NeighboringRelation, PrivacyAccountant, PrivacyConfig, SamplingMethod
from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

from edgebench.errors import EdgebenchError
from edgebench.federated.cohort import cohort_size
from edgebench.federated.flower.events import Privacy
from edgebench.federated.flower.flower_log import quietly
from edgebench.federated.flower.messages import read_quickly
from edgebench.federated.reply_checks import UNIFORM
from edgebench.topology.wording import choice_of, did_you_mean

STRATEGIES: Mapping[str, type[FedAvg]] = {
    "FedAvg": strategy.FedAvg,
    "FedAvgM": strategy.FedAvgM,
    "FedAdam": strategy.FedAdam,
    "FedAdagrad": strategy.FedAdagrad,
    "FedYogi": strategy.FedYogi,
    "FedMedian": strategy.FedMedian,
    "FedTrimmedAvg": strategy.FedTrimmedAvg,
    "FedProx": strategy.FedProx,
    "Krum": strategy.Krum,
    "MultiKrum": strategy.MultiKrum,
    "Bulyan": strategy.Bulyan,
    "QFedAvg": strategy.QFedAvg,
}
_FIXED = {
    "DifferentialPrivacyServerSideFixedClipping": strategy.DifferentialPrivacyServerSideFixedClipping,
    "DifferentialPrivacyClientSideFixedClipping": strategy.DifferentialPrivacyClientSideFixedClipping,
}
_ADAPTIVE = {
    "DifferentialPrivacyServerSideAdaptiveClipping": strategy.DifferentialPrivacyServerSideAdaptiveClipping,
    "DifferentialPrivacyClientSideAdaptiveClipping": strategy.DifferentialPrivacyClientSideAdaptiveClipping,
}
PRIVATE: Mapping[str, type[Strategy]] = {**_FIXED, **_ADAPTIVE}
"""Strategies that make another one differentially private."""
DELTA = 1e-5
"""The delta at which epsilon is stated, unless the topology gives another."""

_TREES = ("FedXgbBagging", "FedXgbCyclic")
_DECIDED = {
    "fraction_train": "the topology's 'fraction' decides it",
    "fraction_evaluate": "the built-in app evaluates at the server",
    "min_evaluate_nodes": "the built-in app evaluates at the server",
    "min_train_nodes": "the topology's 'fraction' decides it",
    "min_available_nodes": "clients that are away are failures, and not waited for",
    "arrayrecord_key": "the built-in client knows one name only",
    "configrecord_key": "the built-in client knows one name only",
    "accountant": "edgebench chooses it",
}
_KINDS: Mapping[type, tuple[tuple[type, ...], str]] = {
    float: ((int, float), "a number"),
    int: ((int,), "a whole number"),
    str: ((str,), "a text"),
    bool: ((bool,), "true or false"),
}


class BuiltInStrategy(Strategy):
    """A strategy as the built-in app uses it: it keeps the model where a round makes no sound one, and says why.

    min_replies: with fewer good ones, the strategy makes no model. privacy: what a private one has come to. Its epsilon
    is that of the models: so of a private round nothing else may be made of what clients reply. It has no metrics (the
    mean training loss is exact, and no accountant knows of it), all clients count the same, and none is measured by the
    others: clipping bounds each update.
    """

    def __init__(self, inner: Strategy, *, min_replies: int, privacy: Callable[[], Privacy] | None) -> None:
        self.min_replies = min_replies
        self.is_private = privacy is not None
        self.skipped: str | None = None
        self.metrics: Mapping[str, Any] = {}
        self.before_round: Callable[[int], None] = lambda _round: None
        self._inner = inner
        self._privacy = privacy
        self._dtypes: dict[str, str] = {}

    def privacy(self) -> Privacy | None:
        """What a client's privacy has come to; None where the strategy promises none."""
        return None if self._privacy is None else self._privacy()

    def summary(self) -> None:
        """Write the strategy's settings into Flower's log."""
        self._inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the round's clients."""
        self.before_round(server_round)
        self._dtypes = {name: array.dtype for name, array in arrays.items()}
        return self._inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The new model and the mean of the clients' metrics; None where there is no sound model, with the reason in
        `skipped`. A private strategy has no metrics."""
        self.skipped, self.metrics = None, {}
        try:
            with np.errstate(all="ignore"):  # what comes of it is looked at below
                arrays, metrics = self._inner.aggregate_train(server_round, list(map(read_quickly, replies)))
        except (AggregationError, InconsistentMessageReplies) as error:
            self.skipped = str(error)
            return None, None
        except ZeroDivisionError:
            self.skipped = "a client's update is zero, which Flower's clipping cannot scale"
            return None, None
        if self.is_private:
            metrics = None
        if arrays is None:
            self.skipped = "the strategy made no model of the replies"
            return None, metrics
        arrays = self._as_sent(arrays)
        if arrays is None:
            self.skipped = "the aggregated model holds values that are not finite"
            return None, None
        self.metrics = dict(metrics or {})
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """No messages: the built-in app evaluates at the server."""
        return self._inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing."""
        return self._inner.aggregate_evaluate(server_round, replies)

    def _as_sent(self, arrays: ArrayRecord) -> ArrayRecord | None:
        # Under NumPy 2 the adaptive strategies turn float32 into float64, by a scalar that they multiply with.
        kept = ArrayRecord()
        for name, array in arrays.items():
            values = array.numpy()
            if not np.isfinite(values).all():
                return None
            kept[name] = array if array.dtype == self._dtypes[name] else FlowerArray(values.astype(self._dtypes[name]))
        return kept


def check_strategy(name: str, args: Mapping[str, Any], *, clients: int, fraction: float) -> None:
    """Raises EdgebenchError where `make_strategy` would."""
    make_strategy(name, args, clients=clients, fraction=fraction)


def make_strategy(
    name: str, args: Mapping[str, Any], *, clients: int, fraction: float, learning_rate: float = 0.05
) -> BuiltInStrategy:
    """The strategy of that name. learning_rate: the clients', which QFedAvg reckons with.

    A differentially private one takes `strategy` (a name, or `{name, args}`; FedAvg where it is absent) and `delta`
    besides its own arguments. Raises EdgebenchError for an unknown name, and for arguments that cannot be.
    """
    sampled = cohort_size(clients, fraction)
    if name in PRIVATE:
        return _private(name, args, clients=clients, sampled=sampled, fraction=fraction, learning_rate=learning_rate)
    inner = _plain(name, args, fraction=fraction, learning_rate=learning_rate)
    min_replies = 1
    if isinstance(inner, strategy.Bulyan):
        min_replies = 4 * inner.num_malicious_nodes + 3
        if sampled < min_replies:
            needed = f"{min_replies} (4 × num_malicious_nodes + 3)"
            raise EdgebenchError(f"strategy Bulyan: a round asks {sampled} clients, and needs {needed}")
    elif isinstance(inner, strategy.MultiKrum | strategy.Krum) and inner.num_malicious_nodes:
        # Blanchard et al. 2017: only then is what it chooses near what the honest clients have learned.
        least = 2 * inner.num_malicious_nodes + 3
        if sampled < least:
            needed = f"{least} (2 × num_malicious_nodes + 3)"
            raise EdgebenchError(f"strategy {name}: a round asks {sampled} clients, and needs {needed}")
    return BuiltInStrategy(inner, min_replies=min_replies, privacy=None)


def _plain(name: str, args: Mapping[str, Any], *, fraction: float, learning_rate: float, **more: Any) -> FedAvg:
    if name in _TREES:
        raise EdgebenchError(f"strategy {name}: it aggregates trees, and the built-in app's models have none")
    made = STRATEGIES.get(name)
    if made is None:
        raise EdgebenchError(f"no strategy '{name}'{did_you_mean(name, [*STRATEGIES, *PRIVATE])}")
    ours = {
        "fraction_train": fraction,
        "fraction_evaluate": 0.0,
        "min_train_nodes": 1,
        "min_evaluate_nodes": 0,
        "min_available_nodes": 1,
        **more,
    }
    if name == "QFedAvg":
        ours |= {"client_learning_rate": learning_rate, "train_loss_key": "train-loss"}
    return _made(name, made, args, ours)


def _private(
    name: str, args: Mapping[str, Any], *, clients: int, sampled: int, fraction: float, learning_rate: float
) -> BuiltInStrategy:
    args = dict(args)
    inner_name, inner_args = _inner(name, args.pop("strategy", "FedAvg"))
    delta = args.pop("delta", DELTA)
    if not isinstance(delta, float) or not 0 < delta < 1:
        raise EdgebenchError(f"strategy {name}: argument 'delta' is {delta!r}, not a number between 0 and 1")
    inner = _plain(inner_name, inner_args, fraction=fraction, learning_rate=learning_rate, weighted_by_key=UNIFORM)
    ours: dict[str, Any] = {"strategy": inner, "num_sampled_clients": sampled}
    made = _made(name, PRIVATE[name], args, ours)
    if args.get("num_sampled_clients", sampled) != sampled:
        raise EdgebenchError(f"strategy {name}: argument 'num_sampled_clients' is not {sampled}, what a round asks")
    reason = _unaccountable(name, made, inner)
    if reason is None:
        try:
            accountant = _accountant(delta, clients)
            made = _made(name, PRIVATE[name], args, {**ours, "accountant": accountant})
        except ImportError:
            reason = "the accountant is not installed (pip install dp-accounting)"
    if reason is None:
        return BuiltInStrategy(made, min_replies=sampled, privacy=lambda: _spent(accountant))
    unknown = Privacy(None, None, reason)
    return BuiltInStrategy(made, min_replies=sampled, privacy=lambda: unknown)


def _inner(name: str, given: Any) -> tuple[str, Mapping[str, Any]]:
    """Name and arguments of the strategy that is made private."""
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not isinstance(given.get("name"), str) or not set(given) <= {"name", "args"}:
        raise EdgebenchError(f"strategy {name}: argument 'strategy' is a name, or {{name: …, args: {{…}}}}")
    args = given.get("args", {})
    if not isinstance(args, dict):
        raise EdgebenchError(f"strategy {name}: the args of its strategy are no mapping")
    if given["name"] in PRIVATE:
        raise EdgebenchError(f"strategy {name}: its strategy is private already (name one of {', '.join(STRATEGIES)})")
    return given["name"], args


def _unaccountable(name: str, made: Any, inner: FedAvg) -> str | None:
    """Why no epsilon can be stated; None where Flower's accountant knows it."""
    if name in _ADAPTIVE:
        return (
            "Flower accounts for fixed clipping only: its adaptive clipping scales the noise by the next round's norm"
        )
    if made.noise_multiplier == 0:
        return "without noise nothing is private"
    if inner.weighted_by_key != UNIFORM:
        return f"clients are weighted by '{inner.weighted_by_key}': one can count more than the others"
    if type(inner).aggregate_train is not FedAvg.aggregate_train:
        return f"noise is added to what {type(inner).__name__} makes of the mean, and its range is not known"
    return None


def _accountant(delta: float, clients: int) -> RdpAccountant:
    # A client may be in every round: nothing is taken off for not being drawn.
    return RdpAccountant(
        PrivacyConfig(
            target_delta=delta,
            population_size=clients,
            neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
            sampling_method=SamplingMethod.NO_AMPLIFICATION,
        )
    )


def _spent(accountant: PrivacyAccountant) -> Privacy:
    if accountant.num_releases == 0:
        return Privacy(0.0, accountant.config.target_delta)
    spent = accountant.get_privacy_spent()
    return Privacy(spent.epsilon, spent.delta)


def _made(name: str, made: Callable[..., Any], args: Mapping[str, Any], ours: Mapping[str, Any]) -> Any:
    """The strategy with these arguments, over ours."""
    parameters = inspect.signature(made, eval_str=True).parameters
    known = [each for each in parameters if each not in _DECIDED and each != "strategy" and _kind(parameters[each])]
    for key, value in args.items():
        _check_argument(name, key, value, parameters, known)
    missing = [
        each for each in known if parameters[each].default is inspect.Parameter.empty and each not in {**ours, **args}
    ]
    if missing:
        raise EdgebenchError(f"strategy {name}: argument '{missing[0]}' is missing (give it in args)")
    with quietly():  # Flower warns of what is meant here: that there is no evaluation on clients
        try:
            return made(**{**ours, **args})
        except (ValueError, TypeError) as error:
            raise EdgebenchError(f"strategy {name}: {error}") from None


def _check_argument(
    name: str, key: str, value: Any, parameters: Mapping[str, inspect.Parameter], known: list[str]
) -> None:
    if key in _DECIDED and key in parameters:
        raise EdgebenchError(f"strategy {name}: argument '{key}' cannot be given: {_DECIDED[key]}")
    if key not in parameters:
        raise EdgebenchError(f"strategy {name}: no argument '{key}'{did_you_mean(key, known) or choice_of(known)}")
    kind = _kind(parameters[key])
    if kind is None:
        raise EdgebenchError(f"strategy {name}: argument '{key}' is a function, which a topology cannot give")
    types, words = _KINDS[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind is not bool):
        raise EdgebenchError(f"strategy {name}: argument '{key}' is {value!r}, not {words}")


def _kind(parameter: inspect.Parameter) -> type | None:
    """Which of the plain types a parameter takes; None for a function or an object."""
    annotation = parameter.annotation
    return next((kind for kind in _KINDS if annotation == kind or annotation == kind | None), None)
