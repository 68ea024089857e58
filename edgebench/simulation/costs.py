"""What every step of every workload costs on every kind of node, as tables that the stations draw from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.fabric import topics
from edgebench.seeds import seed_for
from edgebench.simulation import columns
from edgebench.simulation.chains import handed_on, head_of, tail_of
from edgebench.simulation.columns import AT_CLOUD, AT_EDGE, CASCADE, CHAIN, ON_DEVICE, PURPOSES, Flows, Ints, Tables
from edgebench.simulation.fleet import Fleet, Group
from edgebench.simulation.service_times import (
    FORWARDED,
    Cost,
    Model,
    ServiceTimes,
    between,
    cascading_of,
    compress_of,
    model_of,
)
from edgebench.simulation.wire_sizes import answer_bytes, forward_bytes, output_bytes, publish_bytes
from edgebench.topology.model import Cascade, Load, Topology, Workload
from edgebench.topology.wording import one_line

_NOTHING = -1
_INCLUDED = np.zeros(1, np.int64)
"""The time of a step that was measured together with another."""
_AT_EDGE = columns.DECODE, columns.WAKE, columns.ANSWER, columns.INTAKE
_AT_CLOUD = columns.CLOUD_DECODE, columns.CLOUD_WAKE, columns.CLOUD_ANSWER, columns.CLOUD_INTAKE
_RUN_ID = "20000101T000000Z-"


@dataclass(frozen=True)
class Flow:
    """A workload. paced_by: the one whose load this is. Its sources are numbers from `first` on, one for each device
    [source]; where: its samples are decided [source]. cut: of a chain, at which place its model is, where it is one."""

    name: str
    number: int
    plan: Workload
    load: Load
    paced_by: str
    first: int
    devices: NDArray[np.int32]
    where: NDArray[np.int8]
    cut: int | None = None

    def model_at(self, node: Group) -> Model:
        """What decides its samples there."""
        plan, of_profile = self.plan, node.profile
        if plan.is_chain:
            return (head_of if node.tier == "edge" else tail_of)(of_profile, plan, self.cut)
        cascades = node.tier == "cloud" and bool((self.where == CASCADE).any())
        return model_of(of_profile, plan.task, (plan.cascade or Cascade()) if cascades else plan.model)


def costs_of(
    topology: Topology, fleet: Fleet, flows: Sequence[Flow], times: ServiceTimes, file: str | Path
) -> tuple[Flows, Tables]:
    """What all workloads cost.

    Raises TopologyError with a line for each workload of which something is not known.
    """
    costs = _Costs(topology, fleet, flows, times)
    for flow in flows:
        for group in (fleet.groups[source] for source in flow.plan.sources):
            within = (flow.devices >= group.first) & (flow.devices < group.first + group.count)
            for where in np.unique(flow.where[within]).tolist():
                costs.add(flow, group, where)
    if costs.problems:
        raise TopologyError([one_line(f"{file}: {problem}") for problem in dict.fromkeys(costs.problems)])
    return costs.arrays(), costs.tables()


class _Costs:
    """So far."""

    def __init__(self, topology: Topology, fleet: Fleet, flows: Sequence[Flow], times: ServiceTimes) -> None:
        self.problems: list[str] = []
        self._topology = topology
        self._fleet = fleet
        self._flows = flows
        self._times = times
        self._values: list[Ints] = []
        self._numbers: dict[int, int] = {}
        n, groups = len(flows), len(fleet.groups)
        most = max(flow.plan.batch.max_batch for flow in flows)
        self._cost = np.full((n, PURPOSES, groups), _NOTHING, np.int64)
        self._service, self._at_once = (np.full((n, groups, most + 1), _NOTHING, np.int64) for _ in range(2))
        self._share = np.zeros(n)
        self._site_bytes = np.zeros((2, n, groups), np.int64)
        self._far_bytes = np.zeros((2, n), np.int64)
        self._output_bytes = np.full(n, _NOTHING, np.int64)

    def add(self, flow: Flow, group: Group, where: int) -> None:
        """The samples of a group that are decided at one place."""
        self._set(flow, group, columns.TIMER, Cost("timer", group.profile))
        if where == ON_DEVICE:
            self._decided_on_device(flow, group)
            return
        self._travels(flow, group, where)
        edges, cloud = self._fleet.parent(group), self._fleet.cloud
        how = compress_of(flow.plan.compress)
        on = handed_on(flow.plan, flow.cut) if where == CHAIN else how
        if where != AT_CLOUD:
            self._decided_at(flow, edges, how, _AT_EDGE)
        if where != AT_EDGE:
            self._travels_further(flow, group, where, on)
            self._decided_at(flow, cloud, on, _AT_CLOUD)
        if where == CASCADE:
            self._passes_some_on(flow)
        self._count_bytes(flow, group)

    def arrays(self) -> Flows:
        """What the stations need to know of workloads."""
        plans, seed = [flow.plan for flow in self._flows], self._topology.seed
        streams = np.array(
            [[seed_for(seed, "simulate", flow.name, purpose) for purpose in range(PURPOSES)] for flow in self._flows],
            np.int64,
        )
        return Flows(
            max_batch=np.array([plan.batch.max_batch for plan in plans], np.int64),
            max_wait=np.array([round(plan.batch.max_wait_ms * NS_PER_MS) for plan in plans], np.int64),
            bound=np.array([plan.queue.max_samples for plan in plans], np.int64),
            drops_newest=np.array([plan.queue.when_full == "drop-newest" for plan in plans], np.int64),
            cost=self._cost,
            service=self._service,
            at_once=self._at_once,
            share=self._share,
            up_bytes=self._site_bytes[0],
            down_bytes=self._site_bytes[1],
            forward_bytes=self._far_bytes[0],
            answer_bytes=self._far_bytes[1],
            output_bytes=self._output_bytes,
            streams=streams,
            drawn=self._drawn(self._cost.swapaxes(1, 2), streams[:, np.newaxis]),
            batches=self._drawn(np.stack([self._service, self._at_once], axis=2), np.zeros(1, np.int64)),
            values=np.concatenate(self._values),
        )

    def _drawn(self, table: Ints, streams: Ints) -> Ints:
        """What kernels read of tables [...], with streams of chance of that shape or one that is made so."""
        tables = self.tables()
        single = tables.values[tables.start]
        found = np.zeros((*table.shape, 3), np.int64)
        found[..., columns.STREAM] = streams
        found[..., columns.COUNT] = np.where(table == _NOTHING, 0, tables.n[table])
        found[..., columns.PLACE] = np.where(tables.n == 1, single, tables.start)[table]
        return found

    def tables(self) -> Tables:
        """The distributions."""
        counts = np.array([len(values) for values in self._values], np.int64)
        return Tables(np.concatenate(self._values), np.cumsum(counts) - counts, counts)

    def _decided_on_device(self, flow: Flow, group: Group) -> None:
        profile, task = group.profile, flow.plan.task
        begin, wake = Cost("begin", profile, task), Cost("wake", profile)
        if begin in self._times.costs:
            self._cost[flow.number, columns.OWN_CAPTURE, group.number] = self._table(_INCLUDED)
        else:
            self._set(flow, group, columns.OWN_CAPTURE, Cost("capture", profile, task))
        # Who was never seen to hand over between the threads of a device was seen to wake one up.
        self._set(flow, group, columns.WAKE, begin, wake)
        for purpose in (columns.ANSWER, columns.HEAR):
            self._set(flow, group, purpose, Cost("hear", profile), wake)
        self._serve(flow, group, most=1)

    def _travels(self, flow: Flow, group: Group, where: int) -> None:
        task, how = flow.plan.task, compress_of(flow.plan.compress)
        both = between(group.profile, self._fleet.parent(group).profile)
        self._set(flow, group, columns.CAPTURE, Cost("capture", group.profile, task, how))
        self._set(flow, group, columns.SIZE_DRAW, Cost("size", task=task, how=how))
        self._set(flow, group, columns.SITE_UP, Cost("site-up", both, task, how))
        self._set(flow, group, columns.SITE_DOWN, Cost("site-down", both, task))
        if where in (AT_EDGE, CASCADE):
            self._set(flow, group, columns.REPLY_DRAW, Cost("reply", task=task))

    def _travels_further(self, flow: Flow, group: Group, where: int, how: str) -> None:
        """how: what goes on is told from other messages."""
        edges, task = self._fleet.parent(group), flow.plan.task
        # A cascade passes on in the turn of its answers.
        passed = {
            AT_CLOUD: Cost("pass-on", edges.profile, task, how),
            CASCADE: Cost("answer", edges.profile, task),
            CHAIN: Cost("hand-on", edges.profile, task, how),
        }
        self._set(flow, edges, columns.PASS_ON, passed[where])
        self._set_if_known(flow, edges, columns.RELAY, Cost("relay", edges.profile, task, how))
        both = between(edges.profile, self._fleet.cloud.profile)
        self._set(flow, edges, columns.BACKHAUL_UP, Cost("backhaul-up", both, task, how))
        self._set(flow, edges, columns.BACKHAUL_DOWN, Cost("backhaul-down", both, task))
        self._set(flow, edges, columns.HAND_BACK, Cost("hand-back", edges.profile, task))
        reply = how if where == CHAIN else FORWARDED
        self._set(flow, group, columns.CLOUD_REPLY, Cost("reply", task=task, how=reply))
        if where == CHAIN:
            self._gives(flow, how)

    def _gives(self, flow: Flow, how: str) -> None:
        """How large what the first stage of a chain gives is."""
        try:
            size = int(self._times.cost(Cost("output", task=flow.plan.task, how=how))[-1])
            self._output_bytes[flow.number] = output_bytes(size)
        except EdgebenchError as error:
            self._problem(flow, str(error))

    def _decided_at(self, flow: Flow, group: Group, how: str, purposes: tuple[int, int, int, int]) -> None:
        """how: what comes there is told from other messages."""
        profile, task = group.profile, flow.plan.task
        decode, wake, answer, intake = purposes
        self._set_if_known(flow, group, intake, Cost("intake", profile, task, how))
        self._set(flow, group, decode, Cost("decode", profile, task, how))
        self._set(flow, group, wake, Cost("wake", profile))
        if not (flow.plan.is_chain and group.tier == "edge"):  # where nothing is answered
            self._set(flow, group, answer, Cost("answer", profile, task))
        self._serve(flow, group, flow.plan.batch.max_batch)

    def _passes_some_on(self, flow: Flow) -> None:
        try:
            self._share[flow.number] = self._times.passed_on(cascading_of(flow.plan, self._topology.data))
        except EdgebenchError as error:
            self._problem(flow, str(error))

    def _serve(self, flow: Flow, group: Group, most: int) -> None:
        model = flow.model_at(group)
        for tables, at_once in ((self._service, False), (self._at_once, True)):
            try:
                by_size = self._times.by_batch(model, most, at_once=at_once)
            except EdgebenchError as error:
                self._problem(flow, str(error))
                return
            for size, values in enumerate(by_size):
                if values is not None:
                    tables[flow.number, group.number, size] = self._table(values)

    def _set(self, flow: Flow, group: Group, purpose: int, *choices: Cost) -> None:
        try:
            self._cost[flow.number, purpose, group.number] = self._table(self._times.cost(*choices))
        except EdgebenchError as error:
            self._problem(flow, str(error))

    def _set_if_known(self, flow: Flow, group: Group, purpose: int, cost: Cost) -> None:
        """Of what can be seen only where messages wait, and where it was not keeps a node busy for no longer than what
        it is a part of."""
        self._cost[flow.number, purpose, group.number] = self._table(self._times.costs.get(cost, _INCLUDED))

    def _problem(self, flow: Flow, problem: str) -> None:
        mend = "calibrate with a run in which it is seen"
        self.problems.append(f"$.workloads.{flow.name}: {problem} ({mend})")

    def _table(self, values: Ints) -> int:
        number = self._numbers.get(id(values))
        if number is None:
            number = self._numbers[id(values)] = len(self._values)
            self._values.append(values)
        return number

    def _count_bytes(self, flow: Flow, group: Group) -> None:
        """What MQTT and the envelopes of forwarding add to payloads, of the nodes with the longest names."""
        run_id, qos, name = _RUN_ID + self._topology.name, flow.plan.qos, flow.name
        edges = self._fleet.parent(group)
        device, edge = group.node(group.count - 1), edges.node(edges.count - 1)
        size = self._most(flow, group, columns.SIZE_DRAW)
        reply = max(self._most(flow, group, purpose) for purpose in (columns.REPLY_DRAW, columns.CLOUD_REPLY))
        forward, answer = forward_bytes(device), answer_bytes(device)
        at = flow.number, group.number
        self._site_bytes[0][at] = publish_bytes(topics.sample(run_id, device, name), size, qos)
        self._site_bytes[1][at] = publish_bytes(topics.decision(run_id, device, name), reply, qos)
        far, output = self._far_bytes[:, flow.number], int(self._output_bytes[flow.number])
        passed_on = forward + (size if output == _NOTHING else output)
        far[0] = max(far[0], forward + publish_bytes(topics.forward(run_id, edge, name), passed_on, qos))
        far[1] = max(far[1], answer + publish_bytes(topics.answer(run_id, edge, name), reply + answer, qos))

    def _most(self, flow: Flow, group: Group, purpose: int) -> int:
        """The largest value of a table; 0 where there is none."""
        table = self._cost[flow.number, purpose, group.number]
        return int(self._values[table][-1]) if table != _NOTHING else 0
