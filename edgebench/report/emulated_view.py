"""The emulated nodes of a run, in a report."""

from __future__ import annotations

from edgebench.report.view import ROWS_SHOWN, Table
from edgebench.report.wording import count, ms, number
from edgebench.results.figures import EmulationFigures, EnergyFigures, Result
from edgebench.topology.wording import listed

_COLUMNS = (
    *("Node", "Emulated as", "Its figures", "Released", "Took, mean", "Late by, mean", "At most", "Late"),
    "W, modelled",
)


def emulated_tables(result: Result) -> tuple[Table, Table]:
    """The first emulated nodes, and the rest."""
    rows = tuple(
        _row(name, node.profile, node.emulated, node.energy)
        for name, node in result.nodes.items()
        if node.emulated is not None
    )
    return Table(_COLUMNS, rows[:ROWS_SHOWN], text=3), Table(_COLUMNS, rows[ROWS_SHOWN:], text=3)


def emulated_facts(result: Result) -> list[str]:
    """What of a run is emulated, in a few words; nothing where nothing is."""
    by_profile: dict[str, list[str]] = {}
    for name, node in result.nodes.items():
        if node.emulated is not None:
            by_profile.setdefault(node.profile, []).append(name)
    return [f"emulated: {listed(names)} as {profile}" for profile, names in by_profile.items()]


def _row(name: str, profile: str, found: EmulationFigures, energy: EnergyFigures | None) -> tuple[str, ...]:
    return (
        name,
        profile,
        f"{'' if found.by == 'measured' else 'by '}{found.by}: {found.source}",
        count(found.released),
        ms(found.mean_took_ms),
        ms(found.mean_slip_ms, 2),
        ms(found.most_slip_ms, 2),
        count(found.late),
        number(None if energy is None else energy.mean_w, 2),
    )
