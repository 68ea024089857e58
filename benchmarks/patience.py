"""Commands that are given so much time, and then ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator

END_PATIENCE_S = 60.0
"""A run ends in good order once it is interrupted."""


@contextlib.contextmanager
def ended_behind(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process that goes on when the block is left, also where this program is interrupted, is ended: in good order,
    else at once."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_PATIENCE_S)
            process.kill()
            process.wait()


def waited_for(process: subprocess.Popen[bytes], patience_s: float) -> int | None:
    """Its exit status; None where it goes on after so long."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(patience_s)
    return None
