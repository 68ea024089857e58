"""Schedules of the reliability benchmark: one that is quick, and those that once failed."""

from __future__ import annotations

import json
import os
from ctypes.util import find_library
from pathlib import Path

import msgspec
import pytest

from benchmarks import reliability
from benchmarks.reliability_run import Broker, Fault, Judged, Outcome, judged

SCHEDULES: list[tuple[Broker, Fault, int, str]] = [
    ("nats", "power-cut", 1, "a next life took a model that was not synced for whole, or gave up as it began"),
    ("nats", "cut", 10, "nats-server does not send again what was under way, which is promised from process on"),
    ("mosquitto", "power-cut", 4, "devices gave up while their edge was being started again"),
]
"""Broker, fault, seed, and what was wrong."""


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("broker", "fault", "seed", "was_wrong"), SCHEDULES)
def test_a_schedule_that_once_failed_keeps_its_promise(
    broker: Broker, fault: Fault, seed: int, was_wrong: str, mosquitto: Path, tmp_path: Path
) -> None:
    if fault == "power-cut" and not _can_lose_power():
        pytest.skip("a disk that loses power needs /dev/fuse, libfuse3 and root")
    found = judged(tmp_path / "schedule", broker, fault, seed)
    assert (found.outcome, found.said) == ("exactly_once", []), was_wrong


def test_all_programs_of_a_schedule_keep_their_journals(mosquitto: Path, tmp_path: Path) -> None:
    found = judged(tmp_path / "schedule", "mosquitto", "pause", 0)
    assert (found.outcome, found.said, found.accepted) == ("exactly_once", [], 240)


def test_outcomes_of_another_state_of_the_code_are_found_anew_or_counted(
    tmp_path: Path, mosquitto: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = reliability.state_of("mosquitto")
    kept = [outcome(0, state=now), outcome(1, state="f00"), outcome(2), outcome(1, wrong=True, state="ba5")]
    path = tmp_path / "schedules.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in kept))
    mine: dict[Broker, str] = {"mosquitto": now}
    assert {task[2] for task in reliability.known(path, mine, keep_older=False)} == {0}
    words = ["--schedules", "3", "--fault", "pause", "--broker", "mosquitto", "--json", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["reliability.py", *words, "--keep-older"])
    monkeypatch.setenv("PYTHONPATH", "")
    reliability.main()
    printed = json.loads(capsys.readouterr().out)
    assert (printed["older"], printed["mosquitto"]["pause"]["wrongs"]) == (2, [1])  # the last one stands
    with path.open("ab") as file:
        for each in (outcome(1, state=now), kept[3]):
            file.write(msgspec.json.encode(each) + b"\n")
    known = reliability.known(path, mine, keep_older=True)
    assert {task[2]: each.state for task, each in known.items()} == {0: now, 1: now, 2: ""}


def outcome(seed: int, *, wrong: bool = False, state: str = "") -> Judged:
    """Of a schedule that was run before."""
    found: Outcome = "wrong" if wrong else "exactly_once"
    return Judged("mosquitto", "pause", "none", seed, found, 240, 0, 0, 0, [], [], 5.0, state)


def _can_lose_power() -> bool:
    return Path("/dev/fuse").exists() and find_library("fuse3") is not None and os.geteuid() == 0
