"""How long to go on with what fails: counted in time, since one try may take no time at all or all that it may."""

from __future__ import annotations

import math
import threading

from edgebench.clock import now_s

ENDLESS_S = math.inf

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class Patience:
    """Ends when nothing has been gained for so many seconds. For one thread; `renew`, `hurry` and `call_off` are for
    others, too."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.called_off = False
        self._most_bytes = -1
        self._hurried = threading.Event()
        self._pause_s = _FIRST_PAUSE_S
        self.renew()

    def renew(self) -> None:
        """There is an answer: be patient anew. The next pause is as long as if there were none."""
        self._since_s = now_s()

    def gained(self, so_far_bytes: int) -> None:
        """So much of a transfer is there; more than ever before begins anew."""
        if so_far_bytes > self._most_bytes:
            self._most_bytes = so_far_bytes
            self._pause_s = _FIRST_PAUSE_S
            self.renew()

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self.quiet_s >= self.patience_s

    @property
    def quiet_s(self) -> float:
        """How long nothing has been gained."""
        return now_s() - self._since_s

    def pause(self, most_s: float = _LONGEST_PAUSE_S) -> None:
        """Wait before the next try; ever longer, up to so long, unless hurried."""
        if self._hurried.wait(min(self._pause_s, most_s)):
            self._hurried.clear()
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def hurry(self) -> None:
        """Try now: there is reason to hope."""
        self._hurried.set()

    def call_off(self) -> None:
        """Go on no more; whoever tries asks `called_off`."""
        self.called_off = True
        self._hurried.set()
