"""The process that learns for the devices of an agent: `python -m device_agent.learner_child`.

The first line on standard input is a `LearnerSpec`, each one after it a `LearnJob`; each job is answered by a line with
its outcome. One job at a time: the memory is that of one client, however many devices the agent hosts.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from device_agent.learner_messages import AppSpec, BuiltInSpec, Done, LearnerClient, LearnerSpec, LearnJob, write_reply
from edgebench.clock import now_ns
from edgebench.federated.content import ContentError, Parcel, read_parcel
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
        error = _do(job, clients)
        if _is_large(job.content) or _is_large(job.reply):
            # A record of Flower's that has been read refers to itself: else one model after another stays in memory
            # until so many small things have been made that Python looks for such.
            gc.collect()
        outcomes.write(msgspec.json.encode(Done(error)) + b"\n")
        outcomes.flush()
    return 0


def _is_large(file: str) -> bool:
    try:
        return Path(file).stat().st_size >= _LARGE_BYTES
    except FileNotFoundError:  # nobody wants it any more
        return False


def _do(job: LearnJob, clients: _Clients) -> str | None:
    """Write the reply to a request, whatever it is, and return its error."""
    started_ns = now_ns()
    content, meta = {}, {}
    try:
        # It has no name here, so that its client can let go of it.
        reply = clients.of(job.workload, job.node)(Parcel(job.head, read_parcel(Path(job.content)).content))
        error, content, meta = reply.head.error, reply.content, reply.head.meta
    except ContentError as wrong:
        error = str(wrong)
    except Exception as failure:  # noqa: BLE001  (the reply is where it goes)
        traceback.print_exc()
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())}"
    write_reply(job, content, error, started_ns, meta)
    return error


class _Clients:
    """What answers for each client, made when it is first asked."""

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._known: dict[tuple[str, int], LearnerClient] = {}
        self._of_workload: dict[str, Callable[[int], LearnerClient]] = {}

    def of(self, workload: str, node: int) -> LearnerClient:
        """For one client. Raises EdgebenchError where its app or its bundle cannot be used."""
        if workload not in self._of_workload:
            self._of_workload[workload] = self._opened(self._spec.workloads[workload])
        key = (workload, node)
        if key not in self._known:
            self._known[key] = self._of_workload[workload](node)
        return self._known[key]

    def _opened(self, workload: BuiltInSpec | AppSpec) -> Callable[[int], LearnerClient]:
        # A device that learns by LiteRT has room neither for Flower nor for Keras.
        if isinstance(workload, BuiltInSpec):
            from device_agent.built_in_clients import BuiltInClients

            return BuiltInClients(workload, self._spec.seed).client
        from device_agent.app_clients import AppClients

        stand_in(Path(self._spec.files))
        return AppClients(workload, self._spec.seed).client


if __name__ == "__main__":
    sys.exit(main())
