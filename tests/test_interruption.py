"""A signal to end waits for what must be whole, and for nothing else."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from edgebench.interruption import interrupt, uninterrupted


@pytest.fixture(autouse=True)
def _told() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: interrupt(KeyboardInterrupt("told to end")))
    yield
    signal.signal(signal.SIGTERM, before)


def tell() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_outside_of_sections_it_interrupts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt, match="told to end"):
        tell()


def test_a_section_is_done_before_it_is_interrupted() -> None:
    done = []

    def do() -> None:
        with uninterrupted():
            with uninterrupted():
                tell()
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt, match="told to end"):
        do()
    assert done == ["inner", "outer"]
    with uninterrupted():
        done.append("nothing is left to raise")


def test_what_fails_in_a_section_does_not_swallow_it() -> None:
    def fail() -> None:
        with uninterrupted():
            tell()
            raise ValueError

    with pytest.raises(KeyboardInterrupt, match="told to end"):
        fail()


def test_a_section_of_another_thread_holds_nothing_back() -> None:
    is_in, may_end = threading.Event(), threading.Event()

    def other() -> None:
        with uninterrupted():
            is_in.set()
            may_end.wait(10.0)

    thread = threading.Thread(target=other)
    thread.start()
    assert is_in.wait(10.0)
    with pytest.raises(KeyboardInterrupt, match="told to end"):
        tell()
    may_end.set()
    thread.join()
