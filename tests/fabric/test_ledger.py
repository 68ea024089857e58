"""Each sample is decided once, and answered as often as somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgebench.core.samples import SampleKey
from edgebench.fabric import last_keys
from edgebench.fabric import ledger as module
from edgebench.fabric.forgotten import Forgotten
from edgebench.fabric.ledger import Ledger
from edgebench.topology.model import Durability

KEY = SampleKey("bed-0", 0, 7)


class Answers:
    def __init__(self) -> None:
        self.again: list[tuple[SampleKey, bytes]] = []
        self.missed: list[SampleKey] = []
        self.gone: list[SampleKey] = []
        self.sent: list[bytes] = []

    def open(self, path: Path, durability: Durability = "process", taken_in: list[SampleKey] | None = None) -> Ledger:
        return Ledger(
            path,
            durability,
            answer_again=lambda key, reply: self.again.append((key, reply)),
            answer_gone=self.gone.append,
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


@pytest.fixture
def of_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of 100 bytes; the eleventh ten are kept at the expense of the first."""
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    monkeypatch.setattr(module, "_AT_ONCE_BYTES", 1_000)


def answer(ledger: Ledger, seqs: Iterable[int], key: SampleKey = KEY) -> None:
    for seq in seqs:
        assert ledger.takes(key._replace(seq=seq))
        assert ledger.answered(key._replace(seq=seq), bytes(100), lambda: None)


@pytest.mark.usefixtures("of_a_hundred")
@pytest.mark.parametrize("durability", ["process", "power"])
def test_the_oldest_answers_are_forgotten_and_their_samples_are_told_of_when_they_come_again_and_not_decided_again(
    tmp_path: Path, durability: Durability
) -> None:
    answers = Answers()
    ledger = answers.open(tmp_path / "ledger", durability)
    answer(ledger, range(300))
    for _ in range(2):  # each life of the node knows it
        ledger.close()
        answers = Answers()
        ledger = answers.open(tmp_path / "ledger", durability)
        assert not any(ledger.takes(KEY._replace(seq=seq)) for seq in (299, 210, 190, 0))
        assert [key.seq for key, _ in answers.again] == [299, 210]
        assert [key.seq for key in answers.gone] == [190, 0]
    answer(ledger, range(300, 400))
    assert not ledger.takes(KEY._replace(seq=299))
    assert answers.gone[2:] == [KEY._replace(seq=299)]
    assert answers.missed == []
    ledger.close()


@pytest.mark.usefixtures("of_a_hundred")
def test_an_answer_to_what_was_answered_and_forgotten_comes_to_nothing(tmp_path: Path) -> None:
    answers = Answers()
    ledger = answers.open(tmp_path / "ledger")
    answer(ledger, range(200))
    assert ledger.answered(KEY._replace(seq=0), b"no", lambda: answers.sent.append(b"no"))
    assert answers.sent == []
    ledger.close()


@pytest.mark.usefixtures("of_a_hundred")
def test_what_was_dropped_is_no_answer_that_was_forgotten_nor_is_what_another_device_sent(tmp_path: Path) -> None:
    answers = Answers()
    ledger = answers.open(tmp_path / "ledger")
    assert ledger.takes(KEY._replace(seq=3))
    ledger.dropped(KEY._replace(seq=3))
    answer(ledger, [*range(3), *range(4, 300)])
    answer(ledger, [3])
    answer(ledger, range(3), KEY._replace(incarnation=1))
    answer(ledger, range(3), KEY._replace(by="ward-1"))
    assert answers.gone == []
    ledger.close()


@pytest.mark.usefixtures("of_a_hundred")
def test_while_it_cannot_be_written_down_what_is_forgotten_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers()
    ledger = answers.open(tmp_path / "ledger")
    answer(ledger, range(100))
    with monkeypatch.context() as patched:
        patched.setattr("edgebench.fabric.keep._write", no_space)
        assert ledger.takes(KEY._replace(seq=100))
        assert not ledger.answered(KEY._replace(seq=100), bytes(100), lambda: None)
    assert not ledger.takes(KEY._replace(seq=0))
    assert answers.again == [(KEY._replace(seq=0), bytes(100))]
    ledger.close()


@pytest.mark.usefixtures("of_a_hundred")
def test_where_it_cannot_be_written_down_what_is_forgotten_that_is_tried_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[None] = []

    def is_full(_forgotten: Forgotten) -> bool:
        tried.append(None)
        return False

    ledger = Answers().open(tmp_path / "ledger")
    with monkeypatch.context() as patched:
        patched.setattr(Forgotten, "write", is_full)
        answer(ledger, range(130))
    assert len(tried) == 3  # with the 101st answer, and after ten more each
    answer(ledger, range(130, 141))  # there is room again, and so some for what is kept too much
    kept = [seq for seq in range(141) if ledger.has_answered(KEY._replace(seq=seq))]
    assert kept == list(range(141 - len(kept), 141))
    assert 90 <= len(kept) <= 100
    ledger.close()


@pytest.mark.usefixtures("of_a_hundred")
def test_samples_are_taken_in_while_it_is_written_down_what_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, write = Answers(), Forgotten.write
    ledger = answers.open(tmp_path / "ledger")

    def write_while_one_comes(forgotten: Forgotten) -> bool:
        taker = threading.Thread(target=ledger.takes, args=(KEY._replace(seq=0),))
        taker.start()
        taker.join(5.0)
        assert not taker.is_alive()
        return write(forgotten)

    answer(ledger, range(100))
    monkeypatch.setattr(Forgotten, "write", write_while_one_comes)
    answer(ledger, [100])
    assert answers.again == [(KEY._replace(seq=0), bytes(100))]
    assert not ledger.takes(KEY._replace(seq=0))
    assert answers.gone == [KEY._replace(seq=0)]
    ledger.close()


def no_space(_fd: int, _data: bytes, _at: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_sample_is_dropped_for_the_first_time_once_and_an_answer_is_no_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_keys, "_REMEMBERED", 3)
    ledger = Answers().open(tmp_path / "ledger")
    for _ in range(2):
        assert ledger.takes(KEY)
        first = ledger.dropped(KEY)
    assert not first
    for seq in range(100, 110):  # many that are answered, and take no place among those that are remembered
        key = KEY._replace(seq=seq)
        assert ledger.takes(key)
        ledger.answered(key, b"yes", lambda: None)
    assert ledger.takes(KEY)
    assert not ledger.dropped(KEY)
    ledger.close()
