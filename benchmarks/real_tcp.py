"""The kernel's own TCP across two TUN devices, between which each packet is delayed and some are dropped.

Two network namespaces with a TUN device each; this process carries packets from one to the other, and a process in each
is an end of the connections. Nothing of `edgebench.core` or of the relay takes part but the draws of which packets get
lost: they are those of the links that the connections are named after, so that chance is the same for both. Wants root,
Linux and `ip`, `tc`.

    python -m benchmarks.real_tcp '{"latency_ms": 20, "rate_mbit_s": 50, "loss_percent": 1, "duration_s": 10,
        "bulk": ["a -> b"]}'

`measure` runs it so; it prints what `RealTcp` holds. Some connections send as much as they can, one after the other
beginning to, since all slow starts at once are more than this process can carry in time; others send a message of 200
bytes 20 times a second, each with a phase of its own, which the other end answers with 4 bytes, as a broker does.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import json
import math
import os
import selectors
import shutil
import socket
import statistics
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns, sleep_s
from edgebench.core.lanes import Way
from edgebench.core.links import loss_draws
from edgebench.fabric.reactor import READ, WRITE, Reactor

MESSAGE = struct.Struct("<q192x")
CONGESTION_CONTROL = "cubic"
_ANSWER = b"here"
NEW_NETWORK = 0x40000000
_SET_INTERFACE = 0x400454CA
_TUN_WITHOUT_HEADER = 0x1001
_QUEUE_PACKETS = 20_000
_AT_ONCE = 32
"""So many packets are carried one way before the other has its turn: a long burst would look like a longer way."""
_BUFFER_BYTES = 4 << 20
_FIRST_PORT = 20_000
_NEAR, _FAR = "10.80.0.1", "10.80.0.2"
_PORT = 4711
_BULK, _MESSAGES = b"b", b"m"
_IPV4 = 0x45
_SYN = 0x02


class Asked(msgspec.Struct, frozen=True):
    """latency_ms: one way. rate_mbit_s: of payload, for each connection and way. loss_percent: of the packets each way.
    duration_s: of each connection that sends all the
    time. bulk: the links whose draws those have; chatty: likewise of connections that send messages. apart_s: so long
    after one another the former begin."""

    latency_ms: float
    rate_mbit_s: float
    loss_percent: float
    duration_s: float
    bulk: tuple[str, ...]
    chatty: tuple[str, ...] = ()
    apart_s: float = 0.0
    message_hz: float = 20.0
    seed: int = 0

    @property
    def whole_s(self) -> float:
        """From when the first begins to send all the time until the last has done."""
        return self.duration_s + self.apart_s * (len(self.bulk) - 1)


class RealTcp(msgspec.Struct, frozen=True):
    """mbit_s: goodput by flow, each from its first byte on. message_ms: one-way times. late_ms: median and p99 of how
    late the packets were carried. lost_percent: of those that came by. congestion_control: as the kernel tells of the
    connections."""

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
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=asked.whole_s + 120)
    return msgspec.json.decode(done.stdout, type=RealTcp)


def tool(*command: str) -> None:
    """Run one of iproute2's."""
    subprocess.run(command, check=True)


def _new_tun(address: str, peer: str) -> int:
    """A descriptor of a TUN device in a new network namespace, which is this process's from then on."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "unshare failed")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _SET_INTERFACE, struct.pack("16sH", b"tun0", _TUN_WITHOUT_HEADER))
    tool("ip", "address", "add", address, "peer", peer, "dev", "tun0")
    tool("ip", "link", "set", "tun0", "mtu", "1500", "txqueuelen", str(_QUEUE_PACKETS), "up")
    tool("tc", "qdisc", "replace", "dev", "tun0", "root", "pfifo", "limit", str(_QUEUE_PACKETS))
    settings = Path("/proc/sys/net/ipv4")
    # What one connection learns of the path shall not go on with the next, and no buffer shall be what holds one back.
    (settings / "tcp_no_metrics_save").write_text("1")
    (settings / "tcp_rmem").write_text(f"4096 {_BUFFER_BYTES} {4 * _BUFFER_BYTES}")
    (settings / "tcp_wmem").write_text(f"4096 {_BUFFER_BYTES} {_BUFFER_BYTES}")
    return tun


class _Way:
    """One direction: packets from one TUN device to the other."""

    def __init__(self, reactor: Reactor, source: int, sink: int, asked: Asked, way: Way) -> None:
        self.lateness_ns: list[int] = []
        self.packets = self.lost = 0
        self._reactor, self._source, self._sink = reactor, source, sink
        self._latency_ns = round(asked.latency_ms * NS_PER_MS)
        self._draws = {
            _FIRST_PORT + number: loss_draws(asked.loss_percent, asked.seed, name, way)
            for number, name in enumerate(asked.bulk + asked.chatty)
        }
        self._passing = {port: next(draws, math.inf) for port, draws in self._draws.items()}
        self._port = slice(20, 22) if way == "up" else slice(22, 24)  # of the sending end
        self._ns_per_byte = 8e3 / asked.rate_mbit_s
        self._free_ns = dict.fromkeys(self._draws, 0)
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, bytes]] = []
        reactor.watch(os.fdopen(source, "rb", buffering=0), READ, self._read)

    def _read(self, _events: int) -> None:
        at_ns = now_ns()
        first = self._waiting[0] if self._waiting else None
        try:
            for _ in range(_AT_ONCE):
                self._take(os.read(self._source, 2048), at_ns)
        except BlockingIOError:
            pass
        if self._waiting and self._waiting[0] is not first:
            self._reactor.call_at(self._waiting[0][0], self._write)

    def _take(self, packet: bytes, at_ns: int) -> None:
        port = int.from_bytes(packet[self._port])
        lost = False
        if packet[0] == _IPV4 and port in self._draws:
            payload_bytes = len(packet) - 20 - 4 * (packet[32] >> 4)
            at_ns = max(at_ns, self._free_ns[port]) + round(payload_bytes * self._ns_per_byte)
            self._free_ns[port] = at_ns
            lost = not packet[33] & _SYN and self._is_lost(port)
        if not lost:
            heapq.heappush(self._waiting, (at_ns + self._latency_ns, next(self._order), packet))

    def _is_lost(self, port: int) -> bool:
        self.packets += 1
        if self._passing[port]:
            self._passing[port] -= 1
            return False
        self.lost += 1
        self._passing[port] = next(self._draws[port])
        return True

    def _write(self) -> None:
        at_ns = now_ns()
        for _ in range(_AT_ONCE):
            if not self._waiting or self._waiting[0][0] > at_ns:
                break
            due_ns, _, packet = heapq.heappop(self._waiting)
            os.write(self._sink, packet)
            self.lateness_ns.append(at_ns - due_ns)
        if self._waiting:  # not before this turn is over
            self._reactor.call_at(max(self._waiting[0][0], now_ns()), self._write)


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
    sending.terminate()  # nothing is carried any more that could tell it
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
        ports: dict[socket.socket, int] = {}
        buffers: dict[socket.socket, bytearray] = {}
        times_ms: list[float] = []
        duration_ns = round(asked.duration_s * NS_PER_S)
        control = ""
        listening.setblocking(False)
        _control(listening)
        watched.register(listening, selectors.EVENT_READ)
        while len(began) < len(asked.bulk) or now_ns() < max(began.values()) + duration_ns:
            for key, _ in watched.select(0.1):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is listening:
                    accepted, (_, ports[accepted]) = sock.accept()
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
                if kinds[sock] == _BULK:
                    if at_ns <= began.setdefault(sock, at_ns) + duration_ns:
                        got[sock] += len(data)
                    continue
                buffer = buffers[sock]
                buffer += data
                while len(buffer) >= MESSAGE.size:
                    times_ms.append((at_ns - MESSAGE.unpack_from(buffer)[0]) / 1e6)
                    del buffer[: MESSAGE.size]
                    sock.send(_ANSWER)
        rates = [got[sock] * 8e3 / duration_ns for sock in sorted(began, key=ports.__getitem__)]
        return {"mbit_s": rates, "message_ms": times_ms, "congestion_control": control}


def _control(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL.encode())


def control_of(sock: socket.socket) -> str:
    """The congestion control of a connection, by the kernel's name."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).partition(b"\0")[0].decode()


def _connected(kind: bytes, number: int) -> socket.socket:
    sock = socket.socket()
    sock.bind((_FAR, _FIRST_PORT + number))
    _control(sock)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(60)
    sock.connect((_NEAR, _PORT))
    sock.send(kind)
    sock.setblocking(False)
    return sock


class _Speaker:
    """Sends a message at each of its times, or, where the kernel has no room, as soon as it has."""

    def __init__(self, reactor: Reactor, sock: socket.socket, gap_ns: int) -> None:
        self._reactor = reactor
        self._sock = sock
        self._gap_ns = gap_ns
        self._unsent = bytearray()
        reactor.watch(sock, READ, self._ready)

    def speak(self, due_ns: int) -> None:
        """From this time on."""
        self._reactor.call_at(due_ns, lambda: self._speak(due_ns))

    def _speak(self, due_ns: int) -> None:
        self._unsent += MESSAGE.pack(now_ns())
        self._flush()
        self.speak(due_ns + self._gap_ns)

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
    bulk = [_connected(_BULK, number) for number in range(len(asked.bulk))]
    chatty = [_connected(_MESSAGES, len(bulk) + number) for number in range(len(asked.chatty))]
    payload = bytes(1 << 18)

    def fill(sock: socket.socket, _events: int) -> None:
        try:
            while True:
                sock.send(payload)
        except BlockingIOError:
            pass

    gap_ns, apart_ns = round(NS_PER_S / asked.message_hz), round(asked.apart_s * NS_PER_S)
    begin_ns = now_ns()
    for number, sock in enumerate(bulk):
        reactor.call_at(begin_ns + number * apart_ns, partial(reactor.watch, sock, WRITE, partial(fill, sock)))
    for number, sock in enumerate(chatty):
        _Speaker(reactor, sock, gap_ns).speak(begin_ns + gap_ns * number // len(chatty))
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # the other end has had its time
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
