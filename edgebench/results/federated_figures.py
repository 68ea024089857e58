"""What `result.json` says of federated learning, as typed data; docs/results.md says what each figure means."""

from __future__ import annotations

import msgspec


class Phases(msgspec.Struct, frozen=True):
    """Where the time of a round went, s, along the client that answered last; the parts add up to the round.

    distribute: until that client had the model; wait: until it began to learn; learn; collect: until its reply was
    back; close: what was still waited for; aggregate: the server's own work. What that client did before the round
    began, as in a buffered one, counts as 0.
    """

    distribute: float
    wait: float
    learn: float
    collect: float
    close: float
    aggregate: float


class RoundFigures(msgspec.Struct, frozen=True):
    """One round. clients: those asked; failures: those whose reply did not count, with the reason in `failed`; unread:
    those whose reply an app never looked for.

    kind: `train`, or what a Flower app of the user's own asks besides: `evaluate`, `query`, or one with `.action`.

    bytes: what travelled between server and clients, with what was sent again; None where the engine does not tell.
    quality: of the model after it, on
    held-out data. skipped: why the model stayed as it was. no_epsilon: why a private strategy states none. site_rounds:
    rounds of the edges within it. model: SHA-256 of its arrays, the same for two runs that learned the same. resumed:
    it was held in the run that this one goes on from, and its times and bytes were that run's.
    """

    round: int
    kind: str
    duration_s: float | None
    clients: int
    failures: int
    unread: int
    bytes_up: int | None
    bytes_down: int | None
    quality: float | None
    started_s: float | None
    failed: dict[str, str]
    skipped: str | None
    phases_s: Phases | None
    metrics: dict[str, float | None]
    epsilon: float | None
    delta: float | None
    no_epsilon: str | None
    site_rounds: int
    model: str | None
    resumed: bool


class KindFigures(msgspec.Struct, frozen=True):
    """All rounds of a kind that this run held itself. messages: to clients. good: of their replies those that came,
    read or not, and are no error; failures, unread: as in `RoundFigures`."""

    rounds: int
    messages: int
    good: int
    failures: int
    unread: int


class LinkShare(msgspec.Struct, frozen=True):
    """Bytes of a federation on a link."""

    up_bytes: int
    down_bytes: int


class Shares(msgspec.Struct, frozen=True):
    """How the training data lies on the clients: samples and groups (patients) of each."""

    how: str
    samples: dict[str, int]
    groups: dict[str, int]


class Beside(msgspec.Struct, frozen=True):
    """Latency of the workload's own stream, ms, of n samples."""

    p50: float
    p99: float
    n: int


class FederatedFigures(msgspec.Struct, frozen=True):
    """A federation. quality: the metric of the model before the first round and after the last, on held-out data.

    rounds: of training; other_rounds: of all other kinds. kinds: what they come to, by kind. server_metrics: what an
    app's server measured itself, by the last round of training (0: before the first). in_rounds, between_rounds: the
    latency of the workload's samples that were due while a round was going on, and of the others.
    """

    strategy: str
    rounds: list[RoundFigures]
    other_rounds: list[RoundFigures]
    kinds: dict[str, KindFigures]
    server_metrics: dict[int, dict[str, float | None]]
    engine: str
    mode: str
    aggregate: list[str]
    clients: int
    metric: str
    real: bool
    quality_before: float | None
    quality_after: float | None
    partition: Shares | None
    links: dict[str, LinkShare]
    in_rounds_ms: Beside | None
    between_rounds_ms: Beside | None
