"""A plain copy from one socket to another, as short as it can be written: what a relay costs beside it.

python -m benchmarks.plain_copy PORT    # prints the port at which it listens; each connection goes on to PORT
python -m benchmarks.plain_copy PORT 20 # one connection: a byte back, then each message after 20 ms, asleep meanwhile
"""

from __future__ import annotations

import contextlib
import ctypes
import selectors
import socket
import sys

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns, sleep_s
from edgebench.fabric.arrivals import note_arrivals, receive

_RECEIVE_BYTES = 64 * 1024
_PR_SET_TIMERSLACK = 29


def _late(listening: socket.socket, port: int, delay_ns: int) -> None:
    """Until the connection ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # ns: by default, sleeping is 50 µs late
    near, _ = listening.accept()
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        note_arrivals(near)
        near.sendall(far.recv(1))
        while True:
            data, at_ns = receive(near, _RECEIVE_BYTES)
            if not data:
                return
            sleep_s(max(0, at_ns + delay_ns - now_ns()) / NS_PER_S)
            far.sendall(data)


def main() -> None:
    """Copy until stdin ends."""
    watched = selectors.DefaultSelector()
    other: dict[socket.socket, socket.socket] = {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        if len(sys.argv) > 2:
            _late(listening, int(sys.argv[1]), round(float(sys.argv[2]) * NS_PER_MS))
            return
        watched.register(listening, selectors.EVENT_READ)
        watched.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in watched.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is listening:
                    near, _ = listening.accept()
                    far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
                    other[near], other[far] = far, near
                    for sock in (near, far):
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        watched.register(sock, selectors.EVENT_READ)
                    continue
                source = key.fileobj
                assert isinstance(source, socket.socket)
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = source.recv(_RECEIVE_BYTES)
                    other[source].sendall(data)
                if not data:
                    watched.unregister(source)


if __name__ == "__main__":
    main()
