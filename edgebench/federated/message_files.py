"""What federated messages carry, at their server: contents to be fetched, and replies as they come in, by message.

It stands where the clients' HTTP arrives: in the cloud's control plane, and in an edge that aggregates.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from edgebench.clock import now_ns
from edgebench.fabric.shelves import LARGEST_BYTES, Offered, Refusal, Staged, Upload, arriving
from edgebench.federated.content import IN_MEMORY_BYTES

_ENDED_KEPT = 10_000
"""Messages that have ended, kept to know late replies from those to nothing."""
_BETWEEN = ","
_MOST_TOGETHER = 256
_ENDED = frozenset({404, 410})
_Kept = TypeVar("_Kept")


class Announcement(msgspec.Struct, frozen=True):
    """A message to a node, whose content is in a file: its SHA-256, and its size."""

    message_id: str
    node: str
    path: str
    digest: str
    size_bytes: int


class Carried(msgspec.Struct, frozen=True):
    """Payload bytes of a message that were sent, and of its reply that came, those of resumed transfers that went twice
    included."""

    down_bytes: int = 0
    up_bytes: int = 0


class HandedIn(msgspec.Struct, frozen=True):
    """Replies that have come together, or one, as a file that is the receiver's to delete; and when, on this machine's
    clock. carried: by message, what has gone and come for it."""

    path: str
    at_ns: int
    carried: dict[str, Carried]


class Announcer(Protocol):
    """Whose messages they are; told from any thread."""

    def handed_in(self, replies: HandedIn) -> None:
        """Messages have got their replies."""

    def too_late(self, message_id: str) -> None:
        """A reply, or the beginning of one, came after its message was withdrawn; told once."""


def replies_name(message_ids: Sequence[str]) -> str:
    """The name under which replies are handed in together, in this order, or one."""
    return _BETWEEN.join(message_ids)


class _Coming:
    """Replies on their way in, by one upload. wanted: those of the messages that are open."""

    def __init__(self, message_ids: Sequence[str], wanted: set[str], upload: Upload) -> None:
        self.upload = upload
        self._wanted = wanted
        self._message_ids = message_ids

    def up_bytes(self, message_id: str) -> int:
        """A message's part of what has come."""
        at, count, carried = self._message_ids.index(message_id), len(self._message_ids), self.upload.carried_bytes
        return carried * (at + 1) // count - carried * at // count

    def withdraw(self, message_id: str) -> None:
        """One of them is not wanted any more."""
        self._wanted.discard(message_id)
        if not self._wanted:
            self.upload.discard(over=True)


class _Open:
    """A message without an end. body: its content, where that is small. coming: by the name of an upload."""

    def __init__(self, about: Announcement, body: bytes | None, announcer: Announcer) -> None:
        self.about = about
        self.body = body
        self.announcer = announcer
        self.down_bytes = 0
        self.coming: dict[str, _Coming] = {}

    @property
    def carried(self) -> Carried:
        message_id = self.about.message_id
        return Carried(self.down_bytes, sum(coming.up_bytes(message_id) for coming in self.coming.values()))

    def sent(self, size_bytes: int) -> None:
        self.down_bytes += size_bytes


class MessageFiles:
    """For the server of messages `announce` and `withdraw`, from any thread; for HTTP, from one thread, a shelf of
    contents and one of replies, both by message. Replies may come together, under the names of all.

    unexpected: replies to nothing.
    """

    def __init__(self, directory: Path) -> None:
        """directory: for replies as they come in; made with the first message."""
        self.unexpected = 0
        self._directory = directory
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._answered: dict[str, str] = {}
        self._withdrawn: dict[str, tuple[Announcer, bool]] = {}

    def announce(self, announcements: Sequence[Announcement], announcer: Announcer) -> None:
        """From now on the contents can be fetched. Raises OSError where one of the files cannot be read."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        bodies: dict[str, bytes | None] = {}
        for each in announcements:
            if each.path not in bodies:
                small = each.size_bytes <= IN_MEMORY_BYTES
                bodies[each.path] = Path(each.path).read_bytes() if small else None
        with self._lock:
            for each in announcements:
                self._open[each.message_id] = _Open(each, bodies[each.path], announcer)

    def withdraw(self, message_ids: Iterable[str]) -> dict[str, Carried]:
        """Nothing more is fetched or handed in for these messages. What has gone and come for those that are open."""
        carried = {}
        with self._lock:
            for message_id in message_ids:
                message = self._open.pop(message_id, None)
                if message is None:
                    continue
                carried[message_id] = message.carried
                for coming in message.coming.values():
                    coming.withdraw(message_id)
                _remember(self._withdrawn, message_id, (message.announcer, False))
        return carried

    def withdraw_all(self, announcer: Announcer) -> None:
        """Withdraw what is left of somebody who has ended."""
        with self._lock:
            left = [message_id for message_id, each in self._open.items() if each.announcer is announcer]
        self.withdraw(left)

    def find(self, nodes: Collection[str], name: str) -> Offered:
        """See `Downloads`: the content of a message, for the node that it is announced to."""
        with self._lock:
            message = self._of(nodes, name)
        about = message.about
        return Offered(Path(about.path), about.size_bytes, about.digest, message.body, message.sent)

    async def expect(self, nodes: Collection[str], name: str, digest: str, size_bytes: int) -> Upload | Staged:
        """See `Uploads`: the replies to messages, from nodes that were asked."""
        if size_bytes > LARGEST_BYTES:
            raise Refusal(413, f"a reply has {LARGEST_BYTES:,} bytes at most")
        message_ids = name.split(_BETWEEN)
        if len(set(message_ids)) < len(message_ids) or len(message_ids) > _MOST_TOGETHER:
            raise Refusal(400, "no names of messages")
        with self._lock:
            if all(self._answered.get(each) == digest for each in message_ids):
                return Staged(size_bytes, kept=True)
            messages = self._all_of(nodes, message_ids)
            known = messages[0].coming.get(name)
            uploads = {} if known is None else {name: known.upload}
            upload = arriving(uploads, name, self._directory / f"{secrets.token_hex(12)}.reply", digest, size_bytes)
            if known is None or known.upload is not upload:
                coming = _Coming(message_ids, {message.about.message_id for message in messages}, upload)
                for message in messages:
                    message.coming[name] = coming
            return upload

    def keep(self, _nodes: Collection[str], name: str, upload: Upload) -> None:
        """See `Uploads`."""
        carried = {}
        announcer = None
        with self._lock:
            for message_id in name.split(_BETWEEN):
                message = self._open.pop(message_id, None)
                if message is None:  # withdrawn meanwhile
                    self._note_late(message_id)
                    continue
                announcer, carried[message_id] = message.announcer, message.carried
                _remember(self._answered, message_id, upload.digest)
                for other, coming in message.coming.items():
                    if other != name:
                        coming.withdraw(message_id)
        if announcer is None:
            upload.discard()
            raise Refusal(410, "its message was withdrawn")
        announcer.handed_in(HandedIn(str(upload.partial), now_ns(), carried))

    def _all_of(self, nodes: Collection[str], message_ids: Sequence[str]) -> list[_Open]:
        """Those of these messages that are open, one at least. Raises Refusal."""
        found: list[_Open] = []
        refusal: Refusal | None = None
        for message_id in message_ids:
            try:
                found.append(self._of(nodes, message_id, is_reply=True))
            except Refusal as refused:
                if refused.status not in _ENDED:
                    raise
                refusal = refused
        if refusal is not None and not found:
            raise refusal
        if any(message.announcer is not found[0].announcer for message in found):
            raise Refusal(400, "replies to several servers")
        return found

    def _of(self, nodes: Collection[str], message_id: str, *, is_reply: bool = False) -> _Open:
        message = self._open.get(message_id)
        if message is not None:
            if message.about.node not in nodes:
                raise Refusal(403, f"message {message_id[:80]} is not to a node of this token")
            return message
        if message_id in self._answered:
            raise Refusal(410, "its message has its reply")
        if message_id in self._withdrawn:
            if is_reply:
                self._note_late(message_id)
            raise Refusal(410, "its message was withdrawn")
        self.unexpected += is_reply
        raise Refusal(404, f"there is no message {message_id[:80]}")

    def _note_late(self, message_id: str) -> None:
        announcer, told = self._withdrawn.get(message_id, (None, True))
        if announcer is not None and not told:
            self._withdrawn[message_id] = (announcer, True)
            announcer.too_late(message_id)


def _remember(kept: dict[str, _Kept], message_id: str, what: _Kept) -> None:
    kept[message_id] = what
    if len(kept) > _ENDED_KEPT:
        del kept[next(iter(kept))]
