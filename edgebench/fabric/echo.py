"""How long a message takes from a process to its own broker and back: what of an emulated machine's time has passed
really, before and after."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edgebench.clock import now_ns
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor

_ROUNDS = 15
_SETTLE = 3
_PAUSE_S = 0.02
_AGAIN_S = 1.0
_SIZE_BYTES = 1024
_NUMBER_BYTES = 8
_LOW = 0.1


class Echo:
    """A few messages that a connection sends to itself, one after another. In the reactor's thread."""

    def __init__(
        self,
        reactor: Reactor,
        connection: Connection,
        topic: str,
        on_known: Callable[[int], None],
    ) -> None:
        """Subscribes; topic: that nobody else has a use for. on_known: called once, with the first decile, ns: what
        nearly every message takes. Beyond it is what came between: other work, or a backlog at the broker.
        """
        self._reactor = reactor
        self._connection = connection
        self._topic = topic
        self._on_known = on_known
        self._took_ns: list[int] = []
        self._sent_ns: dict[int, int] = {}
        self._number = 0
        connection.subscribe([topic], 0)

    def begin(self) -> None:
        """The connection is up; the first time, or again before all came back."""
        self._send()

    def takes(self, topic: str, payload: bytes) -> bool:
        """Take a message, if it is one of these."""
        if topic != self._topic:
            return False
        number = int.from_bytes(payload[:_NUMBER_BYTES], "big")
        sent_ns = self._sent_ns.pop(number, None)
        if sent_ns is not None and not self._is_known:
            self._took_ns.append(now_ns() - sent_ns)
            if self._is_known:
                settled = sorted(self._took_ns[_SETTLE:])
                self._on_known(settled[int(_LOW * len(settled))])
            elif number == self._number:
                self._reactor.call_later(_PAUSE_S, self._send)
        return True

    @property
    def _is_known(self) -> bool:
        return len(self._took_ns) == _ROUNDS

    def _send(self) -> None:
        if self._is_known:
            return
        self._number += 1
        self._sent_ns[self._number] = now_ns()
        body = self._number.to_bytes(_NUMBER_BYTES, "big").ljust(_SIZE_BYTES, b"\0")
        self._connection.publish(self._topic, body, qos=0)
        # A broker may drop it, where much waits for the same connection.
        self._reactor.call_later(_AGAIN_S, partial(self._send_again, self._number))

    def _send_again(self, number: int) -> None:
        if number == self._number and number in self._sent_ns:
            self._send()
