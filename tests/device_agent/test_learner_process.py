"""The process that learns for an agent's devices: real children, and an app whose results are known."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from device_agent.learner import App, LearnerSpec
from device_agent.learner_process import LearnerProcess, Request
from edgebench.clock import now_s, sleep_s
from edgebench.federated.answerer import Asked
from edgebench.federated.content import Array, Arrays, Head, Parcel, arrays_in, pack, read_parcel
from edgebench.federated.payload import Received

APP = Path(__file__).parents[1] / "system" / "apps" / "adding"
WAIT_S = 60.0


def asked(number: int, payload: bytes | None = None) -> Asked:
    head = Head(message_id=f"m-{number}", kind="train", group="1")
    buffers = pack(head, {"arrays": Arrays({"0": Array.of(np.zeros(4, np.float32))})})
    data = b"".join(map(bytes, buffers)) if payload is None else payload
    return Asked(Received(number, len(data), len(data), data=data), received_ns=17)


class Bench(NamedTuple):
    process: LearnerProcess
    answers: queue.SimpleQueue[tuple[Request, Path]]

    def ask(self, number: int, node: int = 1, payload: bytes | None = None) -> Asked:
        request = asked(number, payload)
        self.process.put(Request("watch", node, request, None))  # type: ignore[arg-type]
        return request

    def reply(self) -> Parcel:
        _, path = self.answers.get(timeout=WAIT_S)
        return read_parcel(path)

    def child(self) -> psutil.Process:
        until_s = now_s() + WAIT_S
        while self.process.pid is None:
            assert now_s() < until_s
            sleep_s(0.01)
        return psutil.Process(self.process.pid)


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Four clients of the adding app; `takes_s` by an indirect parameter."""
    config: dict[str, Any] = {"takes-s": getattr(request, "param", 0.0)}
    answers: queue.SimpleQueue[tuple[Request, Path]] = queue.SimpleQueue()
    spec = LearnerSpec(seed=1, workloads={"watch": App(str(APP), config, clients=4, run_id=5)})
    process = LearnerProcess(spec, tmp_path, lambda request, path: answers.put((request, path)))
    yield Bench(process, answers)
    process.close()


def test_one_child_learns_for_many_devices_one_after_another(bench: Bench) -> None:
    for node in (1, 2, 3):
        bench.ask(node, node)
    replies = [bench.reply() for _ in range(3)]
    assert [arrays_in(reply.content)["0"].numpy().tolist() for reply in replies] == [[n] * 4 for n in (1.0, 2.0, 3.0)]
    assert [reply.head.reply_to for reply in replies] == ["m-1", "m-2", "m-3"]
    for reply in replies:
        stamps = reply.head.meta
        assert stamps["received_ns"] == 17
        assert stamps["started_ns"] <= stamps["finished_ns"]  # type: ignore[operator]


def test_what_is_no_message_gets_an_error_and_the_next_one_its_answer(bench: Bench) -> None:
    bench.ask(1, payload=b"garbage")
    bench.ask(2, node=2)
    wrong, right = bench.reply(), bench.reply()
    assert wrong.head.error == "not a federated message"
    assert arrays_in(right.content)["0"].numpy().tolist() == [2.0] * 4


@pytest.mark.parametrize("bench", [30.0], indirect=True)
def test_a_child_that_is_killed_over_a_request_is_an_error_reply_and_is_started_again(bench: Bench) -> None:
    bench.ask(1)
    first = bench.child()
    first.kill()
    assert bench.reply().head.error == "the process that learns was killed by signal 9 (SIGKILL)"
    bench.ask(2)
    until_s = now_s() + WAIT_S
    while bench.process.pid in (None, first.pid):
        assert now_s() < until_s
        sleep_s(0.01)
    bench.child().kill()
    assert bench.reply().head.reply_to == "m-2"


@pytest.mark.parametrize("bench", [1.0], indirect=True)
def test_a_request_that_is_called_off_while_it_waits_is_not_begun(bench: Bench) -> None:
    bench.ask(1)
    bench.process.cancel(bench.ask(2))
    bench.ask(3)
    assert [bench.reply().head.reply_to for _ in range(2)] == ["m-1", "m-3"]


@pytest.mark.parametrize("bench", [30.0], indirect=True)
def test_closing_ends_the_child_whatever_it_is_doing(bench: Bench) -> None:
    bench.ask(1)
    child = bench.child()
    bench.process.close()
    assert not child.is_running()
