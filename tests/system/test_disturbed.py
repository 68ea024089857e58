"""A run that other work disturbs says so: nothing of it is called valid that was measured beside a crowd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgebench.clock import sleep_s
from tests.system.running import SMALL, streaming

LOOPS = 24
HALF_S = 10.0
TOPOLOGY = SMALL.replace("duration_s: 4", f"duration_s: {2 * HALF_S:g}")


@contextmanager
def _crowd() -> Iterator[None]:
    """Busy loops, each in a session of its own, as other users of the machine would be."""
    loops: list[subprocess.Popen[bytes]] = []
    try:
        while len(loops) < LOOPS:
            loops.append(
                subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"], start_new_session=True)
            )
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


@pytest.mark.long
def test_a_crowd_from_the_middle_of_the_streams_on_is_no_valid_run(tmp_path: Path) -> None:
    with streaming(tmp_path, TOPOLOGY) as running:
        sleep_s(HALF_S - 1.0)  # 40 decisions take the first second
        with _crowd():
            _, result = running.end()
    verdict, found = result["verdict"], result["disturbance"]
    # Half of the streams was disturbed, so whatever the figures say they are not to be trusted.
    assert not verdict["valid"]
    assert "disturbance" in verdict["kinds"]
    assert any(span["to_s"] > HALF_S for span in found["spans"]), found
    assert result["host_use"]["foreign"] > 0.1
