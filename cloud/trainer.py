"""Training beside the streams: a child process trains, exports and evaluates, and reports each step as a line of JSON.

`Trainer` is the parent's side, `python -m cloud.trainer` the child's; what the child does is in `cloud.training`.
The child stays for further jobs: loading a training framework takes longer than training a small model.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

import msgspec

from cloud.export import quiet_environment
from cloud.jobs import EpochDone, EvaluateJob, Trained, TrainJob
from edgebench.errors import DataError, EdgebenchError, ModelError, describe_error
from edgebench.fabric.child_process import describe_end, end_family, lines_of, start_family

_log = logging.getLogger(__name__)
_LINE_LIMIT_BYTES = 1 << 24
_KEPT_STDERR_BYTES = 4096
_PATIENCE_S = 1.0


class _Failed(msgspec.Struct, frozen=True, tag="failed"):
    reason: str
    about_data: bool


class _JobFailedError(Exception):
    """The child says why a job came to nothing; it goes on."""

    def __init__(self, error: EdgebenchError) -> None:
        super().__init__(str(error))
        self.error = error


class _Request(msgspec.Struct, frozen=True):
    """ahead: only load what the jobs will need."""

    jobs: tuple[TrainJob | EvaluateJob, ...]
    nice: int
    ahead: bool = False


class _Finished(msgspec.Struct, frozen=True, tag="finished"):
    """All jobs of a request are done."""


_Event = EpochDone | Trained | _Failed | _Finished


NICE_BESIDE_STREAMS = 10
"""The priority of trainings while the streams run, which they are not to disturb."""


class Trainer:
    """A child process that trains; started by the first `train`, and again after it died. Use it by `async with`.

    It ends with this process, whatever ends that.
    """

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._last_words = bytearray()
        self._listening: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def train(
        self,
        jobs: Sequence[TrainJob | EvaluateJob],
        *,
        on_progress: Callable[[EpochDone], None] | None = None,
        on_done: Callable[[Trained], Awaitable[None]] | None = None,
        nice: int = 0,
    ) -> tuple[Trained, ...]:
        """Do the jobs; what came of each, in their order. Calls wait for one another.

        `on_done` is awaited as each job ends, perhaps out of order. nice: the child's priority from now on; it can only
        be lowered. A cancelled call ends the child. Raises DataError for data that is absent or malformed, ModelError
        for any other failure, in one line.
        """
        async with self._one_at_a_time:
            process = await self._started()
            try:
                return await self._do(process, _Request(tuple(jobs), nice), on_progress, on_done)
            except _JobFailedError as failed:
                raise failed.error from None  # the child is as good as before, and keeps what it has loaded
            except BaseException:
                await self.close()
                raise

    async def load_ahead(self, jobs: Sequence[TrainJob], *, nice: int) -> None:
        """Have the child load what these jobs will need: the training framework, the data, the converter.

        It is a help and no promise: what fails here fails again, and is told, where the jobs are done.
        """
        async with self._one_at_a_time:
            process = await self._started()
            try:
                await self._do(process, _Request(tuple(jobs), nice, ahead=True), None, None)
            except _JobFailedError as failed:
                _log.warning("the trainer could not load ahead: %s", failed)
            except EdgebenchError as error:
                await self.close()
                _log.warning("the trainer could not load ahead: %s", error)
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is not None:
            await self._end(process)

    async def _end(self, process: asyncio.subprocess.Process) -> int:
        status = await end_family(process, _PATIENCE_S)
        listening, self._listening = self._listening, None
        if listening is not None:
            # It ends with the pipe, which somebody else may hold.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listening, _PATIENCE_S)
        return status

    async def __aenter__(self) -> Trainer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is not None:
            await self.close()  # it died between two requests, which is no fault of the next one
        if self._process is None:
            self._process = await start_family(
                [sys.executable, "-m", "cloud.trainer"],
                patience_s=_PATIENCE_S,
                limit_bytes=_LINE_LIMIT_BYTES,
                stderr=asyncio.subprocess.PIPE,
                env=quiet_environment(),
            )
            assert self._process.stderr is not None
            self._last_words.clear()
            gathering = _keep_end(self._process.stderr, self._last_words)
            self._listening = asyncio.create_task(gathering, name="trainer-stderr")
        return self._process

    async def _do(
        self,
        process: asyncio.subprocess.Process,
        request: _Request,
        on_progress: Callable[[EpochDone], None] | None,
        on_done: Callable[[Trained], Awaitable[None]] | None,
    ) -> tuple[Trained, ...]:
        assert process.stdin is not None
        done: dict[str, Trained] = {}
        process.stdin.write(msgspec.json.encode(request) + b"\n")
        async for line in lines_of(process):
            event = msgspec.json.decode(line, type=_Event)
            match event:
                case EpochDone():
                    if on_progress is not None:
                        on_progress(event)
                case Trained():
                    done[event.name] = event
                    if on_done is not None:
                        await on_done(event)
                case _Finished():
                    return tuple(done[job.name] for job in request.jobs if not request.ahead)
                case _Failed():
                    raise _JobFailedError((DataError if event.about_data else ModelError)(event.reason))
        status = await self._end(process)
        raise ModelError(_death(status, bytes(self._last_words)))


def train_now(
    jobs: Sequence[TrainJob], *, on_progress: Callable[[EpochDone], None] | None = None
) -> tuple[Trained, ...]:
    """`Trainer.train`, for callers without an event loop."""

    async def once() -> tuple[Trained, ...]:
        async with Trainer() as trainer:
            return await trainer.train(jobs, on_progress=on_progress)

    return asyncio.run(once())


async def _keep_end(stream: asyncio.StreamReader, kept: bytearray) -> None:
    """Read all there is, since a pipe that is full stops its writer; not by lines, which may have no end."""
    while chunk := await stream.read(_KEPT_STDERR_BYTES):
        kept += chunk
        del kept[:-_KEPT_STDERR_BYTES]


def _death(status: int, said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    last_words = f": {lines[-1]}" if lines else ""
    return f"the trainer ended before its work did ({describe_end(status)}){last_words}"


def main() -> int:
    """Do the jobs of each request on standard input, until that ends; a job that fails is an event with the reason."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print must not mix with the events

    def emit(event: _Event) -> None:
        # One write a line: the exporting thread reports too.
        events.write(msgspec.json.encode(event) + b"\n")
        events.flush()

    from cloud.training import TrainerSession

    with TrainerSession() as session:
        for line in sys.stdin.buffer:
            request = msgspec.json.decode(line, type=_Request)
            try:
                session.lower_priority(request.nice)
                if request.ahead:
                    session.load(request.jobs)
                else:
                    session.do(request.jobs, emit)
            except Exception as error:  # noqa: BLE001  (the event is where it goes)
                traceback.print_exc()
                emit(_failure(error))
            else:
                emit(_Finished())
    return 0


def _failure(error: Exception) -> _Failed:
    text = (
        " ".join(str(error).split())
        if isinstance(error, EdgebenchError)
        else f"training failed: {describe_error(error)}"
    )
    return _Failed(text, isinstance(error, DataError))


if __name__ == "__main__":
    sys.exit(main())
