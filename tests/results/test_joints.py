"""Joint decisions: due with their frame, there with their last part."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgebench.core.samples import SampleRecord
from edgebench.results.sample_figures import JointFigures, PathFigures
from edgebench.tasks.lanes.decoding import ANCHOR_OUTPUTS
from edgebench.tasks.lanes.geometry import ROWS
from edgebench.topology.fields import BoundMs
from edgebench.topology.model import After, Joint
from tests.results import factory
from tests.results.factory import at_ms, row

SIGNS = factory.workload(name="signs")
CHECK = factory.workload(name="check", load=After(workloads=("signs",)))
LANES = factory.workload(name="lanes", paced_by="signs")


def took(workload: str, seq: int, due_ms: float, arrived_ms: float | None) -> SampleRecord:
    """A sample that was due and decided at these times."""
    changes: dict[str, Any] = {"workload": workload, "arrived_ns": None if arrived_ms is None else at_ms(arrived_ms)}
    return row(seq, due_ms, **changes)


def figures(rows: list[SampleRecord], deadline_ms: BoundMs | None = None) -> JointFigures:
    deployment = msgspec.structs.replace(
        factory.deployment(SIGNS, CHECK, LANES),
        joint={"driving": Joint(of=("check", "lanes"), deadline_ms=deadline_ms)},
    )
    return factory.folded(deployment, factory.observations(), *rows).joints["driving"].figures()


# Frame 0: signs 10 ms, then check 20 ms, beside lanes 25 ms. Frame 1: signs 10, check 10, lanes 40.
FRAMES = [
    took("signs", 0, 0, 10), took("check", 0, 10, 30), took("lanes", 0, 0, 25),
    took("signs", 1, 100, 110), took("check", 1, 110, 120), took("lanes", 1, 100, 140),
]  # fmt: skip


def test_a_frame_is_decided_with_its_last_part_from_the_time_it_was_due() -> None:
    found = figures(FRAMES)
    assert (found.frames, found.decided, found.late) == (2, 2, 0)
    assert found.latency_ms is not None
    assert (found.latency_ms.mean, found.latency_ms.max) == (35, 40)


def test_the_parts_added_up_are_not_the_latency() -> None:
    # signs 10, check (20 + 10) / 2, lanes (25 + 40) / 2.
    found = figures(FRAMES)
    assert found.work_ms == {"check": 15, "lanes": 32.5, "signs": 10}
    assert found.parts_ms == 10 + 15 + 32.5


def test_each_way_has_the_frames_that_it_decided_and_their_mean() -> None:
    assert figures(FRAMES).paths == [
        PathFigures(path=["signs", "check"], critical=1, mean_ms=30),
        PathFigures(path=["lanes"], critical=1, mean_ms=40),
    ]


def test_a_frame_of_which_a_part_is_missing_is_not_decided() -> None:
    # Signs lost, so that check never came to be; and lanes lost.
    rows = [took("signs", 2, 200, None), took("lanes", 2, 200, 220)]
    rows += [took("signs", 3, 300, 310), took("check", 3, 310, 320), took("lanes", 3, 300, None)]
    found = figures([*FRAMES, *rows])
    assert (found.frames, found.decided) == (4, 2)
    assert sum(path.critical for path in found.paths) == 2
    assert found.latency_ms is not None
    assert found.latency_ms.max == 40


def test_the_deadline_of_a_joint_decision_is_its_own() -> None:
    assert figures(FRAMES, deadline_ms=35).late == 1


def test_frames_of_two_devices_are_two_frames() -> None:
    others = [msgspec.structs.replace(each, node="ward-0") for each in FRAMES]
    assert figures([*FRAMES, *others]).frames == 2 * 2


def test_without_a_frame_there_is_nothing_to_tell() -> None:
    found = figures([])
    assert (found.frames, found.decided, found.latency_ms, found.parts_ms, found.right) == (0, 0, None, None, None)


BOTH = factory.workload(name="both", load=After(workloads=("signs", "lanes")))


def test_a_workload_that_waits_for_two_is_reached_by_the_later_of_them() -> None:
    deployment = msgspec.structs.replace(factory.deployment(SIGNS, LANES, BOTH), joint={"j": Joint(of=("both",))})
    rows = [
        took("signs", 0, 0, 10), took("lanes", 0, 0, 25), took("both", 0, 25, 31),
        took("signs", 1, 100, 150), took("lanes", 1, 100, 140), took("both", 1, 150, 158),
    ]  # fmt: skip
    assert factory.folded(deployment, factory.observations(), *rows).joints["j"].figures().paths == [
        PathFigures(path=["signs", "both"], critical=1, mean_ms=58),
        PathFigures(path=["lanes", "both"], critical=1, mean_ms=31),
    ]


def judged(labels: list[float], outputs: list[list[float]]) -> JointFigures:
    """Of frames of `sign-recognition`, of which each has a label and outputs by class."""
    plan = factory.workload(name="signs", task="sign-recognition")
    deployment = msgspec.structs.replace(factory.deployment(plan), joint={"j": Joint(of=("signs",))})
    rows = [
        row(seq, 100.0 * seq, workload="signs", label=[label], output=output)
        for seq, (label, output) in enumerate(zip(labels, outputs, strict=True))
    ]
    observations = factory.observations(models=[])
    return factory.folded(deployment, observations, *rows).joints["j"].figures()


def test_a_frame_is_right_if_all_its_parts_are() -> None:
    found = judged([1, 0, 1], [[0.1, 0.9], [0.8, 0.2], [0.7, 0.3]])
    assert (found.decided, found.judged) == (3, 3)
    assert found.right == pytest.approx(2 / 3, abs=1e-6)


def test_a_frame_whose_label_does_not_tell_is_not_judged() -> None:
    plan = factory.workload(name="lanes", task="lane-detection")
    deployment = msgspec.structs.replace(factory.deployment(plan), joint={"j": Joint(of=("lanes",))})
    lane, unlabelled = [640.0] * len(ROWS), [-2.0] * len(ROWS)
    rows = [
        row(seq, 100.0 * seq, workload="lanes", label=label, output=[0.0] * ANCHOR_OUTPUTS)
        for seq, label in enumerate((lane, unlabelled, lane))
    ]
    found = factory.folded(deployment, factory.observations(models=[]), *rows).joints["j"].figures()
    assert (found.decided, found.judged) == (3, 2)
    assert found.right == 0  # nothing was found


def test_a_run_that_ended_before_any_lane_was_looked_for_has_no_share_of_right_frames() -> None:
    plan = factory.workload(name="lanes", task="lane-detection")
    deployment = msgspec.structs.replace(factory.deployment(plan), joint={"j": Joint(of=("lanes",))})
    found = factory.folded(deployment, factory.observations(models=[])).joints["j"].figures()
    assert (found.frames, found.right) == (0, None)


def test_frames_without_a_label_leave_the_others_judged() -> None:
    plan = factory.workload(name="signs", task="sign-recognition")
    deployment = msgspec.structs.replace(factory.deployment(plan), joint={"j": Joint(of=("signs",))})
    rows = [
        row(seq, 100.0 * seq, workload="signs", label=label, output=[0.1, 0.9])
        for seq, label in enumerate(([1.0], None, [0.0]))
    ]
    found = factory.folded(deployment, factory.observations(models=[]), *rows).joints["j"].figures()
    assert (found.decided, found.judged, found.right) == (3, 2, 0.5)
