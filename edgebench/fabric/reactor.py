"""A single-threaded event loop with timers that are exact to some 0.1 ms, or nearer where that is asked for.

`epoll` rounds a timeout up to whole milliseconds, which would be a wrong number in every latency. Here a timer of the
kernel's own is one of the descriptors that are waited for. (Python's `select` knows microseconds, but no descriptor
above 1,023.)
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable

from edgebench.clock import NS_PER_S, now_ns, system_ns
from edgebench.fabric.descriptors import HasFileno

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_CLOCK_MONOTONIC = 1
_ROOM_BYTES = 1 << 18
_LEAD_STEP_NS = 2_000
_MOST_LEAD_NS = 250_000


class Timer:
    """A pending call; `cancel` makes it a no-op."""

    __slots__ = ("call", "due_ns")

    def __init__(self, due_ns: int, call: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget the call."""
        self.call = None


class Lead:
    """How much earlier to wake up than something is due, so that three of four wakings are in time.

    It follows what the machine does just now: a processor that was long asleep takes longer to wake. Where steps up are
    three times as large as steps down, it stays where one waking in four is later (stochastic approximation of a
    quantile: Robbins and Monro 1951). At most 0.25 ms: where wakings are later than that, others have the processor.
    """

    def __init__(self) -> None:
        self.ns = 0

    def note(self, late_ns: int) -> None:
        """A sleeper was so late to wake."""
        step_ns = 3 * _LEAD_STEP_NS if late_ns > self.ns else -_LEAD_STEP_NS
        self.ns = min(max(0, self.ns + step_ns), _MOST_LEAD_NS)


class _Alarm:
    """A descriptor that is readable from a time of the system's monotonic clock on: Linux' timerfd, which Python has
    from 3.13 on."""

    def __init__(self) -> None:
        """Raises OSError or AttributeError where the system has none."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        # The interval, and the time itself, each in s and ns.
        self._times = (ctypes.c_long * 4)()
        self._due_ns: int | None = None

    def fileno(self) -> int:
        return self._fd

    def set(self, due_ns: int | None) -> None:
        """Be readable from then on, or never; what was set before is forgotten."""
        if due_ns == self._due_ns:
            return
        self._due_ns = due_ns
        # A time of zero would mean never.
        self._times[2], self._times[3] = (0, 0) if due_ns is None else divmod(max(1, due_ns), NS_PER_S)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._times, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def close(self) -> None:
        os.close(self._fd)


def _alarm_for(selector: selectors.BaseSelector) -> _Alarm | None:
    """None where the selector itself is exact (kqueue), or the system has no such timers, and only rounded timeouts."""
    if not isinstance(selector, getattr(selectors, "EpollSelector", ())):
        return None
    try:
        return _Alarm()
    except (AttributeError, OSError):
        return None


def _nothing(_events: int) -> None:
    """An alarm has done its work by waking the reactor."""


class Reactor:
    """Watches sockets and calls back, all in the thread of `run`. Only `call_soon_threadsafe` and `stop` may be called
    from elsewhere."""

    def __init__(self, *, punctual: bool = False) -> None:
        """punctual: it wakes up a little before something is due, by what it takes this machine to wake up, and looks
        without sleeping until then: exact to some 0.01 ms, for some 0.05 ms of processor time each time."""
        self.room = bytearray(_ROOM_BYTES)
        """For whoever reads in the reactor's thread, until it returns: a buffer for each of a thousand sockets would be
        too much."""
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()
        self._gone: set[int] = set()
        self._stopping = False
        self._waker, self._wakee = socket.socketpair()
        self._waker.setblocking(False)
        self._wakee.setblocking(False)
        self._thread: int | None = None
        self._selector.register(self._wakee, READ, self._drain_wakes)
        self._alarm = _alarm_for(self._selector)
        self._lead = Lead() if punctual else None
        self._awake_for_ns = 0
        """It was woken for what is due then, and only looks until that has come."""
        if self._alarm is not None:
            self._selector.register(self._alarm, READ, _nothing)

    now_ns = staticmethod(now_ns)

    def watch(self, sock: HasFileno, events: int, ready: Callable[[int], None]) -> None:
        """Call `ready(events)` when the socket is ready; a second call for a socket replaces the first."""
        try:
            self._selector.modify(sock, events, ready)
        except KeyError:
            self._selector.register(sock, events, ready)

    def unwatch(self, sock: HasFileno) -> None:
        """Stop watching; not watched is fine."""
        try:
            self._gone.add(self._selector.unregister(sock).fd)
        except (KeyError, ValueError):
            return

    def call_at(self, due_ns: int, call: Callable[[], None]) -> Timer:
        """Call at a time of `clock.now_ns`, or at once where it has passed."""
        timer = Timer(due_ns, call)
        heapq.heappush(self._timers, (due_ns, next(self._order), timer))
        return timer

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call after a delay in s."""
        return self.call_at(now_ns() + int(delay_s * NS_PER_S), call)

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        """Call from the reactor's thread as soon as it can; from any thread."""
        self._soon.append(call)
        if threading.get_ident() != self._thread:
            self._wake()

    def call_from_signal(self, call: Callable[[], None]) -> None:
        """Call from the reactor's thread as soon as it can; from a signal handler, which may run in that thread."""
        self._soon.append(call)
        self._wake()

    def stop(self) -> None:
        """Make `run` return; from any thread."""
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """Serve until `stop`."""
        self._thread = threading.get_ident()
        while not self._stopping:
            self.turn()

    def turn(self) -> None:
        """Wait for the next event or timer, and serve what is due."""
        ready = self._wait()
        self._gone.clear()
        for key, events in ready:
            if key.fd not in self._gone:  # nobody hears of a socket that an earlier call in this turn gave up
                key.data(events)
        while self._soon:
            self._soon.popleft()()
        self._fire_timers()

    def close(self) -> None:
        """Release the descriptors; after `run` has returned."""
        self._selector.close()
        if self._alarm is not None:
            self._alarm.close()
        self._waker.close()
        self._wakee.close()

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        if self._soon or self._stopping:
            return self._selector.select(0)
        due_ns = self._timers[0][0] if self._timers else None
        if self._alarm is not None:
            if due_ns is not None and self._lead is not None:
                return self._wait_ahead(self._alarm, self._lead, due_ns)
            self._alarm.set(due_ns if system_ns is None or due_ns is None else system_ns(due_ns))
            return self._selector.select()
        return self._selector.select(None if due_ns is None else max(0.0, (due_ns - now_ns()) / NS_PER_S))

    def _wait_ahead(self, alarm: _Alarm, lead: Lead, due_ns: int) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep until shortly before something is due; from then on, only look. Of a short time half is slept, so that
        one who has much to do does not look all the time."""
        left_ns = due_ns - now_ns()
        if left_ns <= 0 or due_ns <= self._awake_for_ns:
            return self._selector.select(0)
        wake_ns = due_ns - min(lead.ns, left_ns // 2)
        alarm.set(wake_ns if system_ns is None else system_ns(wake_ns))
        ready = self._selector.select()
        if any(key.fileobj is alarm for key, _ in ready):
            self._awake_for_ns = due_ns
            lead.note(now_ns() - wake_ns)
        return ready

    def _fire_timers(self) -> None:
        if not self._timers:
            return
        now = now_ns()
        while self._timers and self._timers[0][0] <= now:
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                call()

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except BlockingIOError:
            return  # it is full of wakes already
        except OSError:
            if self._waker.fileno() >= 0:
                raise
            # Else the reactor was closed meanwhile, and nobody is left to be called.

    def _drain_wakes(self, _events: int) -> None:
        try:
            while len(self._wakee.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
