"""A deployment: a topology with every node, link and stage resolved. The form in which executors and nodes see it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

import msgspec

from edgebench.topology.fault_model import FaultPlan
from edgebench.topology.link_model import Jitter, LinkChange, LinkEnergy, Outage
from edgebench.topology.model import (
    Batch,
    BrokerKind,
    Cascade,
    Durability,
    Federated,
    Head,
    Joint,
    Jpeg,
    Load,
    ModelChoice,
    Move,
    Queue,
    Rollout,
    Split,
    Store,
    Tier,
    Training,
)
from edgebench.topology.profiles import Profile
from edgebench.topology.settings import Setting

HERE = "here"
"""The machine of the command, whatever its name."""
SIMULATE = "simulate"
"""The executor of what is run in virtual time: no process takes part in it."""


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record of the deployment."""


_INSTEAD_OF = {
    "latency_ms": "delay_trace",
    "jitter_ms": "delay_trace",
    "up_mbit_s": "up_trace",
    "down_mbit_s": "down_trace",
}
"""A figure that is given -> the trace in whose place it is."""


class NodePlan(Frozen, frozen=True):
    """One node. `children` and `parent` are names of nodes; only the cloud has no parent.

    profile: of the machine that it is emulated to run on, by its name; `host` where nothing is emulated.
    elsewhere: the edges that a device moves to, or the devices that come to an edge, besides its parent and children.
    memory_mb: the most that it has, in 10⁶ bytes. machine: that it runs on. board: the device without our software that
    plays it, beside that machine: nothing of ours runs for it. count: so many devices of its group and site it stands
    for, in a simulation that is too large to name each.
    """

    name: str
    group: str
    tier: Tier
    profile: str
    parent: str | None
    children: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()
    machine: str = HERE
    board: str | None = None
    memory_mb: int | None = None
    count: int = 1

    @property
    def sites(self) -> tuple[str, ...]:
        """The nodes above that it connects to, at one time or another: of a device, the edges that it is at."""
        if self.parent is None:
            return ()
        return (self.parent, *self.elsewhere) if self.tier == "device" else (self.parent,)


class LinkPlan(Frozen, frozen=True):
    """The link from `child` to its `parent`. None as a rate is unlimited; links with one `pipe` share its rates.

    breaks: a fault cuts it, so it is emulated even where it is otherwise perfect. delay_trace, up_trace, down_trace:
    the files by which it varies, rates once the streams have begun; latency and rates are then their median and means,
    jitter_ms the distance of the delays' quartiles, and delays_ms their p50, p90 and p99. outages: with those of a
    trace. energy: of its bytes, which are counted for that even where it is otherwise perfect.
    """

    child: str
    parent: str
    latency_ms: float
    jitter_ms: float
    up_mbit_s: float | None
    down_mbit_s: float | None
    pipe: str
    breaks: bool = False
    jitter: Jitter = "uniform"
    loss_percent: float = 0.0
    delay_trace: str | None = None
    up_trace: str | None = None
    down_trace: str | None = None
    delays_ms: tuple[float, ...] = ()
    outages: tuple[Outage, ...] = ()
    energy: LinkEnergy | None = None

    @property
    def name(self) -> str:
        """`child -> parent`, as faults and results call it."""
        return f"{self.child} -> {self.parent}"

    @property
    def shaped(self) -> bool:
        """Whether anything at all has to be emulated."""
        varies = self.latency_ms or self.jitter_ms or self.up_mbit_s or self.down_mbit_s or self.delay_trace
        return bool(varies or self.breaks or self.loses or self.energy)

    @property
    def loses(self) -> bool:
        """Whether packets may get lost."""
        return bool(self.loss_percent or self.outages)

    @property
    def varies(self) -> bool:
        """Whether it is not the same all the time, but for its jitter."""
        return bool(self.loses or self.delay_trace or self.up_trace or self.down_trace)

    def changed(self, change: LinkChange) -> LinkPlan:
        """What it is with a change."""
        given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
        no_more = {_INSTEAD_OF[name]: None for name in given if name in _INSTEAD_OF}
        return msgspec.structs.replace(self, **given, **no_more)


class OnlinePlan(Frozen, frozen=True):
    """A workload that edges move to the cloud, and back. begins: the tier that decides at first; the others as in
    `Online`."""

    begins: Tier
    gain: float
    hold_s: float


class WorkloadPlan(Frozen, frozen=True):
    """One workload. `deciders` maps each source device to the node that decides its samples.

    place: the tier that decides; `device + cloud` and the like where it is not the same for all.
    cascade: where the deciding edge may ask the cloud. split, head: of a chain, where its model is cut, or the model
    before it; head_tier, tail_tier: who has the first stage, and the second, which decides what that gives. Where edges
    have the first, they are the deciders here; where devices have it, whoever has the second is. paced_by: the workload
    whose `load` this is, if it is another's. online: where the deciding edge may have the cloud decide all.
    """

    name: str
    task: str
    sources: tuple[str, ...]
    deciders: dict[str, str]
    place: str
    load: Load
    deadline_ms: float | None
    model: ModelChoice
    train: Training
    rollout: tuple[Rollout, ...]
    batch: Batch
    queue: Queue
    qos: int
    compress: Jpeg | None = None
    cascade: Cascade | None = None
    paced_by: str | None = None
    store: Store = Store()
    split: Split | None = None
    head: Head | None = None
    online: OnlinePlan | None = None
    head_tier: Tier = "edge"
    tail_tier: Tier = "cloud"

    @property
    def is_chain(self) -> bool:
        """Whether it has two stages."""
        return self.split is not None or self.head is not None

    @property
    def head_on_device(self) -> bool:
        """Whether deciders decide what devices make of samples."""
        return self.is_chain and self.head_tier == "device"

    @property
    def head_at_edge(self) -> bool:
        """Whether the cloud decides what deciding edges make of samples."""
        return self.is_chain and self.head_tier == "edge"

    def has_model(self, device: str) -> bool:
        """Whether a source device has a model: it decides itself, or has the first stage of a chain."""
        return self.deciders.get(device) == device or (self.head_on_device and device in self.deciders)

    def models_on(self, node: NodePlan, deciders: Container[str]) -> Iterator[ModelChoice | Cascade | Head]:
        """What a node decides with, or does its stage with; nothing where it has no model. deciders: the plan's own, as
        whoever asks for many nodes has them."""
        if node.tier == "device":
            if self.has_model(node.name):
                yield self.head or self.model
        elif node.tier == "cloud":
            if self.goes_on or node.name in deciders:
                yield self.cascade or self.model
        elif node.name in deciders:
            yield (self.head or self.model) if self.head_at_edge else self.model

    def stage_nodes(self, deployment: Deployment) -> tuple[list[NodePlan], list[NodePlan]]:
        """Of a chain: who has the first stage, and who the second."""
        deciders = [deployment.nodes[name] for name in dict.fromkeys(self.deciders.values())]
        if self.head_on_device:
            return [deployment.nodes[name] for name in self.deciders], deciders
        return deciders, [deployment.nodes[deployment.cloud]]

    @property
    def goes_on(self) -> bool:
        """Whether the cloud decides, at least some, of what deciding edges take in."""
        return self.cascade is not None or self.head_at_edge or self.online is not None


class FederatedPlan(Frozen, frozen=True):
    """Federated learning of one workload.

    clients: the devices that learn, in the order of their Flower node ids 1, 2, …. edges: edge -> those of its devices.
    node_configs: by node id, of the clients of an app that have settings of their own.
    """

    how: Federated
    clients: tuple[str, ...]
    edges: dict[str, tuple[str, ...]]
    node_configs: dict[int, dict[str, Setting]] = {}

    @property
    def edges_aggregate(self) -> bool:
        """Whether edges answer the cloud for their devices."""
        return "edge" in self.how.aggregate

    @property
    def over_mqtt(self) -> bool:
        """Whether its messages cross the links: with the engines of Flower's, the clients are beside the cloud."""
        return self.how.engine == "mqtt"

    @property
    def asked(self) -> tuple[str, ...]:
        """The cloud's own clients: the edges where they aggregate, else the devices."""
        return tuple(self.edges) if self.edges_aggregate else self.clients


class Deployment(Frozen, frozen=True):
    """What a run is made of; written to `deployment.json`. Holds no secret and no port. profiles: by their names, what
    concerns its tasks."""

    schema: int
    run_id: str
    name: str
    seed: int
    duration_s: float
    executor: str
    data: str | None
    broker_url: str | None
    nodes: dict[str, NodePlan]
    links: dict[str, LinkPlan]
    workloads: dict[str, WorkloadPlan]
    federated: dict[str, FederatedPlan] = {}
    joint: dict[str, Joint] = {}
    moves: tuple[Move, ...] = ()
    faults: tuple[FaultPlan, ...] = ()
    broker_kind: BrokerKind = "auto"
    profiles: dict[str, Profile] = {}
    durability: Durability = "none"

    @property
    def cloud(self) -> str:
        """The name of the one cloud node."""
        return next(node.name for node in self.nodes.values() if node.tier == "cloud")

    @property
    def heads_on_devices(self) -> frozenset[str]:
        """The workloads that are chains of which devices have the first stage."""
        return frozenset(name for name, plan in self.workloads.items() if plan.head_on_device)

    def of_tier(self, tier: Tier) -> tuple[NodePlan, ...]:
        """The nodes of a tier, in the order of the file."""
        return tuple(node for node in self.nodes.values() if node.tier == tier)


def is_simulated(deployment: Deployment) -> bool:
    """Whether it was run in virtual time."""
    return deployment.executor == SIMULATE


def boards_at(deployment: Deployment, site: str) -> list[str]:
    """The devices without our software below an edge."""
    return [node.board for node in deployment.of_tier("device") if node.board is not None and node.parent == site]


def as_placed(deployment: Deployment, placed: Deployment) -> Deployment:
    """With each node where another deployment of the same nodes has it."""
    nodes = {
        name: msgspec.structs.replace(node, machine=placed.nodes[name].machine, board=placed.nodes[name].board)
        for name, node in deployment.nodes.items()
    }
    return msgspec.structs.replace(deployment, nodes=nodes)


def on_machines(deployment: Deployment, machines: Mapping[str, str]) -> Deployment:
    """With the machine of each node that is named."""
    nodes = {
        name: msgspec.structs.replace(node, machine=machines.get(name, node.machine))
        for name, node in deployment.nodes.items()
    }
    return msgspec.structs.replace(deployment, nodes=nodes)
