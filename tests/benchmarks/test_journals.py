"""What became of samples, told by journals written by hand."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.journals import Kind, Line, Sums, sums


def line(kind: Kind, seq: int, value: float, finished_ns: int = 0, *, incarnation: int = 0) -> Line:
    decider = "" if kind == "accepted" else "ward"
    return Line(kind, "bed-0", incarnation, seq, value, decider, finished_ns)


def summed(folder: Path, *journals: list[Line]) -> Sums:
    for number, lines in enumerate(journals):
        body = b"".join(msgspec.json.encode(each) + b"\n" for each in lines)
        (folder / f"part-{number}.journal").write_bytes(body)
    return sums(folder)


def test_what_is_heard_again_as_it_was_is_decided_once(tmp_path: Path) -> None:
    device = [line("accepted", 0, 0.1), line("heard", 0, 0.1, 7), line("heard", 0, 0.1, 7)]
    found = summed(tmp_path, device, [line("sent", 0, 0.1, 7), line("sent", 0, 0.1, 7)])
    assert found == Sums(accepted=1, missing=0, twice=0, wrongly=0)
    assert found.exactly_once


def test_what_no_device_hears_of_is_missing_though_its_first_life_could_not_say_that_it_had_it(tmp_path: Path) -> None:
    found = summed(tmp_path, [line("accepted", 0, 0.1)], [line("sent", 1, 0.2, 7)])
    assert found == Sums(accepted=2, missing=2, twice=0, wrongly=0)
    assert not found.exactly_once


def test_decisions_made_apart_are_told_from_lives_of_a_device(tmp_path: Path) -> None:
    again = [line("accepted", 0, 0.2, incarnation=1), line("heard", 0, 0.2, 9, incarnation=1)]
    apart = [line("accepted", 0, 0.1), line("sent", 0, 0.1, 7), line("heard", 0, 0.1, 8)]
    assert summed(tmp_path, apart, again) == Sums(accepted=2, missing=0, twice=1, wrongly=0)


def test_a_decision_on_another_sample_or_on_none_is_wrong(tmp_path: Path) -> None:
    mixed_up = [line("accepted", 0, 0.1), line("heard", 0, 0.2, 7), line("heard", 5, 0.3, 8)]
    assert summed(tmp_path, mixed_up) == Sums(accepted=1, missing=0, twice=0, wrongly=2)


def test_nothing_at_all_proves_nothing(tmp_path: Path) -> None:
    assert not summed(tmp_path, []).exactly_once
