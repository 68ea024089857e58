"""Flower's grid over the network: who is asked, what is told, and what becomes of those that do not answer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Message, RecordDict

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.federated.content import Bytes, Parcel, arrays_in, pack, unpack
from edgebench.federated.flower import observed
from edgebench.federated.flower.built_in import run_built_in
from edgebench.federated.flower.engine_grid import EngineGrid
from edgebench.federated.flower.events import RoundSeen
from edgebench.federated.flower.grid import LocalGrid, MessageGrid, identity, stamps_of
from edgebench.federated.flower.observed import ObservedGrid
from edgebench.federated.message_client import Received
from edgebench.federated.requests import Reply, Request
from edgebench.topology.model import Federated
from tests.federated.flower_nodes import Node, adding, failing, failures, replying, weights
from tests.federated.message_lab import MessageLab, message_lab


@contextmanager
def reached(nodes: Sequence[Node | bytes | None], tmp_path: Path) -> Iterator[MessageLab]:
    """Clients that a server reaches. None: one that takes requests and never answers."""
    with message_lab(tmp_path, [f"bed-{index}" for index in range(len(nodes))]) as lab:
        for client, node in zip(lab.clients.values(), nodes, strict=True):
            client.answers = None if node is None else partial(_reply, node)
        yield lab


def _reply(node: Node | bytes, received: Received) -> list[Bytes]:
    if isinstance(node, bytes):
        return [node]
    reply = node(received.parcel())
    return pack(reply.head, reply.content)


def grid_over(lab: MessageLab, deadline_s: float = 30.0) -> MessageGrid:
    return MessageGrid(lab.server, list(lab.clients), run_id=3, deadline_s=deadline_s)


def learned(grid: LocalGrid | MessageGrid, number: int = 3, **how: Any) -> tuple[dict[str, bytes], list[RoundSeen]]:
    rounds: list[RoundSeen] = []
    plan = Federated(workload="w", rounds=number, **how)
    watched = ObservedGrid(grid, seed=7, deadline_s=plan.deadline_s, on_round=rounds.append)
    model = run_built_in(watched, plan, weights(a=1.0), seed=7, on_model=lambda _model: None)
    return {name: bytes(array.data) for name, array in model.items()}, rounds


NODES = [adding(0.1 * index, examples=index + 1) for index in range(5)]


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_over_the_network_all_goes_as_in_one_process(mode: str, tmp_path: Path) -> None:
    with reached(NODES, tmp_path) as lab:
        model, rounds = learned(grid_over(lab), mode=mode)
    if mode == "synchronous":
        assert model == learned(LocalGrid(NODES, run_id=3))[0]
    assert [(seen.round, failures(seen), seen.skipped) for seen in rounds] == [(1, 0, None), (2, 0, None), (3, 0, None)]
    for outcome in rounds[-1].outcomes:
        stamps = outcome.stamps
        assert stamps.sent_ns is not None
        assert stamps.delivered_ns is not None
        assert stamps.arrived_ns is not None
        assert stamps.sent_ns < stamps.arrived_ns
        assert stamps.bytes_down is not None
        assert stamps.bytes_up is not None
        assert stamps.bytes_down > 0 < stamps.bytes_up


def test_silent_absent_and_confused_clients_are_failures_and_the_round_ends(tmp_path: Path) -> None:
    with reached([adding(1), None, adding(1), b"rubbish", adding(1)], tmp_path) as lab:
        lab.status("bed-2", online=False)
        until_s = now_s() + 20
        grid = grid_over(lab)
        with identity(3, 0):
            while True:  # a peer may be away for a moment before its requests fail
                (reply,) = grid.send_and_receive([Message(RecordDict(), 3, "train")], timeout=1)
                if reply.has_error() and reply.error.reason == "offline":
                    break
                assert now_s() < until_s
                sleep_s(0.1)
        _, rounds = learned(grid, 1, deadline_s=3.0)
    errors = {outcome.node: outcome.error for outcome in rounds[0].outcomes}
    assert errors == {1: None, 2: "no reply within 3 s", 3: "offline", 4: "not a federated message", 5: None}
    assert [outcome.examples for outcome in rounds[0].outcomes] == [1, None, None, None, 1]
    # All but the absent one have taken the model; the silent one in vain.
    good, silent, absent, confused, _ = [outcome.stamps for outcome in rounds[0].outcomes]
    assert good.bytes_down is not None
    assert good.bytes_down > 0
    assert (silent.bytes_down, silent.bytes_up, silent.arrived_ns) == (good.bytes_down, 0, None)
    assert silent.delivered_ns is not None
    assert (absent.bytes_down, absent.bytes_up) == (0, 0)
    assert (confused.bytes_down, confused.bytes_up) == (good.bytes_down, len(b"rubbish"))


def test_pushed_messages_fail_when_they_are_later_than_the_deadline(tmp_path: Path) -> None:
    with reached([adding(1), None], tmp_path) as lab, identity(3, 0):
        grid = grid_over(lab, deadline_s=3.0)
        arrays = ArrayRecord({"a": FlowerArray(np.zeros(2, np.float32))})
        message_ids = grid.push_messages([Message(RecordDict({"arrays": arrays}), node, "train") for node in (1, 2)])
        replies: dict[int, Message] = {}
        until_s = now_s() + 20
        while len(replies) < 2:
            assert now_s() < until_s
            grid.wait_any(message_ids, 0.1)
            replies |= {reply.metadata.src_node_id: reply for reply in grid.pull_messages(message_ids)}
    assert replies[1].content["arrays"]["a"].numpy().tolist() == [1.0, 1.0]  # type: ignore[union-attr]
    assert replies[2].error.reason == "no reply within 3 s"
    assert stamps_of(replies[2]).bytes_down == stamps_of(replies[1]).bytes_down
    assert replies[1].metadata.reply_to_message_id == message_ids[0]
    assert stamps_of(replies[1]).bytes_up is not None
    assert grid.pull_messages(message_ids) == []


def test_a_reply_that_the_guard_refuses_has_cost_what_it_has_cost(tmp_path: Path) -> None:
    poisoned: Node = lambda request: replying(request, weights(a=float("nan")))  # noqa: E731
    with reached([adding(1), poisoned], tmp_path) as lab:
        _, rounds = learned(grid_over(lab))
    good, bad = rounds[0].outcomes
    assert bad.error == "array 'a' holds values that are not finite"
    assert (bad.stamps.bytes_down, bad.stamps.bytes_up) == (good.stamps.bytes_down, good.stamps.bytes_up)
    assert bad.stamps.started_ns == 2


@pytest.mark.parametrize("examples", [float("nan"), float("inf"), 1e300, 2**53 + 2, (1 << 64) - 1, -(2**60)])
def test_stamps_and_examples_that_cannot_be_are_not_taken(examples: float) -> None:
    def confused(request: Parcel) -> Parcel:
        reply = replying(request, weights(a=1.0), **{"num-examples": examples})
        meta: dict[str, int | float | str] = {"received_ns": -1, "started_ns": (1 << 64) - 1, "finished_ns": 3}
        return Parcel(msgspec.structs.replace(reply.head, meta=meta), reply.content)

    grid = LocalGrid([confused, adding(1, examples=2**53)], run_id=3)
    rounds: list[RoundSeen] = []
    watched = ObservedGrid(grid, seed=7, deadline_s=9, on_round=rounds.append)
    arrays = ArrayRecord({"a": FlowerArray(np.zeros(3, np.float32))})
    with identity(3, 0):
        watched.send_and_receive([Message(RecordDict({"arrays": arrays}), node, "train") for node in (1, 2)])
    first, second = rounds[0].outcomes
    assert (first.error, first.examples, second.examples) == (None, None, 2**53)
    stamps = first.stamps
    assert (stamps.received_ns, stamps.started_ns, stamps.finished_ns) == (None, None, 3)


def test_large_replies_that_a_strategy_has_done_with_do_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "_LARGE_BYTES", 1)
    grid = ObservedGrid(LocalGrid([adding(1)], run_id=3), seed=7, deadline_s=9, on_round=lambda _seen: None)
    arrays = ArrayRecord({"a": FlowerArray(np.zeros(3, np.float32))})
    gc.disable()
    try:
        with identity(3, 0):
            (reply,) = grid.send_and_receive([Message(RecordDict({"arrays": arrays}), 1, "train")])
            assert list(reply.content.array_records)
            first = weakref.ref(reply.content)
            del reply
            assert first() is not None
            grid.send_and_receive([Message(RecordDict({"arrays": arrays}), 1, "train")])
    finally:
        gc.enable()
    assert first() is None


def test_what_is_not_finite_reaches_a_users_app_and_is_a_failure_all_the_same() -> None:
    poisoned: Node = lambda request: replying(request, weights(a=float("nan")))  # noqa: E731
    rounds: list[RoundSeen] = []
    observed = ObservedGrid(LocalGrid([adding(1), poisoned], run_id=3), seed=7, deadline_s=9, on_round=rounds.append)
    arrays = ArrayRecord({"a": FlowerArray(np.zeros(3, np.float32))})
    with identity(3, 0):
        replies = observed.send_and_receive([Message(RecordDict({"arrays": arrays}), node, "train") for node in (1, 2)])
    assert [reply.has_content() for reply in replies] == [True, True]
    assert [each.error for each in rounds[0].outcomes] == [None, "array 'a' holds values that are not finite"]


class OneByOne(LocalGrid):
    """An engine's grid that hands out one reply at a time."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__(nodes, run_id=3)
        self.pulled_ns: list[int] = []

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        self.pulled_ns.append(now_ns())
        return super().pull_messages(sorted(message_ids)[:1])


def test_replies_of_an_engine_are_stamped_as_they_come() -> None:
    engine = OneByOne([adding(1), adding(1), failing("asleep")])
    arrays = ArrayRecord({"a": FlowerArray(np.zeros(3, np.float32))})
    with identity(3, 0):
        grid = EngineGrid(engine, [1, 2, 3])
        messages = [Message(RecordDict({"arrays": arrays}), node, "train") for node in (1, 2, 3)]
        stamps = [stamps_of(reply) for reply in grid.send_and_receive(messages, timeout=60)]
    arrived = [stamp.arrived_ns for stamp in stamps if stamp.arrived_ns is not None]
    first, second, third = engine.pulled_ns
    assert first <= arrived[0] <= second <= arrived[1] <= third <= arrived[2]
    assert [(stamp.bytes_down, stamp.bytes_up) for stamp in stamps] == [(None, None)] * 3


def test_messages_that_nobody_replied_to_in_time_are_not_remembered() -> None:
    with identity(3, 0):
        grid = EngineGrid(OneByOne([adding(1), adding(1)]), [1, 2])
        arrays = ArrayRecord({"a": FlowerArray(np.zeros(3, np.float32))})
        messages = [Message(RecordDict({"arrays": arrays}), node, "train") for node in (1, 2)]
        assert grid.send_and_receive(messages, timeout=0.0) == []
    assert grid._asked == {}


class Counter:
    """Takes requests and does not carry them."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def submit(self, requests: Sequence[Request]) -> list[str]:
        self.requests += requests
        return [request.head.message_id for request in requests]

    def wait(self, message_ids: Collection[str], timeout_s: float, *, enough: int | None = None) -> None: ...

    def take(self, message_ids: Collection[str]) -> list[Reply]:
        return []

    def give_up(self, message_ids: Collection[str], reason: str) -> list[Reply]:
        return []


def test_what_goes_to_many_is_converted_once() -> None:
    counter = Counter()
    grid = MessageGrid(counter, ["a", "b"], run_id=3, deadline_s=1)
    array = FlowerArray(np.arange(1000, dtype=np.float32))
    record = RecordDict({"arrays": ArrayRecord({"w": array})})
    with identity(3, 0):
        grid.push_messages([Message(record, node, "train", group_id="5") for node in (1, 2)])
    first, second = counter.requests
    assert [request.client for request in counter.requests] == ["a", "b"]
    assert first.content is second.content
    assert isinstance(first.content[1], memoryview)
    assert arrays_in(unpack(b"".join(second.content)).content)["w"].numpy().tolist() == list(range(1000))
    head = second.head
    assert (head.kind, head.group, head.meta["run_id"], head.meta["node"]) == ("train", "5", 3, 2)
    assert first.head.message_id != second.head.message_id


def test_there_is_no_node_beyond_the_last() -> None:
    grid = LocalGrid([adding(1)], run_id=3)
    assert grid.get_node_ids() == [1]
    with identity(3, 0), pytest.raises(ValueError, match="there is no node 2"):
        grid.send_and_receive([Message(RecordDict(), 2, "train")])


class _Patient(LocalGrid):
    """Notes how long it is to wait."""

    def __init__(self) -> None:
        super().__init__([adding(1)], run_id=3)
        self.waited_s: list[float | None] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        self.waited_s.append(timeout)
        return super().send_and_receive(messages, timeout=timeout)


def test_an_app_s_own_timeout_is_kept_where_it_is_shorter_than_a_round_s_and_refused_where_it_is_longer() -> None:
    patient = _Patient()
    grid = ObservedGrid(patient, seed=7, deadline_s=9)

    def ask(timeout_s: float | None) -> None:
        arrays = ArrayRecord({"a": FlowerArray(np.zeros(3, np.float32))})
        with identity(3, 0):
            grid.send_and_receive([Message(RecordDict({"arrays": arrays}), 1, "train")], timeout=timeout_s)

    for timeout_s in (None, 3600.0, 2.5, 9.0):
        ask(timeout_s)
    assert patient.waited_s == [9, 9, 2.5, 9.0]
    with pytest.raises(EdgebenchError, match=r"the app waits 10 s for .* longer .*: 9 s \(set deadline_s: 10"):
        ask(10.0)


def test_a_message_s_own_ttl_is_kept_where_it_is_shorter_than_a_round_s_and_refused_where_it_is_longer() -> None:
    patient = _Patient()
    grid = ObservedGrid(patient, seed=7, deadline_s=9)

    def message(ttl_s: float | None) -> Message:
        arrays = ArrayRecord({"a": FlowerArray(np.zeros(3, np.float32))})
        return Message(RecordDict({"arrays": arrays}), 1, "train", ttl=ttl_s)

    with identity(3, 0):
        for ttl_s, timeout_s in ((None, None), (2.5, None), (2.5, 2.0), (20.0, 2.0)):
            grid.send_and_receive([message(ttl_s)], timeout=timeout_s)
        assert patient.waited_s == [9, 2.5, 2.0, 2.0]
        for ask in (grid.send_and_receive, grid.push_messages):
            with pytest.raises(EdgebenchError, match=r"the app waits 10 s for .* longer .*: 9 s \(set deadline_s: 10"):
                ask([message(None), message(10.0)])


def test_a_reply_is_late_when_its_message_is_older_than_it_lives(tmp_path: Path) -> None:
    with reached([adding(1), None, None], tmp_path) as lab, identity(3, 0):
        grid = grid_over(lab)
        arrays = ArrayRecord({"a": FlowerArray(np.zeros(2, np.float32))})

        def message(node: int, ttl_s: float | None) -> Message:
            return Message(RecordDict({"arrays": arrays}), node, "train", ttl=ttl_s)

        replies = grid.send_and_receive([message(1, None), message(2, 1.0), message(3, None)], timeout=5)
        said = [reply.error.reason if reply.has_error() else None for reply in replies]
        assert said == [None, "no reply within 1 s", "no reply within 5 s"]
        message_ids = grid.push_messages([message(2, 1.5)])
        pushed: list[Message] = []
        until_s = now_s() + 20
        while not pushed:
            assert now_s() < until_s
            grid.wait_any(message_ids, 0.1)
            pushed = grid.pull_messages(message_ids)
    assert [reply.error.reason for reply in pushed] == ["no reply within 1.5 s"]


class _Expiring(LocalGrid):
    """An engine's grid that answers by itself, as the node 1, for messages that are too old."""

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies = super().pull_messages(message_ids)
        for reply in replies:
            reply.metadata.__dict__["_src_node_id"] = 1
        return replies


def test_what_an_engine_says_in_a_client_s_stead_is_that_client_s() -> None:
    with identity(3, 0):
        grid = EngineGrid(_Expiring([adding(1), failing("expired")], run_id=3), [1, 2])
        arrays = ArrayRecord({"a": FlowerArray(np.zeros(3, np.float32))})
        messages = [Message(RecordDict({"arrays": arrays}), node, "train") for node in (1, 2)]
        replies = grid.send_and_receive(messages, timeout=60)
    assert {reply.metadata.src_node_id: reply.has_error() for reply in replies} == {1: False, 2: True}
