"""What nodes write down while a run goes.

All times are ns of the clock of `edgebench.clock` on the machine of whoever writes; `edgebench.results.server_time`
brings them to the server's.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edgebench.core.clocks import Exchange
from edgebench.core.device import Moved
from edgebench.core.releases import Releases
from edgebench.core.replacing import Replaced
from edgebench.core.samples import SampleRecord
from edgebench.core.tallies import Tally
from edgebench.inference.spec import Manifest


class Swap(msgspec.Struct, frozen=True):
    """A node began to decide with another model: fetched, verified, warmed up, swapped in between two samples."""

    node: str
    workload: str
    digest: str
    fetched_ns: int
    swapped_ns: int


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """A process's use of the machine up to a time: cumulative CPU s (user + system), resident memory in bytes."""

    at_ns: int
    cpu_s: float
    rss_bytes: int


class TallySnapshot(msgspec.Struct, frozen=True, omit_defaults=True, tag="progress"):
    """A snapshot of a node's counts (cumulative); the last one of each incarnation in a spool is what is known of the
    node."""

    at_ns: int
    node: str
    tallies: dict[str, Tally]
    incarnation: int = 0


class Released(msgspec.Struct, frozen=True, tag="released"):
    """What an emulated node has released so far, at a time of its machine's clock (0: of runs that did not say).

    The last one of each incarnation in a spool is what is known of it, and the earlier ones when it came to that.
    """

    node: str
    releases: Releases
    incarnation: int = 0
    at_ns: int = 0


class SampleRows(msgspec.Struct, frozen=True, tag="rows"):
    """Finished samples."""

    rows: list[SampleRecord]


class Swapped(msgspec.Struct, frozen=True, tag="swap"):
    """A model swap."""

    swap: Swap


class Used(msgspec.Struct, frozen=True, tag="usage"):
    """The use of the machine by the process that hosts these nodes, in this incarnation."""

    nodes: list[str]
    usage: Usage
    incarnation: int = 0


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """The process drained and ended in good order; a spool without this line was cut off."""

    nodes: list[str]
    at_ns: int
    versions: dict[str, str]


class LinkObserved(msgspec.Struct, frozen=True):
    """A link after a run. requested and measured, of what is emulated: latency_ms (the median), latency_p90_ms,
    latency_p99_ms, jitter_ms, up_mbit_s, down_mbit_s (absent: unlimited, or not measured), loss_percent; measured
    delays are those up, those down are down_latency_ms and so on, and losses, counted over the run, up_loss_percent and
    down_loss_percent. steady: False where the machine was too busy to measure it undisturbed. Bytes are counted where
    the link is emulated, messages are MQTT PUBLISH packets. real: of the network between two machines beneath it,
    before the run: latency_ms, up_mbit_s, down_mbit_s; during it: latency_during_ms (the median),
    most_latency_during_ms."""

    name: str
    requested: dict[str, float]
    measured: dict[str, float]
    up_bytes: int | None
    down_bytes: int | None
    up_messages: int | None
    down_messages: int | None
    steady: bool = True
    real: dict[str, float] = {}


class Death(msgspec.Struct, frozen=True):
    """A part that ended before the run did. status: exit status, negative for a signal. nodes: those that it hosted.
    expected: a fault has killed it, as was wanted. returns: it is to be started again."""

    part: str
    status: int
    at_ns: int
    last_words: str = ""
    nodes: tuple[str, ...] = ()
    expected: bool = False
    returns: bool = False


class HostUsage(msgspec.Struct, frozen=True, array_like=True):
    """The machine since the sample before, at `since_ns`; all are shares of the time of the cores that the run may use.

    stolen: by other guests of its hardware. foreign: by processes that are no part of the run; as a machine sees it,
    those of parts on other machines that share its cores included. pressure: the share of the time in which any
    process waited for a core. own: by the parts of the run on this machine. watts: what the machine drew. None where
    it was not measured.
    """

    at_ns: int
    busy: float
    stolen: float
    foreign: float | None = None
    pressure: float | None = None
    since_ns: int | None = None
    own: float | None = None
    watts: float | None = None


class Hiccup(msgspec.Struct, frozen=True, array_like=True):
    """How late a timer of a part fired, of `count` times in a second (of the monotonic clock) in which it was due."""

    second: int
    most_ns: int
    sum_ns: int
    count: int


class ReplyRecord(msgspec.Struct, frozen=True, array_like=True):
    """A request to a federated client, and what came of it; None for a stamp that it never reached.

    delivered: the client has the request whole; started..finished: it learns. All three are by the client's clock where
    it tells when it learned; else delivered is by that of whoever asked, as are the others. arrived: its reply is here
    whole. bytes_*: what travelled between the two, with what was sent again; None where that is not known. error:
    why the reply does not count. unread: the app that asked never looked for this reply.
    """

    node: str
    asked_ns: int
    delivered_ns: int | None
    started_ns: int | None
    finished_ns: int | None
    arrived_ns: int | None
    bytes_down: int | None
    bytes_up: int | None
    examples: int | None
    error: str | None
    unread: bool = False


class RoundRecord(msgspec.Struct, frozen=True):
    """One round of a federation, as the node that ran it saw it: the cloud or, of its own site, an edge.

    kind: `train`, or what an app of the user's own asks besides. number: counts the server's rounds of the kind from 1.
    inner: an edge's round within that of the cloud; 0 at the cloud.
    skipped: why the model stayed as it was. metrics: the strategy's, such as the mean training loss. epsilon, delta:
    the privacy spent up to here, where the strategy accounts for it; no_epsilon: why it does not. model: SHA-256 of the
    global model's arrays. resumed: it was held in an earlier run, which this one goes on from.
    """

    workload: str
    server: str
    kind: str
    number: int
    inner: int
    started_ns: int
    gathered_ns: int
    ended_ns: int
    replies: tuple[ReplyRecord, ...]
    skipped: str | None = None
    metrics: dict[str, float] = {}
    epsilon: float | None = None
    delta: float | None = None
    no_epsilon: str | None = None
    model: str | None = None
    resumed: bool = False


class Rounded(msgspec.Struct, frozen=True, tag="round"):
    """A federated round has ended."""

    record: RoundRecord


class AppMetrics(msgspec.Struct, frozen=True, tag="app-metrics"):
    """What a Flower app of the user's own makes of a round. kind: `train` or `evaluate`, of the clients' metrics put
    together by its strategy, number: of that round; `server`: what its server measures itself, number: of the last
    round of training, 0 before the first. None: not finite."""

    workload: str
    kind: str
    number: int
    metrics: dict[str, float | None]


class Partitioned(msgspec.Struct, frozen=True, tag="partitioned"):
    """How the training data of a federation lies on its clients: samples and groups of each, in the clients' order."""

    workload: str
    how: str
    samples: list[int]
    groups: list[int]


class RoundScored(msgspec.Struct, frozen=True, tag="scored"):
    """The quality of a round's global model on held-out data, by metric; round 0 is the model that it began with."""

    workload: str
    number: int
    metrics: dict[str, float]


class Calibration(msgspec.Struct, frozen=True):
    """A cascade on held-out data: the share that it forwards, and the quality of it and of each model alone.

    threshold: the least confidence with which the smaller model's decision stands. target: the quality that was wanted.
    """

    threshold: float
    target: float
    forwarded: float
    quality: float
    light_quality: float
    heavy_quality: float


class Cascaded(msgspec.Struct, frozen=True, tag="cascade"):
    """How a cascade was calibrated. heavy: the digest of its larger model."""

    workload: str
    heavy: str
    calibration: Calibration


class Cut(msgspec.Struct, frozen=True):
    """A place at which a model can be cut in two: the one of number `place`, counted from the input on, after `layer`.

    values: float32, that go on there. head_ms, tail_ms: what the parts take for one sample, at the median where they
    were made. predicted_ms: from a sample's being at the first to its decision's being made, by what both take on their
    nodes and the links carry, with nothing to wait for; None where nothing tells how fast these are.
    """

    place: int
    layer: str
    values: int
    head_ms: float
    tail_ms: float
    predicted_ms: float | None = None


class Chained(msgspec.Struct, frozen=True, tag="chain"):
    """The models of a chain's stages were made. head, tail: their digests; empty in a simulation, which has none.
    cut: where they are one model that was cut in two, at one of `places`; considered: the cuts among which this one was
    chosen, if it was. values: float32, that go on between the stages; None: it was not written down."""

    workload: str
    head: str
    tail: str
    cut: Cut | None = None
    places: int = 0
    considered: tuple[Cut, ...] = ()
    values: int | None = None


_Step = Literal[
    "down", "up", "degrade", "restore", "kill", "start", "pause", "resume", "fill", "free", "step", "join", "leave"
]
_OwnStep = Literal["silent", "again", "reset"]
FaultStep = _Step | _OwnStep
"""What happens to a link (it is cut, and mended again; made another one, and again what it was), a part (killed,
started again; stood still, and going on; its disk full, and free again), a machine (its clock is stepped) or a
device (it comes, and goes); or what a link does by itself: it falls silent, carries again, has its connections
broken."""


class Faulted(msgspec.Struct, frozen=True, tag="fault"):
    """A fault was brought about, or came to its end. part: with the nodes that it hosts. fault: its place among those
    of the deployment. by_ns: how far a clock was stepped."""

    link: str | None
    kind: FaultStep
    at_ns: int
    part: str | None = None
    nodes: tuple[str, ...] = ()
    fault: int | None = None
    by_ns: int = 0


class FaultAsked(msgspec.Struct, frozen=True, tag="fault-asked"):
    """What a fault waited for was seen. fault: as above."""

    fault: int
    at_ns: int


class TrainedWhen(msgspec.Struct, frozen=True):
    """The run that trained a model, and when, UTC."""

    run_id: str
    at: str


class ModelEvent(msgspec.Struct, frozen=True):
    """A model that the cloud came by. announced_ns is None for one that was not better; `note` says why or how.

    trained: by which run, and when; None for one that was found in the registry, or as a file.
    """

    workload: str
    origin: str
    manifest: Manifest
    ready_ns: int
    announced_ns: int | None
    note: str = ""
    trained: TrainedWhen | None = None


class Modelled(msgspec.Struct, frozen=True, tag="model"):
    """The cloud came by a model."""

    event: ModelEvent


class Sourced(msgspec.Struct, frozen=True, tag="source"):
    """Where the samples of a workload's stream come from."""

    workload: str
    source: str
    real: bool


class Sensed(msgspec.Struct, frozen=True, tag="sensed"):
    """A node senses what is really there for a workload, by a sensor of this kind."""

    node: str
    workload: str
    sensor: str


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The cloud let the streams start: samples are due from `start_ns` to `end_ns`."""

    start_ns: int
    end_ns: int


class Invalidated(msgspec.Struct, frozen=True, tag="invalidated"):
    """Something that makes the run invalid whatever its figures say. mistake: the user's, so the run never began."""

    reason: str
    mistake: bool = False


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The command that made the run, and the machine it ran on."""

    command_started_ns: int
    host: dict[str, str | int | float]


class HostUsed(msgspec.Struct, frozen=True, tag="host"):
    """The use of the whole machine."""

    usage: HostUsage


RAPL = "RAPL, processor packages alone"
"""The source of a meter that tells of a whole computer, of all machines of a lab that share it."""


class Metered(msgspec.Struct, frozen=True, tag="meter"):
    """Something measures what the machine draws; a later entry replaces it. source: in words. failed: why it tells no
    more."""

    source: str
    failed: str | None = None


class Hiccuped(msgspec.Struct, frozen=True, tag="hiccup"):
    """Hiccups of a part; those of one second may come in several entries."""

    part: str
    hiccups: list[Hiccup]


class Brokered(msgspec.Struct, frozen=True, tag="broker"):
    """Which broker serves a site, or the cloud; a later entry of the same site replaces it.

    version: None of one of the user's own, which does not say it. refused: how many `connections`, `publications` and
    `subscriptions` were, as far as it says so.
    """

    site: str
    kind: Literal["mosquitto", "nats", "external"]
    version: str | None
    refused: dict[str, int] = {}


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """How many `connections` and `requests` what a node serves by HTTP has refused so far."""

    node: str
    refused: dict[str, int]


class Linked(msgspec.Struct, frozen=True, tag="link"):
    """What is known of a link; a later entry of the same name replaces it."""

    link: LinkObserved


class Died(msgspec.Struct, frozen=True, tag="died"):
    """A part ended before the run did."""

    death: Death


class MachineFacts(msgspec.Struct, frozen=True):
    """A machine besides the server. address: as the server sees it. computer: of the machines of the run that share its
    cores the first, which may be itself, or the server."""

    name: str
    arch: str
    cores: int
    memory_mb: int
    address: str
    computer: str = ""


class TookPart(msgspec.Struct, frozen=True, tag="machine"):
    """A machine holds parts of the run; written before any of them has started. A later entry replaces it."""

    machine: MachineFacts


class Compared(msgspec.Struct, frozen=True, tag="compared"):
    """Exchanges between a machine (own) and the server (other); some may have stood in an earlier entry."""

    machine: str
    exchanges: list[Exchange]


class Elsewhere(msgspec.Struct, frozen=True, tag="elsewhere"):
    """What was observed on another machine than that of the spool, by the clock there."""

    machine: str
    entry: HostUsed | Metered | Used | Hiccuped | Died | Faulted


Entry = (
    TallySnapshot
    | Released
    | SampleRows
    | Swapped
    | Used
    | Closed
    | Modelled
    | Sourced
    | Sensed
    | Began
    | Invalidated
    | Opened
    | HostUsed
    | Metered
    | Hiccuped
    | Brokered
    | Refused
    | Linked
    | Died
    | Rounded
    | AppMetrics
    | Partitioned
    | RoundScored
    | Faulted
    | FaultAsked
    | Cascaded
    | Chained
    | Moved
    | Replaced
    | TookPart
    | Compared
    | Elsewhere
)
