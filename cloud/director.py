"""The course of a run, as the cloud steers it: first models, start, roll-outs, end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from cloud.board import Board
from cloud.control import ControlPlane
from cloud.node import CloudNode
from cloud.registry import Registry
from cloud.trainer import Progress, Trained, TrainJob, train
from edgebench.clock import NS_PER_S, now_ns, now_s
from edgebench.errors import EdgebenchError, ModelError
from edgebench.fabric.records import Began, Entry, ModelEvent, Modelled, Sourced, Troubled
from edgebench.inference.spec import Manifest
from edgebench.tasks import task_named
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.model import Rollout

_log = logging.getLogger(__name__)
_HEADSTART_S = 1.5
_READY_PATIENCE_S = 120.0
_DRAIN_PATIENCE_S = 120.0
_UPLOAD_PATIENCE_S = 60.0
_ROLLOUT_NICE = 10


class Director:
    """Steers one run. What happens is written through `write`."""

    def __init__(
        self,
        deployment: Deployment,
        data: Path | None,
        board: Board,
        plane: ControlPlane,
        registry: Registry,
        node: CloudNode,
        work_dir: Path,
        write: Callable[[Entry], None],
    ) -> None:
        self._deployment = deployment
        self._data = data
        self._board = board
        self._plane = plane
        self._registry = registry
        self._node = node
        self._work_dir = work_dir
        self._write = write
        self._in_use: dict[str, Manifest] = {}

    async def run(self) -> None:
        """From preparing to the last upload. A failure aborts the run and says why."""
        try:
            await self._prepare()
            await self._stream()
        except EdgebenchError as error:
            _log.error("%s", error)
            self._write(Troubled(str(error)))
            self._board.abort(str(error))

    async def _prepare(self) -> None:
        plans = list(self._deployment.workloads.values())
        trained = await train(
            [self._first_job(plan) for plan in plans], on_progress=self._tell_progress, on_done=self._first_done
        )
        del trained
        self._board.preparing = "waiting for the nodes to load their models"
        try:
            await asyncio.wait_for(self._board.all_ready(), _READY_PATIENCE_S)
        except TimeoutError:
            waiting = sorted(set(self._deployment.nodes) - {self._deployment.cloud} - set(self._board.live().ready))
            raise ModelError(f"not ready {_READY_PATIENCE_S:.0f} s after the models: {', '.join(waiting)}") from None

    async def _stream(self) -> None:
        start_ns = now_ns() + int(_HEADSTART_S * NS_PER_S)
        end_ns = start_ns + int(self._deployment.duration_s * NS_PER_S)
        self._write(Began(start_ns, end_ns))
        self._board.start(start_ns)
        rollouts = [
            asyncio.create_task(self._roll_out(plan, rollout, start_ns), name=f"roll-out of {plan.name}")
            for plan in self._deployment.workloads.values()
            for rollout in plan.rollout
        ]
        try:
            wait_s = (end_ns - now_ns()) / NS_PER_S + _DRAIN_PATIENCE_S
            await asyncio.wait_for(self._board.all_drained(), wait_s)
        except TimeoutError:
            self._write(Troubled(f"devices had not drained {_DRAIN_PATIENCE_S:.0f} s after the last sample was due"))
        await self._end_rollouts(rollouts)
        self._board.end()
        try:
            await asyncio.wait_for(self._board.all_uploaded(), _UPLOAD_PATIENCE_S)
        except TimeoutError:
            self._write(Troubled("not every node uploaded its records"))

    async def _end_rollouts(self, rollouts: list[asyncio.Task[None]]) -> None:
        for task in rollouts:
            if not task.done():
                task.cancel()
                self._write(Troubled(f"the {task.get_name()} was still training at the end: raise duration_s or train less"))
        await asyncio.gather(*rollouts, return_exceptions=True)

    def _first_job(self, plan: WorkloadPlan) -> TrainJob:
        return self._job(plan, plan.train.epochs, plan.train.examples, streams=True)
