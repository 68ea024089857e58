"""A server of files on loopback, in a thread: what is in a folder is fetched, and what is handed in comes into it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from edgebench.clock import now_s, sleep_s
from edgebench.fabric.shelves import (
    Caller,
    Callers,
    Downloads,
    Offered,
    Refusal,
    Staged,
    Upload,
    Uploads,
    arriving,
)
from edgebench.fabric.transfer_routes import TransferRoutes
from edgebench.fabric.turns import TurnsOf

TOKEN = "of-bed"
WAIT_S = 30.0


def until(happened: Callable[[], object], what: str = "it happens") -> None:
    """Wait for it."""
    limit_s = now_s() + WAIT_S
    while not happened():
        assert now_s() < limit_s, what
        sleep_s(0.002)


class Folder:
    """sent_bytes: what has gone of its files. kept: what has come, by name."""

    def __init__(self, path: Path, largest_bytes: int = 1 << 30) -> None:
        self.path = path
        self.largest_bytes = largest_bytes
        self.sent_bytes = 0
        self.asked = 0
        self.kept: dict[str, Upload] = {}
        self.coming: dict[str, Upload] = {}

    def find(self, nodes: frozenset[str], name: str) -> Offered:
        self.asked += 1
        path = self.path / name
        if not path.is_file():
            raise Refusal(503, "the file is still being made")
        return Offered(path, path.stat().st_size, sent=self._sent)

    async def expect(self, nodes: frozenset[str], name: str, digest: str, size_bytes: int) -> Upload | Staged:
        self.asked += 1
        if size_bytes > self.largest_bytes:
            raise Refusal(413, f"a file has {self.largest_bytes} bytes at most")
        if name in self.kept:
            return Staged(size_bytes, kept=True)
        return arriving(self.coming, name, self.path / f"{name}.coming", digest, size_bytes)

    def keep(self, nodes: frozenset[str], name: str, upload: Upload) -> None:
        upload.partial.replace(self.path / name)
        self.kept[name] = upload

    def _sent(self, size_bytes: int) -> None:
        self.sent_bytes += size_bytes


@contextmanager
def serving(
    downloads: Mapping[str, Downloads],
    uploads: Mapping[str, Uploads],
    tokens: Mapping[str, Sequence[str]],
    turns_of: TurnsOf = lambda _nodes, _way: None,
) -> Iterator[str]:
    """The URL, for as long as this lasts."""
    callers = Callers.of_tokens({token: Caller(frozenset(nodes)) for token, nodes in tokens.items()})
    with served(TransferRoutes(callers, downloads, uploads, turns_of=turns_of).application) as url:
        yield url


@contextmanager
def serving_folder(folder: Folder) -> Iterator[str]:
    """The URL of a folder's files, of the kind `files`."""
    with serving({"files": folder}, {"files": folder}, {TOKEN: ["bed"]}) as url:
        yield url


@contextmanager
def served(application: Callable[[], web.Application]) -> Iterator[str]:
    """An application of aiohttp, in a thread of its own."""
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, name="served")
    thread.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
