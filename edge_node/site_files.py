"""What an edge that aggregates serves to its site by HTTP: the contents of its messages, and a place for the
replies.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from edgebench.fabric.shelves import BACKLOG, Caller, Callers
from edgebench.fabric.tls import server_context, trust_from_environment
from edgebench.federated.message_files import MessageFiles

_CLOSE_S = 1.0


class SiteFiles:
    """Served from a thread of its own, which has an event loop, until `close`. messages: what is served."""

    def __init__(self, listening: socket.socket, callers: Mapping[str, Caller], directory: Path) -> None:
        """callers: see `Callers`."""
        self.messages = MessageFiles(directory)
        self._listening = listening
        self._callers = Callers(callers)
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
        from aiohttp import web

        from edgebench.fabric.transfer_routes import KEEPALIVE_S, TransferRoutes

        routes = TransferRoutes(self._callers, {"requests": self.messages}, {"replies": self.messages})
        runner = web.AppRunner(
            routes.application(), access_log=None, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=_CLOSE_S
        )
        await runner.setup()
        try:
            trust = trust_from_environment()
            # Who connects shows a certificate of the same lab, and besides, in each request, a token.
            secured = None if trust is None else server_context(trust, require_client_certificate=True)
            await web.SockSite(runner, self._listening, ssl_context=secured, backlog=BACKLOG).start()
            await self._over.wait()
        finally:
            await runner.cleanup()
