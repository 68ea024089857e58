"""The cells of a sweep, and what comes of each."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from edgebench.errors import EdgebenchError, describe_error
from edgebench.experiments.cells import CELLS
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.places import NoRoomError, is_full, room_in
from edgebench.experiments.simulate import simulate_with
from edgebench.results.comparison.run_values import figures_of
from edgebench.results.figures import Result
from edgebench.results.rundir import StoredRun, load_deployment
from edgebench.results.sweeps import Cell, Settings
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology.model import Durability

RUNS = "runs"
MAKE_ROOM = "the cells that were run are kept; make room, and go on with --resume"


class PlannedCell(NamedTuple):
    """A cell that is to be run."""

    key: str
    given: TopologyFile
    settings: Settings

    def failed(self, problem: str) -> Cell:
        """What came of it where there are no figures."""
        return Cell(self.key, self.settings, self.given.topology.seed, "failed", None, problem, {})


Calibrations = Mapping[Durability, Sequence[StoredRun]]
"""The runs that say what things take, by what they promised of their samples: a cell is simulated, or placed, by those
alone that promised what it does."""

RunCell = Callable[[TopologyFile, list[signal.Signals]], tuple[Path, Result]]
"""Runs a cell; notes a signal to end that came when that was over. Raises KeyboardInterrupt where that came before."""

Begins = Callable[[PlannedCell], None]
"""Is told of each cell as it begins."""

Ran = Callable[[Sequence[PlannedCell], Begins], Iterator[Cell]]
"""What comes of cells, as they end."""


def simulates(folder: Path, times: Callable[[Durability], ServiceTimes]) -> RunCell:
    """Runs cells of the sweep in a folder in virtual time. times: of the runs that had a cell's durability."""
    return lambda given, _: simulate_with(times(given.topology.durability), given, folder / RUNS, page="if not later")


def one_after_another(folder: Path, run: RunCell, heard: list[signal.Signals]) -> Ran:
    """Runs them in this process."""

    def ran(cells: Sequence[PlannedCell], begins: Begins) -> Iterator[Cell]:
        for cell in cells:
            begins(cell)
            yield recorded(folder, cell, run, heard)

    return ran


def recorded(folder: Path, cell: PlannedCell, run: RunCell, heard: list[signal.Signals]) -> Cell:
    """What came of a cell. An error that nobody thought of is the failure of that cell alone, and is in its log. Raises
    NoRoomError where a disk is full, which the other cells would not find otherwise."""
    log = folder / CELLS / f"{cell.key}.log"
    log.unlink(missing_ok=True)
    with room_in(folder, MAKE_ROOM):
        try:
            return came_of(*cell, run, heard)
        except Exception as error:
            if is_full(error):
                raise
            log.write_text(traceback.format_exc(), "utf-8")
            return cell.failed(f"{describe_error(error)} (its traceback is in {CELLS}/{log.name})")


def came_of(key: str, given: TopologyFile, settings: Settings, run: RunCell, heard: list[signal.Signals]) -> Cell:
    """Run a cell, which is to be valid, or invalid, or is told what came in its way. Raises NoRoomError."""
    try:
        run_dir, result = run(given, heard)
    except NoRoomError:
        raise
    except EdgebenchError as error:
        return PlannedCell(key, given, settings).failed(str(error))
    values = figures_of(result, load_deployment(run_dir))
    state: Literal["valid", "invalid"] = "valid" if result.verdict.valid else "invalid"
    problem = "; ".join(result.verdict.reasons)
    return Cell(key, settings, given.topology.seed, state, f"{RUNS}/{run_dir.name}", problem, values, result.figures)
