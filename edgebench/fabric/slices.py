"""What the control plane and the nodes say to each other, as typed data."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgebench.core.tallies import Tally
from edgebench.core.timeouts import Expected
from edgebench.fabric.shelves import Caller
from edgebench.inference.spec import TensorSpec
from edgebench.topology.deployment import FederatedPlan, NodePlan, WorkloadPlan
from edgebench.topology.model import Durability, Move
from edgebench.topology.presence import Presence
from edgebench.topology.profiles import Profile

WATCHER = "watcher"
"""What the executor is called whose token speaks for no node."""

STREAM_FILES = ("x.npy", "y.npy", "group.npy")
"""Of what a workload's sensors replay, a row a sample: the sample, its labels, and whose it is."""

STREAM_INFO = "stream.json"
"""Beside them: what they are, as a `StreamInfo`."""

Phase = Literal["preparing", "running", "ending", "aborted"]


class StreamInfo(msgspec.Struct, frozen=True):
    """What a workload's sensors sense. input: one sample; samples: how many are replayed; source, real: of these.
    features: along the last axis, where a sample has such."""

    task: str
    input: TensorSpec
    samples: int
    source: str
    real: bool
    features: tuple[str, ...] = ()


class Endpoints(msgspec.Struct, frozen=True):
    """Where a node reaches things, through the emulated links where there are any.

    broker: MQTT URL of the site's broker (the cloud's own for the cloud). uplink: MQTT URL of the cloud's broker, for
    an edge. models: base URL (HTTP) of the cloud's files: models, and what federated messages carry. site: the same of
    its edge, for a device whose edge aggregates. one_broker: `broker` serves all sites and the cloud, so an edge
    has to name its devices; on a broker of its own it takes whatever comes, by one filter a workload.
    elsewhere: edge -> MQTT URL of its site's broker, for a device that moves there. shares_clock: the node is on the
    machine of the cloud, so that their clocks are one; else it compares them.
    """

    broker: str
    models: str
    uplink: str | None = None
    one_broker: bool = False
    elsewhere: dict[str, str] = {}
    shares_clock: bool = True
    site: str | None = None


class Share(msgspec.Struct, frozen=True):
    """A device streams the groups (patients) of rank ≡ index, modulo `of`."""

    index: int
    of: int


class Slice(msgspec.Struct, frozen=True):
    """The part of a deployment that one process needs: all of its nodes, and the workloads that touch them.

    A plan's `deciders` is cut down to the devices that are these nodes or lie below them. shares: device -> workload.
    federated: workload -> the whole plan, of those that any of these nodes takes part in. moves: from, to or of these
    nodes. expected: by workload, how long the decisions on its samples may take. callers: for an edge that aggregates,
    who may fetch and hand in there, by `digest_of_token`. boards: device -> the one without our software that
    plays it, of an edge. profiles: of the machines that nodes are emulated to run on, by their names. presence: of
    those devices among or below these nodes that are not there all the time. durability: what is promised of samples.
    learning_sites: how many sites have devices that learn on the machine of these nodes. by_turns: those of these nodes
    that have samples on their way to the cloud, which their files let pass.
    """

    run_id: str
    seed: int
    duration_s: float
    nodes: dict[str, NodePlan]
    endpoints: dict[str, Endpoints]
    workloads: dict[str, WorkloadPlan]
    shares: dict[str, dict[str, Share]]
    traces: dict[str, list[float]] = {}
    federated: dict[str, FederatedPlan] = {}
    moves: tuple[Move, ...] = ()
    expected: dict[str, Expected] = {}
    callers: dict[str, Caller] = {}
    boards: dict[str, str] = {}
    presence: dict[str, tuple[Presence, ...]] = {}
    profiles: dict[str, Profile] = {}
    durability: Durability = "none"
    learning_sites: int = 0
    by_turns: frozenset[str] = frozenset()


class Refusal(msgspec.Struct, frozen=True):
    """The first model of a workload that a process was told of, and why it cannot be used there: it will never be
    ready."""

    workload: str
    digest: str
    reason: str


class Heartbeat(msgspec.Struct, frozen=True):
    """A process to the cloud, twice a second: it is there, it is ready to start or not, it has drained or not.

    totals: the sums of its nodes' counts by workload. waits: what it still waits for, where that is unusual. in_use:
    workload that it decides -> digest of the model that it decides with. incarnation: how often its nodes had been
    started before. may_wait: it has nothing to do before the streams begin, so that the answer may wait for that a
    while. round_trip_s: the longest that one has taken to the cloud, and its answer back, where that is on another
    machine. loading: it fetches a model and warms it up, which may take minutes on a slow board,
    or a sensor's first sample is on its way, of a reading a minute.
    """

    nodes: list[str]
    ready: bool
    drained: bool
    totals: dict[str, Tally] = {}
    refused: tuple[Refusal, ...] = ()
    waits: str = ""
    in_use: dict[str, str] = {}
    incarnation: int = 0
    may_wait: bool = False
    round_trip_s: float = 0.0
    loading: bool = False


class RunState(msgspec.Struct, frozen=True):
    """How the run stands. start_ns: when the first sample may be due, once `running`: on the cloud's clock as the cloud
    tells it, on its own as a process tells its nodes."""

    phase: Phase
    start_ns: int | None = None
    reason: str | None = None


class Beaten(msgspec.Struct, frozen=True):
    """The cloud's answer to a heartbeat, and when it had the one and sent the other, on its own clock."""

    state: RunState
    received_ns: int
    sent_ns: int


class LiveState(msgspec.Struct, frozen=True):
    """What a watcher sees: `GET /v1/state`. preparing: what the cloud is busy with, for people; rollouts likewise, by
    workload. rounds: workload -> the last federated round of training that was held. rolled_out: workload -> how many
    of its roll-outs are with all that decide. notes: of what federations have done, the last lines, for people. noted:
    how many there have been."""

    phase: Phase
    start_ns: int | None
    preparing: str
    ready: list[str]
    drained: list[str]
    totals: dict[str, Tally]
    rollouts: dict[str, str] = {}
    reason: str | None = None
    rounds: dict[str, int] = {}
    rolled_out: dict[str, int] = {}
    notes: list[str] = []
    noted: int = 0
