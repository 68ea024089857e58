"""Machines serve one job at a time, and none before its data are there."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given

from edgebench.placement.model import JobOptions, Option, Problem
from edgebench.placement.policies import POLICIES
from edgebench.placement.schedule import by_priority, schedule, weighted_response_s
from edgebench.seeds import rng_for
from tests.placement.problems import QUICK, problems

ANYWHERE = ("best-layer", "greedy", "tabu", "random")


def edge_job(release_s: float, priority: int, transmission_s: float, processing_s: float) -> JobOptions:
    return JobOptions(release_s, priority, (Option("edge", "ward", transmission_s, processing_s),))


def test_of_the_jobs_that_wait_the_one_of_the_highest_priority_is_next() -> None:
    problem = Problem((edge_job(0, 1, 1, 4), edge_job(1, 1, 1, 2), edge_job(2, 3, 1, 1), edge_job(20, 1, 0, 1)))
    orders = by_priority(problem, [job.options[0] for job in problem.jobs])
    assert orders == {"ward": (0, 2, 1, 3)}
    slots = schedule(problem, orders)
    assert [(slot.start_s, slot.end_s) for slot in slots] == [(1, 5), (6, 8), (5, 6), (20, 21)]
    assert weighted_response_s(problem, slots) == 1 * 5 + 1 * 7 + 3 * 4 + 1 * 1


def test_a_machine_does_not_wait_for_an_urgent_job_that_is_yet_to_come() -> None:
    problem = Problem((edge_job(0, 1, 0, 10), edge_job(1, 9, 0, 1)))
    assert by_priority(problem, [job.options[0] for job in problem.jobs]) == {"ward": (0, 1)}


@pytest.mark.parametrize("policy", ANYWHERE)
@QUICK
@given(problems())
def test_a_schedule_is_feasible(policy: str, problem: Problem) -> None:
    orders = POLICIES[policy](1.0)(problem, rng_for(0, policy)).orders
    assert sorted(index for order in orders.values() for index in order) == list(range(len(problem.jobs)))
    slots = schedule(problem, orders)
    for job, slot in zip(problem.jobs, slots, strict=True):
        assert slot.option in job.options
        assert slot.start_s >= job.release_s + slot.option.transmission_s
    for node, order in orders.items():
        assert all(slots[index].option.node == node for index in order)
        assert all(slots[after].start_s >= slots[before].end_s for before, after in pairwise(order))
