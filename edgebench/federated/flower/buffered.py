"""Asynchronous rounds: every client is always at work, and a new model is made of every K updates, whoever sent them.

Source: Nguyen et al. 2022, FedBuff. Which updates meet in a buffer depends on who is faster, so two runs differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from flwr.app import ConfigRecord, Message

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.federated.aggregate import ReplyBuffer, difference, moved
from edgebench.federated.content import Array, Arrays, arrays_in, metrics_in
from edgebench.federated.flower.events import Learned, Outcome, RoundSeen
from edgebench.federated.flower.journal import Checkpoint
from edgebench.federated.flower.messages import refused, to_parcel, to_records
from edgebench.federated.flower.observed import Check, ObservedGrid, outcome_of
from edgebench.federated.reply_checks import EXAMPLES, too_large
from edgebench.topology.model import Federated

_TRAIN = "train"
_RETRY_S = 5.0
"""A client that has failed is asked again after that time, or with the next model."""


class _Asked(msgspec.Struct, frozen=True):
    node: int
    version: int


class _Update(msgspec.Struct, frozen=True):
    """What a client has learned since the model of `version`. norm: its length."""

    delta: Mapping[str, Array]
    examples: int
    version: int
    norm: float
    outcome: Outcome


class Buffered:
    """The course of one federation."""

    def __init__(
        self,
        grid: ObservedGrid,
        how: Federated,
        *,
        config: Mapping[str, Any],
        check: Check,
        on_model: Callable[[Learned], None],
        before_round: Callable[[int], None],
        checkpoint: Checkpoint | None,
    ) -> None:
        self._grid = grid
        self._how = how
        self._config = config
        self._check = check
        self._on_model = on_model
        self._before_round = before_round
        self._checkpoint = checkpoint
        nodes = grid.get_node_ids()
        self._wanted = how.buffer.updates or max(1, len(nodes) // 2)
        self._idle = dict.fromkeys(nodes, 0.0)
        self._asked: dict[str, _Asked] = {}
        self._round = 0
        self._sent = 0
        self._version = 0
        self._models: dict[int, dict[str, Array]] = {}
        self._updates: list[_Update] = []
        self._failures: list[Outcome] = []

    def run(self, initial: Mapping[str, Array]) -> dict[str, Array]:
        """All rounds that are left, and the last model."""
        kept = self._checkpoint.read() if self._checkpoint is not None else None
        self._round, self._models[0] = kept if kept is not None else (0, dict(initial))
        self._tell(skipped=None, replayed=kept is not None)
        rounds = self._how.rounds
        assert rounds is not None
        while self._round < rounds:
            self._before_round(self._round + 1)
            started_ns = now_ns()
            skipped = self._collect(until_s=now_s() + self._how.deadline_s)
            self._round += 1
            outcomes = self._aggregate() if skipped is None else []
            outcomes += self._failures
            self._failures = []
            self._grid.tell(
                RoundSeen(
                    round=self._round,
                    kind=_TRAIN,
                    started_ns=started_ns,
                    ended_ns=now_ns(),
                    outcomes=tuple(sorted(outcomes, key=lambda outcome: outcome.node)),
                    skipped=skipped,
                )
            )
            if self._checkpoint is not None:
                self._checkpoint.write(self._round, self._model)
            self._tell(skipped=skipped, replayed=False)
        return self._model

    @property
    def _model(self) -> dict[str, Array]:
        return self._models[self._version]

    def _tell(self, *, skipped: str | None, replayed: bool) -> None:
        self._on_model(Learned(round=self._round, arrays=self._model, skipped=skipped, replayed=replayed))

    def _collect(self, until_s: float) -> str | None:
        """Until the buffer is full; why it is not when the time is over."""
        while True:
            if len(self._updates) >= self._wanted:
                self._drop_outliers()
            if len(self._updates) >= self._wanted:
                return None
            now = now_s()
            if now >= until_s:
                return f"{len(self._updates)} of {self._wanted} updates within {self._how.deadline_s:g} s"
            self._ask(now)
            next_s = min([until_s, *(again_s for again_s in self._idle.values() if again_s > now)])
            if self._asked:
                self._grid.wait_any(list(self._asked), next_s - now)
            else:
                sleep_s(next_s - now)
            for reply in self._grid.receive(list(self._asked)):
                self._take(reply)

    def _ask(self, now: float) -> None:
        """Have every client that may be asked train the model there is now."""
        nodes = [node for node, again_s in self._idle.items() if again_s <= now]
        if not nodes:
            return
        records = to_records({"arrays": Arrays(self._model)})
        records["config"] = ConfigRecord({**self._config, "server-round": self._round + 1})
        messages = [Message(records, node, _TRAIN) for node in nodes]
        self._sent += 1
        message_ids = self._grid.send(messages, group=str(self._sent))
        for message_id, node in zip(message_ids, nodes, strict=True):
            self._asked[message_id] = _Asked(node, self._version)
            del self._idle[node]

    def _take(self, reply: Message) -> None:
        asked = self._asked.pop(reply.metadata.reply_to_message_id)
        base = self._models[asked.version]
        parcel = to_parcel(reply) if reply.has_content() else None
        if parcel is not None:
            reason = self._check(base, [parcel]).get(0)
            if reason is not None:
                reply, parcel = refused(reply, reason), None
        outcome = outcome_of(reply, staleness=self._version - asked.version)
        if parcel is None:
            self._idle[asked.node] = now_s() + _RETRY_S
            self._failures.append(outcome)
        else:
            self._idle[asked.node] = 0.0
            delta = difference(arrays_in(parcel.content), base)
            examples = metrics_in(parcel.content)[EXAMPLES]
            assert isinstance(examples, int)
            self._updates.append(_Update(delta, examples, asked.version, _norm(delta), outcome))

    def _drop_outliers(self) -> None:
        reasons = too_large([update.norm for update in self._updates], self._how.max_update_ratio)
        for index, reason in reasons.items():
            self._failures.append(msgspec.structs.replace(self._updates[index].outcome, error=reason))
        self._updates = [update for index, update in enumerate(self._updates) if index not in reasons]

    def _aggregate(self) -> list[Outcome]:
        """Make the next model of the updates, and forget models that nobody learns on any more."""
        buffer = ReplyBuffer(self._how.buffer.staleness_exponent)
        outcomes = []
        for update in self._updates[: self._wanted]:
            staleness = self._version - update.version
            buffer.add(update.delta, update.examples, staleness)
            outcomes.append(msgspec.structs.replace(update.outcome, staleness=staleness))
        self._updates = self._updates[self._wanted :]
        self._models[self._version + 1] = moved(self._model, buffer.flush())
        self._version += 1
        needed = {self._version, *(asked.version for asked in self._asked.values())}
        self._models = {version: model for version, model in self._models.items() if version in needed}
        self._idle = dict.fromkeys(self._idle, 0.0)
        return outcomes


def _norm(delta: Mapping[str, Array]) -> float:
    return float(np.sqrt(sum(float(np.square(array.numpy(), dtype=np.float64).sum()) for array in delta.values())))
