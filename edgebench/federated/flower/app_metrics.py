"""The metrics that an app's own strategy makes of what clients reply, heard where Flower makes them.

An app keeps them to itself: they are in what `strategy.start` returns, or in the history of a deprecated server.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from flwr.server.history import History
from flwr.serverapp.strategy import Strategy

from edgebench.federated.flower.events import MetricsKind

Heard = Callable[[MetricsKind, Mapping[str, Any]], None]
"""Told of metrics by name, and of what they are."""


@contextmanager
def hearing(heard: Heard) -> Iterator[None]:
    """While this lasts, `heard` is told of the metrics of every strategy of this process, as soon as they are made."""
    kept: list[tuple[type, str, Any]] = [(Strategy, "start", Strategy.start)]
    kept += [(History, name, getattr(History, name)) for name in _NOTES]
    try:
        for owner, name, method in kept:
            instead = _started(method, heard) if owner is Strategy else _noted(method, _NOTES[name], heard)
            setattr(owner, name, instead)
        yield
    finally:
        for owner, name, method in kept:
            setattr(owner, name, method)


_NOTES: Mapping[str, MetricsKind] = {
    "add_loss_distributed": "evaluate",
    "add_metrics_distributed": "evaluate",
    "add_metrics_distributed_fit": "train",
    "add_loss_centralized": "server",
    "add_metrics_centralized": "server",
}
"""What a deprecated server notes in its history, whichever of its loops it goes through."""


def _started(start: Callable[..., Any], heard: Heard) -> Callable[..., Any]:
    signature = inspect.signature(start)

    @wraps(start)
    def observed(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        strategy: Any = call.arguments["self"]
        aggregate_train, aggregate_evaluate = strategy.aggregate_train, strategy.aggregate_evaluate
        evaluate: Callable[[int, Any], Any] | None = call.arguments.get("evaluate_fn")

        def train(server_round: int, replies: Any) -> Any:
            arrays, made = aggregate_train(server_round, replies)
            _tell(heard, "train", made)
            return arrays, made

        def of_clients(server_round: int, replies: Any) -> Any:
            made = aggregate_evaluate(server_round, replies)
            _tell(heard, "evaluate", made)
            return made

        def of_server(server_round: int, arrays: Any) -> Any:
            assert evaluate is not None
            made = evaluate(server_round, arrays)
            _tell(heard, "server", made)
            return made

        if evaluate is not None:
            call.arguments["evaluate_fn"] = of_server
        strategy.aggregate_train, strategy.aggregate_evaluate = train, of_clients
        try:
            return start(*call.args, **call.kwargs)
        finally:
            strategy.aggregate_train, strategy.aggregate_evaluate = aggregate_train, aggregate_evaluate

    return observed


def _noted(note: Callable[..., None], kind: MetricsKind, heard: Heard) -> Callable[..., None]:
    @wraps(note)
    def observed(history: History, server_round: int, *args: Any, **kwargs: Any) -> None:
        note(history, server_round, *args, **kwargs)
        (made,) = (*args, *kwargs.values())
        _tell(heard, kind, made if isinstance(made, Mapping) else {"loss": made})

    return observed


def _tell(heard: Heard, kind: MetricsKind, metrics: Mapping[str, Any] | None) -> None:
    if metrics:
        heard(kind, metrics)
