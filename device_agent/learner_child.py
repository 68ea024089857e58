"""A process that learns for the devices of an agent: `python -m device_agent.learner_child`.

The first line on standard input is a `LearnerSpec`, each one after it a `LearnJob`; each job is answered by a line with
its outcome. One client at a time: the memory is that of one, and of some small replies, however many devices the agent
hosts.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from device_agent.learner_messages import (
    AskedClient,
    BuiltInSpec,
    Done,
    LearnerClient,
    LearnerSpec,
    LearnJob,
    reply_of,
    write_replies,
)
from edgebench.clock import now_ns
from edgebench.errors import print_once, reason_of
from edgebench.federated.content import Bytes, ContentError, Parcel, read_parcel
from edgebench.federated.own_files import stand_in

_LARGE_BYTES = 1 << 24
NICE = 10
"""Sensing comes first: the learner takes what it leaves."""


def main() -> int:
    """Do the jobs on standard input until it ends."""
    outcomes = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever an app prints must not mix with the outcomes
    os.nice(NICE)
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=LearnerSpec)
    clients = _Clients(spec)
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=LearnJob)
        errors = _do(job, clients)
        if _is_large(job.content) or _is_large(job.replies):
            # A record of Flower's that has been read refers to itself: else one model after another stays in memory
            # until so many small things have been made that Python looks for such.
            gc.collect()
        outcomes.write(msgspec.json.encode(Done(errors)) + b"\n")
        outcomes.flush()
    return 0


def _is_large(file: str) -> bool:
    try:
        return Path(file).stat().st_size >= _LARGE_BYTES
    except FileNotFoundError:  # nobody wants it any more
        return False


def _do(job: LearnJob, clients: _Clients) -> dict[int, str]:
    """Write the replies to a request, whatever they are, and return their errors by node."""
    replies, errors = [], {}
    for asked in job.asked:
        reply, error = _replied(job, asked, clients)
        replies.append(reply)
        if error is not None:
            errors[asked.node] = error
    write_replies(job, replies)
    return errors


def _replied(job: LearnJob, asked: AskedClient, clients: _Clients) -> tuple[list[Bytes], str | None]:
    """The reply of a client, packed, and its error."""
    started_ns = now_ns()
    content, meta = {}, {}
    try:
        # It has no name here, so that its client can let go of it.
        reply = clients.of(job.workload, asked.node)(Parcel(asked.head, read_parcel(Path(job.content)).content))
        error, content, meta = reply.head.error, reply.content, reply.head.meta
    except ContentError as wrong:
        error = str(wrong)
    except (Exception, SystemExit) as failure:  # noqa: BLE001  (the reply is where it goes)
        print_once(failure)
        error = reason_of(failure)
    return reply_of(asked, content, error, started_ns, meta), error


class _Clients:
    """What answers for each client, made when it is first asked."""

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._known: dict[tuple[str, int], LearnerClient] = {}
        self._of_workload: dict[str, Callable[[int], LearnerClient]] = {}

    def of(self, workload: str, node: int) -> LearnerClient:
        """For one client. Raises EdgebenchError where its app or its bundle cannot be used."""
        if workload not in self._of_workload:
            self._of_workload[workload] = self._opened(workload)
        key = (workload, node)
        if key not in self._known:
            self._known[key] = self._of_workload[workload](node)
        return self._known[key]

    def _opened(self, name: str) -> Callable[[int], LearnerClient]:
        workload = self._spec.workloads[name]
        # A device that learns by LiteRT has room neither for Flower nor for Keras.
        if isinstance(workload, BuiltInSpec):
            from device_agent.built_in_clients import BuiltInClients

            return BuiltInClients(workload, self._spec.seed).client
        from device_agent.app_clients import AppClients

        stand_in(Path(self._spec.files))
        states = Path(self._spec.states, name)
        states.mkdir(parents=True, exist_ok=True)
        return AppClients(workload, self._spec.seed, states).client


if __name__ == "__main__":
    sys.exit(main())
