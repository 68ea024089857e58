"""Each sample is decided once, and answered as often as somebody asks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgebench.core.samples import SampleKey
from edgebench.fabric import ledger as module
from edgebench.fabric.ledger import Ledger
from edgebench.topology.model import Durability

KEY = SampleKey("bed-0", 0, 7)


class Answers:
    def __init__(self) -> None:
        self.again: list[tuple[SampleKey, bytes]] = []
        self.missed: list[SampleKey] = []
        self.sent: list[bytes] = []

    def open(self, path: Path, durability: Durability = "process", taken_in: list[SampleKey] | None = None) -> Ledger:
        return Ledger(
            path,
            durability,
            answer_again=lambda key, reply: self.again.append((key, reply)),
            came_again=self.missed.append,
            taken_in=taken_in or [],
        )


def test_a_sample_that_comes_again_is_answered_as_it_was_and_not_decided_again(tmp_path: Path) -> None:
    answers = Answers()
    ledger = answers.open(tmp_path / "ledger")
    assert ledger.takes(KEY)
    assert not ledger.takes(KEY)  # it is being decided
    assert (answers.missed, answers.again) == ([KEY], [])
    ledger.answered(KEY, b"yes", lambda: answers.sent.append(b"yes"))
    assert not ledger.takes(KEY)
    assert (answers.sent, answers.again) == ([b"yes"], [(KEY, b"yes")])
    assert ledger.takes(KEY._replace(incarnation=1))
    assert ledger.takes(KEY._replace(by="ward-1"))
    ledger.close()


def test_the_next_life_of_a_node_answers_what_the_last_one_decided(tmp_path: Path) -> None:
    answers = Answers()
    first = answers.open(tmp_path / "ledger")
    first.takes(KEY)
    first.answered(KEY, b"yes", lambda: None)
    second = answers.open(tmp_path / "ledger", taken_in=[KEY, KEY._replace(seq=8)])
    assert not second.takes(KEY)
    assert not second.takes(KEY._replace(seq=8))  # it was passed on, and is still to be answered
    assert answers.again == [(KEY, b"yes")]
    for ledger in (first, second):
        ledger.close()


def test_a_second_answer_comes_to_nothing(tmp_path: Path) -> None:
    answers = Answers()
    ledger = answers.open(tmp_path / "ledger")
    ledger.takes(KEY)
    for reply in (b"yes", b"no"):
        ledger.answered(KEY, reply, lambda reply=reply: answers.sent.append(reply))  # type: ignore[misc]
    ledger.takes(KEY)
    assert (answers.sent, answers.again) == ([b"yes"], [(KEY, b"yes")])
    ledger.close()


def test_what_was_dropped_may_come_again(tmp_path: Path) -> None:
    ledger = Answers().open(tmp_path / "ledger")
    assert ledger.takes(KEY)
    ledger.dropped(KEY)
    assert ledger.takes(KEY)
    ledger.close()


def test_where_a_power_cut_is_survived_nothing_is_answered_that_is_not_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_sync = threading.Event()
    monkeypatch.setattr("edgebench.fabric.keep._sync", lambda _fd: may_sync.wait(5.0))
    answers = Answers()
    ledger = answers.open(tmp_path / "ledger", "power")
    ledger.takes(KEY)
    ledger.answered(KEY, b"yes", lambda: answers.sent.append(b"yes"))
    assert not ledger.takes(KEY)
    assert (answers.sent, answers.again) == ([], [])
    may_sync.set()
    ledger.close()
    assert answers.sent == [b"yes"]


def test_the_oldest_answers_are_forgotten_first_and_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    monkeypatch.setattr(module, "_AT_ONCE_BYTES", 1_000)
    answers = Answers()
    ledger = answers.open(tmp_path / "ledger")
    for seq in range(1_000):
        key = KEY._replace(seq=seq)
        assert ledger.takes(key)
        ledger.answered(key, bytes(100), lambda: None)
    assert not ledger.takes(KEY._replace(seq=999))
    assert not ledger.takes(KEY._replace(seq=910))
    assert ledger.takes(KEY._replace(seq=890))
    ledger.close()
