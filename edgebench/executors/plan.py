"""What a run is made of, before anything of it exists: parts, addresses, order, and what a death means.

A plan holds no socket, no process, no port and no secret. An executor carries it out: it chooses ports, hands
credentials on, and starts each part on its machine when those that it needs are up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from edgebench.executors.faults import PlannedFault
from edgebench.executors.wiring import (
    Crossing,
    aggregates,
    broker_address,
    crossings,
    fetches_models,
    files_address,
    server_address,
    uplink_address,
)
from edgebench.fabric.transfer_threads import AT_ONCE
from edgebench.topology.deployment import HERE, Deployment, Frozen, LinkPlan, NodePlan
from edgebench.topology.fault_model import DEPARTURES, FaultPlan
from edgebench.topology.wording import listed

COMMAND = "command"
"""Who starts what no other part starts."""

RELAY = "link relay"

PartKind = Literal["broker", "relay", "cloud", "edge", "agent", "trainer", "federation", "learner"]


class Part(Frozen, frozen=True):
    """One process of a run.

    name: as records and the verdict call it. nodes: those that it hosts. started_by: `COMMAND`, or the part whose child
    it is. offers: the addresses at which it listens. connects: address -> the most connections that it holds to it;
    each address is offered by a part, or is a broker of the user's own. accepts: the most that others hold to it.
    needs: the parts that have to be up before it is started; nodes wait for the cloud by themselves. fatal: when it
    dies, the run ends; else the others go on without it.
    """

    name: str
    kind: PartKind
    nodes: tuple[str, ...] = ()
    machine: str = HERE
    started_by: str = COMMAND
    offers: tuple[str, ...] = ()
    connects: dict[str, int] = msgspec.field(default_factory=dict)
    accepts: int = 0
    needs: tuple[str, ...] = ()
    fatal: bool = True


class RunPlan(Frozen, frozen=True):
    """The parts of a run in an order in which they can be started, and the faults that are brought about in it.

    paths: (machine, machine) of a node and its parent, where these are two.
    """

    parts: tuple[Part, ...]
    crossings: tuple[Crossing, ...]
    faults: tuple[PlannedFault, ...]
    paths: tuple[tuple[str, str], ...] = ()

    def stages(self) -> list[tuple[Part, ...]]:
        """The parts that the executor starts itself, in groups: all that those of one need stand in earlier ones."""
        waiting = [part for part in self.parts if part.started_by == COMMAND]
        stages: list[tuple[Part, ...]] = []
        while waiting:
            missing = {part.name for part in waiting}
            stage = tuple(part for part in waiting if missing.isdisjoint(part.needs))
            if not stage:
                raise AssertionError(f"parts that wait for each other: {sorted(missing)}")
            stages.append(stage)
            waiting = [part for part in waiting if not missing.isdisjoint(part.needs)]
        return stages

    def fills_disk_of(self, part: Part) -> bool:
        """Whether a fault is to."""
        return any(fault.plan.kind == "disk" and part.name in fault.parts for fault in self.faults)

    def of_kind(self, *kinds: PartKind) -> tuple[Part, ...]:
        """The parts of some kinds."""
        return tuple(part for part in self.parts if part.kind in kinds)


def plan_of(deployment: Deployment) -> RunPlan:
    """The parts that bring a deployment to life: what runs where, who starts it, and who connects to whom."""
    crossing = crossings(deployment)
    crossed = {each.name for each in crossing}
    brokers = () if deployment.broker_url is not None else tuple(_brokers(deployment))
    relays = _relays(crossing)
    # A relay is up when its links have been measured, and that wants nothing else running beside it.
    after_relays = tuple(part.name for part in relays)
    cloud = _cloud(deployment, needs=(*(part.name for part in brokers), *after_relays))
    edges = [_edge(deployment, edge, crossed, after_relays) for edge in deployment.of_tier("edge")]
    agents = [
        _agent(deployment, devices, crossed, after_relays) for devices in _devices_by_process(deployment).values()
    ]
    children = [*_children_of_cloud(deployment), *_learners(deployment, agents)]
    held = Counter[str]()
    for part in (cloud, *relays, *edges, *agents, *children):
        held.update(dict(part.connects))
    started = [*brokers, *relays, cloud, *edges, *agents, *children]
    parts = (msgspec.structs.replace(part, accepts=sum(held[address] for address in part.offers)) for part in started)
    paths = dict.fromkeys(path_of(deployment, link) for link in deployment.links.values())
    between = tuple((child, parent) for child, parent in paths if child != parent)
    return RunPlan(tuple(parts), crossing, _faults(deployment, started), between)


def connections_to_brokers(deployment: Deployment) -> int:
    """How many a run holds to its brokers, all together."""
    brokers = {broker_address(name) for name in deployment.nodes}
    parts = plan_of(deployment).parts
    return sum(held for part in parts for address, held in part.connects.items() if address in brokers)


def path_of(deployment: Deployment, link: LinkPlan) -> tuple[str, str]:
    """The machines at the ends of a link."""
    return deployment.nodes[link.child].machine, deployment.nodes[link.parent].machine


def _brokers(deployment: Deployment) -> list[Part]:
    return [
        Part(f"broker of {node.name}", "broker", machine=node.machine, offers=(broker_address(node.name),))
        for node in deployment.nodes.values()
        if node.tier != "device"
    ]


def _relays(crossing: tuple[Crossing, ...]) -> list[Part]:
    """One on each machine where links are emulated; that of this one, where all the others lead, comes first."""
    at: dict[str, list[Crossing]] = {}
    for each in sorted(crossing, key=lambda each: each.machine != HERE):
        at.setdefault(each.machine, []).append(each)
    stands_at = {each.name: each.machine for each in crossing}
    relays = []
    for machine, these in at.items():
        onward = {stands_at[each.to] for each in these if each.to in stands_at}
        part = Part(
            relay_of(machine),
            "relay",
            machine=machine,
            offers=tuple(each.name for each in these),
            connects=dict(Counter(each.to for each in these)),
            needs=tuple(relay_of(other) for other in sorted(onward)),
        )
        relays.append(part)
    return relays


def site_of(broker: Part) -> str:
    """The edge, or the cloud, whose broker it is."""
    (address,) = broker.offers
    return address.rpartition(":")[2]


def relay_of(machine: str) -> str:
    """What the relay of a machine is called."""
    return RELAY if machine == HERE else f"{RELAY} of {machine}"


def _cloud(deployment: Deployment, needs: tuple[str, ...]) -> Part:
    cloud = deployment.cloud
    return Part(
        cloud,
        "cloud",
        nodes=(cloud,),
        offers=(server_address(cloud),),
        connects={broker_address(cloud): 1},
        needs=needs,
    )


def _edge(deployment: Deployment, edge: NodePlan, crossed: set[str], needs: tuple[str, ...]) -> Part:
    return Part(
        edge.name,
        "edge",
        nodes=(edge.name,),
        machine=edge.machine,
        offers=(server_address(edge.name),) if aggregates(deployment, edge.name) else (),
        connects={broker_address(edge.name): 1, **_upward(deployment, [edge], crossed)},
        needs=needs,
    )


def _agent(deployment: Deployment, devices: list[NodePlan], crossed: set[str], needs: tuple[str, ...]) -> Part:
    names = tuple(device.name for device in devices)
    return Part(
        f"device agent of {listed(names)}",
        "agent",
        nodes=names,
        machine=devices[0].machine,
        connects=dict(_upward(deployment, devices, crossed)),
        needs=needs,
        fatal=False,
    )


def _upward(deployment: Deployment, nodes: list[NodePlan], crossed: set[str]) -> Counter[str]:
    """What the nodes of a process connect to above them, through the relay where links are shaped."""

    def files(node: NodePlan, server: str) -> str:
        crossing = files_address(node.name, server)
        return crossing if crossing in crossed else server_address(server)

    cloud = deployment.cloud
    # Heartbeats, and files of the cloud's, neither of which cross a link.
    connects = Counter({server_address(cloud): 2})
    for node in nodes:
        for parent in node.sites:
            crossing = uplink_address(node.name, parent)
            connects[crossing if crossing in crossed else broker_address(parent)] += 1
        if fetches_models(deployment, node) and files_address(node.name, cloud) in crossed:
            connects[files(node, cloud)] += 1
    for plan in deployment.federated.values():
        if plan.over_mqtt:
            messages = Counter(files(node, cloud) for node in nodes if node.name in plan.asked)
            if plan.edges_aggregate:
                messages += Counter(files(node, str(node.parent)) for node in nodes if node.name in plan.clients)
            connects += Counter({address: min(n, AT_ONCE) for address, n in messages.items()})
    return connects


def _devices_by_process(deployment: Deployment) -> dict[tuple[str, str | None, str], list[NodePlan]]:
    """(group, site, machine) -> the devices that share a process; one that a fault happens to has its own."""
    hit = {fault.node for fault in deployment.faults if fault.kind not in DEPARTURES}
    found: dict[tuple[str, str | None, str], list[NodePlan]] = {}
    for device in deployment.of_tier("device"):
        if device.board is None:
            group = device.name if device.name in hit else device.group
            found.setdefault((group, device.parent, device.machine), []).append(device)
    return found


def _faults(deployment: Deployment, parts: Sequence[Part]) -> tuple[PlannedFault, ...]:
    """Which links, or which parts, each fault of the deployment happens to."""
    return tuple(
        PlannedFault(
            number,
            plan,
            () if plan.link is None else (plan.link,),
            tuple(part.name for part in parts if part.started_by == COMMAND and _is_hit(deployment, part, plan)),
            tuple(
                node.name for node in deployment.nodes.values() if plan.kind == "clock" and node.machine == plan.machine
            ),
        )
        for number, plan in enumerate(deployment.faults)
        if plan.kind not in DEPARTURES  # agents know when their devices come and go
    )


def _is_hit(deployment: Deployment, part: Part, fault: FaultPlan) -> bool:
    match fault.thing:
        case ("node", name):
            return name in part.nodes
        case ("broker", name):
            return part.kind == "broker" and site_of(part) == name
        case ("site", name):
            sites = [node if (plan := deployment.nodes[node]).tier == "edge" else plan.parent for node in part.nodes]
            return name in sites or (part.kind == "broker" and site_of(part) == name)
        case ("machine", name):
            return part.machine == name and fault.kind != "clock"
        case _:
            return False


def _children_of_cloud(deployment: Deployment) -> list[Part]:
    cloud = deployment.cloud
    trainer = Part("trainer", "trainer", started_by=cloud, needs=(cloud,), fatal=False)
    federations = [
        Part(
            f"federation of {workload}",
            "federation",
            started_by=cloud,
            connects={broker_address(cloud): 1},
            needs=(cloud,),
            fatal=False,
        )
        for workload in deployment.federated
    ]
    return [trainer, *federations]


def _learners(deployment: Deployment, agents: list[Part]) -> list[Part]:
    learning = {device for plan in deployment.federated.values() for device in plan.clients}
    return [
        Part(
            f"learner of {agent.name}",
            "learner",
            machine=agent.machine,
            started_by=agent.name,
            needs=(agent.name,),
            fatal=False,
        )
        for agent in agents
        if learning.intersection(agent.nodes)
    ]
