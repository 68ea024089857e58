"""Serving a restarted app the answers that it had before, from the journal, and keeping those that come after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from flwr.app import Message

from edgebench.errors import EdgebenchError
from edgebench.federated.flower.events import MessageStamps
from edgebench.federated.flower.grid import stamped, stamps_of
from edgebench.federated.flower.journal import Journal, JournalledReply
from edgebench.federated.flower.messages import SERVER_NODE, to_message, to_parcel


class Pushed(msgspec.Struct, frozen=True):
    """A message on its way. request: without its content."""

    ordinal: int
    digest: str
    request: Message


class Script:
    """The journal of this process's life, and of those before it, from which answers come first."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._at = 0
        self._known: dict[int, str] = {}
        if journal is not None:
            for index in range(len(journal)):
                self._known |= {answer.ordinal: answer.digest for answer in journal.read(index)}
        self._end = len(journal) if journal is not None else 0

    @property
    def is_kept(self) -> bool:
        """Whether there is a journal at all."""
        return self._journal is not None

    @property
    def has_more(self) -> bool:
        """Whether there are answers that have not been served yet."""
        return self._at < self._end

    def knows(self, pushed: Pushed) -> bool:
        """Whether there is an answer to this message. Raises EdgebenchError where it was another message."""
        digest = self._known.get(pushed.ordinal)
        if digest is None:
            return False
        if digest != pushed.digest:
            asked, before = pushed.digest.split()[:3], digest.split()[:3]
            what = "other content" if asked == before else f"node, kind and group {asked} and not {before}"
            raise EdgebenchError(
                f"the federation asked something else than before it was started again ({what} in message "
                f"{pushed.ordinal + 1}): its app is not deterministic, and cannot be resumed"
            )
        return True

    def next_of(self, pushed: Sequence[Pushed]) -> list[JournalledReply]:
        """The answers to exactly these messages."""
        assert self._journal is not None
        known = [self.knows(one) for one in pushed]
        answers = self._journal.read(self._at)
        if not all(known) or {answer.ordinal for answer in answers} != {one.ordinal for one in pushed}:
            raise EdgebenchError(
                f"the federation asked something else than before it was started again ({len(pushed)} messages and not "
                f"{len(answers)}): its app is not deterministic, and cannot be resumed"
            )
        self._at += 1
        return answers

    def next_among(self, ordinals: Mapping[int, str]) -> list[JournalledReply] | None:
        """The next answers, if all of them are to these messages."""
        assert self._journal is not None
        answers = self._journal.read(self._at)
        if not all(answer.ordinal in ordinals for answer in answers):
            return None
        self._at += 1
        return answers

    def write(self, pushed: Sequence[Pushed], replies: Sequence[Message]) -> None:
        """Keep live answers."""
        if self._journal is None or not replies:
            return
        answers = []
        for one, reply in zip(pushed, replies, strict=True):
            known = msgspec.structs.asdict(stamps_of(reply)).items()
            stamps = {name: value for name, value in known if value is not None}
            parcel = to_parcel(reply, node=reply.metadata.src_node_id, **stamps)
            answers.append(JournalledReply(one.ordinal, one.digest, parcel))
        self._journal.append(answers)

    def close(self) -> None:
        """All answers are on the disk when this returns; none come after them. Raises OSError where they are not."""
        if self._journal is not None:
            self._journal.close()


def restored(answer: JournalledReply) -> Message:
    """The reply as it came."""
    meta = answer.reply.head.meta
    message = to_message(answer.reply, run_id=int(meta["run_id"]), src=int(meta["node"]), dst=SERVER_NODE)
    message.metadata.__dict__["_reply_to_message_id"] = again(answer.ordinal)
    names = MessageStamps.__struct_fields__
    return stamped(message, msgspec.convert({name: meta[name] for name in names if name in meta}, MessageStamps))


def again(ordinal: int) -> str:
    """The message id of a message that is not sent, for its reply is known."""
    return f"again-{ordinal}"
