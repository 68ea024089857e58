"""The machines of a run and their clocks, in a report."""

from __future__ import annotations

from edgebench.report.view import Table
from edgebench.report.wording import NONE, count, number
from edgebench.results.figures import ClockFigures, HostUse, MachineFigures, Result

_COLUMNS = (
    "Machine",
    "Architecture",
    "Address",
    "Computer",
    "Nodes",
    "Cores",
    "MB",
    "Busy",
    "Foreign",
    "Ahead ms",
    "± ms",
    "Drift ppm",
)


def machine_table(result: Result) -> Table:
    """Each machine and its clock; no rows where there is one only."""
    several = len(result.machines) > 1
    rows = tuple(_machine(name, each) for name, each in result.machines.items()) if several else ()
    return Table(_COLUMNS, rows, text=4)


def _machine(name: str, machine: MachineFigures) -> tuple[str, ...]:
    return (
        name,
        machine.arch,
        machine.address or NONE,
        machine.computer,
        count(machine.nodes),
        count(machine.cores),
        count(machine.memory_mb),
        *_use(machine.host_use),
        *_clock(machine.clock),
    )


def _use(use: HostUse | None) -> tuple[str, str]:
    if use is None:
        return NONE, NONE
    return f"{use.busy:.0%}", NONE if use.foreign is None else f"{use.foreign:.1%}"


def _clock(clock: ClockFigures | None) -> tuple[str, str, str]:
    if clock is None:
        return "the server", NONE, NONE
    drift = NONE if clock.drift_ppm is None else f"{clock.drift_ppm:,.1f} ± {clock.drift_bound_ppm:,.1f}"
    return number(clock.offset_ms, 3), number(clock.bound_ms, 3), drift
