"""The control plane over HTTP: slices, heartbeats, and files of all kinds. Every request carries a token."""

from __future__ import annotations

from pathlib import Path

import msgspec
from aiohttp import web

from cloud.link_turns import LinkTurns
from cloud.registry import Registry
from cloud.run_status import RunStatus
from cloud.served_files import MadeFiles, ModelFiles, ModelUploads, RecordUploads
from cloud.slicing import slice_for
from edgebench.clock import now_ns
from edgebench.decoding import from_json
from edgebench.errors import ModelError
from edgebench.fabric.refusals import Refusals
from edgebench.fabric.shelves import Caller, Callers
from edgebench.fabric.slices import STREAM_FILES, STREAM_INFO, WATCHER, Beaten, Endpoints, Heartbeat
from edgebench.fabric.transfer_routes import TransferRoutes
from edgebench.federated.client_bundle import BUNDLE, MODEL, STEP, STEP_SPEC
from edgebench.federated.message_files import MessageFiles
from edgebench.federated.partition import PARTITION_FILES
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import Deployment
from edgebench.topology.wording import listed

_HELD_S = 0.5
_BUNDLE_FILES = frozenset({BUNDLE, MODEL, STEP, STEP_SPEC, *PARTITION_FILES})


class ControlPlane:
    """The HTTP application of one run.

    streams, bundles: workload -> the folder of its files, once made. messages: those of its federations.
    """

    def __init__(
        self,
        deployment: Deployment,
        endpoints: dict[str, Endpoints],
        tokens: dict[str, Caller],
        traces: dict[str, list[float]],
        status: RunStatus,
        registry: Registry,
        run_dir: Path,
        work_dir: Path,
    ) -> None:
        """tokens: see `CloudSpec`."""
        self._deployment = deployment
        self._endpoints = endpoints
        self._tokens = tokens
        self._traces = traces
        self._status = status
        self._registry = registry
        self.messages = MessageFiles(work_dir / "messages")
        streams = MadeFiles(deployment.workloads, (*STREAM_FILES, STREAM_INFO), status)
        bundles = MadeFiles(deployment.workloads, _BUNDLE_FILES, status)
        self.streams, self.bundles = streams.folders, bundles.folders
        self._models = ModelUploads(deployment, registry)
        self._files = TransferRoutes(
            Callers.of_tokens(tokens),
            {"models": ModelFiles(registry), "streams": streams, "bundles": bundles, "requests": self.messages},
            {"models": self._models, "records": RecordUploads(run_dir, status), "replies": self.messages},
            turns_of=LinkTurns(deployment, lambda: status.start_ns if status.phase == "running" else None),
        )

    @property
    def refusals(self) -> Refusals:
        """Who asked for what they may not."""
        return self._files.refusals

    def application(self) -> web.Application:
        """Routes and checks."""
        app = self._files.application()
        app.router.add_get("/v1/health", self._health)
        app.router.add_get("/v1/state", self._state)
        app.router.add_post("/v1/slice", self._slice)
        app.router.add_post("/v1/heartbeat", self._heartbeat)
        app.router.add_post("/v1/models/{digest}", self._model_described)
        app.router.add_post("/v1/dead", self._dead)
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _state(self, _request: web.Request) -> web.Response:
        return _json(self._status.live())

    async def _slice(self, request: web.Request) -> web.Response:
        try:
            nodes = from_json(await request.read(), list[str])
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self._check_speaks_for(request, nodes)
        return _json(slice_for(self._deployment, nodes, self._endpoints, self._traces, self._tokens))

    async def _heartbeat(self, request: web.Request) -> web.Response:
        received_ns = now_ns()
        try:
            heartbeat = from_json(await request.read(), Heartbeat)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self._check_speaks_for(request, heartbeat.nodes)
        state = self._status.beat(heartbeat)
        if heartbeat.may_wait and state.phase == "preparing":
            # Whoever is ready hears of the start at once, which need not be so far ahead then.
            await self._status.decided(_HELD_S)
            state = self._status.told(heartbeat.nodes)
        return _json(Beaten(state, received_ns, now_ns()))

    async def _model_described(self, request: web.Request) -> web.Response:
        """The manifest of a file that is here whole: it is checked and kept, or forgotten."""
        try:
            manifest = from_json(await request.read(), Manifest)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        if manifest.digest != request.match_info["digest"]:
            raise web.HTTPBadRequest(text="the manifest is of another model")
        try:
            await self._models.describe(self._files.nodes_behind(request), manifest)
        except ModelError as error:
            raise web.HTTPUnprocessableEntity(text=str(error)) from None
        return _json("kept")

    async def _dead(self, request: web.Request) -> web.Response:
        """The executor's word that devices have died: nobody needs to wait for them any more."""
        try:
            nodes = from_json(await request.read(), list[str])
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self._check_speaks_for(request, [WATCHER])
        self._status.died(nodes)
        return _json("noted")

    def _check_speaks_for(self, request: web.Request, nodes: list[str]) -> None:
        strangers = set(nodes) - set(self._files.nodes_behind(request))
        if strangers or not nodes:
            raise web.HTTPForbidden(text=f"this token does not speak for {listed(sorted(strangers)) or 'no node'}")


def _json(value: msgspec.Struct | str) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
