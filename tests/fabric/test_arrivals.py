from __future__ import annotations

import socket
import sys

from edgebench.clock import NS_PER_MS, now_ns, sleep_s
from edgebench.fabric.arrivals import note_arrivals, receive


def test_bytes_have_come_when_the_kernel_had_them_and_not_when_they_are_read() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as sender,
        listening.accept()[0] as receiver,
    ):
        note_arrivals(receiver)
        sleep_s(0.3)  # the kernel begins to note a moment after it is asked to
        before_ns = now_ns()
        sender.sendall(b"here")
        sleep_s(0.05)
        data, at_ns = receive(receiver, 100)
        read_ns = now_ns()
        assert data == b"here"
        if sys.platform == "linux":
            assert before_ns <= at_ns < read_ns - 25 * NS_PER_MS
        sender.close()
        assert receive(receiver, 100)[0] == b""


def test_where_nobody_noted_when_bytes_came_they_come_as_they_are_read() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(b"here")
        before_ns = now_ns()
        data, at_ns = receive(far, 100)
        assert data == b"here"
        assert before_ns <= at_ns <= now_ns()
