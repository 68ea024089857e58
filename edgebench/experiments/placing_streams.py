"""The stages of stream workloads are placed: each placement that a policy asks of is simulated."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from edgebench.errors import EdgebenchError, TopologyError
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.simulate import calibrated, check_simulated, refuse_learning, simulate_with
from edgebench.placement.files import read_placement
from edgebench.placement.objectives import (
    ENERGY_MJ,
    LATE_PERCENT,
    MEAN,
    Weights,
    score_of,
    terms_of,
    value_of,
    weights_of,
)
from edgebench.placement.placed import Placement
from edgebench.placement.stream_model import CHAIN, UNKNOWN, Place, Score, Spot, Stage, StreamProblem, chain_at
from edgebench.placement.stream_placed import (
    PlacedStage,
    StageFigures,
    StreamPlacement,
    sites_of,
    stages_in,
    with_tiers,
)
from edgebench.placement.stream_policies import stream_policy
from edgebench.results import stats
from edgebench.results.figures import Result
from edgebench.results.sample_figures import JointFigures, WorkloadFigures
from edgebench.seeds import rng_for
from edgebench.simulation.chains import cuts_measured
from edgebench.simulation.layout import UnmeasuredBatch, layout_of, where_cut
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology import profiles_of
from edgebench.topology.expand import names_of
from edgebench.topology.model import After, Fixed, Joint, Load, Tier, Topology, With, Workload
from edgebench.topology.pacing import asked_first, pace_setter
from edgebench.topology.placing import wheres
from edgebench.topology.profiles import HOST
from edgebench.topology.wording import listed, one_line, things

_TIERS: tuple[Tier, ...] = ("device", "edge", "cloud")


def place_streams(
    given: TopologyFile,
    policy: str | None,
    placement: Path | None,
    limit_s: float,
    objective: Weights | None,
    at_most: Weights | None,
    calibrate: tuple[Path, ...],
    tell: Callable[[str], None],
    *,
    by_site: bool = False,
) -> StreamPlacement:
    """Place the workloads of a topology, which was checked, by a policy, or as an earlier placement has them.

    objective, at_most: None for those of the earlier placement. by_site: each site's devices by themselves, and not all
    of a group alike. Raises EdgebenchError.
    """
    topology = given.topology
    _refuse_unplaceable(given)
    earlier = None
    if placement is not None:
        earlier = placed_before(placement, topology)
        objective = _of_file(placement, "objective", earlier.objective) if objective is None else objective
        at_most = _of_file(placement, "at_most", earlier.at_most) if at_most is None else at_most
    objective, at_most = objective or MEAN, at_most or {}
    _check_deadlines(given, {*objective, *at_most})
    _check_energy(given, {*objective, *at_most})
    decide = stream_policy(policy, limit_s) if policy is not None else None
    refuse_learning(given, "workloads are placed")
    check_simulated(given)
    found = None if earlier is None else stages_in(earlier, topology)
    judging = _Judging(given, calibrated(given, calibrate), objective, at_most, tell, found, by_site=by_site)
    stages = judging.stages
    proven = None
    if decide is not None and policy is not None:
        decision = decide(StreamProblem(stages, judging.score), rng_for(topology.seed, "place", policy))
        tiers, proven, name, seed = decision.tiers, decision.proven, policy, topology.seed
    else:
        assert earlier is not None
        tiers = tuple(tier for stage in stages for tier in stage.tiers)
        name, seed = earlier.policy, earlier.policy_seed
    result = judging.result(dict(enumerate(tiers)))
    score, terms = score_of(result, objective, at_most), terms_of(result)
    value = value_of(terms, objective)
    return StreamPlacement(
        schema=1,
        topology=topology.name,
        policy=name,
        policy_seed=seed,
        seed=topology.seed,
        objective=dict(objective),
        at_most=dict(at_most),
        value=stats.rounded(value) if math.isfinite(value) else None,
        keeps=score.lost == score.over == 0,
        stages=tuple(
            PlacedStage(stage.workload, stage.group, tier, stage.site)
            for stage, tier in zip(stages, tiers, strict=True)
        ),
        terms={term: None if each is None else stats.rounded(each) for term, each in terms.items()},
        figures={workload: _figures(each) for workload, each in result.workloads.items()},
        joint={name: _figures(each) for name, each in result.joint.items()},
        judged=judging.judged,
        proven=proven and not judging.unknown,
        calibrated_by=tuple(result.calibrated_by),
        notes=(*result.verdict.notes, *result.verdict.reasons),
    )


def placed_before(file: Path, topology: Topology) -> StreamPlacement:
    """An earlier placement of the workloads of a topology. Raises EdgebenchError."""
    placement = read_placement(file)
    if isinstance(placement, Placement):
        raise EdgebenchError(f"{file}: places jobs, and the topology has workloads (place these: edgebench place)")
    try:
        stages_in(placement, topology)
    except EdgebenchError as error:
        raise EdgebenchError(one_line(f"{file}: {error}")) from error
    return placement


def _of_file(file: Path, field: str, weights: Weights) -> dict[str, float]:
    """Of an earlier placement. Raises EdgebenchError where one is no figure."""
    return weights_of(f"{file}: $.{field}:", [f"{name}={value!r}" for name, value in weights.items()], plain=None)


def _check_deadlines(given: TopologyFile, terms: Collection[str]) -> None:
    """Raises TopologyError where nothing can be late."""
    without = [name for name, workload in given.topology.workloads.items() if workload.deadline_ms is None]
    if LATE_PERCENT in terms and without:
        why = f"none, so that no sample is late (set it, or leave {LATE_PERCENT} out)"
        raise TopologyError([one_line(f"{given.path}: $.workloads.{name}.deadline_ms: {why}") for name in without])


def _check_energy(given: TopologyFile, terms: Collection[str]) -> None:
    """Raises TopologyError where it is not told what a node or a link draws: that is never 0."""
    if ENERGY_MJ not in terms:
        return
    problems = [*_powerless(given.topology), *_energyless(given.topology)]
    if problems:
        mend = f"or leave {ENERGY_MJ} out)"
        raise TopologyError([one_line(f"{given.path}: {problem}, {mend}") for problem in problems])


def _powerless(topology: Topology) -> Iterator[str]:
    """Without the end of what is in brackets."""
    profiles = profiles_of(topology)
    for name, group in topology.nodes.items():
        at = f"$.nodes.{name}.profile: {group.profile}"
        if group.profile == HOST:
            yield f"{at}, of which no power is known (give a profile with power"
        elif profiles[group.profile].power is None:
            yield f"{at} tells no power (add it there"


def _energyless(topology: Topology) -> Iterator[str]:
    """Likewise."""
    links = {link.between: (index, link.energy) for index, link in enumerate(topology.links)}
    for name, group in topology.nodes.items():
        if group.parent is None:
            continue
        index, energy = links.get((name, group.parent), (None, None))
        if index is None:
            yield f"$.links: none between {name} and {group.parent} tells the energy of a byte (add it"
        elif energy is None:
            yield f"$.links[{index}]: tells no energy of a byte (set energy"


def _refuse_unplaceable(given: TopologyFile) -> None:
    """Raises TopologyError for cascades, and chains that begin on devices."""
    cascades = [name for name, workload in given.topology.workloads.items() if "cascade" in wheres(workload)]
    unplaced = dict.fromkeys(cascades, "a cascade, which decides at two places (write device, edge or cloud")
    on_devices = [name for name, workload in given.topology.workloads.items() if workload.head_on_device]
    unplaced |= dict.fromkeys(
        on_devices, "a chain that begins on devices, which nothing simulates (write [edge, cloud]"
    )
    if unplaced:
        where = [f"$.workloads.{name}.place.infer: {what} to have it placed)" for name, what in unplaced.items()]
        raise TopologyError([one_line(f"{given.path}: {each}") for each in where])


def _places(name: str, topology: Topology, times: ServiceTimes, file: Path) -> list[Place]:
    """Where a workload may be decided: on the tiers that are allowed, or as a chain where the topology has one. Two
    models are no one that a tier could have, and a chain is that of all its groups. Raises TopologyError where these
    have one that is cut, and nothing tells where."""
    workload = topology.workloads[name]
    tiers: list[Place] = [tier for tier in _TIERS if tier in topology.place.allow]
    if not workload.is_chain:
        return tiers
    if workload.head is not None:
        return [CHAIN]
    if len(workload.sources) > 1:
        cut = where_cut(name, topology, times, file)
        assert cut is not None  # as it is one model
        return [chain_at(cut)]
    cuts = [workload.split] if isinstance(workload.split, int) else cuts_measured(workload, times)
    return [*tiers, *(map(chain_at, cuts) if cuts else [CHAIN])]  # of which nothing is known, and which is told so


def _in_order(topology: Topology) -> list[str]:
    """Workloads as they are in the file, but none before those that it takes its times from."""
    found: dict[str, None] = {}

    def add(name: str) -> None:
        for before in asked_first(topology.workloads[name].load):
            add(before)
        found[name] = None

    for name in topology.workloads:
        add(name)
    return list(found)


def _figures(each: WorkloadFigures | JointFigures) -> StageFigures:
    latency = each.latency_ms
    mean_ms, p99_ms = (None, None) if latency is None else (latency.mean, latency.p99)
    if isinstance(each, JointFigures):
        return StageFigures(each.frames, each.frames - each.decided, each.late, mean_ms, p99_ms)
    return StageFigures(each.scheduled, each.lost, each.late, mean_ms, p99_ms)


class _Judging:
    """Simulates placements, each once."""

    def __init__(
        self,
        given: TopologyFile,
        times: ServiceTimes,
        objective: Weights,
        at_most: Weights,
        tell: Callable[[str], None],
        earlier: Mapping[str, Mapping[Spot, Place]] | None,
        *,
        by_site: bool,
    ) -> None:
        """earlier: workload -> whose samples -> where they are placed already, and are judged as nothing else."""
        self._given = given
        self._by_site = by_site
        self._times = times
        self._objective, self._at_most = objective, at_most
        self._tell = tell
        self._left_out = 0
        self.stages = tuple(self._all_stages() if earlier is None else _placed_already(given.topology, earlier))
        self._found: dict[tuple[tuple[int, Place], ...], Result | UnmeasuredBatch] = {}

    @property
    def judged(self) -> int:
        """How many were simulated to their end."""
        return len(self._found) - self._unmeasured

    @property
    def unknown(self) -> int:
        """Of how many choices nothing tells what they take."""
        return self._unmeasured + self._left_out

    @property
    def _unmeasured(self) -> int:
        return sum(isinstance(each, UnmeasuredBatch) for each in self._found.values())

    def _all_stages(self) -> Iterator[Stage]:
        """Of a workload that is a chain, with those places alone of which it is known what they take: a run of it tells
        nothing of its whole model. Raises TopologyError where there is none."""
        topology = self._given.topology
        for name in _in_order(topology):
            workload = topology.workloads[name]
            places = _places(name, topology, self._times, self._given.path)
            if workload.is_chain:
                places = self._known(name, places)
            for group in workload.sources:
                apart = self._by_site and not workload.is_chain  # a chain is that of all its devices
                sites: list[str | None] = [*sites_of(topology, group)] if apart else [None]
                yield from (Stage(name, group, tuple(places), site) for site in sites)

    def _known(self, name: str, places: Sequence[Place]) -> list[Place]:
        topology, found = self._given.topology, []
        for place in places:
            placed = {Stage(name, group, (place,)): place for group in topology.workloads[name].sources}
            try:
                layout_of(_alone(topology, name, placed), self._times, self._given.path)
                found.append(place)
            except TopologyError as error:
                if place == places[-1] and not found:
                    raise
                self._left_out += 1
                more = len(error.problems) - 1
                beside = f" (and {things(more, 'more line')})" if more else ""
                self._tell(f"{name} on {place} is no choice: {error.problems[0]}{beside}")
        return found

    def score(self, placed: Mapping[int, Place]) -> Score:
        """See `Judge`."""
        try:
            return score_of(self.result(placed), self._objective, self._at_most)
        except UnmeasuredBatch:
            return UNKNOWN

    def result(self, placed: Mapping[int, Place]) -> Result:
        """What comes of stages on tiers, without the others. Raises EdgebenchError."""
        key = tuple(sorted(placed.items()))
        if key not in self._found:
            self._check(key)
            told = ", ".join(f"{self.stages[index].name} on {tier}" for index, tier in key)
            self._tell(f"placement {len(self._found) + 1}: {told}")
            topology = _only(self._given.topology, {self.stages[index]: tier for index, tier in key})
            with tempfile.TemporaryDirectory(prefix="edgebench-place-") as folder:
                given = TopologyFile(self._given.path, self._given.overrides, topology)
                try:
                    _, self._found[key] = simulate_with(self._times, given, Path(folder), page="no")
                except UnmeasuredBatch as error:
                    self._found[key] = error
                    self._tell(f"is no choice: {error}")
        found = self._found[key]
        if isinstance(found, UnmeasuredBatch):
            raise found
        if ENERGY_MJ in {*self._objective, *self._at_most}:
            for name, node in found.nodes.items():
                if node.no_energy is not None:
                    raise TopologyError([_untold_energy(self._given, name, node.no_energy)])
        return found

    def _check(self, placed: Sequence[tuple[int, Place]]) -> None:
        """What a policy of a user's own may ask. Raises EdgebenchError."""
        if not placed:
            raise EdgebenchError("judge: is asked of no stage (give at least one)")
        for index, tier in placed:
            if index not in range(len(self.stages)):
                raise EdgebenchError(f"judge: there is no stage {index!r} (they are 0 to {len(self.stages) - 1})")
            stage = self.stages[index]
            if tier not in stage.tiers:
                may = listed(stage.tiers)
                raise EdgebenchError(f"judge: {stage.name} on {str(tier)[:40]!r}, and it may be on {may}")


def _untold_energy(given: TopologyFile, node: str, why: str) -> str:
    """why: with its own mend in brackets, where there is one."""
    group = next((name for name in given.topology.nodes if node in names_of(given.topology, name)), node)
    mend = f", or leave {ENERGY_MJ} out)" if why.endswith(")") else f" (leave {ENERGY_MJ} out)"
    return one_line(f"{given.path}: $.nodes.{group}: {node}: {why.removesuffix(')')}{mend}")


def _placed_already(topology: Topology, earlier: Mapping[str, Mapping[Spot, Place]]) -> Iterator[Stage]:
    """earlier: workload -> whose samples -> the one place where they are."""
    for name in _in_order(topology):
        yield from (Stage(name, group, (place,), site) for (group, site), place in earlier[name].items())


def _alone(topology: Topology, name: str, placed: Mapping[Stage, Place]) -> Topology:
    """A topology with one workload, whose load does not matter."""
    only = _only(topology, placed)
    free = msgspec.structs.replace(only.workloads[name], load=Fixed(rate_hz=1.0))
    return msgspec.structs.replace(only, workloads={name: free}, joint={})


def _only(topology: Topology, placed: Mapping[Stage, Place]) -> Topology:
    """A topology with some stages, and the workloads that these wait for, where the file has them."""
    tiers: dict[str, dict[Spot, Place]] = {}
    for stage, tier in placed.items():
        tiers.setdefault(stage.workload, {})[stage.spot] = tier
    waited_for = _waited_for(topology, tiers)
    for name in waited_for & tiers.keys():
        there = {group for group, _ in tiers[name]}
        missing = [group for group in topology.workloads[name].sources if group not in there]
        if missing:
            others = f"since others wait for it, or place none of '{name}'"
            raise EdgebenchError(f"judge: '{name}' of {listed(missing)} has to be placed as well, {others}")
    asked = tiers.keys() | waited_for
    workloads = {name: _placed(name, topology, tiers) for name in topology.workloads if name in asked}
    return msgspec.structs.replace(topology, workloads=workloads, joint=_joint(topology, workloads))


def _joint(topology: Topology, workloads: Mapping[str, Workload]) -> dict[str, Joint]:
    """The joint decisions that can be late: all of their parts are there, and whose times they have, of all devices."""
    whole = {name for name, workload in workloads.items() if workload.sources == topology.workloads[name].sources}
    return {
        name: each
        for name, each in topology.joint.items()
        if each.deadline_ms is not None
        and whole >= {*each.of, *(pace_setter(topology.workloads, part) for part in each.of)}
    }


def _placed(name: str, topology: Topology, tiers: Mapping[str, Mapping[Spot, Place]]) -> Workload:
    workload = topology.workloads[name]
    if name in tiers:
        there = {group for group, _ in tiers[name]}
        sources = tuple(group for group in workload.sources if group in there)
        workload = with_tiers(msgspec.structs.replace(workload, source=sources), tiers[name], topology)
    return msgspec.structs.replace(workload, load=_load(name, topology, tiers))


def _load(name: str, topology: Topology, tiers: Collection[str]) -> Load:
    """Of a workload; where that is another's, which is not there, what the other's is."""
    load = topology.workloads[name].load
    while isinstance(load, With) and load.workload not in tiers:
        load = topology.workloads[load.workload].load
    return load


def _waited_for(topology: Topology, tiers: Collection[str]) -> set[str]:
    """The workloads without whose decisions some have no samples, placed or not."""
    found: set[str] = set()
    asked = list(tiers)
    while asked:
        load = _load(asked.pop(), topology, tiers)
        if isinstance(load, After):
            more = set(load.workloads) - found
            found |= more
            asked += more
    return found
