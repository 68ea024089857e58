"""What an edge passes on of one workload, in order: kept on disk while it has no uplink and, where durability is
promised, until the cloud has answered."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from edgebench.clock import NS_PER_MS, now_ns
from edgebench.core.samples import SampleKey
from edgebench.core.tallies import Tally
from edgebench.fabric.drops import DroppedOnce
from edgebench.fabric.in_flight import Delivery
from edgebench.fabric.keep import Keep
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Durability

_MB = 1_000_000
_BACKED_UP_NS = NS_PER_MS
"""How soon it looks again whether a connection that is backed up takes more."""
_NOBODY = ""
"""The device of what nobody counts: samples in plain JSON."""


class CloudBound:
    """What is sent comes from any thread; all else happens in the reactor's."""

    def __init__(
        self,
        reactor: Reactor,
        uplink: Connection,
        topic: str,
        plan: WorkloadPlan,
        tally: Tally,
        path: Path,
        durability: Durability,
        dropped: Callable[[SampleKey], None],
    ) -> None:
        """path: of the file. dropped: is told of what had no room.

        Raises FabricError where what an earlier life has left there is damaged.
        """
        self._reactor = reactor
        self._uplink = uplink
        self._topic = topic
        self._qos = plan.qos
        self._bound = plan.store
        self._tally = tally
        self._no_room = DroppedOnce(tally, "store-full")
        self._until_answered = durability != "none"
        self._power = durability == "power"
        self._keep = Keep(path, power=self._power, passing=not self._until_answered)
        kept = list(self._keep)
        self._dropped = dropped
        self._waiting = dict.fromkeys(kept, False)
        """What has yet to be sent, in order, and whether it was before."""
        self._sent: dict[SampleKey, Delivery] = {}
        self._looks_again = False
        self._asked = b""
        self._number = count(max((key.seq + 1 for key in kept if key.device == _NOBODY), default=0))

    def undecided(self) -> list[SampleKey]:
        """What is kept."""
        return list(self._keep)

    @property
    def is_behind(self) -> bool:
        """Whether what is sent now waits for what was sent before."""
        return bool(self._waiting)

    def send(self, key: SampleKey | None, body: bytes) -> None:
        """Pass a sample on, in an edge's envelope. key: None of one in plain JSON."""
        if not self._until_answered and (not self._qos or (self._uplink.connected and not self._waiting)):
            if self._uplink.publish(self._topic, body, qos=self._qos):
                self._tally.forwarded += 1
                return
            if not self._qos:
                self._tally.drop("not-connected")
                return
        self._reactor.call_soon_threadsafe(lambda: self._put(key, body))

    def uplink_is_up(self) -> None:
        """The connection stands, perhaps again."""
        self._pass_on()

    def asked(self, how: bytes) -> None:
        """The cloud asks for what is unanswered; as before, where it is for the same reason."""
        if how == self._asked:
            return
        self._asked = how
        again = [key for key, delivery in self._sent.items() if delivery.acknowledged]
        self._send_again(again)

    def came_again(self, key: SampleKey) -> None:
        """A device misses the answer to a sample that was passed on."""
        delivery = self._sent.get(key)
        if delivery is not None and delivery.acknowledged:
            self._send_again([key])

    def answered(self, key: SampleKey) -> None:
        """The answer to a sample is on its way to its device."""
        self._keep.drop([key])
        self._sent.pop(key, None)
        self._waiting.pop(key, None)

    def close(self) -> None:
        """Close the file."""
        self._keep.close()

    def _put(self, key: SampleKey | None, body: bytes) -> None:
        if key is None:
            key = SampleKey(_NOBODY, 0, next(self._number))
        if not self._make_room(len(body)) or not self._keep.put(key, body, lambda: self._kept(key)):
            self._drop(key)

    def _make_room(self, size_bytes: int) -> bool:
        """Drop the oldest that waits, where that is the policy; whether there is room then."""
        too_much = self._keep.size_bytes + size_bytes - self._bound.max_mb * _MB
        oldest = []
        for key in self._waiting if self._bound.when_full == "drop-oldest" else ():
            if too_much <= 0:
                break
            oldest.append(key)
            too_much -= self._keep.size_of(key)
        for key in oldest:
            del self._waiting[key]
            self._drop(key)
        self._keep.drop(oldest)
        return too_much <= 0

    def _drop(self, key: SampleKey) -> None:
        self._no_room.drop(key)
        self._dropped(key)

    def _kept(self, key: SampleKey) -> None:
        if self._power:
            self._reactor.call_soon_threadsafe(lambda: self._wait(key))
        else:
            self._wait(key)

    def _wait(self, key: SampleKey) -> None:
        self._waiting[key] = False
        self._pass_on()

    def _send_again(self, keys: list[SampleKey]) -> None:
        for key in keys:
            del self._sent[key]
        self._waiting = dict.fromkeys(keys, True) | self._waiting
        self._pass_on()

    def _pass_on(self) -> None:
        """Send what waits, as the connection takes it."""
        while self._waiting and self._uplink.connected:
            key = next(iter(self._waiting))
            if self._uplink.backed_up or not self._hand_over(key):
                self._look_again()
                return
            self._tally.forwarded += not self._waiting.pop(key)

    def _hand_over(self, key: SampleKey) -> bool:
        body = self._keep.get(key)
        if self._until_answered and key.device != _NOBODY:
            delivery = self._uplink.publish_followed(self._topic, body)
            if delivery is None:
                return False
            self._sent[key] = delivery
        else:
            if not self._uplink.publish(self._topic, body, qos=self._qos):
                return False
            self._keep.drop([key])
        return True

    def _look_again(self) -> None:
        if not self._looks_again:
            self._looks_again = True
            self._reactor.call_at(now_ns() + _BACKED_UP_NS, self._look)

    def _look(self) -> None:
        self._looks_again = False
        self._pass_on()
