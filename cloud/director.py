"""The course of a run, as the cloud steers it: first models, start, roll-outs, federations, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from cloud.cloud_spec import CloudSpec
from cloud.control_plane import ControlPlane
from cloud.federation import Federation, FederationSpec, GlobalModel
from cloud.jobs import (
    BundleOrder,
    CascadeOrder,
    EpochDone,
    EvaluateJob,
    StreamInfo,
    Trained,
    TrainedFile,
    TrainJob,
)
from cloud.node import CloudNode
from cloud.own_models import manifest_of
from cloud.registry import Registry
from cloud.run_status import RunStatus
from cloud.trainer import Trainer
from cloud.training_key import Ingredients, ingredients_of
from cloud.training_memory import TrainingMemory
from edgebench.clock import NS_PER_S, now_ns, now_s, utc_now
from edgebench.core.timeouts import LONGEST_DRAIN_S
from edgebench.errors import DataError, EdgebenchError, ModelError
from edgebench.fabric.records import (
    AppMetrics,
    Began,
    Calibration,
    Cascaded,
    Entry,
    Invalidated,
    ModelEvent,
    Modelled,
    Partitioned,
    Rounded,
    RoundRecord,
    RoundScored,
    Sourced,
    TrainedWhen,
)
from edgebench.inference.spec import Manifest
from edgebench.tasks import task_named
from edgebench.topology.deployment import FederatedPlan, WorkloadPlan
from edgebench.topology.model import Dirichlet, Rollout, Training
from edgebench.topology.wording import listed

_log = logging.getLogger(__name__)
_HEADSTART_S = 1.5
_READY_PATIENCE_S = 120.0
_DRAIN_PATIENCE_S = LONGEST_DRAIN_S + 10.0
"""A little longer than devices wait, so that they say themselves what is lost."""

_UPLOAD_PATIENCE_S = 60.0
_TELLING_PATIENCE_S = 3.0
_ROLLOUT_NICE = 10
_TOO_LATE = "the streams were over"
_ENGINE_PATIENCE_S = 180.0
"""For the first round of a federation: the other engines start a process or two for each client first."""


class Director:
    """Steers one run. What happens is written through `write`."""

    def __init__(
        self,
        spec: CloudSpec,
        status: RunStatus,
        plane: ControlPlane,
        registry: Registry,
        node: CloudNode,
        work_dir: Path,
        write: Callable[[Entry], None],
    ) -> None:
        self._spec = spec
        self._deployment = spec.deployment
        self._status = status
        self._plane = plane
        self._registry = registry
        self._node = node
        self._work_dir = work_dir
        self._write = write
        self._in_use: dict[str, Manifest] = {}
        self._trainer = Trainer()
        self._jobs = 0
        self._federations: dict[str, Federation] = {}
        self._announced: set[str] = set()
        self._memory = TrainingMemory()
        self._first_jobs: dict[str, TrainJob] = {}
        self._made_of: dict[str, Ingredients | None] = {}
        self._learned_on: dict[str, str] = {}
        self._streams_end_ns: int | None = None
        # One model after another: whether one is better is asked of the one in use.
        self._taking_up = asyncio.Lock()

    async def run(self) -> None:
        """From preparing to the last upload. A failure aborts the run and says why."""
        try:
            async with contextlib.AsyncExitStack() as children:
                await self._prepare(children)
                await self._stream()
        except EdgebenchError as error:
            _log.error("%s", error)
            self._write(Invalidated(str(error), mistake=isinstance(error, DataError)))
            self._status.abort(str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._status.all_notified(), _TELLING_PATIENCE_S)
        finally:
            await self._trainer.close()

    async def _prepare(self, children: contextlib.AsyncExitStack) -> None:
        self._status.preparing = "the cloud prepares data and first models"
        plans = list(self._deployment.workloads.values())
        jobs = [self._first_job(plan) for plan in plans]
        # Files are copied, hashed, and models warmed up; heartbeats are answered meanwhile.
        known = {job.name for job in jobs if await asyncio.to_thread(self._recalled, job)}
        if len(known) < len(jobs):
            await self._trainer.train(
                [job for job in jobs if job.name not in known],
                on_progress=self._tell_preparing,
                on_done=lambda trained: asyncio.to_thread(self._first_trained, trained),
            )
        for name, federated in self._deployment.federated.items():
            self._status.preparing = f"the cloud prepares the federation of {name}"
            federation = await children.enter_async_context(Federation(self._federation_spec(name, federated)))
            try:
                await asyncio.wait_for(federation.listening(), _READY_PATIENCE_S)
            except TimeoutError:
                raise ModelError(f"the federation of {name} was not ready after {_READY_PATIENCE_S:.0f} s") from None
            self._federations[name] = federation
        self._status.preparing = "the nodes load their models"
        try:
            await asyncio.wait_for(self._status.all_ready(self._announced), _READY_PATIENCE_S)
        except TimeoutError:
            waiting = sorted(set(self._deployment.nodes) - {self._deployment.cloud} - set(self._status.live().ready))
            raise ModelError(f"not ready {_READY_PATIENCE_S:.0f} s after the models: {listed(waiting)}") from None

    async def _stream(self) -> None:
        start_ns = now_ns() + int(_HEADSTART_S * NS_PER_S)
        end_ns = start_ns + int(self._deployment.duration_s * NS_PER_S)
        self._streams_end_ns = end_ns
        self._write(Began(start_ns, end_ns))
        self._status.start(start_ns)
        if not self._federations and not any(plan.rollout for plan in self._deployment.workloads.values()):
            await self._trainer.close()
        rollouts = [
            asyncio.create_task(self._roll_out(plan, rollout, start_ns), name=f"roll-out of {plan.name}")
            for plan in self._deployment.workloads.values()
            for rollout in plan.rollout
        ]
        federating = [
            asyncio.create_task(self._federate(name, start_ns), name=f"federation of {name}")
            for name in self._federations
        ]
        try:
            await self._end_streams(end_ns, federating, rollouts)
        finally:
            # In an orderly end they are done; else what becomes of them is no news.
            for task in (*federating, *rollouts):
                task.cancel()
            await asyncio.gather(*federating, *rollouts, return_exceptions=True)

    async def _end_streams(
        self, end_ns: int, federating: list[asyncio.Task[None]], rollouts: list[asyncio.Task[None]]
    ) -> None:
        try:
            wait_s = (end_ns - now_ns()) / NS_PER_S + _DRAIN_PATIENCE_S
            await asyncio.wait_for(self._status.all_drained(), wait_s)
        except TimeoutError:
            self._write(Invalidated(f"devices had not drained {_DRAIN_PATIENCE_S:.0f} s after the last sample was due"))
        # A federation has its rounds, whether or not the streams outlast them.
        self._note_failures(federating, await asyncio.gather(*federating, return_exceptions=True))
        await self._end_rollouts(rollouts)
        self._status.end()
        try:
            await asyncio.wait_for(self._status.all_uploaded(), _UPLOAD_PATIENCE_S)
        except TimeoutError:
            self._write(Invalidated("not every node uploaded its records"))

    async def _end_rollouts(self, rollouts: list[asyncio.Task[None]]) -> None:
        for task in rollouts:
            if not task.done():
                task.cancel()
                why = "was still training at the end: raise duration_s or train less"
                self._write(Invalidated(f"the {task.get_name()} {why}"))
        self._note_failures(rollouts, await asyncio.gather(*rollouts, return_exceptions=True))

    def _note_failures(self, tasks: list[asyncio.Task[None]], outcomes: list[BaseException | None]) -> None:
        for task, outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _log.error("%s", task.get_name(), exc_info=outcome)
                # A task with tasks of its own tells of a group.
                failures = outcome.exceptions if isinstance(outcome, ExceptionGroup) else (outcome,)
                for failure in failures:
                    self._write(Invalidated(f"the {task.get_name()} failed: {type(failure).__name__}: {failure}"))

    def _first_job(self, plan: WorkloadPlan) -> TrainJob:
        """Make the workload's stream file, and its first model unless that is there already."""
        targets = (_target(plan),) if plan.model.source == "train" else ()
        job = self._first_jobs[plan.name] = self._job(
            plan, plan.train, targets, stream_dir=str(self._stream_dir(plan)), bundle=self._bundle_order(plan)
        )
        return job

    def _bundle_order(self, plan: WorkloadPlan) -> BundleOrder | None:
        federated = self._deployment.federated.get(plan.name)
        if federated is None or federated.how.app is not None:
            return None
        return BundleOrder(
            runtime=federated.how.fit.runtime,
            batch_size=federated.how.batch_size,
            partition=federated.how.partition,
            clients=len(federated.clients),
            out_dir=str(self._bundle_dir(plan.name)),
        )

    def _job(
        self,
        plan: WorkloadPlan,
        how: Training | Rollout,
        targets: tuple[tuple[str, str], ...],
        stream_dir: str | None = None,
        bundle: BundleOrder | None = None,
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
            compressed=plan.compress is not None,
            cascade=_cascade_order(plan),
            bundle=bundle,
        )

    def _bundle_dir(self, workload: str) -> Path:
        return self._work_dir / "bundles" / workload

    def _stream_dir(self, plan: WorkloadPlan) -> Path:
        return self._work_dir / "streams" / plan.name

    def _tell_preparing(self, progress: EpochDone) -> None:
        self._status.preparing = f"the cloud trains {progress.name}: epoch {progress.epoch} of {progress.epochs}"

    def _recalled(self, job: TrainJob) -> bool:
        """Whether what a first job would give was remembered; then all is ready, as after `_first_trained`."""
        made_of = self._made_of[job.name] = ingredients_of(job)
        if made_of is None:
            _log.info("%s: not remembered: the code of %s is among too many files", job.name, job.task)
        if made_of is None or self._spec.retrain:
            return False
        recalled = self._memory.recall(job, made_of)
        if recalled is None:
            return False
        self._first_ready(recalled.trained, recalled.when)
        return True

    def _first_trained(self, trained: Trained) -> None:
        made_of, run_id = self._made_of[trained.name], self._deployment.run_id
        if made_of is not None:
            self._memory.keep(self._first_jobs[trained.name], made_of, trained, run_id)
        self._first_ready(trained, self._now_trained())

    def _now_trained(self) -> TrainedWhen:
        return TrainedWhen(self._deployment.run_id, f"{utc_now():%Y-%m-%dT%H:%M:%SZ}")

    def _first_ready(self, trained: Trained, when: TrainedWhen) -> None:
        plan = self._deployment.workloads[trained.name]
        info = msgspec.json.decode((self._stream_dir(plan) / "stream.json").read_bytes(), type=StreamInfo)
        self._write(Sourced(plan.name, info.source, info.real))
        self._plane.streams[plan.name] = self._stream_dir(plan)
        if trained.bundle is not None:
            assert trained.model is not None
            self._learned_on[plan.name] = trained.model
            partition = self._deployment.federated[plan.name].how.partition
            how = str(partition.__struct_config__.tag)
            if isinstance(partition, Dirichlet):
                how += f", alpha {partition.alpha:g}"
            self._write(Partitioned(plan.name, how, list(trained.bundle.samples), list(trained.bundle.groups)))
            self._plane.bundles[plan.name] = self._bundle_dir(plan.name)
        if trained.files:
            self._take_up(plan, trained, "trained before the streams began", when)
            return
        manifest = self._found(plan)
        if manifest.task != plan.task or manifest.input != info.input:
            raise DataError(
                f"$.workloads.{plan.name}.model.source: {manifest.digest[:12]} is for {manifest.task} with input "
                f"{manifest.input.shape}, the stream is of {plan.task} with {info.input.shape} (name another)"
            )
        self._announce(plan, manifest, "found in the registry", None)

    def _found(self, plan: WorkloadPlan) -> Manifest:
        source = plan.model.source
        if source.startswith("sha256:"):
            return self._registry.open(source.removeprefix("sha256:"))[1]
        path = Path(source)
        manifest = manifest_of(path, plan.task)
        self._registry.put(path, manifest)
        return manifest

    def _take_up(self, plan: WorkloadPlan, trained: Trained, origin: str, when: TrainedWhen) -> None:
        """Keep a trained model, and announce it if it is better than the one in use."""
        if trained.calibration is not None:
            self._take_up_cascade(plan, trained.files, trained.calibration, when)
            return
        (file,) = trained.files
        self._keep(file)
        old, new = self._in_use.get(plan.name), file.manifest
        metric = task_named(plan.task).metric
        if self._streams_end_ns is not None and now_ns() > self._streams_end_ns:
            note = "not announced: " + _TOO_LATE
            self._write(Modelled(ModelEvent(plan.name, origin, new, now_ns(), None, note, when)))
            return
        if old is None or new.metrics.get(metric, -math.inf) > old.metrics.get(metric, -math.inf):
            self._announce(plan, new, origin, when)
            return
        note = f"not announced: {metric} {_shown(new, metric)} is not above {_shown(old, metric)}"
        self._write(Modelled(ModelEvent(plan.name, origin, new, now_ns(), None, note, when)))
        self._status.rollouts[plan.name] = "new model no better"

    def _take_up_cascade(
        self, plan: WorkloadPlan, files: tuple[TrainedFile, ...], calibration: Calibration, when: TrainedWhen
    ) -> None:
        """Keep and announce the two models of a cascade."""
        small, large = (file.manifest for file in files)
        for file in files:
            self._keep(file)
            keep_model(self._registry, file.manifest, Path(self._spec.run_dir) / "models")
        self._write(Cascaded(plan.name, large.digest, calibration))
        ready_ns = now_ns()
        announced = msgspec.structs.replace(small, threshold=calibration.threshold)
        self._announced.add(announced.digest)
        self._node.announce(plan.name, announced, here=large)
        for manifest, where in ((small, "the edge"), (large, "the cloud")):
            event = ModelEvent(plan.name, f"trained for {where}", manifest, ready_ns, now_ns(), trained=when)
            self._write(Modelled(event))

    def _keep(self, file: TrainedFile) -> None:
        """Put a file into the registry, and what its model draws into the run directory."""
        self._registry.put(Path(file.path), file.manifest)
        if file.picture is not None:
            shutil.copyfile(file.picture, Path(self._spec.run_dir) / "models" / f"{file.manifest.digest}.png")

    def _announce(self, plan: WorkloadPlan, manifest: Manifest, origin: str, when: TrainedWhen | None) -> None:
        ready_ns = now_ns()
        keep_model(self._registry, manifest, Path(self._spec.run_dir) / "models")
        self._announced.add(manifest.digest)
        self._node.announce(plan.name, manifest)
        self._in_use[plan.name] = manifest
        self._write(Modelled(ModelEvent(plan.name, origin, manifest, ready_ns, now_ns(), trained=when)))

    async def _roll_out(self, plan: WorkloadPlan, rollout: Rollout, start_ns: int) -> None:
        await asyncio.sleep(max(0.0, start_ns / NS_PER_S + rollout.at_s - now_s()))
        self._status.rollouts[plan.name] = "training a better model"
        try:
            (trained,) = await self._trainer.train(
                [self._job(plan, rollout, (_target(plan),))],
                on_progress=lambda progress: self._tell_rollout(plan, progress),
                nice=_ROLLOUT_NICE,
            )
            self._status.rollouts[plan.name] = "rolled out"
            async with self._taking_up:
                await asyncio.to_thread(
                    self._take_up, plan, trained, "trained while the streams ran", self._now_trained()
                )
        except EdgebenchError as error:
            _log.error("%s: %s", plan.name, error)
            self._status.rollouts[plan.name] = "training failed"
            self._write(Invalidated(f"the roll-out of {plan.name} failed: {error}"))

    def _federation_spec(self, name: str, plan: FederatedPlan) -> FederationSpec:
        work_dir = self._work_dir / "federations" / name
        work_dir.mkdir(parents=True, exist_ok=True)
        nodes = self._deployment.nodes
        return FederationSpec(
            run_id=self._deployment.run_id,
            cloud=self._deployment.cloud,
            seed=self._deployment.seed,
            plan=plan,
            parents={device: str(nodes[device].parent) for device in plan.clients},
            broker=self._spec.endpoints[self._deployment.cloud].broker,
            bundle_dir=None if plan.how.app is not None else str(self._bundle_dir(name)),
            journal_dir=str(Path(self._spec.run_dir) / "federated" / name),
            work_dir=str(work_dir),
            log_dir=str(Path(self._spec.run_dir) / "logs"),
        )

    async def _federate(self, name: str, start_ns: int) -> None:
        """The rounds of a federation, and the quality and the roll-out of each global model."""
        models: asyncio.Queue[GlobalModel | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._score_rounds(name, models), name=f"scoring of {name}")
            try:
                await self._follow_rounds(name, start_ns, models.put_nowait)
            finally:
                models.put_nowait(None)

    async def _follow_rounds(self, name: str, start_ns: int, on_model: Callable[[GlobalModel], None]) -> None:
        how = self._deployment.federated[name].how
        rounds = "" if how.rounds is None else f" of {how.rounds}"
        patience_s = how.at_s + how.interval_s + 2 * how.deadline_s + _ENGINE_PATIENCE_S
        federation = self._federations[name]
        federation.go(start_ns)
        try:
            events = federation.events()
            while (event := await asyncio.wait_for(anext(events, None), patience_s)) is not None:
                if isinstance(event, Rounded):
                    self._write(event)
                    self._status.rollouts[name] = _shown_round(event.record, rounds)
                elif isinstance(event, AppMetrics):
                    self._write(event)
                elif isinstance(event, GlobalModel):
                    on_model(event)
        except TimeoutError:
            self._write(Invalidated(f"the federation of {name} stood still for {patience_s:.0f} s"))
        except EdgebenchError as error:
            _log.error("%s: %s", name, error)
            self._write(Invalidated(f"the federation of {name} failed: {error}"))

    async def _score_rounds(self, name: str, models: asyncio.Queue[GlobalModel | None]) -> None:
        plan, every = self._deployment.workloads[name], self._deployment.federated[name].how.rollout_every
        while (model := await models.get()) is not None:
            self._jobs += 1
            # Of the models that an earlier run has learned, only the one that this run goes on from is of use to it.
            superseded = model.resumed and not models.empty()
            due = every > 0 and model.number > 0 and model.number % every == 0 and not superseded
            job = EvaluateJob(
                name=name,
                of=self._first_jobs[name],
                model=self._learned_on[name],
                number=model.number,
                weights=model.path,
                targets=(_target(plan),) if due else (),
                out_dir=str(self._work_dir / f"training-{self._jobs}"),
            )
            try:
                (evaluated,) = await self._trainer.train([job], nice=_ROLLOUT_NICE)
                self._write(RoundScored(name, model.number, evaluated.metrics))
                if due:
                    async with self._taking_up:
                        origin = f"federated round {model.number}"
                        await asyncio.to_thread(self._take_up, plan, evaluated, origin, self._now_trained())
            except EdgebenchError as error:
                _log.error("%s: round %d: %s", name, model.number, error)
                self._write(
                    Invalidated(f"the model of federated round {model.number} of {name} was not usable: {error}")
                )
            finally:
                await asyncio.to_thread(_discard, Path(model.path), Path(job.out_dir))

    def _tell_rollout(self, plan: WorkloadPlan, progress: EpochDone) -> None:
        self._status.rollouts[plan.name] = f"training a better model: epoch {progress.epoch} of {progress.epochs}"


def keep_model(registry: Registry, manifest: Manifest, directory: Path) -> None:
    """Put a copy of a registry's model, and its manifest, into a run's own directory, which is to stand alone."""
    directory.mkdir(exist_ok=True)
    shutil.copyfile(registry.path_of(manifest.digest), directory / f"{manifest.digest}.model")
    (directory / f"{manifest.digest}.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))


def _shown_round(record: RoundRecord, of_all: str) -> str:
    kind = "" if record.kind == "train" else f"{record.kind} "
    return f"federated {kind}round {record.number}{of_all}"


def _discard(weights: Path, out_dir: Path) -> None:
    """What a round's model was made of; the registry has what is worth keeping."""
    weights.unlink(missing_ok=True)
    shutil.rmtree(out_dir, ignore_errors=True)


def _shown(manifest: Manifest, metric: str) -> str:
    value = manifest.metrics.get(metric)
    return "undefined" if value is None else f"{value:.4f}"


def _cascade_order(plan: WorkloadPlan) -> CascadeOrder | None:
    how = plan.cascade
    if how is None:
        return None
    return CascadeOrder(how.size, (how.runtime, how.quantisation), how.target_quality)


def _target(plan: WorkloadPlan) -> tuple[str, str]:
    return plan.model.runtime, plan.model.quantisation
