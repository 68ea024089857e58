"""Does a broker that has users keep them apart, carry QoS 1 from one to another, and cut off one that is revoked?

All three are relied on, and versions of brokers have failed in each: it is tried with two users of its own before any
node connects.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable
from dataclasses import replace

from edgebench.clock import now_s
from edgebench.errors import FabricError
from edgebench.fabric.brokers.settings import BrokerUser, Permission
from edgebench.fabric.endpoints import BrokerUrl
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor

_MESSAGES = 100
_LAST = b"last"
_PATIENCE_S = 10.0
_GRACE_S = 0.1
_TICK_S = 0.02


class Trial:
    """For one broker, which is to know `users` from its start on."""

    def __init__(self) -> None:
        number = secrets.token_hex(4)
        # Who sends may not publish `barred`, which the other hears; who hears may not hear `secret`.
        self._open, self._barred, self._secret = (f"eb/trial-{number}/{name}" for name in ("open", "barred", "secret"))
        # No node has such names.
        sender = BrokerUser(f"sender_{number}", secrets.token_urlsafe(), Permission((self._open, self._secret)))
        hearer = BrokerUser(f"hearer_{number}", secrets.token_urlsafe(), Permission((), (self._open, self._barred)))
        self.users = (sender, hearer)

    def run(self, broker: BrokerUrl, tls: ssl.SSLContext | None, revoke: Callable[[], None]) -> None:
        """broker: without a login. revoke: ends the access of `users`. Raises FabricError where it is of no use."""
        reactor = Reactor()
        sender, hearer = (_Client(reactor, broker, user, tls) for user in self.users)
        try:
            for client in (hearer, sender):
                client.connect()
            hearer.subscribe([self._open, self._barred])
            hearer.overreach(["#", "$SYS/#", self._secret])
            sent = [str(number).encode() for number in range(_MESSAGES)]
            for each in sent:
                sender.connection.publish(self._open, each, qos=1)
            _turn(reactor, _PATIENCE_S, lambda: len(hearer.heard) >= _MESSAGES)
            for topic in (self._secret, self._barred):
                sender.connection.publish(topic, b"", qos=0)
            # Some cut off who publishes what it may not: then this arrives once the sender is back.
            sender.connection.publish(self._open, _LAST, qos=1)
            _turn(reactor, _PATIENCE_S, lambda: hearer.heard[-1:] == [(self._open, _LAST)])
            _turn(reactor, _GRACE_S, lambda: False)
            self._judge([*sent, _LAST], hearer.heard)
            self._cut(reactor, (sender, hearer), revoke)
        finally:
            for client in (hearer, sender):
                client.connection.close()
            reactor.close()

    def _judge(self, sent: list[bytes], heard: list[tuple[str, bytes]]) -> None:
        others = {topic for topic, _ in heard} - {self._open}
        if self._barred in others:
            raise FabricError("a user can publish what it may not")
        if others:
            raise FabricError(f"a user hears what it may not: '{min(others)[:80]}'")
        if [payload for _, payload in heard] != sent:
            raise FabricError(f"{len(sent)} messages at QoS 1 of one user reach another as {len(heard)}, or disordered")

    def _cut(self, reactor: Reactor, clients: tuple[_Client, ...], revoke: Callable[[], None]) -> None:
        for client in clients:
            client.troubles.clear()
        revoke()
        if not _turn(reactor, _PATIENCE_S, lambda: all(client.troubles for client in clients)):
            raise FabricError("a user whose access is ended stays connected")


class _Client:
    def __init__(self, reactor: Reactor, broker: BrokerUrl, user: BrokerUser, tls: ssl.SSLContext | None) -> None:
        self._reactor = reactor
        self._stands = False
        self.troubles: list[str] = []
        self.heard: list[tuple[str, bytes]] = []
        self.connection = Connection(
            reactor,
            replace(broker, username=user.name, password=user.password),
            user.name,
            on_message=lambda topic, payload: self.heard.append((topic, payload)),
            on_up=self._up,
            on_trouble=self.troubles.append,
            clean_session=True,
            tls=tls,
        )

    def connect(self) -> None:
        self.connection.start()
        self._answered("connects")

    def subscribe(self, filters: list[str]) -> None:
        self._stands = False
        self.connection.subscribe(filters, 1)
        self._answered("subscribes what it may")

    def overreach(self, filters: list[str]) -> None:
        """Subscribe what is not allowed: it may be refused, or granted and never served."""
        self._stands = False
        self.connection.subscribe(filters, 1)
        _turn(self._reactor, _PATIENCE_S, lambda: self._stands or bool(self.troubles))

    def _answered(self, what: str) -> None:
        _turn(self._reactor, _PATIENCE_S, lambda: self._stands or bool(self.troubles))
        if not self._stands:
            raise FabricError(f"a user that {what} is told: {self.troubles[0] if self.troubles else 'nothing'}")

    def _up(self) -> None:
        self._stands = True


def _turn(reactor: Reactor, most_s: float, happened: Callable[[], bool]) -> bool:
    """Let it work until that has happened; whether it has."""
    until_s = now_s() + most_s
    while not happened() and now_s() < until_s:
        reactor.call_later(_TICK_S, lambda: None)
        reactor.turn()
    return happened()
