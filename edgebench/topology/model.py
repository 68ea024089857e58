"""The topology file, schema version 1, as typed data.

Every field is checked for its shape while it is decoded; `check` looks at what fields say of each other;
an executor then refuses by name what it cannot enforce.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from edgebench.topology.fault_model import Chaos, Fault
from edgebench.topology.fields import (
    BoundMs,
    Count,
    DelayMs,
    DurationS,
    Epochs,
    MemoryMb,
    Name,
    RateHz,
    Samples,
    Strict,
    TimeS,
)
from edgebench.topology.job_model import Cost, Job
from edgebench.topology.link_model import Link

Tier = Literal["device", "edge", "cloud"]
Runtime = Literal["litert", "keras", "onnx", "fake"]
Quantisation = Literal["float32", "float16", "dynamic", "int8"]
Where = Literal["device", "edge", "cloud", "cascade"]
Chain = tuple[Tier, Tier]
"""The tiers of two stages, of which the second decides what the first one gives."""
WhenFull = Literal["drop-oldest", "drop-newest"]
BrokerKind = Literal["auto", "mosquitto", "nats"]
Durability = Literal["none", "process", "power"]
"""What accepted samples of QoS 1 survive: broken connections, also the death of any process, also a power cut."""


class NodeGroup(Strict, frozen=True):
    """One node, or `count` nodes named `<group>-0` … when `count` is given.

    Nodes of a group are dealt round the nodes of the parent group: `bed-0` to `ward-0`, `bed-1` to `ward-1`, ….
    `profile`: `host`, as fast as whatever it runs on, or the file or name of a profile, by which they are emulated.
    `memory_mb`: the most memory that each of its nodes has, in 10⁶ bytes, those that share a container all theirs
    together; `profile`: that of the profile's machine.
    """

    tier: Tier
    count: Count | None = None
    parent: Name | None = None
    profile: str = "host"
    memory_mb: MemoryMb | Literal["profile"] | None = None


class Fixed(Strict, frozen=True, tag="fixed", tag_field="kind"):
    """A sample every 1 / `rate_hz` s on each device, each device with its own seeded phase."""

    rate_hz: RateHz


class Poisson(Strict, frozen=True, tag="poisson", tag_field="kind"):
    """Exponential gaps with mean 1 / `rate_hz` s on each device."""

    rate_hz: RateHz


class Trace(Strict, frozen=True, tag="trace", tag_field="kind"):
    """Times in s from the start of the run, one a line, from a text file beside the topology; every device plays it."""

    file: str


class SingleStream(Strict, frozen=True, tag="single-stream", tag_field="kind"):
    """MLPerf: the next sample when the decision of the last has arrived."""


class MultiStream(Strict, frozen=True, tag="multi-stream", tag_field="kind"):
    """MLPerf: a query of `samples` samples at once, the next query when all of the last are decided."""

    samples: Samples = 8


class Server(Strict, frozen=True, tag="server", tag_field="kind"):
    """MLPerf: Poisson arrivals on each device and a bound on the p99 that the run must meet to be valid."""

    rate_hz: RateHz
    p99_ms: BoundMs


class Offline(Strict, frozen=True, tag="offline", tag_field="kind"):
    """MLPerf: all `samples` of a device are due at the start; what counts is the throughput."""

    samples: Samples


class With(Strict, frozen=True, tag="with", tag_field="kind"):
    """A sample whenever `workload` has one, on the same devices: one frame, several questions."""

    workload: Name


class After(Strict, frozen=True, tag="after", tag_field="kind"):
    """A sample as soon as all `workloads` have decided theirs of the same frame, on the same device."""

    workloads: Annotated[tuple[Name, ...], Meta(min_length=1)]


Load = Fixed | Poisson | Trace | SingleStream | MultiStream | Server | Offline | With | After


class Place(Strict, frozen=True):
    """The tier that each stage runs on; `cascade` asks the edge first and the cloud when the edge is unsure.

    infer: one for all source devices, or one by group or device; a device's own entry goes before that of its group.
    Two in a list are a chain: what the first gives is passed on to the second, which decides.
    """

    infer: Where | dict[Name, Where] | Chain = "edge"


class ModelChoice(Strict, frozen=True):
    """Which model decides, and how it is run.

    source: `train` (the cloud trains it), a path to a model file beside the topology, or `sha256:<hex>` of one
    in the registry.
    """

    size: Literal["light", "heavy", "published"] = "light"
    runtime: Runtime = "litert"
    quantisation: Quantisation = "float32"
    source: str = "train"


class Cascade(Strict, frozen=True):
    """The model in the cloud that is asked where the edge's own, `model`, is unsure.

    size, runtime, quantisation: as in `model`. target_quality: how good the two together are to be, on held-out data;
    the edge's confidence threshold is calibrated for it (none: nearly as good as the cloud's model alone).
    """

    size: Literal["light", "heavy", "published"] = "heavy"
    runtime: Runtime = "litert"
    quantisation: Quantisation = "float32"
    target_quality: float | None = None


Split = Annotated[int, Meta(ge=1, le=10_000)] | Literal["auto"]
"""After which of the places at which one tensor alone goes on a model is cut in two, counted from its input on; `auto`:
where its decisions take the shortest time, by what its parts take and the links carry."""


class Training(Strict, frozen=True):
    """How the first model is trained. `examples` counts patients (subjects, tracks); none means all."""

    epochs: Epochs | None = None
    examples: Count | None = None


class Head(Strict, frozen=True):
    """The first stage of a chain: a model of a task whose samples are those of the workload's own. The workload's model
    learns from what it gives, and decides that.

    size, runtime, quantisation: as in `model`. train: how it is trained.
    """

    task: str
    size: Literal["light", "heavy", "published"] = "light"
    runtime: Runtime = "litert"
    quantisation: Quantisation = "float32"
    train: Training = Training()


class Rollout(Strict, frozen=True):
    """Train another model while the streams run, and announce it if it is better on held-out data."""

    at_s: TimeS
    epochs: Epochs | None = None
    examples: Count | None = None


class Batch(Strict, frozen=True):
    """The deciding node takes what has arrived, at most `max_batch`, waiting at most `max_wait_ms` for more."""

    max_batch: Annotated[int, Meta(ge=1, le=256)] = 8
    max_wait_ms: DelayMs = 0.0


class Jpeg(Strict, frozen=True, tag="jpeg", tag_field="kind"):
    """The device sends pictures as JPEG files; the deciding node decompresses them. quality: as libjpeg has it."""

    quality: Annotated[int, Meta(ge=1, le=95)] = 75


class Queue(Strict, frozen=True):
    """Samples that wait for the model at the deciding node; what is dropped is counted and named."""

    max_samples: Samples = 4096
    when_full: WhenFull = "drop-oldest"


class Store(Strict, frozen=True):
    """What an edge keeps on disk of work for the cloud while it has no uplink, in 10⁶ bytes; what is dropped is counted
    and named. Where durability is promised, devices have one too, and refuse what does not fit into it."""

    max_mb: Annotated[int, Meta(ge=1, le=10**6)] = 256
    when_full: WhenFull = "drop-oldest"


class Workload(Strict, frozen=True):
    """A task fed by a load on the devices of one or more groups. split, head: what the two stages of a chain are: the
    model, cut in two, or another one before it."""

    task: str
    source: Name | tuple[Name, ...]
    load: Load
    deadline_ms: BoundMs | None = None
    place: Place = Place()
    model: ModelChoice = ModelChoice()
    cascade: Cascade | None = None
    split: Split | None = None
    head: Head | None = None
    train: Training = Training()
    rollout: tuple[Rollout, ...] = ()
    compress: Jpeg | None = None
    batch: Batch = Batch()
    queue: Queue = Queue()
    store: Store = Store()
    qos: Literal[0, 1] = 1

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the source groups."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def is_chain(self) -> bool:
        """Whether it has two stages."""
        return isinstance(self.place.infer, tuple)

    @property
    def head_on_device(self) -> bool:
        """Whether it has two stages, of which devices have the first."""
        return isinstance(self.place.infer, tuple) and self.place.infer[0] == "device"


class Strategy(Strict, frozen=True):
    """A Flower strategy by name, with its arguments."""

    name: str = "FedAvg"
    args: dict[str, Any] = field(default_factory=dict)


class Iid(Strict, frozen=True, tag="iid", tag_field="kind"):
    """Groups (patients) are dealt to the devices at random, in equal numbers."""


class Dirichlet(Strict, frozen=True, tag="dirichlet", tag_field="kind"):
    """The shares of each label's groups on the devices are drawn from Dir(alpha): the smaller, the more they differ."""

    alpha: Annotated[float, Meta(ge=1e-3, le=1e6)]


class Natural(Strict, frozen=True, tag="natural", tag_field="kind"):
    """Groups fall to the devices by what sets them apart in the data: the type of intensive care unit, the hospital."""


Partition = Iid | Dirichlet | Natural


class Fit(Strict, frozen=True):
    """How a device learns in a round: stochastic gradient descent with momentum.

    runtime: `litert` learns with a graph of the training step that the cloud exports, without a training framework.
    clip_norm: gradients with a larger norm are scaled down to it; 0: never.
    """

    runtime: Literal["litert", "keras", "torch"] = "litert"
    learning_rate: Annotated[float, Meta(gt=0, le=1e3)] = 0.05
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    clip_norm: Annotated[float, Meta(ge=0, le=1e9)] = 1.0


class Learners(Strict, frozen=True):
    """The processes that learn for the devices of an agent.

    at_once: of its devices, how many may compute at the same time; one that only waits does not count. None: the cores
    of its machine over the agents there that learn. threads: of each. gpu: whether they see the machine's.
    """

    at_once: Count | None = None
    threads: Annotated[int, Meta(ge=1, le=1024)] = 1
    gpu: bool = False


class Buffer(Strict, frozen=True):
    """Asynchronous rounds: aggregate after `updates` replies (none: half the clients), whoever sent them.

    A reply that was begun `s` rounds ago is discounted by (1 + s) ** -staleness_exponent.
    Source: Nguyen et al. 2022, FedBuff.
    """

    updates: Count | None = None
    staleness_exponent: Annotated[float, Meta(ge=0, le=100)] = 0.5


class Federated(Strict, frozen=True):
    """Federated learning of a workload's model beside its stream, by the devices that are its source.

    app: the folder of a Flower app beside the topology; then it says what is learned and for how many rounds, and
    `config` overrides its run config, by dotted key or in nested tables, and `node_config` is what its clients have in
    `context.node_config`: of all, or, in a table of its name, of a group or a device. Without it, the workload's own
    model is learned, for `rounds` rounds.
    aggregate: `[edge, cloud]` has each edge run `edge_rounds` rounds of its site and answer the cloud as one client.
    fraction: of the clients, drawn anew for each round. deadline_s: how long a round waits for replies. min_replies:
    fewer good ones skip a round. max_update_ratio: a reply that changes the model by more than this times the median
    change is refused. at_s, interval_s: when the first round begins, and the least time from one to the next.
    rollout_every: the model of every n-th round is announced, if it is better on held-out data; 0: of none.
    keep_answers: keep what the server was answered, without which the rounds cannot be gone on with.
    """

    workload: Name
    rounds: Count | None = None
    app: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    node_config: dict[str, Any] = field(default_factory=dict)
    strategy: Strategy = Strategy()
    mode: Literal["synchronous", "buffered"] = "synchronous"
    buffer: Buffer = Buffer()
    aggregate: tuple[Literal["edge", "cloud"], ...] = ("cloud",)
    edge_rounds: Count = 1
    local_epochs: Epochs = 1
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 32
    partition: Partition = Iid()
    fit: Fit = Fit()
    learners: Learners = Learners()
    fraction: Annotated[float, Meta(gt=0, le=1)] = 1.0
    deadline_s: DurationS = 60.0
    min_replies: Count = 1
    max_update_ratio: Annotated[float, Meta(gt=1, le=1e6)] = 5.0
    engine: Literal["mqtt", "superlink", "ray"] = "mqtt"
    at_s: TimeS = 0.0
    interval_s: TimeS = 0.0
    rollout_every: Annotated[int, Meta(ge=0, le=10**6)] = 1
    keep_answers: bool = True


class Joint(Strict, frozen=True):
    """A decision that is made of those of several workloads on one frame: it is there when the last of them is.

    deadline_ms: from the time the frame was due.
    """

    of: tuple[Name, ...]
    deadline_ms: BoundMs | None = None


class Move(Strict, frozen=True):
    """A device leaves its site for that of the edge `to`, `at_s` into the run."""

    at_s: TimeS
    node: Name
    to: Name


class Broker(Strict, frozen=True):
    """One broker a site and one at the cloud is started, on `listen`; `url` uses one that exists for all.

    kind: of those that are started; `auto` is Mosquitto where it is installed, else nats-server.
    """

    kind: BrokerKind = "auto"
    url: str | None = None
    listen: str = "127.0.0.1"


class Online(Strict, frozen=True):
    """Edges move workloads to the cloud, and back, while a run goes on.

    gain: the share by which the other place has to be better, as predicted. hold_s: for how long it has to be, before a
    move and before the next one; up to twice as long, by chance, so that not all sites move at once.
    """

    gain: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    hold_s: Annotated[float, Meta(ge=0.1, le=3600)] = 1.0


class Placing(Strict, frozen=True):
    """allow: the tiers where jobs may be placed, and samples decided, whoever decides that. cost: what jobs take.
    online: how samples are placed anew while a run goes on; none: they are not."""

    allow: Annotated[tuple[Tier, ...], Meta(min_length=1)] = ("device", "edge", "cloud")
    cost: Cost | None = None
    online: Online | None = None


class Topology(Strict, frozen=True):
    """A whole file. It has workloads, which are run, or jobs, which are placed.

    jobs: a job trace, as a list or as a CSV file beside the topology. place: where jobs and samples may be, and what
    jobs cost.
    durability: what the accepted samples of a run survive, none of them lost and none decided twice: `none`, broken
    connections; `process`, also the death of nodes and brokers that are started again; `power`, also a power cut.
    machines: group or node -> the machine of a lab that it runs on, or machines, round which a group's nodes are dealt;
    `here` is that of the command, where all runs that is not named.
    """

    schema: Literal[1]
    name: Name
    nodes: Annotated[dict[Name, NodeGroup], Meta(min_length=1)]
    workloads: Annotated[dict[Name, Workload], Meta(min_length=1)] = field(default_factory=dict)
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    duration_s: DurationS = 30.0
    data: str | None = None
    durability: Durability = "none"
    links: tuple[Link, ...] = ()
    broker: Broker = Broker()
    federated: tuple[Federated, ...] = ()
    joint: dict[Name, Joint] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()
    faults: tuple[Fault, ...] = ()
    chaos: tuple[Chaos, ...] = ()
    # Not `Name` as the value: msgspec 0.22 then crashes now and then as the program ends (a union of constrained texts
    # within a dict). A machine that there is not is refused by name anyway.
    machines: dict[Name, str | tuple[str, ...]] = field(default_factory=dict)
    jobs: str | tuple[Job, ...] = ()
    place: Placing = Placing()
