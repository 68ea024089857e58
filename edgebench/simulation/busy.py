"""How busy the cores of profiled nodes would have been, by what the records of a simulation say has passed them.

Inference takes what it took in the simulation. Messages, and pictures, take the means of what the node's profile holds,
as an emulated node draws from that (`core.emulation`): the times that a simulation has of messages are those of both
ends, of brokers and links together. Of a lost sample nothing is known but that its edge has taken it in, and of one
that a moving device sent again, but what its last site had to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_US
from edgebench.core.releases import Releases
from edgebench.core.service_times import SizedTimes
from edgebench.fabric.records import Chained, RoundRecord
from edgebench.simulation.moving import sites_at, stays_of
from edgebench.simulation.service_times import BYTES_A_VALUE
from edgebench.simulation.wire_sizes import answer_bytes, forward_bytes, output_bytes
from edgebench.topology.deployment import Deployment, WorkloadPlan

_NONE = -1
_MESSAGE = ("relay", "receive", "send", "answer")
_NUMBERS = (
    "size_bytes",
    "reply_bytes",
    "scheduled_ns",
    "arrived_ns",
    "started_ns",
    "finished_ns",
    "batch",
    "head_started_ns",
    "head_finished_ns",
    "head_batch",
)

Floats = NDArray[np.float64]
Nodes = NDArray[np.int64]
"""Numbers of nodes, in the order of the deployment [sample]."""


class Busy:
    """Of the nodes whose profile tells the machine's power, so far."""

    def __init__(self, deployment: Deployment, chains: Sequence[Chained]) -> None:
        """chains: of the topology, of which it is known what goes on."""
        self._workloads = deployment.workloads
        self._profiles = {name: each for name, each in deployment.profiles.items() if each.power is not None}
        self._names = list(deployment.nodes)
        self._devices = {node.name for node in deployment.of_tier("device")}
        nodes, numbers = deployment.nodes.values(), {name: number for number, name in enumerate(self._names)}
        kinds = {name: kind for kind, name in enumerate(self._profiles)}
        self._kind = np.array([kinds.get(node.profile, _NONE) for node in nodes], np.int64)
        self._parent = np.array([numbers.get(node.parent or "", 0) for node in nodes], np.int64)
        self._visits = stays_of(deployment.moves, numbers.__getitem__)
        self._name_bytes = np.array([len(name.encode()) for name in self._names], np.float64)
        self._cloud = numbers[deployment.cloud]
        self._handed_on = {each.workload: output_bytes(BYTES_A_VALUE * (each.values or 0)) for each in chains}
        self._costs: dict[tuple[str, int], Mapping[str, SizedTimes]] = {}
        self._busy_ns = np.zeros(len(self._names))
        self._beyond = np.zeros(len(self._names), np.int64)
        self._untold = np.zeros(len(self._names), np.bool_)

    def passing(self, tables: Iterable[Any]) -> Iterator[Any]:
        """The same tables of records, taken in as they pass."""
        for table in tables:
            if self._profiles:
                self._take(table)
            yield table

    def learned(self, rounds: Iterable[RoundRecord]) -> None:
        """What devices took to learn in some rounds, as far as anything came of it."""
        devices = {name: number for number, name in enumerate(self._names) if name in self._devices}
        for reply in (reply for record in rounds for reply in record.replies):
            number = devices.get(reply.node, _NONE)
            if number != _NONE and reply.finished_ns is not None and reply.started_ns is not None:
                self._busy_ns[number] += reply.finished_ns - reply.started_ns

    def released(self) -> dict[str, Releases]:
        """As emulated nodes tell it, but for what is late; without those of which records do not tell it all."""
        return {
            name: Releases(beyond=int(self._beyond[number]), busy_ns=round(self._busy_ns[number]))
            for number, name in enumerate(self._names)
            if self._kind[number] != _NONE and not self._untold[number]
        }

    def _take(self, table: Any) -> None:
        columns = {name: table[name].to_numpy().astype(np.float64) for name in _NUMBERS}
        device, decider = (_numbers(table[name], self._names) for name in ("node", "decider"))
        workload = _numbers(table["workload"], list(self._workloads))
        for number, plan in enumerate(self._workloads.values()):
            those = workload == number
            if those.any():
                of = {name: values[those] for name, values in columns.items()}
                self._take_workload(plan, device[those], decider[those], of)

    def _take_workload(self, plan: WorkloadPlan, device: Nodes, decider: Nodes, of: Mapping[str, Floats]) -> None:
        infer_ns = (of["finished_ns"] - of["started_ns"]) / of["batch"]
        own = decider == device
        self._add(device[own], infer_ns[own])
        size, reply = of["size_bytes"], of["reply_bytes"]
        there_ns = np.where(np.isnan(of["arrived_ns"]), of["scheduled_ns"], of["arrived_ns"]).astype(np.int64)
        edge = sites_at(device, there_ns, self._parent, self._visits)
        sent = size > 0
        self._picture(plan, "compress", device[sent])
        self._message(plan, "send", device[sent], size[sent])
        self._take_in(plan, edge[sent], size[sent])
        heard = sent & ~np.isnan(of["arrived_ns"])
        self._message(plan, "receive", device[heard], reply[heard])
        near = sent & (decider == edge)
        self._picture(plan, "decompress", edge[near])
        self._add(edge[near], infer_ns[near])
        self._send(plan, "answer", edge[near], reply[near])
        if plan.cascade is not None:  # what has no decider may have been passed on
            self._untold[edge[sent & (decider == _NONE)]] = True
        far = sent & (decider == self._cloud)
        if far.any():
            head_ns = (of["head_finished_ns"] - of["head_started_ns"]) / of["head_batch"]
            given = np.full(len(size), float(self._handed_on[plan.name])) if plan.is_chain else size
            passed_on = given + self._name_bytes[device] + forward_bytes("")
            self._pass_on(plan, edge[far], passed_on[far], head_ns[far])
            answer = reply + self._name_bytes[device] + answer_bytes("")
            self._decide_far(plan, edge[far], passed_on[far], infer_ns[far], answer[far])
            self._send(plan, "send", edge[far], reply[far])

    def _pass_on(self, plan: WorkloadPlan, edge: Nodes, size: Floats, head_ns: Floats) -> None:
        if plan.cascade is not None:  # whose records tell what the cloud took, and not what the edge had taken before
            self._untold[edge] = True
        elif plan.is_chain:
            self._picture(plan, "decompress", edge)
            self._add(edge, head_ns)
            self._message(plan, "answer", edge, size)
        else:
            self._message(plan, "send", edge, size)

    def _decide_far(self, plan: WorkloadPlan, edge: Nodes, size: Floats, infer_ns: Floats, answer: Floats) -> None:
        cloud = np.full(len(edge), self._cloud)
        self._take_in(plan, cloud, size)
        if not plan.is_chain:
            self._picture(plan, "decompress", cloud)
        self._add(cloud, infer_ns)
        self._send(plan, "answer", cloud, answer)
        self._message(plan, "receive", edge, answer)

    def _take_in(self, plan: WorkloadPlan, nodes: Nodes, size: Floats) -> None:
        """From the node's own broker."""
        self._message(plan, "relay", nodes, size)
        self._message(plan, "receive", nodes, size)

    def _send(self, plan: WorkloadPlan, how: str, nodes: Nodes, size: Floats) -> None:
        """To the node's own broker, which passes it on."""
        self._message(plan, how, nodes, size)
        self._message(plan, "relay", nodes, size)

    def _message(self, plan: WorkloadPlan, what: str, nodes: Nodes, size: Floats) -> None:
        for name, those in self._by_profile(nodes):
            costs = self._costs_of(name, plan.qos)[what]
            sizes, which = np.unique(size[those], return_inverse=True)
            means_ns = np.array([costs.mean_ns(int(each)) for each in sizes])
            self._add(nodes[those], means_ns[which])
            if what != "relay":  # which comes with one of the others
                np.add.at(self._beyond, nodes[those], size[those] > self._largest(name, plan.qos))

    def _picture(self, plan: WorkloadPlan, what: str, nodes: Nodes) -> None:
        if plan.compress is None:
            return
        for name, those in self._by_profile(nodes):
            cost = self._profiles[name].picture_cost(plan.task, plan.compress.quality)
            assert cost is not None  # which was checked before
            times = cost.compress if what == "compress" else cost.decompress
            self._add(nodes[those], np.full(int(those.sum()), times.mean_us * NS_PER_US))

    def _by_profile(self, nodes: Nodes) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        of = self._kind[nodes]
        for kind, name in enumerate(self._profiles):
            if (those := of == kind).any():
                yield name, those

    def _costs_of(self, profile: str, qos: int) -> Mapping[str, SizedTimes]:
        if (profile, qos) not in self._costs:
            costs = self._profiles[profile].message_costs(qos)
            self._costs[profile, qos] = {
                what: SizedTimes({each.size_bytes: getattr(each, what) for each in costs}) for what in _MESSAGE
            }
        return self._costs[profile, qos]

    def _largest(self, profile: str, qos: int) -> int:
        return self._profiles[profile].message_costs(qos)[-1].size_bytes

    def _add(self, nodes: Nodes, ns: Floats) -> None:
        self._busy_ns += np.bincount(nodes, ns, len(self._names))


def _numbers(column: Any, names: Sequence[str]) -> NDArray[np.int64]:
    """The places of texts among these; `_NONE` where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(column.cast(pa.string()), value_set=pa.array(names, pa.string()))
    found: NDArray[np.int64] = pc.fill_null(places, _NONE).to_numpy().astype(np.int64)
    return found
