"""A program of a run that keeps a journal of its own, apart from all records, for `reliability.py`.

    python -m benchmarks.journalled cloud|edge_node|device_agent ARGUMENTS

A line for each sample that a device accepts, for each decision that leaves whoever made it or passes it on, and for
each that a device hears: appended to a file in the folder EDGEBENCH_JOURNALS before anything else can happen to it. So
it survives whatever the process does not.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.journals import ENDING, Kind, Line

FOLDER_VARIABLE = "EDGEBENCH_JOURNALS"


class _Journal:
    def __init__(self, program: str) -> None:
        path = Path(os.environ[FOLDER_VARIABLE]) / f"{program}-{os.getpid()}{ENDING}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, line: Line) -> None:
        os.write(self._fd, msgspec.json.encode(line) + b"\n")

    def decision(self, kind: Kind, device: str, decision: Any) -> None:
        value = float(np.frombuffer(decision.output, np.float32)[0])
        by, at_ns = decision.decider, decision.stamps.finished_ns
        self.write(Line(kind, device, decision.incarnation, decision.seq, value, by, at_ns))


def _value_of(x: NDArray[Any]) -> NDArray[np.float32]:
    """What tells samples [sample, *shape] of occupancy apart, about 0.1: [sample, 1]."""
    return np.asarray(x.reshape(len(x), -1).mean(axis=1, dtype=np.float64)[:, None] / 1000, np.float32)


def _replace(owner: type, name: str, by: Any) -> None:
    setattr(owner, name, by)


def _follow_device(journal: _Journal) -> None:
    """A sample is accepted once it may set out: where it is kept first, once it is."""
    from device_agent.ways import MqttWay
    from edgebench.core.stream import Stream

    send, set_out, decided = MqttWay.send, MqttWay._set_out, Stream.decided
    unkept: dict[tuple[str, int, int], Line] = {}

    def noted_send(way: Any, stream: Any, seq: int, scheduled_ns: int, captured_ns: int, reading: Any) -> Any:
        line = Line("accepted", stream.device, stream.incarnation, seq, float(_value_of(reading.x[None])[0, 0]))
        if way._outbox is not None:
            unkept[stream.device, stream.incarnation, seq] = line
        pending = send(way, stream, seq, scheduled_ns, captured_ns, reading)
        if way._outbox is None and not pending.refused:
            journal.write(line)
        return pending

    def noted_set_out(way: Any, key: tuple[int, int], envelope: bytes) -> None:
        line = unkept.pop((way._device.name, *key), None)
        if line is not None:
            journal.write(line)
        set_out(way, key, envelope)

    def noted_decided(stream: Any, decision: Any, arrived_ns: int, reply_bytes: int) -> None:
        journal.decision("heard", stream.device, decision)
        decided(stream, decision, arrived_ns, reply_bytes)

    _replace(MqttWay, "send", noted_send)
    _replace(MqttWay, "_set_out", noted_set_out)
    _replace(Stream, "decided", noted_decided)


def _decide_by_value() -> None:
    """The fake model's outputs say on which sample they are."""
    from edgebench.inference.fake import FakeRuntime

    _replace(FakeRuntime, "infer", lambda _runtime, x: _value_of(x))


def _follow_edge(journal: _Journal) -> None:
    from edge_node.workload import EdgeWorkload
    from edgebench.fabric import wire

    reply = EdgeWorkload._reply

    def noted(workload: Any, device: str, body: bytes, **how: Any) -> None:
        journal.decision("sent", device, wire.parse_decision(body))
        reply(workload, device, body, **how)

    _decide_by_value()
    _replace(EdgeWorkload, "_reply", noted)


def _follow_cloud(journal: _Journal) -> None:
    from cloud.workload import CloudWorkload
    from edgebench.fabric import wire

    enveloped = CloudWorkload._enveloped

    def noted(origin: Any, body: bytes) -> bytes:
        journal.decision("sent", origin.device, wire.parse_decision(body))
        return enveloped(origin, body)

    _decide_by_value()
    _replace(CloudWorkload, "_enveloped", staticmethod(noted))


_FOLLOWED: dict[str, Callable[[_Journal], None]] = {
    "device_agent": _follow_device,
    "edge_node": _follow_edge,
    "cloud": _follow_cloud,
}


def main(program: str, arguments: list[str]) -> int:
    """Run it."""
    _FOLLOWED[program](_Journal(program))
    started: int = importlib.import_module(f"{program}.__main__").main(arguments)
    return started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
