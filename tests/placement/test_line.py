"""What one more job adds to a machine's line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebench.placement.line import Line, Task
from tests.placement.problems import QUARTERS, QUICK

TASKS = st.lists(st.builds(Task, st.just(0), QUARTERS, QUARTERS, st.integers(1, 5)), max_size=8)


def test_a_job_that_is_put_in_first_delays_those_that_are_in_its_way() -> None:
    line = Line([Task(0, 0.0, 2.0, 1), Task(1, 1.0, 2.0, 2), Task(2, 10.0, 1.0, 4)])
    assert line.cost == 1 * 2 + 2 * 4 + 4 * 11
    # It ends at 3; the first then ends at 5, not 2, and the second at 7, not 4; the third comes after a pause.
    assert line.added(Task(3, 0.0, 3.0, 5), 0) == 5 * 3 + 1 * 3 + 2 * 3


@QUICK
@given(TASKS, st.builds(Task, st.just(9), QUARTERS, QUARTERS, st.integers(1, 5)), st.data())
def test_what_a_job_adds_is_what_the_line_then_costs_more(tasks: list[Task], task: Task, data: st.DataObject) -> None:
    line = Line(tasks)
    place = data.draw(st.integers(0, len(tasks)))
    longer = line.with_task(task, place)
    assert line.added(task, place) == pytest.approx(longer.cost - line.cost)
    assert longer.without(place).cost == pytest.approx(line.cost)


def test_a_long_line_is_tried_where_a_job_belongs() -> None:
    line = Line([Task(index, 0.0, 1.0, 40 - index) for index in range(40)])
    job = Task(40, 5.0, 1.0, 20)
    best = min(range(41), key=lambda place: line.added(job, place))
    assert best in line.places(job)
