"""The faults of a topology, scheduled, awaited, traced and drawn by chance: whether each can come about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edgebench.errors import TopologyError
from edgebench.topology.availability import read_availability
from edgebench.topology.checking_links import jitter_problem
from edgebench.topology.expand import link_names, names_of
from edgebench.topology.fault_model import (
    DEPARTURES,
    LASTING,
    TARGETS,
    Chaos,
    Fault,
    FaultTarget,
    When,
    targets_of,
    things_of,
)
from edgebench.topology.fault_schedule import fault_plans, named_by
from edgebench.topology.link_model import LinkChange
from edgebench.topology.model import After, MultiStream, Offline, SingleStream, Topology, With
from edgebench.topology.wording import did_you_mean, listed, not_within

Problem = tuple[str, str]

MOST_FAULTS = 10_000
"""Of a run; more are a slip of the pen."""
MOST_RESTARTS = 500
"""Of one thing, as a node or with its site; how often a node was started is told in 10 bits."""
CLOUD_PAUSE_S = 20.0
"""Nodes break a run off after a minute without an answer of the cloud's."""
_OF_NODES = ("pause", "restart")
_ARTICLE: Mapping[FaultTarget, str] = {
    "link": "a link",
    "node": "a node",
    "site": "a site",
    "broker": "a broker",
    "machine": "a machine",
}
_FIELD: Mapping[FaultTarget, str] = {"link": "links", "node": "nodes", "site": "sites", "broker": "brokers"}


def check_faults(topology: Topology) -> Iterator[Problem]:
    """All entries of `faults` and `chaos`; nodes and moves have to be sound."""
    things = _Things(topology)
    found: list[Problem] = []
    for index, fault in enumerate(topology.faults):
        found += _check_fault(topology, things, f"$.faults[{index}]", fault)
    for index, chaos in enumerate(topology.chaos):
        found += _check_chaos(topology, things, f"$.chaos[{index}]", chaos)
    yield from found or [*_check_restarts(topology), *_check_presences(topology)]


def _check_restarts(topology: Topology) -> Iterator[Problem]:
    entries: dict[str, list[str]] = {}
    for plan in fault_plans(topology):
        if plan.kind == "restart":
            entries.setdefault(plan.thing[1], []).append(plan.entry)
    for name, those in entries.items():
        if len(those) > MOST_RESTARTS:
            mend = f"more than {MOST_RESTARTS:,} (have fewer)"
            yield f"$.{those[-1]}", f"'{name}' would be started again {len(those):,} times, {mend}"


def _check_presences(topology: Topology) -> Iterator[Problem]:
    """Whether each device comes and goes by turns, and nothing else has it be there all the time."""
    last: dict[str, str] = {}
    for plan in fault_plans(topology):
        if plan.kind in DEPARTURES and plan.node is not None:
            path, before = f"$.{plan.entry}", last.get(plan.node)
            if before == plan.kind:
                other = "leave" if plan.kind == "join" else "join"
                yield path, f"'{plan.node}' is to {plan.kind} twice (let it {other} between)"
            last[plan.node] = plan.kind
    for index, move in enumerate(topology.moves):
        if move.node in last:
            yield f"$.moves[{index}]", f"'{move.node}' comes or goes by a fault, and cannot move besides (remove one)"


class _Things:
    """What faults can happen to, by name."""

    def __init__(self, topology: Topology) -> None:
        self.tiers = {name: plan.tier for group, plan in topology.nodes.items() for name in names_of(topology, group)}
        self.links = link_names(topology)
        self.external = topology.broker.url is not None
        self.groups = {group: names_of(topology, group) for group in topology.nodes}

    def known(self, target: FaultTarget) -> list[str]:
        """Those of a kind, by which a slip of the pen may be mended."""
        match target:
            case "link":
                return list(self.links)
            case "site":
                return [name for name, tier in self.tiers.items() if tier == "edge"]
            case "broker":
                return [name for name, tier in self.tiers.items() if tier != "device"]
            case _:
                return list(self.tiers)

    def problems(self, path: str, kind: str, target: FaultTarget, name: str) -> Iterator[Problem]:
        """Whether there is such a thing, and such a fault of it."""
        if target == "machine":
            return  # those of a lab are known once it is asked
        known = self.known(target)
        if name not in known and name in self.tiers:
            wanted = "an edge" if target == "site" else "an edge or the cloud"
            yield path, f"'{name}' is of tier {self.tiers[name]} (name {wanted})"
        elif name not in known and target != "link" and name in self.groups:
            first, *_, last = self.groups[name]
            yield path, f"'{name}' is a group (name one of {first} to {last}; an entry of chaos may name a group)"
        elif name not in known:
            yield path, f"no {'link' if target == 'link' else 'node'} '{name}'{did_you_mean(name, known)}"
        elif target == "node" and self.tiers[name] == "cloud" and kind in ("kill", "restart"):
            yield path, "the cloud steers the run, which would end with it (pause it, or restart its broker)"
        elif target == "node" and self.tiers[name] == "cloud" and kind == "disk":
            yield path, "the cloud's disk holds the run itself (name an edge or a device)"
        elif target == "broker" and self.external:
            yield path, "broker.url names one of your own, which no run ends (remove one of the two)"

    def pause_problems(self, path: str, target: FaultTarget, names: Iterable[str], most_s: float) -> Iterator[Problem]:
        """Whether the run can do without all that stands still so long."""
        if target == "node" and most_s > CLOUD_PAUSE_S and any(self.tiers.get(name) == "cloud" for name in names):
            yield f"{path}.for_s", f"the cloud may be paused for {CLOUD_PAUSE_S:g} s at most, not {most_s:g} s"


def _check_fault(topology: Topology, things: _Things, path: str, fault: Fault) -> Iterator[Problem]:
    yield from _check_time(topology, path, fault)
    yield from _check_change(topology, things, path, fault)
    if (fault.by_ms is None) == (fault.kind == "clock"):
        mend = "is missing: say how far it is stepped on" if fault.kind == "clock" else "is for kind clock (remove it)"
        yield f"{path}.by_ms", mend
    if fault.trace is not None:
        yield from _check_trace(topology, things, path, fault)
        return
    yield from _check_length(path, fault.kind, fault.for_s)
    found, choice = things_of(fault), " or ".join(_ARTICLE[each] for each in TARGETS[fault.kind])
    if len(found) != 1:
        named = " and ".join(_ARTICLE[target] for target, _ in found) or "nothing"
        yield path, f"names {named} (name {choice})"
        return
    ((target, name),) = found
    if target not in TARGETS[fault.kind]:
        yield f"{path}.kind", f"'{fault.kind}' is for {choice}, not for {_ARTICLE[target]}"
        return
    if fault.kind in DEPARTURES:
        yield from _check_departure(topology, things, path, fault)
        return
    yield from things.problems(f"{path}.{target}", fault.kind, target, name)
    if fault.kind == "pause":
        yield from things.pause_problems(path, target, [name], fault.for_s or 0.0)


def _check_change(topology: Topology, things: _Things, path: str, fault: Fault | Chaos) -> Iterator[Problem]:
    """What a link is degraded to."""
    change = fault.to
    if fault.kind != "degrade":
        if change is not None:
            yield f"{path}.to", f"has no effect with kind '{fault.kind}' (use degrade, or remove it)"
        return
    if change is None or change == LinkChange():
        yield f"{path}.to", "is missing: say what becomes of the link, as {latency_ms: 200}"
        return
    links = (fault.link,) if isinstance(fault, Fault) else fault.links
    groups = dict.fromkeys(groups for link in links for name, groups in things.links.items() if link in (name, groups))
    for pair in groups:
        link = next((each for each in topology.links if " -> ".join(each.between) == pair), None)
        before = (0.0, 0.0, "uniform") if link is None else (link.latency_ms, link.jitter_ms, link.jitter)
        latency_ms = before[0] if change.latency_ms is None else change.latency_ms
        jitter_ms = before[1] if change.jitter_ms is None else change.jitter_ms
        if problem := jitter_problem(latency_ms, jitter_ms, change.jitter or before[2]):  # type: ignore[arg-type]
            yield f"{path}.to", f"of {pair}: {problem}"


def _check_departure(topology: Topology, things: _Things, path: str, fault: Fault) -> Iterator[Problem]:
    """A device, or a group of them, that comes late or goes before the end."""
    assert fault.node is not None
    for name in ("when", "every_s"):
        if getattr(fault, name) is not None:
            yield f"{path}.{name}", f"a device is to {fault.kind} at one time (give at_s)"
    devices = [name for name, tier in things.tiers.items() if tier == "device"]
    groups = [name for name, group in topology.nodes.items() if group.tier == "device"]
    if fault.node not in things.tiers and fault.node not in topology.nodes:
        yield f"{path}.node", f"no node '{fault.node}'{did_you_mean(fault.node, [*groups, *devices])}"
        return
    if fault.node not in (*devices, *groups):
        yield f"{path}.node", f"'{fault.node}' is no device (name a device, or a group of them)"
    if fault.kind == "join" and fault.at_s == 0.0:
        yield f"{path}.at_s", "all that is not said to come later is there at 0 s (remove the fault)"
    named = set(named_by(topology, "node", fault.node))
    for name, workload in topology.workloads.items():
        sources = {device for group in workload.sources for device in named_by(topology, "node", group)}
        if isinstance(workload.load, Offline) and named & sources:
            yield path, f"the samples of '{name}' are all due at the start (use another load, or remove the fault)"


def _check_time(topology: Topology, path: str, fault: Fault) -> Iterator[Problem]:
    given = [name for name in ("at_s", "when", "trace") if getattr(fault, name) is not None]
    if len(given) != 1:
        yield path, f"says {' and '.join(given) or 'no time'} (give one of at_s, when, trace)"
        return
    at_s, for_s, every_s = fault.at_s, fault.for_s, fault.every_s
    if at_s is not None and at_s >= topology.duration_s:
        yield f"{path}.at_s", not_within(at_s, topology.duration_s)
    elif (
        at_s is not None
        and for_s is not None
        and "link" not in TARGETS[fault.kind]
        and at_s + for_s > topology.duration_s
    ):
        yield f"{path}.for_s", f"is over at {at_s + for_s:g} s, after the run of {topology.duration_s:g} s (shorten it)"
    if fault.when is not None:
        yield from _check_condition(topology, f"{path}.when", fault.when)
    if every_s is not None and fault.kind not in DEPARTURES:
        if at_s is None:
            yield f"{path}.every_s", "repeats a time (give at_s, or remove it)"
        elif LASTING[fault.kind] == "never" and fault.kind != "clock":
            yield f"{path}.every_s", f"'{fault.kind}' is for good (remove it, or use restart)"
        elif for_s is None and fault.kind != "clock":
            yield f"{path}.every_s", "repeats what has an end (give for_s, or remove it)"
        elif for_s is not None and for_s >= every_s:
            yield f"{path}.every_s", f"{every_s:g} s is over before the {for_s:g} s of each (lengthen it)"
        elif (topology.duration_s - at_s) / every_s > MOST_FAULTS:
            yield f"{path}.every_s", f"makes more than {MOST_FAULTS:,} faults (lengthen it)"


def _check_length(path: str, kind: str, for_s: object) -> Iterator[Problem]:
    lasting = LASTING[kind]  # type: ignore[index]
    if lasting == "always" and for_s is None:
        yield f"{path}.for_s", f"is missing: '{kind}' has an end"
    if lasting == "never" and for_s is not None:
        mend = " (remove it, or use restart)" if kind == "kill" else " (remove it)"
        yield f"{path}.for_s", f"'{kind}' is for good{mend}"


def _check_trace(topology: Topology, things: _Things, path: str, fault: Fault) -> Iterator[Problem]:
    assert fault.trace is not None
    if fault.kind not in _OF_NODES:
        yield f"{path}.kind", f"'{fault.kind}' does not follow a trace (use pause or restart)"
        return
    for name in ("for_s", *(target for target, _ in things_of(fault))):
        if getattr(fault, name) is not None:
            yield f"{path}.{name}", "is what the trace says (remove one of the two)"
    try:
        absences = read_availability(fault.trace)
    except TopologyError as error:
        yield f"{path}.trace", str(error)
        return
    if all(away.from_s >= topology.duration_s for away in absences):
        late = f"nobody is away within the run of {topology.duration_s:g} s (write times in s)"
        yield f"{path}.trace", f"{fault.trace}: {late}"
    if len(absences) > MOST_FAULTS:
        yield f"{path}.trace", f"{fault.trace}: tells of more than {MOST_FAULTS:,} absences (shorten it)"
    for name in dict.fromkeys(away.node for away in absences):
        if name in things.tiers and things.tiers[name] == "cloud":
            yield f"{path}.trace", f"{fault.trace}: '{name}' is the cloud, which steers the run (remove its lines)"
        elif name not in things.tiers:
            yield f"{path}.trace", f"{fault.trace}: no node '{name}'{did_you_mean(name, things.tiers)}"


def _check_condition(topology: Topology, path: str, when: When) -> Iterator[Problem]:
    given = [name for name in ("round", "rollout", "decided") if getattr(when, name) is not None]
    if len(given) != 1:
        yield path, f"says {' and '.join(given) or 'no condition'} (give one of round, rollout, decided)"
        return
    workload = topology.workloads.get(when.workload)
    if workload is None:
        yield f"{path}.workload", f"no workload '{when.workload}'{did_you_mean(when.workload, topology.workloads)}"
        return
    federated = next((each for each in topology.federated if each.workload == when.workload), None)
    if when.round is not None:
        if federated is None:
            yield f"{path}.round", f"'{when.workload}' has no federation (give federated, or another condition)"
        elif federated.rounds is not None and when.round > federated.rounds:
            yield f"{path}.round", f"there are {federated.rounds} rounds (lower it)"
    if when.rollout is not None and when.rollout > len(workload.rollout):
        yield f"{path}.rollout", f"'{when.workload}' has {len(workload.rollout)} roll-outs (add one, or lower it)"
    if when.decided is not None:
        load = workload.load
        while isinstance(load, With) and load.workload in topology.workloads:
            load = topology.workloads[load.workload].load
        if isinstance(load, SingleStream | MultiStream | After):
            kind = load.__struct_config__.tag
            yield f"{path}.decided", f"how many samples a '{kind}' load has is known at the end only (use at_s)"


def _check_chaos(topology: Topology, things: _Things, path: str, chaos: Chaos) -> Iterator[Problem]:
    yield from _check_length(path, chaos.kind, chaos.for_s)
    yield from _check_change(topology, things, path, chaos)
    if chaos.for_s is not None and chaos.for_s[0] > chaos.for_s[1]:
        yield f"{path}.for_s", f"[{chaos.for_s[0]:g}, {chaos.for_s[1]:g}] ends before it begins (swap the two)"
    until_s = topology.duration_s if chaos.until_s is None else chaos.until_s
    if until_s > topology.duration_s:
        yield f"{path}.until_s", not_within(until_s, topology.duration_s)
    within_s = min(until_s, topology.duration_s) - chaos.from_s
    if within_s <= 0:
        yield f"{path}.from_s", f"nothing is left from {chaos.from_s:g} s on (lower it)"
    elif chaos.for_s is not None and chaos.for_s[0] >= within_s:
        yield f"{path}.for_s", f"the shortest, {chaos.for_s[0]:g} s, does not fit into {within_s:g} s (shorten it)"
    allowed = [target for target in TARGETS[chaos.kind] if target in _FIELD]
    if chaos.kind in DEPARTURES or not allowed:
        yield f"{path}.kind", f"'{chaos.kind}' is no matter of chance (say when: faults)"
        return
    found = targets_of(chaos)
    if len(found) != 1 or found[0][0] not in allowed:
        fields = [_FIELD[target] for target in allowed]
        yield path, f"names {listed([_FIELD[target] for target, _ in found]) or 'nothing'} (give {' or '.join(fields)})"
        return
    ((target, names),) = found
    before = 0
    for place, name in enumerate(names):
        singles = named_by(topology, target, name) or [name]
        before += len(singles)
        # Of a group that cannot be, one is enough to tell.
        wrong = (each for single in singles for each in things.problems("", chaos.kind, target, single))
        if (first := next(wrong, None)) is not None:
            yield f"{path}.{_FIELD[target]}[{place}]", first[1]
        if chaos.kind == "pause" and chaos.for_s is not None:
            yield from things.pause_problems(path, target, singles, chaos.for_s[1])
    of_each = 1.0 if chaos.for_s is None else chaos.rate_per_h * max(0.0, within_s) / 3_600
    if (expected := before * of_each) > MOST_FAULTS:
        yield f"{path}.rate_per_h", f"makes some {expected:,.0f} faults, more than {MOST_FAULTS:,} (lower it)"
