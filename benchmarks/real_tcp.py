"""The kernel's own TCP across two TUN devices, between which each packet is delayed and some are dropped.

Two network namespaces with a TUN device each; this process carries packets from one to the other, and a process in each
is an end of the connections. Nothing of `edgebench.core` or of the relay takes part. Wants root, Linux and `ip`, `tc`.

    python -m benchmarks.real_tcp '{"latency_ms": 20, "loss_percent": 1, "duration_s": 10, "flows": 8, "messages": 8}'

`measure` runs it so; it prints what `RealTcp` holds. Some connections send as much as they can, others a message of 200
bytes 20 times a second, each with a phase of its own, which the other end answers with 4 bytes, as a broker does.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import socket
import statistics
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns, sleep_s
from edgebench.fabric.reactor import READ, WRITE, Reactor
from edgebench.seeds import rng_for

MESSAGE = struct.Struct("<q192x")
MESSAGE_HZ = 20.0
CONGESTION_CONTROL = "cubic"
_ANSWER = b"here"
_NEW_NETWORK = 0x40000000
_SET_INTERFACE = 0x400454CA
_TUN_WITHOUT_HEADER = 0x1001
_QUEUE_PACKETS = 20_000
_NEAR, _FAR = "10.80.0.1", "10.80.0.2"
_PORT = 4711
_BULK, _MESSAGES = b"b", b"m"


class Asked(msgspec.Struct, frozen=True):
    """latency_ms: one way. loss_percent: of the packets each way. flows: connections that send all the time; messages:
    connections that send messages."""

    latency_ms: float
    loss_percent: float
    duration_s: float
    flows: int = 8
    messages: int = 8
    seed: int = 0


class RealTcp(msgspec.Struct, frozen=True):
    """mbit_s: goodput by flow. message_ms: one-way times. late_ms: median and p99 of how late the packets were carried.
    lost_percent: of those that came by. congestion_control: as the kernel tells of the connections."""

    mbit_s: list[float]
    message_ms: list[float]
    late_ms: tuple[float, float]
    lost_percent: float
    congestion_control: str


def why_not() -> str | None:
    """Why this machine cannot do it; None where it can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    missing = [each for each in ("ip", "tc") if shutil.which(each) is None]
    if missing:
        return f"needs {' and '.join(missing)} (iproute2)"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    return None if CONGESTION_CONTROL in known else f"the kernel has no {CONGESTION_CONTROL}"


def measure(asked: Asked) -> RealTcp:
    """In a process of its own."""
    command = [sys.executable, "-m", "benchmarks.real_tcp", msgspec.json.encode(asked).decode()]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=asked.duration_s + 120)
    return msgspec.json.decode(done.stdout, type=RealTcp)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _new_tun(address: str, peer: str) -> int:
    """A descriptor of a TUN device in a new network namespace, which is this process's from then on."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "unshare failed")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _SET_INTERFACE, struct.pack("16sH", b"tun0", _TUN_WITHOUT_HEADER))
    _run("ip", "address", "add", address, "peer", peer, "dev", "tun0")
    _run("ip", "link", "set", "tun0", "mtu", "1500", "txqueuelen", str(_QUEUE_PACKETS), "up")
    _run("tc", "qdisc", "replace", "dev", "tun0", "root", "pfifo", "limit", str(_QUEUE_PACKETS))
    # What one connection learns of the path shall not go on with the next.
    Path("/proc/sys/net/ipv4/tcp_no_metrics_save").write_text("1")
    return tun


def chances(rng: np.random.Generator) -> Iterator[float]:
    """Endless numbers uniform in [0, 1)."""
    while True:
        yield from rng.random(4096).tolist()


class _Way:
    """One direction: packets from one TUN device to the other."""

    def __init__(self, reactor: Reactor, source: int, sink: int, asked: Asked, way: str) -> None:
        self.lateness_ns: list[int] = []
        self.packets = self.lost = 0
        self._reactor, self._source, self._sink = reactor, source, sink
        self._latency_ns = round(asked.latency_ms * NS_PER_MS)
        self._loss = asked.loss_percent / 100
        self._chance = chances(rng_for(asked.seed, "tun", way))
        self._waiting: deque[tuple[int, bytes]] = deque()
        reactor.watch(os.fdopen(source, "rb", buffering=0), READ, self._read)

    def _read(self, _events: int) -> None:
        due_ns = now_ns() + self._latency_ns
        was_empty = not self._waiting
        try:
            for _ in range(256):
                packet = os.read(self._source, 2048)
                self.packets += 1
                if next(self._chance) < self._loss:
                    self.lost += 1
                else:
                    self._waiting.append((due_ns, packet))
        except BlockingIOError:
            pass
        if was_empty and self._waiting:
            self._reactor.call_at(self._waiting[0][0], self._write)

    def _write(self) -> None:
        at_ns = now_ns()
        while self._waiting and self._waiting[0][0] <= at_ns:
            due_ns, packet = self._waiting.popleft()
            os.write(self._sink, packet)
            self.lateness_ns.append(at_ns - due_ns)
        if self._waiting:
            self._reactor.call_at(self._waiting[0][0], self._write)


def _carry(asked: Asked) -> RealTcp:
    near = _new_tun(_NEAR, _FAR)
    receiving = _end("receive", asked)
    far = _new_tun(_FAR, _NEAR)
    sending = _end("send", asked)
    reactor = Reactor()
    ways = [_Way(reactor, near, far, asked, "down"), _Way(reactor, far, near, asked, "up")]
    told = receiving.stdout
    assert told is not None
    received: list[bytes] = []

    def hear(_events: int) -> None:
        data = os.read(told.fileno(), 1 << 20)
        received.append(data)
        if not data:
            reactor.stop()

    reactor.watch(told, READ, hear)
    reactor.run()
    sending.wait()
    if receiving.wait() != 0:
        raise SystemExit("the receiving end has failed")
    found = json.loads(b"".join(received))
    late = sorted(each for way in ways for each in way.lateness_ns)
    return RealTcp(
        mbit_s=found["mbit_s"],
        message_ms=found["message_ms"],
        late_ms=(statistics.median(late) / 1e6, late[int(0.99 * len(late))] / 1e6),
        lost_percent=100 * sum(way.lost for way in ways) / sum(way.packets for way in ways),
        congestion_control=found["congestion_control"],
    )


def _end(which: str, asked: Asked) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.real_tcp", msgspec.json.encode(asked).decode(), which]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _receive(asked: Asked) -> dict[str, Any]:
    """The receiving end: counts, stamps and answers."""
    watched = selectors.DefaultSelector()
    with socket.create_server((_NEAR, _PORT), backlog=1024) as listening:
        kinds: dict[socket.socket, bytes] = {}
        got: dict[socket.socket, int] = {}
        began: dict[socket.socket, int] = {}
        buffers: dict[socket.socket, bytearray] = {}
        times_ms: list[float] = []
        control = ""
        listening.setblocking(False)
        _control(listening)
        watched.register(listening, selectors.EVENT_READ)
        until_ns: int | None = None
        while until_ns is None or now_ns() < until_ns:
            for key, _ in watched.select(0.1):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is listening:
                    accepted, _ = sock.accept()
                    accepted.setblocking(False)
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    watched.register(accepted, selectors.EVENT_READ)
                    got[accepted], buffers[accepted] = 0, bytearray()
                    continue
                try:
                    data = sock.recv(1 << 20)
                except BlockingIOError:
                    continue
                at_ns = now_ns()
                if sock not in kinds and data:
                    kinds[sock], data = data[:1], data[1:]
                    control = control_of(sock)
                if not data:
                    continue
                until_ns = until_ns or at_ns + round(asked.duration_s * NS_PER_S)
                if kinds[sock] == _BULK:
                    began.setdefault(sock, at_ns)
                    got[sock] += len(data)
                    continue
                buffer = buffers[sock]
                buffer += data
                while len(buffer) >= MESSAGE.size:
                    times_ms.append((at_ns - MESSAGE.unpack_from(buffer)[0]) / 1e6)
                    del buffer[: MESSAGE.size]
                    sock.send(_ANSWER)
        rates = [got[sock] * 8e3 / (until_ns - at_ns) for sock, at_ns in began.items()]
        return {"mbit_s": rates, "message_ms": times_ms, "congestion_control": control}


def _control(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL.encode())


def control_of(sock: socket.socket) -> str:
    """The congestion control of a connection, by the kernel's name."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).partition(b"\0")[0].decode()


def _connected(kind: bytes) -> socket.socket:
    sock = socket.socket()
    _control(sock)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(60)
    sock.connect((_NEAR, _PORT))
    sock.send(kind)
    sock.setblocking(False)
    return sock


class _Speaker:
    """Sends a message at each of its times, or, where the kernel has no room, as soon as it has."""

    def __init__(self, reactor: Reactor, sock: socket.socket) -> None:
        self._reactor = reactor
        self._sock = sock
        self._unsent = bytearray()
        reactor.watch(sock, READ, self._ready)

    def speak(self, due_ns: int) -> None:
        """From this time on."""
        self._reactor.call_at(due_ns, lambda: self._speak(due_ns))

    def _speak(self, due_ns: int) -> None:
        self._unsent += MESSAGE.pack(now_ns())
        self._flush()
        self.speak(due_ns + round(NS_PER_S / MESSAGE_HZ))

    def _ready(self, events: int) -> None:
        if events & READ:
            self._sock.recv(1 << 16)
        if events & WRITE:
            self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            del self._unsent[: self._sock.send(self._unsent)]
        self._reactor.watch(self._sock, READ | WRITE if self._unsent else READ, self._ready)


def _send(asked: Asked) -> None:
    """The sending end."""
    sleep_s(1.0)  # the other listens by then
    reactor = Reactor()
    bulk = [_connected(_BULK) for _ in range(asked.flows)]
    chatty = [_connected(_MESSAGES) for _ in range(asked.messages)]
    payload = bytes(1 << 18)

    def fill(sock: socket.socket) -> None:
        try:
            while True:
                sock.send(payload)
        except BlockingIOError:
            pass

    for sock in bulk:
        reactor.watch(sock, WRITE, lambda _events, sock=sock: fill(sock))  # type: ignore[misc]
    gap_ns = round(NS_PER_S / MESSAGE_HZ)
    begin_ns = now_ns()
    for number, sock in enumerate(chatty):
        _Speaker(reactor, sock).speak(begin_ns + gap_ns * number // asked.messages)
    with contextlib.suppress(ConnectionResetError):  # the other end has had its time
        reactor.run()


def main() -> None:
    """What is asked for as JSON, and, for the ends, which."""
    asked = msgspec.json.decode(sys.argv[1], type=Asked)
    which = sys.argv[2] if len(sys.argv) > 2 else "carry"
    if which == "send":
        _send(asked)
    else:
        print(json.dumps(_receive(asked)) if which == "receive" else msgspec.json.encode(_carry(asked)).decode())


if __name__ == "__main__":
    main()
