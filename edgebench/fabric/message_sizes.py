"""How large the messages of workloads become, and whether the profiles of emulated nodes know what those cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from edgebench.core.samples import Decision, HeadStamps, Stamps
from edgebench.fabric import wire
from edgebench.inference.spec import TensorSpec
from edgebench.topology.deployment import Deployment, NodePlan, WorkloadPlan
from edgebench.topology.profiles import HOST, ByDataSheet

_LATE_NS = 1 << 62
_SEQ = 1 << 40
_DIGEST = "0" * 64
"""Of some sample and some model: none takes more bytes."""
_BATCH = 65_536


class Sizes(NamedTuple):
    """A workload's largest payloads, bytes; 0 where nobody knows them yet. sample: of a device; passed_on: of an edge,
    to the cloud; decision: of whoever has decided."""

    sample: int = 0
    passed_on: int = 0
    decision: int = 0


class Ways(NamedTuple):
    """Where the samples and messages of a workload go, from one look at all its devices: there may be many of them, and
    as many nodes that are asked for. deciders: all; passed: sites of its devices; travelled: of those devices that do
    not decide themselves."""

    plan: WorkloadPlan
    deciders: frozenset[str]
    passed: frozenset[str]
    travelled: frozenset[str]
    in_cloud: bool

    @classmethod
    def of(cls, plan: WorkloadPlan, deployment: Deployment) -> Ways:
        """Of a workload."""
        travelling = [device for device, decider in plan.deciders.items() if decider != device]
        passed, travelled = (
            frozenset(site for device in devices for site in deployment.nodes[device].sites)
            for devices in (plan.deciders, travelling)
        )
        deciders = frozenset(plan.deciders.values())
        return cls(plan, deciders, passed, travelled, plan.goes_on or deployment.cloud in deciders)

    def pass_by(self, node: NodePlan) -> bool:
        """Whether its samples come from the node, or come by."""
        if node.name in self.plan.deciders or node.name in self.deciders:
            return True
        return self.in_cloud if node.tier == "cloud" else node.name in self.passed

    def travel_by(self, node: NodePlan) -> bool:
        """Whether it has messages that the node sends, or takes in: what devices decide themselves has none."""
        if node.tier == "cloud":
            return self.in_cloud
        if node.tier == "device":
            return self.plan.deciders.get(node.name, node.name) != node.name
        return node.name in self.travelled


def sizes_of(
    plan: WorkloadPlan, deployment: Deployment, sample: TensorSpec, *, handed_on: int = 0, outputs: int = 0
) -> Sizes:
    """sample: one, as its task has it. handed_on: values of what the first stage of a chain gives; outputs: of a
    decision; 0 where they are not known. Of samples that are compressed nothing is known before."""
    device = max(deployment.nodes, key=len)
    sent = 0 if plan.compress is not None else envelope_bytes(sample.dtype, sample.shape, bytes(sample.size_bytes))
    given = envelope_bytes("float32", (handed_on,), bytes(4 * handed_on)) if handed_on else 0
    if plan.head_on_device:
        sent = given
    goes_on = given if plan.is_chain else sent
    return Sizes(
        sent,
        forward_bytes(goes_on, device, is_chain=plan.head_at_edge) if goes_on else 0,
        _decision_bytes(outputs, device) if outputs else 0,
    )


def message_problems(deployment: Deployment, of: Callable[[WorkloadPlan], Sizes]) -> Iterator[tuple[str, str]]:
    """(path in the topology, problem): which messages are larger than any that the profile of a node knows the cost of,
    each once, whatever the number of nodes. of: asked for workloads that pass emulated nodes, and no others."""
    known: dict[str, Sizes] = {}
    found: dict[tuple[str, str], None] = {}
    lacking: list[tuple[NodePlan, WorkloadPlan, int, int]] = []
    ways = {plan.name: Ways.of(plan, deployment) for plan in deployment.workloads.values()}
    for node in deployment.nodes.values():
        if node.profile == HOST:
            continue
        profile = deployment.profiles[node.profile]
        for plan in deployment.workloads.values():
            costs = profile.message_costs(plan.qos) if ways[plan.name].travel_by(node) else ()
            if not costs:  # which is told otherwise
                continue
            if plan.name not in known:
                known[plan.name] = of(plan)
            size = _largest_at(node, known[plan.name], in_cloud=ways[plan.name].in_cloud)
            if size > costs[-1].size_bytes:
                lacking.append((node, plan, size, costs[-1].size_bytes))
    if not lacking:
        return
    most = max(size for _, _, size, _ in lacking)
    tasks = dict.fromkeys(plan.task for plan in deployment.workloads.values())
    command = " ".join(["edgebench profile", *(f"--task {task}" for task in tasks), f"--message-bytes {most}"])
    for node, plan, size, largest in lacking:
        what = f"has no times of messages of {size:,} bytes with qos {plan.qos}, as {plan.name} has them"
        origin = deployment.profiles[node.profile].origin
        mend = f"measure '{origin.like}' anew" if isinstance(origin, ByDataSheet) else "measure them"
        problem = f"'{node.profile}' {what}, only up to {largest:,} ({mend}: {command})"
        found[f"$.nodes.{node.group}.profile", problem] = None
    yield from found


def envelope_bytes(dtype: str, shape: tuple[int, ...], payload: bytes) -> int:
    """Of a sample, as a device sends it."""
    stamps = _LATE_NS, _LATE_NS, _LATE_NS
    sample = wire.Sample(wire.VERSION, _SEQ, 0, *stamps, dtype, shape, None, memoryview(payload))
    return len(wire.encode(sample))


def forward_bytes(size_bytes: int, device: str, *, is_chain: bool = False) -> int:
    """Of a sample of so many bytes, as an edge passes it on."""
    head = HeadStamps(_LATE_NS, _LATE_NS, _LATE_NS, _BATCH) if is_chain else None
    envelope = memoryview(bytes(size_bytes))
    return len(wire.encode(wire.Forward(wire.VERSION, device, _LATE_NS, _LATE_NS, envelope, head)))


def _decision_bytes(outputs: int, device: str) -> int:
    """As the cloud answers an edge, which takes some bytes more than what a device gets."""
    head = HeadStamps(_LATE_NS, _LATE_NS, _LATE_NS, _BATCH)
    stamps = Stamps(*(_LATE_NS,) * 9, head)
    decision = Decision(wire.VERSION, _SEQ, 0, device, _DIGEST, bytes(4 * outputs), _BATCH, stamps)
    return len(wire.encode(wire.Answer(wire.VERSION, device, memoryview(wire.encode(decision)))))


def _largest_at(node: NodePlan, sizes: Sizes, *, in_cloud: bool) -> int:
    here = {
        "device": (sizes.sample,),
        "edge": (sizes.sample, sizes.passed_on if in_cloud else 0),
        "cloud": (sizes.passed_on,),
    }
    return max(*here[node.tier], sizes.decision)
