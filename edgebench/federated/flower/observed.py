"""The grid that every app gets, whatever engine is below: it makes runs repeatable, and tells what goes on.

- Chance: the process's generators are seeded before a cohort is drawn and before replies are aggregated, from the run's
  seed and the number of exchanges so far. Flower draws cohorts and noise from them.
- Order: replies are sorted by node id, so that sums do not depend on who was faster.
- Checks: what a guard refuses reaches the app as an error. With too few good replies it gets errors only, and Flower
  then keeps the model it has.
- Figures: a `RoundSeen` for each round, and a `MetricsSeen` for what an app makes of it.
- Resume: with a journal, answers are kept, and served again after a restart (see `journal`).
"""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from numbers import Real
from typing import Any

import msgspec
from flwr.app import Message, Metadata, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore.run import Run

from edgebench.clock import now_ns, now_s
from edgebench.errors import EdgebenchError
from edgebench.federated.content import RAW, Array, Arrays, Content, Parcel, arrays_in
from edgebench.federated.flower.events import MetricsKind, MetricsSeen, Outcome, RoundSeen
from edgebench.federated.flower.grid import NodeGrid, stamps_of
from edgebench.federated.flower.journal import Journal, digest_of
from edgebench.federated.flower.messages import chosen_ttl_s, error_reply, refused, to_content, to_parcel
from edgebench.federated.flower.replay import Pushed, Script, again, restored
from edgebench.federated.reply_checks import EXAMPLES, not_finite, overstated
from edgebench.seeds import seed_everything

Check = Callable[[Mapping[str, Array], Sequence[Parcel]], Mapping[int, str]]
"""(arrays that were sent, replies with content) -> index of a reply that must not be aggregated: why."""

_TRAIN = "train"
_MOST_EXAMPLES = 2**53
"""Beyond it a float is no count any more."""
_LARGE_BYTES = 1 << 24
_FLOWERS_TIMEOUT_S = signature(Strategy.start).parameters["timeout"].default
"""What an app asks for that names none."""
_IDLE_CALLS = 20
"""Flower's strategies ask once a second whether there are enough nodes."""


class _Open(msgspec.Struct):
    """A round whose replies do not come all at once, and what has come of it."""

    number: int
    kind: str
    group: str
    started_ns: int
    replayed: bool
    waiting: dict[str, int]
    outcomes: list[Outcome]


class ObservedGrid(Grid):
    """Wraps any grid of nodes 1, 2, …

    deadline_s: so long a round waits, or less, where its app asks for that, by a timeout or by the ttl of its messages.
    min_replies: of a training round. check: the guard of training rounds. most_examples: by node id, how many examples
    a client has; who claims more is refused. one_by_one: the app asks each client in a thread of its own, as Flower's
    deprecated strategies do; what it asks with one kind and group is one round. refusal: of an app that asks for more
    than it gets, which one in threads takes for the failure of a client.
    """

    one_by_one = False

    def __init__(
        self,
        inner: NodeGrid,
        *,
        seed: int,
        deadline_s: float,
        min_replies: int = 1,
        check: Check | None = None,
        on_round: Callable[[RoundSeen], None] = lambda _seen: None,
        on_metrics: Callable[[MetricsSeen], None] = lambda _seen: None,
    ) -> None:
        self._inner = inner
        self._seed = seed
        self._deadline_s = deadline_s
        self.min_replies = min_replies
        self.check = check
        self.most_examples: Mapping[int, int] = {}
        self._on_round = on_round
        self._on_metrics = on_metrics
        self._lock = threading.Lock()
        self._exchanges = 0
        self._drawn = -1
        self._idle_calls = 0
        self._idle_since_s = 0.0
        self._rounds: dict[str, int] = {}
        self._ordinal = 0
        self._pushed: dict[str, Pushed] = {}
        self._open: list[_Open] = []
        self._script = Script(None)
        self.refusal: EdgebenchError | None = None
        self.seed_anew()

    def seed_anew(self) -> None:
        """Begin chance anew, for what happens until the next exchange."""
        self._seed_for("exchange")

    def resume(self, journal: Journal) -> None:
        """Serve the answers in the journal first, and add to it those that come after them. Before anything is sent."""
        self._script = Script(journal)

    @property
    def replaying(self) -> bool:
        """Whether the app is still being served answers that it had before a restart."""
        return self._script.has_more

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._inner.set_run(run)

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node."""
        return self._inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> list[int]:
        """All nodes. Whoever asks is about to draw from them, so chance begins anew.

        Raises EdgebenchError where an app does nothing but ask: it waits for more nodes than will ever be there.
        """
        if self._drawn != self._exchanges:
            self._drawn = self._exchanges
            self._idle_calls, self._idle_since_s = 0, now_s()
            self._seed_for("cohort")
        nodes = sorted(self._inner.get_node_ids())
        self._idle_calls += 1
        waits = self._idle_calls > _IDLE_CALLS and now_s() > self._idle_since_s + self._deadline_s
        if waits and not self._pushed and not self.one_by_one:
            raise EdgebenchError(f"the app waits for more clients than there are: {len(nodes)} (see its min_*_nodes)")
        return nodes

    def get_nodes(self) -> list[NodeInfo]:
        """All nodes, with what else is known of them."""
        infos = {info.node_id: info for info in self._inner.get_nodes()}
        return [infos[node] for node in self.get_node_ids()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send them on their way; together they are a round."""
        messages = list(messages)
        if not messages:
            return []
        self._patience_s(None, messages)
        opened = self._opened(messages[0].metadata)
        message_ids = self.send(messages, group=str(opened.number))
        nodes = [message.metadata.dst_node_id for message in messages]
        opened.waiting |= zip(message_ids, nodes, strict=True)
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that have come."""
        replies = self.receive(list(message_ids))
        for reply in replies:
            self._note(reply)
        return replies

    def send(self, messages: Sequence[Message], *, group: str) -> list[str]:
        """As `push_messages`, but no round of its own: for an app that tells of its rounds itself."""
        self._exchanges += 1
        pushed = self._prepared(messages, group)
        live = [message for message, one in zip(messages, pushed, strict=True) if not self._script.knows(one)]
        live_ids = iter(self._inner.push_messages(live) if live else [])
        message_ids = [again(one.ordinal) if self._script.knows(one) else next(live_ids) for one in pushed]
        self._pushed |= zip(message_ids, pushed, strict=True)
        return message_ids

    def receive(self, message_ids: Sequence[str]) -> list[Message]:
        """As `pull_messages`, but no round of its own."""
        if self.replaying:
            asked = {self._pushed[each].ordinal: each for each in message_ids if each in self._pushed}
            replies = self._script.next_among(asked)
            if replies is None:
                return []
            for message_id in [asked[answer.ordinal] for answer in replies]:
                del self._pushed[message_id]
            messages = [restored(answer) for answer in replies]
        else:
            messages = sorted(self._inner.pull_messages(message_ids), key=_by_node)
            pushed = [self._pushed.pop(message.metadata.reply_to_message_id) for message in messages]
            self._script.write(pushed, messages)
        if messages:
            self._exchanges += 1
            self.seed_anew()
        return self._believed(messages)

    def wait_any(self, message_ids: Sequence[str], timeout_s: float) -> None:
        """Until one of the replies has come, or the time is over; at most."""
        self._inner.wait_any(message_ids, timeout_s)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One reply for each message, by node id; an error stands for one that failed, is late or was refused."""
        messages = list(messages)
        timeout_s = self._patience_s(timeout, messages)
        with self._lock:
            self._exchanges += 1
            if not messages:
                return []
            opened = self._opened(messages[0].metadata)
            pushed = self._prepared(messages, str(opened.number))
        sent = to_content(messages[0].content)
        if sum(len(array.data) for array in arrays_in(sent).values()) >= _LARGE_BYTES:
            # A record of Flower's that has been read refers to itself: else the replies of the last rounds would stay
            # in memory until so many small things have been made that Python looks for such.
            gc.collect()
        replies = self._believed(self._exchanged(messages, pushed, timeout_s))
        del messages
        with self._lock:
            skipped = None
            if opened.kind.partition(".")[0] == _TRAIN:
                replies = self._checked(sent, replies)
                skipped = None if self.one_by_one else self._too_few(replies)
            opened.outcomes += map(self._outcome, replies)
            if not self.one_by_one:
                self._close(opened, skipped)
            self.seed_anew()
        if skipped is not None:
            replies = [reply if reply.has_error() else refused(reply, skipped) for reply in replies]
        return replies

    def _patience_s(self, asked_s: float | None, messages: Sequence[Message]) -> float:
        """How long a round of these messages waits: for none longer than it lives.

        Raises EdgebenchError where the app asks for more than it gets.
        """
        timeout_s = None if asked_s == _FLOWERS_TIMEOUT_S else asked_s
        longest_s = max((self._wanted_s(timeout_s, message) for message in messages), default=self._deadline_s)
        if longest_s > self._deadline_s:
            self.refusal = EdgebenchError(
                f"the app waits {longest_s:g} s for the replies of a round, longer than a round may take: "
                f"{self._deadline_s:g} s (set deadline_s: {longest_s:g} in the topology, or another timeout, "
                "round_timeout or ttl in the app)"
            )
            raise self.refusal
        if not self.one_by_one:  # of several threads each would take back what another was told
            self.refusal = None
        return longest_s

    def _wanted_s(self, timeout_s: float | None, message: Message) -> float:
        wanted_s = [each for each in (timeout_s, chosen_ttl_s(message)) if each is not None]
        return min(wanted_s, default=self._deadline_s)

    def tell(self, seen: RoundSeen) -> None:
        """Tell of a round."""
        self._on_round(seen)

    def tell_metrics(self, kind: MetricsKind, metrics: Mapping[str, Any]) -> None:
        """Tell of what the app makes of the last round of this kind. What is no number, or several, is left out."""
        numbers = {
            str(name): float(value) if math.isfinite(value) else None
            for name, value in metrics.items()
            if isinstance(value, Real)
        }
        last = self._rounds.get(_TRAIN if kind == "server" else kind, 0)
        self._on_metrics(MetricsSeen(kind=kind, round=last, metrics=numbers))

    def _exchanged(self, messages: Sequence[Message], pushed: Sequence[Pushed], timeout_s: float) -> list[Message]:
        if self.replaying:
            return sorted(map(restored, self._script.next_of(pushed)), key=_by_node)
        replies = {
            reply.metadata.reply_to_message_id: reply
            for reply in self._inner.send_and_receive(messages, timeout=timeout_s)
        }
        late = f"no reply within {timeout_s:g} s"
        answered = [
            replies.get(one.request.metadata.message_id) or error_reply(one.request, ErrorCode.NODE_UNAVAILABLE, late)
            for one in pushed
        ]
        self._script.write(pushed, answered)
        return sorted(answered, key=_by_node)

    def _prepared(self, messages: Sequence[Message], group: str) -> list[Pushed]:
        """Number them for the journal; those without a group get this one, on which their clients' chance depends."""
        digests: dict[int, str] = {}
        pushed = []
        for message in messages:
            about = message.metadata
            about.group_id = about.group_id or group
            key = id(message.content)
            if self._script.is_kept and key not in digests:
                digests[key] = digest_of(to_content(message.content))
            digest = f"{about.dst_node_id} {about.message_type} {about.group_id} {digests.get(key, '')}"
            if self._script.has_more:
                about.__dict__["_message_id"] = again(self._ordinal)
            pushed.append(Pushed(self._ordinal, digest, remove_content_from_message(message)))
            self._ordinal += 1
        return pushed

    def _believed(self, replies: Sequence[Message]) -> list[Message]:
        """The replies, those that claim more examples than their client has as errors."""
        believed = []
        for reply in replies:
            reason = overstated(_examples(reply), self.most_examples.get(reply.metadata.src_node_id))
            believed.append(reply if reason is None else refused(reply, reason))
        return believed

    def _checked(self, sent: Content, replies: list[Message]) -> list[Message]:
        """The replies, those that the guard refuses as errors."""
        if self.check is None:
            return replies
        good = [index for index, reply in enumerate(replies) if reply.has_content()]
        reasons = self.check(arrays_in(sent), [to_parcel(replies[index]) for index in good])
        for place, reason in reasons.items():
            replies[good[place]] = refused(replies[good[place]], reason)
        return replies

    def _too_few(self, replies: Sequence[Message]) -> str | None:
        good = sum(reply.has_content() for reply in replies)
        if good >= self.min_replies:
            return None
        return f"{good} of {len(replies)} replies are good, {self.min_replies} needed"

    def _note(self, reply: Message) -> None:
        """A reply to a pushed message has come; with the last one its round is over."""
        message_id = reply.metadata.reply_to_message_id
        for opened in self._open:
            if opened.waiting.pop(message_id, None) is not None:
                opened.outcomes.append(self._outcome(reply))
                if not opened.waiting:
                    self._close(opened)
                return

    def finish(self) -> None:
        """The app has ended: tell of the rounds whose replies it did not all ask for. What is kept is on the disk."""
        try:
            self._tell_unread()
        finally:
            self._script.close()

    def _tell_unread(self) -> None:
        unread = {message_id: node for opened in self._open for message_id, node in opened.waiting.items()}
        live = [] if self.replaying else [each for each in unread if not self._script.knows(self._pushed[each])]
        # They are nobody's any more, but those that have come have travelled, and may be errors.
        come = {reply.metadata.reply_to_message_id: reply for reply in self._inner.pull_messages(live)} if live else {}
        for opened in list(self._open):
            for message_id, node in opened.waiting.items():
                outcome = self._outcome(come[message_id]) if message_id in come else Outcome(node=node)
                opened.outcomes.append(msgspec.structs.replace(outcome, unread=True))
            self._close(opened)

    def _opened(self, about: Metadata) -> _Open:
        """The round of a message: one that is open already, or a new one."""
        kind, group = about.message_type, about.group_id
        if self.one_by_one:
            for opened in list(self._open):
                if (opened.kind, opened.group) == (kind, group):
                    return opened
                self._close(opened)
        self._rounds[kind] = self._rounds.get(kind, 0) + 1
        opened = _Open(self._rounds[kind], kind, group, now_ns(), self.replaying, {}, [])
        self._open.append(opened)
        return opened

    def _close(self, opened: _Open, skipped: str | None = None) -> None:
        self._open.remove(opened)
        trained = opened.kind.partition(".")[0] == _TRAIN
        failed = sum(outcome.error is not None for outcome in opened.outcomes)
        if trained and skipped is None and failed and failed == len(opened.outcomes):
            skipped = f"none of {failed} replies is good"
        self.tell(
            RoundSeen(
                round=opened.number,
                kind=opened.kind,
                started_ns=opened.started_ns,
                ended_ns=now_ns(),
                outcomes=tuple(sorted(opened.outcomes, key=lambda outcome: outcome.node)),
                skipped=skipped,
                replayed=opened.replayed,
            )
        )

    def _outcome(self, reply: Message) -> Outcome:
        """What a reply says of its client. An app of the user's own gets every reply as it is; one whose arrays are not
        finite is a failure all the same."""
        outcome = outcome_of(reply)
        if self.check is not None or not reply.has_content():
            return outcome
        plain = {name: array for name, array in arrays_in(to_content(reply.content)).items() if array.kind == RAW}
        return msgspec.structs.replace(outcome, error=not_finite({"arrays": Arrays(plain)}))

    def _seed_for(self, purpose: str) -> None:
        seed_everything(self._seed, purpose, self._exchanges)


def outcome_of(reply: Message, staleness: int = 0) -> Outcome:
    """What a reply says of its client."""
    error = (reply.error.reason or f"error {reply.error.code}") if reply.has_error() else None
    examples = _examples(reply)
    is_count = isinstance(examples, int | float) and math.isfinite(examples) and abs(examples) <= _MOST_EXAMPLES
    return Outcome(
        node=reply.metadata.src_node_id,
        error=error,
        examples=examples if is_count else None,
        staleness=staleness,
        stamps=stamps_of(reply),
    )


def _examples(reply: Message) -> int | float | None:
    """How many examples a reply claims, whatever that is worth; None where it does not say."""
    if not reply.has_content():
        return None
    said = next((record.get(EXAMPLES) for record in reply.content.metric_records.values()), None)
    return None if isinstance(said, list) else said


def _by_node(message: Message) -> int:
    return message.metadata.src_node_id
