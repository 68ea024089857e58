"""What `result.json` says of the samples of a workload, and of decisions that are made of several, as typed data."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgebench.topology.model import Tier


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


class Hops(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the latency went; the parts of a sample add up to its latency.

    edge_forward, backhaul_up, backhaul_down, edge_return: of what the edge passes on to the cloud, else 0. head_decode,
    head_queue, head_infer: of the first stage of a chain, before edge_forward or, on a device, uplink; of nothing else.
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
    head_decode: HopStatistics | None = None
    head_queue: HopStatistics | None = None
    head_infer: HopStatistics | None = None


class Slip(msgspec.Struct, frozen=True):
    """How late the load generator took its samples, ms from scheduled to captured. over: how many slipped `limit`."""

    p50: float
    p95: float
    p99: float
    max: float
    limit: float
    over: int


class Age(msgspec.Struct, frozen=True):
    """How old what live sensors had taken was when it was sensed, ms from taken to captured. n: samples that were
    seen live."""

    n: int
    p50: float
    p99: float
    max: float


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


class CutFigures(msgspec.Struct, frozen=True):
    """A place at which a model can be cut in two: the one of this number, after `layer`. As in `fabric.records.Cut`;
    output_bytes: of what goes on there."""

    place: int
    layer: str
    output_bytes: int
    head_ms: float
    tail_ms: float
    predicted_ms: float | None


class ChainFigures(msgspec.Struct, frozen=True):
    """A workload with two stages, of which devices or edges have the first (`head_tier`). cut: where they are one model
    that was cut in two, at one of `places`; considered: the cuts among which `auto` chose this one.

    measured_ms: the mean time from a sample's being at the first stage to its decision's being made by the second,
    beside what `cut` predicts; None where nothing was decided, or a clock is not known well enough. mean_head_batch:
    samples that the first stage did at once.
    """

    cut: CutFigures | None
    places: int
    considered: list[CutFigures]
    measured_ms: float | None
    mean_head_batch: float | None
    head_tier: Tier = "edge"


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
    where nothing was disturbed. age_ms: None where nothing was seen live. repeated: decisions that reached their device
    again as they were, as QoS 1 has it. outlived: decisions on samples of an earlier life of their device, which it did
    not keep. missed: samples that were due while their device, or its live sensor, was not there, or that died with it
    untold; they are not among the scheduled. decided_by: decisions by tier, of what is placed online."""

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
    age_ms: Age | None = None
    repeated: int = 0
    outlived: int = 0
    missed: int = 0
    chain: ChainFigures | None = None
    decided_by: dict[str, int] | None = None


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
