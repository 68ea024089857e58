"""A child process that learns for an agent's devices, and what is asked of it."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from device_agent.learner_messages import AskedClient, Done, LearnerSpec, LearnJob, reply_of, write_replies
from edgebench.clock import now_ns
from edgebench.fabric.child_process import ChildProcess, describe_end
from edgebench.fabric.records import Usage
from edgebench.federated.message_client import MessageClient, Received

_log = logging.getLogger(__name__)
_PATIENCE_S = 1.0
"""For a learner that is called off."""


class LearnerRequest(NamedTuple):
    """What a client was asked. node: its Flower node id. client: the way back."""

    workload: str
    node: int
    received: Received
    client: MessageClient


class Task:
    """A request that is to be answered, unless it is called off before."""

    def __init__(self, request: LearnerRequest) -> None:
        self.request = request
        self.called_off = threading.Event()


class LearnerProcess:
    """A child process that does one task after another, or some that go together. It starts with the first one, and
    again after it died, or was killed over tasks that nobody wants any more."""

    def __init__(self, spec: LearnerSpec, environment: dict[str, str]) -> None:
        self._spec = spec
        self._environment = environment
        # Of the thread that does tasks, and of those that call them off and look at what is used.
        self._lock = threading.Lock()
        self._running: Sequence[Task] = ()
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

    def core_time_s(self) -> float | None:
        """For how long the child has had cores or waited for them; what it had, where the system does not tell more."""
        child = self._child
        if child is None:
            return None
        found = child.core_time_s()
        if found is None:
            used = child.usage()
            return None if used is None else used.cpu_s
        return found

    def do(self, tasks: Sequence[Task], replies: Path) -> None:
        """Have the replies written to a file, errors where the child died over them; nothing where all are called off.

        tasks: with the same content, of one workload.
        """
        first = tasks[0].request
        asked = tuple(
            AskedClient(task.request.node, task.request.received.head, task.request.received.received_ns)
            for task in tasks
        )
        job = LearnJob(first.workload, str(first.received.path), str(replies), asked)
        started_ns = now_ns()
        failure = self._asked_child(tasks, job)
        if failure is not None and not _are_called_off(tasks):
            _log.error("%s, node %s: %s", job.workload, ", ".join(str(each.node) for each in asked), failure)
            write_replies(job, [reply_of(each, {}, failure, started_ns) for each in asked])

    def call_off(self, task: Task) -> None:
        """Do not begin with it, or end it with all that it has started, unless others go with it; from any thread."""
        task.called_off.set()
        with self._lock:
            if task in self._running and _are_called_off(self._running) and self._child is not None:
                self._child.ask_to_end()

    def close(self) -> None:
        """End the child. Nothing is done meanwhile."""
        if self._child is not None:
            self._end(self._child)

    def _asked_child(self, tasks: Sequence[Task], job: LearnJob) -> str | None:
        """Have the child write the replies; why it could not, where it died over them."""
        child = self._child or self._started()
        with self._lock:
            self._child = child
            if _are_called_off(tasks):
                return "called off"
            self._running = tasks
        try:
            child.write_line(msgspec.json.encode(job))
            line = child.read_line()
        except BrokenPipeError:
            line = b""
        with self._lock:
            self._running = ()
            killed = _are_called_off(tasks)
        if line and not killed:
            for node, error in msgspec.json.decode(line, type=Done).errors.items():
                _log.warning("%s, node %d: %s", job.workload, node, error)
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


def _are_called_off(tasks: Sequence[Task]) -> bool:
    return all(task.called_off.is_set() for task in tasks)
