"""The two stages of a chain: by which names what is measured of them is kept, and where a model is cut in two."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from cloud.cutting_rule import any_may_be_best, predicted_ms, split_order, worthwhile
from cloud.jobs import SplitOrder
from edgebench.errors import EdgebenchError
from edgebench.fabric.records import Chained, Cut
from edgebench.simulation.fleet import fleet_of
from edgebench.simulation.places import places_of
from edgebench.simulation.service_times import BYTES_A_VALUE, Cuts, Model, ServiceTimes, model_of
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Head, Topology, Workload
from edgebench.topology.wording import listed, things

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


def share_of(part: Model, plan: Plan, place: int | None, times: ServiceTimes) -> float | None:
    """What one of the two parts of a model takes of the time of the whole, for one sample, as runs timed them; 1 of a
    model that is whole. place: where it is cut; None: it is whole. None where no run tells."""
    if place is None:
        return 1.0
    cuts = (each.by_place[place] for each in times.cuts.get(whole_of(plan), ()) if place in each.by_place)
    cut = next(cuts, None)
    if cut is None:
        return None
    of_head = cut.head_ms / (cut.head_ms + cut.tail_ms)
    return of_head if part == head_of(part.profile, plan, place) else 1 - of_head


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


def handed_on_in(plan: WorkloadPlan, chained: Chained, values: int) -> HandedOn:
    """As a run wrote it down. values: float32, that go on."""
    place = plan.split if isinstance(plan.split, int) or chained.cut is None else chained.cut.place
    assert place != "auto"  # of which a run says where
    return HandedOn(place, handed_on(plan, place), values * BYTES_A_VALUE)


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
    order = _order(name, topology)
    places = sorted({_best(order, each).place for each in _compared(plan, order, times)})
    if len(places) > 1:
        mend = "calibrate with one run that has auto, or write the number of a place"
        at = listed([str(place) for place in places])
        raise EdgebenchError(f"by what was timed each time, 'auto' cuts {plan.task} at one of {at} ({mend})")
    return places[0]


def _compared(plan: Plan, order: SplitOrder, times: ServiceTimes) -> list[Cuts]:
    """Of each run that chose its cut among all that there is to compare here, what it timed on one machine. Raises
    EdgebenchError where there is none."""
    mend = "or write the number of a place"
    chose = [each for each in times.cuts.get(whole_of(plan), ()) if each.considered]
    if not chose:
        why = f"nothing tells where 'auto' cuts {plan.task}"
        raise EdgebenchError(f"{why} (calibrate with a run that has auto, {mend})")
    found = [each for each in chose if len(each.considered) == each.places or not any_may_be_best(order)]
    if not found:
        there, timed = things(chose[0].places, "place"), len(chose[0].considered)
        why = f"'auto' chooses among all {there} at which {plan.task} can be cut"
        known = f"a run whose edges were no faster than its cloud timed {timed} alone"
        raise EdgebenchError(f"{why}, and {known} (calibrate with one whose cloud is slower than its edges, {mend})")
    return found


def _best(order: SplitOrder, cuts: Cuts) -> Cut:
    """The cut that promises the least time."""
    return min(_choices(order, cuts), key=lambda cut: predicted_ms(order, cut.head_ms, cut.tail_ms, cut.values))


def _choices(order: SplitOrder, cuts: Cuts) -> list[Cut]:
    """Those among which a run would choose."""
    all_of = [cuts.by_place[place] for place in sorted(cuts.considered)]
    return all_of if any_may_be_best(order) else worthwhile(all_of)


def cuts_measured(plan: Plan, times: ServiceTimes) -> list[int]:
    """The places of which runs tell what both parts of its model take, wherever they were."""
    whole = whole_of(plan)
    parts = {model.part for model in times.infer if model._replace(profile="", part="") == whole}
    places = sorted({place for each in times.cuts.get(whole, ()) for place in each.by_place})
    return [place for place in places if {head_of("", plan, place).part, tail_of("", plan, place).part} <= parts]


def chained(name: str, topology: Topology, times: ServiceTimes, place: int | None, values: int) -> Chained:
    """What a run would write down of a chain. place: where its model is cut; values: that go on."""
    plan = topology.workloads[name]
    if place is None:
        return Chained(name, "", "", values=values)
    order, considered = _order(name, topology), list[Cut]()
    known = [each for each in times.cuts.get(whole_of(plan), ()) if place in each.by_place]
    if plan.split == "auto":
        known = _compared(plan, order, times)
        considered = _choices(order, known[0])
    if not known:
        return Chained(name, "", "", values=values)
    cut, others = _predicted(order, known[0].by_place[place]), tuple(_predicted(order, each) for each in considered)
    return Chained(name, "", "", cut, known[0].places, others, values)


def _order(name: str, topology: Topology) -> SplitOrder:
    """What the nodes and links of a topology have to do with where the model is cut."""
    deployment = places_of(fleet_of(topology)).deployment(topology, "cut")
    return split_order(deployment.workloads[name], deployment)


def _predicted(order: SplitOrder, cut: Cut) -> Cut:
    """With what the rule promises of it."""
    promised = predicted_ms(order, cut.head_ms, cut.tail_ms, cut.values) if order.speeds_known else None
    return msgspec.structs.replace(cut, predicted_ms=promised)


def _told(head: Head) -> str:
    return f"{head.task} ({head.size}, {head.runtime}, {head.quantisation})"
