"""A lab's server at its address: its certificates, its socket, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
import psutil
from aiohttp import web

from edgebench.clock import utc_now
from edgebench.errors import FabricError
from edgebench.fabric.authority import Authority, valid_until
from edgebench.fabric.tls import private_folder, renew, server_context, trust_in
from edgebench.fabric.transfer_routes import http_logger
from edgebench.lab.addresses import LabUrl, Listen
from edgebench.lab.database import Database
from edgebench.lab.doorkeeper import Door, Doorkeeper
from edgebench.lab.messages import DEFAULT_PORT, OPERATOR, LabError, PassingError
from edgebench.lab.operator_routes import OperatorRoutes
from edgebench.lab.server import LabServer
from edgebench.topology.deployment import HERE

_LISTEN = "listen"
_ADDRESSES = "addresses"
_ALL = "0.0.0.0"
_HANDSHAKE_S = 10.0
_GOODBYE_S = 2.0
_RENEW_BEFORE_S = 30 * 86_400.0
_LOOK_S = 3600.0
_NOWHERE = "192.0.2.1"
"""An address that documents use: asking for the way there sends nothing."""


class Listener:
    """An async context manager, for as long as the server listens."""

    def __init__(self, folder: Path, listen: Listen | None) -> None:
        self._folder = private_folder(folder)
        self._given = listen
        self._stack = AsyncExitStack()
        self.url = LabUrl("", 0)
        self.from_here = self.url

    async def __aenter__(self) -> Listener:
        async with AsyncExitStack() as stack:
            await self._begin(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def until(self, over: asyncio.Event) -> None:
        """Watch over holds and certificates until it is over. Raises what either raises."""
        tasks = [asyncio.ensure_future(each) for each in (over.wait(), self._lab.watch(), self._renew())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _begin(self, stack: AsyncExitStack) -> None:
        database = Database(self._folder / "lab.db")
        stack.callback(database.close)
        kept = database.setting(_LISTEN)
        default = Listen("", DEFAULT_PORT) if kept is None else msgspec.json.decode(kept, type=Listen)
        listen = self._given or (Listen("", default.port) if default.host == "::" else default)
        self._authority = _authority(self._folder)
        self._issue(database, utc_now())
        self._trust = trust_in(self._folder / HERE)
        self._context = server_context(self._trust, require_client_certificate=False)
        doorkeeper = Doorkeeper()
        doorkeeper.guard(self._context)
        stack.push_async_callback(doorkeeper.cut_all)
        self._lab = LabServer(self._folder, database, self._authority, doorkeeper)
        runner = web.AppRunner(
            self._lab.application(OperatorRoutes(self._lab).add),
            access_log=None,
            logger=http_logger(doorkeeper),
            shutdown_timeout=_GOODBYE_S,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        make = runner.server
        assert make is not None
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: Door(doorkeeper, partial(doorkeeper.for_http, make), self._lab.clock_answerer),
                listen.host or _ALL,
                listen.port,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_S,
            )
        except OSError as error:
            # An address may be given to this computer yet, and a port be let go; rights are not given by themselves.
            kind = LabError if isinstance(error, PermissionError) else PassingError
            raise kind(
                f"--listen {listen.host}:{listen.port}: {error.strerror or error} (name another address or port)"
            ) from error
        stack.callback(server.close)
        stack.callback(self._lab.end)
        port = server.sockets[0].getsockname()[1]
        database.keep_setting(_LISTEN, msgspec.json.encode(Listen(listen.host, port)).decode())
        wildcard = listen.host in ("", _ALL)
        self._lab.find_url = lambda: LabUrl(primary_address() if wildcard else listen.host, port)
        self.url = self._lab.url
        self.from_here = LabUrl("127.0.0.1" if wildcard else listen.host, port)

    def _issue(self, database: Database, now: datetime) -> None:
        """Certificates of this computer and of the operator, where there are none, or they do not last or fit."""
        addresses = ",".join(own_addresses())
        if database.setting(_ADDRESSES) != addresses or _runs_out(self._folder / HERE, now):
            self._authority.issue(self._folder / HERE, HERE, own_addresses())
            database.keep_setting(_ADDRESSES, addresses)
        if _runs_out(self._folder / OPERATOR, now):
            self._authority.issue(self._folder / OPERATOR, OPERATOR)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._lab.doorkeeper.forget_closed()
            self.renew_certificates(utc_now())

    def renew_certificates(self, now: datetime) -> None:
        """Show another one from the next connection on, where that of this computer runs out, or does not fit."""
        self._issue(self._lab.database, now)
        renew(self._context, self._trust)


def own_addresses() -> list[str]:
    """The addresses of this computer by which others can reach it, and loopback; of IPv6 none that needs a zone."""
    found = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6) and "%" not in address.address
    }
    return sorted(found)


def primary_address() -> str:
    """The one by which the way to other networks begins; where there is none, any that is not loopback."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((_NOWHERE, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return next((each for each in own_addresses() if not each.startswith("127.") and ":" not in each), "127.0.0.1")


def _authority(folder: Path) -> Authority:
    home = folder / "authority"
    return Authority.load(home) if (home / "ca.pem").exists() else Authority.create(home)


def _runs_out(folder: Path, now: datetime) -> bool:
    try:
        until = valid_until(trust_in(folder).certificate_file.read_bytes())
    except (OSError, FabricError):
        return True
    return (until - now).total_seconds() < _RENEW_BEFORE_S
