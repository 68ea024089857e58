"""When links are cut and mended."""

from __future__ import annotations

from edgebench.executors.local import _schedule
from edgebench.topology.model import Fault

LINK = "ward -> cloud"


def cut(at_s: float, for_s: float | None = None, link: str = LINK) -> Fault:
    return Fault(at_s=at_s, kind="down", link=link, for_s=for_s)


def test_a_link_is_cut_and_mended_at_its_times() -> None:
    assert _schedule((cut(5, 3), cut(1, link="bed -> ward"))) == [
        (1, "down", "bed -> ward"),
        (5, "down", LINK),
        (8, "up", LINK),
    ]


def test_faults_of_one_link_that_meet_are_one() -> None:
    assert _schedule((cut(5, 5), cut(10, 5))) == [(5, "down", LINK), (15, "up", LINK)]
    assert _schedule((cut(5, 10), cut(8, 2))) == [(5, "down", LINK), (15, "up", LINK)]
    assert _schedule((cut(5, 2), cut(6))) == [(5, "down", LINK)]


def test_faults_of_one_link_that_do_not_meet_are_two() -> None:
    assert _schedule((cut(5, 2), cut(8, 1))) == [(5, "down", LINK), (7, "up", LINK), (8, "down", LINK), (9, "up", LINK)]
