"""`result.json`, schema 1, as typed data: every figure of a run. docs/results.md says what each one means."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgebench.results.federated_figures import FederatedFigures
from edgebench.results.sample_figures import JointFigures, WorkloadFigures

SCHEMA = 1


ReasonKind = Literal[
    "part", "run", "clock", "load", "host", "emulation", "disturbance", "delivery", "model", "federation", "link"
]
"""What a reason is about. `load`, `host`, `emulation`, `disturbance` and `link` may be the machine's fault alone."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether the figures may be trusted; every reason against it is a sentence with the number and the mend, `kinds`
    what each of them is about. notes: what is unusual, and does not count against it."""

    valid: bool
    reasons: list[str]
    kinds: list[ReasonKind] = []
    notes: list[str] = []


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


class ReplacementFigures(msgspec.Struct, frozen=True):
    """A move of a workload, at a site, from the tier `left` to the tier `to`, `at_s` after the start of the streams.

    measured_ms: what samples took where they were, predicted_ms: what they were to take at the other place, from when
    the edge had taken them in until their decisions could leave it: means over `looks` trials, at `rate_hz` samples a
    second. after_ms: what they then took, the mean of the `after_samples` that came while it was held to; None of none.
    in_flight: samples that the old place still had, and decided; lost: of those that came before the move.
    """

    workload: str
    site: str
    left: str
    to: str
    at_s: float
    measured_ms: float
    predicted_ms: float
    after_ms: float | None
    after_samples: int
    in_flight: int
    lost: int
    looks: int
    rate_hz: float


class LinkEnergyFigures(msgspec.Struct, frozen=True):
    """What the bytes of a link cost the child's network interface, by a model (`how`): those that it sent (up) and got
    (down), J. source: of the energy a byte. counted: all that crossed the link in the whole run, with what was fetched
    before the streams; or, in a simulation, MQTT's PUBLISH packets and what is said to learn together."""

    how: Literal["modelled"]
    up_j: float
    down_j: float
    source: str
    counted: Literal["whole run", "publications"] = "whole run"


class LinkFigures(msgspec.Struct, frozen=True):
    """One link. Bytes are counted on the link, both ways; None where it is not emulated. requested, measured: of what
    is emulated; real: of the network beneath it, where it leads from one machine to another (see `LinkObserved`).
    energy: None where the topology does not tell that of a byte."""

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
    energy: LinkEnergyFigures | None = None


class EmulationFigures(msgspec.Struct, frozen=True):
    """How a node was emulated. by: `measured`, or `data sheet`; source: on what and when, or what the data sheet says.

    released: decisions and messages, which the emulated machine took `mean_took_ms` for, on average. mean_slip_ms,
    most_slip_ms: by how much later than that they were given away; late: how many too late, `unready` batches because
    this machine had not done their work by then. beyond: messages larger than any that the profile knows;
    largest_bytes: of the largest of these.
    """

    by: str
    source: str
    released: int
    mean_took_ms: float | None
    mean_slip_ms: float | None
    most_slip_ms: float | None
    late: int
    unready: int
    beyond: int
    largest_bytes: int = 0


class EnergyFigures(msgspec.Struct, frozen=True):
    """What a node's machine would have drawn from the start of the streams to their end, by a model (`how`): idle_j,
    had it done nothing; work_j, besides; mean_w, both. busy_share: of its cores. source: of the power idle and busy."""

    how: Literal["modelled"]
    idle_j: float
    work_j: float
    mean_w: float
    busy_share: float
    source: str


class NodeFigures(msgspec.Struct, frozen=True):
    """One node. cpu_s, rss_mb (the peak, 10⁶ bytes) and busy_cores (mean while samples were due) are those of its
    process, which hosts `process_of` nodes; None where nothing was seen of it. machine: that it ran on. emulated: None
    where its profile is `host`; energy: None where its profile tells no power. count: so many nodes it stands for, in a
    simulation that is too large to tell each."""

    tier: str
    profile: str
    cpu_s: float | None
    rss_mb: float | None
    busy_cores: float | None
    process: str | None
    process_of: int
    machine: str
    sensors: dict[str, str] = {}
    emulated: EmulationFigures | None = None
    energy: EnergyFigures | None = None
    count: int = 1
    no_energy: str | None = None


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


class MachineEnergyFigures(msgspec.Struct, frozen=True):
    """What a machine drew while samples were due, with all that it did, as a meter had it (`how`): j over the
    `metered_s` that it saw of that time, mean_w. source: which meter, and what of the machine it sees. failed: why it
    told no more, where it failed."""

    how: Literal["measured"]
    j: float
    mean_w: float
    metered_s: float
    source: str
    failed: str | None = None


class MachineFigures(msgspec.Struct, frozen=True):
    """A machine that holds parts of the run, so many `nodes` of it. address: as the server sees it, clock: beside the
    server's; None of the server, which is `here`. computer: the first of the machines that share its cores; itself
    where no other does. energy: None where nothing measures it."""

    arch: str
    cores: int
    memory_mb: int
    address: str | None
    clock: ClockFigures | None
    host_use: HostUse | None
    nodes: int
    versions: dict[str, str]
    computer: str
    energy: MachineEnergyFigures | None = None


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
    """A part that ended before the run did. expected: a fault has killed it, as was wanted; returns: it was to be
    started again."""

    part: str
    status: int
    at_s: float
    last_words: str
    expected: bool = False
    returns: bool = False


class FaultFigures(msgspec.Struct, frozen=True):
    """A fault, of a `link`, `node`, `site`, `broker` or `machine` (target) of that name; entry: of the topology.

    asked_s: its time, or when what it waited for was seen. at_s: when it happened; None: never (what it was to take was
    away already, or the run was over). until_s: when what it took was there again; None: for good. devices: whose
    decisions have to pass what it took. recovery_s: from its end (from its beginning, where it has none) to the first
    decision that then reached one of them, all_recovered_s: each of them. samples: of theirs, due or on their way while
    it lasted; slowest_ms: the longest latency of these; late (after their deadline), lost: of these, and of those due
    until all had recovered.
    """

    kind: str
    target: str
    name: str
    asked_s: float | None
    at_s: float | None
    until_s: float | None
    devices: int
    recovery_s: float | None
    all_recovered_s: float | None
    samples: int
    late: int
    lost: int
    slowest_ms: float | None
    entry: str


class BrokerFigures(msgspec.Struct, frozen=True):
    """Which broker served a site, or the cloud: `mosquitto`, `nats`, or `external` for one of the user's own, whose
    version is not known."""

    kind: str
    version: str | None


class Result(msgspec.Struct, frozen=True):
    """All figures of a run; those from `figures` on are beyond what other tools rely on. figures: `measured`,
    `emulated` where a node was, or `modelled` of a simulation, which has its service times from `calibrated_by`: runs,
    and profiles, each as `profile NAME`."""

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
    refused: dict[str, dict[str, int]] = {}
    calibrated_by: list[str] = []
    replacements: list[ReplacementFigures] = []
