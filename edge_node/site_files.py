"""What an edge that aggregates serves to its site by HTTP: the contents of its messages, and a place for the
replies.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from edgebench.fabric.refusals import Refusals
from edgebench.fabric.shelves import Caller, Callers
from edgebench.federated.message_files import MessageFiles


class SiteFiles:
    """Served from a thread of its own, which has an event loop, until `close`. messages: what is served."""

    def __init__(
        self, listening: socket.socket, callers: Mapping[str, Caller], directory: Path, refusals: Refusals
    ) -> None:
        """callers: see `Callers`."""
        self.messages = MessageFiles(directory)
        self._listening = listening
        self._callers = Callers(callers)
        self._refusals = refusals
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="site-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        # Only here: an edge that serves nothing, and a device, have no need of its memory.
        from edgebench.fabric.transfer_routes import TransferRoutes, serve

        routes = TransferRoutes(self._callers, {"requests": self.messages}, {"replies": self.messages}, self._refusals)
        runner = await serve(routes.application(), self._listening, self._refusals)
        try:
            await self._over.wait()
        finally:
            await runner.cleanup()
