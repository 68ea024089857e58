"""Which node runs on which machine of a lab where a topology does not say it, and whether each machine can do it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from edgebench.executors.open_files import largest_needs
from edgebench.lab.messages import MachineInfo
from edgebench.lab.wheel import code_digest
from edgebench.topology.deployment import HERE, Deployment, NodePlan, boards_at, on_machines
from edgebench.topology.profiles import HOST
from edgebench.topology.wording import did_you_mean, listed

Problem = tuple[str, str]
"""(path, problem): where in a topology, what is wrong and the mend."""

OTHER_CODE = "the lab's server runs other code than this command (end edgebench lab serve, and start it again)"
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


def played_by_boards(deployment: Deployment, machines: Mapping[str, MachineInfo]) -> Deployment:
    """With the devices without Python as what they are: each plays a node, beside the machine whose broker it finds."""

    def played(node: NodePlan) -> NodePlan:
        machine = machines.get(node.machine)
        if machine is None or machine.near is None:
            return node
        return msgspec.structs.replace(node, machine=machine.near, board=machine.name)

    return msgspec.structs.replace(deployment, nodes={name: played(node) for name, node in deployment.nodes.items()})


def boards_of(deployment: Deployment) -> list[str]:
    """The devices without Python that play nodes."""
    return [node.board for node in deployment.nodes.values() if node.board is not None]


def problems(deployment: Deployment, machines: Mapping[str, MachineInfo]) -> Iterator[Problem]:
    """What speaks against running it on these machines of the lab, one thing a machine. Whether any serves another run
    is not looked at."""
    needs = largest_needs(deployment)
    for name in machines_of(deployment):
        path = "$.machines"
        machine = machines.get(name)
        if machine is None:
            mend = did_you_mean(name, machines) or " (edgebench lab invite says how one does)"
            yield path, f"no machine '{name}' has joined the lab{mend}"
        elif misplaced := _not_for_its_tier(deployment, machine):
            asked = f"was invited with --as {machine.role}, and is to run {listed(misplaced)}"
            mend = f"put them on another machine, or invite it anew after edgebench lab remove {name}"
            yield path, f"'{name}' {asked} ({mend})"
        elif not machine.present:
            yield path, f"'{name}' is not there{_last_seen(machine)} (see to its power and network)"
        elif serves_other_code(machine):
            yield path, OTHER_CODE
        elif not machine.same_code:
            version = machine.versions.get("edgebench", "unknown")
            yield path, f"'{name}' runs another edgebench ({version}) than this (there: {machine.mend})"
        else:
            nodes = [node for node in deployment.nodes.values() if node.machine == name]
            lacking = {node.name: lack for node in nodes if (lack := _lacks(deployment, node, machine))}
            for lack in dict.fromkeys(lacking.values()):
                these = listed([node for node, lacks in lacking.items() if lacks == lack])
                yield path, f"'{name}' ({machine.arch}) has no {lack} (put {these} on another machine)"
            need = needs.get(name)
            if need is not None and 0 < machine.open_files < need.files:
                yield path, need.problem(machine.open_files, f" on '{name}'")
    steps = {fault.thing[1]: fault.entry for fault in deployment.faults if fault.kind == "clock"}
    for name, entry in steps.items():
        machine = machines.get(name)
        if machine is not None and not machine.steps:
            mend = "(start edgebench join there with EDGEBENCH_CLOCK=@FILE)"
            yield f"$.{entry}.machine", f"the clock of '{name}' cannot be stepped {mend}"
    yield from shared_apart(deployment)
    yield from untold_cuts(deployment)
    yield from _of_boards(deployment)


def serves_other_code(machine: MachineInfo) -> bool:
    """Whether the server of its lab runs other code than this command, as after an upgrade, so that what that says of
    its machines' is no use."""
    return machine.kind == "machine" and machine.lab_code != code_digest()


def _not_for_its_tier(deployment: Deployment, machine: MachineInfo) -> list[str]:
    """The nodes that a machine is to run itself, of a tier that it was not invited for."""
    if machine.role == "any":
        return []
    nodes = [node for node in deployment.nodes.values() if node.machine == machine.name and node.board is None]
    return [f"{node.name} ({node.tier})" for node in nodes if node.tier != machine.role]


def _lacks(deployment: Deployment, node: NodePlan, machine: MachineInfo) -> str:
    """What a machine would have to have for a node; empty where it has all."""
    kind = deployment.broker_kind
    if node.tier == "edge" and deployment.broker_url is None:
        if not machine.brokers:
            return "MQTT broker (apt-get install mosquitto)"
        if kind != "auto" and kind not in machine.brokers:
            return f"{kind}, which broker.kind asks for"
    for runtime in runtimes_for(deployment, node):
        if runtime not in machine.runtimes:
            return f"{_RUNTIMES.get(runtime, runtime)}, so it can be a sensor only" if not machine.runtimes else runtime
    return ""


def runtimes_for(deployment: Deployment, node: NodePlan) -> list[str]:
    """The runtimes of models that a node needs, to decide or to learn."""
    needed: list[str] = [
        model.runtime
        for plan in deployment.workloads.values()
        for model in plan.models_on(node, plan.deciders.values())
        if model.runtime != "fake"
    ]
    needed += [
        plan.how.fit.runtime
        for plan in deployment.federated.values()
        if node.name in plan.clients and plan.how.app is None
    ]
    return needed


def _of_boards(deployment: Deployment) -> Iterator[Problem]:
    """What a device without Python cannot do, and where its site has to be."""
    sites: dict[str, list[str]] = {}
    for site in deployment.of_tier("edge"):
        if boards_at(deployment, site.name):
            sites.setdefault(site.machine, []).append(site.name)
    for machine, these in sites.items():
        if len(these) > 1:
            why = f"{listed(these)} have devices without Python, which find one broker on '{machine}'"
            yield "$.machines", f"{why} (put one of the sites on another machine)"
    played: dict[str, str] = {}
    for node in deployment.nodes.values():
        if node.board is None:
            continue
        path = f"$.machines.{node.name}"
        if node.board in played:
            yield path, f"'{node.board}' plays '{played[node.board]}' already (a device without Python is one device)"
        played[node.board] = node.name
        yield from ((path, f"'{node.board}' {problem}") for problem in _of_board(deployment, node))


def _of_board(deployment: Deployment, node: NodePlan) -> Iterator[str]:
    if node.tier != "device" or node.parent is None:
        yield "is a device without Python (name a device)"
        return
    site = deployment.nodes[node.parent]
    if deployment.broker_url is not None:
        yield "finds the broker of its site, and this run has one of its own (remove broker.url)"
    if site.machine != node.machine:
        near = f"finds its broker on '{node.machine}', and its site '{site.name}' is on '{site.machine}'"
        yield f"{near} (put the site there, or invite it again with --near {site.machine})"
    if deployment.links[f"{node.name} -> {site.name}"].shaped:
        yield "cannot cross an emulated link (put it in a group of its own, whose link has no figures)"
    if deployment.durability != "none" and deployment.broker_kind != "nats":
        lost = "keeps nothing itself, and Mosquitto may lose what it has acknowledged"
        yield f"{lost}: durability '{deployment.durability}' cannot be kept (take broker.kind nats, or durability none)"
    if any(plan.has_model(node.name) for plan in deployment.workloads.values()):
        yield "decides nothing itself (place it on the edge or the cloud)"
    if any(node.name in plan.clients for plan in deployment.federated.values()):
        yield "does not learn (have it in a group that does not)"
    if any(move.node == node.name for move in deployment.moves):
        yield "does not move (remove the move)"


def shared_apart(deployment: Deployment) -> Iterator[Problem]:
    """Links that share their rates are emulated by one relay, where all of them end."""
    ends: dict[str, dict[str, None]] = {}
    for link in deployment.links.values():
        if link.shaped:
            ends.setdefault(link.pipe, {})[deployment.nodes[link.parent].machine] = None
    for pipe, machines in ends.items():
        if len(machines) > 1:
            where = f"those of '{pipe}' end on {listed(list(machines))}"
            yield "$.links", f"links that share their rates have to end on one machine, and {where} (remove shared)"


def untold_cuts(deployment: Deployment) -> Iterator[Problem]:
    """Where a model is best cut in two goes by what its parts take, which another machine's profile alone tells."""
    for plan in deployment.workloads.values():
        if plan.split != "auto":
            continue
        nodes = itertools.chain(*plan.stage_nodes(deployment))
        away = next((node.machine for node in nodes if node.machine != HERE and node.profile == HOST), None)
        if away is not None:
            why = f"nothing tells what the parts of its model take on {away}"
            yield f"$.workloads.{plan.name}.split", f"{why} (write the number of a place)"


def _last_seen(machine: MachineInfo) -> str:
    ago_s = machine.last_seen_s
    if ago_s is None:
        return ""
    unit_s, unit = next(each for each in _AGO if ago_s >= each[0])
    return f", and was heard {ago_s / (unit_s or 1.0):.0f} {unit} ago"


_RUNTIMES = {"litert": "LiteRT", "keras": "Keras", "onnx": "ONNX runtime", "torch": "PyTorch"}
