"""Clients for tests of the bridge to Flower: they learn by arithmetic, so that every number can be worked out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgebench.federated.content import Array, Arrays, Head, Metrics, Parcel, arrays_in, configs_in
from edgebench.federated.flower.events import RoundSeen

Node = Callable[[Parcel], Parcel]


def weights(**values: float) -> dict[str, Array]:
    """A model: an array of 3 equal values for each name."""
    return {name: Array.of(np.full(3, value, np.float32)) for name, value in values.items()}


def values(model: Mapping[str, Array]) -> dict[str, float]:
    """What `weights` made it of."""
    for array in model.values():
        assert len(set(array.numpy().tolist())) == 1
    return {name: float(array.numpy()[0]) for name, array in model.items()}


def failures(seen: RoundSeen) -> int:
    """How many clients contributed nothing."""
    return sum(outcome.error is not None for outcome in seen.outcomes)


def replying(request: Parcel, arrays: Mapping[str, Array], **metrics: Any) -> Parcel:
    """The reply of a built-in client."""
    head = request.head
    return Parcel(
        Head(
            message_id=f"r-{head.message_id}",
            kind=head.kind,
            group=head.group,
            reply_to=head.message_id,
            meta={"received_ns": 1, "started_ns": 2, "finished_ns": 3},
        ),
        {
            "arrays": Arrays(dict(arrays)),
            "metrics": Metrics({"num-examples": 1, "one": 1, "train-loss": 0.5, **metrics}),
        },
    )


def adding(step: float, examples: int = 1) -> Node:
    """A client that adds `step` to every weight."""

    def answer(request: Parcel) -> Parcel:
        received = arrays_in(request.content)
        moved = {name: Array.of(array.numpy() + np.float32(step)) for name, array in received.items()}
        return replying(request, moved, **{"num-examples": examples})

    return answer


def failing(reason: str) -> Node:
    """A client that answers with an error."""

    def answer(request: Parcel) -> Parcel:
        head = request.head
        return Parcel(
            Head(message_id=f"r-{head.message_id}", kind=head.kind, reply_to=head.message_id, error=reason), {}
        )

    return answer


def listening(node: Node, heard: list[dict[str, Any]]) -> Node:
    """The same client; what it is told is put down in `heard`."""

    def answer(request: Parcel) -> Parcel:
        heard.append({"group": request.head.group, **configs_in(request.content)})
        return node(request)

    return answer


def adding_node(node_id: int, clients: int, settings: Mapping[str, Any]) -> Node:
    """For engines that make their clients themselves: the n-th adds n steps, and has n examples."""
    assert 1 <= node_id <= clients
    return adding(settings["step"] * node_id, examples=node_id)
