"""What is taken away when, and when it comes back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from edgebench.clock import NS_PER_S, now_ns
from edgebench.core.tallies import Tally
from edgebench.errors import FabricError
from edgebench.executors.faults import (
    CutLink,
    Degrade,
    FaultDriver,
    FaultTimer,
    FillDisk,
    Forsake,
    FreeDisk,
    Injection,
    Kill,
    MendLink,
    Pause,
    PlannedFault,
    Restore,
    Resume,
    StartAgain,
    samples_due,
)
from edgebench.fabric.slices import LiveState
from edgebench.topology import load, resolve
from edgebench.topology.fault_model import FaultPlan, When
from edgebench.topology.link_model import LinkChange
from tests.topology.sound import SOUND

LINK = "ward -> cloud"
START_NS = 1_000 * NS_PER_S


def cut(number: int, at_s: float, for_s: float | None = None, link: str = LINK) -> PlannedFault:
    return PlannedFault(number, FaultPlan("down", at_s, for_s=for_s, link=link), links=(link,))


def of(
    kind: Any, number: int, at_s: float | None, for_s: float | None = None, *parts: str, **when: Any
) -> PlannedFault:
    plan = FaultPlan(kind, at_s, When(**when) if when else None, for_s, node="ward")
    return PlannedFault(number, plan, parts=parts or ("ward",))


class Driven:
    """A driver whose clock stands where it is put."""

    def __init__(self, *faults: PlannedFault, **due: int) -> None:
        self.at_s = 0.0
        self.injected: list[tuple[float, Injection]] = []
        self.asked: list[tuple[int, float]] = []
        self.driver = FaultDriver(
            faults,
            lambda injection: self.injected.append((self.at_s, injection)),
            lambda number, at_ns: self.asked.append((number, (at_ns - START_NS) / NS_PER_S)),
            due,
            self._now_ns,
        )

    def _now_ns(self) -> int:
        return START_NS + round(self.at_s * NS_PER_S)

    def advance(self, *at_s: float) -> None:
        for self.at_s in at_s:
            self.driver.advance(START_NS)

    def see(self, **live: Any) -> bool:
        return self.driver.see(LiveState("running", START_NS, "", [], [], **{"totals": {}, **live}))


def test_a_link_is_cut_and_mended_at_its_times_and_not_before() -> None:
    driven = Driven(cut(0, 1.0, 1.05), cut(1, 1.5, link="bed -> ward"))
    assert driven.driver.next_in_s(START_NS) == 1.0
    driven.advance(0.0, 0.9, 1.0, 1.1, 1.6, 1.9, 2.05, 3.0)
    assert driven.injected == [
        (1.0, CutLink(LINK, 0)),
        (1.6, CutLink("bed -> ward", 1)),
        (2.05, MendLink(LINK, 0)),
    ]
    assert driven.driver.next_in_s(START_NS) is None


@pytest.mark.parametrize(
    ("second", "mended"),
    [(cut(1, 10.0, 5.0), [15.0]), (cut(1, 8.0, 1.0), [10.0]), (cut(1, 6.0), [])],
    ids=["one after the other", "one within the other", "for good"],
)
def test_what_two_faults_take_comes_back_with_the_end_of_the_last(second: PlannedFault, mended: list[float]) -> None:
    driven = Driven(cut(0, 5.0, 5.0), second)
    driven.advance(*(at / 2 for at in range(40)))
    assert [at_s for at_s, each in driven.injected if isinstance(each, CutLink)] == [5.0]
    assert [at_s for at_s, each in driven.injected if isinstance(each, MendLink)] == mended


def test_a_link_that_is_degraded_is_so_again_after_it_was_cut_and_the_last_change_holds() -> None:
    slow, slower = LinkChange(latency_ms=100.0), LinkChange(latency_ms=200.0)

    def degraded(number: int, at_s: float, for_s: float, to: LinkChange) -> PlannedFault:
        return PlannedFault(number, FaultPlan("degrade", at_s, for_s=for_s, to=to, link=LINK), links=(LINK,))

    driven = Driven(degraded(0, 1.0, 9.0, slow), degraded(1, 2.0, 2.0, slower), cut(2, 5.0, 1.0), cut(3, 9.5, 1.5))
    driven.advance(*(at / 2 for at in range(30)))
    assert driven.injected == [
        (1.0, Degrade(LINK, slow, 0)),
        (2.0, Degrade(LINK, slower, 1)),
        (4.0, Restore(LINK, 1)),
        (4.0, Degrade(LINK, slow, 0)),
        (5.0, CutLink(LINK, 2)),
        (6.0, MendLink(LINK, 2)),
        (6.0, Degrade(LINK, slow, 0)),
        (9.5, CutLink(LINK, 3)),
        (11.0, MendLink(LINK, 3)),
    ]


def test_faults_that_are_overdue_come_in_their_order() -> None:
    driven = Driven(cut(0, 1.0, 1.0), of("kill", 1, 2.0))
    driven.advance(5.0)
    assert [injection for _, injection in driven.injected] == [CutLink(LINK, 0), Kill("ward", 1), MendLink(LINK, 0)]


def test_all_parts_of_a_site_are_killed_and_started_again() -> None:
    driven = Driven(of("restart", 0, 1.0, 2.0, "ward", "broker of ward"))
    driven.advance(1.0, 3.0)
    assert [injection for _, injection in driven.injected] == [
        Kill("ward", 0, returns=True),
        Kill("broker of ward", 0, returns=True),
        StartAgain("ward", 0),
        StartAgain("broker of ward", 0),
    ]


def test_who_is_killed_for_good_while_it_was_to_come_back_does_not() -> None:
    driven = Driven(of("restart", 0, 1.0, 2.0), of("kill", 1, 2.0), of("restart", 2, 5.0, 1.0))
    driven.advance(1.0, 2.0, 3.0, 5.0, 6.0)
    assert driven.injected == [(1.0, Kill("ward", 0, returns=True)), (2.0, Forsake("ward"))]


def test_who_is_dead_cannot_be_paused_and_stands_still_once_it_is_back() -> None:
    driven = Driven(of("restart", 0, 1.0, 3.0), of("pause", 1, 2.0, 4.0), of("pause", 2, 7.0, 1.0))
    driven.advance(1.0, 2.0, 4.0, 6.0, 7.0, 8.0)
    assert driven.injected == [
        (1.0, Kill("ward", 0, returns=True)),
        (4.0, StartAgain("ward", 0)),
        (4.0, Pause("ward", 1)),
        (6.0, Resume("ward", 1)),
        (7.0, Pause("ward", 2)),
        (8.0, Resume("ward", 2)),
    ]


def test_a_disk_is_full_until_the_last_who_fills_it_frees_it() -> None:
    driven = Driven(of("disk", 0, 1.0, 2.0), of("disk", 1, 2.0, 3.0))
    driven.advance(1.0, 2.0, 3.0, 5.0)
    assert driven.injected == [(1.0, FillDisk("ward", 0)), (5.0, FreeDisk("ward", 1))]


def test_a_fault_waits_for_what_the_run_shows() -> None:
    driven = Driven(
        of("pause", 0, None, 1.0, "bed", workload="risk", round=2),
        of("kill", 1, None, None, "ward", workload="risk", decided=0.5),
        of("kill", 2, None, None, "other", workload="risk", rollout=1),
        risk=100,
    )
    assert not driven.see(rounds={"risk": 1}, totals={"risk": Tally(decided=49)})
    driven.at_s = 3.0
    assert driven.see(rounds={"risk": 3}, totals={"risk": Tally(decided=49)})
    driven.advance(3.1, 3.9, 4.0)
    assert driven.injected == [(3.1, Pause("bed", 0)), (4.0, Resume("bed", 0))]
    assert driven.see(rounds={"risk": 3}, totals={"risk": Tally(decided=50)}, rolled_out={"risk": 1})
    driven.advance(4.2)
    assert driven.injected[2:] == [(4.2, Kill("ward", 1)), (4.2, Kill("other", 2))]
    assert driven.asked == [(0, 3.0), (1, 4.0), (2, 4.0)]
    # What has been met once comes once.
    assert not driven.see(rounds={"risk": 4}, totals={"risk": Tally(decided=90)}, rolled_out={"risk": 2})


def test_the_samples_of_a_whole_run_are_counted_where_a_fault_waits_for_a_share(tmp_path: Any) -> None:
    text = SOUND + "faults: [{kind: kill, node: bed-0, when: {workload: risk, decided: 0.5}}]\n"
    (file := tmp_path / "topology.yaml").write_text(text)
    # Three beds at 2 Hz for 10 s.
    assert samples_due(resolve(load(file), run_id="r", executor="local"), {}) == {"risk": 60}
    file.write_text(text.replace("faults: [", "faults: [{kind: join, node: bed-1, at_s: 4}, "))
    assert samples_due(resolve(load(file), run_id="r", executor="local"), {}) == {"risk": 52}


def test_a_fault_is_brought_about_while_whoever_watches_the_run_waits_and_none_after_its_end() -> None:
    happened, start_ns = threading.Event(), now_ns()
    injected: list[tuple[Injection, int, str]] = []

    def inject(injection: Injection) -> None:
        injected.append((injection, now_ns(), threading.current_thread().name))
        happened.set()

    with FaultTimer(FaultDriver([cut(0, 0.1, 600.0)], inject)) as faults:
        faults.begin(start_ns)
        assert happened.wait(30.0)
        faults.end()
        # It lasts as long as what it may have started.
        assert any(each.name == "faults" for each in threading.enumerate())
    ((injection, at_ns, thread),) = injected
    assert (injection, thread) == (CutLink(LINK, 0), "faults")
    assert at_ns - start_ns >= 0.1 * NS_PER_S
    assert all(each.name != "faults" for each in threading.enumerate())


def test_a_condition_that_is_met_is_acted_on_at_once() -> None:
    happened = threading.Event()
    driver = FaultDriver(
        [of("kill", 0, None, workload="risk", round=1), cut(1, 600.0)], lambda _injection: happened.set()
    )
    with FaultTimer(driver) as faults:
        faults.begin(now_ns())
        faults.see(LiveState("running", now_ns(), "", [], [], {}, rounds={"risk": 1}))
        assert happened.wait(30.0)


def test_a_fault_that_cannot_be_brought_about_ends_the_watch() -> None:
    failed = threading.Event()

    def fail(_injection: Injection) -> None:
        failed.set()
        raise FabricError("no such link")

    faults = FaultTimer(FaultDriver([cut(0, 0.0)], fail))
    faults.begin(now_ns())
    assert failed.wait(30.0)
    with pytest.raises(FabricError, match="no such link"):
        faults.__exit__(None, None, None)
