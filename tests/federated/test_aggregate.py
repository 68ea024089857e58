"""Means of models, by numbers worked out by hand and by the bits that Flower's FedAvg gives."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from edgebench.federated.aggregate import ReplyBuffer, difference, moved, staleness_discount, weighted_mean
from edgebench.federated.content import Array
from edgebench.seeds import rng_for


def _model(*values: float) -> dict[str, Array]:
    """Two weights: a vector of all values but the last, which is a number of its own."""
    *vector, single = values
    return {"w": Array.of(np.array(vector, np.float32)), "b": Array.of(np.array(single, np.float32))}


def _values(model: dict[str, Array]) -> list[float]:
    return [*model["w"].numpy().tolist(), float(model["b"].numpy())]


def test_a_mean_is_weighted_by_examples() -> None:
    mean = weighted_mean([_model(1, 2, 8), _model(5, 6, 0)], [3, 1])
    assert _values(mean) == [2.0, 3.0, 6.0]
    assert [(a.dtype, a.shape) for a in mean.values()] == [("float32", (2,)), ("float32", ())]
    assert list(mean) == ["w", "b"]


def test_one_reply_alone_is_the_mean() -> None:
    assert _values(weighted_mean([_model(0.1, 0.2, 0.3)], [17])) == _values(_model(0.1, 0.2, 0.3))


def test_the_mean_has_the_bits_of_flowers_fedavg() -> None:
    app = pytest.importorskip("flwr.app")
    utils = pytest.importorskip("flwr.serverapp.strategy.strategy_utils")
    rng = rng_for(7, "models")
    models = [
        {"kernel": rng.normal(size=(119, 64)).astype(np.float32), "bias": rng.normal(size=64).astype(np.float32)}
        for _ in range(11)
    ]
    examples = rng.integers(1, 500, 11).tolist()
    records = [
        app.RecordDict(
            {
                "arrays": app.ArrayRecord({name: app.Array(array) for name, array in model.items()}),
                "metrics": app.MetricRecord({"num-examples": count}),
            }
        )
        for model, count in zip(models, examples, strict=True)
    ]
    theirs = utils.aggregate_arrayrecords(records, "num-examples")
    ours = weighted_mean([{n: Array.of(a) for n, a in model.items()} for model in models], examples)
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert array.numpy().tobytes() == theirs[name].numpy().tobytes()


def test_replies_are_taken_one_at_a_time() -> None:
    alive = 0

    class Counted(dict[str, Array]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def replies() -> Iterator[dict[str, Array]]:
        nonlocal alive
        for index in range(5):
            alive += 1
            assert alive <= 2
            yield Counted(_model(index, index, index))

    assert _values(weighted_mean(replies(), [1] * 5)) == pytest.approx([2.0, 2.0, 2.0])


def test_as_many_weights_as_replies() -> None:
    with pytest.raises(ValueError, match="longer"):
        weighted_mean([_model(1, 2, 3)], [1, 2])


def test_a_mean_of_the_means_of_sites_is_the_mean_of_all() -> None:
    models = [_model(*rng_for(index, "site").normal(size=3)) for index in range(5)]
    examples = [4, 9, 1, 30, 7]
    sites = [weighted_mean(models[:2], examples[:2]), weighted_mean(models[2:], examples[2:])]
    assert _values(weighted_mean(sites, [13, 38])) == pytest.approx(_values(weighted_mean(models, examples)), rel=1e-5)


def test_what_was_learned_added_to_what_was_sent_is_what_came() -> None:
    before, after = _model(1, 2, 3), _model(4, 0, 3.5)
    delta = difference(after, before)
    assert _values(delta) == [3.0, -2.0, 0.5]
    assert _values(moved(before, delta)) == _values(after)


def test_staleness_is_discounted_by_a_power() -> None:
    assert staleness_discount(0, 0.5) == 1.0
    assert staleness_discount(3, 0.5) == 0.5
    assert staleness_discount(8, 0.5) == pytest.approx(1 / 3)
    assert staleness_discount(3, 1.0) == 0.25
    assert staleness_discount(100, 0.0) == 1.0


def test_a_buffer_weighs_by_examples_and_discounts_the_stale() -> None:
    buffer = ReplyBuffer(exponent=0.5)
    buffer.add(_model(4, 8, 16), examples=10, staleness=0)
    buffer.add(_model(8, 16, -8), examples=30, staleness=3)
    assert len(buffer) == 2
    # 10/40 · 1 · 4 + 30/40 · 1/2 · 8 = 1 + 3
    assert _values(buffer.flush()) == [4.0, 8.0, 1.0]


def test_fresh_updates_of_equal_size_are_averaged() -> None:
    buffer = ReplyBuffer(exponent=0.5)
    for value in (1.0, 2.0, 6.0):
        buffer.add(_model(value, value, value), examples=5, staleness=0)
    assert _values(buffer.flush()) == pytest.approx([3.0, 3.0, 3.0])


def test_a_buffer_begins_anew_after_a_flush() -> None:
    buffer = ReplyBuffer(exponent=1.0)
    buffer.add(_model(1, 1, 1), examples=1, staleness=0)
    buffer.flush()
    assert len(buffer) == 0
    buffer.add(_model(6, 6, 6), examples=7, staleness=2)
    assert _values(buffer.flush()) == pytest.approx([2.0, 2.0, 2.0])
    with pytest.raises(ValueError, match="empty"):
        buffer.flush()


def test_a_buffer_leaves_the_updates_as_they_are() -> None:
    buffer, delta = ReplyBuffer(exponent=0.5), _model(1, 2, 3)
    buffer.add(delta, examples=2, staleness=0)
    buffer.add(delta, examples=2, staleness=0)
    buffer.flush()
    assert _values(delta) == [1.0, 2.0, 3.0]
    assert math.isfinite(sum(_values(delta)))
