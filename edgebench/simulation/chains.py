"""The two stages of a chain: by which names what is measured of them is kept, and where a model is cut in two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import msgspec

from cloud.cutting_rule import predicted_ms, split_order
from edgebench.errors import EdgebenchError
from edgebench.fabric.records import Chained, Cut
from edgebench.simulation.fleet import fleet_of
from edgebench.simulation.places import places_of
from edgebench.simulation.service_times import BYTES_A_VALUE, Cuts, Model, ServiceTimes, model_of
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Head, Topology, Workload

Plan: TypeAlias = Workload | WorkloadPlan


def head_of(profile: str, plan: Plan, place: int | None) -> Model:
    """The model of the first stage. place: where it is cut; None of two models."""
    if plan.head is not None:
        of = plan.head
        return Model(profile, of.task, of.size, of.runtime, of.quantisation, "train")
    return model_of(profile, plan.task, plan.model)._replace(part=f"head of the cut at {place}")


def tail_of(profile: str, plan: Plan, place: int | None) -> Model:
    """The model of the second stage."""
    part = f"tail of the cut at {place}" if plan.head is None else f"after {_told(plan.head)}"
    return model_of(profile, plan.task, plan.model)._replace(part=part)


def handed_on(plan: Plan, place: int | None) -> str:
    """What goes on between the stages, as part of the key of a cost."""
    return f"cut at {place}, {plan.model.size}" if plan.head is None else f"after {_told(plan.head)}"


def whole_of(plan: Plan) -> Model:
    """The model that is cut, on whatever machine."""
    return model_of("", plan.task, plan.model)


class HandedOn(NamedTuple):
    """What went on between the stages of a chain in a run. cut: where its model was; None of two. how: as `handed_on`
    has it."""

    cut: int | None
    how: str
    size_bytes: int


def handed_on_in(plan: WorkloadPlan, chained: Chained) -> HandedOn:
    """As a run wrote it down."""
    place = plan.split if isinstance(plan.split, int) or chained.cut is None else chained.cut.place
    assert place != "auto"  # of which a run says where
    return HandedOn(place, handed_on(plan, place), chained.values * BYTES_A_VALUE)


def cuts_in(chained: Chained) -> Cuts:
    """The cuts that a run tells of."""
    known = (*chained.considered, *([] if chained.cut is None else [chained.cut]))
    considered = frozenset(cut.place for cut in chained.considered)
    return Cuts({cut.place: cut for cut in known}, considered, chained.places)


def place_for(name: str, topology: Topology, times: ServiceTimes) -> int | None:
    """Where a run would cut the model of a chain; None of two models. Raises EdgebenchError where nothing tells."""
    plan = topology.workloads[name]
    if plan.split != "auto":
        return plan.split
    cuts = times.cuts.get(whole_of(plan))
    if cuts is None or not cuts.considered:
        mend = "calibrate with a run that has auto, or write the number of a place"
        raise EdgebenchError(f"nothing tells where 'auto' cuts {plan.task} ({mend})")
    choices = [cuts.by_place[place] for place in sorted(cuts.considered)]
    return min(_predicted(name, topology, choices), key=lambda cut: cut.predicted_ms or 0.0).place


def cuts_measured(plan: Plan, times: ServiceTimes) -> list[int]:
    """The places of which runs tell what both parts of its model take, wherever they were."""
    whole = whole_of(plan)
    parts = {model.part for model in times.infer if model._replace(profile="", part="") == whole}
    cuts = times.cuts.get(whole)
    places = [] if cuts is None else sorted(cuts.by_place)
    return [place for place in places if {head_of("", plan, place).part, tail_of("", plan, place).part} <= parts]


def chained(name: str, topology: Topology, times: ServiceTimes, place: int | None, values: int) -> Chained:
    """What a run would write down of a chain. place: where its model is cut; values: that go on."""
    plan = topology.workloads[name]
    cuts = times.cuts.get(whole_of(plan))
    if cuts is None or place is None or place not in cuts.by_place:
        return Chained(name, "", "", values)
    (cut,) = _predicted(name, topology, [cuts.by_place[place]])
    considered = [cuts.by_place[each] for each in sorted(cuts.considered)] if plan.split == "auto" else []
    return Chained(name, "", "", values, cut, cuts.places, tuple(_predicted(name, topology, considered)))


def _predicted(name: str, topology: Topology, cuts: list[Cut]) -> Iterator[Cut]:
    """With what the rule promises of each on the nodes and links of a topology."""
    deployment = places_of(fleet_of(topology)).deployment(topology, "cut")
    order = split_order(deployment.workloads[name], deployment)
    for cut in cuts:
        promised = predicted_ms(order, cut.head_ms, cut.tail_ms, cut.values) if order.edges_known else None
        yield msgspec.structs.replace(cut, predicted_ms=promised)


def _told(head: Head) -> str:
    return f"{head.task} ({head.size}, {head.runtime}, {head.quantisation})"
