"""Which node runs on which machine of a lab where a topology does not say it, and whether each machine can do it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgebench.lab.messages import MachineInfo
from edgebench.topology.deployment import HERE, Deployment, NodePlan, on_machines
from edgebench.topology.wording import did_you_mean, listed

Problem = tuple[str, str]
"""(path, problem): where in a topology, what is wrong and the mend."""

_AGO = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (0.0, "s"))


def by_tier(deployment: Deployment, machines: Sequence[MachineInfo]) -> Deployment:
    """Edges and devices dealt round the machines that were invited for them, or for any tier, and can be one.

    What no machine is for stays here.
    """
    machine_of: dict[str, str] = {}
    for tier in ("edge", "device"):
        of_tier = deployment.of_tier(tier)
        able = [
            machine.name
            for machine in machines
            if machine.kind == "machine"
            and machine.role in ("any", tier)
            and not any(_lacks(deployment, node, machine) for node in of_tier)
        ]
        for index, node in enumerate(of_tier if able else ()):
            machine_of[node.name] = able[index % len(able)]
    return on_machines(deployment, machine_of)


def machines_of(deployment: Deployment) -> list[str]:
    """Those besides this one, in the order of their first nodes."""
    named = dict.fromkeys(node.machine for node in deployment.nodes.values())
    return [name for name in named if name != HERE]


def problems(deployment: Deployment, machines: Mapping[str, MachineInfo]) -> Iterator[Problem]:
    """What speaks against running it on these machines of the lab, one thing a machine. Whether any serves another run
    is not looked at."""
    for name in machines_of(deployment):
        path = "$.machines"
        machine = machines.get(name)
        if machine is None:
            yield path, f"no machine '{name}' has joined the lab{did_you_mean(name, machines)}"
        elif not machine.present:
            yield path, f"'{name}' is not there{_last_seen(machine)} (see to its power and network)"
        elif not machine.same_code:
            version = machine.versions.get("edgebench", "unknown")
            yield path, f"'{name}' runs another edgebench ({version}) than this (there: {machine.mend})"
        else:
            nodes = [node for node in deployment.nodes.values() if node.machine == name]
            lacking = {node.name: lack for node in nodes if (lack := _lacks(deployment, node, machine))}
            for lack in dict.fromkeys(lacking.values()):
                these = listed([node for node, lacks in lacking.items() if lacks == lack])
                yield path, f"'{name}' ({machine.arch}) has no {lack} (put {these} on another machine)"
    yield from _shared_apart(deployment)


def _lacks(deployment: Deployment, node: NodePlan, machine: MachineInfo) -> str:
    """What a machine would have to have for a node; empty where it has all."""
    kind = deployment.broker_kind
    if node.tier == "edge" and deployment.broker_url is None:
        if not machine.brokers:
            return "MQTT broker (apt-get install mosquitto)"
        if kind != "auto" and kind not in machine.brokers:
            return f"{kind}, which broker.kind asks for"
    needed: list[str] = [
        plan.model.runtime
        for plan in deployment.workloads.values()
        if node.name in plan.deciders.values() and plan.model.runtime != "fake"
    ]
    needed += [
        plan.how.fit.runtime
        for plan in deployment.federated.values()
        if node.name in plan.clients and plan.how.app is None
    ]
    for runtime in needed:
        if runtime not in machine.runtimes:
            return f"{_RUNTIMES.get(runtime, runtime)}, so it can be a sensor only" if not machine.runtimes else runtime
    return ""


def _shared_apart(deployment: Deployment) -> Iterator[Problem]:
    """Links that share their rates are emulated by one relay, where all of them end."""
    ends: dict[str, dict[str, None]] = {}
    for link in deployment.links.values():
        if link.shaped:
            ends.setdefault(link.pipe, {})[deployment.nodes[link.parent].machine] = None
    for pipe, machines in ends.items():
        if len(machines) > 1:
            where = f"those of '{pipe}' end on {listed(list(machines))}"
            yield "$.links", f"links that share their rates have to end on one machine, and {where} (remove shared)"


def _last_seen(machine: MachineInfo) -> str:
    ago_s = machine.last_seen_s
    if ago_s is None:
        return ""
    unit_s, unit = next(each for each in _AGO if ago_s >= each[0])
    return f", and was heard {ago_s / (unit_s or 1.0):.0f} {unit} ago"


_RUNTIMES = {"litert": "LiteRT", "keras": "Keras", "onnx": "ONNX runtime", "torch": "PyTorch"}
