"""What people are shown of a profile."""

from __future__ import annotations

import msgspec

from edgebench.experiments.profiling.tables import lines_of
from edgebench.topology.profiles import TrainingCost
from tests.profiles import inference, ms_times, profile


def test_what_a_model_and_a_learner_take_to_begin_with_and_of_memory_stands_beside_their_times() -> None:
    model = msgspec.structs.replace(inference(1, 20.0), first_ms=123.44, memory_mb=61.7)
    learner = TrainingCost("icu-death", "light", "litert", 32, ms_times(30.0), ms_times(10.0), memory_mb=1_075.2)
    _, _, head, *rows = lines_of(profile(inference=(model, inference(8, 40.0)), training=(learner,)))
    assert head.split() == ["ms", "batch", "p50", "p99", "mean", "first", "n", "MB"]
    ends = [row[len("icu-death, light, fake, float32".ljust(44)) :].split() for row in rows[:3]]
    assert ends == [
        ["1", "20.000", "20.000", "20.000", "123.4", "1", "62"],
        ["8", "40.000", "40.000", "40.000", "1"],
        ["32", "30.000", "30.000", "30.000", "1", "1,075"],
    ]
