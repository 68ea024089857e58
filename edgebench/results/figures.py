"""`result.json`, schema 1, as typed data: every figure of a run. docs/results.md says what each one means."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgebench.results.federated_figures import FederatedFigures

SCHEMA = 1


ReasonKind = Literal["part", "run", "clock", "load", "host", "disturbance", "delivery", "model", "federation", "link"]
"""What a reason is about. `load`, `host`, `disturbance` and `link` may all be the machine's fault alone."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether the figures may be trusted; every reason against it is a sentence with the number and the mend, `kinds`
    what each of them is about. notes: what is unusual, and does not count against it."""

    valid: bool
    reasons: list[str]
    kinds: list[ReasonKind] = []
    notes: list[str] = []


class Latency(msgspec.Struct, frozen=True):
    """ms, over the decided samples."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


class HopStatistics(msgspec.Struct, frozen=True, omit_defaults=True):
    """ms; percentiles do not add up from hop to hop, means do.

    bound_ms: of a hop that leads from a machine to another, how far at most the truth is from each of the three; one of
    which the bound is more than 5 % and more than 0.5 ms is None, and so are all where nothing is known of a clock. A
    hop within a machine has no bound, and every figure.
    """

    p50: float | None
    p99: float | None
    mean: float | None
    bound_ms: float | None = None


class Hops(msgspec.Struct, frozen=True):
    """Where the latency went; the parts of a sample add up to its latency.

    edge_forward, backhaul_up, backhaul_down, edge_return: of what the edge passes on to the cloud, else 0.
    """

    sense: HopStatistics
    uplink: HopStatistics
    edge_forward: HopStatistics
    backhaul_up: HopStatistics
    decode: HopStatistics
    queue: HopStatistics
    infer: HopStatistics
    backhaul_down: HopStatistics
    edge_return: HopStatistics
    downlink: HopStatistics


class Slip(msgspec.Struct, frozen=True):
    """How late the load generator took its samples, ms from scheduled to captured. over: how many slipped `limit`."""

    p50: float
    p95: float
    p99: float
    max: float
    limit: float
    over: int


class Adequacy(msgspec.Struct, frozen=True):
    """Whether there are enough samples to state the p99. `bound_ms` is the server load's, else the deadline, else none.

    needed: samples that a p99 within the bound takes, when `over` of them exceeded it. p99_upper_ms: the true p99 is
    not above it, at this confidence; none with fewer than 459 samples.
    """

    confidence: float
    bound_ms: float | None
    over: int
    needed: int
    adequate: bool
    p99_upper_ms: float | None


class Bound(msgspec.Struct, frozen=True):
    """The bound that a `server` load must meet."""

    p99_ms: float
    met: bool


class Quality(msgspec.Struct, frozen=True):
    """The task's metric over the n decisions whose label is known; None where it is undefined.

    interval: 95 % bootstrap. source, real: the data in the stream; data that is not real was generated. metrics: all
    of the task's, this one included. scored: of the n, those that they are of: fewer only where that many outputs are
    too much to keep. undefined: why there is no value.
    """

    metric: str
    value: float | None
    n: int
    interval: tuple[float, float] | None
    source: str
    real: bool
    metrics: dict[str, float | None] = {}
    scored: int = 0
    undefined: str | None = None


class Validated(msgspec.Struct, frozen=True):
    """What a model scored on held-out data before it was announced; before_export: as it was trained, in float32, which
    is None for a model that runs as it was trained."""

    metric: str
    value: float | None
    before_export: float | None
    metrics: dict[str, float | None]
    evaluated_on: str
    source: str
    real: bool


class ModelUse(msgspec.Struct, frozen=True):
    """A model that decided, or was to. from_s: when the first node began with it, s from the start of the streams;
    0 for a model that was there already, None for one that no node swapped in. n: decisions that it made.

    trained: in this run, or remembered of an earlier one (None: it was found). trained_in, trained_at: the run, and
    when, UTC.
    """

    digest: str
    origin: str
    runtime: str
    quantisation: str
    from_s: float | None
    quality: Quality
    n: int
    announced: bool
    note: str
    size_bytes: int | None
    validated: Validated | None
    trained: Literal["this run", "remembered"] | None = None
    trained_in: str | None = None
    trained_at: str | None = None


class CascadeFigures(msgspec.Struct, frozen=True):
    """What a cascade saved, and what it cost.

    forwarded: decisions that the cloud made; share: of all decided. kept_bytes: MQTT payloads that did not take the
    uplink. latency_ms: of the decisions that the edge made, and of those that the cloud made. quality, light_quality,
    heavy_quality: of the cascade and of either model alone, on the same held-out data; target: what was wanted there,
    expected_share: of what the cascade forwards there, with the calibrated threshold of confidence.
    """

    forwarded: int
    share: float
    kept_bytes: int
    edge_latency_ms: Latency | None
    cloud_latency_ms: Latency | None
    threshold: float
    target: float
    expected_share: float
    quality: float
    light_quality: float
    heavy_quality: float


class Undisturbed(msgspec.Struct, frozen=True):
    """A workload without the disturbed seconds: ms of the n decided samples that none of them touched (None of none),
    and what arrived in the other seconds, by their time."""

    n: int
    p50: float | None
    p99: float | None
    throughput_hz: float | None


class WorkloadFigures(msgspec.Struct, frozen=True):
    """One workload. compress: how samples were compressed; sample_bytes: the mean MQTT payload of one, 0 where none
    travels; None without a sample. not_finite: decisions of which an output is no finite number. undisturbed: None
    where nothing was disturbed."""

    task: str
    place: str
    scheduled: int
    decided: int
    lost: int
    duplicated: int
    reordered: int
    rejected: int
    late: int
    latency_ms: Latency | None
    hops_ms: Hops | None
    throughput_hz: float
    quality: Quality
    models: list[ModelUse]
    load: str
    deadline_ms: float | None
    dropped: int
    unexpected: int
    plain_json: int
    duplicated_at_devices: int
    rejected_by_reason: dict[str, int]
    dropped_by_reason: dict[str, int]
    slip_ms: Slip | None
    adequacy: Adequacy | None
    bound: Bound | None
    mean_batch: float | None
    compress: str | None
    sample_bytes: float | None
    cascade: CascadeFigures | None
    not_finite: int
    undisturbed: Undisturbed | None


class PathFigures(msgspec.Struct, frozen=True):
    """A way through the workloads of a joint decision, from one that waits for none to one of its parts.

    critical: frames that this way decided, being the last to end. mean_ms: latency of these frames; None without any.
    """

    path: list[str]
    critical: int
    mean_ms: float | None


class JointFigures(msgspec.Struct, frozen=True):
    """A decision that is made of several. Latency is from the time a frame was due to the arrival of its last part.

    decided: frames of which every part was decided. late: after the deadline. work_ms: the mean time that each of its
    workloads takes itself; parts_ms: these added up, as if they came one after another. judged: decided frames of which
    the labels of all parts tell what is right; right: the share of these of which every part is right, None without.
    """

    of: list[str]
    frames: int
    decided: int
    late: int
    deadline_ms: float | None
    latency_ms: Latency | None
    work_ms: dict[str, float]
    parts_ms: float | None
    paths: list[PathFigures]
    judged: int
    right: float | None


class HandoverFigures(msgspec.Struct, frozen=True):
    """A device's move from one site to another, `at_s` after the start of the streams.

    connect_ms: from leaving until its connection at the new site stood; None where it never did. first_decision_ms:
    from leaving to the first decision that came there. resent: samples without a decision that it took along. lost: its
    samples, due within a second of the move, that were never decided.
    """

    node: str
    left: str
    to: str
    at_s: float
    connect_ms: float | None
    first_decision_ms: float | None
    resent: int
    lost: int


class LinkFigures(msgspec.Struct, frozen=True):
    """One link. Bytes are counted on the link, both ways; None where it is not emulated. requested, measured: of what
    is emulated; real: of the network beneath it, where it leads from one machine to another (see `LinkObserved`)."""

    bytes: int | None
    messages: int | None
    up_bytes: int | None
    down_bytes: int | None
    up_messages: int | None
    down_messages: int | None
    requested: dict[str, float]
    measured: dict[str, float]
    steady: bool
    real: dict[str, float] = {}


class NodeFigures(msgspec.Struct, frozen=True):
    """One node. cpu_s, rss_mb (the peak, 10⁶ bytes) and busy_cores (mean while samples were due) are those of its
    process, which hosts `process_of` nodes; None where nothing was seen of it. machine: that it ran on."""

    tier: str
    profile: str
    cpu_s: float | None
    rss_mb: float | None
    busy_cores: float | None
    process: str | None
    process_of: int
    machine: str


class ProcessFigures(msgspec.Struct, frozen=True):
    """One process of the run, a broker or a relay too (`nodes` is then empty); as in `NodeFigures`."""

    nodes: list[str]
    cpu_s: float | None
    rss_mb: float | None
    busy_cores: float | None
    machine: str


class NodeSwap(msgspec.Struct, frozen=True):
    """One node's change to a later model.

    pause_ms: the longest time between two of its decisions that touches the half second before or after the swap;
    usual_pause_*: the same, all through the rest of the run. waited_ms: the longest that a sample that arrived in that
    second was in the queue; usual_waited_p99_ms: the rest of the run. lost: samples due in that second and not decided.
    """

    fetched_s: float
    swapped_s: float
    pause_ms: float | None
    usual_pause_p99_ms: float | None
    usual_pause_max_ms: float | None
    waited_ms: float | None
    usual_waited_p99_ms: float | None
    lost: int


class RolloutFigures(msgspec.Struct, frozen=True):
    """A later model on its way to the nodes that decide."""

    workload: str
    digest: str
    ready_s: float
    announced_s: float
    nodes: dict[str, NodeSwap]


class ClockFigures(msgspec.Struct, frozen=True):
    """A machine's clock beside the server's while samples were due, from so many `exchanges`.

    offset_ms: by how much it was ahead at the start of the streams; bound_ms: how far at most the truth ever was from
    what was taken for it. drift_ppm: what it gained, on average, as long as it was compared; likewise. None where
    nothing is known of it. jumped, unusual: in words; the first spoils figures, the second is allowed for.
    """

    offset_ms: float | None
    bound_ms: float | None
    drift_ppm: float | None
    drift_bound_ppm: float | None
    exchanges: int
    jumped: list[str]
    unusual: list[str]


class MachineFigures(msgspec.Struct, frozen=True):
    """A machine that holds parts of the run, so many `nodes` of it. address: as the server sees it, clock: beside the
    server's; None of the server, which is `here`."""

    arch: str
    cores: int
    memory_mb: int
    address: str | None
    clock: ClockFigures | None
    host_use: HostUse | None
    nodes: int
    versions: dict[str, str]


class HostUse(msgspec.Struct, frozen=True):
    """The cores that a run may use while samples were due: their mean busy share, the share of the time in which they
    were all (97 %) busy, and the mean shares that other guests of the same hardware and foreign processes took;
    pressure: the share of the time in which any process of the machine waited for a core. None where it was not
    measured."""

    busy: float
    full: float
    stolen: float
    foreign: float | None
    pressure: float | None


class Span(msgspec.Struct, frozen=True):
    """A time, s from the start of the streams."""

    from_s: float
    to_s: float


class DisturbanceFigures(msgspec.Struct, frozen=True):
    """Seconds in which foreign work changed what the run saw: where they are, and their share of its streams.

    share: of the time in which samples were due; spans, disturbed_s: up to the last decision. (A run of more than an
    hour is told in blocks: `spans` are of those that have a disturbed second, `disturbed_s` of these seconds.)
    mean_late_ms: how late the timers of the run's parts fired, the mean of all seconds; most_late_ms: that of the worst
    second; worst_late_ms: in the worst second of the worst part that samples pass. most_hiccup_ms: the largest of all,
    in the part `most_hiccup_of`. machines: the share of each, where a run has several and that machine had any.
    """

    share: float
    spans: list[Span]
    mean_late_ms: float
    most_late_ms: float
    most_hiccup_ms: float
    most_hiccup_of: str | None
    disturbed_s: float
    worst_late_ms: float
    machines: dict[str, float] = {}


class DeathFigures(msgspec.Struct, frozen=True):
    """A part that ended before the run did. expected: a fault has killed it, as was wanted."""

    part: str
    status: int
    at_s: float
    last_words: str
    expected: bool = False


class FaultFigures(msgspec.Struct, frozen=True):
    """A fault as it was brought about: a link goes `down`, or `up` again; or a part gets a `kill`."""

    link: str | None
    kind: str
    at_s: float
    part: str | None = None


class BrokerFigures(msgspec.Struct, frozen=True):
    """Which broker served a site, or the cloud: `mosquitto`, `nats`, or `external` for one of the user's own, whose
    version is not known.

    refused: how many `connections`, `publications` and `subscriptions` were, as far as it says so.
    """

    kind: str
    version: str | None
    refused: dict[str, int] = {}


class Result(msgspec.Struct, frozen=True):
    """All figures of a run; those from `figures` on are beyond what other tools rely on."""

    schema: int
    run_id: str
    name: str
    seed: int
    executor: str
    verdict: Verdict
    workloads: dict[str, WorkloadFigures]
    federated: dict[str, FederatedFigures]
    links: dict[str, LinkFigures]
    nodes: dict[str, NodeFigures]
    host: dict[str, str | int | float]
    versions: dict[str, str]
    figures: str
    duration_s: float
    streamed_s: float | None
    started_to_first_decision_s: float | None
    rollouts: list[RolloutFigures]
    processes: dict[str, ProcessFigures]
    host_use: HostUse | None
    deaths: list[DeathFigures]
    faults: list[FaultFigures]
    rejected_elsewhere: dict[str, int]
    joint: dict[str, JointFigures]
    handovers: list[HandoverFigures]
    disturbance: DisturbanceFigures | None
    machines: dict[str, MachineFigures]
    brokers: dict[str, BrokerFigures] = {}
