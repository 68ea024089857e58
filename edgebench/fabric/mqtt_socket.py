"""The socket under an MQTT client: it reads ahead, writes together what is sent together, and lets publications and
their acknowledgements, which are nearly all that travels, pass beside the client.

paho reads a packet by three or four calls to the system, sends each by one of its own, and makes some twenty objects of
one that is published. What is left to it is the session: to connect, to subscribe, to ask whether the broker is there,
and to say goodbye.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable

_MOST_TOGETHER = 64
"""Packets that are written by one call."""
_LARGEST_BYTES = (1 << 28) - 1
_WITHOUT_DUP_AND_RETAIN = 0xF6
_PUBLISH_QOS_0, _PUBLISH_QOS_1 = 0x30, 0x32
_PUBACK = 0x40
_PUBACK_BYTES = 2
_DUP = 0x08


class MqttSocket:
    """What paho takes for its socket, on one that is open and never blocks.

    Only `put` may be called from any thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_message: Callable[[str, bytes], None],
        on_acknowledged: Callable[[int], None],
        on_others: Callable[[], object],
    ) -> None:
        """on_message(topic, payload): of QoS 0 or 1; the latter is acknowledged once it returns. on_acknowledged: the
        broker has what was published under this packet identifier. on_others: other packets are there, or the end of
        the connection, for paho to read."""
        self._sock = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._on_message = on_message
        self._on_acknowledged = on_acknowledged
        self._on_others = on_others
        self._is_open = True
        self._kept = bytearray()
        self._granted = b""
        """What paho may read."""
        self._has_ended = False
        self._failure: OSError | None = None
        self._out: deque[bytes] = deque()
        self._sending: list[bytes | memoryview] = []
        self._came = self._went = False
        self.holds_back = True
        """What paho sends waits for `flush`. Else it is refused unless the system takes it: paho closes the socket once
        its goodbye is sent."""

    def fileno(self) -> int:
        """That of the socket; -1 once it is closed."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As a socket has it."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Close the socket; what was not written is lost."""
        self._is_open = False
        self._out.clear()
        self._sending.clear()
        self._sock.close()

    def recv(self, size_bytes: int) -> bytes:
        """Of what was granted to paho."""
        if self._granted:
            got, self._granted = self._granted[:size_bytes], self._granted[size_bytes:]
            return got
        if self._failure is not None:
            raise self._failure
        if self._has_ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """A packet of paho's."""
        if self.holds_back:
            self._out.append(bytes(data))
            return len(data)
        if not self.flush():
            raise BlockingIOError
        return self._sock.send(data)

    def put(self, packet: bytes) -> None:
        """Send a packet with the next `flush`."""
        self._out.append(packet)

    @property
    def unsent(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._out or self._sending)

    def has_moved_both_ways(self) -> bool:
        """Whether bytes have come and gone since this was asked last."""
        both, self._came, self._went = self._came and self._went, False, False
        return both

    def flush(self) -> bool:
        """Write what the system takes; whether that is all. Raises OSError."""
        out, sending = self._out, self._sending
        while sending or out:
            if not sending:
                sending.extend([out.popleft() for _ in range(min(len(out), _MOST_TOGETHER))])
            try:
                sent = self._write(sending)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            except OSError as error:
                self._failure = error
                raise
            self._went = True
            _drop(sending, sent)
        return True

    def _write(self, sending: list[bytes | memoryview]) -> int:
        if not self._is_tls:
            return self._sock.sendmsg(sending)
        if len(sending) > 1:
            sending[:] = [b"".join(sending)]
        return self._sock.send(sending[0])

    def read(self, room: bytearray) -> bool:
        """Take in what has come, as far as there is room; whether more has that wakes no selector.

        room: some 100 KiB or more, used for as long as this takes.
        """
        kept, view = self._kept, memoryview(room)
        # What has come of a packet goes before the rest of it, unless it is large.
        at = len(kept) if len(kept) <= len(room) // 2 else 0
        try:
            got = self._sock.recv_into(view[at:])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            self._failure = error
            got = 0
        if not got:
            self._has_ended = True
            self._on_others()
            return False
        self._came = True
        if len(kept) == at:
            view[:at] = kept
            data = view[: at + got]
        else:
            kept += view[:got]
            data = memoryview(kept)
        taken = self._take(data)
        if taken or data.obj is not kept:
            self._kept = bytearray(data[taken:])
        return self._is_open and isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def _take(self, data: memoryview) -> int:
        """Pass on all packets that are whole; how many bytes they are."""
        at = passed = 0
        acknowledgements = bytearray()
        while self._is_open and (extent := _extent(data, at)) is not None:
            body, end = extent
            head = data[at]
            kind = head & _WITHOUT_DUP_AND_RETAIN
            if kind in (_PUBLISH_QOS_0, _PUBLISH_QOS_1):
                name = body + 2
                name_end = name + int.from_bytes(data[body:name], "big")
                begin = name_end if kind == _PUBLISH_QOS_0 else name_end + 2
                if name < name_end and begin <= end:
                    self._let_read(data[passed:at])
                    passed = end
                    self._on_message(str(data[name:name_end], "utf-8", "replace"), bytes(data[begin:end]))
                    if kind == _PUBLISH_QOS_1:
                        acknowledgements += b"\x40\x02"
                        acknowledgements += data[name_end:begin]
            elif head == _PUBACK and end - body == _PUBACK_BYTES:
                self._let_read(data[passed:at])
                passed = end
                self._on_acknowledged(int.from_bytes(data[body:end], "big"))
            at = end
        if acknowledgements and self._is_open:
            self._out.append(bytes(acknowledgements))
        self._let_read(data[passed:at])
        return at

    def _let_read(self, packets: memoryview) -> None:
        """Have paho read these; what is malformed is for it to refuse."""
        if packets:
            self._granted = bytes(packets)
            while self._granted and self._is_open:
                self._on_others()


def publication(topic: bytes, payload: bytes, *, retain: bool, packet_id: int | None = None) -> bytes:
    """A packet that publishes, at QoS 1 where there is a packet identifier. Raises ValueError where it is too large."""
    name = len(topic).to_bytes(2, "big") + topic
    if packet_id is None:
        head = _PUBLISH_QOS_0 | retain
    else:
        head = _PUBLISH_QOS_1 | retain
        name += packet_id.to_bytes(2, "big")
    size = len(name) + len(payload)
    if size > _LARGEST_BYTES:
        raise ValueError(f"MQTT carries no message of {len(payload)} bytes")
    start = bytearray((head,))
    while size > 127:
        start.append(size & 127 | 128)
        size >>= 7
    start.append(size)
    return b"".join((start, name, payload))


def once_more(packet: bytes) -> bytes:
    """The same publication, as one that was sent before."""
    return bytes((packet[0] | _DUP,)) + packet[1:]


def _extent(data: memoryview, at: int) -> tuple[int, int] | None:
    """Where the body of the packet begins that begins here, and where it ends; None where that has not come. One whose
    length is none reaches to the end of what is there."""
    end = len(data)
    size = shift = 0
    for place in range(at + 1, min(at + 5, end)):
        byte = data[place]
        size |= (byte & 127) << shift
        if byte < 128:
            body = place + 1
            return (body, body + size) if body + size <= end else None
        shift += 7
    return None if end < at + 5 else (end, end)


def _drop(sending: list[bytes | memoryview], sent: int) -> None:
    """Forget so many bytes."""
    whole = 0
    for each in sending:
        if len(each) > sent:
            break
        sent -= len(each)
        whole += 1
    del sending[:whole]
    if sent:
        sending[0] = memoryview(sending[0])[sent:]
