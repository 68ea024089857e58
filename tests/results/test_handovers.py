"""Hand-overs: from leaving a site to the first decision that came at the next."""

from __future__ import annotations

from typing import Any

import msgspec

from edgebench.core.device import Moved
from edgebench.core.samples import SampleRecord
from edgebench.results.figures import HandoverFigures
from tests.results import factory
from tests.results.factory import at_ms, row

AWAY = Moved("bed-0", "ward-0", "ward-1", at_ms(1_000), at_ms(1_080), 2)
BACK = Moved("bed-0", "ward-1", "ward-0", at_ms(3_000), None, 1)


def figures(rows: list[SampleRecord], decider: str = "ward-0") -> list[HandoverFigures]:
    deployment = factory.deployment(factory.workload(deciders={"bed-0": decider}))
    observations = msgspec.structs.replace(factory.observations(), moves=[AWAY, BACK])
    return factory.result(deployment, observations, rows).handovers


def came(seq: int, due_ms: float, arrived_ms: float | None) -> SampleRecord:
    changes: dict[str, Any] = {"arrived_ns": None if arrived_ms is None else at_ms(arrived_ms)}
    return row(seq, due_ms, **changes)


ROWS = [came(0, 980, 1_150), came(1, 1_020, 1_140), came(2, 1_500, 1_510), came(3, 2_900, None), came(4, 3_100, None)]


def test_the_first_decision_counts_from_leaving_and_comes_at_the_new_site() -> None:
    there, _ = figures([came(9, 990, 1_020), *ROWS])
    assert (there.connect_ms, there.first_decision_ms, there.resent, there.lost) == (80, 140, 2, 0)


def test_a_move_that_was_never_finished_has_no_times_and_its_losses() -> None:
    _, back = figures(ROWS)
    assert (back.connect_ms, back.first_decision_ms, back.lost) == (None, None, 2)


def test_decisions_after_the_next_move_are_none_of_this_one() -> None:
    there, _ = figures([came(0, 980, 3_400)])
    assert there.first_decision_ms is None


def test_what_a_device_decides_itself_says_nothing_of_a_move() -> None:
    there, back = figures(ROWS, decider="bed-0")
    assert (there.first_decision_ms, there.lost, back.lost) == (None, 0, 0)
