"""What a job in a process of an engine's tells whoever started it: parcels over a Unix socket, each answered by a byte.

The answer comes when the listener has done with it, so that pacing works across processes too.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from edgebench.errors import EdgebenchError
from edgebench.federated.content import Arrays, Config, Content, ContentError, Head, arrays_in, configs_in, pack, unpack
from edgebench.federated.flower.engine_job import Listener
from edgebench.federated.flower.events import Learned, MetricsSeen, Privacy, RoundSeen

_LENGTH = struct.Struct(">Q")
_ACK = b"\x06"
_LARGEST_BYTES = 1 << 40


class RemoteListener:
    """The listener of a job whose own listener is in another process; when that is gone, this process is killed.

    Flower's processes do end when their parents have, but may take minutes over it.
    """

    def __init__(self, address: Path) -> None:
        self._over = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(address))
        threading.Thread(target=self._watch, name="listener-watch", daemon=True).start()

    def on_round(self, seen: RoundSeen) -> None:
        """A round is over."""
        self._tell("round", {"event": Config({"json": msgspec.json.encode(seen)})})

    def on_metrics(self, seen: MetricsSeen) -> None:
        """An app has made metrics of its last round."""
        self._tell("metrics", {"event": Config({"json": msgspec.json.encode(seen)})})

    def on_model(self, learned: Learned) -> None:
        """There is another model."""
        fields = msgspec.structs.asdict(learned)
        arrays = fields.pop("arrays")
        self._tell("model", {"event": Config({"json": msgspec.json.encode(fields)}), "arrays": Arrays(arrays)})

    def before_round(self, number: int) -> None:
        """A round is about to begin."""
        self._tell("before", {"event": Config({"round": number})})

    def done(self) -> None:
        """The job is over."""
        self._over = True
        self._tell("done", {})

    def failed(self, reason: str) -> None:
        """The job has ended otherwise."""
        self._over = True
        self._tell("failed", {"event": Config({"reason": reason})})

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._socket, getattr(select, "POLLRDHUP", 0) | select.POLLHUP)
        poll.poll()
        if not self._over:
            os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self, kind: str, content: Content) -> None:
        buffers = pack(Head(message_id="", kind=kind), content)
        self._socket.sendall(_LENGTH.pack(sum(map(len, buffers))))
        for buffer in buffers:
            self._socket.sendall(buffer)
        if self._socket.recv(1) != _ACK:
            raise EdgebenchError("nobody listens to this federation any more")


class ListenerServer:
    """The other end: waits for a teller, and hands on what it tells. Use it as a context manager."""

    def __init__(self, address: Path) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(address))
        address.chmod(0o600)
        self._server.listen(1)
        self._connection: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        if self._connection is not None:
            self._connection.close()

    @property
    def has_begun(self) -> bool:
        """Whether there is a teller."""
        return self._connection is not None

    def hear(self, listener: Listener, timeout_s: float) -> bool:
        """Hand on the next thing that is told, if there is one within the time; True where it was the last.

        Raises EdgebenchError where the job has failed, or its process has ended.
        """
        try:
            if self._connection is None:
                self._server.settimeout(timeout_s)
                self._connection, _ = self._server.accept()
            self._connection.settimeout(timeout_s)
            first = self._connection.recv(1)
        except TimeoutError:
            return False
        self._connection.settimeout(None)
        parcel = unpack(self._frame(first))
        over = _hand_on(parcel.head.kind, parcel.content, listener)
        self._connection.sendall(_ACK)
        return over

    def _frame(self, first: bytes) -> memoryview:
        size = _LENGTH.unpack(first + self._exactly(_LENGTH.size - len(first)))[0] if first else 0
        if not 0 < size < _LARGEST_BYTES:
            raise EdgebenchError("the federation's server has ended without a word")
        return memoryview(self._exactly(size))

    def _exactly(self, size: int) -> bytearray:
        assert self._connection is not None
        data = bytearray(size)
        view = memoryview(data)
        at = 0
        while at < size:
            n = self._connection.recv_into(view[at:])
            if n == 0:
                raise EdgebenchError("the federation's server has ended without a word")
            at += n
        return data


def _hand_on(kind: str, content: Content, listener: Listener) -> bool:
    event = configs_in(content)
    if kind == "round":
        listener.on_round(msgspec.json.decode(event["json"], type=RoundSeen))
    elif kind == "metrics":
        listener.on_metrics(msgspec.json.decode(event["json"], type=MetricsSeen))
    elif kind == "model":
        fields = msgspec.json.decode(event["json"])
        privacy = msgspec.convert(fields.pop("privacy"), Privacy | None)
        listener.on_model(Learned(**fields, privacy=privacy, arrays=arrays_in(content)))
    elif kind == "before":
        listener.before_round(event["round"])
    elif kind == "failed":
        raise EdgebenchError(event["reason"])
    elif kind != "done":
        raise ContentError(f"'{kind}' is not what a federation tells")
    return kind == "done"
