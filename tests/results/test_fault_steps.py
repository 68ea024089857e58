"""When it was a fault's doing that a node was late."""

from __future__ import annotations

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import Faulted, FaultStep
from edgebench.results.fault_steps import Standstills


def step(kind: FaultStep, at_s: float, *, by_s: float = 0.0) -> Faulted:
    part = None if kind == "step" else "bed"
    return Faulted(None, kind, round(at_s * NS_PER_S), part, ("bed",), 0, round(by_s * NS_PER_S))


def seconds(*steps: Faulted) -> list[int]:
    """In which of ten the node stood still."""
    standstills = Standstills(steps)
    return [second for second in range(10) if standstills.during("bed", second)]


def test_a_node_stands_still_until_it_goes_on_and_has_caught_up() -> None:
    assert seconds(step("pause", 1.5), step("resume", 3.5)) == [1, 2, 3, 4]


def test_a_disk_that_is_filled_meanwhile_ends_no_standstill() -> None:
    steps = step("pause", 1.5), step("fill", 2.0), step("free", 2.5), step("resume", 3.5)
    assert seconds(*steps) == [1, 2, 3, 4]


def test_who_is_killed_stands_still_no_more() -> None:
    assert seconds(step("pause", 1.5), step("kill", 2.5)) == [1, 2, 3]


def test_around_a_step_of_its_clock_a_node_is_late_by_as_much() -> None:
    # From 2.7 to 5.7 s: the step and a second in which it catches up, on either side.
    assert seconds(step("step", 4.2, by_s=0.5)) == [2, 3, 4, 5]
