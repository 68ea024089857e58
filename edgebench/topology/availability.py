"""Availability traces: which node is away from when to when."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from edgebench.errors import TopologyError
from edgebench.topology.trace import numbered_lines

_FORM = "write: TIME NODE down, or TIME NODE up"


class Away(NamedTuple):
    """A node is away from a time to another, s from the start of the run; None: for good."""

    node: str
    from_s: float
    to_s: float | None


def read_availability(path: str | Path) -> list[Away]:
    """The absences that a text file tells of, in the order in which they begin.

    A line is `TIME NODE down` or `TIME NODE up`, in s from the start of the run, in order; all nodes are up at first.
    Blank lines and lines that begin with # are skipped. Raises TopologyError with the file and the line.
    """
    path = Path(path)
    away: dict[str, float] = {}
    found: list[Away] = []
    last_s = 0.0
    for number, line in numbered_lines(path, _FORM):
        where = f"{path}: line {number}"
        words = line.split()
        if len(words) != 3 or words[2] not in ("up", "down"):
            raise TopologyError([f"{where}: '{line[:60]}' is none ({_FORM})"])
        at_s, node, state = _time(where, words[0]), words[1], words[2]
        if at_s < last_s:
            raise TopologyError([f"{where}: {at_s:g} comes after {last_s:g} (sort the times)"])
        last_s = at_s
        if (state == "down") == (node in away):
            raise TopologyError([f"{where}: '{node}' is {state} already"])
        if state == "down":
            away[node] = at_s
        elif at_s > away[node]:
            found.append(Away(node, away.pop(node), at_s))
        else:
            raise TopologyError([f"{where}: '{node}' is down and up at {at_s:g} s"])
    found += [Away(node, from_s, None) for node, from_s in away.items()]
    if not found:
        raise TopologyError([f"{path}: nobody is ever down in it ({_FORM})"])
    return sorted(found, key=lambda each: each.from_s)


def _time(where: str, text: str) -> float:
    try:
        at_s = float(text)
    except ValueError as error:
        raise TopologyError([f"{where}: '{text[:40]}' is no number (write a time in s)"]) from error
    if not math.isfinite(at_s) or at_s < 0:
        raise TopologyError([f"{where}: {text} is not a time ≥ 0"])
    return at_s
