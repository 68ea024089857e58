"""What each executor enforces of a topology; the rest it refuses by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError, TopologyError
from edgebench.topology.deployment import HERE, SIMULATE
from edgebench.topology.expand import machine_of, names_of
from edgebench.topology.link_model import KEEPALIVE_S
from edgebench.topology.link_traces import read_outage_trace
from edgebench.topology.model import Topology
from edgebench.topology.wording import did_you_mean, listed, one_line

Problem = tuple[str, str]


def _machine_faults(topology: Topology) -> Iterator[Problem]:
    for index, fault in enumerate(topology.faults):
        if fault.machine is not None:
            mend = "(name a node or a site, or use --executor lab or containers)"
            yield f"$.faults[{index}].machine", f"fault '{fault.kind}' of a machine {mend}"


def _disk_faults(topology: Topology) -> Iterator[Problem]:
    entries = [("faults", fault.kind) for fault in topology.faults], [("chaos", chaos.kind) for chaos in topology.chaos]
    for those in entries:
        for index, (name, kind) in enumerate(those):
            if kind == "disk":
                yield f"$.{name}[{index}].kind", "a full disk of a node (remove it, or use --executor local)"


def _machines(topology: Topology) -> Iterator[Problem]:
    if topology.machines:
        yield "$.machines", "other machines (remove it, or use --executor lab)"


def _memory(topology: Topology) -> Iterator[Problem]:
    for name, group in topology.nodes.items():
        if group.memory_mb is not None:
            yield f"$.nodes.{name}.memory_mb", "a limit of memory (remove it, or use --executor containers)"


def _engines(topology: Topology) -> Iterator[Problem]:
    for index, federated in enumerate(topology.federated):
        if federated.engine != "mqtt":
            only = f"engine '{federated.engine}' across machines: its clients are all on that of the command"
            yield f"$.federated[{index}].engine", f"{only} (use mqtt)"


def _apps_elsewhere(topology: Topology) -> Iterator[Problem]:
    """Apps whose clients run elsewhere than here. Without `machines`, devices are dealt round those of the lab."""
    for index, federated in enumerate(topology.federated):
        workload = topology.workloads.get(federated.workload)
        if federated.app is None or workload is None:
            continue
        away = [
            group
            for group in workload.sources
            if not topology.machines
            or any(machine_of(topology, group, n, name) != HERE for n, name in enumerate(names_of(topology, group)))
        ]
        if away:
            mend = f"(map {listed(away)} to {HERE} in machines, or use --executor local)"
            problem = f"a Flower app of your own on other machines, which are given neither its code nor Flower {mend}"
            yield f"$.federated[{index}].app", problem


def _any_app(topology: Topology) -> Iterator[Problem]:
    for index, federated in enumerate(topology.federated):
        if federated.app is not None:
            problem = "a Flower app of your own, since containers are given neither its code nor Flower"
            yield f"$.federated[{index}].app", f"{problem} (remove it, or use --executor local)"


def _plain_broker(topology: Topology) -> Iterator[Problem]:
    if topology.broker.url is not None and not topology.broker.url.startswith("mqtts:"):
        yield "$.broker.url", "a broker without TLS (write mqtts://, or leave it out)"


def _any_broker(topology: Topology) -> Iterator[Problem]:
    if topology.broker.url is not None:
        yield "$.broker.url", "a broker of your own, which containers cannot reach (leave it out)"


def _jobs(topology: Topology) -> Iterator[Problem]:
    if topology.jobs:
        yield "$.jobs", "jobs, which are placed, not run (edgebench place)"


def _own_broker(topology: Topology) -> Iterator[Problem]:
    if topology.broker.url is not None:
        yield "$.broker.url", "a broker of your own (leave it out)"


def _rollouts(topology: Topology) -> Iterator[Problem]:
    for name, workload in topology.workloads.items():
        if workload.rollout:
            yield f"$.workloads.{name}.rollout", "a roll-out (remove it)"


def _real_learning(topology: Topology) -> Iterator[Problem]:
    """What of federated learning takes processes."""
    for index, federated in enumerate(topology.federated):
        path = f"$.federated[{index}]"
        if federated.app is not None:
            yield f"{path}.app", "a Flower app of your own (remove it)"
        if federated.engine != "mqtt":
            yield f"{path}.engine", f"engine '{federated.engine}', whose messages cross no link (use mqtt)"
        if federated.mode == "buffered":
            yield f"{path}.mode", "mode: buffered (use synchronous)"
        if federated.rollout_every and federated.app is None:
            yield f"{path}.rollout_every", "roll-outs of what was learned (write 0)"
    if not topology.federated:
        return
    for index, link in enumerate(topology.links):
        if link.loss_percent or link.outages or link.outage_trace is not None:
            yield f"$.links[{index}]", "federated learning across links that lose packets (remove one of the two)"
    if topology.moves:
        yield "$.moves", "devices that move beside federated learning (remove one of the two)"


def _online(topology: Topology) -> Iterator[Problem]:
    if topology.place.online is not None:
        yield "$.place.online", "placing while a run goes on, --placement online (leave it out, or write null)"


def _heads_on_devices(topology: Topology) -> Iterator[Problem]:
    for name, workload in topology.workloads.items():
        if workload.head_on_device:
            yield f"$.workloads.{name}.place.infer", "a chain that begins on devices (write [edge, cloud], or a tier)"


def _faults(topology: Topology) -> Iterator[Problem]:
    if topology.faults:
        yield "$.faults", "faults (remove them)"
    if topology.chaos:
        yield "$.chaos", "chaos (remove it)"


def _broken_connections(topology: Topology) -> Iterator[Problem]:
    """Outages that break connections: by a reset, or since both ends give up on them."""
    for index, link in enumerate(topology.links):
        of_trace = () if link.outage_trace is None else read_outage_trace(Path(link.outage_trace))
        for field, outages in (("outages", link.outages), ("outage_trace", of_trace)):
            path, there = f"$.links[{index}].{field}", [each for each in outages if each.at_s < topology.duration_s]
            if any(each.reset for each in there):
                yield path, "outages that break connections (leave out 'reset')"
            longest_s = max((each.for_s or 0.0 for each in there), default=0.0)
            if longest_s > KEEPALIVE_S:
                why = f"an outage of {longest_s:g} s, as MQTT's keep-alive of {KEEPALIVE_S} s breaks connections"
                yield path, f"{why} (shorten it)"


_FEATURES: dict[str, Callable[[Topology], Iterator[Problem]]] = {
    "machine faults": _machine_faults,
    "disk faults": _disk_faults,
    "machines": _machines,
    "memory": _memory,
    "other engines": _engines,
    "apps elsewhere": _apps_elsewhere,
    "any app": _any_app,
    "plain broker": _plain_broker,
    "any broker": _any_broker,
    "jobs": _jobs,
    "own broker": _own_broker,
    "roll-outs": _rollouts,
    "real learning": _real_learning,
    "online placement": _online,
    "heads on devices": _heads_on_devices,
    "faults": _faults,
    "broken connections": _broken_connections,
}
_ON_ONE_MACHINE = {"other engines", "apps elsewhere", "any app", "plain broker", "any broker"}
_WITH_PROCESSES = {
    *("own broker", "roll-outs", "real learning", "online placement", "heads on devices", "faults"),
    "broken connections",
}
"""What processes do, and nobody does in virtual time."""

ENFORCED: dict[str, frozenset[str]] = {
    "local": frozenset({"disk faults", *_ON_ONE_MACHINE, *_WITH_PROCESSES}),
    "lab": frozenset({"disk faults", "machines", "machine faults", "any app", "any broker", *_WITH_PROCESSES}),
    "containers": frozenset({"memory", "machine faults", "apps elsewhere", "plain broker", *_WITH_PROCESSES}),
    SIMULATE: frozenset({"disk faults", *_ON_ONE_MACHINE}),
}
"""Executor -> which of the features it enforces, or has refused by another. What is not among them, all enforce."""


def refuse_unenforceable(topology: Topology, file: str | Path, *, executor: str) -> None:
    """Refuse an executor that there is not, and every field that the executor would not enforce.

    Raises EdgebenchError for the executor, one TopologyError with all such fields.
    """
    if executor not in ENFORCED:
        raise EdgebenchError(f"--executor {executor}: no such executor{did_you_mean(executor, ENFORCED)}")
    problems = [
        one_line(f"{file}: {path}: the {executor} executor cannot enforce {problem}")
        for feature, find in _FEATURES.items()
        if feature not in ENFORCED[executor]
        for path, problem in find(topology)
    ]
    if problems:
        raise TopologyError(problems)
