"""From decisions to times: every machine serves one job after another, and none before its data have arrived."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench.placement.model import Option, Orders, Problem


@dataclass(frozen=True, slots=True)
class Slot:
    """When a job is served. response_s: from its release to its end."""

    option: Option
    release_s: float
    start_s: float

    @property
    def arrival_s(self) -> float:
        """When its data are all there."""
        return self.release_s + self.option.transmission_s

    @property
    def end_s(self) -> float:
        """When it is done."""
        return self.start_s + self.option.processing_s

    @property
    def response_s(self) -> float:
        """From its release to its end."""
        return self.end_s - self.release_s


def schedule(problem: Problem, orders: Orders) -> tuple[Slot, ...]:
    """When each job is served if machines serve in these orders, each job as early as can be; by index."""
    slots: dict[int, Slot] = {}
    for node, order in orders.items():
        free_s = 0.0
        for index in order:
            job = problem.jobs[index]
            option = job.at(node)
            start_s = max(free_s, job.release_s + option.transmission_s)
            slots[index] = Slot(option, job.release_s, start_s)
            free_s = start_s + option.processing_s
    return tuple(slots[index] for index in range(len(problem.jobs)))


def weighted_response_s(problem: Problem, slots: Sequence[Slot]) -> float:
    """What is to be small: the sum of the response times, each times the job's priority."""
    return sum(job.priority * slot.response_s for job, slot in zip(problem.jobs, slots, strict=True))


def value_s(problem: Problem, orders: Orders) -> float:
    """The weighted sum of response times if machines serve in these orders."""
    return weighted_response_s(problem, schedule(problem, orders))


def by_priority(problem: Problem, options: Sequence[Option]) -> Orders:
    """The orders in which machines serve jobs that are placed so, by index.

    Whenever one is free: the job of the highest priority of those that have arrived, of several the first to arrive.
    """
    placed: dict[str, list[int]] = {}
    for index, option in enumerate(options):
        placed.setdefault(option.node, []).append(index)
    return {node: _served(problem, indices, options) for node, indices in placed.items()}


def _served(problem: Problem, indices: list[int], options: Sequence[Option]) -> tuple[int, ...]:
    arrivals: Mapping[int, float] = {
        index: problem.jobs[index].release_s + options[index].transmission_s for index in indices
    }
    coming = sorted(indices, key=lambda index: (arrivals[index], index), reverse=True)
    waiting: list[tuple[int, float, int]] = []
    order: list[int] = []
    free_s = 0.0
    while coming or waiting:
        if not waiting:
            free_s = max(free_s, arrivals[coming[-1]])
        while coming and arrivals[coming[-1]] <= free_s:
            index = coming.pop()
            heapq.heappush(waiting, (-problem.jobs[index].priority, arrivals[index], index))
        index = heapq.heappop(waiting)[-1]
        order.append(index)
        free_s += options[index].processing_s
    return tuple(order)
