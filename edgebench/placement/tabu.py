"""Neighbourhood search with a tabu list: one job at a time is moved to another layer, or in the line of its own.

It starts from the greedy schedule. Each step takes, of the moves of a random order of jobs, the first that makes the
schedule better, and where none does, the one that makes it least worse. A job that was moved is tabu for some steps,
unless its move leads to a better schedule than any so far (aspiration).
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import numpy as np

from edgebench.placement.greedy import greedy
from edgebench.placement.line import Line, Task
from edgebench.placement.model import Decision, Orders, Problem
from edgebench.placement.schedule import value_s

_PATIENCE = 40
"""So many steps, and one a job, without a better schedule end the search."""
_WORK = 1_000_000
"""Jobs in lines that are gone through at most, so that a trace of thousands ends in seconds, whatever the machine."""
_LEAST = 1e-9
"""A change smaller than this share of the value is none: it may be rounding."""


class _Move(NamedTuple):
    """A job's move. change: of the cost."""

    change: float
    job: int
    node: str
    place: int


class _Search:
    """The lines as they stand, and where each job is."""

    def __init__(self, problem: Problem, orders: Orders) -> None:
        self._options = [
            [
                (option.node, Task(index, job.release_s + option.transmission_s, option.processing_s, job.priority))
                for option in job.options
            ]
            for index, job in enumerate(problem.jobs)
        ]
        at = [dict(options) for options in self._options]
        self._lines = {node: Line(()) for options in self._options for node, _ in options}
        self._lines |= {node: Line([at[index][node] for index in order]) for node, order in orders.items()}
        self._node = {index: node for node, order in orders.items() for index in order}
        self.work = 0
        """Jobs that lines were gone through for."""

    @property
    def cost(self) -> float:
        """The weighted sum of the ends."""
        return sum(line.cost for line in self._lines.values())

    def orders(self) -> Orders:
        """As a policy decides them."""
        return {node: tuple(task.job for task in line.tasks) for node, line in self._lines.items() if len(line)}

    def best_move(self, index: int) -> _Move | None:
        """The best of a job's moves, whichever way it changes the cost; None where it cannot be moved."""
        node = self._node[index]
        line = self._lines[node]
        place = self._place(index)
        rest = line.without(place)
        self.work += len(line)
        gain = rest.cost - line.cost
        best: _Move | None = None
        for other, task in self._options[index]:
            target = rest if other == node else self._lines[other]
            for at in target.places(task):
                if other == node and at == place:
                    continue
                change = gain + target.added(task, at)
                if best is None or change < best.change:
                    best = _Move(change, index, other, at)
        return best

    def make(self, move: _Move) -> None:
        """Move a job."""
        node = self._node[move.job]
        self._lines[node] = self._lines[node].without(self._place(move.job))
        task = next(task for other, task in self._options[move.job] if other == move.node)
        self._lines[move.node] = self._lines[move.node].with_task(task, move.place)
        self._node[move.job] = move.node

    def _place(self, index: int) -> int:
        tasks = self._lines[self._node[index]].tasks
        return next(place for place, task in enumerate(tasks) if task.job == index)


def tabu(problem: Problem, rng: np.random.Generator) -> Decision:
    """See the module; never worse than its start."""
    start = greedy(problem, rng).orders
    search = _Search(problem, start)
    cost = best_cost = search.cost
    best, number = start, len(problem.jobs)
    least = _LEAST * max(cost, 1e-12)
    free_at = [0] * number
    step = since = 0
    while since < _PATIENCE + number and search.work < _WORK:
        step += 1
        since += 1
        chosen: _Move | None = None
        for index in rng.permutation(number).tolist():
            move = search.best_move(index)
            if move is None or (free_at[index] > step and cost + move.change >= best_cost - least):
                continue
            if chosen is None or move.change < chosen.change:
                chosen = move
            if chosen.change < -least or search.work >= _WORK:
                break
        if chosen is None:
            continue  # all are tabu, or none can be moved
        search.make(chosen)
        cost += chosen.change
        free_at[chosen.job] = step + 1 + isqrt(number) + int(rng.integers(isqrt(number) + 1))
        if cost < best_cost - least:
            best_cost, best, since = cost, search.orders(), 0
    # Costs were added up along the way; what counts is what the schedules take.
    return Decision(min(start, best, key=lambda orders: value_s(problem, orders)))
