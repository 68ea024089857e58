"""Links in virtual time: the lanes of `edgebench.core`, and what crosses them message by message."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from edgebench.core.fake_transport import LAST, Rank, VirtualTime
from edgebench.core.links import WINDOW_NS, Lane, pending_bytes_bound
from edgebench.core.tcp import TcpFlow, connected_ns


class VirtualLink:
    """One direction of a link, with a relay's law: messages cross its lane whole, and are taken in one after another
    where they arrive. Those that come to their end by a time are counted."""

    __slots__ = ("_lane", "_taken_ns", "_time", "_until_ns")

    def __init__(self, time: VirtualTime, lane: Lane, until_ns: int) -> None:
        self._lane = lane
        self._time = time
        self._until_ns = until_ns
        self._taken_ns = 0

    @property
    def backed_up(self) -> bool:
        """Whether so much waits for it that it holds back who sends."""
        return self._lane.pipe.free_ns > self._time.now_ns() + WINDOW_NS

    def abandon(self) -> None:
        """Whoever was to hear what it carries does not any more."""

    def opened_ns(self, back: VirtualLink) -> int:
        """When a connection stands that is asked for now, for all that TCP needs. back: the other way."""
        return connected_ns((self._lane,), (back._lane,), self._time.now_ns())

    def carry(
        self, at_ns: int, size_bytes: int, then_ns: int, rank: Rank, arrive: Callable[[], None], messages: int = 1
    ) -> None:
        """Call `arrive` when a message that sets out at a time, and before which nothing else can, has been taken in at
        the other end, which takes `then_ns`. messages: 0 of what is no sample and no decision."""
        self._arrives(self._lane.carry(at_ns, size_bytes)[1], size_bytes, then_ns, rank, arrive, messages)

    def end(self, then: Callable[[], None]) -> None:
        """Nothing more sets out: the other end hears of that behind all that is under way."""
        self.carry(self._time.now_ns(), 0, 0, LAST, then, 0)

    def lost(self, size_bytes: int) -> None:
        """A message does not arrive now after all, as it was to."""
        if self._time.now_ns() <= self._until_ns:
            self._lane.count(-size_bytes, -1)

    def _arrives(
        self, at_ns: int, size_bytes: int, then_ns: int, rank: Rank, arrive: Callable[[], None], messages: int
    ) -> None:
        taken_ns = at_ns + then_ns
        if taken_ns < self._taken_ns:
            taken_ns = self._taken_ns
        self._taken_ns = taken_ns
        if taken_ns <= self._until_ns:
            self._lane.count(size_bytes, messages)
        self._time.call_at(taken_ns, arrive, rank)


class BesideFiles(VirtualLink):
    """One direction of a link that files cross as well: they may set out before what is to set out later."""

    __slots__ = ()

    def carry(
        self, at_ns: int, size_bytes: int, then_ns: int, rank: Rank, arrive: Callable[[], None], messages: int = 1
    ) -> None:
        """See `VirtualLink`."""
        if at_ns > self._time.now_ns():
            self._time.call_at(at_ns, partial(self.carry, at_ns, size_bytes, then_ns, rank, arrive, messages), rank)
        else:
            super().carry(at_ns, size_bytes, then_ns, rank, arrive, messages)


class LossyLink(VirtualLink):
    """One direction of a connection across a link that loses packets, which is open already: messages arrive as the law
    of TCP has it (`core.tcp`)."""

    __slots__ = (
        "_arrived",
        "_asked_ns",
        "_bound_bytes",
        "_flow",
        "_most_silent_ns",
        "_offered",
        "_over",
        "_since_ns",
        "_under_way",
    )

    def __init__(self, time: VirtualTime, lane: Lane, until_ns: int, back: Lane) -> None:
        """back: the lane that acknowledgements cross."""
        super().__init__(time, lane, until_ns)
        self._flow = TcpFlow((lane,), (back,), 0)
        self._bound_bytes = pending_bytes_bound((lane,))
        self._offered = 0
        self._under_way = deque[tuple[int, int, int, Rank, Callable[[], None], int]]()
        """Of each message the number of its last byte, its size, and the rest as `carry` was given it."""
        self._asked_ns: int | None = None
        self._arrived = 0
        self._since_ns = 0
        self._most_silent_ns = 0
        self._over = False

    @property
    def most_silent_ns(self) -> int:
        """For how long nothing came through at most, so far, of what was under way."""
        return max(self._most_silent_ns, self._silent_ns)

    @property
    def _silent_ns(self) -> int:
        return self._time.now_ns() - self._since_ns if self._under_way and not self._over else 0

    @property
    def backed_up(self) -> bool:
        """See `VirtualLink`: a relay takes no more."""
        return self._offered - self._flow.arrived >= self._bound_bytes

    def carry(
        self, at_ns: int, size_bytes: int, then_ns: int, rank: Rank, arrive: Callable[[], None], messages: int = 1
    ) -> None:
        """See `VirtualLink`; acknowledgements come in between, so nothing is said of what is to come."""
        if at_ns > self._time.now_ns():
            self._time.call_at(at_ns, partial(self.carry, at_ns, size_bytes, then_ns, rank, arrive, messages), rank)
            return
        if not self._under_way:
            self._since_ns = self._time.now_ns()
        self._offered += size_bytes
        self._under_way.append((self._offered, size_bytes, then_ns, rank, arrive, messages))
        self._flow.offer(self._time.now_ns(), size_bytes)
        self._go_on()

    def end(self, then: Callable[[], None]) -> None:
        """See `VirtualLink`."""
        self.abandon()
        if self._under_way:
            self._under_way.append((self._offered, 0, 0, LAST, then, 0))
        else:
            self._time.call_at(self._time.now_ns() + self._lane.latency_ns, then)

    def _turn(self) -> None:
        now_ns = self._time.now_ns()
        if self._asked_ns == now_ns:
            self._asked_ns = None
        self._flow.advance(now_ns)
        self._go_on()

    def abandon(self) -> None:
        """See `VirtualLink`: nobody minds any more for how long nothing comes through."""
        self._most_silent_ns, self._over = self.most_silent_ns, True

    def _go_on(self) -> None:
        """Hand over what has arrived, and look again when the law has something to do."""
        if self._flow.arrived > self._arrived:
            self._most_silent_ns = self.most_silent_ns
            self._arrived, self._since_ns = self._flow.arrived, self._time.now_ns()
        while self._under_way and self._under_way[0][0] <= self._flow.arrived:
            self._arrives(self._time.now_ns(), *self._under_way.popleft()[1:])
        due_ns = self._flow.due_ns
        if due_ns is not None and (self._asked_ns is None or due_ns < self._asked_ns):
            self._asked_ns = due_ns
            self._time.call_at(due_ns, self._turn)


class Connection:
    """What a device has to its site, or had: both ways of the link. over: its broker knows that it has been closed;
    broken: that was said by a reset, which took all along that was under way."""

    __slots__ = ("broken", "down", "over", "up")

    def __init__(self, up: VirtualLink, down: VirtualLink) -> None:
        self.up = up
        self.down = down
        self.over = False
        self.broken = False

    def close(self) -> None:
        """Its device leaves without a word."""
        self.up.end(self._ended)
        self.down.abandon()

    def reset(self) -> None:
        """What was sent has come to the end that is closed."""
        self.over = self.broken = True

    def _ended(self) -> None:
        self.over = True
