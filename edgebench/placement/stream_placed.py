"""A placement of stream workloads as data: where each stage is decided, and what comes of it in a simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Literal

import msgspec

from edgebench.errors import EdgebenchError
from edgebench.placement.objectives import told
from edgebench.placement.placed import Record
from edgebench.placement.stream_model import CHAIN, Place, Spot, cut_of, is_chain, is_place, spot_name
from edgebench.topology import model
from edgebench.topology.expand import names_of, parent_of
from edgebench.topology.model import Batch, Tier, Topology, Workload
from edgebench.topology.placing import where_of
from edgebench.topology.wording import did_you_mean, listed, table, things


class PlacedStage(Record, frozen=True):
    """Where a workload's samples of a group of devices are decided. tier: or a chain, see `stream_model`. site: the
    edge of those of them that are meant; None: all."""

    workload: str
    group: str
    tier: Place
    site: str | None = None

    @property
    def spot(self) -> Spot:
        """Whose samples."""
        return self.group, self.site


class StageFigures(Record, frozen=True):
    """What comes of a workload, or of a joint decision: ms, over what was decided; None without any. late: after the
    deadline."""

    scheduled: int
    lost: int
    late: int
    mean_ms: float | None
    p99_ms: float | None


class StreamPlacement(Record, frozen=True, tag="stream-placement", tag_field="kind"):
    """Stages, placed. topology: by its name.

    seed: of the simulations; policy_seed: of what the policy left to chance.
    objective, at_most: figure -> its weight, its limit; value: the weighted sum, None where nothing was decided; terms:
    all figures. keeps: whether nothing is lost, and the limits are kept. judged: how many placements were simulated.
    proven: whether none is better, where the policy tells. figures: of workloads; joint: of joint decisions with a
    deadline. All by simulations with service times of what they are `calibrated_by`. notes: what speaks against these
    runs, and against the last simulation.
    """

    schema: Literal[1]
    topology: str
    policy: str
    policy_seed: int
    seed: int
    objective: dict[str, float]
    at_most: dict[str, float]
    value: float | None
    keeps: bool
    stages: tuple[PlacedStage, ...]
    terms: dict[str, float | None]
    figures: dict[str, StageFigures]
    judged: int
    proven: bool | None
    calibrated_by: tuple[str, ...]
    notes: tuple[str, ...] = ()
    joint: dict[str, StageFigures] = msgspec.field(default_factory=dict)


def sites_of(topology: Topology, group: str) -> dict[str, list[str]]:
    """The devices of a group at each site, by their edge."""
    found: dict[str, list[str]] = {}
    for index, name in enumerate(names_of(topology, group)):
        found.setdefault(str(parent_of(topology, group, index)), []).append(name)
    return found


def stages_in(placement: StreamPlacement, topology: Topology) -> dict[str, dict[Spot, Place]]:
    """Workload -> whose samples -> tier, for all of a topology. Raises EdgebenchError where the placement has
    others."""
    found: dict[str, dict[Spot, Place]] = {name: {} for name in topology.workloads}
    first: dict[tuple[str, Spot], int] = {}
    sites_at = cache(partial(sites_of, topology))
    for index, stage in enumerate(placement.stages):
        at = f"$.stages[{index}]"
        if stage.workload not in topology.workloads:
            mean = did_you_mean(stage.workload, topology.workloads)
            raise EdgebenchError(f"{at}.workload: the topology has no workload '{stage.workload}'{mean}")
        sources = topology.workloads[stage.workload].sources
        if stage.group not in sources:
            mean = did_you_mean(stage.group, sources)
            raise EdgebenchError(f"{at}.group: '{stage.group}' is no source of '{stage.workload}'{mean}")
        sites = sites_at(stage.group)
        if stage.site is not None and stage.site not in sites:
            mean = did_you_mean(stage.site, sites)
            raise EdgebenchError(f"{at}.site: no device of '{stage.group}' is at '{stage.site}'{mean}")
        parts = (None,) if stage.site is not None else sites
        placed = {stage.spot, *((stage.group, site) for site in parts)} & found[stage.workload].keys()
        if placed:
            other = min(placed, key=lambda spot: first[stage.workload, spot])
            of = f"'{stage.workload}' of '{spot_name(stage.spot)}'"
            what = f"{at}: {of} is placed by $.stages[{first[stage.workload, other]}], too"
            if other == stage.spot:
                raise EdgebenchError(f"{what} (remove one)")
            raise EdgebenchError(f"{what}, for '{spot_name(other)}' (remove one, or name the site of each)")
        first[stage.workload, stage.spot] = index
        if not is_place(stage.tier):
            one_of = "is not one of cloud, device, edge, chain, chain@NUMBER"
            raise EdgebenchError(f"{at}.tier: {stage.tier[:40]!r} {one_of}")
        if not _tiers_of(stage.tier) <= set(topology.place.allow):
            may = listed(topology.place.allow)
            raise EdgebenchError(f"{at}.tier: is {stage.tier}, and place.allow has {may} (place it anew)")
        _check_chain(at, stage, topology.workloads[stage.workload])
        found[stage.workload][stage.spot] = stage.tier
    for name, tiers in found.items():
        missing = list(_missing(topology, name, tiers))
        if missing:
            raise EdgebenchError(f"$.stages: does not place '{name}' of {listed(missing)} (place the topology anew)")
        if len(set(tiers.values())) > 1 and any(map(is_chain, tiers.values())):
            alike = "a chain is that of all its groups"
            raise EdgebenchError(f"$.stages: '{name}' is a chain for some of its groups, and {alike} (place it anew)")
    return found


def _missing(topology: Topology, name: str, tiers: Mapping[Spot, Place]) -> Iterator[str]:
    for group in topology.workloads[name].sources:
        if (group, None) in tiers:
            continue
        spots: list[Spot] = [(group, site) for site in sites_of(topology, group)]
        lacking = [spot_name(spot) for spot in spots if spot not in tiers]
        yield from [group] if len(lacking) == len(spots) else lacking


def _check_chain(at: str, stage: PlacedStage, workload: Workload) -> None:
    """Raises EdgebenchError where a chain is of two models, and the workload of one, or the other way round."""
    is_cut, of = cut_of(stage.tier) is not None, f"'{stage.workload}'"
    if is_cut and workload.head is not None:
        other = f"is {stage.tier}, of a model that is cut, and the topology has a head before that of {of}"
        raise EdgebenchError(f"{at}.tier: {other} (write chain, or place it anew)")
    if stage.tier == CHAIN and workload.head is None:
        other = f"is chain, of two models, and the topology has no head for {of}"
        raise EdgebenchError(f"{at}.tier: {other} (write chain@NUMBER to have its model cut there, or place it anew)")


def with_tiers(workload: Workload, tiers: Mapping[Spot, Place], topology: Topology) -> Workload:
    """A workload whose groups are decided so: all by a chain, or none. Sites that are not among them, of groups of
    which others are, stay where the workload has them. Where no sample travels any more, what concerns that is left
    out, as is a cascade, which no tier is, and on a tier a chain."""
    first = next(iter(tiers.values()))
    if is_chain(first):
        split = cut_of(first) or workload.split
        chain = model.Place(infer=("edge", "cloud"))
        return msgspec.structs.replace(workload, place=chain, cascade=None, split=split)
    by_name: dict[str, Place] = {}
    for group in workload.sources:
        by_name |= _tiers_in(workload, group, tiers, topology)
    infer: Tier | dict[str, Tier] = first if len(set(by_name.values())) == 1 else by_name  # type: ignore[assignment]
    changed = msgspec.structs.replace(workload, place=model.Place(infer=infer), cascade=None, split=None, head=None)  # type: ignore[arg-type]
    if infer == "device":
        changed = msgspec.structs.replace(changed, batch=Batch(), compress=None, qos=1)
    return changed


def _tiers_in(workload: Workload, group: str, tiers: Mapping[Spot, Place], topology: Topology) -> dict[str, Place]:
    """Of a group and, where they are not decided as most of it, of devices, by name."""
    if (group, None) in tiers:
        return {group: tiers[group, None]}
    of_device = {
        device: str(tiers.get((group, site), where_of(workload, device, group) or "edge"))
        for site, devices in sites_of(topology, group).items()
        for device in devices
    }
    ((most, _),) = Counter(of_device.values()).most_common(1)
    return {group: most} | {device: tier for device, tier in of_device.items() if tier != most}


def _tiers_of(place: Place) -> set[str]:
    return {"edge", "cloud"} if is_chain(place) else {place}


def overrides_in(placement: StreamPlacement, topology: Topology) -> Iterator[str]:
    """`PATH=VALUE`, which place a topology so. Raises EdgebenchError where the placement is of another."""
    for name, tiers in stages_in(placement, topology).items():
        before = topology.workloads[name]
        after = with_tiers(before, tiers, topology)
        for path, was, value in (
            ("place.infer", before.place.infer, after.place.infer),
            ("cascade", before.cascade, after.cascade),
            ("split", before.split, after.split),
            ("head", before.head, after.head),
            ("batch", before.batch, after.batch),
            ("compress", before.compress, after.compress),
            ("qos", before.qos, after.qos),
        ):
            if value != was:
                yield f"workloads.{name}.{path}={msgspec.json.encode(value).decode()}"


def shown(placement: StreamPlacement) -> Iterator[str]:
    """A placement in lines for people."""
    number = things(len(placement.stages), "stage")
    of_policy = f" with seed {placement.policy_seed}" if placement.policy_seed != placement.seed else ""
    by = f"{placement.policy}{of_policy}"
    yield f"{placement.topology}: {number} by {by}, seed {placement.seed}, modelled"
    yield f"  {told(placement.objective):30}  {_number(placement.value)}{_how_good(placement)}"
    for name, limit in placement.at_most.items():
        yield f"  {name + f', at most {limit:g}':30}  {_number(placement.terms[name])}"
    yield f"  placements judged               {placement.judged:,}"
    yield from _table(placement)
    rest = (f"{name} {_number(value)}" for name, value in placement.terms.items() if value is not None)
    yield f"  {', '.join(rest)}"
    if not placement.keeps:
        lost = sum(each.lost for each in placement.figures.values())
        yield "  " + (f"{things(lost, 'sample')} lost: no more can be decided there" if lost else "a limit is exceeded")
    yield from (f"  {note}" for note in placement.notes)


def _how_good(placement: StreamPlacement) -> str:
    if placement.proven is None:
        return ""
    return " (no placement is better)" if placement.proven else " (the best of those that were judged)"


def _table(placement: StreamPlacement) -> Iterator[str]:
    rows = [("workload", "group", "tier", "due", "late", "lost", "mean_ms", "p99_ms")]
    of = placement.figures
    told: set[str] = set()
    for each in placement.stages:  # figures are those of all of a workload, and stand in its first line
        figures = ("", "", "", "", "") if each.workload in told else _counts(of[each.workload])
        rows.append((each.workload, spot_name(each.spot), each.tier, *figures))
        told.add(each.workload)
    rows += [(name, "", "joint", *_counts(each)) for name, each in placement.joint.items()]
    return table(rows, texts={0, 1, 2})


def _counts(of: StageFigures) -> tuple[str, str, str, str, str]:
    return f"{of.scheduled:,}", f"{of.late:,}", f"{of.lost:,}", _number(of.mean_ms), _number(of.p99_ms)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"
