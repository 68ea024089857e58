"""Federated learning on an agent's devices: requests come in, a child process learns, replies go out.

The child starts with the first request, and again after it died. Sensing goes on meanwhile, in this process.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from device_agent.learner import App, BuiltIn, Done, LearnerSpec, LearnJob, write_reply
from edgebench.clock import now_ns
from edgebench.fabric import topics
from edgebench.fabric.guard import guarded
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess, usage_of
from edgebench.fabric.records import Used
from edgebench.federated.answerer import Answerer, Asked
from edgebench.federated.content import ContentError, Head, read_parcel
from edgebench.federated.kit import KIT, KitInfo
from edgebench.seeds import seed_for
from edgebench.topology.deployment import FederatedPlan

_log = logging.getLogger(__name__)
# One thread: two devices that learn at once on one machine are slower than one after the other, and torch and
# TensorFlow would take all cores from the streams.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}


class _Client(NamedTuple):
    workload: str
    device: str
    node: int
    answerer: Answerer


class _Job(NamedTuple):
    client: _Client
    asked: Asked


class Learning:
    """All federated clients of one agent. Everything but the learner's thread runs in the reactor's."""

    def __init__(self, process: NodeProcess, kits: Mapping[str, Path], work_dir: Path) -> None:
        """kits: workload -> its folder, of those that the built-in app learns."""
        self._process = process
        self._dir = work_dir / "learning"
        self._dir.mkdir(exist_ok=True)
        self._clients: dict[str, _Client] = {}
        self._of_device: dict[str, list[_Client]] = {}
        plan = process.plan
        workloads = {
            name: _learned(each, kits.get(name), plan.run_id)
            for name, each in plan.federated.items()
            if each.how.engine == "mqtt"
        }
        self._learner = _Learner(LearnerSpec(plan.seed, workloads), self._dir, self._learned)

    def attach(self, device: str, connection: Connection) -> None:
        """Let a device take part, by a connection that is not started yet."""
        run_id = self._process.plan.run_id
        for name, plan in self._process.plan.federated.items():
            if device not in plan.clients or plan.how.engine != "mqtt":
                continue
            down = topics.fl_site_down(run_id, name, device)
            answerer = Answerer(
                self._process.reactor,
                partial(_publish, connection, topics.fl_site_up(run_id, name, device)),
                self._dir,
                on_request=partial(self._asked, down),
                on_cancelled=self._learner.cancel,
                backed_up=lambda: connection.backed_up,
            )
            self._clients[down] = _Client(name, device, plan.clients.index(device) + 1, answerer)
            self._of_device.setdefault(device, []).append(self._clients[down])
            connection.subscribe([down], 0)

    def takes(self, topic: str, payload: bytes) -> bool:
        """Take a message, if it is of a federation."""
        client = self._clients.get(topic)
        if client is None:
            return False
        client.answerer.feed(payload)
        return True

    def reconnected(self, device: str) -> None:
        """A device's connection is up, perhaps again."""
        for client in self._of_device.get(device, ()):
            client.answerer.reconnected()

    def note_usage(self) -> None:
        """Write down what the process that learns uses, if there is one now."""
        pid = self._learner.pid
        usage = None if pid is None else usage_of(pid)
        if usage is not None:
            self._process.write(Used([f"learner of {self._process.nodes[0]}"], usage))

    def close(self) -> None:
        """End the child; what it was doing is nobody's concern any more."""
        self._learner.close()
        for client in self._clients.values():
            client.answerer.close()

    def _asked(self, topic: str, asked: Asked) -> None:
        self._learner.put(_Job(self._clients[topic], asked))

    def _learned(self, job: _Job, reply: Path) -> None:
        self._process.reactor.call_soon_threadsafe(partial(job.client.answerer.answer, job.asked, reply))


class _Learner:
    """A thread that hands one job after another to a child process, which it starts, and watches."""

    def __init__(self, spec: LearnerSpec, directory: Path, on_learned: Callable[[_Job, Path], None]) -> None:
        self._spec = spec
        self._dir = directory
        self._on_learned = on_learned
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Of the child."""
        child = self._child
        return None if child is None else child.pid

    def put(self, job: _Job) -> None:
        """Queue a job."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="learner", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def cancel(self, asked: Asked) -> None:
        """Do not begin with it, if it still waits."""
        self._cancelled.add(asked.transfer_id)

    def close(self) -> None:
        """End thread and child."""
        if self._thread is not None:
            self._jobs.put(None)
            child = self._child
            if child is not None:
                child.kill()
            self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            queued = self._jobs.get()
            if queued is None:
                break
            if queued.asked.transfer_id in self._cancelled:
                self._cancelled.discard(queued.asked.transfer_id)
                continue
            self._on_learned(queued, self._do(queued, number))
        if self._child is not None:
            self._end(self._child)

    def _do(self, queued: _Job, number: int) -> Path:
        received = queued.asked.received
        request = received.path
        if request is None:
            request = self._dir / f"{number}.request"
            request.write_bytes(received.data or b"")
        reply = self._dir / f"{number}.reply"
        client = queued.client
        job = LearnJob(client.workload, client.node, str(request), str(reply), queued.asked.received_ns)
        started_ns = now_ns()
        failure = self._asked_child(job)
        if failure is not None:
            _log.error("%s of %s: %s", client.workload, client.device, failure)
            write_reply(job, _head_of(request), {}, failure, started_ns)
        if received.path is None:
            request.unlink()
        return reply

    def _asked_child(self, job: LearnJob) -> str | None:
        """Have the child write the reply; why it could not, where it died over it."""
        child = self._child = self._child or self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(msgspec.json.encode(job) + b"\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line:
            failure = msgspec.json.decode(line, type=Done).error
            if failure is not None:
                _log.warning("%s, node %d: %s", job.workload, job.node, failure)
            return None
        self._child = None
        status = self._end(child)
        how = (
            f"was killed by signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"ended with {status}"
        )
        return f"the process that learns {how}"

    def _started(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            guarded([sys.executable, "-m", "device_agent.learner"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT, "KERAS_BACKEND": _backend(self._spec)},
        )
        assert child.stdin is not None
        child.stdin.write(msgspec.json.encode(self._spec) + b"\n")
        child.stdin.flush()
        return child

    @staticmethod
    def _end(child: subprocess.Popen[bytes]) -> int:
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        return child.wait()


def _learned(plan: FederatedPlan, kit: Path | None, run_id: str) -> BuiltIn | App:
    if kit is not None:
        return BuiltIn(str(kit), msgspec.json.decode((kit / KIT).read_bytes(), type=KitInfo).runtime)
    assert plan.how.app is not None
    return App(plan.how.app, plan.how.config, len(plan.clients), seed_for(0, "run", run_id))


def _backend(spec: LearnerSpec) -> str:
    runtimes = {each.runtime for each in spec.workloads.values() if isinstance(each, BuiltIn)}
    return "torch" if "torch" in runtimes else "tensorflow"


def _head_of(request: Path) -> Head:
    try:
        return read_parcel(request).head
    except (ContentError, FileNotFoundError):  # garbage, or cancelled meanwhile
        return Head(message_id="", kind="train")


def _publish(connection: Connection, topic: str, datagram: bytes) -> bool:
    return connection.publish(topic, datagram, qos=0)
