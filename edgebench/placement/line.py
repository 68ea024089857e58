"""A machine's jobs in their order, and what one more would add to their weighted ends, wherever it is put in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_ALL_PLACES = 24
"""A line that is no longer is tried at each place; a longer one at those where a job is likely to belong."""


class Task(NamedTuple):
    """A job on one machine: when its data are there, what it takes, and its weight."""

    job: int
    arrival_s: float
    processing_s: float
    weight: int


class Line:
    """Jobs in the order in which a machine serves them.

    The i-th ends at end_i = max(end_i-1, arrival_i) + processing_i. With the work w_i done until then, its slack
    end_i - w_i never falls along the line. A job that is put in at place k and ends at e makes the slack of each later
    one at least e - w_k-1: those with less are delayed by the difference, and they stand together, from k on. So sums
    along the line tell what it adds in the time of a binary search.
    """

    __slots__ = ("_delayed", "_ends", "_slacks", "_weights", "_works", "cost", "tasks")

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        ends, works, slacks, weights, delayed = [0.0], [0.0], [], [0], [0.0]
        end = work = held = cost = 0.0
        weight_sum = 0
        for _, arrival, processing, weight in self.tasks:
            end = max(end, arrival) + processing
            work += processing
            slack = end - work
            cost += weight * end
            weight_sum += weight
            held += weight * slack
            ends.append(end)
            works.append(work)
            slacks.append(slack)
            weights.append(weight_sum)
            delayed.append(held)
        self._ends, self._works, self._slacks = ends, works, slacks
        self._weights, self._delayed = weights, delayed
        self.cost = cost
        """The sum of the ends, each times the job's weight."""

    def __len__(self) -> int:
        return len(self.tasks)

    def added(self, task: Task, place: int) -> float:
        """What the cost grows by if a job is put in before the one at `place`, or at the end."""
        end = max(self._ends[place], task.arrival_s) + task.processing_s
        slack = end - self._works[place]
        until = bisect_left(self._slacks, slack, place)
        delays = slack * (self._weights[until] - self._weights[place]) - (self._delayed[until] - self._delayed[place])
        return task.weight * end + delays

    def with_task(self, task: Task, place: int) -> Line:
        """With a job put in."""
        return Line((*self.tasks[:place], task, *self.tasks[place:]))

    def without(self, place: int) -> Line:
        """Without the job at a place."""
        return Line(self.tasks[:place] + self.tasks[place + 1 :])

    def places(self, task: Task) -> Iterator[int]:
        """Where a job may be put in to be tried."""
        length = len(self.tasks)
        if length <= _ALL_PLACES:
            yield from range(length + 1)
            return
        # Before `first` the machine would wait for its data. From there on those go first that matter more for what
        # they take.
        first = min(bisect_left(self._ends, task.arrival_s), length)
        found = first
        while found < length:
            other = self.tasks[found]
            if other.weight * task.processing_s < task.weight * other.processing_s:
                break
            found += 1
        near = (first - 1, first, found - 1, found, found + 1, length)
        yield from sorted({place for place in near if 0 <= place <= length})
