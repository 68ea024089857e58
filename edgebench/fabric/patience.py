"""How long to go on with what fails: counted in time, since one try may take no time at all or all that it may."""

from __future__ import annotations

from edgebench.clock import now_s, sleep_s

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class Patience:
    """Ends when nothing has been gained for so many seconds."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._most_bytes = -1
        self.renew()

    def renew(self) -> None:
        """It has worked: begin anew."""
        self._since_s = now_s()
        self._pause_s = _FIRST_PAUSE_S

    def gained(self, so_far_bytes: int) -> None:
        """So much of a transfer is there; more than ever before begins anew."""
        if so_far_bytes > self._most_bytes:
            self._most_bytes = so_far_bytes
            self.renew()

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return now_s() - self._since_s >= self.patience_s

    def pause(self) -> None:
        """Wait before the next try; ever longer, up to 2 s."""
        sleep_s(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
