"""What an execution asks of a machine, and what the machine tells: plain data, the same here and over a network.

Orders are done one after another. What comes of them, and of the parts that they have started, is among the reports.
"""

from __future__ import annotations

from cloud.cloud_spec import CloudSpec
from edgebench.executors.faults import (
    CutLink,
    Degrade,
    FillDisk,
    FreeDisk,
    Kill,
    MendLink,
    Pause,
    Restore,
    Resume,
    StepClock,
)
from edgebench.executors.plan import Part
from edgebench.fabric.brokers import BrokerUser
from edgebench.fabric.paths import PathMeasured, PathWatched
from edgebench.fabric.probing import LinkMeasured
from edgebench.fabric.records import Brokered, Faulted, Hiccuped, HostUsed, Metered, Used
from edgebench.fabric.relay import LinkCounters, Route
from edgebench.topology.deployment import Frozen, LinkPlan
from edgebench.topology.link_traces import NO_TRACES, LinkTraces
from edgebench.topology.model import BrokerKind, Durability


class Listen(Frozen, frozen=True, tag="listen"):
    """Listen at what a part offers, before it is started: so that others can be told of it. Told of by `Up`."""

    part: Part


class StartBroker(Frozen, frozen=True, tag="broker"):
    """Start a broker, and do not wait for it. users: who may connect; nobody is asked where there are none. port: 0 for
    any that is free. incarnation: how often it was started before; where it was, it goes on there, with what it has on
    disk. fault: that this is the end of. durability: see `BrokerSettings`."""

    part: Part
    kind: BrokerKind = "auto"
    users: tuple[BrokerUser, ...] = ()
    port: int = 0
    incarnation: int = 0
    fault: int | None = None
    durability: Durability = "none"


class AwaitBroker(Frozen, frozen=True, tag="await-broker"):
    """Wait until a broker takes connections. Told of by `Up`."""

    part: str


class Revoke(Frozen, frozen=True, tag="revoke"):
    """End the access of these users of a broker: their connections are cut, and they cannot connect again."""

    part: str
    users: tuple[str, ...]


class StartRelay(Frozen, frozen=True, tag="relay"):
    """Start the relay that emulates these links, and do not wait for it. traces: that they name."""

    part: Part
    links: tuple[LinkPlan, ...]
    seed: int
    traces: LinkTraces = NO_TRACES


class Emulate(Frozen, frozen=True, tag="emulate"):
    """Listen for what crosses a relay's links, and measure what it makes of them; nothing else should be running.

    Told of by `Measured`, and by `Up`.
    """

    part: str
    routes: tuple[Route, ...]


class BeginLinks(Frozen, frozen=True, tag="begin-links"):
    """The streams begin at a time of the machine's clock: traces of rates, and outages, of a relay's links count from
    then on."""

    part: str
    at_ns: int


class StartCloud(Frozen, frozen=True, tag="cloud"):
    """Start the cloud, which listens already, unless it has been started. token: by which the executor speaks to it.
    spec: None where it is only to load its programs, and is told the rest later."""

    part: Part
    spec: CloudSpec | None
    token: str


class StartNode(Frozen, frozen=True, tag="node"):
    """Start an edge node or a device agent, which waits for the cloud by itself. incarnation, fault: as above.
    small_disk: what it keeps lies on a disk of its own, which can be filled."""

    part: Part
    control_url: str
    token: str
    incarnation: int = 0
    fault: int | None = None
    small_disk: bool = False


class ServePaths(Frozen, frozen=True, tag="serve-paths"):
    """Let other machines measure the network between them and this one. Told of by `PathsServed`."""


class MeasurePath(Frozen, frozen=True, tag="measure-path"):
    """Measure the network between this machine and another, and watch its delay from then on. Told of by
    `PathMeasuredTo`."""

    to: str
    host: str
    port: int


class EndPaths(Frozen, frozen=True, tag="end-paths"):
    """Serve, and watch, no more. Told of by `PathsWatched`."""


class End(Frozen, frozen=True, tag="end"):
    """End these parts, side by side, in good order while there is time. Told of by `Counted` of a relay, and `Ended`
    of each that has not ended before; then by `AllEnded`."""

    parts: tuple[str, ...]


class HandIn(Frozen, frozen=True, tag="hand-in"):
    """Hand in what the parts have left behind: logs, and what they recorded and did not hand in themselves. Told of by
    `HandedIn`: of each file, and with nothing when it is done."""


class KeepPiece(Frozen, frozen=True, tag="keep-piece"):
    """Keep the next piece of a file that the machine is to be measured with. name: within the folder of these."""

    name: str
    piece: bytes


class MeasureMachine(Frozen, frozen=True, tag="measure-machine"):
    """Run `edgebench profile` with these words, and the files that were kept. Told of by `Said`, a line each, and
    `HandedIn` of its profile; or by `Failed`."""

    words: tuple[str, ...]


Order = (
    Listen
    | StartBroker
    | AwaitBroker
    | Revoke
    | StartRelay
    | Emulate
    | BeginLinks
    | StartCloud
    | StartNode
    | ServePaths
    | MeasurePath
    | EndPaths
    | CutLink
    | MendLink
    | Degrade
    | Restore
    | Kill
    | Pause
    | Resume
    | FillDisk
    | FreeDisk
    | StepClock
    | End
    | HandIn
    | KeepPiece
    | MeasureMachine
)


class Up(Frozen, frozen=True, tag="up"):
    """A part can be connected to. ports: by the address that it offers."""

    part: str
    ports: dict[str, int]


class Measured(Frozen, frozen=True, tag="measured"):
    """What a relay really makes of its links."""

    links: dict[str, LinkMeasured]


class Counted(Frozen, frozen=True, tag="counted"):
    """What has crossed a relay's links."""

    links: dict[str, LinkCounters]


class Ended(Frozen, frozen=True, tag="ended"):
    """A part has ended. status: exit status, negative for a signal. incarnation: as it was started."""

    part: str
    status: int
    at_ns: int
    last_words: str
    incarnation: int = 0


class AllEnded(Frozen, frozen=True, tag="all-ended"):
    """What an `End` was about is over."""

    parts: tuple[str, ...]


class Failed(Frozen, frozen=True, tag="failed"):
    """An order could not be done."""

    reason: str


class PathsServed(Frozen, frozen=True, tag="paths-served"):
    """Where others can measure their way to this machine."""

    port: int


class PathMeasuredTo(Frozen, frozen=True, tag="path-measured"):
    """What the network between this machine and another does."""

    to: str
    measured: PathMeasured


class PathsWatched(Frozen, frozen=True, tag="paths-watched"):
    """What it has done since, by machine."""

    to: dict[str, PathWatched]


class HandedIn(Frozen, frozen=True, tag="handed-in"):
    """A file has been handed in, or, without a name, all of them."""

    name: str | None = None


class Said(Frozen, frozen=True, tag="said"):
    """How far a machine is that is being measured, or hands in what takes long."""

    line: str


class Noted(Frozen, frozen=True, tag="noted"):
    """What was observed of the machine, by its own clock."""

    entry: HostUsed | Metered | Used | Hiccuped | Faulted | Brokered


class Gone(Frozen, frozen=True, tag="gone"):
    """The machine is lost, with all that ran there; nothing more will be told. why: after its name. removed: it is of
    the lab no more, so what it knows must be of no use from now on."""

    why: str
    removed: bool = False


Report = (
    Up
    | Measured
    | Counted
    | Ended
    | AllEnded
    | Failed
    | PathsServed
    | PathMeasuredTo
    | PathsWatched
    | HandedIn
    | Said
    | Noted
    | Gone
)
