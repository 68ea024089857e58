"""The lab of this computer: served by a thread of this process, or found where another process serves it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from edgebench.clock import now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.fabric.tls import private_folder, write_private
from edgebench.lab.addresses import LabUrl, Listen
from edgebench.lab.messages import LabError, PassingError
from edgebench.lab.operator import LabClient
from edgebench.lab.places import lab_folder

_log = logging.getLogger(__name__)
_BEGINNING_S = 10.0
_POLL_S = 0.05
_LOOK_S = 0.5
LOCK = "lock"
"""The file in a lab's folder that its server keeps locked."""
_SERVED = "served.json"
_EMBEDDED = "embedded"
"""A file that is there where the last server was embedded in a command."""


@contextlib.contextmanager
def lab(listen: Listen | None = None) -> Iterator[LabClient]:
    """The one that `edgebench lab serve` serves here; where it does not, one that is served for as long as this lasts.

    One that another process serves in this way is taken over when that one is through with it first. Raises LabError.
    """
    client = find()
    if client is not None:
        with contextlib.closing(client), _Heir(client.folder):
            yield client
        return
    with ServedLab(listen, embedded=True) as served, contextlib.closing(served.client()) as client:
        yield client


def find() -> LabClient | None:
    """To the server of this computer's lab; None where none runs."""
    folder = lab_folder()
    until_s = now_s() + _BEGINNING_S
    while is_locked(folder / LOCK):
        with contextlib.suppress(FileNotFoundError):  # it is about to begin, or to end
            return LabClient(folder, msgspec.json.decode((folder / _SERVED).read_bytes(), type=LabUrl))
        if now_s() > until_s:
            raise LabError(f"{folder}: the lab's server there does not begin (look at what it says)")
        sleep_s(_POLL_S)
    return None


def connect() -> LabClient:
    """As `find`. Raises LabError where none runs."""
    client = find()
    if client is None:
        raise LabError(f"no lab is served on this computer ({lab_folder()}): start it by `edgebench lab serve`")
    return client


class ServedLab:
    """A lab's server, in a thread with an event loop of its own, from `start` (or `with`) to `stop`."""

    def __init__(self, listen: Listen | None = None, folder: Path | None = None, *, embedded: bool = False) -> None:
        """listen: None for where it listened before, or all addresses of this computer at port 46900. folder: of
        another lab than this computer's. embedded: in a command that is there for something else, whose place as a
        server others may take when it ends."""
        self.url = LabUrl("", 0)
        self._listen = listen
        self._folder = folder or lab_folder()
        self._embedded = embedded
        self._lock: int | None = None
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._from_here = self.url
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="lab server")

    def start(self) -> ServedLab:
        """Raises LabError where another process serves it, or it cannot listen there."""
        self._lock = _locked(private_folder(self._folder) / LOCK)
        (self._folder / _SERVED).unlink(missing_ok=True)  # of one that was killed
        if self._embedded:
            (self._folder / _EMBEDDED).touch()
        else:
            (self._folder / _EMBEDDED).unlink(missing_ok=True)
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it; machines go on trying to reach it."""
        self._stopping = True
        if self._loop is not None and self._over is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._over.set)
        if self._thread.ident is not None:
            self._thread.join()
        if self._lock is not None:
            (self._folder / _SERVED).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def client(self) -> LabClient:
        """To this server."""
        return LabClient(self._folder, self._from_here)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by a mistake."""
        return self._thread.is_alive()

    def __enter__(self) -> ServedLab:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        from edgebench.lab.listening import Listener  # whoever only asks needs no server's packages

        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        if self._stopping:  # by a Ctrl-C, before there was anything to be told of it
            self._over.set()
        async with Listener(self._folder, self._listen) as listener:
            self.url, self._from_here = listener.url, listener.from_here
            write_private(self._folder / _SERVED, msgspec.json.encode(self._from_here))
            self._ready.set_result(None)
            await listener.until(self._over)


class _Heir:
    """Takes a server's place when the command in which it was embedded has ended: the database has all that it
    knew, and machines and runs look for it at the same address for a while."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self._served: ServedLab | None = None
        self._thread = threading.Thread(target=self._watch, name="heir of the lab server", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._served is not None:
            self._served.stop()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            if not (self._folder / _EMBEDDED).exists():
                continue
            try:
                self._served = ServedLab(folder=self._folder, embedded=True).start()
            except PassingError:  # another serves it yet, or its port is not free yet
                continue
            except (EdgebenchError, OSError) as error:
                _log.error("the lab's server cannot be taken over: %s", error)
            return


def _locked(file: Path) -> int:
    """A descriptor that keeps it locked. Raises PassingError where another process does."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise PassingError(f"{file.parent}: another process serves this lab already") from None
    return lock


def is_locked(file: Path) -> bool:
    """Whether a process has locked it."""
    try:
        os.close(_locked(file))
    except FileNotFoundError:
        return False
    except PassingError:
        return True
    return False
