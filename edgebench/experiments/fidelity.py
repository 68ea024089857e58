"""`edgebench fidelity`: how far simulations are from runs that took place, beside what a formula would have said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_times
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from edgebench.clock import NS_PER_S
from edgebench.errors import EdgebenchError
from edgebench.experiments.cells import digests
from edgebench.experiments.given import open_topology
from edgebench.experiments.simulate import check_calibrates, check_simulated
from edgebench.fabric.records import RoundRecord
from edgebench.report import wording
from edgebench.report.tables import plain_table, standard_output
from edgebench.results import stats
from edgebench.results.chunks import ABSENT, HOPS, TIMES, SampleChunk, chunks_of, ms
from edgebench.results.rundir import StoredRun, load_run, read_result, record_batches
from edgebench.results.sample_times import SampleTimes
from edgebench.results.values import Ints, Values
from edgebench.simulation.calibrating import service_times_of, what_does_not_tell
from edgebench.simulation.contention import contended_nodes
from edgebench.simulation.formula import Batches, FormulaTimes, times_of
from edgebench.simulation.layout import Layout, layout_of
from edgebench.simulation.places import places_of
from edgebench.simulation.service_times import ServiceTimes, merged
from edgebench.simulation.simulated import Simulated
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Tier, Topology
from edgebench.topology.wording import listed

T = TypeVar("T")
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Compared(msgspec.Struct, frozen=True):
    """One figure: as it was measured, as a simulation predicts it, and as the formula does; the errors are shares of
    what was measured. None: there is none; a formula has times alone, and none beyond the capacity of a station.

    own_service_error: of a simulation whose models take what they took in the run itself, all else as in `predicted`:
    what of the error is left when no model was faster or slower than in the runs that told. It is no prediction. None
    where the run does not tell what they took."""

    measured: float | None
    predicted: float | None
    formula: float | None = None
    error: float | None = None
    formula_error: float | None = None
    own_service_error: float | None = None


class RunFidelity(msgspec.Struct, frozen=True):
    """One run. valid: whether its own verdict lets its figures be trusted; kind: what they are (`measured`, `emulated`,
    or `modelled` where it was simulated itself). figures: `<workload>.throughput_hz`, `.backlog` (samples without a
    decision when the streams ended), `.latency_ms.<mean, p50, p90, p99>` and `.hops_ms.<hop>.<likewise>`; of what is
    learned together `.round_s.mean`. notes: why a run that it was predicted by should not be trusted."""

    calibrated_by: list[str]
    valid: bool
    kind: str
    figures: dict[str, Compared]
    notes: list[str] = []


class Fidelity(msgspec.Struct, frozen=True):
    """runs: by their names."""

    runs: dict[str, RunFidelity]


def fidelity(runs: Sequence[Path], calibrate: Sequence[Path] = ()) -> Fidelity:
    """Predict each run, and hold it against what was measured.

    calibrate: the runs that say what things take; none: of each run, all the others. Raises EdgebenchError, where a run
    would be predicted from itself, too.
    """
    predicted, telling = _by_content(runs), _by_content(calibrate or runs)
    named: dict[str, StoredRun] = {}
    for stored in predicted.values():
        name = stored.deployment.run_id
        if named.setdefault(name, stored) is not stored:
            raise EdgebenchError(f"{stored.path}: another run is called {name}, too (predict one after the other)")
    if calibrate and (both := [run for run in predicted if run in telling]):
        mend = "(leave it out of --calibrate)"
        raise EdgebenchError(f"{predicted[both[0]].path}: a run that is predicted from itself proves nothing {mend}")
    if not telling.keys() - predicted.keys() and len(predicted) < 2:
        raise EdgebenchError("nothing says what things take (name a second run, or one with --calibrate RUN)")
    if not calibrate:
        for stored in predicted.values():
            if had := what_does_not_tell(stored.deployment):
                mend = "(name those that tell with --calibrate)"
                raise EdgebenchError(f"{stored.path}: a run with {listed(had)} tells nothing of others {mend}")
    times = {run: service_times_of(stored.path) for run, stored in telling.items()}
    found = {}
    for run, stored in predicted.items():
        others = {other: each for other, each in times.items() if other != run}
        found[stored.deployment.run_id] = _predicted(
            stored, [telling[other] for other in others], merged(others.values())
        )
    return Fidelity(found)


def _by_content(paths: Iterable[Path]) -> dict[tuple[str, ...], StoredRun]:
    """Runs, each once, however often it is named, and wherever it lies: two that were begun in one second, in different
    folders, have one name."""
    return {tuple(digests([path])): load_run(path) for path in paths}


def print_tables(found: Fidelity) -> None:
    """Print a table a run; of hops only those that anything passed."""
    console = standard_output()
    for run, each in found.runs.items():
        table = plain_table(run)
        table.add_column("figure", no_wrap=True)
        for name in ("measured", "predicted", "error", "own service", "formula", "its error"):
            table.add_column(name, justify="right", no_wrap=True)
        for figure, of in each.figures.items():
            if of.measured or of.predicted:
                of_all = (of.error, of.own_service_error, of.formula_error)
                error, own, of_formula = (wording.NONE if each is None else f"{each:+.1%}" for each in of_all)
                measured, predicted, formula = (wording.number(it, 3) for it in (of.measured, of.predicted, of.formula))
                table.add_row(figure, measured, predicted, error, own, formula, of_formula)
        console.print(table)
        for note in each.notes:
            console.print(note, markup=False, highlight=False)
        if not each.valid:
            console.print("the run itself is invalid", style="red", highlight=False)
        if each.kind == "modelled":
            console.print("the run was simulated itself: nothing of it was measured", style="red", highlight=False)


def _predicted(stored: StoredRun, calibrate: Sequence[StoredRun], times: ServiceTimes) -> RunFidelity:
    given = open_topology(stored.path)
    if any(each.rollout_every and each.app is None for each in given.topology.federated):
        mend = "(predict one with rollout_every: 0; this one tells of learning by --calibrate)"
        raise EdgebenchError(f"{stored.path}: rolled out what was learned, which no simulation does {mend}")
    check_simulated(given)
    for telling in calibrate:
        check_calibrates(telling, given)
        if (run := stored.deployment.run_id) in telling.observations.calibrated_by:
            raise EdgebenchError(f"{telling.path}: a simulation by {run} proves nothing of that run (leave it out)")
    topology = _cut_as_it_was(given.topology, stored)
    layout = layout_of(topology, times, given.path)
    try:
        predicted, rounds, otherwise = _simulated(layout, stored)
    except EdgebenchError as error:
        by = listed([each.deployment.run_id for each in calibrate])
        raise EdgebenchError(f"{stored.path}: cannot be predicted by {by}: {error}") from error
    measured = _measured(stored)
    by_own = _layout_by_own(topology, times, stored, given.path)
    own = {} if by_own is None else _simulated(by_own, stored)[0]
    formula = _formula(layout, measured)
    figures = {
        f"{name}.{figure}": compared
        for name, of_workload in measured.items()
        for figure, compared in _compared(of_workload, predicted[name], own.get(name), formula.get(name)).items()
    }
    figures |= _of_rounds(stored, rounds)
    result = read_result(stored.path)
    modelled = [each.deployment.run_id for each in calibrate if each.observations.calibrated_by]
    notes = [f"{run}, by which it was predicted, was simulated itself" for run in modelled]
    notes += [*times.doubts, *otherwise]
    return RunFidelity(list(layout.told_by), result.verdict.valid, result.figures, figures, notes)


def _of_rounds(stored: StoredRun, predicted: Sequence[RoundRecord]) -> dict[str, Compared]:
    """How long rounds take that the cloud holds, s."""

    def mean_s(rounds: Sequence[RoundRecord], workload: str) -> float | None:
        held = [each for each in rounds if each.workload == workload and each.server == stored.deployment.cloud]
        took_s = [(each.ended_ns - each.started_ns) / NS_PER_S for each in held if not each.resumed]
        return sum(took_s) / len(took_s) if took_s else None

    found = {}
    for name in stored.deployment.federated:
        said, measured = mean_s(predicted, name), mean_s(stored.rounds, name)
        if measured is not None:
            error = _error(said, measured)
            found[f"{name}.round_s.mean"] = Compared(stats.rounded(measured), _rounded(said), error=error)
    return found


def _simulated(layout: Layout, stored: StoredRun) -> tuple[dict[str, _Seen], list[RoundRecord], list[str]]:
    """What becomes of a run's samples in a simulation, by workload; of its federations; and what a run would have done
    otherwise."""
    places = places_of(layout.fleet)
    deployment = places.deployment(layout.topology, stored.deployment.run_id, layout.topology.data)
    simulated = Simulated(layout, places, deployment)
    batches = (batch for table in simulated.tables() for batch in table.select(TIMES).to_batches())
    seen = _seen(chunks_of(batches, deployment.workloads), deployment, (0, layout.end_ns))
    return seen, simulated.rounds, [*simulated.overfull, *simulated.silent]


def _layout_by_own(topology: Topology, times: ServiceTimes, stored: StoredRun, file: str | Path) -> Layout | None:
    """Of models that take what they took in a run; None where that does not tell it of all that are used, or a profile
    does, of nodes whose threads wait for a core. Sizes of batches that it had none of are as in others."""
    if contended_nodes(stored.deployment):
        return None
    try:
        own = service_times_of(stored.path)
        if not own.infer:
            return None  # it tells of learning alone
        infer = {model: {**times.infer.get(model, {}), **by_size} for model, by_size in own.infer.items()}
        return layout_of(topology, replace_times(times, infer=infer, at_once=own.at_once), file)
    except EdgebenchError:  # it was disturbed all the time, or a model was, or it had what does not tell
        return None


def _cut_as_it_was(topology: Topology, stored: StoredRun) -> Topology:
    """With the places at which `auto` cut in a run, which others might not have chosen. Raises EdgebenchError."""
    places = {each.workload: each.cut.place for each in stored.observations.chains if each.cut is not None}
    workloads = {}
    for name, workload in topology.workloads.items():
        if workload.split == "auto" and name not in places:
            raise EdgebenchError(f"{stored.path}: does not say where the model of {name} was cut (run it again)")
        workloads[name] = workload if workload.split != "auto" else replace(workload, split=places[name])
    return replace(topology, workloads=workloads)


def _formula(layout: Layout, measured: Mapping[str, _Seen]) -> dict[str, FormulaTimes]:
    """What the formula says, with the batches that came about; nothing where something acts back on what is sent."""
    if layout.acts_back:
        return {}
    batches: Batches = {(name, tier): mean for name, seen in measured.items() for tier, mean in seen.mean_batches()}
    return times_of(layout, batches)


@dataclass
class _Seen:
    """What became of the samples of a workload, so far. open: without a decision when the streams ended. decided,
    batches: of each tier."""

    tiers: Mapping[str, Tier]
    started_ns: int
    ended_ns: int
    last_ns: int
    open: int = 0
    decided: dict[Tier, int] = field(default_factory=dict)
    batches: dict[Tier, float] = field(default_factory=dict)
    latency_ns: Values = field(default_factory=Values)
    hops_ns: dict[str, Values] = field(default_factory=lambda: {hop: Values() for hop in HOPS})

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk."""
        arrived_ns = chunk.ns["arrived_ns"]
        self.open += int((~chunk.decided | (arrived_ns > self.ended_ns)).sum())
        self.last_ns = max(self.last_ns, int(arrived_ns.max(initial=0)))
        self.latency_ns.update(chunk.latency_ns)
        for hop, took_ns in chunk.hops_ns.items():
            self.hops_ns.setdefault(hop, Values()).update(took_ns)
        for decider in filter(None, chunk.count("decider", chunk.decided)):
            which = chunk.decided & chunk.is_of("decider", decider)
            self._count(self.tiers[decider], chunk.ints["batch"][which])
        if "head_batch" in chunk.ints:  # whose first stage is at the edge
            of_head = chunk.ints["head_batch"]
            self._count("edge", of_head[of_head != ABSENT])

    def _count(self, tier: Tier, batch: Ints) -> None:
        self.decided[tier] = self.decided.get(tier, 0) + len(batch)
        self.batches[tier] = self.batches.get(tier, 0.0) + float((1 / batch).sum())

    def mean_batches(self) -> Iterator[tuple[Tier, float]]:
        """How many samples were decided together, by tier."""
        yield from ((tier, decided / self.batches[tier]) for tier, decided in self.decided.items())

    def figures(self) -> Iterator[tuple[str, float]]:
        """All that are compared."""
        yield "throughput_hz", len(self.latency_ns) * NS_PER_S / (self.last_ns - self.started_ns)
        yield "backlog", self.open
        for name, values in _named(self.latency_ns, self.hops_ns):
            if len(values):
                yield f"{name}.mean", ms(values.mean)
                found = values.percentiles(*_PERCENTILES.values())
                yield from ((f"{name}.{figure}", ms(each)) for figure, each in zip(_PERCENTILES, found, strict=True))


def _measured(run: StoredRun) -> dict[str, _Seen]:
    """By workload. Raises EdgebenchError of a run that was cut off."""
    started_ns, ended_ns = run.observations.started_ns, run.observations.ended_ns
    if started_ns is None or ended_ns is None:
        raise EdgebenchError(f"{run.path}: the run was cut off before its streams were over (run it to its end)")
    times = SampleTimes(run.deployment, run.observations)
    chunks = chunks_of(record_batches(run.path, TIMES), run.deployment.workloads, run.deployment.heads_on_devices)
    on_server = ((workload, times.on_server(chunk)) for workload, chunk in chunks)
    return _seen(on_server, run.deployment, (started_ns, ended_ns))


def _seen(
    chunks: Iterable[tuple[str, SampleChunk]], deployment: Deployment, streamed_ns: tuple[int, int]
) -> dict[str, _Seen]:
    """By workload. streamed_ns: when the streams began, and ended."""
    began_ns, ended_ns = streamed_ns
    tiers = {name: node.tier for name, node in deployment.nodes.items()}
    found = {name: _Seen(tiers, began_ns, ended_ns, ended_ns) for name in deployment.workloads}
    for workload, chunk in chunks:
        found[workload].update(chunk)
    return found


def _named(latency_ns: T, hops_ns: Mapping[str, T]) -> list[tuple[str, T]]:
    """As figures are called."""
    return [("latency_ms", latency_ns), *((f"hops_ms.{hop}", ns) for hop, ns in hops_ns.items())]


def _by_formula(times: FormulaTimes) -> Iterator[tuple[str, float]]:
    """All figures that it has."""
    for name, ns in _named(times.latency_ns, times.hops_ns):
        yield f"{name}.mean", ms(ns.mean)
        yield from ((f"{name}.{figure}", ms(ns.percentile(share))) for figure, share in _PERCENTILES.items())


def _compared(
    measured: _Seen, predicted: _Seen, own: _Seen | None, formula: FormulaTimes | None
) -> dict[str, Compared]:
    """By figure. own: as `predicted`, by service times of the run itself."""
    by_formula = {} if formula is None else dict(_by_formula(formula))
    other, found = dict(predicted.figures()), {}
    by_own = {} if own is None else dict(own.figures())
    for figure, value in measured.figures():
        of_formula = by_formula.get(figure)
        if of_formula is not None and not math.isfinite(of_formula):
            of_formula = None
        found[figure] = Compared(
            measured=stats.rounded(value),
            predicted=_rounded(other.get(figure)),
            formula=_rounded(of_formula),
            error=_error(other.get(figure), value),
            formula_error=_error(of_formula, value),
            own_service_error=_error(by_own.get(figure), value),
        )
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else stats.rounded(value)


def _error(said: float | None, measured: float) -> float | None:
    return None if said is None or not measured else stats.rounded(said / measured - 1)
