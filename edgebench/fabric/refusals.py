"""Who is refused at a server of ours: counted each time, and told once, so that a flood does not fill the log."""

from __future__ import annotations

import logging
import ssl
import threading
from collections import Counter
from typing import Literal

Wanted = Literal["connections", "publications", "subscriptions", "requests"]
"""What somebody wanted and was not let."""

_MOST_TOLD = 1_000


class Refusals:
    """From any thread. by_reason, by_kind: how many."""

    def __init__(self, log: logging.Logger) -> None:
        """log: takes one line for each of reason and address."""
        self.by_reason: Counter[str] = Counter()
        self.by_kind: Counter[Wanted] = Counter()
        self.log = log
        self._told: set[tuple[str, str | None]] = set()
        self._lock = threading.Lock()
        self._fresh = False

    def refused(self, reason: str, address: str | None = None, kind: Wanted = "requests") -> None:
        """Somebody was."""
        with self._lock:
            self.by_reason[reason] += 1
            self.by_kind[kind] += 1
            self._fresh = True
            is_news = (reason, address) not in self._told and len(self._told) < _MOST_TOLD
            if is_news:
                self._told.add((reason, address))
        if is_news:
            self.log.warning("refused: %s%s", reason, "" if address is None else f", from {address}")

    def news(self) -> dict[str, int] | None:
        """All so far, by kind, if there were any since this was asked before."""
        with self._lock:
            if not self._fresh:
                return None
            self._fresh = False
            return dict[str, int](sorted(self.by_kind.items()))

    def count_handshakes(self, context: ssl.SSLContext) -> None:
        """Count those that fail, of the connections of asyncio that use this context."""
        keeper = self

        class Counted(ssl.SSLObject):
            def do_handshake(self) -> None:
                try:
                    super().do_handshake()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as error:
                    keeper.refused(_of_handshake(error), kind="connections")
                    raise

        context.sslobject_class = Counted


def _of_handshake(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"a certificate: {error.verify_message}"
    return f"a handshake: {(error.reason or 'broken off').replace('_', ' ').lower()}"
