"""From a checked topology to the deployment of one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from msgspec.structs import replace

from edgebench.topology.deployment import Deployment, FederatedPlan, LinkPlan, NodePlan, OnlinePlan, WorkloadPlan
from edgebench.topology.expand import expand
from edgebench.topology.fault_model import FaultPlan
from edgebench.topology.fault_schedule import fault_plans
from edgebench.topology.link_model import PUBLISHED, Link
from edgebench.topology.link_traces import NO_TRACES, LinkTraces, quantiles_ms
from edgebench.topology.model import Cascade, Chain, Federated, Online, Topology, With, Workload
from edgebench.topology.placing import Placed, place_of, where_of, wheres
from edgebench.topology.profiles import HOST, Profile
from edgebench.topology.settings import of_node


def resolve(
    topology: Topology,
    *,
    run_id: str,
    executor: str,
    data: str | Path | None = None,
    profiles: Mapping[str, Profile] = {},
    traces: LinkTraces = NO_TRACES,
) -> Deployment:
    """The deployment of a topology that `check` has passed; depends on its arguments, and on its availability traces.

    data: the folder of data, instead of the topology's own. profiles: by what nodes name. traces: that links name. The
    broker's URL comes out without its login.
    """
    nodes, faults = _profiled(topology, expand(topology), profiles), fault_plans(topology)
    folder = topology.data if data is None else str(data)
    tasks = {workload.task for workload in topology.workloads.values()}
    tasks |= {workload.head.task for workload in topology.workloads.values() if workload.head is not None}
    return Deployment(
        schema=1,
        run_id=run_id,
        name=topology.name,
        seed=topology.seed,
        duration_s=topology.duration_s,
        executor=executor,
        data=folder,
        broker_url=None if topology.broker.url is None else without_login(topology.broker.url),
        nodes=nodes,
        links={link.name: link for link in _links(topology, nodes, faults, traces)},
        workloads={name: _workload(name, topology, nodes) for name in topology.workloads},
        federated={how.workload: _federated(how, topology, nodes) for how in topology.federated},
        joint=topology.joint,
        moves=tuple(sorted(topology.moves, key=lambda move: move.at_s)),
        faults=faults,
        broker_kind=topology.broker.kind,
        profiles={profile.name: profile.of_tasks(tasks) for profile in profiles.values()},
        durability=topology.durability,
    )


def _profiled(topology: Topology, nodes: dict[str, NodePlan], profiles: Mapping[str, Profile]) -> dict[str, NodePlan]:
    """The nodes, each with the name of its profile where it named a file, and that one's memory where it said so."""
    found = dict(nodes)
    for name, node in nodes.items():
        if node.profile != HOST:
            profile = profiles[node.profile]
            takes = topology.nodes[node.group].memory_mb == "profile"
            found[name] = replace(node, profile=profile.name, memory_mb=profile.memory_mb if takes else node.memory_mb)
    return found


def without_login(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _links(
    topology: Topology, nodes: dict[str, NodePlan], faults: tuple[FaultPlan, ...], traces: LinkTraces
) -> list[LinkPlan]:
    entries = {link.between: (link, link_plan(link, traces)) for link in topology.links}
    broken = {fault.link for fault in faults}
    own = [(node, node.parent) for node in nodes.values() if node.parent is not None]
    visited = [(node, edge) for node in nodes.values() for edge in node.sites[1:]]
    return [_link(node, parent, nodes[parent].group, entries, broken) for node, parent in own + visited]


def _link(
    node: NodePlan,
    parent: str,
    parent_group: str,
    entries: dict[tuple[str, str], tuple[Link, LinkPlan]],
    broken: set[str | None],
) -> LinkPlan:
    groups = (node.group, parent_group)
    plain = Link(between=groups)
    link, plan = entries.get(groups) or (plain, link_plan(plain, NO_TRACES))
    pair = groups if link.shared else (node.name, parent)
    return replace(
        plan,
        child=node.name,
        parent=parent,
        pipe=" -> ".join(pair),
        breaks=f"{node.name} -> {parent}" in broken,
    )


def link_plan(link: Link, traces: LinkTraces) -> LinkPlan:
    """What a link of the file says of each single one, whichever that is."""
    up_trace, down_trace = link.up_trace or link.rate_trace, link.down_trace or link.rate_trace
    up_mbit_s = link.rate_mbit_s if link.up_mbit_s is None else link.up_mbit_s
    down_mbit_s = link.rate_mbit_s if link.down_mbit_s is None else link.down_mbit_s
    latency_ms, jitter_ms = link.latency_ms, link.jitter_ms
    delays_ms: tuple[float, ...] = ()
    if link.delay_trace is not None:
        low, latency_ms, high, *far = quantiles_ms(traces.delays[link.delay_trace])
        jitter_ms, delays_ms = high - low, (latency_ms, *far)
    of_trace = () if link.outage_trace is None else traces.outages[link.outage_trace]
    return LinkPlan(
        child="",
        parent="",
        latency_ms=latency_ms,
        jitter_ms=jitter_ms,
        up_mbit_s=up_mbit_s if up_trace is None else traces.rates[up_trace].mean_mbit_s,
        down_mbit_s=down_mbit_s if down_trace is None else traces.rates[down_trace].mean_mbit_s,
        pipe="",
        jitter=link.jitter,
        loss_percent=link.loss_percent,
        delay_trace=link.delay_trace,
        up_trace=up_trace,
        down_trace=down_trace,
        delays_ms=delays_ms,
        outages=(*link.outages, *of_trace),
        energy=PUBLISHED[link.energy] if isinstance(link.energy, str) else link.energy,
    )


def _sources(workload: Workload, nodes: dict[str, NodePlan]) -> list[NodePlan]:
    return [node for group in workload.sources for node in nodes.values() if node.group == group]


def _federated(how: Federated, topology: Topology, nodes: dict[str, NodePlan]) -> FederatedPlan:
    devices = _sources(topology.workloads[how.workload], nodes)
    edges: dict[str, tuple[str, ...]] = {}
    for device in devices:
        assert device.parent is not None
        edges[device.parent] = (*edges.get(device.parent, ()), device.name)
    own = ((number, of_node(how.node_config, each.group, each.name)) for number, each in enumerate(devices, 1))
    return FederatedPlan(
        how=how,
        clients=tuple(device.name for device in devices),
        edges=edges,
        node_configs={number: settings for number, settings in own if settings},
    )


def _workload(name: str, topology: Topology, nodes: dict[str, NodePlan]) -> WorkloadPlan:
    workload = topology.workloads[name]
    pace, load = name, workload.load
    while isinstance(load, With):
        pace = load.workload
        load = topology.workloads[pace].load
    sources = _sources(workload, nodes)
    online = _online(workload, topology.place.online)
    stages: Chain = workload.place.infer if isinstance(workload.place.infer, tuple) else ("edge", "cloud")
    return WorkloadPlan(
        name=name,
        task=workload.task,
        sources=tuple(node.name for node in sources),
        deciders={node.name: _decider(node, _decided(workload, node), nodes) for node in sources}
        if online is None
        else {node.name: str(node.parent) for node in sources},
        place=place_of(workload) if online is None else f"{place_of(workload)}, online",
        load=load,
        deadline_ms=workload.deadline_ms,
        model=workload.model,
        train=workload.train,
        rollout=workload.rollout,
        batch=workload.batch,
        queue=workload.queue,
        store=workload.store,
        qos=workload.qos,
        compress=workload.compress,
        paced_by=None if pace == name else pace,
        cascade=(workload.cascade or Cascade()) if "cascade" in wheres(workload) else None,
        split=workload.split,
        head=workload.head,
        online=online,
        head_tier=stages[0],
        tail_tier=stages[1],
    )


def _online(workload: Workload, how: Online | None) -> OnlinePlan | None:
    """How edges move it, from where it is at first."""
    begins = workload.place.infer
    return None if how is None or begins not in ("edge", "cloud") else OnlinePlan(begins, how.gain, how.hold_s)


def _decided(workload: Workload, device: NodePlan) -> Placed | None:
    """Where a device's samples are decided; those of a chain that begins on devices by its second stage."""
    infer = workload.place.infer
    if isinstance(infer, tuple) and workload.head_on_device:
        return infer[1]
    return where_of(workload, device.name, device.group)


def _decider(device: NodePlan, place: Placed | None, nodes: dict[str, NodePlan]) -> str:
    """The node that a device's samples are decided on; a cascade, and a chain of edges, begin at the edge."""
    if place == "device":
        return device.name
    assert device.parent is not None
    edge = nodes[device.parent]
    if place == "cloud":
        assert edge.parent is not None
        return edge.parent
    return edge.name
