"""How many descriptors a process may have, and waiting for one of any number."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys

from edgebench.clock import now_s
from edgebench.fabric.descriptors import READABLE, WRITABLE, allow_descriptors, most_descriptors, wait_until_ready
from tests.fabric.crowding import SELECT_KNOWS, crowded


def test_the_soft_limit_is_raised_to_the_hard_one_and_inherited() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        allow_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most_descriptors(), before[1])
        program = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
        told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert int(told) == most_descriptors()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_socket_of_any_number_is_waited_for() -> None:
    with crowded():
        left, right = socket.socketpair()
    with left, right:
        assert left.fileno() > SELECT_KNOWS
        assert wait_until_ready(left, WRITABLE, 0.0)
        began_s = now_s()
        assert not wait_until_ready(left, READABLE, 0.02)
        assert now_s() - began_s >= 0.02
        right.send(b"x")
        assert wait_until_ready(left, READABLE, 5.0)
