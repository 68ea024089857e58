"""What a run needs before its streams begin: stream files, first models and client bundles, trained or remembered."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from pathlib import Path

import msgspec

from cloud.announcing import Announcer
from cloud.cloud_spec import CloudSpec
from cloud.control_plane import ControlPlane
from cloud.cutting_rule import split_order
from cloud.jobs import BundleOrder, CascadeOrder, EpochDone, HeadOrder, Trained, TrainJob
from cloud.own_models import manifest_of
from cloud.registry import Registry
from cloud.trainer import Trainer
from cloud.training_key import Ingredients, ingredients_of
from cloud.training_memory import TrainingMemory
from edgebench.clock import utc_now
from edgebench.errors import DataError
from edgebench.fabric.message_sizes import Sizes, message_problems, sizes_of
from edgebench.fabric.records import Entry, Partitioned, Sourced, TrainedWhen
from edgebench.fabric.slices import STREAM_INFO, StreamInfo
from edgebench.federated.partition import describe_partition
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Rollout, Training

_log = logging.getLogger(__name__)


class Preparation:
    """Makes what the workloads of a run begin with, and describes the trainings that come later."""

    def __init__(
        self,
        spec: CloudSpec,
        plane: ControlPlane,
        registry: Registry,
        announcer: Announcer,
        work_dir: Path,
        write: Callable[[Entry], None],
    ) -> None:
        self.first_jobs: dict[str, TrainJob] = {}
        """By workload."""
        self.learned_on: dict[str, str] = {}
        """Workload -> the Keras file of the model that its federated clients learn on."""
        self._spec = spec
        self._deployment = spec.deployment
        self._plane = plane
        self._registry = registry
        self._announcer = announcer
        self._work_dir = work_dir
        self._write = write
        self._memory = TrainingMemory()
        self._made_of: dict[str, Ingredients | None] = {}
        self._jobs = 0
        self._sizes: dict[str, Sizes] = {}
        """Of the messages of workloads, once their models are there."""

    async def run(self, trainer: Trainer, on_progress: Callable[[EpochDone], None]) -> None:
        """Have all of it ready and announced. Raises DataError or ModelError."""
        jobs = [self._first_job(plan) for plan in self._deployment.workloads.values()]
        # Files are copied, hashed, and models warmed up; heartbeats are answered meanwhile.
        known = {job.name for job in jobs if await asyncio.to_thread(self._recalled, job)}
        if len(known) < len(jobs):
            await trainer.train(
                [job for job in jobs if job.name not in known],
                on_progress=on_progress,
                on_done=lambda trained: asyncio.to_thread(self._trained, trained),
            )
        self._check_messages()

    def rollout_job(self, plan: WorkloadPlan, rollout: Rollout) -> TrainJob:
        """The training of a better model."""
        return self._job(plan, rollout, (target(plan),))

    def later_jobs(self) -> list[TrainJob]:
        """What the trainer will work on while the streams run: roll-outs, and the models of federated rounds."""
        workloads = self._deployment.workloads.values()
        rollouts = [self.rollout_job(plan, rollout) for plan in workloads for rollout in plan.rollout]
        return rollouts + [self.first_jobs[name] for name in self.learned_on]

    def out_dir(self) -> str:
        """A folder for what another job makes."""
        self._jobs += 1
        return str(self._work_dir / f"training-{self._jobs}")

    def bundle_dir(self, workload: str) -> Path:
        """Where a workload's client bundle is."""
        return self._work_dir / "bundles" / workload

    def now_trained(self) -> TrainedWhen:
        """Of what this run has trained just now."""
        return TrainedWhen(self._deployment.run_id, f"{utc_now():%Y-%m-%dT%H:%M:%SZ}")

    def _first_job(self, plan: WorkloadPlan) -> TrainJob:
        """Make the workload's stream file, and its first model unless that is there already."""
        targets = (target(plan),) if plan.model.source == "train" else ()
        job = self.first_jobs[plan.name] = self._job(
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
            out_dir=str(self.bundle_dir(plan.name)),
        )

    def _job(
        self,
        plan: WorkloadPlan,
        how: Training | Rollout,
        targets: tuple[tuple[str, str], ...],
        stream_dir: str | None = None,
        bundle: BundleOrder | None = None,
    ) -> TrainJob:
        return TrainJob(
            name=plan.name,
            task=plan.task,
            data=self._spec.data,
            size=plan.model.size,
            seed=self._deployment.seed,
            out_dir=self.out_dir(),
            targets=targets,
            epochs=how.epochs,
            examples=how.examples,
            stream_dir=stream_dir,
            compressed=plan.compress is not None,
            cascade=_cascade_order(plan),
            split=None if plan.split is None else split_order(plan, self._deployment),
            head=_head_order(plan),
            bundle=bundle,
        )

    def _stream_dir(self, plan: WorkloadPlan) -> Path:
        return self._work_dir / "streams" / plan.name

    def _recalled(self, job: TrainJob) -> bool:
        """Whether what a first job would give was remembered; then all is ready, as after `_trained`."""
        made_of = self._made_of[job.name] = ingredients_of(job)
        if made_of is None:
            _log.info("%s: not remembered: the code of %s is among too many files", job.name, job.task)
        if made_of is None or self._spec.retrain:
            return False
        recalled = self._memory.recall(job, made_of)
        if recalled is None:
            return False
        self._ready(recalled.trained, recalled.when)
        return True

    def _trained(self, trained: Trained) -> None:
        # Read once: what is remembered says the same as this run does, however long it takes to be kept.
        when = self.now_trained()
        made_of = self._made_of[trained.name]
        if made_of is not None:
            self._memory.keep(self.first_jobs[trained.name], made_of, trained, when)
        self._ready(trained, when)

    def _ready(self, trained: Trained, when: TrainedWhen) -> None:
        plan = self._deployment.workloads[trained.name]
        info = msgspec.json.decode((self._stream_dir(plan) / STREAM_INFO).read_bytes(), type=StreamInfo)
        self._write(Sourced(plan.name, info.source, info.real))
        self._plane.streams[plan.name] = self._stream_dir(plan)
        if trained.bundle is not None:
            assert trained.model is not None
            self.learned_on[plan.name] = trained.model
            how = describe_partition(self._deployment.federated[plan.name].how.partition)
            self._write(Partitioned(plan.name, how, list(trained.bundle.samples), list(trained.bundle.groups)))
            self._plane.bundles[plan.name] = self.bundle_dir(plan.name)
        if trained.files:
            self._size(plan, info, [file.manifest for file in trained.files])
            self._announcer.take_up(plan, trained, "trained before the streams began", when)
            return
        manifest = self._found(plan)
        if manifest.task != plan.task or manifest.input != info.input:
            raise DataError(
                f"$.workloads.{plan.name}.model.source: {manifest.digest[:12]} is for {manifest.task} with input "
                f"{manifest.input.shape}, the stream is of {plan.task} with {info.input.shape} (name another)"
            )
        self._size(plan, info, [manifest])
        self._announcer.announce(plan, manifest, "found in the registry", None)

    def _size(self, plan: WorkloadPlan, info: StreamInfo, models: list[Manifest]) -> None:
        """models: of a chain the first stage's, and then the second's."""
        handed_on = math.prod(models[-1].input.shape) if plan.is_chain else 0
        outputs = models[-1].outputs if plan.is_chain else max(each.outputs for each in models)
        self._sizes[plan.name] = sizes_of(plan, self._deployment, info.input, handed_on=handed_on, outputs=outputs)

    def _check_messages(self) -> None:
        """Raises DataError for messages of which an emulated node does not know what they take: before the streams, as
        what goes on in a chain, and decisions, are known only with the models."""
        found = next(message_problems(self._deployment, lambda plan: self._sizes[plan.name]), None)
        if found is not None:
            raise DataError(": ".join(found))

    def _found(self, plan: WorkloadPlan) -> Manifest:
        source = plan.model.source
        if source.startswith("sha256:"):
            return self._registry.open(source.removeprefix("sha256:"))[1]
        path = Path(source)
        manifest = manifest_of(path, plan.task)
        self._registry.put(path, manifest)
        return manifest


def _cascade_order(plan: WorkloadPlan) -> CascadeOrder | None:
    how = plan.cascade
    if how is None:
        return None
    return CascadeOrder(how.size, (how.runtime, how.quantisation), how.target_quality)


def _head_order(plan: WorkloadPlan) -> HeadOrder | None:
    how = plan.head
    if how is None:
        return None
    return HeadOrder(how.task, how.size, (how.runtime, how.quantisation), how.train.epochs, how.train.examples)


def target(plan: WorkloadPlan) -> tuple[str, str]:
    """Runtime and quantisation of the file that decides."""
    return plan.model.runtime, plan.model.quantisation
