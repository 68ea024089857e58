"""What a federation tells of its rounds while it runs; without Flower, so that anyone can read it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edgebench.federated.content import Array


class MessageStamps(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one request and its reply. Times in ns; None where an engine does not tell.

    sent_ns, delivered_ns (the client has the request), arrived_ns: on the server's clock. received_ns, started_ns,
    finished_ns: on the client's.
    bytes_down, bytes_up: of the request and of its reply, as they travelled.
    """

    sent_ns: int | None = None
    delivered_ns: int | None = None
    received_ns: int | None = None
    started_ns: int | None = None
    finished_ns: int | None = None
    arrived_ns: int | None = None
    bytes_down: int | None = None
    bytes_up: int | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one client contributed. error: why it did not. examples: None where the app does not say.

    unread: the app never asked for this reply. Its stamps then say whether it had come when the app ended.
    """

    node: int
    error: str | None = None
    unread: bool = False
    examples: int | float | None = None
    staleness: int = 0
    stamps: MessageStamps = MessageStamps()


class RoundSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One round of messages and replies.

    round: counts those of this kind, from 1. kind: `train`, `evaluate`, `query`, or one of these with `.action`.
    skipped: why nothing was made of its replies. replayed: it is told again after a restart, from the journal.
    """

    round: int
    kind: str
    started_ns: int
    ended_ns: int
    outcomes: tuple[Outcome, ...]
    skipped: str | None = None
    replayed: bool = False


MetricsKind = Literal["train", "evaluate", "server"]
"""What was measured: by clients as they trained or evaluated, put together by the app's strategy; or by its server."""


class MetricsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics of an app's own. round: of its `RoundSeen` of this kind; of the server's own, the last round of training
    (0: none yet). A value is None where it is not finite."""

    kind: MetricsKind
    round: int
    metrics: dict[str, float | None]


class Privacy(msgspec.Struct, frozen=True):
    """The differential privacy of a client so far, of all models so far. epsilon: None where none can be stated, for
    `reason`."""

    epsilon: float | None
    delta: float | None
    reason: str | None = None


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """The model after a round; round 0 is the one that learning begins with.

    arrays: by name. metrics: means over the clients; none where learning is private. skipped: why it is the model of
    the round before. replayed: it has been told of before the process was started again.
    """

    round: int
    arrays: dict[str, Array]
    metrics: dict[str, Any] = {}
    privacy: Privacy | None = None
    skipped: str | None = None
    replayed: bool = False
