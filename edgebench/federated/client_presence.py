"""Which clients of a federation are there, from what their brokers say of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

from edgebench.fabric.reactor import Timer

_GRACE_S = 3.0
"""How long a client may be away without its open requests failing: a broken connection is made again within 2 s."""


class Delays(Protocol):
    """What is needed of a reactor."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call after a delay in s."""


class ClientPresence:
    """Offline is who was away over the grace; who has just gone may be there again in a moment. Until something is
    heard of a client, it is taken to be there. In the reactor's thread, unless it says otherwise."""

    def __init__(self, reactor: Delays, *, came: Callable[[str], None], stayed_away: Callable[[str], None]) -> None:
        """came: called with a client that is there, as often as that is heard; stayed_away: with one that is offline
        from now on."""
        self._reactor = reactor
        self._came = came
        self._stayed_away = stayed_away
        self._away: dict[str, Timer] = {}
        self._changed = threading.Condition()
        self._offline: set[str] = set()
        self._closed = False

    def is_offline(self, client: str) -> bool:
        """Whether it was away over the grace."""
        return client in self._offline

    def heard(self, client: str, online: bool) -> None:
        """A client has come, or has gone."""
        if online:
            grace = self._away.pop(client, None)
            if grace is not None:
                grace.cancel()
            self._offline.discard(client)
            self._came(client)
            self._tell()
        elif client not in self._away and client not in self._offline:
            self._away[client] = self._reactor.call_later(_GRACE_S, partial(self._grace_is_over, client))

    def wait(self, clients: Collection[str], enough: int, timeout_s: float) -> None:
        """Until so many of these are there, time is up, or nobody is waited for any more; from any thread."""

        def there() -> bool:
            return self._closed or sum(client not in self._offline for client in clients) >= enough

        with self._changed:
            self._changed.wait_for(there, timeout_s)

    def close(self) -> None:
        """Whoever waits waits no more."""
        self._closed = True
        for timer in self._away.values():
            timer.cancel()
        self._tell()

    def _grace_is_over(self, client: str) -> None:
        del self._away[client]
        self._offline.add(client)
        self._stayed_away(client)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
