"""May the figures of a run be trusted?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from edgebench.clock import NS_PER_S
from edgebench.fabric.child_process import describe_end
from edgebench.fabric.records import Death, ModelEvent
from edgebench.results.emulated import of_emulation
from edgebench.results.fault_costs import clocks_stepped, killed_for_good
from edgebench.results.federated_figures import FederatedFigures, RoundFigures
from edgebench.results.federations import is_training
from edgebench.results.figures import (
    DisturbanceFigures,
    LinkFigures,
    MachineFigures,
    NodeFigures,
    ReasonKind,
    Verdict,
)
from edgebench.results.machine_reasons import clock_notes, of_clocks, of_disturbance, of_hosts
from edgebench.results.observations import Observations
from edgebench.results.sample_figures import Slip, WorkloadFigures
from edgebench.results.tolerances import (
    LINK_JITTER_SHARE,
    LINK_LATENCY_MS,
    LINK_SHARE,
    MOST_LINKS_NAMED,
    ROLLOUT_S,
    SLIP_LEAST_SAMPLES,
    SLIP_SHARE,
)
from edgebench.results.values import Extremes
from edgebench.topology.deployment import Deployment
from edgebench.topology.fault_model import shown
from edgebench.topology.model import Offline
from edgebench.topology.reach import nodes_passed
from edgebench.topology.wording import listed, things

Begun = Mapping[tuple[str, str], Extremes]
"""When a node's decisions with a model, by its digest, were begun."""


def verdict_of(
    deployment: Deployment,
    observations: Observations,
    workloads: dict[str, WorkloadFigures],
    links: dict[str, LinkFigures],
    machines: dict[str, MachineFigures],
    nodes: dict[str, NodeFigures],
    federated: dict[str, FederatedFigures],
    disturbance: DisturbanceFigures | None,
    excused: Mapping[str, int] = {},
    begun_ns: Mapping[str, Begun] = {},
) -> Verdict:
    """Judge a run by its figures; the reasons come in the order in which they explain each other.

    excused: by workload, how many samples were lost to faults that nobody had promised to keep. begun_ns: by workload,
    of what is placed online.
    """
    stepped = clocks_stepped(deployment, observations)
    # All samples of an offline load are due at once, so how late they are taken says nothing.
    scheduled = {
        name: figures for name, figures in workloads.items() if not isinstance(deployment.workloads[name].load, Offline)
    }
    by_kind: list[tuple[ReasonKind, Iterable[str]]] = [
        ("part", _deaths(deployment, observations)),
        ("run", observations.invalidated),
        ("run", _cut_short(deployment, observations)),
        ("clock", of_clocks(machines, stepped)),
        ("load", (reason for name, figures in scheduled.items() for reason in _generator(name, figures))),
        ("host", of_hosts(deployment, scheduled, machines)),
        ("emulation", of_emulation(nodes, _least_latency_ms(deployment, workloads, nodes))),
        ("disturbance", of_disturbance(deployment, workloads, disturbance)),
        ("delivery", observations.overfull),
        ("delivery", (reason for name, each in workloads.items() for reason in _presence(name, each, deployment))),
        (
            "delivery",
            (
                reason
                for name, each in workloads.items()
                for reason in _delivery(
                    name,
                    each,
                    excused.get(name, 0),
                    _bound(deployment, observations, name),
                    come_again=frozenset() if deployment.durability == "none" else _COME_AGAIN,
                )
            ),
        ),
        ("model", _rollouts(deployment, observations, begun_ns)),
        ("federation", _federations(deployment, observations, federated)),
        ("link", _links(deployment, links)),
        ("link", observations.silent),
    ]
    found = [(kind, reason) for kind, reasons in by_kind for reason in reasons]
    return Verdict(
        valid=not found,
        reasons=[reason for _, reason in found],
        kinds=[kind for kind, _ in found],
        notes=[
            *observations.doubts,
            *clock_notes(machines, stepped),
            *_refusals(observations),
            *_never_met(deployment, observations),
            *_lost_to_faults(deployment, workloads, excused),
        ],
    )


def _least_latency_ms(
    deployment: Deployment, workloads: dict[str, WorkloadFigures], nodes: dict[str, NodeFigures]
) -> dict[str, float]:
    """Of the workloads that pass an emulated node, the least mean."""
    found: dict[str, float] = {}
    if any(node.emulated is not None for node in nodes.values()):
        for name, figures in workloads.items():
            if figures.latency_ms is not None:
                for node in nodes_passed(deployment.workloads[name], deployment):
                    found[node] = min(figures.latency_ms.mean, found.get(node, math.inf))
    return found


def _refusals(observations: Observations) -> Iterator[str]:
    """Who came that had no business there. It is unusual, and spoils nothing: they were let do nothing."""
    for site, refused in observations.refused.items():
        what = listed([things(number, kind.removesuffix("s")) for kind, number in refused.items()])
        yield f"{site} refused {what} of somebody who may not (see its log, and that of its broker)"


def _never_met(deployment: Deployment, observations: Observations) -> Iterator[str]:
    """Faults that were asked for, and that the run did not have."""
    met = {asked.fault for asked in observations.faults_asked}
    for number, plan in enumerate(deployment.faults):
        if plan.when is not None and number not in met:
            thing = shown(*plan.thing)
            yield f"{plan.entry}: what it waits for never came about, so nothing befell {thing} ({plan.kind})"


def _lost_to_faults(
    deployment: Deployment, workloads: dict[str, WorkloadFigures], excused: Mapping[str, int]
) -> Iterator[str]:
    restarts = deployment.durability == "none" and any(fault.kind == "restart" for fault in deployment.faults)
    for name, count in excused.items():
        if count:
            scheduled = things(workloads[name].scheduled, "sample")
            lost = f"{name}: {count:,} of {scheduled} {_was(count)} lost to faults, as was to be expected of them"
            keeps = "; durability: process keeps them over restarts"
            yield f"{lost}{keeps if restarts and deployment.workloads[name].qos else ''}"


def _deaths(deployment: Deployment, observations: Observations) -> Iterator[str]:
    for death in sorted(_unexpected(observations), key=lambda death: death.at_ns):
        when, how = _when(death, observations), describe_end(death.status)
        ended = f"ended {when} with {how}" if death.status >= 0 else f"was killed {when} by {how}"
        yield f"{_part(deployment, death)} {ended}{_last_words(death)}"


def _unexpected(observations: Observations) -> list[Death]:
    return [death for death in observations.deaths if not death.expected]


def _part(deployment: Deployment, death: Death) -> str:
    node = deployment.nodes.get(death.part)
    if node is None or node.tier == "cloud":
        return death.part
    return f"{'edge node' if node.tier == 'edge' else node.tier} {death.part}"


def _when(death: Death, observations: Observations) -> str:
    started_ns = observations.started_ns
    if started_ns is None or death.at_ns < started_ns:
        return f"{(death.at_ns - observations.command_started_ns) / NS_PER_S:.1f} s into the start of the run"
    return f"at {(death.at_ns - started_ns) / NS_PER_S:.1f} s"


def _last_words(death: Death) -> str:
    # Whoever is killed from outside has no last words; what stands last in its log is about something else.
    lines = [line for line in death.last_words.splitlines() if line.strip()] if death.status > 0 else []
    return f": {lines[-1].strip()}" if lines else "; its log is in the run directory"


def _cut_short(deployment: Deployment, observations: Observations) -> Iterator[str]:
    if observations.started_ns is None:
        yield "the run ended before its streams started; no figure of it means anything"
        return
    if observations.ended_ns is None:
        yield f"the run was cut off before its {deployment.duration_s:g} s were over; run it to its end"
    if _unexpected(observations) or observations.invalidated:
        return  # then the others are stopped before their time
    ours = [node.name for node in deployment.nodes.values() if node.board is None]
    silent = [name for name in ours if name not in (*observations.closed, *killed_for_good(observations))]
    if silent:
        yield f"{listed(silent)} did not end in good order, so what {_they(silent)} saw last is missing; see the logs"


def _generator(name: str, figures: WorkloadFigures) -> Iterator[str]:
    slip = figures.slip_ms
    if slip is not None and _slipped(slip, figures.scheduled):
        samples = things(figures.scheduled, "sample")
        yield (
            f"{name}: the load generator slipped its schedule: {slip.over} of {samples} were taken more than "
            f"{slip.limit:g} ms late (p99 {slip.p99:,.1f} ms; at most {SLIP_SHARE:.0%} may be); "
            "lower the rate, use fewer devices, or free the machine"
        )


def _slipped(slip: Slip, scheduled: int) -> bool:
    return slip.over >= SLIP_LEAST_SAMPLES and slip.over > SLIP_SHARE * scheduled


def _bound(deployment: Deployment, observations: Observations, workload: str) -> str:
    """How many samples may be lost, and what sees to that where nothing does yet."""
    at_none = deployment.durability == "none" and deployment.workloads[workload].qos
    if at_none and any(broker.kind == "nats" for broker in observations.brokers):
        return "none may be; durability: process keeps what nats-server has under way when a connection breaks"
    return "none may be"


def _presence(name: str, figures: WorkloadFigures, deployment: Deployment) -> Iterator[str]:
    """Of devices without our software nobody knows what was due."""
    if all(deployment.nodes[node].board for node in deployment.workloads[name].sources):
        if not figures.plain_json:
            mend = "see what they publish, and where"
            yield f"{name}: not one sample came of its devices, which run nothing of ours; {mend}"
    elif not figures.scheduled:
        yield f"{name}: not one sample was due; lengthen the run or raise the rate"


def _delivery(
    name: str, figures: WorkloadFigures, excused: int, bound: str, *, come_again: frozenset[str]
) -> Iterator[str]:
    """come_again: reasons for which a sample may have been dropped that was decided when it came again."""
    scheduled = things(figures.scheduled, "sample")
    if figures.scheduled and not figures.decided:
        yield f"{name}: no decision arrived for any of {scheduled}; see the logs of its deciding nodes"
        return
    lost = figures.lost - excused
    unsure = {"answer-gone", *come_again}  # of the former, whoever asked may have heard it after all
    if lost:
        known = sum(count for reason, count in figures.dropped_by_reason.items() if reason not in unsure)
        dropped = f", {known:,} of them dropped" if known else ""
        besides = f" beside {excused:,} that faults took" if excused else ""
        yield f"{name}: {lost:,} of {scheduled} {_was(lost)} lost{dropped}{besides} ({bound})"
    for reason, count in figures.dropped_by_reason.items() if lost or not excused else ():
        mend = _MENDS.get(reason, "see the logs of its nodes")
        if reason in unsure:
            most = min(count, lost + figures.plain_json)  # what comes in plain JSON nobody keeps
            if most:
                yield f"{name}: at most {things(most, 'sample')} {_was(most)} dropped ({reason}); {mend}"
            continue
        yield f"{name}: {things(count, 'sample')} {_was(count)} dropped ({reason}); {mend}"
    if figures.not_finite:
        decisions = things(figures.decided, "decision")
        yield (
            f"{name}: {figures.not_finite:,} of {decisions} are not finite numbers (none may be); "
            "the model is broken: look at its weights, and at what it makes of inputs such as these"
        )
    if figures.duplicated_at_devices:
        yield f"{name}: {things(figures.duplicated_at_devices, 'decision')} reached their device twice (none may)"
    if figures.unexpected:
        answers = things(figures.unexpected, "decision")
        yield f"{name}: {answers} answered no sample of its devices; is the broker shared?"
    unknown = [model for model in figures.models if model.origin == "unknown"]
    for model in unknown:
        made = f"{things(model.n, 'decision')} {_was(model.n)} made by {model.digest[:12]}"
        yield f"{name}: {made}, a model that was never announced"
    if figures.bound is not None and not figures.bound.met and figures.latency_ms is not None:
        found, asked = figures.latency_ms.p99, figures.bound.p99_ms
        yield f"{name}: p99 {found:,.1f} ms misses the bound of {asked:g} ms; lower the rate"


def _rollouts(deployment: Deployment, observations: Observations, begun_ns: Mapping[str, Begun]) -> Iterator[str]:
    taken_up = {(swap.node, swap.workload, swap.digest) for swap in observations.swaps}
    dead = killed_for_good(observations)
    # The larger model of a cascade is for the cloud alone, and only where an edge is unsure.
    on_devices = [chain for chain in observations.chains if deployment.workloads[chain.workload].head_on_device]
    heads = {(chain.workload, chain.head) for chain in on_devices}
    in_cloud = {(chain.workload, chain.tail) for chain in observations.chains if chain not in on_devices}
    larger = {(cascade.workload, cascade.heavy) for cascade in observations.cascades}
    for event in observations.models:
        if event.announced_ns is None or event.workload not in deployment.workloads:
            continue
        if (event.workload, event.manifest.digest) in larger:
            continue
        # The next one that was announced may have come before the node had a sample for this one.
        used_by_ns = min([observations.ended_ns or event.announced_ns, *_later(event, observations)])
        if event.announced_ns > used_by_ns - ROLLOUT_S * NS_PER_S:
            continue
        plan = deployment.workloads[event.workload]
        deciders = dict.fromkeys(plan.deciders.values())
        if plan.online is not None:
            # Whichever of edge and cloud has nothing to decide from then on need not take up another one.
            deciders = dict.fromkeys(_with_earlier_ones(event, observations, begun_ns.get(event.workload, {})))
        if (event.workload, event.manifest.digest) in heads:
            deciders = dict.fromkeys(plan.deciders)
        if (event.workload, event.manifest.digest) in in_cloud:
            deciders = {deployment.cloud: None}
        missing = [
            node
            for node in deciders
            if (node, event.workload, event.manifest.digest) not in taken_up and node not in dead
        ]
        if missing and not _unexpected(observations) and not observations.invalidated:
            yield (
                f"{event.workload}: {listed(missing)} never decided with model {event.manifest.digest[:12]}, "
                "although it was announced; see the logs, or let the run go on for longer after a roll-out"
            )


def _with_earlier_ones(event: ModelEvent, observations: Observations, begun_ns: Begun) -> Iterator[str]:
    """Nodes that decided with a model of before, when they had had the time to take up this one."""
    assert event.announced_ns is not None
    due_ns = event.announced_ns + ROLLOUT_S * NS_PER_S
    later = {
        other.manifest.digest
        for other in observations.models
        if other.announced_ns is None or other.announced_ns >= event.announced_ns
    }
    for (node, digest), begun in begun_ns.items():
        if digest not in later and begun.most is not None and begun.most > due_ns:
            yield node


def _later(event: ModelEvent, observations: Observations) -> list[int]:
    """When later models of the same workload were announced."""
    return [
        other.announced_ns
        for other in observations.models
        if other.workload == event.workload
        and other.announced_ns is not None
        and event.announced_ns is not None
        and other.announced_ns > event.announced_ns
    ]


def _federations(
    deployment: Deployment, observations: Observations, federated: dict[str, FederatedFigures]
) -> Iterator[str]:
    if observations.started_ns is None or observations.invalidated:
        return
    for name, figures in federated.items():
        wanted = deployment.federated[name].how.rounds
        done = max((each.round for each in figures.rounds), default=0)
        if wanted is not None and done < wanted:
            yield f"{name}: {done} of {wanted} federated rounds were held; see the cloud's log"
        if wanted is None and not figures.rounds and not figures.other_rounds and not _unexpected(observations):
            yield f"{name}: the federation's app asked its clients nothing at all; see the cloud's log"
        # What an earlier run came to is no merit of this one, nor its fault.
        held = [each for each in figures.rounds if not each.resumed]
        without_model = bool(held) and all(each.skipped is not None for each in held)
        if without_model:
            first = f"the first was skipped: {held[0].skipped}{_first_failure(held)}"
            yield f"{name}: not one of {len(held)} federated rounds gave a model; {first}"
        for kind, found in figures.kinds.items():
            if not found.good and not (without_model and is_training(kind)):
                rounds = [each for each in (*held, *figures.other_rounds) if each.kind == kind and not each.resumed]
                asked = f"{found.messages:,} messages of {found.rounds} federated rounds of kind '{kind}'"
                yield f"{name}: no good reply came to any of the {asked}{_first_failure(rounds)}"


def _first_failure(rounds: list[RoundFigures]) -> str:
    """What comes after it may be its consequence."""
    first = next((each.failed for each in rounds if each.failed), {})
    return "".join(f"; the first failure was that of {node}: {why}" for node, why in list(first.items())[:1])


def _links(deployment: Deployment, links: dict[str, LinkFigures]) -> Iterator[str]:
    # The few lines of a trace of delays that a probe meets need not be those of the whole.
    by_trace = {link.name for link in deployment.links.values() if link.delay_trace is not None}
    reasons = [reason for name, link in links.items() for reason in _link(name, link, by_trace=name in by_trace)]
    yield from reasons[:MOST_LINKS_NAMED]
    if len(reasons) > MOST_LINKS_NAMED:
        yield f"{len(reasons) - MOST_LINKS_NAMED} more link figures are off what was asked for; see the table of links"


def _link(name: str, link: LinkFigures, *, by_trace: bool) -> Iterator[str]:
    if not link.steady:
        return  # what was measured says more of a busy machine than of the link; the report marks it with a star
    asked_ms, jitter_ms = link.requested.get("latency_ms"), link.requested.get("jitter_ms", 0.0)
    for key, found in link.measured.items():
        if key in ("latency_ms", "down_latency_ms") and asked_ms is not None and not by_trace:
            limit_ms = LINK_LATENCY_MS + LINK_SHARE * asked_ms + LINK_JITTER_SHARE * jitter_ms
            yield from _off(name, key, asked_ms, found, limit_ms, "ms")
        elif key in ("up_mbit_s", "down_mbit_s") and key in link.requested:
            asked = link.requested[key]
            yield from _off(name, key, asked, found, LINK_SHARE * asked, "Mbit/s")


def _off(name: str, key: str, asked: float, found: float, limit: float, unit: str) -> Iterator[str]:
    if abs(found - asked) > limit:
        yield (
            f"link {name}: {_FIELDS[key]} measured {found:.4g} {unit} where {asked:g} was asked for "
            f"(limit ±{limit:.3g}); free the machine, or ask for what it can emulate"
        )


_FIELDS = {
    "latency_ms": "one-way latency",
    "down_latency_ms": "one-way latency down",
    "up_mbit_s": "rate up",
    "down_mbit_s": "rate down",
}


_COME_AGAIN = frozenset({"queue-full", "inference-failed", "store-full"})
"""Where samples are kept until they are decided, one that was dropped so may come again."""
_MENDS = {
    "queue-full": "lower the rate, or give the queue more room",
    "inference-failed": "the model failed on them; what it said is in the log of the node whose model it is",
    "not-connected": "a node had no connection to its broker, nor, with qos 1, room to wait for it; see the logs",
    "no-reading": "a live sensor had given nothing yet when they were due; see the log of the device's agent",
    "sensor-ended": "a live sensor has ended; the log of the device's agent says how",
    "store-full": "what waited had no room on disk; raise store.max_mb, shorten the outage, or lower the rate",
    "site-full": "an edge had no connection to its site's broker, nor room to wait for it; see the logs of both",
    "answer-gone": "each was decided, and its answer forgotten before its device had it, or is more than 16,384 behind "
    "the last of its device that was forgotten; shorten the outage, or lower the rate at the node that decides",
}
"""What to do about samples that were dropped for this reason."""


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _they(names: list[str]) -> str:
    return "it" if len(names) == 1 else "they"
