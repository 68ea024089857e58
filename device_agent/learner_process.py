"""The child process that learns for an agent's devices, and the thread that hands one request after another to it."""

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
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from device_agent.learner import BuiltIn, Done, LearnerSpec, LearnJob, write_reply
from edgebench.clock import now_ns
from edgebench.fabric.guard import guarded
from edgebench.federated.answerer import Answerer, Asked
from edgebench.federated.content import ContentError, Head, read_parcel

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


class Request(NamedTuple):
    """What a client was asked. node: its Flower node id. answerer: the way back."""

    workload: str
    node: int
    asked: Asked
    answerer: Answerer


class LearnerProcess:
    """A thread that hands one job after another to a child process, which it starts, and watches."""

    def __init__(self, spec: LearnerSpec, directory: Path, on_learned: Callable[[Request, Path], None]) -> None:
        self._spec = spec
        self._dir = directory
        self._on_learned = on_learned
        self._jobs: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Of the child."""
        child = self._child
        return None if child is None else child.pid

    def put(self, job: Request) -> None:
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

    def _do(self, queued: Request, number: int) -> Path:
        received = queued.asked.received
        request = received.path
        if request is None:
            request = self._dir / f"{number}.request"
            request.write_bytes(received.data or b"")
        reply = self._dir / f"{number}.reply"
        job = LearnJob(queued.workload, queued.node, str(request), str(reply), queued.asked.received_ns)
        started_ns = now_ns()
        failure = self._asked_child(job)
        if failure is not None:
            _log.error("%s, node %d: %s", queued.workload, queued.node, failure)
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


def _backend(spec: LearnerSpec) -> str:
    runtimes = {each.runtime for each in spec.workloads.values() if isinstance(each, BuiltIn)}
    return "torch" if "torch" in runtimes else "tensorflow"


def _head_of(request: Path) -> Head:
    try:
        return read_parcel(request).head
    except (ContentError, FileNotFoundError):  # garbage, or cancelled meanwhile
        return Head(message_id="", kind="train")
