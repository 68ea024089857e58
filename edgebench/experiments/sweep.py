"""`edgebench sweep`: a topology run with many settings, each once, and what came of all of them in one table."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from edgebench.clock import now_s
from edgebench.decoding import from_json
from edgebench.errors import EdgebenchError
from edgebench.executors import EXECUTORS
from edgebench.experiments.cells import CELLS, cell_key, digests
from edgebench.experiments.deployment_checks import checked_deployment
from edgebench.experiments.given import TopologyFile, open_topology
from edgebench.experiments.places import check_folder
from edgebench.experiments.run import RunOptions, run_topology, was_interrupted
from edgebench.experiments.simulate import calibrated, check_calibrates, check_simulated, each_once, is_profiled
from edgebench.experiments.sweep_cells import (
    RUNS,
    Calibrations,
    PlannedCell,
    Ran,
    RunCell,
    one_after_another,
    simulates,
)
from edgebench.experiments.sweep_child import Simulating
from edgebench.experiments.sweep_placements import Placing
from edgebench.experiments.sweep_processes import SimulatingProcesses, at_once
from edgebench.experiments.sweep_spec import POLICY, SweepSpec, overrides_of, read_spec, settings_of
from edgebench.report.sweep_page import write_page
from edgebench.results.comparison.settings import key_of
from edgebench.results.figures import Result
from edgebench.results.fronts import Swept, crossings, front
from edgebench.results.rundir import StoredRun, load_run, write_json
from edgebench.results.sweeps import Cell, Settings, in_words, leaderboard, write_table
from edgebench.simulation.calibrating import doubts_of
from edgebench.simulation.layout import layout_of
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology.deployment import SIMULATE
from edgebench.topology.model import Durability
from edgebench.topology.wording import did_you_mean, one_line

TABLE = "sweep.parquet"
_IN_REGISTRY = "sha256:"

Planned = dict[str, tuple[TopologyFile, Settings]]
"""The cells of a sweep by their keys."""


def sweep(
    spec_file: Path,
    out: Path,
    *,
    resume: bool = False,
    processes: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Swept:
    """Run every cell that is asked for and has not been run, and write the table and the page.

    out: where folders of sweeps go. resume: go on with one that was ended. processes: so many simulated cells at a time
    (None: as many as there are cores, and memory for); real ones are run one after the other. Raises EdgebenchError,
    before the first cell is run, for what is wrong with any; KeyboardInterrupt where a cell was interrupted, which is
    then not among those that have been run, or had ended by itself, which then is.
    """
    spec = read_spec(spec_file)
    _check_processes(spec, spec_file, processes)
    check_folder("--out", out)
    folder = out / spec.name
    runs = calibrations(spec, spec_file)
    planned, done = planned_cells(spec, spec_file, runs, folder=folder, tell=tell), _done(folder)
    if done and not resume:
        raise EdgebenchError(f"{folder}: has cells already (go on with --resume, or name another with --out)")
    left = [PlannedCell(key, *of) for key, of in planned.items() if key not in done]
    run, heard = _runner(spec, spec_file, folder, runs, left), list[signal.Signals]()
    progress = _Progress(_most(spec, len(planned)) - (len(planned) - len(left)), tell)
    asked = dict[str, None]()
    (folder / CELLS).mkdir(parents=True, exist_ok=True)
    with _running(spec, folder, runs, run, heard, processes or at_once(len(left))) as ran:
        for keys in _rounds(spec, planned, done):
            asked |= dict.fromkeys(keys)
            for cell in ran([PlannedCell(key, *planned[key]) for key in keys if key not in done], progress.begins):
                done[cell.key] = cell
                write_json(folder / CELLS / f"{cell.key}.json", cell)
                progress.ended += 1
                if heard and (spec.search is not None or progress.ended < progress.of):
                    raise KeyboardInterrupt
    # Of a cell that was run for an earlier form of the file, that one's settings are not those of its fellows here.
    cells = [msgspec.structs.replace(done[key], settings=planned[key][1]) for key in asked]
    write_table(folder / TABLE, cells)
    notes = [doubt for those in runs.values() for run in those for doubt in doubts_of(run)]
    swept = msgspec.structs.replace(_ranked(spec, spec_file, folder, cells), notes=notes)
    write_page(swept, spec.name, None if spec.crossings is None else (spec.crossings.along, spec.crossings.between))
    return swept


class _Progress:
    """How far it is. ended: so many cells; of: as many as are asked for at most."""

    def __init__(self, of: int, tell: Callable[[str], None]) -> None:
        self.of = of
        self.ended = 0
        self._began = 0
        self._began_s = now_s()
        self._tell = tell

    def begins(self, cell: PlannedCell) -> None:
        """Tell which cell begins, and how much time is left."""
        self._began += 1
        left_s = (now_s() - self._began_s) / max(1, self.ended) * max(0, self.of - self.ended)
        left = f", {_time(left_s)} left" if self.ended else ""
        told = f"{in_words(cell.settings)}, seed {cell.given.topology.seed}"
        self._tell(f"cell {self._began} of {max(self._began, self.of)}{left}: {told}")


@contextmanager
def _running(
    spec: SweepSpec, folder: Path, runs: Calibrations, run: RunCell, heard: list[signal.Signals], processes: int
) -> Iterator[Ran]:
    """What runs cells. processes: so many at a time, where they are simulated."""
    if spec.executor != SIMULATE or processes == 1:
        yield one_after_another(folder, run, heard)
        return
    calibrate = {durability: [str(each.path) for each in those] for durability, those in runs.items()}
    with SimulatingProcesses(Simulating(str(folder), calibrate), processes) as children:
        yield children.ran


def _check_processes(spec: SweepSpec, spec_file: Path, processes: int | None) -> None:
    if processes is None:
        return
    if processes < 1:
        raise EdgebenchError(f"--processes {processes}: simulates nothing (give 1 or more)")
    if spec.executor != SIMULATE:
        raise EdgebenchError(f"--processes {processes}: the cells of {spec_file} are run one by one (leave it out)")


def _ranked(spec: SweepSpec, spec_file: Path, folder: Path, cells: list[Cell]) -> Swept:
    figures = dict.fromkeys(name for cell in cells for name in cell.values)
    asked = {} if spec.rank is None else {"$.rank.figure": spec.rank.figure}
    asked |= {f"$.front.{figure}": figure for figure in spec.front}
    for path, figure in asked.items():
        if figures and figure not in figures:
            mean = did_you_mean(figure, figures)
            raise EdgebenchError(f"{spec_file}: {path}: no cell has a figure '{figure}'{mean}")
    swept = Swept(str(folder), str(folder / TABLE), cells, None, [], front(cells, spec.front))
    if spec.rank is None:
        return swept
    figure, best, across = spec.rank.figure, spec.rank.best, spec.crossings
    board = leaderboard(cells, figure, best)
    if spec.search is not None:  # which goes on with the better ones: what was left of it goes before what was not
        board.sort(key=lambda each: -each.valid)
    return msgspec.structs.replace(
        swept,
        figure=figure,
        leaderboard=board,
        crossings=[] if across is None else crossings(cells, figure, best, across.along, across.between),
    )


def _most(spec: SweepSpec, planned: int) -> int:
    """So many cells are asked for at most."""
    if spec.search is None:
        return planned
    seeds = max(1, len(spec.seeds))
    return sum(math.ceil(planned / seeds / 2**number) for number in range(seeds))


def _rounds(spec: SweepSpec, planned: Planned, done: Mapping[str, Cell]) -> Iterator[list[str]]:
    """The cells in the order in which they are run: all in one round, or of a search a round for each seed, with each
    further one the better half of those settings that are left, by the figure that they are ranked by. done: has those
    of the rounds before."""
    if spec.search is None or spec.rank is None:
        yield list(planned)
        return
    left = {key_of(settings) for _, settings in planned.values()}
    so_far: list[str] = []
    for number, seed in enumerate(dict.fromkeys(given.topology.seed for given, _ in planned.values()), start=1):
        those = [key for key, (given, of) in planned.items() if given.topology.seed == seed and key_of(of) in left]
        yield those
        so_far += those
        cells = [msgspec.structs.replace(done[key], settings=planned[key][1]) for key in so_far]
        still = [each for each in cells if key_of(each.settings) in left]
        ranked = leaderboard(still, spec.rank.figure, spec.rank.best)
        good = [each for each in ranked if each.valid == number]
        left = {key_of(each.settings) for each in good[: math.ceil(len(those) / 2)]}


def planned_cells(
    spec: SweepSpec,
    spec_file: Path,
    runs: Calibrations | None = None,
    *,
    folder: Path,
    tell: Callable[[str], None] = lambda _: None,
) -> Planned:
    """Every cell that may be asked for, each checked as a run of it would be.

    runs: as `calibrations` gives them, where they are known already. folder: of the sweep, where placements by policies
    are kept. Raises EdgebenchError.
    """
    if spec.executor not in (SIMULATE, *EXECUTORS):
        there_are = f"write one of {', '.join((SIMULATE, *EXECUTORS))}"
        raise EdgebenchError(f"{spec_file}: $.executor: no runs by '{spec.executor}' ({there_are})")
    beside = spec_file.parent / spec.topology
    runs = calibrations(spec, spec_file) if runs is None else runs
    measured = {durability: digests([run.path for run in those]) for durability, those in runs.items()}
    placing = Placing(spec, spec_file, folder, runs, measured, tell)
    found: dict[str, tuple[TopologyFile, Settings]] = {}
    needed: set[Durability] = set()
    for settings, seed in settings_of(spec):
        try:
            given = open_topology(beside if beside.exists() else spec.topology, overrides_of(spec, settings, seed))
        except EdgebenchError as error:
            raise EdgebenchError(f"{spec_file}: {in_words(settings)}: {error}") from error
        if spec.executor == SIMULATE or (settings.get(POLICY) is not None and not given.topology.jobs):
            _check_told(given, runs, spec_file, settings)
            needed.add(given.topology.durability)
        given = placing.placed(given, settings)
        key = _key(spec, given, settings, measured)
        _check_registry(given)
        if key in found and spec.search is not None:
            continue
        if key in found:
            same = in_words(found[key][1])
            raise EdgebenchError(f"{spec_file}: {in_words(settings)}: is the same as {same} (leave one of them out)")
        found[key] = (given, settings)
    _check_needed(spec_file, runs, needed)
    return found


def _key(spec: SweepSpec, given: TopologyFile, settings: Settings, measured: Mapping[Durability, Sequence[str]]) -> str:
    """Of a cell, which is checked. What two policies make of it is run for each, though they decide the same."""
    policy = settings.get(POLICY)
    beside = [] if policy is None else [f"policy {policy}"]
    if spec.executor != SIMULATE:
        return cell_key(checked_deployment(given.topology, given.path, spec.executor), given.topology, beside)
    return cell_key(check_simulated(given), given.topology, [*measured.get(given.topology.durability, ()), *beside])


def _check_registry(given: TopologyFile) -> None:
    """No run of the sweep would find a model of another registry. Raises EdgebenchError."""
    for name, workload in given.topology.workloads.items():
        if workload.model.source.startswith(_IN_REGISTRY):
            why = "a sweep has a registry of its own, which does not hold it (name the model's file)"
            raise EdgebenchError(f"{given.path}: $.workloads.{name}.model.source: {workload.model.source}: {why}")


def calibrations(spec: SweepSpec, spec_file: Path) -> Calibrations:
    """Raises EdgebenchError where one is no run that says what things take."""
    found: dict[Durability, list[StoredRun]] = {}
    for each in each_once(spec_file.parent / each for each in spec.calibrate):
        run = load_run(each)
        found.setdefault(run.deployment.durability, []).append(run)
    return found


def _check_told(given: TopologyFile, runs: Calibrations, spec_file: Path, settings: Settings) -> None:
    """Raises EdgebenchError where no run has kept its samples as a cell is to, or there is none, and no profile."""
    durability = given.topology.durability
    if not runs and not is_profiled(given.topology):
        why = "nothing says what things take (name a run of the same tasks)"
        raise EdgebenchError(f"{spec_file}: $.calibrate: {why}")
    if runs and durability not in runs:
        why = f"{durability}, and no run of $.calibrate had that (add one)"
        raise EdgebenchError(one_line(f"{spec_file}: {in_words(settings)}: $.durability: {why}"))


def _check_needed(spec_file: Path, runs: Calibrations, asked: Collection[Durability]) -> None:
    """Raises EdgebenchError for a run by which no cell is simulated."""
    for durability, those in runs.items():
        if durability not in asked:
            why = f"{those[0].path} had durability {durability}, which no cell has (leave it out)"
            raise EdgebenchError(one_line(f"{spec_file}: $.calibrate: {why}"))


def _done(folder: Path) -> dict[str, Cell]:
    """The cells that have been run. One that failed is run again: what came in its way may have been mended."""
    found = {}
    for file in sorted((folder / CELLS).glob("*.json")):
        try:
            cell = from_json(file.read_bytes(), Cell)
        except msgspec.DecodeError as error:
            raise EdgebenchError(f"{file}: not a cell of a sweep: {error} (remove it)") from error
        if cell.state != "failed":
            found[cell.key] = cell
    return found


def _runner(
    spec: SweepSpec, spec_file: Path, folder: Path, runs: Calibrations, cells: Sequence[PlannedCell]
) -> RunCell:
    """How a cell is run. Raises EdgebenchError where something that one of them takes is not known."""
    if spec.executor != SIMULATE:
        return _for_real(RunOptions(out=folder / RUNS, executor=spec.executor, registry=folder / "registry"))
    times: dict[Durability, ServiceTimes] = {}
    for _, given, settings in cells:
        durability = given.topology.durability
        try:
            if durability not in times:
                times[durability] = calibrated(given, tuple(run.path for run in runs.get(durability, ())))
            for run in runs.get(durability, ()):
                check_calibrates(run, given)
            layout_of(given.topology, times[durability], given.path)
        except EdgebenchError as error:
            raise EdgebenchError(one_line(f"{spec_file}: {in_words(settings)}: {error}")) from error
    return simulates(folder, times.__getitem__)


def _for_real(options: RunOptions) -> RunCell:
    def run(given: TopologyFile, heard: list[signal.Signals]) -> tuple[Path, Result]:
        run_dir, result = run_topology(given, replace(options, heard=heard))
        if was_interrupted(result):
            raise KeyboardInterrupt
        return run_dir, result

    return run


def _time(s: float) -> str:
    return f"{s:.0f} s" if s < 90 else f"{s / 60:.0f} min"
