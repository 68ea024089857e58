"""Poisoned replies are refused, with the reason."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from edgebench.federated.content import Array, Arrays, Config, Content, Head, Metrics, Parcel, pack, unpack
from edgebench.federated.reply_checks import Guard, check_round, too_large

NAMES = {"kernel": (2, 3), "bias": (3,)}
SENT = {name: Array.of(np.zeros(shape, np.float32)) for name, shape in NAMES.items()}
HEAD = Head(message_id="r", kind="train", reply_to="q")


def _weights(value: float = 0.0) -> dict[str, Array]:
    """Every weight is `value`: an update of norm 3·value, since there are nine."""
    return {name: Array.of(np.full(shape, value, np.float32)) for name, shape in NAMES.items()}


def _reply(arrays: dict[str, Array] | None = None, **metrics: Any) -> Parcel:
    items: dict[str, Any] = {"num-examples": 12, "train-loss": 0.5}
    items |= {name.replace("_", "-"): value for name, value in metrics.items()}
    content: Content = {"arrays": Arrays(_weights() if arrays is None else arrays), "metrics": Metrics(items)}
    return unpack(b"".join(pack(HEAD, content)))


def _with(name: str, array: np.ndarray) -> dict[str, Array]:
    return _weights() | {name: Array.of(array)}


def _guard() -> Guard:
    return Guard(SENT, 5.0)


def test_a_sound_reply_passes() -> None:
    assert _guard().check(_reply(_weights(7.0), norm_bit=1, per_epoch=[0.9, 0.5])) is None


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (_with("bias", np.array([1, np.nan, 2], np.float32)), "array 'bias' holds values that are not finite"),
        (_with("kernel", np.full((2, 3), -np.inf, np.float32)), "array 'kernel' holds values that are not finite"),
        (_with("bias", np.zeros(4, np.float32)), "array 'bias' is float32 [4], not float32 [3]"),
        (_with("kernel", np.zeros((3, 2), np.float32)), "array 'kernel' is float32 [3, 2], not float32 [2, 3]"),
        (_with("bias", np.zeros(3)), "array 'bias' is float64 [3], not float32 [3]"),
        (_with("more", np.zeros(3, np.float32)), "array 'more' was never sent"),
        ({"kernel": SENT["kernel"]}, "array 'bias' is missing"),
        ({}, "array 'kernel' is missing"),
        (dict(reversed(_weights().items())), "its arrays stand in another order than those sent"),
        (
            _weights() | {"bias": Array("float32", (3,), b"\x80\x04N.", "pickle")},
            "array 'bias' is float32 [3] of kind 'pickle', not float32 [3]",
        ),
        (
            _weights() | {"bias": Array("float32", (3,), b"\0" * 8)},
            "array of float32 (3,): cannot reshape array of size 2 into shape (3,)",
        ),
    ],
)
def test_arrays_that_are_not_a_further_trained_model_are_refused(arrays: dict[str, Array], reason: str) -> None:
    assert _guard().check(_reply(arrays)) == reason


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"num-examples": 0}, "metric 'num-examples' is 0, not a positive whole number"),
        ({"num-examples": -3}, "metric 'num-examples' is -3, not a positive whole number"),
        ({"num-examples": 1.5}, "metric 'num-examples' is 1.5, not a positive whole number"),
        ({"num-examples": math.inf}, "metric 'num-examples' is inf, not a positive whole number"),
        ({"num-examples": [12]}, "metric 'num-examples' is [12], not a positive whole number"),
        ({"train-loss": math.nan}, "metric 'train-loss' is nan"),
        ({"per-epoch": [0.1, -math.inf]}, "metric 'per-epoch' is -inf"),
    ],
)
def test_metrics_that_are_no_numbers_are_refused(metrics: dict[str, Any], reason: str) -> None:
    content: Content = {"a": Arrays(_weights()), "m": Metrics({"num-examples": 12, "train-loss": 0.5} | metrics)}
    assert _guard().check(Parcel(HEAD, content)) == reason


def test_records_that_are_missing_or_double_are_refused() -> None:
    arrays, metrics = Arrays(_weights()), Metrics({"num-examples": 1})
    assert _guard().check(Parcel(HEAD, {"m": metrics})) == "it has 0 records of arrays, not 1"
    assert _guard().check(Parcel(HEAD, {"a": arrays, "m": metrics, "b": arrays})) == "it has 2 records of arrays, not 1"
    assert _guard().check(Parcel(HEAD, {"a": arrays, "c": Config({})})) == "it has 0 records of metrics, not 1"
    assert _guard().check(Parcel(HEAD, {"a": arrays, "m": Metrics({})})) == "metric 'num-examples' is missing"


def test_an_error_is_its_own_reason() -> None:
    head = msgspec.structs.replace(HEAD, error="no data for client 3")
    assert _guard().check(Parcel(head, {})) == "no data for client 3"


def test_the_size_of_an_update_is_its_distance_from_what_was_sent() -> None:
    sent = {"w": Array.of(np.array([1.0, 2.0], np.float32)), "b": Array.of(np.array(3.0, np.float32))}
    there = {"w": Array.of(np.array([4.0, 2.0], np.float32)), "b": Array.of(np.array(-1.0, np.float32))}
    assert Guard(sent, 5.0).update_norm(_reply(there)) == 5.0


def test_an_update_of_many_blocks_is_summed_up_whole() -> None:
    sent = {"w": Array.of(np.zeros(700_000, np.float32))}
    there = {"w": Array.of(np.full(700_000, 2.0, np.float32))}
    assert Guard(sent, 5.0).update_norm(_reply(there)) == pytest.approx(2 * math.sqrt(700_000))
    last = np.zeros(700_000, np.float32)
    last[-1] = np.nan
    reason = Guard(sent, 5.0).check(_reply({"w": Array.of(last)}))
    assert reason == "array 'w' holds values that are not finite"


def test_an_update_far_beyond_the_cohorts_median_is_refused_with_its_figure() -> None:
    replies = [_reply(_weights(value)) for value in (1.0, -9.8, 1.25, 0.5, 5.0)]
    # Norms 3, 29.4, 3.75, 1.5, 15: the median is 3.75, and five times it 18.75.
    assert _guard().outliers(replies) == {1: "its update is 7.84 times the median of the cohort's (limit 5)"}


def test_of_two_the_smaller_is_the_measure() -> None:
    assert _guard().outliers([_reply(_weights(9.8)), _reply(_weights(1.0))]) == {
        0: "its update is 9.8 times the median of the cohort's (limit 5)"
    }
    assert _guard().outliers([_reply(_weights(5.0)), _reply(_weights(1.0))]) == {}


def test_one_alone_or_none_has_nothing_to_be_measured_by() -> None:
    assert _guard().outliers([_reply(_weights(1e30))]) == {}
    assert _guard().outliers([]) == {}


def test_where_most_learn_nothing_nobody_is_measured_by_that() -> None:
    assert too_large([0.0, 0.0, 1.0], 5.0) == {}
    assert too_large([0.0, 0.0], 5.0) == {}
    assert list(too_large([0.0, 1.0, 1.0, 6.0], 5.0)) == [3]


def test_an_update_too_large_for_its_type_is_refused_too() -> None:
    replies = [_reply(_weights(value)) for value in (1.0, 3e38, 1.0)]
    assert list(_guard().outliers(replies)) == [1]
    wide = {"w": Array.of(np.zeros(2))}
    far = [_reply({"w": Array.of(np.full(2, value))}) for value in (1.0, 1e300, 1.0)]
    assert Guard(wide, 5.0).outliers(far) == {1: "its update is inf times the median of the cohort's (limit 5)"}


def test_a_client_that_claims_more_examples_than_it_has_is_refused_with_its_figure() -> None:
    replies = [_reply(num_examples=count) for count in (12, 10**15, 10**15)]
    reason = "metric 'num-examples' is 1000000000000000, but its client has 40"
    assert _guard().check(replies[1], most_examples=40) == reason
    assert _guard().check(replies[0], most_examples=12) is None
    assert check_round(SENT, replies, 5.0, most_examples=[12, 40, None]) == {1: reason}


def test_a_round_is_checked_reply_by_reply_then_among_all_that_are_sound() -> None:
    replies = [
        _reply(_weights(1.0)),
        _reply(_weights(math.nan)),
        _reply(_weights(1000.0)),
        _reply(_weights(1.0), extra=1),
        _reply(_weights(1.5)),
    ]
    assert check_round(SENT, replies, 5.0) == {
        1: "array 'kernel' holds values that are not finite",
        2: "its update is 667 times the median of the cohort's (limit 5)",
        3: "its records have other names than most",
    }
    assert check_round(SENT, [], 5.0) == {}


def test_where_sizes_are_not_compared_a_large_update_is_as_good_as_any() -> None:
    replies = [_reply(_weights(value)) for value in (1.0, 1e6, 1.0)]
    assert check_round(SENT, replies, None) == {}


def test_where_all_have_to_count_the_same_whoever_does_not_is_refused() -> None:
    replies = [_reply(one=1), _reply(one=5), _reply()]
    assert check_round(SENT, replies, 5.0, uniform=True) == {1: "metric 'one' is not 1", 2: "metric 'one' is not 1"}
