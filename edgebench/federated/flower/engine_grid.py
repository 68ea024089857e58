"""The grid of one of Flower's own engines, where node ids are random, as nodes 1, 2, …

The clients of a job (`clients.EngineClient`) tell their place when asked, and add to each reply when they worked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import make_message
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.federated.content import stamps_in
from edgebench.federated.flower.events import MessageStamps
from edgebench.federated.flower.grid import NodeGrid, stamped
from edgebench.federated.flower.messages import SERVER_NODE, between

WHO = "query.edgebench"
"""The kind of message that asks a client for its place."""
RECORD = "edgebench"
"""The record that clients add to their replies, which no app sees."""
PLACE = "partition-id"

_CONNECT_S = 240.0
_POLL_S = 0.2


class EngineGrid(NodeGrid):
    """Wraps an engine's grid; node n is the client with partition-id n − 1."""

    def __init__(self, inner: Grid, engine_ids: Sequence[int]) -> None:
        """engine_ids: of the nodes 1, 2, …"""
        super().__init__(len(engine_ids), inner.run.run_id)
        self._inner = inner
        self._engine_ids = list(engine_ids)
        self._own_id = TaskIdentity.node_id
        self._asked: dict[str, tuple[int, int]] = {}
        """Node, and when it was asked, ns."""

    @classmethod
    def of(cls, inner: Grid, clients: int, *, patience_s: float) -> EngineGrid:
        """Wait until all clients are there, and ask each for its place. Raises EdgebenchError where one is missing."""
        until_s = now_s() + _CONNECT_S
        while len(ids := list(inner.get_node_ids())) < clients:
            if now_s() > until_s:
                raise EdgebenchError(f"{len(ids)} of {clients} clients have come within {_CONNECT_S:g} s")
            sleep_s(_POLL_S)
        asked = [Message(RecordDict(), each, WHO) for each in ids]
        patience_s = max(patience_s, _CONNECT_S)
        replies = list(_polled(inner, list(inner.push_messages(asked)), patience_s=patience_s))
        if len(replies) < clients:
            raise EdgebenchError(f"{len(replies)} of {clients} clients have told their place within {patience_s:g} s")
        places: dict[int, int] = {}
        for reply in replies:
            if reply.has_error():
                raise EdgebenchError(f"a client does not tell its place: {reply.error.reason}")
            record = reply.content[RECORD]
            assert isinstance(record, ConfigRecord)
            place = record[PLACE]
            assert isinstance(place, int)
            places[place] = reply.metadata.src_node_id
        if sorted(places) != list(range(clients)):
            raise EdgebenchError(
                f"{clients} clients have to be at the places 0 to {clients - 1}, not at {sorted(places)}"
            )
        return cls(inner, [places[place] for place in range(clients)])

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send them on their way."""
        messages = list(messages)
        # Copies: an engine in this process keeps what it is given.
        outward = [
            make_message(
                metadata=between(message.metadata, self._own_id, self._engine_ids[self._index(message)]),
                content=message.content,
            )
            for message in messages
        ]
        message_ids = list(self._inner.push_messages(outward))
        if len(message_ids) != len(messages):
            raise EdgebenchError("the engine does not take the messages of a round: they are too large for it")
        for message, message_id in zip(messages, message_ids, strict=True):
            message.metadata.__dict__["_message_id"] = message_id
        sent_ns = now_ns()
        nodes = [message.metadata.dst_node_id for message in messages]
        self._asked |= {each: (node, sent_ns) for each, node in zip(message_ids, nodes, strict=True)}
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that have come."""
        return [self._numbered(reply) for reply in self._inner.pull_messages(list(message_ids))]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """The replies that come within `timeout` s."""
        # Not the engine's own, which looks for replies every 3 s only.
        message_ids = self.push_messages(messages)
        # Each is stamped as it comes, and not when the last one has come.
        replies = [self._numbered(reply) for reply in _polled(self._inner, message_ids, patience_s=timeout)]
        for each in message_ids:  # nobody asks for those without a reply any more
            self._asked.pop(each, None)
        return replies

    def _numbered(self, reply: Message) -> Message:
        about = reply.metadata
        # The engine itself answers for a node that is away, or a message that is too old.
        node, sent_ns = self._asked.pop(about.reply_to_message_id, (about.src_node_id, None))
        about.__dict__["_src_node_id"] = node
        about.dst_node_id = SERVER_NODE
        tagged: Mapping[str, Any] = {}
        if reply.has_content() and RECORD in reply.content:
            tagged = reply.content.config_records.get(RECORD, {})
            records = {name: record for name, record in reply.content.items() if name != RECORD}
            reply = make_message(metadata=about, content=RecordDict(records))
        stamps = MessageStamps(
            sent_ns=sent_ns,
            arrived_ns=now_ns(),
            **stamps_in(tagged),
        )
        return stamped(reply, stamps)


def _polled(grid: Grid, message_ids: Sequence[str], *, patience_s: float | None) -> Iterator[Message]:
    """The replies as they come, until all are there or the time is over."""
    waiting = set(message_ids)
    until_s = None if patience_s is None else now_s() + patience_s
    while waiting and (until_s is None or now_s() < until_s):
        found = list(grid.pull_messages(waiting))
        yield from found
        waiting -= {reply.metadata.reply_to_message_id for reply in found}
        if not found:
            sleep_s(_POLL_S)
