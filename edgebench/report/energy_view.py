"""What a run drew, in a report: what was measured, and what is modelled of nodes and links."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.report.view import Table
from edgebench.report.wording import NONE, number
from edgebench.results.figures import Result
from edgebench.topology.wording import listed

_COLUMNS = ("What", "How", "By", "J", "Mean W")


def energy_table(result: Result) -> Table:
    """Each machine that was measured, emulated nodes by profile, links by what tells the energy of their bytes."""
    return Table(_COLUMNS, (*_machines(result), *_nodes(result), *_links(result)), text=3)


def _machines(result: Result) -> Iterator[tuple[str, ...]]:
    for name, machine in result.machines.items():
        if (found := machine.energy) is not None:
            yield f"machine {name}", found.how, found.source, number(found.j, 1), number(found.mean_w, 2)


def _nodes(result: Result) -> Iterator[tuple[str, ...]]:
    by_profile: dict[str, list[str]] = {}
    for name, node in result.nodes.items():
        if node.energy is not None:
            by_profile.setdefault(node.profile, []).append(name)
    for names in by_profile.values():
        found = [energy for name in names if (energy := result.nodes[name].energy) is not None]
        drawn_j, mean_w = sum(each.idle_j + each.work_j for each in found), sum(each.mean_w for each in found)
        yield listed(names), found[0].how, found[0].source, number(drawn_j, 1), number(mean_w, 2)


def _links(result: Result) -> Iterator[tuple[str, ...]]:
    by_source: dict[str, list[str]] = {}
    for name, link in result.links.items():
        if link.energy is not None:
            by_source.setdefault(link.energy.source, []).append(name)
    for source, names in by_source.items():
        found = [energy for name in names if (energy := result.links[name].energy) is not None]
        yield f"bytes of {listed(names)}", found[0].how, source, number(sum(e.up_j + e.down_j for e in found), 3), NONE
