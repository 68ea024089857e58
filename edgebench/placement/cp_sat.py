"""The optimum, by OR-tools' CP-SAT: with a bound that holds, proven or not. `python -m edgebench.placement.cp_sat`.

It has a process of its own: in one with PyTorch or pyarrow, whose libraries have symbols of the same names, it crashes.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from typing import Any

import msgspec
from ortools.sat.python import cp_model

from edgebench.placement.model import Decision, JobOptions, Option, Orders, Problem
from edgebench.placement.schedule import schedule, value_s

_MOST_TICKS = 2**40
"""More than any weighted sum of ends has, in the solver's whole numbers: so fine that rounding does not show."""


class Question(msgspec.Struct, frozen=True):
    """start: where the solver begins. limit_s: how long it may take."""

    problem: Problem
    start: dict[str, tuple[int, ...]]
    seed: int
    limit_s: float


def main() -> int:
    """Answer each line on standard input, a `Question`, by a line with a `Decision`, until it ends."""
    for line in sys.stdin.buffer:
        answer = solved(msgspec.json.decode(line, type=Question))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
    return 0


def solved(question: Question) -> Decision:
    """The schedule with the smallest weighted sum of response times, or the best that is found in time: it is never
    worse than `start`.

    All times are rounded down to the solver's ticks, so no schedule has a smaller sum than the bound.
    """
    problem, start = question.problem, question.start
    tick_s = max(_span(problem) * sum(job.priority for job in problem.jobs) / _MOST_TICKS, 1e-15)
    model = cp_model.CpModel()
    begins = _formulate(model, _in_ticks(problem, tick_s), start)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = question.limit_s
    # One worker: the same seed finds the same schedule, unless the limit comes first.
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = question.seed
    status = solver.solve(model)
    released_s = sum(job.priority * job.release_s for job in problem.jobs)
    bound_s = max(_least_s(problem), solver.best_objective_bound * tick_s - released_s)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Decision(start, bound_s)
    placed: dict[str, list[tuple[int, float, int]]] = defaultdict(list)
    for (index, node), (here, begin) in begins.items():
        if solver.boolean_value(here):
            # What takes less than a tick begins with the job that it goes before.
            placed[node].append((solver.value(begin), problem.jobs[index].at(node).processing_s, index))
    found = {node: tuple(index for *_, index in sorted(order)) for node, order in placed.items()}
    return Decision(min(start, found, key=lambda orders: value_s(problem, orders)), bound_s)


def _formulate(model: Any, ticked: Problem, start: Orders) -> dict[tuple[int, str], tuple[Any, Any]]:
    """Write the problem, in whole ticks, into an empty CP-SAT model, with `start` as a hint.

    Gives, by job and node, the variables of whether it is placed there, and when it begins.
    """
    horizon = math.ceil(_span(ticked))
    begins: dict[tuple[int, str], tuple[Any, Any]] = {}
    served: dict[str, list[Any]] = defaultdict(list)
    ends: list[Any] = []
    for index, (job, hint) in enumerate(zip(ticked.jobs, schedule(ticked, start), strict=True)):
        end = model.new_int_var(0, horizon, f"end {index}")
        model.add_hint(end, int(hint.end_s))
        for option in job.options:
            arrival, processing = int(option.transmission_s), int(option.processing_s)
            name = f"{index} at {option.node}"
            here = model.new_bool_var(name)
            begin = model.new_int_var(arrival, horizon - processing, f"begin of {name}")
            hinted = hint.option.node == option.node
            model.add_hint(here, int(hinted))
            model.add_hint(begin, int(hint.start_s) if hinted else arrival)
            model.add(end == begin + processing).only_enforce_if(here)
            served[option.node].append(model.new_optional_fixed_size_interval_var(begin, processing, here, name))
            begins[index, option.node] = here, begin
        model.add_exactly_one([begins[index, option.node][0] for option in job.options])
        ends.append(end)
    for intervals in served.values():
        model.add_no_overlap(intervals)
    model.minimize(sum(job.priority * end for job, end in zip(ticked.jobs, ends, strict=True)))
    return begins


def _in_ticks(problem: Problem, tick_s: float) -> Problem:
    """The problem in whole ticks, rounded down; the release is a part of the transmission."""

    def ticked(job: JobOptions, option: Option) -> Option:
        arrival = math.floor((job.release_s + option.transmission_s) / tick_s)
        return Option(option.tier, option.node, arrival, math.floor(option.processing_s / tick_s))

    return Problem(
        tuple(JobOptions(0, job.priority, tuple(ticked(job, option) for option in job.options)) for job in problem.jobs)
    )


def _span(problem: Problem) -> float:
    """When all is done at the latest in any schedule without needless waiting."""
    last = max(job.release_s + option.transmission_s for job in problem.jobs for option in job.options)
    return last + sum(max(option.processing_s for option in job.options) for job in problem.jobs)


def _least_s(problem: Problem) -> float:
    """The weighted sum of response times if no job ever waited."""
    return sum(
        job.priority * min(option.transmission_s + option.processing_s for option in job.options)
        for job in problem.jobs
    )


if __name__ == "__main__":
    sys.exit(main())
