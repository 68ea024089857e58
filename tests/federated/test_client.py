"""The built-in client learns on its own rows, by numbers worked out by hand, and whatever goes wrong is a reply."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.errors import ModelError
from edgebench.federated.client import BuiltInClient, clipped_update
from edgebench.federated.content import (
    Array,
    Arrays,
    Config,
    Content,
    Head,
    Parcel,
    arrays_in,
    metrics_in,
    pack,
    unpack,
)
from edgebench.federated.learner import LocalPlan, Weights
from edgebench.federated.partition import PartitionFile, write_partitions
from edgebench.federated.reply_checks import Guard
from edgebench.seeds import rng_for
from edgebench.tasks.task import Split

SETTINGS = {"local-epochs": 1, "batch-size": 2, "learning-rate": 0.25, "momentum": 0.0, "clip-norm": 0.0, "seed": 3}


class LineStepper:
    """y = slope · x + offset by squared error, without momentum; what it is told is put down in `plans`."""

    names = ("slope", "offset")

    def __init__(self, plans: list[LocalPlan]) -> None:
        self._plans = plans
        self._slope, self._offset, self._rate = np.float32(0), np.float32(0), 0.0

    def load(self, weights: Weights, plan: LocalPlan) -> None:
        self._plans.append(plan)
        (self._slope,), (self._offset,) = weights
        self._rate = plan.learning_rate

    def step(self, x: NDArray[Any], y: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
        x, y = x[:, 0], y[:, 0]
        off = self._slope * x + self._offset - y
        mean = weight / weight.sum()
        self._slope = self._slope - self._rate * (mean * 2 * off * x).sum()
        self._offset = self._offset - self._rate * (mean * 2 * off).sum()
        return float((mean * off**2).sum())

    def weights(self) -> list[NDArray[np.float32]]:
        return [np.array([value], np.float32) for value in (self._slope, self._offset)]


@pytest.fixture
def data(tmp_path: Path) -> PartitionFile:
    """Client 1 has (1, 2) and (1, 6), client 2 has (2, 1), client 3 ten samples of its own."""
    x = np.array([1, 1, 2, *range(10)], np.float32)[:, None]
    y = np.array([2, 6, 1, *range(1, 11)], np.float32)[:, None]
    split = Split(x, y, np.arange(13))
    write_partitions(split, [np.array([0, 1]), np.array([2]), np.arange(3, 13)], tmp_path)
    return PartitionFile(tmp_path)


def _request(kind: str = "train", group: str = "1", slope: float = 0.0, offset: float = 0.0, **config: Any) -> Parcel:
    arrays = {name: Array.of(np.array([value], np.float32)) for name, value in (("offset", offset), ("slope", slope))}
    settings = SETTINGS | {name.replace("_", "-"): value for name, value in config.items()}
    content: Content = {
        "arrays": Arrays(arrays),
        "config": Config({k: v for k, v in settings.items() if v is not None}),
    }
    head = Head(message_id="m1", kind=kind, group=group, meta={"run_id": 5, "node": 1})
    return unpack(b"".join(pack(head, content)))


def _client(data: PartitionFile, plans: list[LocalPlan] | None = None) -> BuiltInClient:
    return BuiltInClient(lambda: LineStepper([] if plans is None else plans), data)


def _values(reply: Parcel) -> dict[str, float]:
    assert reply.head.error is None
    return {name: float(array.numpy()[0]) for name, array in arrays_in(reply.content).items()}


def test_a_client_learns_on_its_own_rows_and_tells_what_came_of_it(data: PartitionFile) -> None:
    reply = _client(data).answer(_request(), 1, 7)
    # Both are off by −2 and −6, mean −4; slope and offset move by 0.25 · 2 · 4. The loss was (4 + 36) / 2.
    assert _values(reply) == {"offset": 2.0, "slope": 2.0}
    assert metrics_in(reply.content) == {"num-examples": 2, "one": 1, "train-loss": 20.0}
    other = _client(data).answer(_request(), 2, 7)
    # One sample, off by −1, whose x is 2.
    assert _values(other) == {"offset": 0.5, "slope": 1.0}
    assert metrics_in(other.content) == {"num-examples": 1, "one": 1, "train-loss": 1.0}


def test_a_reply_answers_its_request_and_passes_the_guard(data: PartitionFile) -> None:
    request = _request(group="4")
    reply = _client(data).answer(request, 1, 7)
    head = reply.head
    assert (head.reply_to, head.kind, head.group, head.error) == ("m1", "train", "4", None)
    assert head.message_id != "m1"
    started, finished = head.meta["started_ns"], head.meta["finished_ns"]
    assert isinstance(started, int)
    assert isinstance(finished, int)
    assert 0 < started <= finished
    assert list(reply.content) == ["arrays", "metrics"]
    travelled = unpack(b"".join(pack(reply.head, reply.content)))
    assert Guard(arrays_in(request.content), 5.0).check(travelled) is None


def test_the_server_decides_how_to_learn(data: PartitionFile) -> None:
    plans: list[LocalPlan] = []
    client = _client(data, plans)
    client.answer(_request(local_epochs=3, momentum=0.5, clip_norm=2.0, proximal_mu=0.1, server_round=9), 1, 7)
    client.answer(_request(clip_norm=None), 2, 7)
    assert plans == [
        LocalPlan(epochs=3, batch_size=2, learning_rate=0.25, momentum=0.5, clip_norm=2.0, proximal_mu=0.1),
        LocalPlan(epochs=1, batch_size=2, learning_rate=0.25),
    ]


def test_the_order_of_samples_depends_on_seed_client_and_round_alone(data: PartitionFile) -> None:
    def learned(group: str = "1", seed: int = 7) -> dict[str, float]:
        return _values(_client(data).answer(_request(group=group, learning_rate=0.01), 3, seed))

    assert learned() == learned()
    assert learned() != learned(group="2")
    assert learned() != learned(seed=8)


def test_clients_take_turns_with_one_step(data: PartitionFile) -> None:
    opened: list[LineStepper] = []

    def open_stepper() -> LineStepper:
        opened.append(LineStepper([]))
        return opened[-1]

    client = BuiltInClient(open_stepper, data)
    assert not opened
    first = [_values(client.answer(_request(), node, 7)) for node in (1, 2, 1)]
    assert first[0] == first[2]
    assert len(opened) == 1


def test_an_update_is_clipped_where_differential_privacy_asks_for_it(data: PartitionFile) -> None:
    client = _client(data)
    # The update is (2, 2), of norm √8; half of it is left.
    clipped = client.answer(_with_clipping(2**0.5), 1, 7)
    assert _values(clipped) == pytest.approx({"offset": 1.0, "slope": 1.0})
    assert metrics_in(clipped.content)["norm_bit"] == 1
    small = client.answer(_with_clipping(3.0), 1, 7)
    assert _values(small) == {"offset": 2.0, "slope": 2.0}
    assert metrics_in(small.content)["norm_bit"] == 0


def _with_clipping(norm: float) -> Parcel:
    request = _request()
    settings = Config({**SETTINGS, "clipping_norm": norm})
    return Parcel(request.head, {**request.content, "config": settings})


@pytest.mark.parametrize("clipping_norm", [0.5, 1e3])
def test_clipping_has_the_bits_of_flowers(clipping_norm: float) -> None:
    privacy = pytest.importorskip("flwr.supercore.differential_privacy")
    rng = rng_for(7, "update")
    shapes = ((119, 64), (16, 64), (64,), (1,))
    before = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    after = [array + rng.normal(size=array.shape, scale=0.1).astype(np.float32) for array in before]
    fixed, adaptive = list(after), list(after)
    privacy.compute_clip_model_update(fixed, before, clipping_norm)
    bit = privacy.compute_adaptive_clip_model_update(adaptive, before, clipping_norm)
    ours, clipped = clipped_update(after, before, clipping_norm)
    assert clipped == bit == (clipping_norm < 1)
    for mine, one, other in zip(ours, fixed, adaptive, strict=True):
        assert mine.dtype == np.float32
        assert mine.tobytes() == one.tobytes() == other.tobytes()


def test_an_update_of_nothing_passes_the_clipping() -> None:
    same = [np.ones(3, np.float32)]
    ours, clipped = clipped_update(same, same, 1.0)
    assert (ours[0].tolist(), clipped) == ([1, 1, 1], False)


Change = Callable[[Parcel], Parcel]


def _of_kind(kind: str) -> Change:
    return lambda _request_: _request(kind=kind)


def _settings(**config: Any) -> Change:
    return lambda _request_: _request(**config)


def _arrays(**arrays: NDArray[Any]) -> Change:
    def change(request: Parcel) -> Parcel:
        record = Arrays({name: Array.of(array) for name, array in arrays.items()})
        return Parcel(request.head, {**request.content, "arrays": record})

    return change


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_of_kind("evaluate"), "the built-in client does not evaluate; the cloud does"),
        (_of_kind("query.who"), "the built-in client does not answer 'query.who'"),
        (_settings(learning_rate=None), "Object missing required field `learning-rate`"),
        (_settings(batch_size="many"), "Expected `int`, got `str` - at `$.batch-size`"),
        (_settings(local_epochs=0), "Expected `int` >= 1 - at `$.local-epochs`"),
        (_arrays(slope=ONE), "weights 'offset' of the model were not sent"),
        (_arrays(slope=ONE, offset=ONE, more=ONE), "weights 'more' were sent, which the model does not have"),
        (_settings(learning_rate=1e30, local_epochs=9), "learning ended in weights that are not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
def test_a_request_that_it_cannot_answer_is_answered_with_the_reason(
    data: PartitionFile, change: Change, error: str
) -> None:
    reply = _client(data).answer(change(_request()), 3, 7)
    assert reply.head.error is not None
    assert reply.head.error.startswith(error)
    assert reply.head.reply_to == "m1"
    assert reply.content == {}


def test_a_client_without_data_says_so(data: PartitionFile) -> None:
    for node in (0, 4):
        error = _client(data).answer(_request(), node, 7).head.error
        assert error is not None
        assert error.endswith(f"no part {node - 1} among 3")


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ModelError("step.tflite: not a training step"), r"step\.tflite: not a training step"),
        (RuntimeError("out of\nmemory"), rf"RuntimeError: out of memory \({re.escape(__file__)}, line \d+\)"),
    ],
)
def test_a_step_that_cannot_be_had_is_an_error_and_is_tried_again(
    data: PartitionFile, failure: Exception, error: str
) -> None:
    failures = [failure]

    def open_stepper() -> LineStepper:
        if failures:
            raise failures.pop()
        return LineStepper([])

    client = BuiltInClient(open_stepper, data)
    assert re.fullmatch(error, str(client.answer(_request(), 1, 7).head.error))
    assert client.answer(_request(), 1, 7).head.error is None
