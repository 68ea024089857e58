"""Opening a TCP or TLS connection in a reactor's thread, which never waits for it: a way that swallows packets would
hold up everything else that the reactor serves."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from errno import EINPROGRESS
from functools import partial

from edgebench.errors import FabricError
from edgebench.fabric.endpoints import Address, BrokerUrl, addresses_of
from edgebench.fabric.reactor import READ, WRITE, Reactor, Timer
from edgebench.fabric.tls import context_to

Found = Callable[[list[Address] | OSError], None]


class _Lookups:
    """Asks for addresses of names: once, and in one thread, for all who ask while the answer is not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, int], list[Found]] = {}

    def ask(self, host: str, port: int, found: Found) -> None:
        """found: called in a thread of its own, which may take many seconds."""
        with self._lock:
            waiting = self._waiting.setdefault((host, port), [])
            waiting.append(found)
            if len(waiting) > 1:
                return
        threading.Thread(target=self._look_up, args=(host, port), name=f"address of {host}", daemon=True).start()

    def _look_up(self, host: str, port: int) -> None:
        answer: list[Address] | OSError
        try:
            answer = addresses_of(host, port)
        except OSError as error:
            answer = error
        with self._lock:
            waiting = self._waiting.pop((host, port))
        for found in waiting:
            found(answer)


_lookups = _Lookups()


class Dial:
    """One attempt to reach a broker.

    It ends with one call in the reactor's thread, of `on_open` with a non-blocking socket or of `on_failed` with the
    reason, unless it is called off before. A host of several addresses is tried at each, `timeout_s` long.
    """

    def __init__(
        self,
        reactor: Reactor,
        broker: BrokerUrl,
        *,
        timeout_s: float,
        on_open: Callable[[socket.socket], None],
        on_failed: Callable[[str], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """tls: whom to trust, where the broker is asked by TLS (None: whom the system trusts)."""
        self._reactor = reactor
        self._broker = broker
        self._timeout_s = timeout_s
        self._on_open = on_open
        self._on_failed = on_failed
        self._tls = tls
        self._addresses: list[Address] = []
        self._sock: socket.socket | None = None
        self._timer: Timer | None = None
        self._over = False
        reactor.call_soon_threadsafe(self._begin)

    def call_off(self) -> None:
        """Give the attempt up without a word."""
        self._over = True
        self._drop()

    def _begin(self) -> None:
        if self._over:
            return
        try:
            self._resolved(addresses_of(self._broker.host, self._broker.port, socket.AI_NUMERICHOST))
        except OSError:
            # A name: asking for its address may take many seconds.
            _lookups.ask(self._broker.host, self._broker.port, self._found)

    def _found(self, answer: list[Address] | OSError) -> None:
        """In a thread of the lookups."""
        if not self._over:  # else the reactor may be no more
            do = partial(self._fail, str(answer)) if isinstance(answer, OSError) else partial(self._resolved, answer)
            self._reactor.call_soon_threadsafe(do)

    def _resolved(self, addresses: list[Address]) -> None:
        self._addresses = list(addresses)
        self._next(f"no address of {self._broker.host} is known")

    def _next(self, why: str) -> None:
        """Try the next address; `why` the last one failed."""
        self._drop()
        if self._over:
            return
        if not self._addresses:
            self._fail(why)
            return
        family, address = self._addresses.pop(0)
        try:
            sock = self._sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            error = sock.connect_ex(address)
        except OSError as refused:
            self._next(str(refused))
            return
        self._timer = self._reactor.call_later(self._timeout_s, partial(self._next, "timed out"))
        if error == EINPROGRESS:
            self._reactor.watch(sock, WRITE, self._connected)
        else:
            self._proceed(sock, error)

    def _connected(self, _events: int) -> None:
        assert self._sock is not None
        self._reactor.unwatch(self._sock)
        self._proceed(self._sock, self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _proceed(self, sock: socket.socket, error: int) -> None:
        if error:
            self._next(os.strerror(error))
        elif self._broker.tls:
            name = self._broker.server_name or self._broker.host
            try:
                context = self._tls or context_to(name)
                self._sock = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
            except (OSError, FabricError) as broken_off:
                self._next(str(broken_off))
            else:
                self._shake_hands(WRITE)
        else:
            self._open()

    def _shake_hands(self, _events: int) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._reactor.watch(self._sock, READ, self._shake_hands)
        except ssl.SSLWantWriteError:
            self._reactor.watch(self._sock, WRITE, self._shake_hands)
        except OSError as error:
            self._next(str(error))
        else:
            self._open()

    def _open(self) -> None:
        sock, self._sock = self._sock, None
        assert sock is not None
        self._reactor.unwatch(sock)
        self._end()
        self._on_open(sock)

    def _fail(self, why: str) -> None:
        if not self._over:
            self._end()
            self._on_failed(why)

    def _end(self) -> None:
        self._over = True
        self._drop()

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._sock is not None:
            self._reactor.unwatch(self._sock)
            self._sock.close()
            self._sock = None
