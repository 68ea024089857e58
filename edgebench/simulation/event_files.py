"""Files in virtual time: what goes by HTTP across the lanes of links, as `fabric.transfers` moves it, beside what goes
by MQTT; where samples cross the same links, in the turns of `fabric.turns`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from edgebench.clock import NS_PER_S
from edgebench.core.fake_transport import VirtualTime
from edgebench.core.lanes import Way
from edgebench.core.links import WINDOW_NS, Lane, pending_bytes_bound, piece_bytes
from edgebench.core.tcp import connected_ns
from edgebench.fabric.shelves import Turn
from edgebench.fabric.transfers import SMALL_BYTES
from edgebench.fabric.turns import Pace, Turns

NOTICE_BYTES, DELIVERED_BYTES = 260, 100
"""What a client is told by MQTT, and says, to within some tens of bytes."""
REQUEST_BYTES, HEADERS_BYTES, OFFER_BYTES, ANSWER_BYTES = 230, 300, 340, 230
"""HTTP's: what asks for a file, what goes before it; what goes before one that is handed in, and what answers that."""

_PIECES_UNDER_WAY = 8
_MOST_PIECES = 64
"""Of what sets out together, unless they were too large a part of what may be under way: each is stored and forwarded,
so that smaller ones would hardly be there sooner."""

Then = Callable[[], None]
Wanted = Callable[[], bool]


def cross(
    time: VirtualTime, lanes: tuple[Lane, ...], size_bytes: int, then: Then, is_wanted: Wanted = lambda: True
) -> None:
    """Bytes set out across lanes, one lane after the other. then: all of them are at the other end. Once they are not
    wanted any more nothing sets out."""
    _Crossing(time, lanes, size_bytes, then, is_wanted).offer()


def _nothing() -> None:
    """Nobody waits for it."""


class _Crossing:
    """Bytes on their way, a piece at a time; no more is under way than a relay takes of one connection, and none sets
    out while what did is too far ahead of a pipe."""

    __slots__ = (
        "_bound_bytes",
        "_hold_until_ns",
        "_is_wanted",
        "_lanes",
        "_left_bytes",
        "_piece_bytes",
        "_then",
        "_time",
        "_under_way_bytes",
    )

    def __init__(
        self, time: VirtualTime, lanes: tuple[Lane, ...], size_bytes: int, then: Then, is_wanted: Wanted
    ) -> None:
        self._time = time
        self._lanes = lanes
        self._then = then
        self._is_wanted = is_wanted
        # A relay stands where a link is anything but a wire.
        relayed = tuple(lane for lane in lanes if lane.holds_back) or lanes
        self._bound_bytes = pending_bytes_bound(relayed)
        coarse_bytes = min(-(-size_bytes // _MOST_PIECES), self._bound_bytes // _PIECES_UNDER_WAY)
        self._piece_bytes = max(piece_bytes(relayed), coarse_bytes)
        self._left_bytes, self._under_way_bytes = size_bytes, 0
        self._hold_until_ns = 0

    def offer(self) -> None:
        """Give the first lane what there is room for."""
        if not self._is_wanted():
            self._left_bytes = 0
        while self._left_bytes and self._under_way_bytes + self._piece_bytes <= self._bound_bytes:
            if self._hold_until_ns > self._time.now_ns():
                return  # the turn that ends then goes on
            size_bytes = min(self._piece_bytes, self._left_bytes)
            self._left_bytes -= size_bytes
            self._under_way_bytes += size_bytes
            self._cross(0, size_bytes)

    def _cross(self, place: int, size_bytes: int) -> None:
        departure_ns, at_ns = self._lanes[place].carry(self._time.now_ns(), size_bytes)
        self._time.call_at(at_ns, partial(self._crossed, place, size_bytes))
        if departure_ns - WINDOW_NS > self._time.now_ns():
            self._hold_until_ns = max(self._hold_until_ns, departure_ns - WINDOW_NS)
            self._time.call_at(departure_ns - WINDOW_NS, self.offer)

    def _crossed(self, place: int, size_bytes: int) -> None:
        self._lanes[place].count(size_bytes, 0)
        if place + 1 < len(self._lanes):
            self._cross(place + 1, size_bytes)
            return
        self._under_way_bytes -= size_bytes
        self.offer()
        if not self._under_way_bytes and self._is_wanted():
            self._then()


class _Lock:
    """Who has the next piece of a pace; the others wait, in the order in which they asked."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._is_held = False
        self._waiting: deque[Then] = deque()

    def acquire(self, then: Then) -> None:
        """`then` when it is its turn."""
        if self._is_held:
            self._waiting.append(then)
            self.pace.waiting = len(self._waiting)
        else:
            self._is_held = True
            then()

    def release(self) -> None:
        """The next one's turn."""
        self._is_held = bool(self._waiting)
        if self._waiting:
            then = self._waiting.popleft()
            self.pace.waiting = len(self._waiting)
            then()


class VirtualTurns:
    """The turns of files on a way, as `Turns` has them, without an event loop."""

    def __init__(self, time: VirtualTime, turns: Turns, locks: Sequence[_Lock]) -> None:
        """locks: of its paces, in their order; those of a pace are one, whoever waits."""
        self._time = time
        self._turns = turns
        self._locks = locks

    @property
    def piece_bytes(self) -> int:
        """What a piece is now."""
        return self._turns.piece_bytes(self._now_s)

    @property
    def _now_s(self) -> float:
        return self._time.now_ns() / NS_PER_S

    def take(
        self, rest_bytes: int, is_there: Wanted, then: Callable[[Turn | None], None], *, from_afar: bool = False
    ) -> None:
        """See `Turns.take`: `then` with what that returns."""
        self._wait(0, partial(self._given, rest_bytes, is_there, then, from_afar=from_afar))

    def _wait(self, place: int, then: Then) -> None:
        if place == len(self._locks):
            then()
        else:
            self._locks[place].acquire(partial(self._acquired, place, then))

    def _acquired(self, place: int, then: Then) -> None:
        free_ns = round(self._locks[place].pace.free_s * NS_PER_S)
        self._time.call_at(free_ns, partial(self._wait, place + 1, then))

    def _given(
        self, rest_bytes: int, is_there: Wanted, then: Callable[[Turn | None], None], *, from_afar: bool
    ) -> None:
        turn = None
        if is_there():
            turn = self._turns.begin(self._turns.sets_out_s(self._now_s), rest_bytes, from_afar=from_afar)
        for lock in reversed(self._locks):
            lock.release()
        then(turn)


class TurnTable:
    """The turns of all ways; those of one pace are the same."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self._locks: dict[int, _Lock] = {}

    def of(self, turns: Turns | None) -> VirtualTurns | None:
        """Of a way; None where it has none."""
        if turns is None:
            return None
        locks = [self._locks.setdefault(id(pace), _Lock(pace)) for pace in turns.paces]
        return VirtualTurns(self._time, turns, locks)


class FilesWay:
    """The way between a client and a server of files, and the connection that is kept there once it was needed."""

    def __init__(
        self,
        time: VirtualTime,
        up: Iterable[Lane],
        down: Iterable[Lane],
        turns: Mapping[Way, VirtualTurns | None],
        *,
        asks_first: bool,
    ) -> None:
        """up, down: the lanes, each in the order in which they are crossed. turns: by which files go. asks_first: the
        client does before it brings a file, however small: samples may be on its way."""
        self.time = time
        self.up, self.down = tuple(up), tuple(down)
        self.turns = turns
        self._asks_first = asks_first
        self._is_open = False
        self._in_use = False

    def tell(self, then: Then) -> None:
        """A notice of the server's goes to the client, by MQTT."""
        cross(self.time, self.down, NOTICE_BYTES, then)

    def say(self) -> None:
        """A notice of the client's goes to the server."""
        cross(self.time, self.up, DELIVERED_BYTES, _nothing)

    def fetch(self, size_bytes: int, serve: Callable[[Then], None], then: Then, is_wanted: Wanted) -> None:
        """The client fetches a file. serve(go): the server is asked for it, and calls `go` when it sends it. then: it
        is there. It goes no further than it is wanted."""
        download = _Download(self, size_bytes, partial(self._done, then), is_wanted)
        self._opened(partial(cross, self.time, self.up, REQUEST_BYTES, partial(serve, download.begin), is_wanted))

    def hand_in(self, size_bytes: int, then: Then, is_wanted: Wanted) -> None:
        """The client hands a file in. then: it is at the server. It goes no further than it is wanted."""
        upload = _Upload(self, size_bytes, partial(self._done, then), is_wanted)
        at_once = size_bytes <= SMALL_BYTES and not self._asks_first
        self._opened(upload.bring if at_once else upload.ask)

    def call_off(self) -> None:
        """What is under way is not wanted any more: its connection is broken off."""
        if self._in_use:
            self._is_open = self._in_use = False

    def answer(self, then: Then) -> None:
        """The server answers what has come."""
        cross(self.time, self.down, ANSWER_BYTES, then)

    def _opened(self, then: Then) -> None:
        """Once a connection stands."""
        self._in_use = True
        if self._is_open:
            then()
        else:
            self._is_open = True
            self.time.call_at(connected_ns(self.up, self.down, self.time.now_ns()), then)

    def _done(self, then: Then) -> None:
        self._in_use = False
        then()


class _Download:
    """A file on its way to a client."""

    def __init__(self, way: FilesWay, size_bytes: int, then: Then, is_wanted: Wanted) -> None:
        self._way = way
        self._left_bytes = size_bytes
        self._then = then
        self._is_wanted = is_wanted
        self._before_bytes = HEADERS_BYTES

    def begin(self) -> None:
        """Send it."""
        turns = self._way.turns["down"]
        if turns is None or self._left_bytes <= turns.piece_bytes:
            size_bytes = self._before_bytes + self._left_bytes
            cross(self._way.time, self._way.down, size_bytes, self._then, self._is_wanted)
        else:
            turns.take(self._left_bytes, self._is_wanted, partial(self._send_piece, turns))

    def _send_piece(self, turns: VirtualTurns, turn: Turn | None) -> None:
        if turn is None:
            return
        size_bytes, self._before_bytes = self._before_bytes + turn.size_bytes, 0
        self._left_bytes -= turn.size_bytes
        then = _nothing if self._left_bytes else self._then
        cross(self._way.time, self._way.down, size_bytes, then, self._is_wanted)
        if self._left_bytes:
            turns.take(self._left_bytes, self._is_wanted, partial(self._send_piece, turns))


class _Upload:
    """A file on its way from a client."""

    def __init__(self, way: FilesWay, size_bytes: int, then: Then, is_wanted: Wanted) -> None:
        self._way = way
        self._size_bytes = self._left_bytes = size_bytes
        self._then = then
        self._is_wanted = is_wanted

    def ask(self) -> None:
        """Ask how much may come."""
        cross(self._way.time, self._way.up, OFFER_BYTES, self._asked, self._is_wanted)

    def bring(self) -> None:
        """All that is left of it."""
        size_bytes = OFFER_BYTES + self._left_bytes
        cross(self._way.time, self._way.up, size_bytes, self._brought, self._is_wanted)

    def _asked(self) -> None:
        turns, is_first = self._way.turns["up"], self._left_bytes == self._size_bytes
        if turns is None or (is_first and self._left_bytes <= turns.piece_bytes):
            self._way.answer(self.bring)
        else:
            turns.take(self._left_bytes, self._is_wanted, self._given, from_afar=True)

    def _given(self, turn: Turn | None) -> None:
        if turn is not None:
            self._way.answer(partial(self._bring_turn, turn))

    def _bring_turn(self, turn: Turn) -> None:
        """Its pieces, each at its time."""
        self._left_bytes -= turn.size_bytes
        begin_ns = self._way.time.now_ns()
        for place, start in enumerate(range(0, turn.size_bytes, turn.piece_bytes)):
            size_bytes = min(turn.piece_bytes, turn.size_bytes - start)
            is_last = start + size_bytes == turn.size_bytes
            then = (self._asked if self._left_bytes else self._brought) if is_last else _nothing
            piece_ns = begin_ns + round(place * turn.piece_s * NS_PER_S)
            before_bytes = 0 if place else OFFER_BYTES
            of_piece = self._way.time, self._way.up, before_bytes + size_bytes, then, self._is_wanted
            self._way.time.call_at(piece_ns, partial(cross, *of_piece))

    def _brought(self) -> None:
        self._way.answer(_nothing)
        self._then()
