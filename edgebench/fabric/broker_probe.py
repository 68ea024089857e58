"""Will a broker of the user's carry a run? Tried there and back on every kind of topic before anything starts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from edgebench.clock import now_s
from edgebench.errors import FabricError
from edgebench.fabric.descriptors import allow_descriptors, most_descriptors
from edgebench.fabric.endpoints import BrokerUrl
from edgebench.fabric.mqtt import REFUSED, Connection
from edgebench.fabric.reactor import Reactor
from edgebench.topology.wording import listed

_CONNECT_S = 6.0
"""Longer than one attempt to connect takes, so that its own reason is told."""
_QUIET_S = 3.0
_KEPT_S = 0.2
_SLOWEST_BYTES_S = 250_000
"""Of a way to a broker that a run could use at all: what is sent at once may have to go there and back by it."""
_SMALL_BYTES = 16
_TICK_S = 0.02
_OWN_DESCRIPTORS = 64
_ALLOW = "allow it to write and read eb/#; in Mosquitto's acl_file: topic readwrite eb/#"


class Traffic(NamedTuple):
    """One kind of message of a run, as it is sent and heard. named: with the pattern of its topics.

    topic: what is published on. heard_on: what is subscribed to, by those for whom it is. size_bytes: its largest.
    """

    named: str
    topic: str
    heard_on: str
    qos: int
    size_bytes: int
    retained: bool = False


def probe_run_id() -> str:
    """What stands for the run's name in the topics of a probe: never the same, so that probes do not meet."""
    return f"probe-{secrets.token_hex(4)}"


def probe_access(broker: BrokerUrl, traffic: Sequence[Traffic]) -> None:
    """Send a few bytes on each kind of topic, and wait for them to come back; what is retained is taken away again.

    Raises FabricError, in one line with the mend, where the broker is not there, refuses the login, or passes not all
    of it on. That takes some 3 s, and less than one where all is well.
    """
    small = [each._replace(size_bytes=_SMALL_BYTES, retained=False) for each in traffic]
    with _session(broker) as session:
        session.subscribe(small)
        silent = session.silent(small)
    if silent:
        raise FabricError(f"{broker.shown}: {_not_passed(broker, silent, small)} ({_ALLOW})")
    with _session(broker) as session:
        unkept = session.unkept([each for each in traffic if each.retained])
    if unkept:
        raise FabricError(
            f"{broker.shown}: it keeps no retained messages on {_named(unkept)}, which models and nodes' states are "
            "(let it keep them, or take another broker)"
        )


def probe_sizes(broker: BrokerUrl, traffic: Sequence[Traffic]) -> None:
    """The same with messages as large as the run's largest, none of them retained, where `probe_access` was content.

    Raises FabricError that names the size which does not come back; that takes some 3 s.
    """
    passing = [each._replace(retained=False) for each in traffic]
    with _session(broker) as session:
        session.subscribe(passing)
        # One size after another: at what is too large a broker may break off the connection, with all under way.
        for size_bytes in sorted({each.size_bytes for each in passing}):
            silent = session.silent([each for each in passing if each.size_bytes == size_bytes])
            if silent:
                raise FabricError(
                    f"{broker.shown}: messages of {_SMALL_BYTES} bytes come back, of {size_bytes:,}, the largest on "
                    f"{_named(silent)}, do not: the broker has a limit of size (raise it; in Mosquitto: "
                    "message_size_limit, max_packet_size)"
                )


def probe_connections(broker: BrokerUrl, count: int) -> None:
    """Hold as many connections at once as the run will.

    Raises FabricError that names how many the broker takes, once it has taken no more for some 3 s.
    """
    allow_descriptors()
    count = min(count, most_descriptors() - _OWN_DESCRIPTORS)
    reactor = Reactor()
    standing: set[int] = set()
    troubles: list[str] = []

    def trouble(number: int, why: str) -> None:
        standing.discard(number)
        troubles.append(why)

    connections = [
        Connection(
            reactor,
            broker,
            f"{probe_run_id()}-{number}",
            on_message=lambda _topic, _payload: None,
            on_up=partial(standing.add, number),
            on_trouble=partial(trouble, number),
            clean_session=True,
        )
        for number in range(count)
    ]
    for connection in connections:
        connection.start()
    most = 0
    since_s = now_s()
    while most < count and now_s() - since_s < (_QUIET_S if troubles else _CONNECT_S):
        reactor.call_later(_TICK_S, lambda: None)
        reactor.turn()
        if len(standing) > most:
            most, since_s = len(standing), now_s()
    for connection in connections:
        connection.close()
    reactor.close()
    if most < count:
        why = f" ({troubles[-1]})" if troubles else ""
        raise FabricError(
            f"{broker.shown}: it takes {most:,} connections at once and no more{why}, the run needs {count:,} (raise "
            "its limit of connections; in Mosquitto: max_connections)"
        )


class _Session:
    """A connection with the login of the run, of which the broker keeps nothing."""

    def __init__(self, broker: BrokerUrl) -> None:
        self._broker = broker
        self._reactor = Reactor()
        self._troubles: list[str] = []
        self._stands = False
        self._heard: set[str] = set()
        self._connection = Connection(
            self._reactor,
            broker,
            probe_run_id(),
            on_message=lambda topic, _payload: self._heard.add(topic),
            on_up=self._up,
            on_trouble=self._troubles.append,
            clean_session=True,
        )

    def connect(self) -> None:
        self._connection.start()
        self._wait(_CONNECT_S, lambda: self._stands)
        if self._stands:
            return
        if not self._troubles:
            raise FabricError(f"{self._broker.shown}: no MQTT broker answers there in {_CONNECT_S:.0f} s")
        why = self._troubles[0]
        if not why.startswith(REFUSED):
            why = f"no broker answers there: {why}"
        raise FabricError(f"{self._broker.shown}: {why}")

    def subscribe(self, traffic: Iterable[Traffic]) -> None:
        """Raises FabricError where the broker refuses it."""
        self._subscribe(traffic)
        if not self._stands:
            why = self._troubles[0] if self._troubles else "it does not answer a subscription"
            raise FabricError(f"{self._broker.shown}: {why} ({_ALLOW})")

    def silent(self, traffic: Sequence[Traffic]) -> list[Traffic]:
        """Publish it; what of it does not come back."""
        for each in traffic:
            self._connection.publish(each.topic, bytes(each.size_bytes), qos=each.qos)
        return self._unheard(traffic, _QUIET_S + 2 * sum(each.size_bytes for each in traffic) / _SLOWEST_BYTES_S)

    def unkept(self, retained: Sequence[Traffic]) -> list[Traffic]:
        """Publish it to be retained; what of it is not handed to who subscribes then. It is taken away again."""
        for each in retained:
            self._connection.publish(each.topic, bytes(_SMALL_BYTES), qos=1, retain=True)
        unheard: Sequence[Traffic] = retained
        until_s = now_s() + _QUIET_S
        while unheard and not self._troubles and now_s() < until_s:
            # Again and again: a broker of several parts takes a moment to keep it.
            self._subscribe(unheard)
            unheard = self._unheard(unheard, _KEPT_S)
        kept = {each.topic for each in retained if each not in unheard}
        self._heard -= kept
        for each in retained:
            self._connection.publish(each.topic, b"", qos=1, retain=True)
        self._wait(_QUIET_S, lambda: self._heard >= kept)  # what takes it away comes by, as any message does
        return list(unheard)

    def _subscribe(self, traffic: Iterable[Traffic]) -> None:
        self._stands = False
        for qos in (0, 1):
            filters = sorted({each.heard_on for each in traffic if each.qos == qos})
            if filters:
                self._connection.subscribe(filters, qos)
        self._wait(_CONNECT_S, lambda: self._stands)

    def _unheard(self, traffic: Sequence[Traffic], quiet_s: float) -> list[Traffic]:
        """What of it has not come when nothing more has for so long, or the connection is lost."""
        wanted = {each.topic for each in traffic}
        before = -1
        while len(self._heard) > before and not self._heard >= wanted:
            before = len(self._heard)
            self._wait(quiet_s, partial(self._hears_more_than, before))
        return [each for each in traffic if each.topic not in self._heard]

    def _hears_more_than(self, before: int) -> bool:
        return len(self._heard) > before

    def close(self) -> None:
        self._connection.close()
        self._reactor.close()

    def _up(self) -> None:
        self._stands = True

    def _wait(self, most_s: float, happened: Callable[[], bool]) -> None:
        until_s = now_s() + most_s
        while not happened() and not self._troubles and now_s() < until_s:
            self._reactor.call_later(_TICK_S, lambda: None)
            self._reactor.turn()


@contextmanager
def _session(broker: BrokerUrl) -> Iterator[_Session]:
    session = _Session(broker)
    try:
        session.connect()
        yield session
    finally:
        session.close()


def _not_passed(broker: BrokerUrl, silent: Sequence[Traffic], traffic: Sequence[Traffic]) -> str:
    who = "an anonymous client" if broker.username is None else f"'{broker.username}'"
    what = "anything of a run" if len(silent) == len(traffic) else _named(silent)
    return f"it takes the connection of {who}, and does not pass on {what}: its access list forbids it"


def _named(traffic: Iterable[Traffic]) -> str:
    return listed([f"{each.named} at QoS {each.qos}" for each in traffic])
