"""What learning together took in a run: what a model and an answer take besides links, a step, aggregating.

Of a message what it takes besides its links is told where these have a latency, since clients that nothing keeps apart
are asked together, and no rate, since many would wait for that; and where one clock has stamped it, from the second
round on, when connections stand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cloud.link_turns import ask_first, links_with_samples
from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.fabric.records import Partitioned, ReplyRecord, RoundRecord
from edgebench.fabric.transfers import SMALL_BYTES
from edgebench.results.disturbance import disturbance_of
from edgebench.results.federations import links_between
from edgebench.results.rundir import StoredRun
from edgebench.simulation.service_times import Cost, Ints
from edgebench.topology.deployment import HERE, Deployment, FederatedPlan, LinkPlan, NodePlan
from edgebench.topology.model import Tier

TO_EDGES, TO_DEVICES, OF_SITE = "cloud and edges", "cloud and devices", "edges and devices"
"""Between whom it is asked and answered."""


class LearningFound(NamedTuple):
    """What a run tells: ns, or bytes; aggregate: by the number of answers. All are sorted, and never empty."""

    costs: Mapping[Cost, Ints]
    aggregate: Mapping[Cost, Mapping[int, Ints]]


class _Told(NamedTuple):
    """An answer with all its stamps. idle_ns: what one way of its message takes on its links, of which nothing waits.
    asks_first: before it is brought."""

    node: str
    asked_ns: int
    delivered_ns: int
    started_ns: int
    finished_ns: int
    arrived_ns: int
    down_bytes: int
    up_bytes: int
    idle_ns: int
    asks_first: bool


def asked_by(server: Tier, client: Tier) -> str:
    """How a cost says whom a server asks."""
    return OF_SITE if server == "edge" else TO_EDGES if client == "edge" else TO_DEVICES


def learned_cost(profile: str, plan: FederatedPlan, task: str, size: str, *, first: bool = False) -> Cost:
    """The key of a step of learning on a kind of machine. first: in the first round, in which learners have to load all
    that they learn with."""
    how = f"{size}, {plan.how.fit.runtime}, {plan.how.batch_size} samples"
    return Cost("learn", profile, task, f"{how}, at first" if first else how)


def size_cost(size: str, whom: str) -> str:
    """How a cost tells of models of some size that go to somebody."""
    return f"{size}, {whom}"


def steps_of(samples: int, plan: FederatedPlan) -> int:
    """How many steps a client takes that has so many samples."""
    return plan.how.local_epochs * math.ceil(samples / plan.how.batch_size)


def is_built_in(plan: FederatedPlan) -> bool:
    """Whether devices learn the workload's own model, in rounds, across links."""
    return plan.how.app is None and plan.over_mqtt and plan.how.mode == "synchronous"


def learning_in(run: StoredRun) -> LearningFound:
    """What a run tells of what devices learned together in it; nothing where it has held no such round."""
    found = _Found(run)
    for name, plan in run.deployment.federated.items():
        if is_built_in(plan):
            found.take(plan, [each for each in run.rounds if each.workload == name and not each.resumed])
    return LearningFound(
        {cost: np.sort(np.maximum(np.array(values, np.int64), 0)) for cost, values in found.costs.items()},
        {
            cost: {n: np.sort(np.maximum(np.array(values, np.int64), 0)) for n, values in by_number.items()}
            for cost, by_number in found.aggregate.items()
        },
    )


class _Found:
    """What was found so far."""

    def __init__(self, run: StoredRun) -> None:
        self.costs: dict[Cost, list[float]] = {}
        self.aggregate: dict[Cost, dict[int, list[float]]] = {}
        self._run = run
        self._nodes: Mapping[str, NodePlan] = run.deployment.nodes
        self._ask_first = ask_first(run.deployment, self._nodes, links_with_samples(run.deployment))

    def take(self, plan: FederatedPlan, rounds: Sequence[RoundRecord]) -> None:
        """Those of a federation."""
        calm = list(self._undisturbed(rounds))
        for record in calm:
            self._take_messages(plan, record)
            self._take_learning(plan, record)
            self._take_aggregating(plan, record)
        self._take_sites(plan, calm)
        self._take_beginnings(plan, rounds)

    def _undisturbed(self, rounds: Sequence[RoundRecord]) -> Iterator[RoundRecord]:
        """Those that nothing disturbed, or all where there are none."""
        disturbance = disturbance_of(self._run.observations)
        if disturbance is None:
            return iter(rounds)
        begin, end = ([getattr(each, name) for each in rounds] for name in ("started_ns", "ended_ns"))
        touched = disturbance.touches(np.array(begin, np.int64), np.array(end, np.int64))
        calm = [record for record, was in zip(rounds, touched, strict=True) if not was]
        return iter(calm or rounds)

    def _add(self, cost: Cost, *values: float) -> None:
        self.costs.setdefault(cost, []).extend(values)

    def _task(self, plan: FederatedPlan) -> tuple[str, str]:
        workload = self._run.deployment.workloads[plan.how.workload]
        return workload.task, workload.model.size

    def _take_messages(self, plan: FederatedPlan, record: RoundRecord) -> None:
        task, size = self._task(plan)
        told = [found for reply in record.replies if (found := self._told(record, reply)) is not None]
        if not told:
            return
        how = asked_by(self._nodes[record.server].tier, self._nodes[told[0].node].tier)
        self._add(Cost("content", task=task, how=size_cost(size, how)), *(each.down_bytes for each in told))
        self._add(Cost("update", task=task, how=size_cost(size, how)), *(each.up_bytes for each in told))
        if record.number == 1 or not all(_tells(self._run.deployment, each.node, record.server) for each in told):
            return
        fetch_ns, serve_ns = _ways_down(told)
        self._add(Cost("fetch", how=how), fetch_ns)
        self._add(Cost("serve", how=how), serve_ns)
        hand_in_ns, take_ns = _ways_up(told)
        self._add(Cost("hand-in", how=how), *hand_in_ns)
        self._add(Cost("take", how=how), *take_ns)

    def _told(self, record: RoundRecord, reply: ReplyRecord) -> _Told | None:
        delivered_ns, started_ns, finished_ns, arrived_ns = (
            reply.delivered_ns,
            reply.started_ns,
            reply.finished_ns,
            reply.arrived_ns,
        )
        down_bytes, up_bytes = reply.bytes_down, reply.bytes_up
        if delivered_ns is None or started_ns is None or finished_ns is None or arrived_ns is None:
            return None
        if reply.error is not None or not down_bytes or not up_bytes:
            return None
        links = _links(self._run.deployment, reply.node, record.server)
        idle_ns = sum(round(link.latency_ms * NS_PER_MS) for link in links)
        asks_first = reply.node in self._ask_first or up_bytes > SMALL_BYTES
        stamps_ns = reply.asked_ns, delivered_ns, started_ns, finished_ns, arrived_ns
        return _Told(reply.node, *stamps_ns, down_bytes, up_bytes, idle_ns, asks_first)

    def _take_learning(self, plan: FederatedPlan, record: RoundRecord) -> None:
        """What devices took, each with the samples that it has."""
        task, size = self._task(plan)
        samples = self._samples(plan)
        first: dict[str, _Told] = {}
        for reply in record.replies:
            told, node = self._told(record, reply), self._nodes[reply.node]
            if told is None or node.tier != "device" or reply.node not in samples:
                continue
            took_ns = told.finished_ns - told.started_ns
            cost = learned_cost(node.profile, plan, task, size, first=record.number == 1 and record.inner <= 1)
            self._add(cost, took_ns / steps_of(samples[reply.node], plan))
            # Of devices of one agent the others may have waited for it.
            agent = f"{node.group} {node.parent}"
            if agent not in first or told.started_ns < first[agent].started_ns:
                first[agent] = told
        for told in first.values():
            cost = Cost("begin-learning", self._nodes[told.node].profile)
            self._add(cost, told.started_ns - told.delivered_ns)

    def _samples(self, plan: FederatedPlan) -> dict[str, int]:
        found: list[Partitioned] = [
            each for each in self._run.observations.partitions if each.workload == plan.how.workload
        ]
        return dict(zip(plan.clients, found[-1].samples, strict=True)) if found else {}

    def _take_aggregating(self, plan: FederatedPlan, record: RoundRecord) -> None:
        task, size = self._task(plan)
        good = [reply.arrived_ns for reply in record.replies if reply.error is None and reply.arrived_ns is not None]
        if record.skipped is not None or len(good) < len(record.replies) or not good:
            return
        cost = aggregate_cost(self._nodes[record.server].tier, plan, task, size)
        self.aggregate.setdefault(cost, {}).setdefault(len(good), []).append(record.ended_ns - max(good))

    def _take_sites(self, plan: FederatedPlan, rounds: Sequence[RoundRecord]) -> None:
        """What edges take from when they have a model until they have an answer, besides their rounds."""
        if not plan.edges_aggregate:
            return
        task, size = self._task(plan)
        of_sites: dict[tuple[str, int], list[RoundRecord]] = {}
        for record in rounds:
            if self._nodes[record.server].tier == "edge":
                of_sites.setdefault((record.server, record.number), []).append(record)
        for record in rounds:
            if self._nodes[record.server].tier != "cloud":
                continue
            for reply in record.replies:
                held, told = of_sites.get((reply.node, record.number), []), self._told(record, reply)
                if told is not None and len(held) == plan.how.edge_rounds:
                    rounds_ns = sum(each.ended_ns - each.started_ns for each in held)
                    self._add(Cost("site", task=task, how=size), told.finished_ns - told.delivered_ns - rounds_ns)

    def _take_beginnings(self, plan: FederatedPlan, rounds: Sequence[RoundRecord]) -> None:
        """How long after it may begin a round does."""
        own = {each.number: each for each in rounds if self._nodes[each.server].tier == "cloud"}
        interval_ns = int(plan.how.interval_s * NS_PER_S)
        task, size = self._task(plan)
        at_once, later = [], []
        for number, record in own.items():
            before = own.get(number - 1)
            if before is None:
                continue
            if before.ended_ns >= before.started_ns + interval_ns:
                at_once.append(record.started_ns - before.ended_ns)
            else:  # it was due so long after the other was, which took as long to begin
                later.append(record.started_ns - before.started_ns - interval_ns)
        if at_once or later:
            self._add(Cost("next-round", task=task, how=size), *(at_once or later))


def aggregate_cost(server: Tier, plan: FederatedPlan, task: str, size: str) -> Cost:
    """The key of what aggregating takes: by a strategy at the cloud, by a mean at an edge."""
    how = f"{size}, {plan.how.strategy.name}" if server == "cloud" else f"{size}, at an edge"
    return Cost("aggregate", task=task, how=how)


def _links(deployment: Deployment, node: str, server: str) -> list[LinkPlan]:
    return [deployment.links[name] for name in links_between(deployment, node, server)]


def _tells(deployment: Deployment, node: str, server: str) -> bool:
    """Whether what a message takes besides its links can be told of one between these."""
    links = _links(deployment, node, server)
    rates = [rate for link in links for rate in (link.up_mbit_s, link.down_mbit_s)]
    one_clock = deployment.nodes[node].machine == deployment.nodes[server].machine == HERE
    return one_clock and any(link.shaped for link in links) and all(rate is None for rate in rates)


def _ways_down(told: Sequence[_Told]) -> tuple[float, float]:
    """What a model takes besides links, and how long each keeps the server busy: all are asked at a time, so the last
    has waited for all others. Of a single one that is all that it takes."""
    # A notice goes down, what asks for the model up, and the model down.
    rest = sorted(each.delivered_ns - each.asked_ns - 3 * each.idle_ns for each in told)
    if len(rest) == 1:
        return 0.0, rest[0]
    serve_ns = (rest[-1] - rest[0]) / (len(rest) - 1)
    return max(0.0, rest[0] - serve_ns), serve_ns


def _ways_up(told: Sequence[_Told]) -> tuple[list[float], list[float]]:
    """Likewise of answers, which come when their clients have learned: of those at whose time no other came."""
    in_order = sorted(told, key=lambda each: each.arrived_ns)
    apart, turns = [], []
    before_ns = None
    for each in in_order:
        ways = 3 if each.asks_first else 1
        if before_ns is None or before_ns <= each.finished_ns + ways * each.idle_ns:
            apart.append(each.arrived_ns - each.finished_ns - ways * each.idle_ns)
        else:
            turns.append(each.arrived_ns - before_ns)
        before_ns = each.arrived_ns
    if not turns:
        return [0.0] * len(apart), [float(each) for each in apart]
    take_ns = min(float(np.median(turns)), float(np.median(apart)))
    return [max(0.0, each - take_ns) for each in apart], [take_ns] * len(apart)
