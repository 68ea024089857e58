"""The processes that learn for an agent's devices: real children, and apps whose results are known."""

from __future__ import annotations

import itertools
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from device_agent import learner_pool
from device_agent.learner_messages import AppSpec, LearnerSpec
from device_agent.learner_pool import LearnerPool
from device_agent.learner_process import LearnerProcess, LearnerRequest
from edgebench.clock import now_s, sleep_s
from edgebench.fabric import child_process
from edgebench.fabric.child_process import ChildProcess
from edgebench.federated.content import (
    Array,
    Arrays,
    Head,
    Parcel,
    arrays_in,
    metrics_in,
    pack,
    read_parcel,
    read_together,
    write_parcel,
)
from edgebench.federated.learner_environment import environment_for
from edgebench.federated.message_client import Received
from edgebench.topology.model import Learners
from tests.fabric.ended import check_gone

APP = Path(__file__).parents[1] / "system" / "apps" / "adding"
WAIT_S = 60.0
CLIENTS = 4
LARGE_VALUES = 12_500_000
HANGING = """
import os
from pathlib import Path
from threading import Event

from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    node = int(context.node_config["partition-id"]) + 1
    with (Path(__file__).parent / "begun").open("a") as file:
        file.write(f"{node}\\n")
    if node == 1:
        Event().wait()
    sum(range(3_000_000))
    number = int(os.environ.get("KERAS_BACKEND", "none") == context.run_config["out"])
    return Message(RecordDict({"metrics": MetricRecord({"number": number})}), reply_to=message)
"""
FORKING = HANGING.replace(
    "        Event().wait()\n",
    """        import multiprocessing, time

        forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
        forked.start()
        (Path(__file__).parent / "forked").write_text(f"{forked.pid}\\n")
        THEN
""",
)
"""Node 1 forks a child, which holds the learner's pipes, too, and then …"""
HOST = """
import sys, time
from pathlib import Path
from tests.device_agent.test_learner_pool import bench_of

bench_of(Path(sys.argv[1]), Path(sys.argv[2]), {"out": "none"}).ask(1, node=1)
time.sleep(1000)
"""
"""Node 1 never answers; the others burn some processor time, and say whether Keras runs on `out`."""


def asked(directory: Path, number: int, content: bytes | None = None) -> Received:
    head = Head(message_id=f"m-{number}", kind="train", group="1")
    path = directory / f"{number}.content"
    if content is None:
        write_parcel(path, pack(head, {"arrays": Arrays({"0": Array.of(np.zeros(4, np.float32))})}))
    else:
        path.write_bytes(content)
    return Received(head, path, received_ns=17)


class Bench(NamedTuple):
    pool: LearnerPool
    answers: queue.SimpleQueue[tuple[Sequence[LearnerRequest], Path]]
    directory: Path

    def ask(self, number: int, node: int = 1, content: bytes | None = None) -> Received:
        request = asked(self.directory, number, content)
        self.pool.put(LearnerRequest("watch", node, request, None))  # type: ignore[arg-type]
        return request

    def reply(self) -> Parcel:
        _, path = self.answers.get(timeout=WAIT_S)
        return read_parcel(path)

    def used(self) -> float:
        usage = self.pool.usage()
        assert usage is not None
        return usage.cpu_s

    def child(self) -> psutil.Process:
        until_s = now_s() + WAIT_S
        while not self.pool.pids:
            assert now_s() < until_s
            sleep_s(0.01)
        return psutil.Process(self.pool.pids[0])


def wait_for(path: Path, text: str) -> None:
    until_s = now_s() + WAIT_S
    while not path.exists() or path.read_text() != text:
        assert now_s() < until_s
        sleep_s(0.01)


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """An app that hangs for its first client."""
    app = shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (app / "adding_client.py").write_text(HANGING)
    return app


def bench_of(
    app: Path,
    directory: Path,
    config: dict[str, Any],
    keras_backend: str | None = None,
    *,
    how: Learners | None = None,
    at_once: int = 1,
    most: int = 1,
    together: Sequence[str] = (),
) -> Bench:
    answers: queue.SimpleQueue[tuple[Sequence[LearnerRequest], Path]] = queue.SimpleQueue()
    spec = LearnerSpec(
        seed=1,
        workloads={"watch": AppSpec(str(app), config, clients=CLIENTS, run_id=5)},
        files=str(directory / "files"),
        states=str(directory / "states"),
    )
    pool = LearnerPool(
        spec,
        directory,
        lambda requests, path: answers.put((requests, path)),
        at_once=at_once,
        most=most,
        environment=environment_for(how or Learners(), keras_backend),
        together=together,
    )
    return Bench(pool, answers, directory)


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Four clients of the adding app; `takes_s` by an indirect parameter."""
    made = bench_of(APP, tmp_path, {"takes-s": getattr(request, "param", 0.0)})
    yield made
    made.pool.close()


@pytest.fixture
def hung(hanging: Path, tmp_path: Path) -> Iterator[Bench]:
    """A learner that hangs over a request of node 1, whose number is 1."""
    made = bench_of(hanging, tmp_path, {"out": "none"})
    made.ask(1, node=1)
    wait_for(hanging / "begun", "1\n")
    yield made
    made.pool.close()


def test_one_process_learns_for_many_devices_one_after_another(bench: Bench) -> None:
    for node in (1, 2, 3):
        bench.ask(node, node)
    replies = [bench.reply() for _ in range(3)]
    assert [arrays_in(reply.content)["0"].numpy().tolist() for reply in replies] == [[n] * 4 for n in (1.0, 2.0, 3.0)]
    assert [reply.head.reply_to for reply in replies] == ["m-1", "m-2", "m-3"]
    for reply in replies:
        stamps = reply.head.meta
        assert stamps["received_ns"] == 17
        assert stamps["started_ns"] <= stamps["finished_ns"]  # type: ignore[operator]
        assert {"created_at", "ttl"} <= set(stamps)  # what Flower says of the message travels along


def test_what_is_no_message_gets_an_error_and_the_next_one_its_answer(bench: Bench) -> None:
    bench.ask(1, content=b"garbage")
    bench.ask(2, node=2)
    wrong, right = bench.reply(), bench.reply()
    assert wrong.head.error == "not a federated message"
    assert arrays_in(right.content)["0"].numpy().tolist() == [2.0] * 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}['column']", "KeyError: 'column'"),
        ("raise SystemExit(0)", "it ends its process as it is imported: SystemExit: 0"),
    ],
)
def test_an_app_that_cannot_be_imported_is_an_error_with_its_place_in_every_reply(
    line: str, said: str, tmp_path: Path
) -> None:
    app = shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (app / "adding_client.py").write_text(f"import os\n{line}\n")
    bench = bench_of(app, tmp_path, {})
    try:
        for number in (1, 2):
            bench.ask(number, node=number)
        errors = [bench.reply().head.error for _ in range(2)]
    finally:
        bench.pool.close()
    assert errors == [f"{app}: adding_client:app: {said} ({app / 'adding_client.py'}, line 2)"] * 2


@pytest.mark.parametrize("bench", [30.0], indirect=True)
def test_a_child_that_is_killed_over_a_request_is_an_error_reply_and_is_started_again(bench: Bench) -> None:
    bench.ask(1)
    first = bench.child()
    first.kill()
    assert bench.reply().head.error == "the process that learns ended before its work did (signal 9, SIGKILL)"
    bench.ask(2)
    until_s = now_s() + WAIT_S
    while bench.pool.pids in ([], [first.pid]):
        assert now_s() < until_s
        sleep_s(0.01)
    bench.child().kill()
    assert bench.reply().head.reply_to == "m-2"


@pytest.mark.parametrize("bench", [1.0], indirect=True)
def test_a_request_that_is_called_off_while_it_waits_is_not_begun(bench: Bench) -> None:
    bench.ask(1)
    bench.pool.cancel(bench.ask(2))
    bench.ask(3)
    assert [bench.reply().head.reply_to for _ in range(2)] == ["m-1", "m-3"]


@pytest.mark.parametrize("bench", [30.0], indirect=True)
def test_a_request_that_is_called_off_while_the_child_starts_takes_nothing_from_the_next_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, start = asked(bench.directory, 1), LearnerProcess._started

    def start_and_call_off(process: LearnerProcess) -> ChildProcess:
        child = start(process)
        bench.pool.cancel(first)
        return child

    monkeypatch.setattr(LearnerProcess, "_started", start_and_call_off)
    bench.pool.put(LearnerRequest("watch", 1, first, None))  # type: ignore[arg-type]
    bench.ask(2)
    assert bench.reply().head.error is None


def ask_alike(bench: Bench, *nodes: int) -> list[Received]:
    """The same of all these nodes, before anybody sees the first."""
    first = asked(bench.directory, 100)
    alike = [
        Received(Head(message_id=f"m-{node}", kind="train", group="1"), first.path, received_ns=17) for node in nodes
    ]
    with bench.pool._changed:
        for node, request in zip(nodes, alike, strict=True):
            bench.pool.put(LearnerRequest("watch", node, request, None))  # type: ignore[arg-type]
    return alike


def test_clients_that_are_quick_are_asked_together_and_fewer_at_a_time_towards_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_pool, "_TOGETHER_S", 1e6)
    bench = bench_of(APP, tmp_path, {"takes-s": 0.0, "garbage": "4"}, together=["watch"])
    bench.ask(0)
    bench.reply()
    ask_alike(bench, 2, 3, 4, 1)
    answers = [bench.answers.get(timeout=WAIT_S) for _ in range(3)]
    bench.pool.close()
    assert [[each.node for each in requests] for requests, _ in answers] == [[2, 3], [4], [1]]
    replies = [reply for _, path in answers for reply in read_together(path)]
    assert [reply.head.reply_to for reply in replies] == ["m-2", "m-3", "m-4", "m-1"]
    assert [reply.head.error is None for reply in replies] == [True, True, False, True]
    assert [arrays_in(reply.content)["0"].numpy()[0] for reply in replies if reply.content] == [2.0, 3.0, 1.0]


def test_one_of_several_that_is_called_off_takes_nothing_from_those_that_were_asked_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_pool, "_TOGETHER_S", 1e6)
    bench = bench_of(APP, tmp_path, {"takes-s": 0.3}, together=["watch"])
    bench.ask(0)
    bench.reply()
    child = bench.child()
    alike = ask_alike(bench, 2, 3, 4)
    until_s = now_s() + WAIT_S
    while not bench.pool._workers[0].tasks:
        assert now_s() < until_s
        sleep_s(0.01)
    bench.pool.cancel(alike[0])
    requests, path = bench.answers.get(timeout=WAIT_S)
    assert [each.node for each in requests] == [3]
    assert "m-3" in [reply.head.reply_to for reply in read_together(path)]
    assert bench.reply().head.reply_to == "m-4"
    assert child.is_running()
    bench.pool.close()


def test_closing_ends_the_child_whatever_it_is_doing(bench: Bench) -> None:
    bench.ask(1)
    child = bench.child()
    bench.pool.close()
    assert not child.is_running()


def test_a_request_that_is_called_off_while_it_is_done_ends_and_the_next_one_is_answered(hung: Bench) -> None:
    first = hung.child()
    hung.ask(2, node=2)
    hung.pool.cancel(asked(hung.directory, 1))
    assert hung.reply().head.reply_to == "m-2"
    assert not first.is_running()
    assert hung.answers.empty()


def forking(tmp_path: Path, then: str) -> Path:
    """An app whose first client forks, and then does that."""
    app = shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (app / "adding_client.py").write_text(FORKING.replace("THEN", then))
    return app


def forked_by(app: Path) -> int:
    """The id of what has been forked, which may be gone by now."""
    until_s = now_s() + WAIT_S
    while not (app / "forked").exists() or not (app / "forked").read_text().endswith("\n"):
        assert now_s() < until_s
        sleep_s(0.01)
    return int((app / "forked").read_text())


def test_a_request_whose_client_has_forked_is_called_off_with_all_that_it_has_started(tmp_path: Path) -> None:
    app = forking(tmp_path, "Event().wait()")
    bench = bench_of(app, tmp_path, {"out": "none"})
    bench.ask(1, node=1)
    forked = forked_by(app)
    bench.ask(2, node=2)
    bench.pool.cancel(asked(bench.directory, 1))
    assert bench.reply().head.reply_to == "m-2"
    check_gone(forked)
    bench.pool.close()


def test_a_child_that_ends_with_a_fork_of_its_own_alive_is_an_error_reply_and_the_next_one_its_answer(
    tmp_path: Path,
) -> None:
    app = forking(tmp_path, "os._exit(5)")
    bench = bench_of(app, tmp_path, {"out": "none"})
    bench.ask(1, node=1)
    bench.ask(2, node=2)
    assert bench.reply().head.error == "the process that learns ended before its work did (status 5)"
    assert bench.reply().head.reply_to == "m-2"
    check_gone(forked_by(app))
    bench.pool.close()


def test_closing_ends_what_a_client_has_started(tmp_path: Path) -> None:
    app = forking(tmp_path, "Event().wait()")
    bench = bench_of(app, tmp_path, {"out": "none"})
    bench.ask(1, node=1)
    forked = forked_by(app)
    bench.pool.close()
    check_gone(forked)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own watch over orphans is Linux's")
def test_what_a_client_has_started_does_not_outlive_an_agent_that_is_killed(tmp_path: Path) -> None:
    app = forking(tmp_path, "Event().wait()")
    root = str(Path(__file__).resolve().parents[2])
    agent = subprocess.Popen(
        [sys.executable, "-c", HOST, str(app), str(tmp_path)], env={**os.environ, "PYTHONPATH": root}
    )
    forked = forked_by(app)
    agent.kill()
    agent.wait()
    check_gone(forked)


def test_what_waits_when_it_is_closed_is_not_begun(hung: Bench, hanging: Path) -> None:
    child = hung.child()
    for number in (2, 3):
        hung.ask(number, node=number)
    hung.pool.close()
    assert not child.is_running()
    assert hung.pool.pids == []
    assert (hanging / "begun").read_text() == "1\n"
    assert hung.answers.empty()


def test_what_a_child_has_used_is_not_forgotten_with_it(hung: Bench) -> None:
    assert hung.pool.usage() is not None
    first = hung.used()
    hung.pool.cancel(asked(hung.directory, 1))
    hung.ask(2, node=2)
    hung.reply()
    second = hung.used()
    assert second - first > 0.1  # the second child has imported an app, too
    hung.child().kill()
    hung.ask(3, node=3)
    hung.reply()
    assert hung.used() >= second


@pytest.mark.parametrize("backend", [None, "torch"])
def test_keras_is_told_its_backend_only_where_that_is_known(
    hanging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str | None
) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    bench = bench_of(hanging, tmp_path, {"out": backend or "none"}, backend)
    bench.ask(1, node=2)
    assert metrics_in(bench.reply().content) == {"number": 1}
    bench.pool.close()


def test_whoever_hands_a_request_over_does_not_wait_for_a_look_at_what_the_child_uses(
    hung: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, looked = threading.Event(), threading.Event()

    def slowly(_pid: int) -> None:
        looking.set()
        looked.wait(WAIT_S)

    monkeypatch.setattr(child_process, "usage_of_family", slowly)
    watcher = threading.Thread(target=hung.pool.usage)
    watcher.start()
    assert looking.wait(WAIT_S)
    asked_s = now_s()
    hung.pool.put(LearnerRequest("watch", 2, asked(hung.directory, 2), None))  # type: ignore[arg-type]
    hung.pool.cancel(asked(hung.directory, 2))
    assert now_s() - asked_s < WAIT_S / 2
    looked.set()
    watcher.join()


@pytest.mark.skipif(sys.platform != "linux", reason="tells no peak of another process")
def test_a_large_model_is_in_a_learner_s_memory_three_times_while_it_learns_and_not_afterwards(tmp_path: Path) -> None:
    bench = bench_of(APP, tmp_path, {"out": "none"})

    def learn(number: int, values: int) -> None:
        received = asked(tmp_path, number)
        write_parcel(
            received.path, pack(received.head, {"arrays": Arrays({"0": Array.of(np.zeros(values, np.float32))})})
        )
        bench.pool.put(LearnerRequest("watch", 1, received, None))  # type: ignore[arg-type]
        assert bench.reply().head.error is None

    def memory(what: str) -> int:
        """Of the child of the guard, bytes."""
        (child,) = bench.child().children()
        (line,) = [line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if line.startswith(what)]
        return int(line.split()[1]) * 1024

    learn(1, 1_000)
    before = memory("VmRSS")
    learn(2, LARGE_VALUES)
    learn(3, LARGE_VALUES)
    large_bytes = 4 * LARGE_VALUES
    assert memory("VmHWM") - before < 3.5 * large_bytes  # Flower's array, NumPy's of it, and what is learned
    assert memory("VmRSS") - before < 0.5 * large_bytes
    bench.pool.close()


WAITING = """
import os
import time
from pathlib import Path

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    kept = context.state.get("kept", ConfigRecord({"calls": 0, "pids": []}))
    pids = sorted({*kept["pids"], os.getpid()})
    context.state["kept"] = ConfigRecord({"calls": kept["calls"] + 1, "pids": pids})
    node = int(context.node_config["partition-id"]) + 1
    with (Path(__file__).parent / "begun").open("a") as file:
        file.write(f"{node}\\n")
    while not (Path(__file__).parent / f"go-{node}").exists():
        if context.run_config["out"] == "sleeps" and not (Path(__file__).parent / "wake").exists():
            time.sleep(0.15)
    numbers = {"calls": kept["calls"] + 1, "processes": len(pids), "threads": int(os.environ["OMP_NUM_THREADS"])}
    numbers["gpu"] = int(os.environ.get("CUDA_VISIBLE_DEVICES") != "-1")
    return Message(RecordDict({"metrics": MetricRecord(numbers)}), reply_to=message)
"""
"""A client sleeps, until it is woken, or computes, until it is let go on. It wakes seldom: each time it waits for a
core where others have them, and waiting for a core is not sleeping."""


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    app = shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (app / "adding_client.py").write_text(WAITING)
    return app


def begun(app: Path) -> set[str]:
    return set((app / "begun").read_text().split()) if (app / "begun").exists() else set()


def wait_until_begun(app: Path, *nodes: str) -> None:
    until_s = now_s() + WAIT_S
    while not begun(app) >= set(nodes):
        assert now_s() < until_s
        sleep_s(0.01)


def test_devices_that_only_sleep_do_not_wait_for_each_other(waiting: Path, tmp_path: Path) -> None:
    bench = bench_of(waiting, tmp_path, {"out": "sleeps"}, most=CLIENTS)
    for node in range(1, CLIENTS + 1):
        bench.ask(node, node)
    wait_until_begun(waiting, "1", "2", "3", "4")
    assert len(bench.pool.pids) == CLIENTS
    for node in range(1, CLIENTS + 1):
        (waiting / f"go-{node}").touch()
    assert {bench.reply().head.reply_to for _ in range(CLIENTS)} == {"m-1", "m-2", "m-3", "m-4"}
    bench.pool.close()


def test_a_device_that_slept_when_it_was_last_looked_at_and_computes_now_is_not_taken_for_one_that_waits(
    waiting: Path, tmp_path: Path
) -> None:
    bench = bench_of(waiting, tmp_path, {"out": "sleeps"}, most=CLIENTS)
    for node in (1, 2):
        bench.ask(node, node)
    wait_until_begun(waiting, "1", "2")
    (waiting / "go-2").touch()
    assert bench.reply().head.reply_to == "m-2"
    sleep_s(4 * learner_pool._LOOK_S)
    (waiting / "wake").touch()
    bench.ask(3, node=3)
    sleep_s(3 * learner_pool._LOOK_S)
    assert begun(waiting) == {"1", "2"}
    (waiting / "go-1").touch()
    assert bench.reply().head.reply_to == "m-1"
    wait_until_begun(waiting, "3")
    bench.pool.close()


def test_no_more_devices_compute_at_once_than_may(waiting: Path, tmp_path: Path) -> None:
    bench = bench_of(waiting, tmp_path, {"out": "none"}, at_once=2, most=CLIENTS)
    for node in (1, 2, 3):
        bench.ask(node, node)
    wait_until_begun(waiting, "1", "2")
    sleep_s(3 * learner_pool._LOOK_S)
    assert begun(waiting) == {"1", "2"}
    (waiting / "go-2").touch()
    assert bench.reply().head.reply_to == "m-2"
    wait_until_begun(waiting, "3")
    assert len(bench.pool.pids) == 2
    bench.pool.close()


def test_as_many_processes_are_added_at_a_look_as_may_compute(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_pool, "available_bytes", lambda: 1 << 40)
    monkeypatch.setattr(learner_pool, "_LOOK_S", 1.5)  # all have been asked by the first look
    bench = bench_of(waiting, tmp_path, {"out": "none"}, at_once=3, most=CLIENTS)
    for node in range(1, CLIENTS + 1):
        bench.ask(node, node)
    until_s, workers = now_s() + WAIT_S, 1
    while workers == 1:
        assert now_s() < until_s
        sleep_s(0.01)
        with bench.pool._changed:
            workers = len(bench.pool._workers)
    assert workers == 3
    bench.pool.close()


def test_a_device_that_only_waits_gives_its_place_on_at_the_first_look(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It hardly ever wakes, so that it never waits for a core that others have.
    (waiting / "adding_client.py").write_text(WAITING.replace("time.sleep(0.15)", "time.sleep(1.5)"))
    bench = bench_of(waiting, tmp_path, {"out": "sleeps"}, most=2)
    for node in (1, 2):
        bench.ask(node, node)
    wait_until_begun(waiting, "1", "2")
    for node in (1, 2):
        (waiting / f"go-{node}").touch()
    for _ in range(2):
        bench.reply()
    until_s = now_s() + WAIT_S
    while any(worker.seen for worker in bench.pool._workers):  # nobody looks any more when all are forgotten
        assert now_s() < until_s
        sleep_s(0.01)
    for name in ("go-1", "go-2", "begun"):
        (waiting / name).unlink()
    looks, over = itertools.count(1), threading.Event()

    def available_at_a_look() -> int:
        if next(looks) > 1:
            over.wait()  # there is no second look
        return 1 << 40

    monkeypatch.setattr(learner_pool, "available_bytes", available_at_a_look)
    monkeypatch.setattr(learner_pool, "_LOOK_S", 3.0)
    try:
        for node in (3, 4):
            bench.ask(node, node - 2)
        wait_until_begun(waiting, "1", "2")
    finally:
        over.set()
        bench.pool.close()


def test_there_is_no_other_process_without_memory_for_it(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_pool, "available_bytes", lambda: 1_000_000)
    bench = bench_of(waiting, tmp_path, {"out": "sleeps"}, at_once=2, most=CLIENTS)
    for node in (1, 2):
        bench.ask(node, node)
    wait_until_begun(waiting, "1")
    sleep_s(3 * learner_pool._LOOK_S)
    assert begun(waiting) == {"1"}
    bench.pool.close()


def test_what_learners_may_take_that_have_done_no_task_yet_is_no_room_for_others(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Room for two and a half untried learners, as long as those that were started have taken none of it.
    monkeypatch.setattr(learner_pool, "available_bytes", lambda: 5 * learner_pool._UNTRIED_BYTES)
    monkeypatch.setattr(LearnerProcess, "usage", lambda _self: None)
    bench = bench_of(waiting, tmp_path, {"out": "none"}, at_once=CLIENTS, most=CLIENTS)
    for node in range(1, CLIENTS + 1):
        bench.ask(node, node)
    wait_until_begun(waiting, "1", "2")
    sleep_s(3 * learner_pool._LOOK_S)
    assert len(bench.pool._workers) == 2
    bench.pool.close()


def test_a_client_s_messages_come_one_after_another_and_its_state_goes_with_it_from_process_to_process(
    waiting: Path, tmp_path: Path
) -> None:
    bench = bench_of(waiting, tmp_path, {"out": "sleeps"}, how=Learners(threads=3, gpu=True), most=CLIENTS)
    bench.ask(1, node=1)
    bench.ask(2, node=1)
    bench.ask(3, node=2)
    wait_until_begun(waiting, "1", "2")
    assert (waiting / "begun").read_text().count("1") == 1
    (waiting / "go-1").touch()
    first, second = bench.reply(), bench.reply()
    assert [each.head.reply_to for each in (first, second)] == ["m-1", "m-2"]
    assert metrics_in(first.content) == {"calls": 1, "processes": 1, "threads": 3, "gpu": 1}
    assert metrics_in(second.content)["calls"] == 2
    bench.pool.close()
    again = bench_of(waiting, tmp_path, {"out": "sleeps"})
    again.ask(4, node=1)
    third = metrics_in(again.reply().content)
    assert (third["calls"], third["processes"], third["threads"], third["gpu"]) == (3, 2, 1, 0)
    again.pool.close()
