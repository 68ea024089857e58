"""What comes of a workload that an edge moves: what was in flight, what it took at the new place, what was lost."""

from __future__ import annotations

from typing import Any

from edgebench.core.device import Moved
from edgebench.core.replacing import Replaced
from edgebench.core.samples import SampleRecord
from edgebench.results.figures import Result
from edgebench.topology.deployment import OnlinePlan
from tests.results import factory
from tests.results.factory import at_ms, lost, row

AWAY = Replaced("death-risk", "ward-0", "cloud", "edge", at_ms(1_000), 100.0, 30.0, 4, 20.0)
BACK = Replaced("death-risk", "ward-0", "edge", "cloud", at_ms(1_800), 50.0, 20.0, 3, 10.0)


def result(rows: list[SampleRecord], moves: tuple[Moved, ...] = ()) -> Result:
    online = OnlinePlan("cloud", gain=0.2, hold_s=1.0)
    deployment = factory.deployment(factory.workload(online=online, place="cloud, online"))
    observations = factory.observations(replacements=[AWAY, BACK], moves=list(moves))
    return factory.result(deployment, observations, rows)


def by_cloud(seq: int, came_ms: float, left_ms: float) -> SampleRecord:
    """The edge had it from then on, and its decision until then."""
    at = {"forward_in": came_ms, "forward_out": came_ms, "return_in": left_ms, "return_out": left_ms}
    at |= dict.fromkeys(("received", "ready", "started", "finished", "replied"), came_ms + 1)
    return stamped(seq, "cloud", came_ms, at | {"arrived": left_ms + 1})


def by_edge(seq: int, came_ms: float, left_ms: float) -> SampleRecord:
    came, left = ("received", "ready", "started"), ("finished", "replied", "arrived")
    return stamped(seq, "ward-0", came_ms, dict.fromkeys(came, came_ms) | dict.fromkeys(left, left_ms))


def stamped(seq: int, decider: str, came_ms: float, at: dict[str, float]) -> SampleRecord:
    stamps: dict[str, Any] = {f"{name}_ns": at_ms(each) for name, each in at.items()}
    return row(seq, came_ms - 1, decider=decider, **stamps)


ROWS = [
    by_cloud(0, 800, 990),  # done before the move
    by_cloud(1, 900, 1_000),  # on its way back
    by_cloud(2, 999, 1_300),
    by_edge(3, 1_000, 1_030),
    by_edge(4, 1_100, 1_150),
    lost(5, 950),
    lost(6, 1_001),  # due after the move
    by_edge(7, 1_790, 1_850),  # in flight at the move back
    by_cloud(8, 1_800, 1_821),
    by_cloud(9, 2_900, 2_999),  # later than is looked at
]


def test_what_the_old_place_still_had_is_counted_and_what_the_new_one_took_is_told() -> None:
    away, back = result(ROWS).replacements
    assert (away.left, away.to, away.at_s, away.measured_ms, away.predicted_ms) == ("cloud", "edge", 1.0, 100.0, 30.0)
    assert (away.in_flight, away.lost, away.looks, away.rate_hz) == (2, 1, 4, 20.0)
    # Until the next move: 30, 50 and 60 ms.
    assert (away.after_samples, away.after_ms) == (3, 46.666667)
    assert (back.in_flight, back.after_samples, back.after_ms) == (1, 1, 21.0)


def test_decisions_are_told_by_tier() -> None:
    assert result(ROWS).workloads["death-risk"].decided_by == {"edge": 3, "cloud": 5}
    plain = factory.result(factory.deployment(), factory.observations(), [row(0, 0)])
    assert plain.workloads["death-risk"].decided_by is None


def test_a_device_that_was_elsewhere_by_then_is_none_of_its() -> None:
    gone = Moved("bed-0", "ward-0", "ward-1", at_ms(500), at_ms(510), 0)
    away, _ = result(ROWS, (gone,)).replacements
    assert (away.in_flight, away.lost, away.after_ms) == (0, 0, None)
