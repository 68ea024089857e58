"""What the faults of a run cost: when each happened, how long it took to recover, what was late and what was lost."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import msgspec
import numpy as np

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import Faulted, FaultStep
from edgebench.results.chunks import Bools, SampleChunk, ms
from edgebench.results.figures import FaultFigures
from edgebench.results.link_outages import outages_in
from edgebench.results.observations import Observations
from edgebench.results.timeline import since_start_s
from edgebench.results.values import Extremes, Ints, Mergeable, Values
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.fault_model import TAKES, FaultKind, FaultPlan, OutageKind
from edgebench.topology.reach import Reach

_AROUND_NS = NS_PER_S
"""Samples due so long before something is taken away may be on their way through it."""
_SETTLING_NS = 5 * NS_PER_S
"""So long after something is there again what was not promised to arrive may be lost still."""
_AFTER_NS = 120 * NS_PER_S
"""A fault from whose end it takes longer to recover costs no more than that."""
_BREAKS_CONNECTIONS: frozenset[FaultKind | OutageKind] = frozenset({"down", "outage", "reset"})
_ENDS: Mapping[FaultStep, tuple[FaultStep, ...]] = {
    "down": ("up",),
    "degrade": ("restore", "up"),
    "kill": ("start",),
    "pause": ("resume",),
    "fill": ("free",),
    "step": (),
    "join": (),
    "leave": (),
}
"""What begins a fault, and what ends it."""


@dataclass(frozen=True)
class Happened:
    """A fault as it came about. asked_ns: None of one whose condition was never met; at_ns: of one that never happened,
    or found taken away already what it was to take; until_ns: of one for good, or that the run did not see the end of.

    All on the server's clock. for_good: what it took was not to come back, by itself, or since another fault
    took it as well, meanwhile and for good.
    """

    plan: FaultPlan
    asked_ns: int | None
    at_ns: int | None
    until_ns: int | None
    for_good: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it happened, and what it took was there again."""
        return self.until_ns is not None


def happened_in(deployment: Deployment, observations: Observations) -> list[Happened]:
    """Each fault of the deployment."""
    seen_ns = {asked.fault: asked.at_ns for asked in observations.faults_asked}
    steps = sorted(observations.faults, key=lambda step: step.at_ns)
    found = []
    for number, plan in enumerate(deployment.faults):
        asked_ns = seen_ns.get(number)
        if plan.at_s is not None and observations.started_ns is not None:
            asked_ns = observations.started_ns + round(plan.at_s * NS_PER_S)
        begun = [step for step in steps if step.kind in _ENDS and _is_of(step, number, plan, asked_ns)]
        until_ns = [_end_of(step, steps) for step in begun]
        over_ns = [each for each in until_ns if each is not None]
        found.append(
            Happened(
                plan,
                asked_ns,
                min((step.at_ns for step in begun), default=None),
                max(over_ns) if over_ns and len(over_ns) == len(until_ns) else None,
                for_good=plan.for_s is None,
            )
        )
    for_good = [each for each in found if each.for_good and each.asked_ns is not None and each.plan.kind in TAKES]
    return [
        each
        if each.at_ns is None or each.until_ns is not None or each.for_good
        else replace(each, for_good=any(_takes_too(other, each, deployment) for other in for_good))
        for each in found
    ]


def _takes_too(other: Happened, taken: Happened, deployment: Deployment) -> bool:
    """Whether what one fault has taken is what another one takes as well, all of it or with more, before it was to be
    there again."""
    if other.asked_ns is None or taken.at_ns is None:
        return False
    back_ns = taken.at_ns + round((taken.plan.for_s or 0.0) * NS_PER_S)
    if not taken.at_ns <= other.asked_ns <= back_ns:
        return False
    (what, name), (target, whole) = taken.plan.thing, other.plan.thing
    if (what, name) == (target, whole):
        return True
    node = deployment.nodes.get(name)  # of a site or a broker, the edge's
    if node is None or what == "machine":
        return False
    if target == "site":
        return whole == (node.parent if node.tier == "device" else node.name)
    return target == "machine" and whole == node.machine


def _is_of(step: Faulted, number: int, plan: FaultPlan, asked_ns: int | None) -> bool:
    if step.fault is not None or step.link is None or asked_ns is None:
        return step.fault == number
    # Runs before faults had numbers cut links only.
    return step.link == plan.link and 0 <= step.at_ns - asked_ns < NS_PER_S


def _end_of(begun: Faulted, steps: list[Faulted]) -> int | None:
    """When what a fault took was there again, whichever fault's end it was. steps: in the order of their times."""
    if begun.kind == "step":
        return begun.at_ns  # which takes no time
    thing, ends = (begun.link, begun.part), _ENDS[begun.kind]
    later = bisect_right(steps, begun.at_ns, key=lambda step: step.at_ns)
    return next(
        (step.at_ns for step in steps[later:] if (step.link, step.part) == thing and step.kind in ends),
        None,
    )


@dataclass
class FaultCost(Mergeable):
    """One fault: what became of the samples of the devices whose decisions have to pass what it took away.

    devices: by workload. lost, late: of those that were due or on their way while it lasted; after_…: when those were
    due that it may have cost after its end. first_ns: by device, the first decision after it.
    """

    PARAMETERS: ClassVar = ("happened", "devices")
    happened: Happened
    devices: Mapping[str, frozenset[str]]
    samples: int = 0
    lost: int = 0
    late: int = 0
    after_lost_ns: Values = field(default_factory=Values)
    after_late_ns: Values = field(default_factory=Values)
    latency_ns: Extremes = field(default_factory=Extremes)
    first_ns: dict[str, Extremes] = field(default_factory=dict)

    def concerns(self, workload: str, deciding: Collection[str], first_ns: int, last_ns: int) -> bool:
        """Whether samples of a workload can tell anything of it, of which none was due before or arrived after these: a
        run may have thousands of faults, and each chunk of samples is near a few. deciding: the devices that any of
        them brought a decision."""
        at_ns, until_ns = self.happened.at_ns, self.happened.until_ns
        devices = self.devices.get(workload)
        if at_ns is None or not devices or last_ns < at_ns - _AROUND_NS:
            return False
        if until_ns is None or first_ns <= until_ns + _AFTER_NS:
            return True
        return any(
            (seen := self.first_ns.get(device)) is None or seen.least is None or seen.least > first_ns
            for device in deciding
            if device in devices
        )

    def update(self, chunk: SampleChunk, mine: Bools, late: Bools) -> None:
        """Take in a chunk of a workload. mine: which samples are of its devices; late: which were decided after their
        deadline [sample]."""
        at_ns, until_ns = self.happened.at_ns, self.happened.until_ns
        if at_ns is None or not mine.any():
            return
        due_ns, arrived_ns, decided = chunk.ns["scheduled_ns"], chunk.ns["arrived_ns"], chunk.decided
        during = mine & np.where(decided, arrived_ns >= at_ns, due_ns >= at_ns - _AROUND_NS)
        if until_ns is not None:
            after = during & (due_ns > until_ns) & (due_ns <= until_ns + _AFTER_NS)
            self.after_lost_ns.update(due_ns[after & ~decided] - until_ns)
            self.after_late_ns.update(due_ns[after & late] - until_ns)
            during &= due_ns <= until_ns
        self.samples += int(during.sum())
        self.lost += int((during & ~decided).sum())
        self.late += int((during & late).sum())
        self.latency_ns.update((arrived_ns - due_ns)[during & decided])
        # What was on its way already is no sign that it goes on without what was taken away for good.
        back = mine & decided & (due_ns > at_ns if until_ns is None else arrived_ns >= until_ns)
        self._first(chunk, arrived_ns, back)

    def _first(self, chunk: SampleChunk, arrived_ns: Ints, back: Bools) -> None:
        codes = chunk.codes["node"][back]
        first_ns = np.full(len(chunk.names["node"]), np.iinfo(np.int64).max)
        np.minimum.at(first_ns, codes, arrived_ns[back])
        for code in np.unique(codes).tolist():
            self.first_ns.setdefault(chunk.names["node"][code], Extremes()).update(first_ns[code : code + 1])

    def figures(self, observations: Observations) -> FaultFigures:
        """The figures."""
        happened, plan = self.happened, self.happened.plan
        since_ns = happened.at_ns if happened.until_ns is None else happened.until_ns
        first_ns = sorted(each.least for each in self.first_ns.values() if each.least is not None)
        concerned = frozenset().union(*self.devices.values())
        recovery_ns = all_ns = None
        if since_ns is not None and first_ns:
            recovery_ns = first_ns[0] - since_ns
            all_ns = first_ns[-1] - since_ns if len(first_ns) == len(concerned) else None
        within_ns = _AFTER_NS if all_ns is None else all_ns
        target, name = plan.thing
        return FaultFigures(
            kind=plan.kind,
            target=target,
            name=name,
            asked_s=_s(observations, happened.asked_ns),
            at_s=_s(observations, happened.at_ns),
            until_s=_s(observations, happened.until_ns),
            devices=len(concerned),
            recovery_s=None if recovery_ns is None else round(recovery_ns / NS_PER_S, 6),
            all_recovered_s=None if all_ns is None else round(all_ns / NS_PER_S, 6),
            samples=self.samples,
            late=self.late + _within(self.after_late_ns, within_ns),
            lost=self.lost + _within(self.after_lost_ns, within_ns),
            slowest_ms=None if self.latency_ns.most is None else float(ms(self.latency_ns.most)),
            entry=plan.entry,
        )


@dataclass
class FaultCosts(Mergeable):
    """Of all faults of a run. survives: by workload, the kinds that no accepted sample is to be lost by, if what they
    take comes back. excused: by workload, how many samples were lost that nobody had promised to keep."""

    PARAMETERS: ClassVar = ("late_ns", "survives")
    late_ns: Mapping[str, int | None]
    survives: Mapping[str, frozenset[FaultKind | OutageKind]]
    faults: list[FaultCost]
    excused: Counter[str] = field(default_factory=Counter)

    def update(self, workload: str, chunk: SampleChunk) -> None:
        """Take in a chunk of a workload."""
        if not self.faults:
            return
        late = np.zeros(len(chunk), np.bool_)
        if (limit_ns := self.late_ns[workload]) is not None:
            late[chunk.decided] = chunk.latency_ns > limit_ns
        lost = ~chunk.decided
        excused = np.zeros(len(chunk), np.bool_)
        due_ns, arrived_ns = chunk.ns["scheduled_ns"], chunk.ns["arrived_ns"]
        first_ns = int(due_ns.min(initial=np.iinfo(np.int64).max))
        last_ns = max(int(due_ns.max(initial=0)), int(arrived_ns.max(initial=0)))
        deciding = [*chunk.count("node", chunk.decided)]
        of_devices: dict[frozenset[str], Bools] = {}
        for fault in self.faults:
            if not fault.concerns(workload, deciding, first_ns, last_ns):
                continue
            devices = fault.devices[workload]
            if devices not in of_devices:
                of_devices[devices] = _of_nodes(chunk, devices)
            fault.update(chunk, of_devices[devices], late)
            if lost.any():
                excused |= lost & of_devices[devices] & self._excuses(fault, workload, chunk)
        self.excused[workload] += int(excused.sum())

    def survives_restarts(self, workload: str) -> bool:
        """Whether no accepted sample of it is to be lost when a process dies and is started again."""
        return "restart" in self.survives[workload]

    def _excuses(self, fault: FaultCost, workload: str, chunk: SampleChunk) -> Bools:
        """Of which samples of its devices a fault may well have cost the decision: what it took away for good, and all
        that it took where nothing was promised."""
        happened, due_ns = fault.happened, chunk.ns["scheduled_ns"]
        # What there is no room for is not accepted.
        promised = not happened.for_good and happened.plan.kind in self.survives[workload]
        excuses = happened.plan.kind == "disk" or (happened.plan.kind in TAKES and not promised)
        if happened.at_ns is None or not excuses:
            return np.zeros(len(chunk), np.bool_)
        within = due_ns >= happened.at_ns - _AROUND_NS
        if happened.until_ns is not None:
            within &= due_ns <= happened.until_ns + _SETTLING_NS
        return within


def fault_costs(deployment: Deployment, observations: Observations) -> FaultCosts:
    """Of no records yet."""
    happened: list[tuple[Happened, tuple[FaultPlan, ...]]] = []
    if deployment.faults:
        happened += [(each, (each.plan,)) for each in happened_in(deployment, observations)]
    for outage in outages_in(deployment, observations):
        of_links = tuple(msgspec.structs.replace(outage.plan, link=link.name) for link in outage.links)
        happened.append((Happened(outage.plan, outage.asked_ns, outage.at_ns, outage.until_ns), of_links))
    reach = {name: Reach(plan, deployment) for name, plan in deployment.workloads.items()} if happened else {}
    return FaultCosts(
        late_ns={
            name: None if plan.deadline_ms is None else round(plan.deadline_ms * 1e6)
            for name, plan in deployment.workloads.items()
        },
        survives={name: _survives(plan, deployment, observations) for name, plan in deployment.workloads.items()},
        faults=[
            FaultCost(
                each,
                {
                    name: devices
                    for name in reach
                    if (devices := frozenset(device for plan in plans for device in reach[name].devices(plan)))
                },
            )
            for each, plans in happened
        ],
    )


def _survives(
    plan: WorkloadPlan, deployment: Deployment, observations: Observations
) -> frozenset[FaultKind | OutageKind]:
    """The kinds that take nothing of a workload by what its topology promises. See docs/reliability.md."""
    if plan.qos == 0:
        return frozenset()
    if deployment.durability != "none":
        return TAKES
    if any(broker.kind == "nats" for broker in observations.brokers):
        return TAKES - {"restart", *_BREAKS_CONNECTIONS}
    return TAKES - {"restart"}


def clocks_stepped(deployment: Deployment, observations: Observations) -> dict[str, int]:
    """How often faults have stepped the clock of each machine."""
    steps = [step.fault for step in observations.faults if step.kind == "step" and step.fault is not None]
    return dict(Counter(str(deployment.faults[fault].machine) for fault in steps))


def killed_for_good(observations: Observations) -> set[str]:
    """The nodes of parts that a fault has killed, and that were not started again: what they have not done is no
    surprise."""
    started_ns: dict[str | None, int] = {}
    for step in observations.faults:
        if step.kind == "start":
            started_ns[step.part] = max(step.at_ns, started_ns.get(step.part, step.at_ns))
    return {
        node
        for death in observations.deaths
        if death.expected and death.at_ns > started_ns.get(death.part, -1)
        for node in death.nodes
    }


def _of_nodes(chunk: SampleChunk, nodes: frozenset[str]) -> Bools:
    named = np.array([*(name in nodes for name in chunk.names["node"]), False], np.bool_)
    found: Bools = named[chunk.codes["node"]]
    return found


def _within(after_ns: Values, within_ns: int) -> int:
    return int((after_ns.array <= within_ns).sum()) if len(after_ns) else 0


def _s(observations: Observations, at_ns: int | None) -> float | None:
    return None if at_ns is None else since_start_s(observations, at_ns)
