"""The kernel's token bucket (`tbf`) between two network namespaces, and its own TCP through it: what a rate is there.

    python -m benchmarks.tbf 20 4      # Mbit/s, seconds

`measure` runs it so, in a process of its own; it prints the rate of TCP payload, in Mbit/s. Wants root, Linux, `ip` and
`tc`. The bucket counts frames, so of its rate 1448 / 1514 is payload.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys

from benchmarks.real_tcp import CONGESTION_CONTROL, NEW_NETWORK, tool
from edgebench.clock import NS_PER_S, now_ns

PAYLOAD_SHARE = 1448 / 1514
_NEAR, _FAR = "10.81.0.1", "10.81.0.2"
_PORT = 4712
_WARM_S = 1.0


def measure(rate_mbit_s: float, time_s: float) -> float:
    """In a process of its own."""
    command = [sys.executable, "-m", "benchmarks.tbf", str(rate_mbit_s), str(time_s)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=time_s + 60)
    return float(done.stdout)


def _unshare() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "unshare failed")


def _send(ready: int, rate_mbit_s: float) -> None:
    """The far end: a namespace of its own, into which the other one puts an interface."""
    _unshare()
    os.write(ready, b".")
    sys.stdin.readline()
    tool("ip", "address", "add", f"{_FAR}/24", "dev", "far")
    tool("ip", "link", "set", "far", "up")
    # A burst of 4 ms, and a queue of 100 ms, as the relay's.
    burst_bytes = max(3028, round(rate_mbit_s * 1e6 / 8 * 0.004))
    shape = ("rate", f"{rate_mbit_s}mbit", "burst", str(burst_bytes), "latency", "100ms")
    tool("tc", "qdisc", "add", "dev", "far", "root", "tbf", *shape)
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL.encode())
        sock.connect((_NEAR, _PORT))
        payload = bytes(1 << 17)
        while True:
            try:
                sock.sendall(payload)
            except ConnectionError:
                return


def main() -> None:
    """Measure and print."""
    rate_mbit_s, time_s = float(sys.argv[1]), float(sys.argv[2])
    if len(sys.argv) > 3:
        _send(int(sys.argv[3]), rate_mbit_s)
        return
    _unshare()
    told, ready = os.pipe()
    command = [sys.executable, "-m", "benchmarks.tbf", *sys.argv[1:3], str(ready)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(ready,)) as sender:
        os.read(told, 1)
        tool("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(sender.pid))
        tool("ip", "address", "add", f"{_NEAR}/24", "dev", "near")
        tool("ip", "link", "set", "near", "up")
        with socket.create_server((_NEAR, _PORT)) as listening:
            assert sender.stdin is not None
            sender.stdin.write(b"\n")
            sender.stdin.flush()
            connection, _ = listening.accept()
            with connection:
                print(_rate(connection, time_s))


def _rate(connection: socket.socket, time_s: float) -> float:
    began_ns = now_ns()
    steady_ns, received = 0, 0
    while True:
        size = len(connection.recv(1 << 18))
        at_ns = now_ns()
        if steady_ns:
            received += size
            if at_ns - steady_ns >= time_s * NS_PER_S:
                return received * 8e3 / (at_ns - steady_ns)
        elif at_ns - began_ns >= _WARM_S * NS_PER_S:
            steady_ns = at_ns


if __name__ == "__main__":
    main()
