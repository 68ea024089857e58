"""From what a topology says of faults to the plain list of a deployment: repetitions, traces and chance played out."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.seeds import rng_for
from edgebench.topology.availability import read_availability
from edgebench.topology.expand import link_names, names_of
from edgebench.topology.fault_model import DEPARTURES, Chaos, Fault, FaultPlan, FaultTarget, targets_of, things_of
from edgebench.topology.model import Topology

_S_PER_H = 3_600.0


def fault_plans(topology: Topology) -> tuple[FaultPlan, ...]:
    """The faults of a checked topology in the order of their times, those that wait for a condition last.

    Depends on the topology, its seed included, and on the availability traces that it names.
    """
    plans = [plan for index, fault in enumerate(topology.faults) for plan in _of_entry(topology, index, fault)]
    plans += [plan for index, chaos in enumerate(topology.chaos) for plan in _of_chaos(topology, index, chaos)]
    return tuple(sorted(plans, key=lambda plan: (plan.at_s is None, plan.at_s)))


def named_by(topology: Topology, target: FaultTarget, name: str) -> list[str]:
    """The single things that an entry of chaos means by a name: itself, or those of the group, or pair of groups."""
    if target == "link":
        return [link for link, groups in link_names(topology).items() if name in (link, groups)]
    return names_of(topology, name) if name in topology.nodes else [name]


def times_of(fault: Fault, duration_s: float) -> Iterator[float]:
    """When a fault that has a time comes about, again and again where it is repeated, as long as it fits in a run."""
    assert fault.at_s is not None
    times, at_s = 0, fault.at_s
    while at_s < duration_s and (times == 0 or at_s + (fault.for_s or 0.0) <= duration_s):
        yield at_s
        if fault.every_s is None:
            return
        times += 1
        at_s = round(fault.at_s + times * fault.every_s, 6)


def _of_entry(topology: Topology, index: int, fault: Fault) -> Iterator[FaultPlan]:
    entry = f"faults[{index}]"
    if fault.trace is not None:
        for node, from_s, to_s in read_availability(fault.trace):
            if from_s >= topology.duration_s:
                continue
            if to_s is not None and to_s <= topology.duration_s:
                yield FaultPlan(fault.kind, from_s, for_s=round(to_s - from_s, 6), node=node, entry=entry)
            else:  # nobody sees it come back
                yield FaultPlan("kill", from_s, node=node, entry=entry)
        return
    ((target, name),) = things_of(fault)
    if fault.kind in DEPARTURES:
        for device in named_by(topology, target, name):
            yield FaultPlan(fault.kind, fault.at_s, node=device, entry=entry)
    elif fault.when is not None:
        yield FaultPlan(fault.kind, None, fault.when, fault.for_s, fault.to, fault.by_ms, **{target: name}, entry=entry)
    else:
        for at_s in times_of(fault, topology.duration_s):
            yield FaultPlan(fault.kind, at_s, None, fault.for_s, fault.to, fault.by_ms, **{target: name}, entry=entry)


def _of_chaos(topology: Topology, index: int, chaos: Chaos) -> Iterator[FaultPlan]:
    ((target, names),) = targets_of(chaos)
    until_s = topology.duration_s if chaos.until_s is None else min(chaos.until_s, topology.duration_s)
    for single in dict.fromkeys(single for name in names for single in named_by(topology, target, name)):
        rng = rng_for(topology.seed, "chaos", index, chaos.kind, target, single)
        free_s = chaos.from_s
        while True:
            at_s = round(free_s + rng.exponential(_S_PER_H / chaos.rate_per_h), 3)
            for_s = None if chaos.for_s is None else round(rng.uniform(*chaos.for_s), 3)
            if at_s >= until_s or at_s + (for_s or 0.0) > until_s:
                break
            yield FaultPlan(chaos.kind, at_s, None, for_s, chaos.to, None, **{target: single}, entry=f"chaos[{index}]")
            if for_s is None:
                break
            free_s = at_s + for_s
