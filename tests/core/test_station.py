"""Cores, first come first served, and threads that have one job at a time; all times worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

from edgebench.core.fake_transport import FIRST, Rank, VirtualTime
from edgebench.core.station import Cores, Thread, Work
from tests.core.ward import ms

Ends = list[tuple[str, float]]


def work(name: str, service_ms: float, ends: Ends) -> Work:
    return Work(ms(service_ms), lambda end_ns: ends.append((name, end_ns / 1e6)))


def test_a_thread_does_one_job_after_another_even_where_cores_are_idle() -> None:
    time, ends = VirtualTime(), Ends()
    thread = Thread(Cores(time, 4))
    thread.do(0, work("a", 3.0, ends))
    thread.do(ms(1.0), work("b", 2.0, ends))
    thread.do(ms(9.0), work("c", 1.0, ends))
    time.run()
    assert ends == [("a", 3.0), ("b", 5.0), ("c", 10.0)]


def test_threads_share_the_cores_and_who_waits_longest_is_next() -> None:
    time, ends = VirtualTime(), Ends()
    cores = Cores(time, 2)
    first, second, third, fourth = (Thread(cores) for _ in range(4))
    first.do(0, work("first", 4.0, ends))
    second.do(0, work("second", 1.0, ends))
    third.do(0, work("third", 2.0, ends))
    fourth.do(0, work("fourth", 5.0, ends))
    first.do(0, work("first again", 1.0, ends))
    time.run()
    # From 1 on a core is free for the third, from 3 on for the fourth, from 4 on for the first again.
    assert ends == [("second", 1.0), ("third", 3.0), ("first", 4.0), ("first again", 5.0), ("fourth", 8.0)]


def test_what_follows_from_a_job_on_its_thread_comes_before_what_others_ask_of_it_later() -> None:
    time, ends = VirtualTime(), Ends()
    thread = Thread(Cores(time, 1))

    def answer(end_ns: int) -> None:
        ends.append(("decided", end_ns / 1e6))
        thread.do(end_ns, work("answered", 1.0, ends))

    thread.do(0, Work(ms(2.0), answer))
    time.run(ms(2.0))
    thread.do(ms(2.0), work("next", 1.0, ends))
    time.run()
    assert ends == [("decided", 2.0), ("answered", 3.0), ("next", 4.0)]


def test_a_callback_that_comes_late_delays_nothing_that_follows() -> None:
    class Late(VirtualTime):
        def call_at(self, due_ns: int, call: Callable[[], None], rank: Rank = FIRST) -> None:
            super().call_at(due_ns + ms(0.7), call, rank)

    time, ends = Late(), Ends()
    thread = Thread(Cores(time, 1))
    for name in ("a", "b", "c"):
        thread.do(0, work(name, 2.0, ends))
    time.run()
    assert ends == [("a", 2.0), ("b", 4.0), ("c", 6.0)]
