"""What messages cost a machine: its broker, and a node that takes them in, answers them or passes them on.

A broker and an edge node are started as in a lab's run, over TLS. One message at a time is sent and waited for, so that
none waits for another. A broker's own time is that of a message that comes straight back; what else passes until the
node has a sample, and from its decision (or its passing a sample on) until that comes back, is the node's.
"""

from __future__ import annotations

import math
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.experiments.profiling import node_child
from edgebench.experiments.profiling.node_child import (
    DECIDED,
    EDGE,
    MOST_OUTPUTS,
    PASSED_ON,
    RUN,
    ModelInUse,
    NodeSpec,
)
from edgebench.experiments.profiling.raw_mqtt import RawMqtt
from edgebench.experiments.profiling.summary import rest_of, times_of
from edgebench.fabric import topics, wire
from edgebench.fabric.authority import Authority
from edgebench.fabric.brokers import BrokerSettings, BrokerUser, make_broker
from edgebench.fabric.brokers.server import Broker
from edgebench.fabric.brokers.settings import LOOPBACK, Permission
from edgebench.fabric.child_process import ChildProcess
from edgebench.fabric.tls import Trust, client_context, tls_name
from edgebench.seeds import rng_for
from edgebench.topology.model import BrokerKind
from edgebench.topology.profiles import MessageCost, Times
from edgebench.topology.wording import things

VALUES = (4, 256, 1024, 4096, 16_384)
"""Of samples, float32: 16 bytes to 64 kB, and what an envelope adds; more where larger ones are asked for."""
BESIDE_BYTES = 256
"""What names and times add to a sample on its way to the cloud, at most."""
QOS = (0, 1)
_MACHINE = "machine"
_DRIVER, _ECHO = "driver", f"eb/{RUN}/echo/{topics.ANY}/echo"
_WARM_UP = 20
_READY_S = 120.0
_LONG_S, _LEAST = 30.0, 40
_LONGEST_S, _FEWEST = 120.0, 8
"""Of a size, fewer are sent where so many take longer, and of large messages on a slow board fewer still: it would be
measured for hours."""
_TRIES = 3
"""To measure messages of a size, where the machine does other work meanwhile."""

Tell = Callable[[str], None]


@dataclass
class _Found:
    """ns. up: from sending a sample until a node has it, checked. woken: from there until its model begins. answer:
    from the model's end until the decision is back. passed_on: from a sample's being passed on until it is there."""

    size_bytes: int = 0
    echo: list[int] = field(default_factory=list)
    up: list[int] = field(default_factory=list)
    woken: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    answer_bytes: int = 0
    answer_echo: list[int] = field(default_factory=list)
    passed_on: list[int] = field(default_factory=list)


class MessagesFound(NamedTuple):
    """broker: that passed them on, with its version. costs: of messages. wake: see `Profile`."""

    broker: str
    costs: tuple[MessageCost, ...]
    wake: Times


def measured_messages(
    calls: int, tell: Tell, model: ModelInUse, sizes_bytes: Collection[int] = (), kind: BrokerKind = "auto"
) -> MessagesFound:
    """What messages cost. calls: of each kind, or fewer where these take long. model: that decides meanwhile.
    sizes_bytes: besides those that are always measured. Raises FabricError."""
    values = _values(sizes_bytes)
    with _site(kind, values, model) as (broker, driver):
        costs, woken = [], []
        for qos in QOS:
            for number in values:
                tell(f"messages of {number * 4:,} bytes, qos {qos}: up to {things(calls, 'message')} of each kind")
                cost, woken_ns = _undisturbed(driver, number, qos, calls, tell)
                costs.append(cost)
                woken += woken_ns
        return MessagesFound(f"{broker.kind} {broker.version}", tuple(costs), times_of(woken))


def _values(sizes_bytes: Collection[int]) -> tuple[int, ...]:
    """Of samples whose messages are as large at least, and of those that are always measured."""
    found = {*VALUES, *(math.ceil(size / 4) for size in sizes_bytes)}
    if max(found) > MOST_OUTPUTS:
        found.add(MOST_OUTPUTS)  # decisions are no larger, and what those take is not told by larger samples
    return tuple(sorted(found))


def _undisturbed(driver: RawMqtt, values: int, qos: int, calls: int, tell: Tell) -> tuple[MessageCost, list[int]]:
    """What messages of a size cost, and how long models took to begin, ns. Raises FabricError where the machine did
    other work each time."""
    each_time = calls + _WARM_UP
    for number in range(_TRIES):
        found = _measured(driver, values, qos, range(number * each_time, (number + 1) * each_time))
        try:
            return _cost(found, qos), found.woken
        except FabricError as error:
            if number == _TRIES - 1:
                raise
            tell(f"{error}; once more")
    raise AssertionError("unreachable")


def _cost(found: _Found, qos: Any) -> MessageCost:
    return MessageCost(
        qos=qos,
        size_bytes=found.size_bytes,
        relay=times_of(found.echo),
        receive=rest_of(found.up, found.echo),
        send=rest_of(found.passed_on, found.echo),
        answer=rest_of(found.answer, found.answer_echo),
    )


def _measured(driver: RawMqtt, values: int, qos: int, seqs: range) -> _Found:
    """seqs: of its messages; a node decides none twice."""
    found, workload = _Found(), node_child.workload_name(values, qos)
    pauses = rng_for(0, "pauses", workload)
    x = rng_for(0, "values", workload).random(values, np.float32)
    is_warm, since_s = False, now_s()
    for number, seq in enumerate(seqs):
        began_s = now_s()
        took_s = began_s - since_s
        if not is_warm and (number >= _WARM_UP or (number and took_s > _LONG_S)):
            found, is_warm, since_s = _Found(), True, began_s
        elif is_warm and _is_enough(len(found.echo), took_s):
            break
        with _idle_after(pauses):
            _decide(driver, workload, x, qos, seq, found)
        with _idle_after(pauses):
            _pass_on(driver, workload, x, qos, seq, found)
        with _idle_after(pauses):
            _echo(driver, found.size_bytes, qos, found.echo)
        with _idle_after(pauses):
            _echo(driver, found.answer_bytes, qos, found.answer_echo)
    return found


@contextmanager
def _idle_after(pauses: np.random.Generator) -> Iterator[None]:
    """As in a stream there is a pause, in which the machine goes idle; and in which a broker comes to the end of what
    it does behind a message that has arrived, which would be taken for the next one's."""
    began_s = now_s()
    yield
    sleep_s(pauses.uniform(0.1, 0.9) * (now_s() - began_s))


def _is_enough(n: int, took_s: float) -> bool:
    """Whether so many messages of a size do, which took so long."""
    return (n >= _LEAST and took_s > _LONG_S) or (n >= _FEWEST and took_s > _LONGEST_S)


def _decide(driver: RawMqtt, workload: str, x: Any, qos: int, seq: int, found: _Found) -> None:
    envelope = _envelope(x, seq)
    sent_ns = driver.publish(topics.sample(RUN, DECIDED, workload), envelope, qos)
    arrived = driver.next_message()
    decision = wire.parse_decision(arrived.payload)
    assert decision.seq == seq
    found.size_bytes = len(envelope)
    found.up.append(decision.stamps.ready_ns - sent_ns)
    found.woken.append(decision.stamps.started_ns - decision.stamps.ready_ns)
    found.answer.append(arrived.at_ns - decision.stamps.finished_ns)
    found.answer_bytes = len(arrived.payload)


def _pass_on(driver: RawMqtt, workload: str, x: Any, qos: int, seq: int, found: _Found) -> None:
    driver.publish(topics.sample(RUN, PASSED_ON, workload), _envelope(x, seq), qos)
    arrived = driver.next_message()
    found.passed_on.append(arrived.at_ns - wire.parse_forward(arrived.payload).forward_out_ns)


def _echo(driver: RawMqtt, size_bytes: int, qos: int, found: list[int]) -> None:
    sent_ns = driver.publish(_ECHO.replace(topics.ANY, "e"), bytes(size_bytes), qos)
    found.append(driver.next_message().at_ns - sent_ns)


def _envelope(x: Any, seq: int) -> bytes:
    now = now_ns()
    return wire.encode(wire.Sample(wire.VERSION, seq, 0, now, now, now, "float32", x.shape, None, x.data.cast("B")))


@contextmanager
def _site(kind: BrokerKind, values: tuple[int, ...], model: ModelInUse) -> Iterator[tuple[Broker, RawMqtt]]:
    """A broker and an edge, and a device's connection."""
    with tempfile.TemporaryDirectory(prefix="edgebench-profile-") as folder:
        trust = Authority.create(Path(folder) / "authority").issue(Path(folder) / "machine", _MACHINE, [LOOPBACK])
        users = (
            BrokerUser(EDGE, secrets.token_hex(16), Permission(_filters("decision", "forward"), _filters("sample"))),
            BrokerUser(
                _DRIVER,
                secrets.token_hex(16),
                Permission((*_filters("sample"), _ECHO), (*_filters("decision", "forward"), _ECHO)),
            ),
        )
        settings = BrokerSettings("profile", Path(folder) / "broker", tls=trust, users=users, mutual=True)
        with make_broker(settings, kind) as broker, _edge(broker, trust, users[0], values, model):
            context = client_context(trust, mutual=True)
            login = (_DRIVER, users[1].password)
            with RawMqtt(LOOPBACK, broker.port, context, tls_name(_MACHINE), login) as driver:
                for topic in (*_filters("decision", "forward"), _ECHO):
                    driver.subscribe(topic, 1)
                yield broker, driver


def _filters(*kinds: str) -> tuple[str, ...]:
    return tuple(f"eb/{RUN}/{topics.ANY}/{topics.ANY}/{kind}" for kind in kinds)


@contextmanager
def _edge(broker: Broker, trust: Trust, user: BrokerUser, values: tuple[int, ...], model: ModelInUse) -> Iterator[None]:
    spec = NodeSpec(LOOPBACK, broker.port, tls_name(_MACHINE), user.password, str(trust.folder), values, QOS, model)
    child = ChildProcess([sys.executable, "-m", node_child.__name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.write_line(msgspec.json.encode(spec))
        if not child.read_line(_READY_S):
            raise FabricError("the node that was to be measured ended before it was up; its log is above")
        yield
    finally:
        child.end()
