"""Who knocks at a lab's server: the TLS handshake, who is behind a connection, who was refused and how often."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import defaultdict
from collections.abc import Callable
from weakref import WeakSet

from aiohttp import web

from edgebench.fabric.refusals import Refusals
from edgebench.fabric.tls import Peer, peer_of
from edgebench.lab.clock_exchange import PROTOCOL

_log = logging.getLogger(__name__)
_FIRST_WORD_S = 10.0
_CUT_AFTER_S = 0.5
_MOST_CONNECTIONS = 2_000
_TURNS = 3


class Doorkeeper(Refusals):
    """Counts whom it refuses, and cuts connections."""

    def __init__(self) -> None:
        super().__init__(_log)
        self._silent: set[web.RequestHandler] = set()
        self._open: defaultdict[str, set[asyncio.Transport]] = defaultdict(set)
        self._all: WeakSet[asyncio.BaseTransport] = WeakSet()

    def guard(self, context: ssl.SSLContext) -> None:
        """Ask for a certificate without insisting on it, and count the handshakes that fail."""
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols([PROTOCOL, "http/1.1"])
        self.count_handshakes(context)

    def for_http(self, make: Callable[[], web.RequestHandler]) -> web.RequestHandler:
        """For a new connection: one that says nothing is hung up on."""
        protocol = make()
        if len(self._silent) >= _MOST_CONNECTIONS:
            self.refused("too many connections that say nothing")
            asyncio.get_running_loop().call_soon(self._hang_up, protocol)
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(_FIRST_WORD_S, self._hang_up, protocol)
        return protocol

    def has_spoken(self, request: web.Request) -> None:
        """A request has come."""
        self._silent.discard(request.protocol)

    def admitted(self, machine: str, transport: asyncio.Transport | None) -> None:
        """It comes from this machine."""
        if transport is not None:
            self._open[machine].add(transport)

    def cut(self, machine: str) -> None:
        """Cut a machine's connections, as soon as it has been told why."""
        for transport in self._open.pop(machine, ()):
            asyncio.get_running_loop().call_later(_CUT_AFTER_S, _abort, transport)

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """A connection is there."""
        self._all.add(transport)

    async def cut_all(self) -> None:
        """What has not ended by itself."""
        for transport in list(self._all):
            _abort(transport)
        for _ in range(_TURNS):  # of the event loop, in which sockets are closed
            await asyncio.sleep(0)

    def forget_closed(self) -> None:
        """Those that have ended by themselves."""
        for transports in self._open.values():
            transports -= {each for each in transports if each.is_closing()}

    def _hang_up(self, protocol: web.RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            protocol.force_close()


class Door(asyncio.Protocol):
    """A new connection, which TLS tells what it is for: comparing clocks, or HTTP."""

    def __init__(
        self,
        keeper: Doorkeeper,
        for_http: Callable[[], asyncio.Protocol],
        for_clock: Callable[[Peer], asyncio.Protocol],
    ) -> None:
        self._keeper = keeper
        self._for_http = for_http
        self._for_clock = for_clock

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand it over."""
        self._keeper.opened(transport)
        peer = peer_of(transport.get_extra_info("peercert"))
        wants_clock = transport.get_extra_info("ssl_object").selected_alpn_protocol() == PROTOCOL
        protocol = self._for_clock(peer) if wants_clock and peer is not None else self._for_http()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


def _abort(transport: asyncio.BaseTransport) -> None:
    """Python 3.11.2, which is Debian's, raises where a connection with TLS has been closed twice: so it has ended."""
    with contextlib.suppress(AttributeError):
        transport.abort()  # type: ignore[attr-defined]
