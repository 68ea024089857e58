"""A lab's server: what anybody may ask of it, what a machine may, and what the operator may.

HTTP over TLS 1.3. Who shows no certificate can be introduced, join by a token, and fetch the wheel. A machine is known
by its certificate, which has to be a member's at each request: who was removed is out at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from aiohttp import web

from edgebench.clock import now_s, utc_now
from edgebench.decoding import from_msgpack, whole_number
from edgebench.fabric.authority import Authority
from edgebench.fabric.shelves import Refusal
from edgebench.fabric.tls import Peer, private_folder
from edgebench.fabric.transfer_routes import peer_behind
from edgebench.lab.addresses import LabUrl
from edgebench.lab.clock_exchange import ClockAnswerer
from edgebench.lab.database import Database
from edgebench.lab.doorkeeper import Doorkeeper
from edgebench.lab.mail import Mail
from edgebench.lab.members import Members
from edgebench.lab.messages import (
    MOST_BODY_BYTES,
    OPERATOR,
    ClockQuestion,
    ConflictError,
    Facts,
    Hello,
    Introduction,
    JoinRequest,
    LabError,
    RemovedError,
    TokenError,
    Told,
    Welcome,
    check_run_id,
    status_of,
)
from edgebench.lab.presence import Presence
from edgebench.lab.tokens import HOW_TO_GET
from edgebench.lab.uploads import UPLOADS, RunFiles, UploadRoutes
from edgebench.lab.wheel import Wheel, code_digest, own_wheel

_STRANGERS_BYTES = 64 << 10
_STRANGERS_S = 10.0
_ROOM_BYTES = 64 << 10
_MOST_WAIT_S = 20.0
_TAKEN_OVER_S = 5.0
_LOOK_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Question = TypeVar("_Question")


class LabServer:
    """What is behind the requests. Everything happens in the thread of its event loop."""

    def __init__(self, folder: Path, database: Database, authority: Authority, doorkeeper: Doorkeeper) -> None:
        self.folder = folder
        self.database = database
        self.authority = authority
        self.doorkeeper = doorkeeper
        self.members = Members(database, authority)
        self.mail = Mail(database)
        self._files = RunFiles(folder / "files", self.mail)
        self.find_url: Callable[[], LabUrl] = lambda: LabUrl("", 0)
        """Known once it listens."""
        self.told = asyncio.Event()
        """Something was reported."""
        self.ending = False
        self._presences: dict[str, Presence] = {}
        self._packing = threading.Lock()

    @property
    def url(self) -> LabUrl:
        """As machines reach it now: this computer may be given its address after the server has begun."""
        return self.find_url()

    def application(self, operator_routes: Callable[[web.UrlDispatcher], None]) -> web.Application:
        """Routes and checks."""
        app = web.Application(middlewares=[self._admitted], client_max_size=MOST_BODY_BYTES + _ROOM_BYTES)
        routes = app.router
        routes.add_get("/v1/introduction", self._introduction)
        routes.add_post("/v1/join", self._join)
        routes.add_get("/v1/wheel/{name}", self._wheel)
        routes.add_post("/v1/machine/hello", self._hello)
        routes.add_post("/v1/machine/goodbye", self._goodbye)
        routes.add_get("/v1/machine/orders", self._orders)
        routes.add_post("/v1/machine/reports", self._reports)
        routes.add_post("/v1/machine/renew", self._renew)
        UploadRoutes(self._files).add_to(routes)
        operator_routes(routes)
        return app

    def presence(self, machine: str) -> Presence:
        """Of a member."""
        if machine not in self._presences:
            self._presences[machine] = Presence(self.mail.session(machine))
        return self._presences[machine]

    def wheel(self) -> Wheel:
        """What machines install; packed when it is first asked for."""
        with self._packing:  # whoever asks meanwhile waits for it
            return own_wheel(self.folder / "wheels")

    def wheel_line(self) -> str:
        """What `pip install` takes to install it, and nothing else in its place."""
        wheel, url = self.wheel(), str(self.url)
        place = f"{url}/v1/wheel/{wheel.path.name}#sha256={wheel.sha256}"
        return f"--trusted-host {url.removeprefix('https://')} {place}"

    def mend(self, facts: Facts) -> str | None:
        """The line by which a machine comes to run the lab's code; None where it does."""
        return None if facts.code == code_digest() else f"{facts.python} -m pip install {self.wheel_line()}"

    def release(self, run_id: str) -> None:
        """Let a run's machines go."""
        check_run_id(run_id)
        # On a device without Python nothing runs, and it would never say that it has ended that.
        held = [name for name in self.mail.held(run_id) if self.members.is_machine(name)]
        present = {name for name in held if not self.presence(name).is_lost}
        for name in self.mail.release(run_id, present):
            self.presence(name).wake.set()
        self._files.forget(run_id)
        shutil.rmtree(self.folder / "files" / run_id, ignore_errors=True)
        self.owner_file(run_id).unlink(missing_ok=True)

    def remove(self, machine: str) -> None:
        """Throw a machine out; nothing that it has asked for is answered any more."""
        self.members.get(machine)
        self.mail.note(machine, "removed")
        self.members.remove(machine)
        self.told.set()
        presence = self._presences.pop(machine, None)
        if presence is not None:
            presence.wake.set()
        self.doorkeeper.cut(machine)

    def owner_file(self, run_id: str) -> Path:
        """What the command behind a run keeps locked while it lives."""
        check_run_id(run_id)
        return private_folder(self.folder / "holds") / run_id

    async def watch(self) -> None:
        """See who is gone: machines that a run should hear of, and runs whose machines should be free."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for run_id in self.mail.runs():
                for machine in self.mail.held(run_id):
                    self._look_for(machine)
            self.release_abandoned()

    def release_abandoned(self) -> None:
        """Let the machines of runs go whose command has ended, however it did."""
        for run_id in self.mail.holds():
            if _is_free(self.owner_file(run_id)):
                self.release(run_id)

    def end(self) -> None:
        """Answer whoever waits, since the server ends."""
        self.ending = True
        self.told.set()
        for presence in self._presences.values():
            presence.wake.set()

    def _look_for(self, machine: str) -> None:
        if not self.members.is_machine(machine):
            self.mail.free_lost(machine)  # a server of before may have waited for it
            return
        presence = self.presence(machine)
        if presence.is_lost:
            self.mail.free_lost(machine)
            if not presence.lost_told:
                presence.lost_told = True
                self.mail.note(machine, "lost")
                self.told.set()

    def clock_answerer(self, peer: Peer) -> ClockAnswerer:
        """For a connection of a machine on which clocks are compared."""
        return ClockAnswerer(partial(self._hear_clock, peer), partial(self.doorkeeper.admitted, peer.machine))

    def _hear_clock(self, peer: Peer, question: ClockQuestion) -> None:
        """Take in how a machine's clock stands. Raises LabError where it is no member, or in another session."""
        self._check_machine(peer)
        presence = self._check_session(peer.machine, question.session)
        presence.heard()
        if question.last is not None:
            try:
                presence.compare(question.last)
            except ValueError as error:
                raise LabError(f"the clocks cannot be compared: {error}") from error

    @web.middleware
    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.doorkeeper.has_spoken(request)
        try:
            self._check(request)
            return await handler(request)
        except TokenError as error:
            self.doorkeeper.refused(f"a token: {error.kind}", request.remote)
            return web.Response(status=status_of(error), text=str(error))
        except LabError as error:
            return web.Response(status=status_of(error), text=str(error))
        except Refusal as refusal:
            return web.Response(status=refusal.status, text=str(refusal))
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=f"not understood: {error}")

    def _check(self, request: web.Request) -> None:
        """Whether whoever asks may ask for this at all. Raises LabError."""
        peer, resource = peer_behind(request), request.match_info.route.resource
        place = "" if resource is None else resource.canonical
        if place.startswith("/v1/operator/"):
            if peer is None or peer.machine != OPERATOR:
                self.doorkeeper.refused("not the operator", request.remote)
                raise LabError("only the lab's operator may do this (on the lab's server)")
        elif place.startswith(("/v1/machine/", UPLOADS)):
            if peer is None:
                self.doorkeeper.refused("no certificate", request.remote)
                raise LabError(f"a machine has to show its certificate (join with --token; {HOW_TO_GET})")
            self._check_machine(peer, request.remote)
            self.doorkeeper.admitted(peer.machine, request.transport)
        elif (request.content_length or 0) > _STRANGERS_BYTES or (
            request.content_length is None and request.body_exists
        ):
            self.doorkeeper.refused("a request of a stranger that is too large", request.remote)
            raise LabError(f"at most {_STRANGERS_BYTES:,} bytes, of a length that is told")

    def _check_machine(self, peer: Peer, address: str | None = None) -> None:
        """Whether a certificate is that of a member that runs `edgebench join`. Raises LabError."""
        if not self.members.knows(peer):
            self.doorkeeper.refused("a machine that was removed", address)
            raise RemovedError(f"this machine is not in the lab any more: join with --token ({HOW_TO_GET})")
        if not self.members.is_machine(peer.machine):
            self.doorkeeper.refused("a device without Python", address)
            raise LabError(f"{peer.machine}: is a device without Python, which talks to the broker of its site alone")

    async def _introduction(self, _request: web.Request) -> web.Response:
        return packed(Introduction(self.authority.pem, utc_now().timestamp()))

    async def _join(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_STRANGERS_S):
                question = await asked(request, JoinRequest)
        except TimeoutError:
            self.doorkeeper.refused("a request of a stranger that does not end", request.remote)
            raise LabError(f"a request to join has to come within {_STRANGERS_S:.0f} s") from None
        return packed(self.members.join(question, request.remote or ""))

    async def _wheel(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        file = next((each for each in (self.folder / "wheels").glob("*.whl") if each.name == name), None)
        if file is None:
            raise web.HTTPNotFound(text="no such wheel here (edgebench lab invite prints the line for today's)")
        return web.FileResponse(file)

    async def _hello(self, request: web.Request) -> web.Response:
        name, hello = self._machine(request), await asked(request, Hello)
        presence = self.presence(name)
        silent_s = presence.silent_s
        if presence.session not in ("", hello.session) and silent_s is not None and silent_s < _TAKEN_OVER_S:
            raise ConflictError(
                f"another process has joined as {name!r}, from {presence.address}, and was heard just now "
                f"(a copied card? each board joins with a token of its own: {HOW_TO_GET})"
            )
        self.mail.begin_session(name, hello.session)
        presence.begin(hello.session)
        presence.wake.set()
        _hear(request, presence)
        self.members.seen(name, hello.facts)
        self.told.set()
        if hello.facts.code != code_digest():
            await asyncio.to_thread(self.wheel)  # that takes a while, the first time
        return packed(Welcome(name, self.members.get(name).role, self.mend(hello.facts)))

    async def _goodbye(self, request: web.Request) -> web.Response:
        name, presence = self._in_session(request, await asked(request, str))
        self.mail.begin_session(name, "")
        self.members.seen(name, self.members.get(name).facts)
        presence.begin("")
        presence.wake.set()
        self.told.set()
        return packed(True)

    async def _orders(self, request: web.Request) -> web.Response:
        session, after = request.query.get("session", ""), number_of(request, "after")
        until_s = now_s() + waiting_s(request)
        peer = peer_behind(request)
        assert peer is not None
        name, presence = self._in_session(request, session)
        while True:
            found = self.mail.orders(name, after)
            if found or self.ending or (left_s := until_s - now_s()) <= 0:
                return packed(found)
            presence.wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(presence.wake.wait(), left_s)
            if not self.members.knows(peer):
                raise RemovedError(f"this machine was removed from the lab: join with --token ({HOW_TO_GET})")
            self._check_session(name, session)

    async def _reports(self, request: web.Request) -> web.Response:
        told = await asked(request, Told)
        name, _ = self._in_session(request, told.session)
        last = self.mail.take(name, told)
        self.told.set()
        return packed(last)

    async def _renew(self, request: web.Request) -> web.Response:
        return packed(self.members.renew(self._machine(request), await asked(request, bytes), request.remote or ""))

    def _machine(self, request: web.Request) -> str:
        peer = peer_behind(request)
        assert peer is not None
        return peer.machine

    def _in_session(self, request: web.Request, session: str) -> tuple[str, Presence]:
        """The machine that asks. Raises ConflictError where it is another process's by now."""
        name = self._machine(request)
        presence = self._check_session(name, session)
        _hear(request, presence)
        return name, presence

    def _check_session(self, name: str, session: str) -> Presence:
        presence = self.presence(name)
        if not session or presence.session != session:
            raise ConflictError(f"{name}: another process has joined as this machine, from {presence.address}")
        return presence


async def asked(request: web.Request, kind: type[_Question]) -> _Question:
    """What a request says. Raises msgspec.DecodeError."""
    return from_msgpack(await request.read(), kind)


def _hear(request: web.Request, presence: Presence) -> None:
    here = None if request.transport is None else request.transport.get_extra_info("sockname")
    presence.is_at(request.remote or "", "" if here is None else here[0])
    presence.heard()


def number_of(request: web.Request, name: str) -> int:
    """A number in the query. Raises LabError."""
    number = whole_number(request.query.get(name, ""))
    if number is None:
        raise LabError(f"{name} is no number")
    return number


def waiting_s(request: web.Request) -> float:
    """How long whoever asks is ready to wait."""
    return min(number_of(request, "wait_ms") / 1000, _MOST_WAIT_S)


def packed(answer: object) -> web.Response:
    """An answer."""
    return web.Response(body=msgspec.msgpack.encode(answer))


def _is_free(file: Path) -> bool:
    """Whether nobody has it locked."""
    try:
        with file.open("rb") as locked:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True
