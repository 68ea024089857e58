"""The greedy policy."""

from __future__ import annotations

import numpy as np

from edgebench.placement.model import Decision, Problem
from edgebench.placement.schedule import by_priority


def greedy(problem: Problem, _: np.random.Generator) -> Decision:
    """Each job, by release and priority, is placed where it would end first behind all that were placed before it."""
    free_s: dict[str, float] = {}
    chosen = [job.options[0] for job in problem.jobs]
    for index in problem.by_release:
        job = problem.jobs[index]
        ends = [
            max(free_s.get(option.node, 0.0), job.release_s + option.transmission_s) + option.processing_s
            for option in job.options
        ]
        best = min(range(len(ends)), key=ends.__getitem__)
        chosen[index] = job.options[best]
        free_s[chosen[index].node] = ends[best]
    return Decision(by_priority(problem, chosen))
