"""The child process that learns for an agent's devices, and the thread that hands one request after another to it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from device_agent.learner_messages import Done, LearnerSpec, LearnJob, write_reply
from edgebench.clock import now_ns
from edgebench.fabric.child_process import ChildProcess, describe_end
from edgebench.fabric.records import Usage
from edgebench.federated.message_client import MessageClient, Received

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
_PATIENCE_S = 1.0
"""For a learner that is called off."""


class LearnerRequest(NamedTuple):
    """What a client was asked. node: its Flower node id. client: the way back."""

    workload: str
    node: int
    received: Received
    client: MessageClient


class LearnerProcess:
    """A thread that hands one job after another to a child process, which it starts, and watches.

    The child starts with the first job, and again after it died, or was killed over a job that nobody wants any more.
    """

    def __init__(
        self,
        spec: LearnerSpec,
        directory: Path,
        on_learned: Callable[[LearnerRequest, Path], None],
        *,
        keras_backend: str | None = None,
    ) -> None:
        """on_learned: called from the thread. keras_backend: None leaves the choice to what is learned."""
        self._spec = spec
        self._dir = directory
        self._on_learned = on_learned
        self._environment = _ENVIRONMENT if keras_backend is None else {**_ENVIRONMENT, "KERAS_BACKEND": keras_backend}
        self._jobs: queue.SimpleQueue[LearnerRequest | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # Both threads'. Message ids tell the jobs apart.
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._running: str | None = None
        self._child: ChildProcess | None = None
        self._ended_cpu_s = 0.0

    @property
    def pid(self) -> int | None:
        """Of the child's guard."""
        child = self._child
        return None if child is None else child.pid

    def usage(self) -> Usage | None:
        """What the children have used so far, those that have ended included; None before the first."""
        with self._lock:
            child, ended_cpu_s = self._child, self._ended_cpu_s
        # Without the lock, for which the reactor waits: it is asked of the system, process by process.
        used = None if child is None else child.usage()
        if used is not None:
            return Usage(used.at_ns, ended_cpu_s + used.cpu_s, used.rss_bytes)
        return Usage(now_ns(), ended_cpu_s, 0) if ended_cpu_s else None

    def put(self, job: LearnerRequest) -> None:
        """Queue a job."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="learner", daemon=True)
            self._thread.start()
        with self._lock:
            self._wanted.add(job.received.message_id)
        self._jobs.put(job)

    def cancel(self, received: Received) -> None:
        """Do not begin with it, or end it: an app that hangs must not keep the other devices from learning."""
        with self._lock:
            self._wanted.discard(received.message_id)
            if self._running == received.message_id and self._child is not None:
                self._child.ask_to_end()

    def close(self) -> None:
        """End thread and child; what waits is not begun."""
        if self._thread is not None:
            with self._lock:
                self._wanted.clear()
                if self._child is not None:
                    self._child.ask_to_end()
            self._jobs.put(None)
            self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            queued = self._jobs.get()
            if queued is None:
                break
            if not self._is_wanted(queued):
                continue
            reply = self._do(queued, number)
            with self._lock:
                wanted = queued.received.message_id in self._wanted
                self._wanted.discard(queued.received.message_id)
            if wanted:
                self._on_learned(queued, reply)
            else:
                reply.unlink(missing_ok=True)
        if self._child is not None:
            self._end(self._child)

    def _is_wanted(self, queued: LearnerRequest) -> bool:
        with self._lock:
            return queued.received.message_id in self._wanted

    def _do(self, queued: LearnerRequest, number: int) -> Path:
        """The file of the reply, which is there if that is wanted."""
        received = queued.received
        reply = self._dir / f"{number}.reply"
        job = LearnJob(
            queued.workload, queued.node, received.head, str(received.path), str(reply), received.received_ns
        )
        started_ns = now_ns()
        failure = self._asked_child(queued, job)
        if failure is not None and self._is_wanted(queued):
            _log.error("%s, node %d: %s", queued.workload, queued.node, failure)
            write_reply(job, {}, failure, started_ns)
        return reply

    def _asked_child(self, queued: LearnerRequest, job: LearnJob) -> str | None:
        """Have the child write the reply; why it could not, where it died over it."""
        child = self._child or self._started()
        with self._lock:
            self._child = child
            if queued.received.message_id not in self._wanted:
                return "called off"
            self._running = queued.received.message_id
        try:
            child.write_line(msgspec.json.encode(job))
            line = child.read_line()
        except BrokenPipeError:
            line = b""
        with self._lock:
            self._running = None
            killed = queued.received.message_id not in self._wanted
        if line and not killed:
            error = msgspec.json.decode(line, type=Done).error
            if error is not None:
                _log.warning("%s, node %d: %s", job.workload, job.node, error)
            return None
        return f"the process that learns ended before its work did ({describe_end(self._end(child))})"

    def _started(self) -> ChildProcess:
        child = ChildProcess(
            [sys.executable, "-m", "device_agent.learner_child"],
            family=True,
            patience_s=_PATIENCE_S,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self._environment},
        )
        # Before anybody else sees it: whatever becomes of the first job, the child's first line is the spec.
        with contextlib.suppress(BrokenPipeError):  # it has ended already, which the job finds too
            child.write_line(msgspec.json.encode(self._spec))
        return child

    def _end(self, child: ChildProcess) -> int:
        status = child.end()
        with self._lock:
            used = child.usage()
            self._ended_cpu_s += 0.0 if used is None else used.cpu_s
            self._child = None
        return status
