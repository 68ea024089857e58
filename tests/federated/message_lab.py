"""A message server and clients, with real HTTP between them, and notices that arrive unless a test says otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from edgebench.fabric.reactor import Reactor
from edgebench.fabric.transfer_threads import TransferThreads
from edgebench.federated.content import Array, Arrays, Bytes, Head, arrays_in, pack, write_parcel
from edgebench.federated.message_client import ContentFiles, MessageClient, Received
from edgebench.federated.message_files import MessageFiles
from edgebench.federated.message_server import MessageServer
from edgebench.federated.requests import Reply, Request
from tests.fabric.cutting import Cutting
from tests.fabric.served_folder import WAIT_S, serving, until

SMALL, LARGE = 100, 500_000


def request(client: str, message_id: str, n_values: int = SMALL, kind: str = "train") -> Request:
    head = Head(message_id=message_id, kind=kind, group="1")
    return Request(client, head, pack(head, {"arrays": arrays(n_values, 1.0)}))


def arrays(n_values: int, value: float) -> Arrays:
    return Arrays({"w": Array.of(np.full(n_values, value, np.float32))})


def answer_to(received: Received, *, value: float = 2.0, error: str | None = None) -> list[Bytes]:
    """A reply as large as the request."""
    parcel = received.parcel()
    head = Head(
        message_id=f"re {parcel.head.message_id}",
        kind=parcel.head.kind,
        reply_to=parcel.head.message_id,
        error=error,
        meta={"received_ns": received.received_ns},
    )
    if error is not None:
        return pack(head, {})
    return pack(head, {"arrays": arrays(arrays_in(parcel.content)["w"].shape[0], value)})


def value_of(reply: Reply) -> float:
    assert reply.parcel is not None, reply.error
    return float(arrays_in(reply.parcel.content)["w"].numpy()[-1])


class Client:
    """A client that answers when the test says so, or by `answers`."""

    def __init__(self, lab: MessageLab, name: str, url: str) -> None:
        self.received: list[Received] = []
        self.cancelled: list[Received] = []
        self.answers: Callable[[Received], Sequence[Bytes]] | None = None
        self.reachable = True
        self.deaf = False
        self.heard = 0
        self.directory = lab.directory / ("all" if lab.transfers else name)
        self.transfers = lab.transfers or TransferThreads(f"of-{name}")
        self.contents = lab.contents or ContentFiles(self.directory)
        self._lab = lab
        self._name = name
        self._url = url
        self.messages = self._made()

    def asked(self, number: int = 0) -> Received:
        """A request, once it is there."""
        until(lambda: len(self.received) > number, f"{self._name} is asked")
        return self.received[number]

    def told(self, times: int) -> None:
        """Wait until the server has told it something so often, whether or not it hears that."""
        until(lambda: self.heard >= times, f"{self._name} is told something {times} times")

    def answer(self, received: Received, reply: Sequence[Bytes] | None = None) -> Path:
        """Answer by a file, which is returned."""
        path = self.directory / f"{len(received.message_id)}-{received.message_id}.reply"
        write_parcel(path, answer_to(received) if reply is None else reply)
        self._lab.soon(partial(self.messages.answer, received, path))
        return path

    def files(self) -> list[str]:
        return sorted(each.name for each in self.directory.iterdir())

    def forget(self) -> None:
        """Go on as a process that has been started again."""
        self._lab.now(self.messages.close)
        self.messages = self._made()

    def close(self) -> None:
        self._lab.now(self.messages.close)
        self.transfers.close()
        self.contents.close()

    def _made(self) -> MessageClient:
        return MessageClient(
            self._lab.reactor,
            self._send,
            self.transfers,
            self._url,
            self.contents,
            on_request=self._asked,
            on_cancelled=self.cancelled.append,
            shares_way=self._lab.transfers is not None,
        )

    def _asked(self, received: Received) -> None:
        self.received.append(received)
        if self.answers is not None:
            self.answer(received, self.answers(received))

    def _send(self, notice: bytes) -> bool:
        if self.reachable:
            self._lab.soon(partial(self._lab.server.feed, self._name, notice))
        return self.reachable


class MessageLab:
    """Clients by name, each with a token of its own, unless they are of one process. url: of the server's HTTP."""

    def __init__(
        self,
        directory: Path,
        url: str,
        files: MessageFiles,
        names: Sequence[str],
        urls: dict[str, str],
        *,
        in_one_process: bool = False,
    ) -> None:
        self.directory = directory
        self.transfers = TransferThreads("of-all") if in_one_process else None
        self.contents = ContentFiles(directory / "all") if in_one_process else None
        self.url = url
        self.files = files
        self.reactor = Reactor()
        self.thread = threading.Thread(target=self.reactor.run, name="reactor")
        self.thread.start()
        self.server = MessageServer(self.reactor, self._send, files, directory / "server")
        self.clients = {name: Client(self, name, urls.get(name, url)) for name in names}
        self.bed = self.clients[names[0]]

    def soon(self, call: Callable[[], None]) -> None:
        self.reactor.call_soon_threadsafe(call)

    def now(self, call: Callable[[], None]) -> None:
        """Make a call in the reactor's thread, and return when it has been made."""
        done = threading.Event()
        self.soon(call)
        self.soon(done.set)
        assert done.wait(WAIT_S)

    def ask(self, client: str = "bed", n_values: int = SMALL, message_id: str | None = None) -> str:
        (sent,) = self.server.submit([request(client, message_id or f"to {client}", n_values)])
        return sent

    def take(self, *message_ids: str) -> list[Reply]:
        self.server.wait(message_ids, WAIT_S)
        return self.server.take(message_ids)

    def reply(self, message_id: str) -> Reply:
        (reply,) = self.take(message_id)
        return reply

    def status(self, client: str, online: bool) -> None:
        self.now(partial(self.server.client_status, client, online))

    def server_files(self) -> list[str]:
        folders = [self.directory / "server", self.directory / "files"]
        return sorted(each.name for folder in folders if folder.exists() for each in folder.iterdir())

    def close(self) -> None:
        for client in self.clients.values():
            client.close()
        self.now(self.server.close)
        self.reactor.stop()
        self.thread.join()
        self.reactor.close()

    def _send(self, name: str, notice: bytes) -> bool:
        client = self.clients[name]
        if client.reachable:
            client.heard += 1
            if not client.deaf:
                self.soon(partial(client.messages.feed, notice))
        return client.reachable


@contextmanager
def message_lab(
    directory: Path, names: Sequence[str] = ("bed", "chair"), *, in_one_process: bool = False, **breaks: int
) -> Iterator[MessageLab]:
    """breaks: of the connections of the first one (see `Cutting`)."""
    files = MessageFiles(directory / "files")
    tokens = {"of-all": list(names), **{f"of-{name}": [name] for name in names}}
    with ExitStack() as stack:
        url = stack.enter_context(serving({"requests": files}, {"replies": files}, tokens))
        urls = {names[0]: stack.enter_context(Cutting(url, **breaks)).url} if breaks else {}
        lab = MessageLab(directory, url, files, names, urls, in_one_process=in_one_process)
        stack.callback(lab.close)
        yield lab
