"""The control plane over HTTP: slices, heartbeats, models, stream files and records. Every request carries a token."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import msgspec
from aiohttp import web

from cloud.registry import Registry
from cloud.run_status import RunStatus
from cloud.slicing import slice_for
from edgebench.clock import now_ns
from edgebench.errors import EdgebenchError, ModelError
from edgebench.fabric.slices import STREAM_FILES, WATCHER, Beaten, Endpoints, Heartbeat, Staged
from edgebench.federated.client_bundle import BUNDLE, MODEL, STEP, STEP_SPEC
from edgebench.federated.partition import PARTITION_FILES
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import Deployment
from edgebench.topology.wording import listed

_log = logging.getLogger(__name__)
_LARGEST_UPLOAD_BYTES = 1 << 32
_LARGEST_MODEL_BYTES = 1 << 30
_UPLOAD_CHUNK_BYTES = 1 << 20
_OFFSET_DIGITS = 12
_BUNDLE_FILES = frozenset({BUNDLE, MODEL, STEP, STEP_SPEC, *PARTITION_FILES})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlPlane:
    """The HTTP application of one run."""

    def __init__(
        self,
        deployment: Deployment,
        endpoints: dict[str, Endpoints],
        tokens: dict[str, list[str]],
        traces: dict[str, list[float]],
        status: RunStatus,
        registry: Registry,
        run_dir: Path,
    ) -> None:
        """tokens: token -> the nodes it speaks for. streams, bundles: workload -> the folder of its files, once
        made."""
        self._deployment = deployment
        self._endpoints = endpoints
        self._tokens = tokens
        self._traces = traces
        self._status = status
        self._registry = registry
        self._run_dir = run_dir
        self.streams: dict[str, Path] = {}
        self.bundles: dict[str, Path] = {}

    def application(self) -> web.Application:
        """Routes and checks."""
        app = web.Application(middlewares=[self._authenticated], client_max_size=_UPLOAD_CHUNK_BYTES)
        app.router.add_get("/v1/health", self._health)
        app.router.add_get("/v1/state", self._state)
        app.router.add_post("/v1/slice", self._slice)
        app.router.add_post("/v1/heartbeat", self._heartbeat)
        app.router.add_get("/v1/models/{digest}", self._model)
        app.router.add_get("/v1/models/{digest}/upload", self._model_staged)
        app.router.add_put("/v1/models/{digest}", self._model_piece)
        app.router.add_post("/v1/models/{digest}", self._model_described)
        app.router.add_get("/v1/streams/{workload}/{name}", self._stream)
        app.router.add_get("/v1/bundles/{workload}/{name}", self._bundle)
        app.router.add_post("/v1/dead", self._dead)
        app.router.add_put("/v1/records/{name}", self._records)
        return app

    @web.middleware
    async def _authenticated(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._nodes_behind(request)
        return await handler(request)

    def _nodes_behind(self, request: web.Request) -> list[str]:
        """The nodes that the request's token speaks for; without a known token the request ends here."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        for token, nodes in self._tokens.items():
            if hmac.compare_digest(given, token.encode()):
                return nodes
        raise web.HTTPUnauthorized(text="no such token")

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _state(self, _request: web.Request) -> web.Response:
        return _json(self._status.live())

    async def _slice(self, request: web.Request) -> web.Response:
        try:
            nodes = msgspec.json.decode(await request.read(), type=list[str])
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self._check_speaks_for(request, nodes)
        return _json(slice_for(self._deployment, nodes, self._endpoints, self._traces))

    async def _heartbeat(self, request: web.Request) -> web.Response:
        received_ns = now_ns()
        try:
            heartbeat = msgspec.json.decode(await request.read(), type=Heartbeat)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self._check_speaks_for(request, heartbeat.nodes)
        state = self._status.beat(heartbeat)
        return _json(Beaten(state, received_ns, now_ns()))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        try:
            path = self._registry.path_of(request.match_info["digest"])
        except EdgebenchError as error:
            raise web.HTTPNotFound(text=str(error)) from None
        return web.FileResponse(path)

    async def _model_staged(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        try:
            _, manifest = await asyncio.to_thread(self._registry.open, digest)
        except ModelError:
            # Absent, or damaged, which an upload mends.
            return _json(Staged(self._stage(digest, 0, b""), kept=False))
        return _json(Staged(manifest.size_bytes, kept=True))

    async def _model_piece(self, request: web.Request) -> web.Response:
        """The file from byte `offset` on; what arrives is kept, even where the transfer breaks off."""
        digest, text = request.match_info["digest"], request.query.get("offset", "")
        if not text.isascii() or not text.isdigit() or len(text) > _OFFSET_DIGITS:
            raise web.HTTPBadRequest(text="offset is no number of bytes")
        offset = int(text)
        have_bytes = self._stage(digest, offset, b"")
        async for chunk in request.content.iter_chunked(_UPLOAD_CHUNK_BYTES):
            if offset + len(chunk) > _LARGEST_MODEL_BYTES:
                raise web.HTTPRequestEntityTooLarge(_LARGEST_MODEL_BYTES, offset + len(chunk))
            have_bytes = self._stage(digest, offset, chunk)
            offset += len(chunk)
        return _json(Staged(have_bytes, kept=False))

    async def _model_described(self, request: web.Request) -> web.Response:
        """The manifest of a file that is here whole: it is checked and kept, or forgotten."""
        digest = request.match_info["digest"]
        try:
            manifest = msgspec.json.decode(await request.read(), type=Manifest)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        if manifest.digest != digest:
            raise web.HTTPBadRequest(text="the manifest is of another model")
        try:
            await asyncio.to_thread(self._registry.commit, manifest)
        except ModelError as error:
            raise web.HTTPUnprocessableEntity(text=str(error)) from None
        return _json(Staged(manifest.size_bytes, kept=True))

    def _stage(self, digest: str, offset: int, chunk: bytes) -> int:
        try:
            return self._registry.stage(digest, offset, chunk)
        except ModelError as error:
            raise web.HTTPConflict(text=str(error)) from None

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        return self._made_file(request, self.streams, STREAM_FILES)

    async def _bundle(self, request: web.Request) -> web.StreamResponse:
        return self._made_file(request, self.bundles, _BUNDLE_FILES)

    def _made_file(self, request: web.Request, made: dict[str, Path], names: Collection[str]) -> web.StreamResponse:
        """A file that the trainer makes of a workload: not there yet is 503."""
        workload, name = request.match_info["workload"], request.match_info["name"]
        if workload not in self._deployment.workloads or name not in names:
            raise web.HTTPNotFound(text=f"no such file of a workload: {workload}/{name}")
        if workload not in made:
            if self._status.phase == "aborted":
                raise web.HTTPGone(text=f"the run is aborted: {self._status.reason}")
            raise web.HTTPServiceUnavailable(text="the file is still being made")
        return web.FileResponse(made[workload] / name)

    async def _dead(self, request: web.Request) -> web.Response:
        """The executor's word that devices have died: nobody needs to wait for them any more."""
        try:
            nodes = msgspec.json.decode(await request.read(), type=list[str])
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self._check_speaks_for(request, [WATCHER])
        self._status.died(nodes)
        return web.Response(text="noted")

    async def _records(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self._check_speaks_for(request, [name])
        directory = self._run_dir / "uploads"
        directory.mkdir(exist_ok=True)
        partial = directory / f"{name}.part"
        size_bytes = 0
        with partial.open("wb") as file:
            async for chunk in request.content.iter_chunked(_UPLOAD_CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > _LARGEST_UPLOAD_BYTES:
                    raise web.HTTPRequestEntityTooLarge(_LARGEST_UPLOAD_BYTES, size_bytes)
                file.write(chunk)
        partial.replace(directory / f"{name}.spool")
        self._status.uploaded(self._nodes_behind(request))
        return web.Response(text="kept")

    def _check_speaks_for(self, request: web.Request, nodes: list[str]) -> None:
        strangers = set(nodes) - set(self._nodes_behind(request))
        if strangers or not nodes:
            raise web.HTTPForbidden(text=f"this token does not speak for {listed(sorted(strangers)) or 'no node'}")


def _json(value: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
