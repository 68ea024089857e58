"""What a scenario is for, in its tables and in the terminal."""

from __future__ import annotations

import msgspec

from edgebench.report.trade_offs import joint_table, replacement_table, summary_lines
from edgebench.results.figures import HandoverFigures, ReplacementFigures, Result
from edgebench.results.sample_figures import CascadeFigures, JointFigures, Latency
from tests.results import factory

DRIVING = JointFigures(
    of=["check", "lanes"],
    frames=12,
    decided=11,
    late=0,
    deadline_ms=None,
    latency_ms=Latency(mean=35, p50=34, p90=39, p99=40, max=40),
    work_ms={"check": 15, "lanes": 32.5, "signs": 10},
    parts_ms=57.5,
    paths=[],
    judged=10,
    right=0.9,
)
CASCADE = CascadeFigures(
    forwarded=3,
    share=0.25,
    kept_bytes=90_000,
    edge_latency_ms=None,
    cloud_latency_ms=None,
    threshold=0.8,
    target=0.97,
    expected_share=0.3,
    quality=0.96,
    light_quality=0.93,
    heavy_quality=0.98,
)


def result(
    joint: JointFigures | None = None, cascade: CascadeFigures | None = None, moves: tuple[HandoverFigures, ...] = ()
) -> Result:
    """Of a run with these figures, whose workload is called death-risk."""
    found = factory.result(factory.deployment(), factory.observations(), [factory.row(0, 0)])
    death_risk = msgspec.structs.replace(found.workloads["death-risk"], cascade=cascade)
    return msgspec.structs.replace(
        found,
        workloads={"death-risk": death_risk},
        joint={} if joint is None else {"driving": joint},
        handovers=list(moves),
    )


def test_without_a_scenario_there_is_nothing_to_say() -> None:
    assert summary_lines(result()) == []


def test_what_is_placed_online_says_who_decided_and_how_often_it_moved() -> None:
    found = result()
    risk = msgspec.structs.replace(found.workloads["death-risk"], decided_by={"edge": 1_200, "cloud": 34})
    moved = ReplacementFigures("death-risk", "ward-0", "cloud", "edge", 3.21, 90.0, 30.04, None, 0, 8, 0, 5, 20.0)
    moved_on = msgspec.structs.replace(found, workloads={"death-risk": risk}, replacements=[moved])
    assert summary_lines(moved_on) == ["death-risk: 1,200 by the edge, 34 by the cloud, 1 move"]
    assert replacement_table(moved_on).rows == (
        ("death-risk", "ward-0", "cloud", "edge", "3.2", "90.0", "30.0", "–", "8", "0"),
    )


def test_a_joint_decision_is_right_of_those_whose_labels_tell() -> None:
    assert summary_lines(result(DRIVING)) == [
        "driving: 11 of 12 frames decided, right: 90.0% of 10 labelled; mean 35.0 ms, its parts added up 57.5 ms"
    ]
    (row,) = joint_table(result(DRIVING)).rows
    assert row[-1] == "90.0% of 10 labelled"
    assert row[-2] == "57.5 (check 15.0, lanes 32.5, signs 10.0)"


def test_where_all_labels_tell_their_number_is_left_out() -> None:
    all_tell = msgspec.structs.replace(DRIVING, judged=11)
    assert "decided, right: 90.0%; mean" in summary_lines(result(all_tell))[0]


def test_where_no_label_tells_nothing_is_said_to_be_right() -> None:
    none_tells = msgspec.structs.replace(DRIVING, judged=0, right=None)
    assert summary_lines(result(none_tells)) == [
        "driving: 11 of 12 frames decided; mean 35.0 ms, its parts added up 57.5 ms"
    ]
    assert joint_table(result(none_tells)).rows[0][-1] == "–"


def test_a_move_is_a_line() -> None:
    away = HandoverFigures("car-0", "road-0", "road-1", 2.0, 39.81, 111.5, 3, 0)
    never = HandoverFigures("car-1", "road-0", "road-1", 2.5, None, None, 0, 4)
    assert summary_lines(result(moves=(away, never))) == [
        "car-0 from road-0 to road-1 at 2.0 s: connected after 39.8 ms, first decision after 111.5 ms, 0 lost",
        "car-1 from road-0 to road-1 at 2.5 s: connected after – ms, first decision after – ms, 4 lost",
    ]


def test_a_cascade_stands_between_its_two_models() -> None:
    of = "AUROC of edge / both / cloud on held-out data: 0.930 / 0.960 / 0.980"
    assert summary_lines(result(cascade=CASCADE)) == [
        f"death-risk: 25.0% forwarded to the cloud. {of}; its target of 0.970 was out of reach"
    ]
    reached = msgspec.structs.replace(CASCADE, quality=0.97)
    assert summary_lines(result(cascade=reached))[0].endswith("0.930 / 0.970 / 0.980")
