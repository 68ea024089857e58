"""A server's side of `transfers`, for aiohttp: what shelves offer is fetched, and what they expect is handed in.

GET /v1/KIND/NAME, with `Range`: the file. GET /v1/uploads/KIND/NAME?sha256=HEX&size=BYTES: how much of it is here. PUT
to the same with &offset=BYTES: the rest of it, or with &more=1 some. Who waits long for its turn is told `100
Continue`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from weakref import WeakSet

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from edgebench.clock import now_s
from edgebench.decoding import from_json
from edgebench.fabric.digests import digest_of
from edgebench.fabric.refusals import Refusals
from edgebench.fabric.shelves import (
    BACKLOG,
    SEND_BUFFER_BYTES,
    Callers,
    Downloads,
    Offered,
    Refusal,
    Staged,
    Turn,
    Upload,
    Uploads,
    is_digest,
)
from edgebench.fabric.slices import WATCHER
from edgebench.fabric.tls import Peer, peer_of, server_context, trust_from_environment
from edgebench.fabric.turns import Turns, TurnsOf

KEEPALIVE_S = 3600.0
"""A connection is kept between the rounds of a federation; over a slow link, or by TLS, a new one takes some time."""

_log = logging.getLogger(__name__)
_PIECE_BYTES = 1 << 20
_CLOSE_S = 1.0
_HEARD_S = 3.0
"""A client that hears nothing for 10 s, or more, asks again by another connection."""
_IN_MEMORY_BYTES = 1 << 16
_LARGEST_HASHED_BYTES = 1 << 24
_SIZE = re.compile(r"[0-9]{1,12}")
_RANGE = re.compile(r"bytes=([0-9]{1,12})-([0-9]{0,12})")

_REFUSED = {
    400: "a request that nobody of ours sends",
    401: "a token",
    403: "what its sender may not do",
    413: "a request that is too large",
}
"""The statuses that say so, in words."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TransferRoutes:
    """Files by kind, to and from whoever has a token, and shows the certificate of the machine that it was given to."""

    def __init__(
        self,
        callers: Callers,
        downloads: Mapping[str, Downloads],
        uploads: Mapping[str, Uploads],
        refusals: Refusals | None = None,
        turns_of: TurnsOf = lambda _nodes, _way: None,
    ) -> None:
        """refusals: where those are counted who ask for what they may not. turns_of: whose files let samples pass."""
        self._callers = callers
        self._downloads = downloads
        self._uploads = uploads
        self._turns_of = turns_of
        self._digests: dict[tuple[str, int, int], str] = {}
        self.refusals = refusals or Refusals(_log)
        self._open: defaultdict[str, WeakSet[asyncio.Transport]] = defaultdict(WeakSet)

    def application(self) -> web.Application:
        """An application that begins with these routes; who is no caller gets no further."""
        app = web.Application(middlewares=[self._authenticated], client_max_size=_PIECE_BYTES)
        self.add_to(app.router)
        app.router.add_post("/v1/revoked", self._revoke)
        return app

    def add_to(self, router: web.UrlDispatcher) -> None:
        """To those of an application that sees to it who asks, and answers a `Refusal`."""
        for kind, offered in self._downloads.items():
            router.add_get(f"/v1/{kind}/{{name:.+}}", partial(self._download, offered))
        for kind, expected in self._uploads.items():
            router.add_get(f"/v1/uploads/{kind}/{{name}}", partial(self._staged, expected))
            router.add_put(f"/v1/uploads/{kind}/{{name}}", partial(self._upload, expected))

    @web.middleware
    async def _authenticated(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self.nodes_behind(request)
            return await handler(request)
        except Refusal as refusal:
            self._note(request, refusal.status)
            return web.Response(status=refusal.status, text=str(refusal))
        except web.HTTPException as answer:
            self._note(request, answer.status)
            raise
        except ConnectionError:
            return web.Response(status=400)  # which nobody gets

    def _note(self, request: web.Request, status: int) -> None:
        if status in _REFUSED:
            self.refusals.refused(_REFUSED[status], request.remote)

    def nodes_behind(self, request: web.Request) -> frozenset[str]:
        """The nodes that the request's token speaks for; without a known token the request ends here.

        Where certificates are shown, a token alone is of no use: it has to come from the machine that it was given to.
        """
        caller, peer = self._callers.behind(request.headers.get("Authorization", "")), peer_behind(request)
        if caller is None:
            raise web.HTTPUnauthorized(text="no such token")
        if peer is not None and peer.machine != caller.machine:
            raise web.HTTPUnauthorized(text=f"this token is not of {peer.machine}")
        if request.transport is not None:
            self._open[caller.machine].add(request.transport)
        return caller.nodes

    async def _revoke(self, request: web.Request) -> web.Response:
        """The executor's word that a machine does not belong to the run any more: its tokens are of no use, and its
        connections are cut."""
        if WATCHER not in self.nodes_behind(request):
            raise Refusal(403, "only who carries the run out may end somebody's access")
        try:
            machine = from_json(await request.read(), str)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self._callers.revoke(machine)
        for transport in self._open.pop(machine, ()):
            transport.abort()
        return _json("revoked")

    async def _download(self, shelf: Downloads, request: web.Request) -> web.StreamResponse:
        nodes = self.nodes_behind(request)
        offered = shelf.find(nodes, request.match_info["name"])
        start, end = _extent(request, offered.size_bytes)
        headers = {"Accept-Ranges": "bytes"}
        if "Range" in request.headers:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{offered.size_bytes}"
        if request.headers.get("Want-Content-Digest", "").startswith("sha-256"):
            headers["Content-Digest"] = await self._digest_of_extent(offered, start, end)
        else:
            headers["Repr-Digest"] = _field(offered.digest or await self._digest_of(offered))
        status = 206 if "Range" in request.headers else 200
        turns = self._turns_of(nodes, "down")
        if offered.body is not None and (turns is None or end - start <= turns.piece_bytes(now_s())):
            offered.sent(end - start)
            return web.Response(status=status, headers=headers, body=offered.body[start:end])
        return await _send(request, offered, start, end, web.StreamResponse(status=status, headers=headers), turns)

    async def _staged(self, shelf: Uploads, request: web.Request) -> web.Response:
        upload = await self._expected(shelf, request)
        if isinstance(upload, Staged):
            return _json(upload)
        upload.pause()  # whoever asks has no other connection any more
        return _json(await self._next_turn(request, upload))

    async def _upload(self, shelf: Uploads, request: web.Request) -> web.Response:
        offset = _number(request, "offset")
        upload = await self._expected(shelf, request)
        if isinstance(upload, Staged):
            return _json(upload)
        if offset + (request.content_length or 0) > upload.size_bytes:
            raise Refusal(400, f"more than the {upload.size_bytes} bytes that it is said to have")
        try:
            bringer = upload.begin(offset)
            while piece := await request.content.readany():
                upload.add(bringer, offset, piece)
                offset += len(piece)
        except ConnectionError:
            return web.Response(status=400)  # which nobody gets: what has come is kept, and the rest comes by another
        except OSError as error:
            raise Refusal(507, f"it cannot be kept: {error.strerror or error}") from None
        if not upload.is_whole and request.query.get("more"):
            return _json(await self._next_turn(request, upload))
        if not upload.is_whole:
            raise Refusal(409, f"{upload.have_bytes} of {upload.size_bytes} bytes are here")
        if not (upload.is_sound() if upload.is_hashed else await asyncio.to_thread(upload.is_sound)):
            raise Refusal(422, "its SHA-256 is another")
        shelf.keep(self.nodes_behind(request), request.match_info["name"], upload)
        return _json(Staged(upload.size_bytes, kept=True))

    async def _next_turn(self, request: web.Request, upload: Upload) -> Staged:
        """When it is its turn: how much more may come of a file."""
        turns = self._turns_of(self.nodes_behind(request), "up")
        rest_bytes = upload.size_bytes - upload.have_bytes
        if turns is None or (rest_bytes <= turns.piece_bytes(now_s()) and not upload.have_bytes):
            return Staged(upload.have_bytes, kept=False)
        return Staged(upload.have_bytes, kept=False, turn=await _turn(request, turns, rest_bytes, from_afar=True))

    async def _expected(self, shelf: Uploads, request: web.Request) -> Upload | Staged:
        digest = request.query.get("sha256", "")
        if not is_digest(digest):
            raise Refusal(400, "sha256 is not a SHA-256 digest (64 hex digits)")
        size_bytes = _number(request, "size")
        return await shelf.expect(self.nodes_behind(request), request.match_info["name"], digest, size_bytes)

    async def _digest_of(self, offered: Offered) -> str:
        """That of a whole file, computed once."""
        about = offered.path.stat()
        key = str(offered.path), about.st_size, about.st_mtime_ns
        if key not in self._digests:
            self._digests[key] = await asyncio.to_thread(digest_of, offered.path)
        return self._digests[key]

    async def _digest_of_extent(self, offered: Offered, start: int, end: int) -> str:
        if end - start > _LARGEST_HASHED_BYTES:
            raise Refusal(400, f"a digest is computed of {_LARGEST_HASHED_BYTES} bytes at most")
        return _field(await asyncio.to_thread(_digest_of_bytes, offered.path, start, end - start))


async def serve(app: web.Application, listening: socket.socket, refusals: Refusals) -> web.AppRunner:
    """Serve an application where this process listens already; by TLS where it is on a machine of a lab: who connects
    shows a certificate of the same lab, and besides, in each request, a token. The runner, to be cleaned up."""
    trust = trust_from_environment()
    secured = None
    if trust is not None:
        secured = server_context(trust, require_client_certificate=True)
        refusals.count_handshakes(secured)
    runner = web.AppRunner(
        app, access_log=None, logger=http_logger(refusals), keepalive_timeout=KEEPALIVE_S, shutdown_timeout=_CLOSE_S
    )
    await runner.setup()
    await web.SockSite(runner, listening, ssl_context=secured, backlog=BACKLOG).start()
    return runner


def http_logger(refusals: Refusals) -> logging.Logger:
    """For a server: of what cannot be read as HTTP, whose sender chooses it, it has no traceback to tell."""

    def is_ours(record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            refusals.refused("what is no HTTP")
            return False
        return record.levelno >= logging.WARNING

    logger = logging.Logger(f"{refusals.log.name}.http", logging.DEBUG)  # noqa: LOG001  (each server has its own)
    logger.parent = refusals.log
    logger.addFilter(is_ours)
    return logger


def peer_behind(request: web.Request) -> Peer | None:
    """Whose certificate was shown."""
    return None if request.transport is None else peer_of(request.transport.get_extra_info("peercert"))


async def _send(
    request: web.Request, offered: Offered, start: int, end: int, response: web.StreamResponse, turns: Turns | None
) -> web.StreamResponse:
    """Send a part of a file without copying it, where the system can."""
    turn = None if turns is None or start == end else await _turn(request, turns, end - start)
    response.content_length = end - start
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    at = start
    with offered.path.open("rb", buffering=0) as file:
        while at < end:
            size_bytes = min(_PIECE_BYTES, end - at) if turn is None else turn.size_bytes
            try:
                await asyncio.get_running_loop().sendfile(transport, file, at, size_bytes)
            except ConnectionError:
                response.force_close()
                return response
            finally:
                offered.sent(max(0, file.tell() - at))
            at += size_bytes
            if turns is not None and at < end:
                turn = await turns.take(end - at, partial(_is_there, request))
                if turn is None:
                    response.force_close()
                    return response
    await response.write_eof()
    return response


async def _turn(request: web.Request, turns: Turns, rest_bytes: int, *, from_afar: bool = False) -> Turn:
    """What may set out of a file, when it is its turn; whoever waits for an answer hears meanwhile that one will come.

    Raises ConnectionError where nobody waits any more.
    """
    taking = asyncio.ensure_future(turns.take(rest_bytes, partial(_is_there, request), from_afar=from_afar))
    try:
        while not (await asyncio.wait({taking}, timeout=_HEARD_S))[0]:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # of the answer nothing is written yet
        turn = await taking
    finally:
        taking.cancel()
    if turn is None:
        raise ConnectionResetError
    return turn


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _extent(request: web.Request, size_bytes: int) -> tuple[int, int]:
    """The first byte that is asked for, and the one after the last."""
    asked = request.headers.get("Range")
    if asked is None:
        return 0, size_bytes
    match = _RANGE.fullmatch(asked)
    start = int(match[1]) if match else size_bytes
    end = min(size_bytes, int(match[2]) + 1) if match and match[2] else size_bytes
    if not match or not start < end:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size_bytes}"})
    return start, end


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not _SIZE.fullmatch(text) or not text.isascii():
        raise Refusal(400, f"{name} is no number of bytes")
    return int(text)


def _digest_of_bytes(path: Path, start: int, size_bytes: int) -> str:
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(size_bytes)).hexdigest()


def _field(digest: str) -> str:
    """A SHA-256 as a digest field of RFC 9530."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"


def _json(value: msgspec.Struct | str) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
