"""The links, processes and nodes of a run, and the machines that it ran on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import RAPL, HostUsage
from edgebench.results.clock_figures import clock_figures
from edgebench.results.emulated import emulation_figures
from edgebench.results.energy import energy_figures, link_energy, machine_energy
from edgebench.results.figures import EnergyFigures, HostUse, LinkFigures, MachineFigures, NodeFigures, ProcessFigures
from edgebench.results.host_conditions import mean_share
from edgebench.results.observations import Observations
from edgebench.results.server_time import ServerTime
from edgebench.results.timeline import since_start_s
from edgebench.results.tolerances import FULL_BUSY
from edgebench.topology.deployment import HERE, Deployment, NodePlan, is_simulated

_MB = 1_000_000


def links_of(deployment: Deployment, observations: Observations) -> dict[str, LinkFigures]:
    """Of each link, in the order of the deployment."""
    order = {link.name: place for place, link in enumerate(deployment.links.values())}
    observed = sorted(observations.links, key=lambda link: (order.get(link.name, len(order)), link.name))
    return {
        link.name: LinkFigures(
            bytes=_both_ways(link.up_bytes, link.down_bytes),
            messages=_both_ways(link.up_messages, link.down_messages),
            up_bytes=link.up_bytes,
            down_bytes=link.down_bytes,
            up_messages=link.up_messages,
            down_messages=link.down_messages,
            requested=dict(sorted(link.requested.items())),
            measured=dict(sorted(link.measured.items())),
            steady=link.steady,
            real=dict(sorted(link.real.items())),
            energy=link_energy(deployment.links.get(link.name), link, simulated=is_simulated(deployment)),
        )
        for link in observed
    }


def processes_of(deployment: Deployment, observations: Observations) -> dict[str, ProcessFigures]:
    """Of each process."""
    figures = {}
    machine_of = {process: name for name, seen in observations.machines.items() for process in seen.processes}
    for process, usage in sorted(observations.usage.items()):
        during = [
            sample
            for sample in usage
            if (observations.started_ns or 0) <= sample.at_ns <= (observations.ended_ns or math.inf)
        ]
        busy = None
        if len(during) > 1 and during[-1].at_ns > during[0].at_ns:
            busy = (during[-1].cpu_s - during[0].cpu_s) / ((during[-1].at_ns - during[0].at_ns) / NS_PER_S)
        figures[process] = ProcessFigures(
            nodes=[node for node in observations.hosts_of.get(process, []) if node in deployment.nodes],
            cpu_s=round(max(sample.cpu_s for sample in usage), 3) if usage else None,
            rss_mb=round(max(sample.rss_bytes for sample in usage) / _MB, 1) if usage else None,
            busy_cores=round(busy, 4) if busy is not None else None,
            machine=machine_of.get(process, HERE),
        )
    return figures


_LARGER = "measure larger ones: edgebench profile --message-bytes"


def nodes_of(
    deployment: Deployment, processes: dict[str, ProcessFigures], observations: Observations
) -> dict[str, NodeFigures]:
    """Of each node."""
    process_of = {node: process for process, figures in processes.items() for node in figures.nodes}
    return {
        name: msgspec.structs.replace(
            _node(plan, process_of.get(name), processes, observations.sensors.get(name, {})),
            emulated=emulation_figures(deployment, plan, observations),
            energy=_energy_of(deployment, plan, observations),
            no_energy=_why_no_energy(deployment, plan, observations),
        )
        for name, plan in deployment.nodes.items()
    }


def _energy_of(deployment: Deployment, plan: NodePlan, observations: Observations) -> EnergyFigures | None:
    profile, released = deployment.profiles.get(plan.profile), observations.released.get(plan.name)
    if profile is None or released is None or observations.ended_ns is None:
        return None
    if _why_no_energy(deployment, plan, observations) is not None:
        return None
    return energy_figures(profile, released, since_start_s(observations, observations.ended_ns))


def _why_no_energy(deployment: Deployment, plan: NodePlan, observations: Observations) -> str | None:
    """Of a node whose profile tells power, and of whose energy nothing is known."""
    profile, released = deployment.profiles.get(plan.profile), observations.released.get(plan.name)
    if profile is None or profile.power is None:
        return None
    if observations.ended_ns is None:
        return "the streams have not come to their end"
    if is_simulated(deployment) and released is None:
        return "the simulation has no records that tell how busy it was: too many samples, or a cascade passes on some"
    if released is None:
        return "it has told nothing of how busy it was"
    if is_simulated(deployment) and released.beyond:
        return f"{released.beyond:,} messages were larger than any that its profile knows the cost of ({_LARGER})"
    return None


def _node(
    plan: NodePlan, process: str | None, processes: dict[str, ProcessFigures], sensors: dict[str, str]
) -> NodeFigures:
    if process is None:
        machine = plan.board or plan.machine
        return NodeFigures(plan.tier, plan.profile, None, None, None, None, 0, machine, count=plan.count)
    used = processes[process]
    return NodeFigures(
        plan.tier,
        plan.profile,
        used.cpu_s,
        used.rss_mb,
        used.busy_cores,
        process,
        len(used.nodes),
        plan.machine,
        sensors,
    )


def machines_of(deployment: Deployment, observations: Observations) -> dict[str, MachineFigures]:
    """Of each machine that held parts of the run, the server first."""
    time = ServerTime(deployment, observations.machines)
    host = observations.host
    nodes = Counter[str]()
    for node in deployment.nodes.values():
        if node.board is None:
            nodes[node.machine] += node.count
    server = MachineFigures(
        arch=str(host.get("machine", "")),
        cores=int(host.get("cores", 0)),
        memory_mb=int(host.get("memory_mb", 0)),
        address=None,
        clock=None,
        host_use=host_use_of(observations, observations.host_usage),
        nodes=nodes[HERE],
        versions=observations.versions,
        computer=HERE,
        energy=machine_energy(observations, observations.host_usage, HERE),
    )
    others = {
        name: MachineFigures(
            arch=seen.facts.arch,
            cores=seen.facts.cores,
            memory_mb=seen.facts.memory_mb,
            address=seen.facts.address,
            clock=clock_figures(time.tracks[name], observations),
            host_use=host_use_of(observations, seen.host_usage),
            nodes=nodes[name],
            versions=seen.versions,
            computer=time.computer(name),
            energy=machine_energy(observations, seen.host_usage, name),
        )
        for name, seen in sorted(observations.machines.items())
    }
    return _each_computer_once({HERE: server, **others})


def _each_computer_once(machines: dict[str, MachineFigures]) -> dict[str, MachineFigures]:
    """What a processor's counters tell is of all machines that share it: it stands with the first of them."""
    told: set[str] = set()
    found = {}
    for name, machine in machines.items():
        if machine.energy is not None and machine.energy.source == RAPL:
            found[name] = msgspec.structs.replace(machine, energy=None) if machine.computer in told else machine
            told.add(machine.computer)
        else:
            found[name] = machine
    return found


def host_use_of(observations: Observations, usage: Sequence[HostUsage]) -> HostUse | None:
    """Of a machine, while samples were due; None where nothing was seen of it."""
    start_ns, end_ns = observations.started_ns, observations.ended_ns
    if start_ns is None:
        return None
    during = [use for use in usage if start_ns <= use.at_ns <= (end_ns or math.inf)]
    if not during:
        return None
    return HostUse(
        busy=_mean(during, [use.busy for use in during]) or 0.0,
        full=_mean(during, [float(use.busy >= FULL_BUSY) for use in during]) or 0.0,
        stolen=_mean(during, [use.stolen for use in during]) or 0.0,
        foreign=_mean(during, [use.foreign for use in during]),
        pressure=_mean(during, [use.pressure for use in during]),
    )


def _mean(usage: Sequence[HostUsage], shares: Sequence[float | None]) -> float | None:
    mean = mean_share(usage, shares)
    return None if mean is None else round(mean, 4)


def _both_ways(up: int | None, down: int | None) -> int | None:
    return None if up is None and down is None else (up or 0) + (down or 0)
