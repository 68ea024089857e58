"""Training beside the streams: a child process trains, exports and evaluates, and reports each step as a line of JSON.

`train` is the parent's side, `python -m cloud.trainer` the child's; what the child does is in `cloud.training`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from cloud.export import quiet_environment
from cloud.jobs import Progress, Trained, TrainJob
from edgebench.errors import DataError, EdgebenchError, ModelError
from edgebench.fabric.guard import guarded

__all__ = ["Progress", "TrainJob", "Trained", "train", "train_now"]

_LINE_LIMIT_BYTES = 1 << 24
_KEPT_STDERR_LINES = 50


class _Failed(msgspec.Struct, frozen=True, tag="failed"):
    reason: str
    about_data: bool


class _Request(msgspec.Struct, frozen=True):
    jobs: tuple[TrainJob, ...]
    nice: int


_Event = Progress | Trained | _Failed


async def train(
    jobs: Sequence[TrainJob],
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_done: Callable[[Trained], None] | None = None,
    nice: int = 0,
    threads: int | None = None,
) -> tuple[Trained, ...]:
    """Do the jobs in a child process; what came of each, in their order.

    `on_done` is called as each one ends, perhaps out of order. nice: lowers the child's priority. threads: of the
    training framework; None for as many as there are cores. The child ends with this process, and when the call is
    cancelled. Raises DataError for data that is absent or malformed, ModelError for any other failure, in one line.
    """
    process = await asyncio.create_subprocess_exec(
        *guarded([sys.executable, "-m", "cloud.trainer"]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=quiet_environment(threads),
        limit=_LINE_LIMIT_BYTES,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    last_words: deque[str] = deque(maxlen=_KEPT_STDERR_LINES)
    listening = asyncio.create_task(_gather_lines(process.stderr, last_words), name="trainer-stderr")
    done: dict[str, Trained] = {}
    try:
        process.stdin.write(msgspec.json.encode(_Request(tuple(jobs), nice)) + b"\n")
        process.stdin.close()
        async for line in process.stdout:
            event = msgspec.json.decode(line, type=_Event)
            if isinstance(event, Progress):
                if on_progress is not None:
                    on_progress(event)
            elif isinstance(event, Trained):
                done[event.name] = event
                if on_done is not None:
                    on_done(event)
            else:
                raise (DataError if event.about_data else ModelError)(event.reason)
        status = await process.wait()
        await listening
        if status != 0 or len(done) != len(jobs):
            raise ModelError(_death(status, last_words))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        listening.cancel()
    return tuple(done[job.name] for job in jobs)


def train_now(
    jobs: Sequence[TrainJob], *, on_progress: Callable[[Progress], None] | None = None
) -> tuple[Trained, ...]:
    """`train`, for callers without an event loop."""
    return asyncio.run(train(jobs, on_progress=on_progress))


async def _gather_lines(stream: asyncio.StreamReader, lines: deque[str]) -> None:
    async for line in stream:
        if text := line.decode(errors="replace").strip():
            lines.append(text)


def _death(status: int, last_words: Sequence[str]) -> str:
    how = f"signal {-status}, {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    said = f": {last_words[-1]}" if last_words else ""
    return f"the trainer ended before its work did ({how}){said}"


def main() -> int:
    """Do the jobs that standard input describes; exit status 1, and the reason as the last event, where one fails."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print must not mix with the events

    def emit(event: _Event) -> None:
        # One write a line: the exporting thread reports too.
        events.write(msgspec.json.encode(event) + b"\n")
        events.flush()

    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Request)
    os.nice(request.nice)
    from cloud.training import do_jobs

    try:
        do_jobs(request.jobs, emit)
    except Exception as error:  # noqa: BLE001  (the event is where it goes)
        traceback.print_exc()
        text = " ".join(str(error).split())
        known = isinstance(error, EdgebenchError)
        emit(
            _Failed(text if known else f"training failed: {type(error).__name__}: {text}", isinstance(error, DataError))
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
