"""When bytes came to a socket, as the kernel noted it, whenever a program got round to reading them.

Between the two lies what it takes to wake a process: some 50 µs, and at times a ms. A relay that went by the latter
would add it to every latency.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

from edgebench.clock import NS_PER_MS, NS_PER_S, age_ns, now_ns

_SO_TIMESTAMPNS = 35
"""Linux' number, which Python has no name for; its answers are of the same type."""
_TIME = struct.Struct("@ll")
_TOLD_BYTES = socket.CMSG_SPACE(_TIME.size) if hasattr(socket, "CMSG_SPACE") else 0
_MOST_AGE_NS = 100 * NS_PER_MS
"""So that a step of the wall clock, by which the kernel notes it, does no more than this."""


def note_arrivals(sock: socket.socket) -> None:
    """Have the kernel note when bytes come, where it can (Linux)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def receive(sock: socket.socket, most_bytes: int) -> tuple[bytes, int]:
    """What `recv` gives, and when the last of it came, by `now_ns`: where nobody noted that, now."""
    data, told, _, _ = sock.recvmsg(most_bytes, _TOLD_BYTES)
    if not told:
        return data, now_ns()
    came_s, came_ns = _TIME.unpack(told[0][2])
    # The age first: if others have the processor in between, bytes came later than they did, and nothing is early.
    old_ns = age_ns(came_s * NS_PER_S + came_ns)
    return data, now_ns() - min(max(old_ns, 0), _MOST_AGE_NS)
