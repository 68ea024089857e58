"""Cells of a sweep that are simulated in processes of their own, as many at a time as the machine has room for."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType

import msgspec

from edgebench.cpu import core_count
from edgebench.experiments import sweep_child
from edgebench.experiments.places import NoRoomError
from edgebench.experiments.sweep_cells import MAKE_ROOM, Begins, PlannedCell
from edgebench.experiments.sweep_child import CellJob, CellOutcome, Simulating
from edgebench.fabric.child_process import ChildProcess, describe_end, end_children
from edgebench.memory import available_bytes
from edgebench.results.sweeps import Cell

_ROOM_BYTES = 1_000_000_000
"""A million devices take some 600 MB."""


def at_once(cells: int) -> int:
    """How many cells are to be simulated at a time, at least one: each has a core, and so much memory."""
    return max(1, min(cells, core_count(), available_bytes() // _ROOM_BYTES))


class SimulatingProcesses:
    """Some, which simulate one cell after another each, and end where the `with` does. A process that dies is the
    failure of the cell that it was at, and the next cell has another one."""

    def __init__(self, simulating: Simulating, most: int) -> None:
        """most: at a time."""
        self._simulating = msgspec.json.encode(simulating)
        self._most = most
        self._children: list[ChildProcess] = []
        self._idle: list[ChildProcess] = []

    def __enter__(self) -> SimulatingProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_children(self._children)

    def ran(self, cells: Sequence[PlannedCell], begins: Begins) -> Iterator[Cell]:
        """What comes of cells, as they end. Raises NoRoomError where one of them found a disk full."""
        waiting = deque(cells)
        with selectors.DefaultSelector() as busy:
            while waiting or busy.get_map():
                while waiting and len(busy.get_map()) < self._most:
                    cell, child = waiting.popleft(), self._idle.pop() if self._idle else self._started()
                    begins(cell)
                    with contextlib.suppress(BrokenPipeError):  # of one that has ended, as is found below
                        child.write_line(msgspec.json.encode(CellJob.of(cell)))
                    assert child.process.stdout is not None
                    busy.register(child.process.stdout, selectors.EVENT_READ, (cell, child))
                for ready, _ in busy.select():
                    busy.unregister(ready.fileobj)
                    yield self._answer(*ready.data)

    def _started(self) -> ChildProcess:
        command = [sys.executable, "-m", sweep_child.__name__]
        child = ChildProcess(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._children.append(child)
        with contextlib.suppress(BrokenPipeError):
            child.write_line(self._simulating)
        return child

    def _answer(self, cell: PlannedCell, child: ChildProcess) -> Cell:
        line = child.read_line()
        if line:
            self._idle.append(child)
            outcome = msgspec.json.decode(line, type=CellOutcome)
            if outcome.cell is None:
                raise NoRoomError(outcome.full, MAKE_ROOM)
            return outcome.cell
        self._children.remove(child)
        how = describe_end(child.end())
        mend = "where that was for want of memory, give fewer --processes, and --resume"
        return cell.failed(f"the process that simulated it ended before its work did: {how} ({mend})")
