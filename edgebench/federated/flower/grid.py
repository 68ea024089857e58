"""Flower's `Grid` over the messages of a run, and over functions in this process."""

from __future__ import annotations

import itertools
import math
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import msgspec
from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.federated.content import Bytes, ContentError, Parcel, pack, stamps_in
from edgebench.federated.flower.events import MessageStamps
from edgebench.federated.flower.messages import (
    SERVER_NODE,
    chosen_ttl_s,
    error_reply,
    head_of,
    to_content,
    to_message,
    to_parcel,
)
from edgebench.federated.requests import Reply, Request

_STAMPS = "_edgebench_stamps"
_TASK_ID = 1
_POLL_S = 0.05
_PARTS_OF_REST = 16
"""In so many parts, at the most, the replies that lack are awaited: to look for each alone takes long where there are
many."""


class Carrier(Protocol):
    """What a `MessageGrid` needs of a `MessageServer`."""

    def submit(self, requests: Sequence[Request]) -> list[str]:
        """Take requests, and return their message ids."""

    def wait(self, message_ids: Collection[str], timeout_s: float, *, enough: int | None = None) -> None:
        """Until all of them have ended, or `enough` of them, or the time is over."""

    def take(self, message_ids: Collection[str]) -> list[Reply]:
        """What became of those that have ended; each one once."""

    def give_up(self, message_ids: Collection[str], reason: str) -> list[Reply]:
        """Wait for these no more. What has gone and come for each that has not been taken."""


@contextmanager
def identity(run_id: int, node_id: int) -> Iterator[None]:
    """Who this process is while it makes messages: Flower keeps it in variables of a class."""
    kept = {name: getattr(TaskIdentity, f"_{name}") for name in ("run_id", "node_id", "task_id")}
    TaskIdentity.run_id, TaskIdentity.node_id = run_id, node_id
    TaskIdentity.task_id = _TASK_ID if kept["task_id"] is None else kept["task_id"]
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(TaskIdentity, name, value)


def stamps_of(message: Message) -> MessageStamps:
    """The way that a reply and its request have come."""
    stamps = message.metadata.__dict__.get(_STAMPS)
    return stamps if isinstance(stamps, MessageStamps) else MessageStamps()


def stamped(message: Message, stamps: MessageStamps) -> Message:
    """The reply, with the way that it has come."""
    # What stands for a reply that is refused has its metadata, and has come the same way.
    message.metadata.__dict__[_STAMPS] = stamps
    return message


class NodeGrid(Grid):
    """What all grids here have in common: the nodes 1, 2, …, and messages without a SuperLink."""

    def __init__(self, nodes: int, run_id: int) -> None:
        self._nodes = list(range(1, nodes + 1))
        self._run = Run.create_empty(run_id)

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All nodes, whether they can be reached or not: an absence is a failure, and no cohort depends on it."""
        return list(self._nodes)

    def wait_any(self, message_ids: Sequence[str], timeout_s: float) -> None:
        """Until one of the replies may have come, or the time is over; at most."""
        del message_ids
        sleep_s(min(timeout_s, _POLL_S))

    def _index(self, message: Message) -> int:
        node = message.metadata.dst_node_id
        if not 1 <= node <= len(self._nodes):
            raise ValueError(f"there is no node {node}: nodes are 1 to {len(self._nodes)}")
        return node - 1


class _Asked(NamedTuple):
    """A message that waits for its reply. request: without its content. patience_s: for how long, until `until_s`."""

    request: Message
    patience_s: float
    until_s: float


class MessageGrid(NodeGrid):
    """Nodes that get messages over the network. clients: their names, in the order of their node ids.

    before_asking(timeout_s): may wait until there is anybody to ask.
    """

    def __init__(
        self,
        server: Carrier,
        clients: Sequence[str],
        *,
        run_id: int,
        deadline_s: float,
        before_asking: Callable[[float], None] = lambda _timeout_s: None,
    ) -> None:
        super().__init__(len(clients), run_id)
        self._before_asking = before_asking
        self._server = server
        self._clients = list(clients)
        self._deadline_s = deadline_s
        # Late replies to the requests of an earlier process must not be taken for replies to ours.
        self._prefix = secrets.token_hex(4)
        self._count = itertools.count(1)
        self._asked: dict[str, _Asked] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send them on their way. What goes to many is converted once."""
        return self._pushed(messages, self._deadline_s)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that have come, and an error for each that has failed, or is later than the deadline or than its
        message lives."""
        wanted = [message_id for message_id in message_ids if message_id in self._asked]
        replies = self._messages(self._server.take(wanted))
        now = now_s()
        late: dict[float, list[str]] = {}
        for each in wanted:
            if each in self._asked and now >= self._asked[each].until_s:
                late.setdefault(self._asked[each].patience_s, []).append(each)
        for patience_s, those in late.items():
            replies += self._messages(self._server.give_up(those, f"no reply within {patience_s:g} s"))
        return sorted(replies, key=_by_node)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One reply for each message, by node id; an error stands for each that failed or is late: than `timeout` s, or
        than its message lives."""
        timeout_s = self._deadline_s if timeout is None else timeout
        self._before_asking(timeout_s)
        lacking = self._pushed(messages, timeout_s)
        replies: list[Message] = []
        while lacking:
            left_s = min(self._asked[each].until_s for each in lacking) - now_s()
            if left_s > 0:
                self._server.wait(lacking, left_s, enough=math.ceil(len(lacking) / _PARTS_OF_REST))
            replies += self.pull_messages(lacking)  # while others learn
            lacking = [each for each in lacking if each in self._asked]
        return sorted(replies, key=_by_node)

    def wait_any(self, message_ids: Sequence[str], timeout_s: float) -> None:
        """Until one of the replies has come, or the time is over."""
        self._server.wait(message_ids, timeout_s, enough=1)

    def _pushed(self, messages: Iterable[Message], longest_s: float) -> list[str]:
        """Send them on their way; a reply is late after so much time, or less where its message lives less long."""
        now = now_s()
        packed: dict[int, tuple[RecordDict, list[Bytes]]] = {}
        requests = []
        for message in messages:
            client = self._clients[self._index(message)]
            message.metadata.__dict__["_message_id"] = f"{self._prefix}-{next(self._count)}"
            head = head_of(message, node=message.metadata.dst_node_id)
            if id(message.content) not in packed:
                packed[id(message.content)] = message.content, pack(head, to_content(message.content))
            requests.append(Request(client, head, packed[id(message.content)][1]))
            life_s = chosen_ttl_s(message)
            patience_s = longest_s if life_s is None else min(longest_s, life_s)
            asked = _Asked(remove_content_from_message(message), patience_s, now + patience_s)
            self._asked[head.message_id] = asked
        return self._server.submit(requests)

    def _messages(self, replies: list[Reply]) -> list[Message]:
        """Of each of these replies, which are let go one by one: a message is a copy."""
        messages = []
        while replies:
            messages.append(self._message(replies.pop()))
        return messages

    def _message(self, reply: Reply) -> Message:
        request = self._asked.pop(reply.message_id).request
        stamps = MessageStamps(
            sent_ns=reply.submitted_ns,
            delivered_ns=reply.delivered_ns,
            arrived_ns=reply.received_ns,
            bytes_down=reply.down_bytes,
            bytes_up=reply.up_bytes,
        )
        if reply.parcel is None:
            return stamped(error_reply(request, ErrorCode.NODE_UNAVAILABLE, reply.error or "no reply"), stamps)
        return received(reply.parcel, request, stamps)


class LocalGrid(NodeGrid):
    """Nodes that are functions of this process, called one after another: what a federation costs without a network."""

    def __init__(self, nodes: Sequence[Callable[[Parcel], Parcel]], *, run_id: int) -> None:
        super().__init__(len(nodes), run_id)
        self._answer = list(nodes)
        self._lock = threading.Lock()
        self._count = itertools.count(1)
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Have them answered."""
        message_ids = []
        for message in messages:
            answer = self._answer[self._index(message)]
            message.metadata.__dict__["_message_id"] = message_id = str(next(self._count))
            request = to_parcel(message, node=message.metadata.dst_node_id)
            with self._lock:
                sent_ns = now_ns()
                reply = answer(request)
            stamps = MessageStamps(sent_ns=sent_ns, arrived_ns=now_ns(), bytes_down=0, bytes_up=0)
            self._replies[message_id] = received(reply, remove_content_from_message(message), stamps)
            message_ids.append(message_id)
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Their replies."""
        found = [self._replies.pop(message_id) for message_id in message_ids if message_id in self._replies]
        return sorted(found, key=_by_node)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One reply for each message, by node id."""
        del timeout  # an answer is there as soon as its request
        return self.pull_messages(self.push_messages(messages))


def received(parcel: Parcel, request: Message, stamps: MessageStamps) -> Message:
    """The reply in a parcel, or an error that says why it is none."""
    stamps = msgspec.structs.replace(stamps, **stamps_in(parcel.head.meta))
    try:
        if parcel.head.reply_to != request.metadata.message_id:
            raise ContentError(f"a reply to '{parcel.head.reply_to}', not to '{request.metadata.message_id}'")
        about = request.metadata
        message = to_message(parcel, run_id=about.run_id, src=about.dst_node_id, dst=SERVER_NODE)
    except ContentError as error:
        message = error_reply(request, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, str(error))
    return stamped(message, stamps)


def _by_node(message: Message) -> int:
    return message.metadata.src_node_id
