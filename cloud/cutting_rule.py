"""Where a model should be cut in two, by what its parts take on two nodes and what the way between them takes.

Source of the rule: Kang et al. 2017, Neurosurgeon.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple, Protocol, TypeVar

from cloud.jobs import SplitOrder
from edgebench.topology.deployment import HERE, Deployment, LinkPlan, NodePlan, WorkloadPlan
from edgebench.topology.profiles import HOST, ModelKey

_BYTES = 4


class Cuttable(Protocol):
    """Where a model can be cut in two."""

    @property
    def values(self) -> int:
        """float32, that go on there."""
        ...


C = TypeVar("C", bound=Cuttable)


def split_order(plan: WorkloadPlan, deployment: Deployment) -> SplitOrder:
    """Where its model is to be cut; and what is known of the nodes and the links between the two parts. Where nodes of
    a tier differ, that is their mean."""
    assert plan.split is not None
    first, second = (_Nodes.of(nodes, plan, deployment) for nodes in plan.stage_nodes(deployment))
    ways = [_way(name, plan, deployment) for name in (plan.deciders if plan.head_on_device else first.names)]
    speeds_known = first.known and second.known
    assert speeds_known or plan.split != "auto"  # which was refused before the run
    ms_per_mbit = fmean(sum(0.0 if link.up_mbit_s is None else 1 / link.up_mbit_s for link in way) for way in ways)
    return SplitOrder(
        after=plan.split,
        speeds_known=speeds_known,
        first_ms=first.whole_ms if speeds_known else None,
        second_ms=second.whole_ms if speeds_known else None,
        latency_ms=fmean(sum(link.latency_ms for link in way) for way in ways),
        mbit_s=1 / ms_per_mbit if ms_per_mbit else None,
    )


def any_may_be_best(order: SplitOrder) -> bool:
    """Whether a place may be the best one though an earlier one has no more going on: where whoever has the second part
    is slower than whoever has the first."""
    return order.second_ms is not None and (order.first_ms is None or order.second_ms > order.first_ms)


def worthwhile(places: Iterable[C]) -> list[C]:
    """Those before which there is none at which as little goes on; all others are worse where `any_may_be_best` does
    not hold: more would be done by the first, and as much carried."""
    found: list[C] = []
    for place in places:
        if not found or place.values < found[-1].values:
            found.append(place)
    return found


def predicted_ms(order: SplitOrder, head_ms: float, tail_ms: float, values: int) -> float:
    """From a sample's being where the first part is to its decision's being made by the second, with nothing to wait
    for.

    head_ms, tail_ms: what the parts took here. Where a node is emulated each takes its share of the whole there.
    values: float32, that go on.
    """
    share = head_ms / (head_ms + tail_ms)
    first_ms = head_ms if order.first_ms is None else share * order.first_ms
    second_ms = tail_ms if order.second_ms is None else (1 - share) * order.second_ms
    carried_ms = 0.0 if order.mbit_s is None else values * _BYTES * 8 / 1e3 / order.mbit_s
    return first_ms + order.latency_ms + carried_ms + second_ms


class _Nodes(NamedTuple):
    """Those that have one of the two parts. known: whether anything tells how fast they are. whole_ms: what the whole
    model takes there, in the mean; None where they are as fast as where it is made."""

    names: list[str]
    known: bool
    whole_ms: float | None

    @classmethod
    def of(cls, nodes: Sequence[NodePlan], plan: WorkloadPlan, deployment: Deployment) -> _Nodes:
        away = any(node.machine != HERE and node.profile == HOST for node in nodes)
        by_profile = {name: _whole_ms(name, plan, deployment) for name in {node.profile for node in nodes} - {HOST}}
        times_ms = [by_profile[node.profile] for node in nodes if node.profile != HOST]
        known = not away and len(times_ms) in (0, len(nodes))
        return cls([node.name for node in nodes], known, fmean(times_ms) if known and times_ms else None)


def _way(name: str, plan: WorkloadPlan, deployment: Deployment) -> list[LinkPlan]:
    """The links from a node that has the first part to the one that has the second."""
    found, end = [], plan.deciders[name] if plan.head_on_device else deployment.cloud
    while name != end:
        parent = deployment.nodes[name].parent
        assert parent is not None
        found.append(deployment.links[f"{name} -> {parent}"])
        name = parent
    return found


def _whole_ms(profile: str, plan: WorkloadPlan, deployment: Deployment) -> float:
    """What a profile says of the whole model, for one sample."""
    choice = plan.model
    key = ModelKey(plan.task, choice.size, choice.runtime, choice.quantisation)
    return deployment.profiles[profile].model_times(key)[1].mean_us / 1e3
