"""The faults of a run in a report: what happened when, and what it cost."""

from __future__ import annotations

from edgebench.report.view import ROWS_SHOWN, Table
from edgebench.report.wording import NONE, count, fault_name, ms, number
from edgebench.results.figures import FaultFigures, Result
from edgebench.topology.wording import things


def fault_tables(result: Result) -> tuple[Table, Table]:
    """The first faults, and the rest."""
    columns = (
        "Fault",
        "Asked for",
        "Happened",
        "Over",
        "Devices",
        "Recovered: first",
        "all",
        "Due",
        "Late",
        "Lost",
        "Slowest ms",
    )
    rows = tuple(_row(fault) for fault in result.faults)
    return Table(columns, rows[:ROWS_SHOWN]), Table(columns, rows[ROWS_SHOWN:])


def _row(fault: FaultFigures) -> tuple[str, ...]:
    over = "for good" if fault.at_s is not None and fault.until_s is None else number(fault.until_s, 2)
    return (
        fault_name(fault),
        number(fault.asked_s, 2),
        number(fault.at_s, 2),
        over,
        count(fault.devices),
        number(fault.recovery_s, 2),
        number(fault.all_recovered_s, 2),
        *((NONE,) * 3 if fault.at_s is None else (count(fault.samples), count(fault.late), count(fault.lost))),
        ms(fault.slowest_ms),
    )


def summary_lines(result: Result) -> list[str]:
    """The faults of a run in a line; none where it had none."""
    if not result.faults:
        return []
    happened = [fault for fault in result.faults if fault.at_s is not None]
    line = f"{len(happened)} of {things(len(result.faults), 'fault')} happened"
    ended = [fault for fault in happened if fault.until_s is not None and fault.devices]
    took_s = [fault.recovery_s for fault in ended if fault.recovery_s is not None]
    if not took_s:
        return [line]
    whose = "each" if len(took_s) == len(ended) else f"{len(took_s)} of the {len(ended)} that ended"
    return [f"{line}; decisions came again within {max(took_s):.2f} s of the end of {whose}"]
