"""What an edge passes on of one workload, in order: kept on disk while its uplink takes nothing and, where durability
is promised, until the cloud has answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Literal

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
_TOO_MUCH_NS = NS_PER_MS
"""How soon it looks again whether the broker has acknowledged some of what is under way, where that is too much."""
_TOGETHER = 64
"""So many are sent before it is seen whether the connection takes more."""
Resend = Callable[[int, Callable[[], None]], None]
"""Of a message of so many bytes: call, later than this returns, when the node would have sent it once more."""
_How = Literal["new", "kept", "again"]
"""As what something is to be sent: for the first time, by an earlier life perhaps, or again."""
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
        resend: Resend | None = None,
    ) -> None:
        """path: of the file. dropped: is told of what had no room. resend: where what is not sent for the first time
        takes a time of its own.

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
        self._resend = resend
        self._resends = False
        """One is under way to being sent again."""
        self._took_time_for: SampleKey | None = None
        """What waits first has had its time for being sent again, but too much was under way for it."""
        self._waiting: dict[SampleKey, _How] = dict.fromkeys(kept, "kept")
        """What has yet to be sent, in order."""
        self._sent: dict[SampleKey, Delivery] = {}
        self._coming: deque[tuple[SampleKey | None, bytes]] = deque()
        """What is to wait once the reactor comes to it."""
        self._looks_again = False
        self._asked = b""
        self._number = count(max((key.seq + 1 for key in kept if key.device == _NOBODY), default=0))

    def undecided(self) -> list[SampleKey]:
        """What is kept."""
        return list(self._keep)

    @property
    def is_behind(self) -> bool:
        """Whether what is sent now waits: for what was sent before, or for the connection to take more."""
        return bool(self._waiting or self._coming) or self._uplink.is_full

    def send(self, key: SampleKey | None, body: bytes) -> None:
        """Pass a sample on, in an edge's envelope. key: None of one in plain JSON."""
        waits = self._until_answered or (self._qos and (self.is_behind or not self._uplink.connected))
        if not waits:
            if self._uplink.publish(self._topic, body, qos=self._qos):
                self._tally.forwarded += 1
                return
            if not self._qos:
                self._tally.drop("not-connected")
                return
        self._coming.append((key, body))
        self._reactor.call_soon_threadsafe(self._put_next)

    def uplink_is_up(self) -> None:
        """The connection stands, perhaps again."""
        self._pass_on()

    def uplink_has_room(self) -> None:
        """The connection takes more again."""
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

    def _put_next(self) -> None:
        self._put(*self._coming[0])
        self._coming.popleft()  # now that it waits

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
        self._waiting[key] = "new"
        if not self._looks_again:
            self._pass_on()

    def _send_again(self, keys: list[SampleKey]) -> None:
        for key in keys:
            del self._sent[key]
        first: dict[SampleKey, _How] = dict.fromkeys(keys, "again")
        self._waiting = first | self._waiting
        self._pass_on()

    def _pass_on(self) -> None:
        """Send what waits, as the connection takes it, and as the node sends again what was sent before."""
        for _ in range(_TOGETHER):
            if not self._waiting or self._resends or not self._uplink.connected or self._uplink.is_full:
                return
            key, how = next(iter(self._waiting.items()))
            if how != "new" and self._resend is not None and key != self._took_time_for:
                self._resends = True
                self._resend(self._keep.size_of(key), self._has_resent)
                return
            if not self._hand_over_next():
                return
        self._look_again(now_ns())  # others have their turn, and what was sent is written

    def _has_resent(self) -> None:
        self._resends = False
        if self._waiting and self._uplink.connected:
            self._took_time_for = next(iter(self._waiting))
            if not self._hand_over_next():
                return
        self._pass_on()

    def _hand_over_next(self) -> bool:
        """Send what has waited longest; not yet, where too much is under way."""
        key, how = next(iter(self._waiting.items()))
        if not self._hand_over(key):
            self._look_again(now_ns() + _TOO_MUCH_NS)
            return False
        del self._waiting[key]
        if key == self._took_time_for:
            self._took_time_for = None
        self._tally.forwarded += how != "again"
        return True

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

    def _look_again(self, at_ns: int) -> None:
        if not self._looks_again:
            self._looks_again = True
            self._reactor.call_at(at_ns, self._look)

    def _look(self) -> None:
        self._looks_again = False
        self._pass_on()
