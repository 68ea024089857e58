"""What was published at QoS 1 and is not acknowledged yet: the broker gets it again when a connection stands anew."""

from __future__ import annotations

import threading

from edgebench.fabric.mqtt_socket import MqttSocket, once_more, publication

MOST = 60_000
"""So many may be under way, or wait for a connection: packet identifiers are 16 bits wide."""
_FIRST_ID, _LAST_ID = 1024, 65_535
"""Those below are of subscriptions, which are paho's."""


class Delivery:
    """A message of QoS 1 on its way to the broker. acknowledged: the broker has it."""

    __slots__ = ("acknowledged",)

    def __init__(self) -> None:
        self.acknowledged = False


class _Publication:
    __slots__ = ("delivery", "packet", "was_sent")

    def __init__(self, packet: bytes, delivery: Delivery | None) -> None:
        self.packet = packet
        self.delivery = delivery
        self.was_sent = False


class InFlight:
    """Of one session; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, _Publication] = {}
        self._next_id = _FIRST_ID
        self._sock: MqttSocket | None = None

    def publish(self, topic: bytes, payload: bytes, *, retain: bool, delivery: Delivery | None = None) -> bool:
        """Send a message, as soon as there is a connection; False where too much is under way. delivery: is told when
        it is there."""
        with self._lock:
            if len(self._waiting) >= MOST:
                return False
            while self._next_id in self._waiting:
                self._count()
            each = _Publication(publication(topic, payload, retain=retain, packet_id=self._next_id), delivery)
            self._waiting[self._next_id] = each
            self._count()
            if self._sock is not None:
                self._sock.put(each.packet)
                each.was_sent = True
        return True

    def acknowledged(self, packet_id: int) -> None:
        """The broker has it."""
        with self._lock:
            each = self._waiting.pop(packet_id, None)
        if each is not None and each.delivery is not None:
            each.delivery.acknowledged = True

    def is_up(self, sock: MqttSocket) -> None:
        """The session goes on by this connection: send all that waits, in its order."""
        with self._lock:
            for each in self._waiting.values():
                sock.put(once_more(each.packet) if each.was_sent else each.packet)
                each.was_sent = True
            self._sock = sock

    def is_down(self) -> None:
        """There is no connection."""
        with self._lock:
            self._sock = None

    def _count(self) -> None:
        self._next_id = _FIRST_ID if self._next_id == _LAST_ID else self._next_id + 1
