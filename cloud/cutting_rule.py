"""Where a model should be cut in two, by what its parts take on two nodes and what the link between them takes.

Source of the rule: Kang et al. 2017, Neurosurgeon.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Protocol, TypeVar

from cloud.jobs import SplitOrder
from edgebench.topology.deployment import HERE, Deployment, NodePlan, WorkloadPlan
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
    """Where its model is to be cut; and what is known of the nodes and the link between the two parts. Where edges
    differ, that is their mean."""
    assert plan.split is not None
    edges = [deployment.nodes[name] for name in dict.fromkeys(plan.deciders.values())]
    cloud = deployment.nodes[deployment.cloud]
    away = any(edge.machine != HERE and edge.profile == HOST for edge in edges)
    links = [deployment.links[f"{edge.name} -> {cloud.name}"] for edge in edges]
    times_ms = [_whole_ms(edge, plan, deployment) for edge in edges]
    known_ms = [each for each in times_ms if each is not None]
    ms_per_mbit = fmean(0.0 if link.up_mbit_s is None else 1 / link.up_mbit_s for link in links)
    edges_known = not away and len(known_ms) in (0, len(edges))
    assert edges_known or plan.split != "auto"  # which was refused before the run
    return SplitOrder(
        after=plan.split,
        edges_known=edges_known,
        edge_ms=fmean(known_ms) if edges_known and known_ms else None,
        cloud_ms=_whole_ms(cloud, plan, deployment),
        latency_ms=fmean(link.latency_ms for link in links),
        mbit_s=1 / ms_per_mbit if ms_per_mbit else None,
    )


def any_may_be_best(order: SplitOrder) -> bool:
    """Whether a place may be the best one though an earlier one has no more going on: where the cloud is slower than
    the edges."""
    return order.cloud_ms is not None and (order.edge_ms is None or order.cloud_ms > order.edge_ms)


def worthwhile(places: Iterable[C]) -> list[C]:
    """Those before which there is none at which as little goes on; all others are worse where `any_may_be_best` does
    not hold: more would be done at the edge, and as much carried."""
    found: list[C] = []
    for place in places:
        if not found or place.values < found[-1].values:
            found.append(place)
    return found


def predicted_ms(order: SplitOrder, head_ms: float, tail_ms: float, values: int) -> float:
    """From a sample's being at the edge to its decision's being made in the cloud, with nothing to wait for.

    head_ms, tail_ms: what the parts took here. Where a node is emulated each takes its share of the whole there.
    values: float32, that go on.
    """
    share = head_ms / (head_ms + tail_ms)
    at_edge_ms = head_ms if order.edge_ms is None else share * order.edge_ms
    in_cloud_ms = tail_ms if order.cloud_ms is None else (1 - share) * order.cloud_ms
    carried_ms = 0.0 if order.mbit_s is None else values * _BYTES * 8 / 1e3 / order.mbit_s
    return at_edge_ms + order.latency_ms + carried_ms + in_cloud_ms


def _whole_ms(node: NodePlan, plan: WorkloadPlan, deployment: Deployment) -> float | None:
    """What a node's profile says of the whole model, for one sample; None where it is not emulated."""
    if node.profile == HOST:
        return None
    choice = plan.model
    key = ModelKey(plan.task, choice.size, choice.runtime, choice.quantisation)
    return deployment.profiles[node.profile].model_times(key)[1].mean_us / 1e3
