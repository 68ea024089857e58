"""Repetitions, availability traces and chance, played out to a plain list."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from edgebench.topology import load
from edgebench.topology.fault_model import Chaos, Fault, FaultPlan
from edgebench.topology.fault_schedule import fault_plans
from edgebench.topology.model import Topology
from edgebench.topology.presence import Presence, presences
from tests.topology.sound import SOUND


@pytest.fixture
def sound(tmp_path: Path) -> Topology:
    (file := tmp_path / "sound.yaml").write_text(SOUND)
    return load(file)


def plans(topology: Topology, **changes: object) -> tuple[FaultPlan, ...]:
    return fault_plans(msgspec.structs.replace(topology, **changes))


def test_a_fault_that_is_repeated_comes_as_often_as_it_fits(sound: Topology) -> None:
    found = plans(sound, faults=(Fault("pause", at_s=1.0, every_s=4.0, for_s=2.0, node="ward-0"),))
    # 1 to 3 s and 5 to 7 s; from 9 to 11 s is beyond the 10 s of the run.
    assert [(plan.at_s, plan.for_s, plan.node, plan.entry) for plan in found] == [
        (1.0, 2.0, "ward-0", "faults[0]"),
        (5.0, 2.0, "ward-0", "faults[0]"),
    ]


def test_a_clock_is_stepped_again_and_again(sound: Topology) -> None:
    found = plans(sound, faults=(Fault("clock", at_s=1.0, every_s=4.0, by_ms=50.0, machine="pi"),))
    assert [(plan.at_s, plan.by_ms, plan.machine) for plan in found] == [(at_s, 50.0, "pi") for at_s in (1.0, 5.0, 9.0)]


def test_who_a_trace_does_not_bring_back_is_away_for_good(sound: Topology, tmp_path: Path) -> None:
    trace = tmp_path / "churn.txt"
    trace.write_text("# time node state\n1 bed-0 down\n2 bed-1 down\n3.5 bed-0 up\n4 bed-0 down\n99 bed-1 up\n")
    found = plans(sound, faults=(Fault("restart", trace=str(trace)),))
    assert [(plan.kind, plan.node, plan.at_s, plan.for_s) for plan in found] == [
        ("restart", "bed-0", 1.0, 2.5),
        ("kill", "bed-1", 2.0, None),
        ("kill", "bed-0", 4.0, None),
    ]


def test_a_group_joins_and_a_device_of_it_leaves_and_comes_again(sound: Topology) -> None:
    found = plans(
        sound,
        faults=(
            Fault("join", at_s=1.5, node="bed"),
            Fault("leave", at_s=4.0, node="bed-1"),
            Fault("join", at_s=6.0, node="bed-1"),
        ),
    )
    spans = {device: [(each.from_s, each.to_s) for each in there] for device, there in presences(found).items()}
    assert spans == {"bed-0": [(1.5, None)], "bed-1": [(1.5, 4.0), (6.0, None)], "bed-2": [(1.5, None)]}
    assert [(each.joins, each.leaves) for each in presences(found)["bed-1"]] == [(1, 3), (4, None)]
    gone = presences(plans(sound, faults=(Fault("leave", at_s=4.0, node="bed-0"),)))
    assert gone == {"bed-0": (Presence(0.0, 4.0, None, 0),)}


def test_chaos_is_the_seeds_and_each_thing_has_its_own(sound: Topology) -> None:
    long = msgspec.structs.replace(sound, duration_s=3_600.0)
    chaos = Chaos("restart", 60.0, for_s=(1.0, 3.0), from_s=600.0, until_s=1_800.0, nodes=("ward", "bed-1"))
    found = plans(long, chaos=(chaos,))
    assert found == plans(long, chaos=(chaos,))
    assert found != plans(long, chaos=(chaos,), seed=8)
    # Without one of the wards the others' are what they were.
    alone = plans(long, chaos=(msgspec.structs.replace(chaos, nodes=("ward-1", "bed-1")),))
    assert [plan for plan in found if plan.node != "ward-0"] == list(alone)
    assert {plan.node for plan in found} == {"ward-0", "ward-1", "bed-1"}
    # 20 minutes with one a minute on average, less what each takes, on three nodes.
    assert 35 < len(found) < 85
    for node in ("ward-0", "ward-1", "bed-1"):
        spans = [(plan.at_s or 0.0, (plan.at_s or 0.0) + (plan.for_s or 0.0)) for plan in found if plan.node == node]
        assert all(600.0 <= first < last <= 1_800.0 and 1.0 <= last - first <= 3.0 for first, last in spans)
        assert all(last < first for (_, last), (first, _) in pairwise(spans))


def test_chaos_kills_each_at_most_once_and_cuts_the_links_of_two_groups(sound: Topology) -> None:
    long = msgspec.structs.replace(sound, duration_s=3_600.0)
    killed = plans(long, chaos=(Chaos("kill", 3_600.0, nodes=("bed",)),))
    assert sorted(plan.node or "" for plan in killed) == ["bed-0", "bed-1", "bed-2"]
    cut = plans(long, chaos=(Chaos("down", 10.0, for_s=(1.0, 1.0), links=("bed -> ward", "ward-0 -> cloud")),))
    links = {"bed-0 -> ward-0", "bed-1 -> ward-1", "bed-2 -> ward-0", "ward-0 -> cloud"}
    assert {plan.link for plan in cut} == links
