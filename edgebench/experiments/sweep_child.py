"""A process that simulates cells of a sweep: `python -m edgebench.experiments.sweep_child`.

The first line on standard input is a `Simulating`, each one after it a `CellJob`; each job is answered by a line with
what came of it.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

import msgspec

from edgebench.experiments.given import TopologyFile
from edgebench.experiments.places import NoRoomError
from edgebench.experiments.sweep_cells import PlannedCell, recorded, simulates
from edgebench.results.sweeps import Cell, Settings
from edgebench.simulation.calibrating import service_times_of
from edgebench.simulation.service_times import ServiceTimes, merged
from edgebench.topology.model import Durability, Topology


class Simulating(msgspec.Struct, frozen=True):
    """folder: of the sweep. calibrate: the run directories that say what things take, by their durability."""

    folder: str
    calibrate: dict[Durability, list[str]]


class CellJob(msgspec.Struct, frozen=True):
    """A cell, with its topology as it was read when the sweep was planned."""

    key: str
    path: str
    overrides: tuple[str, ...]
    topology: Topology
    settings: Settings

    @classmethod
    def of(cls, cell: PlannedCell) -> CellJob:
        """To simulate this one."""
        given = cell.given
        return cls(cell.key, str(given.path), given.overrides, given.topology, cell.settings)

    @property
    def cell(self) -> PlannedCell:
        """The cell."""
        return PlannedCell(self.key, TopologyFile(Path(self.path), self.overrides, self.topology), self.settings)


class CellOutcome(msgspec.Struct, frozen=True):
    """cell: what came of it; None where a disk is full. full: which one."""

    cell: Cell | None
    full: str = ""


def main() -> int:
    """Do the jobs on standard input until it ends."""
    # What is being simulated is taken away, as by a Ctrl-C.
    signal.signal(signal.SIGTERM, _end)
    outcomes = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a task prints must not mix with the outcomes
    simulating = msgspec.json.decode(sys.stdin.buffer.readline(), type=Simulating)

    @cache
    def times(durability: Durability) -> ServiceTimes:
        return merged(service_times_of(Path(each)) for each in simulating.calibrate.get(durability, ()))

    folder = Path(simulating.folder)
    run = simulates(folder, times)
    for line in sys.stdin.buffer:
        try:
            outcome = CellOutcome(recorded(folder, msgspec.json.decode(line, type=CellJob).cell, run, []))
        except NoRoomError as error:
            outcome = CellOutcome(None, error.full)
        outcomes.write(msgspec.json.encode(outcome) + b"\n")
        outcomes.flush()
    return 0


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
