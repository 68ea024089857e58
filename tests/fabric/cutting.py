"""A wire between a client and a server that breaks, is slow, and counts what goes over it."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from urllib.parse import urlsplit

from edgebench.clock import sleep_s


class Cutting:
    """Passes TCP connections on. The first `cuts` of them end once so many bytes have gone up, or down, and wait after
    each piece that goes up."""

    def __init__(
        self,
        url: str,
        *,
        up_bytes: int | None = None,
        down_bytes: int | None = None,
        up_pause_s: float = 0.0,
        cuts: int = 1,
    ) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 0)
        self._limits = (up_bytes, down_bytes)
        self._up_pause_s = up_pause_s
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.up_bytes = 0

    def __enter__(self) -> Cutting:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone does not wake a thread that waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10.0)

    def _start(self, target: object, *args: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=args, name="cutting wire")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._server)
            up, down = self._limits if self.connections <= self._cuts else (None, None)
            self._start(self._both_ways, client, server, up, down)

    def _both_ways(self, client: socket.socket, server: socket.socket, up: int | None, down: int | None) -> None:
        with client, server:
            upward = threading.Thread(target=self._pass_on, args=(client, server, up, True), name="cutting wire, up")
            upward.start()
            self._pass_on(server, client, down, False)
            upward.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int | None, up: bool) -> None:
        passed = 0
        try:
            while data := source.recv(1 << 16):
                if limit is not None and passed + len(data) >= limit:
                    sink.sendall(data[: limit - passed])
                    break
                passed += len(data)
                if up:
                    self.up_bytes += len(data)
                    sleep_s(0.0 if limit is None else self._up_pause_s)
                sink.sendall(data)
        except OSError:
            return  # the other direction has ended the connection
        finally:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # ended already
