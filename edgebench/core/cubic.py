"""How much a TCP sender keeps under way: CUBIC, as Linux has it.

Sources: RFC 5681 and RFC 6928 (slow start from 10 packets), RFC 9438 (CUBIC), Ha and Rhee 2011 (HyStart), RFC 6937 (the
proportional reduction of the window). Windows are in packets, times in s. As there, windows and what they are computed
from are whole numbers, which counts where only a few packets are under way.
"""

from __future__ import annotations

FIRST_WINDOW = 10
UNLIMITED = 1 << 31
_BETA = 717 / 1024
_C = 0.4
_ACKS_PER_WINDOW = 15 / 8
"""For one packet more, of a sender that is as quick as one of RFC 5681: (1 + beta) / (3 (1 - beta)), in eighths."""
_LEAST_WINDOW = 2
_HYSTART_FROM = 16
_HYSTART_SAMPLES = 8
_HYSTART_LEAST_S, _HYSTART_MOST_S = 0.004, 0.016
_HYSTART_TRAIN_S = 0.002
_HYSTART_TOGETHER_S = 0.001
"""So long acknowledgements may be kept to be sent as one."""
_LOOK_AGAIN_S = 1 / 32
_PROBING_SHARE = 20
_SLOWEST_SHARE = 100


class Cubic:
    """The congestion window `window` of one sender, and its slow-start threshold."""

    __slots__ = (
        "_acks",
        "_delivered",
        "_epoch_s",
        "_friendly",
        "_gained",
        "_has_left",
        "_looked",
        "_max_window",
        "_origin",
        "_reduced_from",
        "_returns_s",
        "_round_began_s",
        "_round_last_s",
        "_round_rtt_s",
        "_round_samples",
        "_sent",
        "_share",
        "_threshold_before",
        "threshold",
        "window",
    )

    def __init__(self) -> None:
        self.window = FIRST_WINDOW
        self.threshold = UNLIMITED
        self._max_window = 0
        self._epoch_s: float | None = None
        self._origin = 0
        self._returns_s = 0.0
        self._friendly = 0
        self._acks = 0
        self._share = 0
        self._looked = (0, 0.0)
        self._gained = 0
        self._reduced_from = self._threshold_before = 0
        self._delivered = 0
        self._sent = 0
        self._has_left = False
        self.begin_round(0.0)

    @property
    def in_slow_start(self) -> bool:
        """Whether the window doubles with each round trip."""
        return self.window < self.threshold

    def begin_round(self, now_s: float) -> None:
        """What is sent from now on is acknowledged by the end of a round."""
        self._round_began_s = self._round_last_s = now_s
        self._round_rtt_s = float("inf")
        self._round_samples = 0

    def look(self, now_s: float, rtt_s: float, least_rtt_s: float) -> None:
        """Leave slow start where round trips grow, or acknowledgements come in a row for half of one (HyStart); once,
        until a timeout."""
        if self._has_left or not self.in_slow_start or self.window < _HYSTART_FROM:
            return
        if now_s - self._round_last_s <= _HYSTART_TRAIN_S:
            self._round_last_s = now_s
            self._has_left = now_s - self._round_began_s > (least_rtt_s + _HYSTART_TOGETHER_S) / 2
        self._round_rtt_s = min(self._round_rtt_s, rtt_s)
        longer_s = min(max(least_rtt_s / 8, _HYSTART_LEAST_S), _HYSTART_MOST_S)
        if self._round_samples < _HYSTART_SAMPLES:
            self._round_samples += 1
        elif self._round_rtt_s > least_rtt_s + longer_s:
            self._has_left = True
        if self._has_left:
            self.threshold = self.window

    def grow(self, now_s: float, acked: int, least_rtt_s: float) -> None:
        """Packets were acknowledged, of a sender that the window holds back."""
        if self.in_slow_start:
            grown = min(self.window + acked, self.threshold)
            acked -= grown - self.window
            self.window = grown
            if not acked:
                return
        share = self._packets_for_one_more(now_s, acked, least_rtt_s)
        if self._gained >= share:
            self._gained = 0
            self.window += 1
        more, self._gained = divmod(self._gained + acked, share)
        self.window += more

    def _packets_for_one_more(self, now_s: float, acked: int, least_rtt_s: float) -> int:
        window = self.window
        self._acks += acked
        looked_at, looked_s = self._looked
        if self._epoch_s is not None and looked_at == window and now_s - looked_s <= _LOOK_AGAIN_S:
            return self._share
        self._looked = window, now_s
        if self._epoch_s is None:
            self._epoch_s = now_s
            self._acks = acked
            self._friendly = window
            self._returns_s = 0.0 if self._max_window <= window else ((self._max_window - window) / _C) ** (1 / 3)
            self._origin = max(self._max_window, window)
        ahead_s = now_s + least_rtt_s - self._epoch_s - self._returns_s
        target = self._origin + (int(_C * ahead_s**3) if ahead_s > 0 else -int(-_C * ahead_s**3))
        share = window // (target - window) if target > window else _SLOWEST_SHARE * window
        if not self._max_window:
            share = min(share, _PROBING_SHARE)  # nothing is known yet of what there is
        per_packet = int(window * _ACKS_PER_WINDOW)
        while self._acks > per_packet:
            self._acks -= per_packet
            self._friendly += 1
        if self._friendly > window:
            share = min(share, window // (self._friendly - window))
        self._share = max(share, 2)
        return self._share

    def idle(self, rounds: float) -> None:
        """Nothing was sent for so many retransmission timeouts."""
        self.threshold = max(self.threshold, 3 * self.window // 4)
        self.window = max(self.window >> min(int(rounds), 32), min(self.window, FIRST_WINDOW))

    def pause(self, idle_s: float) -> None:
        """A time in which nothing was under way does not count as growth."""
        if self._epoch_s is not None:
            self._epoch_s += idle_s

    def lose(self) -> None:
        """A packet was lost: the window is to shrink, while what is under way still arrives."""
        self._shrink()
        self._delivered = self._sent = 0

    def reduce(self, delivered: int, in_flight: int, *, progress: bool) -> None:
        """Packets have arrived while it shrinks. progress: and no further loss was found."""
        if delivered <= 0:
            return
        self._delivered += delivered
        short = self.threshold - in_flight
        if short < 0:
            may_send = -(-self.threshold * self._delivered // self._reduced_from) - self._sent
        else:
            may_send = min(max(self._delivered - self._sent, delivered) + progress, short)
        self.window = in_flight + max(may_send, 0 if self._sent else 1)

    def sent(self, packets: int) -> None:
        """While it shrinks."""
        self._sent += packets

    def recovered(self) -> None:
        """All that was under way at the loss has arrived, or been repaired."""
        self.window = self.threshold

    def timed_out(self, *, anew: bool) -> None:
        """Nothing came back. anew: nor had it shrunk already for the same loss."""
        if anew:
            self._shrink()
        self._max_window = 0
        self._epoch_s = None
        self._has_left = False
        self.window = 1
        self._gained = 0

    def take_back(self) -> None:
        """Nothing was lost: the window is what it was."""
        self.window = max(self.window, self._reduced_from)
        self.threshold = max(self.threshold, self._threshold_before)

    def _shrink(self) -> None:
        self._reduced_from, self._threshold_before = self.window, self.threshold
        self._epoch_s = None
        self._gained = 0
        self._max_window = int(self.window * (1 + _BETA) / 2) if self.window < self._max_window else self.window
        self.threshold = max(int(self.window * _BETA), _LEAST_WINDOW)
