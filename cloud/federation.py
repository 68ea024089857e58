"""A federation beside the streams: a child process runs the server's side, and tells of each round as a line of JSON.

`Federation` is the parent's side, `python -m cloud.federator` the child's. A child of its own, since a Flower app is
somebody's own code, and aggregating a large model must not hold the streams up. What its messages carry is fetched and
handed in at the parent's control plane: the child announces files there, and is told of those that come.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from types import TracebackType

import msgspec

from edgebench.errors import DataError, ModelError
from edgebench.fabric.child_process import describe_end, end_family, lines_of, start_family
from edgebench.fabric.records import AppMetrics, Rounded
from edgebench.federated.message_files import Announcement, Carried, HandedIn, MessageFiles
from edgebench.topology.deployment import FederatedPlan

_LINE_LIMIT_BYTES = 1 << 26
_STOP_S = 12.0
"""An engine of Flower's has processes of its own, which get 5 s to end in good order, and 5 s more."""


class FederationSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the child is told. parents: client -> the edge above it. broker: MQTT URL of the cloud's.

    bundle_dir: of the built-in app's bundle, with the weights that the first round begins with; None with an app.
    journal_dir: where rounds are written down; what it holds already is not done again. work_dir: for what passes
    through. files_dir: where an app stands. seals: as all of the run, its connection does.
    """

    run_id: str
    cloud: str
    seed: int
    plan: FederatedPlan
    parents: dict[str, str]
    broker: str
    bundle_dir: str | None
    journal_dir: str
    files_dir: str
    work_dir: str
    log_dir: str
    seals: bool = False


class Go(msgspec.Struct, frozen=True, tag="go"):
    """To the child, once the streams have their start."""

    start_ns: int


class Announced(msgspec.Struct, frozen=True, tag="announced"):
    """From the child: these messages have been sent. It waits for `Done` with this number."""

    number: int
    announcements: tuple[Announcement, ...]


class Withdrawn(msgspec.Struct, frozen=True, tag="withdrawn"):
    """From the child: no replies to these messages are wanted any more. It waits for `Done` with this number."""

    number: int
    message_ids: tuple[str, ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """To the child. carried: see `MessageFiles.withdraw`. error: why it could not be done."""

    number: int
    carried: dict[str, Carried] = {}
    error: str | None = None


class Replied(msgspec.Struct, frozen=True, tag="replied"):
    """To the child: replies have come."""

    replies: HandedIn


class CameLate(msgspec.Struct, frozen=True, tag="late"):
    """To the child: a reply has come to a message that was withdrawn."""

    message_id: str


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    """From the child: it is connected, and waits for `Go`."""


class GlobalModel(msgspec.Struct, frozen=True, tag="model"):
    """The model after a round (0: before the first), as a parcel of arrays, which is the reader's to delete.

    resumed: an earlier run has learned it.
    """

    number: int
    path: str
    resumed: bool = False


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """All rounds are done."""


class FailedFederation(msgspec.Struct, frozen=True, tag="failed"):
    """It cannot go on. about_data: the user's mistake."""

    reason: str
    about_data: bool = False


FederationEvent = Listening | Rounded | AppMetrics | GlobalModel | Finished | FailedFederation
FromParent = Go | Done | Replied | CameLate


class Federation:
    """The child process of one federated workload; use it by `async with`.

    It ends with this process, whatever ends that.
    """

    def __init__(self, spec: FederationSpec, files: MessageFiles) -> None:
        """files: of the control plane."""
        self._spec = spec
        self._files = files
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Federation:
        self._process = await start_family(
            [sys.executable, "-m", "cloud.federator"], patience_s=_STOP_S, limit_bytes=_LINE_LIMIT_BYTES
        )
        self._say(self._spec)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            await end_family(self._process, _STOP_S)
        self._files.withdraw_all(self)

    def go(self, start_ns: int) -> None:
        """Let the rounds begin, counted from `start_ns`."""
        self._say(Go(start_ns))

    async def listening(self) -> None:
        """Return when the child is ready for `go`. Raises ModelError or DataError with why it never will be."""
        async for event in self.events():
            if isinstance(event, Listening):
                return
        raise ModelError("the federation ended before it began")

    async def events(self) -> AsyncIterator[FederationEvent]:
        """What happens, up to the end. Raises ModelError or DataError where the federation fails."""
        assert self._process is not None
        async for line in lines_of(self._process):
            event = msgspec.json.decode(line, type=FederationEvent | Announced | Withdrawn)
            if isinstance(event, Announced | Withdrawn):
                self._say(await asyncio.to_thread(self._done, event))
                continue
            if isinstance(event, FailedFederation):
                raise (DataError if event.about_data else ModelError)(event.reason)
            yield event
            if isinstance(event, Finished | Listening):
                return
        status = await end_family(self._process, _STOP_S)
        raise ModelError(f"its process ended before its work did ({describe_end(status)}); see the cloud's log")

    # Of the control plane's files; from the event loop, as all else here.

    def handed_in(self, replies: HandedIn) -> None:
        """See `Announcer`."""
        self._say(Replied(replies))

    def too_late(self, message_id: str) -> None:
        """See `Announcer`."""
        self._say(CameLate(message_id))

    def _done(self, event: Announced | Withdrawn) -> Done:
        if isinstance(event, Withdrawn):
            return Done(event.number, self._files.withdraw(event.message_ids))
        try:
            self._files.announce(event.announcements, self)
        except OSError as error:
            return Done(event.number, error=f"a message cannot be read: {error}")
        return Done(event.number)

    def _say(self, what: FederationSpec | FromParent) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(what) + b"\n")
