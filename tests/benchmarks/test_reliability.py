"""Schedules of the reliability benchmark: one that is quick, and those that once failed."""

from __future__ import annotations

import os
from ctypes.util import find_library
from pathlib import Path

import pytest

from benchmarks.reliability_run import Broker, Fault, judged

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


def _can_lose_power() -> bool:
    return Path("/dev/fuse").exists() and find_library("fuse3") is not None and os.geteuid() == 0
