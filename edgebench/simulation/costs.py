"""What every step of every workload costs on every kind of node, as tables that the stations draw from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.fabric import topics
from edgebench.seeds import seed_for
from edgebench.simulation import columns
from edgebench.simulation.by_profile import (
    ANSWERED,
    BROUGHT_BACK,
    GIVEN,
    HEARD,
    PASSED_ON,
    SENT,
    TAKEN,
    ByProfile,
    Parts,
)
from edgebench.simulation.chains import handed_on, head_of, share_of, tail_of
from edgebench.simulation.columns import AT_CLOUD, AT_EDGE, CASCADE, CHAIN, ON_DEVICE, PURPOSES, Flows, Ints, Tables
from edgebench.simulation.fleet import Fleet, Group
from edgebench.simulation.service_times import (
    BYTES_A_VALUE,
    FORWARDED,
    Cost,
    Model,
    ServiceTimes,
    UntoldError,
    between,
    cascading_of,
    compress_of,
    model_of,
)
from edgebench.simulation.task_sizes import decision_sizes, outputs_of, sample_sizes
from edgebench.simulation.wire_sizes import answer_bytes, forward_bytes, output_bytes, publish_bytes
from edgebench.topology.model import Cascade, Load, Topology, Workload
from edgebench.topology.profiles import HOST
from edgebench.topology.wording import one_line

_NOTHING = -1
_INCLUDED = np.zeros(1, np.int64)
"""The time of a step that was measured together with another."""
_AT_EDGE = columns.DECODE, columns.WAKE, columns.ANSWER, columns.INTAKE
_AT_CLOUD = columns.CLOUD_DECODE, columns.CLOUD_WAKE, columns.CLOUD_ANSWER, columns.CLOUD_INTAKE
_RUN_ID = "20000101T000000Z-"
_End = tuple[Group, Parts]
"""Of a message: a node, and which parts of it are that one's."""


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
    topology: Topology,
    fleet: Fleet,
    flows: Sequence[Flow],
    times: ServiceTimes,
    file: str | Path,
    contended: Collection[str] = (),
) -> tuple[Flows, Tables, tuple[str, ...]]:
    """What all workloads cost, by runs and, where these do not tell, by the profiles whose names come with it.

    contended: groups of which what messages take there is left out, as it waits for a core (see `contention`).
    Raises TopologyError with a line for each workload of which something is not known.
    """
    costs = _Costs(topology, fleet, flows, times, contended)
    for flow in flows:
        for group in (fleet.groups[source] for source in flow.plan.sources):
            within = (flow.devices >= group.first) & (flow.devices < group.first + group.count)
            for where in np.unique(flow.where[within]).tolist():
                costs.add(flow, group, where)
    if costs.problems:
        raise TopologyError([one_line(f"{file}: {problem}") for problem in dict.fromkeys(costs.problems)])
    return costs.arrays(), costs.tables(), costs.by_profile.used


def output_size(flow: Flow, topology: Topology, times: ServiceTimes) -> int:
    """The bytes that the first stage of a chain gives. Raises EdgebenchError where nothing tells."""
    cost = Cost("output", task=flow.plan.task, how=handed_on(flow.plan, flow.cut))
    if cost in times.costs or flow.plan.head is None:
        return int(times.cost(cost)[-1])
    return BYTES_A_VALUE * outputs_of(cost._replace(task=flow.plan.head.task), topology.data)


def _untold() -> None:
    """Nothing but runs tells of it."""


class _Costs:
    """So far."""

    def __init__(
        self,
        topology: Topology,
        fleet: Fleet,
        flows: Sequence[Flow],
        times: ServiceTimes,
        contended: Collection[str],
    ) -> None:
        self._contended = contended
        self.problems: list[str] = []
        self.by_profile = ByProfile(topology, times)
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
        timer = Cost("timer", group.profile)
        self._set(flow, group, columns.TIMER, timer, by=lambda: self.by_profile.nothing_more(group.profile))
        if where == ON_DEVICE:
            self._decided_on_device(flow, group)
            return
        edges, cloud = self._fleet.parent(group), self._fleet.cloud
        how = compress_of(flow.plan.compress)
        on = handed_on(flow.plan, flow.cut) if where == CHAIN else how
        self._travels(flow, group, how)
        if where in (AT_EDGE, CASCADE):
            self._replies(flow, group, columns.REPLY_DRAW, edges, "")
        if where != AT_EDGE:
            self._replies(flow, group, columns.CLOUD_REPLY, cloud, on if where == CHAIN else FORWARDED)
        if where == CHAIN:
            self._gives(flow)
        if where != AT_CLOUD:
            taken, given = self._sizes(flow, group, columns.SIZE_DRAW), self._sizes(flow, group, columns.REPLY_DRAW)
            self._decided_at(flow, edges, how, _AT_EDGE, taken, given)
        if where != AT_EDGE:
            self._travels_further(flow, group, where, on)
            taken, given = self._forward_sizes(flow, group), self._answer_sizes(flow, group)
            self._decided_at(flow, cloud, on, _AT_CLOUD, taken, given)
        self._comes_back(flow, group, where)
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
        by = self.by_profile
        if begin in self._times.costs:
            self._cost[flow.number, columns.OWN_CAPTURE, group.number] = self._table(_INCLUDED)
        else:
            capture = Cost("capture", profile, task)
            self._set(flow, group, columns.OWN_CAPTURE, capture, by=lambda: by.nothing_more(profile))
        # Who was never seen to hand over between the threads of a device was seen to wake one up.
        self._set(flow, group, columns.WAKE, begin, wake, by=lambda: by.waking(profile))
        hear = (Cost("hear", profile), *([] if by.knows(profile) else [wake]))
        for purpose in (columns.ANSWER, columns.HEAR):
            self._set(flow, group, purpose, *hear, by=lambda: by.nothing_more(profile))
        self._serve(flow, group, most=1)

    def _travels(self, flow: Flow, group: Group, how: str) -> None:
        plan, edges = flow.plan, self._fleet.parent(group)
        by, profile = self.by_profile, group.profile
        capture = Cost("capture", profile, plan.task, how)
        self._set(flow, group, columns.CAPTURE, capture, by=lambda: by.compressing(profile, plan))
        shape: Callable[[], Ints | None]
        shape = _untold if plan.compress is not None else lambda: sample_sizes(plan.task, self._topology.data)
        self._set(flow, group, columns.SIZE_DRAW, Cost("size", task=plan.task, how=how), by=shape)
        site_up = Cost("site-up", between(profile, edges.profile), plan.task, how)
        sizes = self._sizes(flow, group, columns.SIZE_DRAW)
        self._set_message(flow, group, columns.SITE_UP, site_up, ((group, SENT), (edges, TAKEN)), sizes)

    def _travels_further(self, flow: Flow, group: Group, where: int, how: str) -> None:
        """how: what goes on is told from other messages."""
        edges, cloud, task, by = self._fleet.parent(group), self._fleet.cloud, flow.plan.task, self.by_profile
        profile, sizes, qos = edges.profile, self._forward_sizes(flow, group), flow.plan.qos
        if where == CHAIN:
            hand_on = Cost("hand-on", profile, task, how)
            self._set_sized(
                flow, edges, columns.PASS_ON, hand_on, sizes, lambda of: by.holding(profile, qos, of, GIVEN)
            )
        else:  # a cascade passes on in the turn of its answers
            passed = Cost("pass-on", profile, task, how) if where == AT_CLOUD else Cost("answer", profile, task)
            self._set(flow, edges, columns.PASS_ON, passed, by=lambda: by.nothing_more(profile))
        relay = Cost("relay", profile, task, how)
        self._set_if_known(flow, edges, columns.RELAY, relay, sizes, lambda of: by.holding(profile, qos, of, PASSED_ON))
        both = between(profile, cloud.profile)
        up = Cost("backhaul-up", both, task, how)
        given = GIVEN if where == CHAIN else SENT
        self._set_message(flow, edges, columns.BACKHAUL_UP, up, ((edges, given), (cloud, TAKEN)), sizes)
        down, sizes = Cost("backhaul-down", both, task), self._answer_sizes(flow, group)
        ways = ((cloud, ANSWERED), (edges, HEARD))
        self._set_message(flow, edges, columns.BACKHAUL_DOWN, down, ways, sizes)
        hand_back = Cost("hand-back", profile, task)
        self._set(flow, edges, columns.HAND_BACK, hand_back, by=lambda: by.nothing_more(profile))

    def _replies(self, flow: Flow, group: Group, purpose: int, decider: Group, how: str) -> None:
        """How large decisions are. how: they are told from others."""
        reply, data = Cost("reply", task=flow.plan.task, how=how), self._topology.data
        of_cloud, node = decider.tier == "cloud", decider.node(decider.count - 1)
        self._set(
            flow,
            group,
            purpose,
            reply,
            by=lambda: decision_sizes(reply, node, data, of_cloud=of_cloud, of_chain=of_cloud and flow.plan.is_chain),
        )

    def _comes_back(self, flow: Flow, group: Group, where: int) -> None:
        """Decisions, from edges: of their own, and of the cloud's."""
        edges = self._fleet.parent(group)
        cost = Cost("site-down", between(group.profile, edges.profile), flow.plan.task)
        for there, purpose, given, size in (
            (where in (AT_EDGE, CASCADE), columns.SITE_DOWN, ANSWERED, columns.REPLY_DRAW),
            (where != AT_EDGE, columns.BROUGHT_DOWN, BROUGHT_BACK, columns.CLOUD_REPLY),
        ):
            if there:
                ends = (edges, given), (group, HEARD)
                self._set_message(flow, group, purpose, cost, ends, self._sizes(flow, group, size))

    def _gives(self, flow: Flow) -> None:
        """How large what the first stage of a chain gives is."""
        try:
            self._output_bytes[flow.number] = output_bytes(output_size(flow, self._topology, self._times))
        except EdgebenchError as error:
            self._problem(flow, error)

    def _decided_at(
        self,
        flow: Flow,
        group: Group,
        how: str,
        purposes: tuple[int, int, int, int],
        taken: Ints | None,
        given: Ints | None,
    ) -> None:
        """how: what comes there is told from other messages. taken, given: the bytes of these, and of answers."""
        profile, plan, by = group.profile, flow.plan, self.by_profile
        decode, wake, answer, intake = purposes
        unpacked = None if plan.is_chain and group.tier == "cloud" else plan  # since what comes there is no picture
        self._set_if_known(
            flow,
            group,
            intake,
            Cost("intake", profile, plan.task, how),
            taken,
            lambda of: by.holding(profile, plan.qos, of, HEARD, unpacked),
        )
        unpack = Cost("decode", profile, plan.task, how)
        self._set(flow, group, decode, unpack, by=lambda: by.decompressing(profile, unpacked))
        self._set(flow, group, wake, Cost("wake", profile), by=lambda: by.waking(profile))
        if not (plan.is_chain and group.tier == "edge"):  # where nothing is answered
            cost = Cost("answer", profile, plan.task)
            self._set_sized(flow, group, answer, cost, given, lambda of: by.holding(profile, plan.qos, of, GIVEN))
        self._serve(flow, group, plan.batch.max_batch)

    def _passes_some_on(self, flow: Flow) -> None:
        try:
            self._share[flow.number] = self._times.passed_on(cascading_of(flow.plan, self._topology.data))
        except EdgebenchError as error:
            self._problem(flow, error)

    def _serve(self, flow: Flow, group: Group, most: int) -> None:
        model = flow.model_at(group)
        wanted = [size for size in range(1, most + 1) if size not in self._times.infer.get(model, {})]
        share = share_of(model, flow.plan, flow.cut, self._times)
        by_profile = self.by_profile.batches(model, wanted, share)
        for tables, at_once in ((self._service, False), (self._at_once, True)):
            try:
                by_size = self._times.by_batch(model, most, at_once=at_once, beside=by_profile)
            except EdgebenchError as error:
                self._problem(flow, error)
                return
            for size, values in enumerate(by_size):
                if values is not None:
                    tables[flow.number, group.number, size] = self._table(values)

    def _set(
        self, flow: Flow, group: Group, purpose: int, *choices: Cost, by: Callable[[], Ints | None] = _untold
    ) -> None:
        """The first of several that runs tell; else what is told by something else, which may raise EdgebenchError."""
        try:
            known = any(each in self._times.costs for each in choices)
            told = None if known else by()
            values = self._times.cost(*choices) if told is None else told
            self._cost[flow.number, purpose, group.number] = self._table(values)
        except EdgebenchError as error:
            self._problem(flow, error)

    def _set_sized(
        self, flow: Flow, group: Group, purpose: int, cost: Cost, sizes: Ints | None, by: Callable[[Ints], Ints | None]
    ) -> None:
        """Of messages of these bytes; where they are not known that has been told."""
        if sizes is not None or cost in self._times.costs:
            self._set(flow, group, purpose, cost, by=_untold if sizes is None else lambda: by(sizes))

    def _set_message(
        self, flow: Flow, group: Group, purpose: int, cost: Cost, ends: tuple[_End, _End], sizes: Ints | None
    ) -> None:
        """What a message takes besides its link, and besides what waits for a core at its ends."""
        qos, by = flow.plan.qos, self.by_profile
        ways = tuple((end.profile, parts) for end, parts in ends)
        rest = tuple((end.profile, parts) for end, parts in ends if end.name not in self._contended)
        if rest == ways:
            self._set_sized(flow, group, purpose, cost, sizes, lambda of: by.message(cost, ways, qos, of))
        elif sizes is not None:
            try:
                # The whole, to see that profiles tell of messages of these sizes; runs tell of the whole alone.
                whole, told = by.message(cost, ways, qos, sizes), by.parts(cost, rest, qos, sizes)
                if whole is None or told is None:
                    raise UntoldError(f"nothing is known of {cost._replace(profile=HOST).told}")
                self._cost[flow.number, purpose, group.number] = self._table(told)
            except EdgebenchError as error:
                self._problem(flow, error)

    def _set_if_known(
        self, flow: Flow, group: Group, purpose: int, cost: Cost, sizes: Ints | None, by: Callable[[Ints], Ints | None]
    ) -> None:
        """Of what runs show only where messages wait, and where it was not keeps a node busy for no longer than what
        it is a part of."""
        told = None
        if cost not in self._times.costs and sizes is not None:
            try:
                told = by(sizes)
            except EdgebenchError:
                told = None  # which what it is a part of has told
        values = self._times.costs.get(cost, _INCLUDED) if told is None else told
        self._cost[flow.number, purpose, group.number] = self._table(values)

    def _sizes(self, flow: Flow, group: Group, purpose: int) -> Ints | None:
        """The bytes of samples or decisions, once they are known."""
        table = self._cost[flow.number, purpose, group.number]
        return None if table == _NOTHING else self._values[table]

    def _forward_sizes(self, flow: Flow, group: Group) -> Ints | None:
        """Of what edges pass on."""
        sizes, output = self._sizes(flow, group, columns.SIZE_DRAW), int(self._output_bytes[flow.number])
        if flow.plan.is_chain:
            sizes = None if output == _NOTHING else np.array([output], np.int64)
        return None if sizes is None else sizes + forward_bytes(group.node(group.count - 1))

    def _answer_sizes(self, flow: Flow, group: Group) -> Ints | None:
        """Of what the cloud sends back."""
        sizes = self._sizes(flow, group, columns.CLOUD_REPLY)
        return None if sizes is None else sizes + answer_bytes(group.node(group.count - 1))

    def _problem(self, flow: Flow, error: EdgebenchError) -> None:
        mend = " (name a run in which it is seen with --calibrate)" if isinstance(error, UntoldError) else ""
        self.problems.append(f"$.workloads.{flow.name}: {error}{mend}")

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
