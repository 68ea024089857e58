"""When links are cut and mended, and what brings it about."""

from __future__ import annotations

import threading

import pytest

from edgebench.clock import NS_PER_S, now_ns
from edgebench.errors import FabricError
from edgebench.executors.faults import (
    CutLink,
    FaultDriver,
    FaultTimer,
    Injection,
    Kill,
    MendLink,
    TimedInjection,
    schedule,
)
from edgebench.topology.model import Fault

LINK = "ward -> cloud"
START_NS = 1_000 * NS_PER_S


def cut(at_s: float, for_s: float | None = None, link: str = LINK) -> Fault:
    return Fault(at_s=at_s, kind="down", link=link, for_s=for_s)


def down(at_s: float, link: str = LINK) -> TimedInjection:
    return TimedInjection(at_s, CutLink(link))


def up(at_s: float, link: str = LINK) -> TimedInjection:
    return TimedInjection(at_s, MendLink(link))


def test_a_link_is_cut_and_mended_at_its_times() -> None:
    assert schedule((cut(5, 3), cut(1, link="bed -> ward"))) == (down(1, "bed -> ward"), down(5), up(8))


def test_faults_of_one_link_that_meet_are_one() -> None:
    assert schedule((cut(5, 5), cut(10, 5))) == (down(5), up(15))
    assert schedule((cut(5, 10), cut(8, 2))) == (down(5), up(15))
    assert schedule((cut(5, 2), cut(6))) == (down(5),)


def test_faults_of_one_link_that_do_not_meet_are_two() -> None:
    assert schedule((cut(5, 2), cut(8, 1))) == (down(5), up(7), down(8), up(9))


class Driven:
    """A driver whose clock stands where it is put."""

    def __init__(self, *faults: TimedInjection) -> None:
        self.at_s = 0.0
        self.injected: list[tuple[float, Injection]] = []
        self.driver = FaultDriver(faults, lambda injection: self.injected.append((self.at_s, injection)), self._now_ns)

    def advance(self, to_s: float) -> None:
        self.at_s = to_s
        self.driver.advance(START_NS)

    def _now_ns(self) -> int:
        return START_NS + int(self.at_s * NS_PER_S)


def test_each_fault_is_brought_about_once_at_its_time() -> None:
    driven = Driven(up(2.0), down(1.0))
    for at_s in (0.0, 0.9, 1.0, 1.1, 1.9, 2.05, 3.0):
        driven.advance(at_s)
    assert driven.injected == [(1.0, CutLink(LINK)), (2.05, MendLink(LINK))]


def test_faults_that_are_overdue_come_in_their_order() -> None:
    driven = Driven(down(1.0), up(2.0), TimedInjection(2.0, Kill("ward-0")))
    driven.advance(5.0)
    assert [injection for _, injection in driven.injected] == [CutLink(LINK), MendLink(LINK), Kill("ward-0")]


def test_a_fault_is_brought_about_while_whoever_watches_the_run_waits_and_none_after_its_end() -> None:
    happened, start_ns = threading.Event(), now_ns()
    injected: list[tuple[Injection, int, str]] = []

    def inject(injection: Injection) -> None:
        injected.append((injection, now_ns(), threading.current_thread().name))
        happened.set()

    driver = FaultDriver([down(0.1), up(600.0)], inject)
    with FaultTimer(driver) as faults:
        faults.begin(start_ns)
        assert happened.wait(30.0)
    ((injection, at_ns, thread),) = injected
    assert (injection, thread) == (CutLink(LINK), "faults")
    assert at_ns - start_ns >= 0.1 * NS_PER_S
    assert all(each.name != "faults" for each in threading.enumerate())


def test_a_fault_that_cannot_be_brought_about_ends_the_watch() -> None:
    failed = threading.Event()

    def fail(_injection: Injection) -> None:
        failed.set()
        raise FabricError("no such link")

    faults = FaultTimer(FaultDriver([down(0.0)], fail))
    faults.begin(now_ns())
    assert failed.wait(30.0)
    with pytest.raises(FabricError, match="no such link"):
        faults.__exit__(None, None, None)
