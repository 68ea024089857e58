"""The course of a run, as the cloud steers it: first models, start, roll-outs, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from cloud.board import Board
from cloud.control import ControlPlane
from cloud.jobs import Progress, StreamInfo, Trained, TrainJob
from cloud.node import CloudNode
from cloud.registry import Registry
from cloud.spec import CloudSpec
from cloud.trainer import Trainer
from edgebench.clock import NS_PER_S, now_ns, now_s
from edgebench.errors import DataError, EdgebenchError, ModelError
from edgebench.fabric.records import Began, Entry, ModelEvent, Modelled, Sourced, Troubled
from edgebench.inference.spec import Manifest
from edgebench.tasks import task_named
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Rollout, Training

_log = logging.getLogger(__name__)
_HEADSTART_S = 1.5
_READY_PATIENCE_S = 120.0
_DRAIN_PATIENCE_S = 120.0
_UPLOAD_PATIENCE_S = 60.0
_TELLING_PATIENCE_S = 3.0
_ROLLOUT_NICE = 10


class Director:
    """Steers one run. What happens is written through `write`."""

    def __init__(
        self,
        spec: CloudSpec,
        board: Board,
        plane: ControlPlane,
        registry: Registry,
        node: CloudNode,
        work_dir: Path,
        write: Callable[[Entry], None],
    ) -> None:
        self._spec = spec
        self._deployment = spec.deployment
        self._board = board
        self._plane = plane
        self._registry = registry
        self._node = node
        self._work_dir = work_dir
        self._write = write
        self._in_use: dict[str, Manifest] = {}
        self._trainer = Trainer()
        self._jobs = 0

    async def run(self) -> None:
        """From preparing to the last upload. A failure aborts the run and says why."""
        try:
            await self._prepare()
            await self._stream()
        except EdgebenchError as error:
            _log.error("%s", error)
            self._write(Troubled(str(error), mistake=isinstance(error, DataError)))
            self._board.abort(str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._board.all_told(), _TELLING_PATIENCE_S)
        finally:
            await self._trainer.close()

    async def _prepare(self) -> None:
        self._board.preparing = "the cloud prepares data and first models"
        plans = list(self._deployment.workloads.values())
        await self._trainer.train(
            [self._first_job(plan) for plan in plans],
            on_progress=self._tell_preparing,
            on_done=lambda trained: self._first_ready(self._deployment.workloads[trained.name], trained),
        )
        self._board.preparing = "the nodes load their models"
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
        if not any(plan.rollout for plan in self._deployment.workloads.values()):
            await self._trainer.close()
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
                why = "was still training at the end: raise duration_s or train less"
                self._write(Troubled(f"the {task.get_name()} {why}"))
        for task, outcome in zip(rollouts, await asyncio.gather(*rollouts, return_exceptions=True), strict=True):
            if isinstance(outcome, Exception):
                _log.error("%s", task.get_name(), exc_info=outcome)
                self._write(Troubled(f"the {task.get_name()} failed: {type(outcome).__name__}: {outcome}"))

    def _first_job(self, plan: WorkloadPlan) -> TrainJob:
        """Make the workload's stream file, and its first model unless that is there already."""
        targets = (_target(plan),) if plan.model.source == "train" else ()
        return self._job(plan, plan.train, targets, stream_dir=str(self._stream_dir(plan)))

    def _job(
        self,
        plan: WorkloadPlan,
        how: Training | Rollout,
        targets: tuple[tuple[str, str], ...],
        stream_dir: str | None = None,
    ) -> TrainJob:
        self._jobs += 1
        return TrainJob(
            name=plan.name,
            task=plan.task,
            data=self._spec.data,
            size=plan.model.size,
            seed=self._deployment.seed,
            out_dir=str(self._work_dir / f"training-{self._jobs}"),
            targets=targets,
            epochs=how.epochs,
            examples=how.examples,
            stream_dir=stream_dir,
        )

    def _stream_dir(self, plan: WorkloadPlan) -> Path:
        return self._work_dir / "streams" / plan.name

    def _tell_preparing(self, progress: Progress) -> None:
        self._board.preparing = f"the cloud trains {progress.name}: epoch {progress.epoch} of {progress.epochs}"

    def _first_ready(self, plan: WorkloadPlan, trained: Trained) -> None:
        info = msgspec.json.decode((self._stream_dir(plan) / "stream.json").read_bytes(), type=StreamInfo)
        self._write(Sourced(plan.name, info.source, info.real))
        self._plane.streams[plan.name] = self._stream_dir(plan)
        if trained.files:
            self._take_up(plan, trained, "trained before the streams began")
            return
        manifest = self._found(plan)
        if manifest.task != plan.task or manifest.input != info.input:
            raise ModelError(
                f"$.workloads.{plan.name}.model.source: {manifest.digest[:12]} is for {manifest.task} with input "
                f"{manifest.input.shape}, the stream is of {plan.task} with {info.input.shape} (name another)"
            )
        self._announce(plan, manifest, "found in the registry")

    def _found(self, plan: WorkloadPlan) -> Manifest:
        source = plan.model.source
        if source.startswith("sha256:"):
            return self._registry.open(source.removeprefix("sha256:"))[1]
        path = Path(source)
        description = path.with_name(path.name + ".json")
        try:
            manifest = msgspec.json.decode(description.read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError) as error:
            raise ModelError(f"{description}: the description of {path.name} cannot be read: {error}") from error
        self._registry.put(path, manifest)
        return manifest

    def _take_up(self, plan: WorkloadPlan, trained: Trained, origin: str) -> None:
        """Keep a trained model, and announce it if it is better than the one in use."""
        (file,) = trained.files
        self._registry.put(Path(file.path), file.manifest)
        old, new = self._in_use.get(plan.name), file.manifest
        metric = task_named(plan.task).metric
        if old is None or new.metrics.get(metric, -math.inf) > old.metrics.get(metric, -math.inf):
            self._announce(plan, new, origin)
            return
        note = f"not announced: {metric} {_shown(new, metric)} is not above {_shown(old, metric)}"
        self._write(Modelled(ModelEvent(plan.name, origin, new, now_ns(), None, note)))
        self._board.rollouts[plan.name] = "new model no better"

    def _announce(self, plan: WorkloadPlan, manifest: Manifest, origin: str) -> None:
        ready_ns = now_ns()
        keep_model(self._registry, manifest, Path(self._spec.run_dir) / "models")
        self._node.announce(plan.name, manifest)
        self._in_use[plan.name] = manifest
        self._write(Modelled(ModelEvent(plan.name, origin, manifest, ready_ns, now_ns())))

    async def _roll_out(self, plan: WorkloadPlan, rollout: Rollout, start_ns: int) -> None:
        await asyncio.sleep(max(0.0, start_ns / NS_PER_S + rollout.at_s - now_s()))
        self._board.rollouts[plan.name] = "training a better model"
        try:
            (trained,) = await self._trainer.train(
                [self._job(plan, rollout, (_target(plan),))],
                on_progress=lambda progress: self._tell_rollout(plan, progress),
                nice=_ROLLOUT_NICE,
            )
            self._board.rollouts[plan.name] = "rolled out"
            await asyncio.to_thread(self._take_up, plan, trained, "trained while the streams ran")
        except EdgebenchError as error:
            _log.error("%s: %s", plan.name, error)
            self._board.rollouts[plan.name] = "training failed"
            self._write(Troubled(f"the roll-out of {plan.name} failed: {error}"))

    def _tell_rollout(self, plan: WorkloadPlan, progress: Progress) -> None:
        self._board.rollouts[plan.name] = f"training a better model: epoch {progress.epoch} of {progress.epochs}"


def keep_model(registry: Registry, manifest: Manifest, directory: Path) -> None:
    """Put a copy of a registry's model, and its manifest, into a run's own directory, which is to stand alone."""
    directory.mkdir(exist_ok=True)
    shutil.copyfile(registry.path_of(manifest.digest), directory / f"{manifest.digest}.model")
    (directory / f"{manifest.digest}.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))


def _shown(manifest: Manifest, metric: str) -> str:
    value = manifest.metrics.get(metric)
    return "undefined" if value is None else f"{value:.4f}"


def _target(plan: WorkloadPlan) -> tuple[str, str]:
    return plan.model.runtime, plan.model.quantisation
