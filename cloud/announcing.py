"""Models that are taken up in a run: kept in the registry, announced where they are better, and written down."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from cloud.jobs import Trained, TrainedFile
from cloud.node import CloudNode
from cloud.registry import Registry
from cloud.run_status import RunStatus
from edgebench.clock import now_ns
from edgebench.fabric.records import Cascaded, Chained, Entry, ModelEvent, Modelled, TrainedWhen
from edgebench.inference.spec import Manifest
from edgebench.tasks import task_named
from edgebench.topology.deployment import WorkloadPlan

_TOO_LATE = "the streams were over"


class Announcer:
    """Keeps and announces the models of a run: one after another, since whether one is better is asked of the one in
    use."""

    def __init__(
        self, registry: Registry, node: CloudNode, status: RunStatus, run_dir: Path, write: Callable[[Entry], None]
    ) -> None:
        self.announced: set[str] = set()
        """Digests of the models that nodes have been told of."""
        self.streams_end_ns: int | None = None
        """When the streams are over, once they have begun: a model that comes later is of no use to them."""
        self._registry = registry
        self._node = node
        self._status = status
        self._models_dir = run_dir / "models"
        self._write = write
        self._in_use: dict[str, Manifest] = {}
        self._taking_up = asyncio.Lock()

    async def take_up_beside(
        self, plan: WorkloadPlan, trained: Trained, origin: str, when: TrainedWhen
    ) -> Manifest | None:
        """As `take_up`, while the streams run: in its turn, and off the event loop."""
        async with self._taking_up:
            return await asyncio.to_thread(self.take_up, plan, trained, origin, when)

    def take_up(self, plan: WorkloadPlan, trained: Trained, origin: str, when: TrainedWhen) -> Manifest | None:
        """Keep a trained model, and announce it if it is better than the one in use. What was announced."""
        if trained.calibration is not None:
            small, large = (file.manifest for file in trained.files)
            self._write(Cascaded(plan.name, large.digest, trained.calibration))
            at_edge = msgspec.structs.replace(small, threshold=trained.calibration.threshold)
            return self._take_up_two(plan, trained, at_edge, "trained", when)
        if plan.is_chain:
            head, tail = (file.manifest for file in trained.files)
            of = plan.name, head.digest, tail.digest, trained.cut, trained.places, trained.considered
            self._write(Chained(*of, math.prod(tail.input.shape)))
            how = "trained" if trained.cut is None else f"cut after {trained.cut.layer},"
            if not plan.head_on_device:
                return self._take_up_two(plan, trained, head, how, when)
            self.announced.add(head.digest)
            return self._take_up_two(plan, trained, msgspec.structs.replace(tail, head=head), how, when)
        (file,) = trained.files
        self._keep(file)
        old, new = self._in_use.get(plan.name), file.manifest
        metric = task_named(plan.task).metric
        if self.streams_end_ns is not None and now_ns() > self.streams_end_ns:
            note = "not announced: " + _TOO_LATE
            self._write(Modelled(ModelEvent(plan.name, origin, new, now_ns(), None, note, when)))
            return None
        if old is None or new.metrics.get(metric, -math.inf) > old.metrics.get(metric, -math.inf):
            self.announce(plan, new, origin, when)
            return new
        note = f"not announced: {metric} {_shown(new, metric)} is not above {_shown(old, metric)}"
        self._write(Modelled(ModelEvent(plan.name, origin, new, now_ns(), None, note, when)))
        self._status.rollouts[plan.name] = "new model no better"
        return None

    def announce(self, plan: WorkloadPlan, manifest: Manifest, origin: str, when: TrainedWhen | None) -> None:
        """Have nodes decide with a model of the registry. when: None where no run of ours has trained it."""
        ready_ns = now_ns()
        self._copy_to_run(manifest)
        self.announced.add(manifest.digest)
        self._node.announce(plan.name, manifest)
        self._in_use[plan.name] = manifest
        self._write(Modelled(ModelEvent(plan.name, origin, manifest, ready_ns, now_ns(), trained=when)))

    def _take_up_two(
        self, plan: WorkloadPlan, trained: Trained, told: Manifest, how: str, when: TrainedWhen
    ) -> Manifest:
        """Keep and announce two models, of which the second decides at last. told: what nodes are told of them."""
        for file in trained.files:
            self._keep(file)
            self._copy_to_run(file.manifest)
        ready_ns = now_ns()
        first, second = (file.manifest for file in trained.files)
        self.announced.add(told.digest)
        self._node.announce(plan.name, told, here=second)
        places = "devices" if plan.head_on_device else "the edge", f"the {plan.tail_tier}"
        for manifest, where in zip((first, second), places, strict=True):
            event = ModelEvent(plan.name, f"{how} for {where}", manifest, ready_ns, now_ns(), trained=when)
            self._write(Modelled(event))
        return told

    def _keep(self, file: TrainedFile) -> None:
        """Put a file into the registry, and what its model draws into the run directory."""
        self._registry.put(Path(file.path), file.manifest)
        if file.picture is not None:
            shutil.copyfile(file.picture, self._models_dir / f"{file.manifest.digest}.png")

    def _copy_to_run(self, manifest: Manifest) -> None:
        """Put a copy of a model, and its manifest, into the run's own directory, which is to stand alone."""
        self._models_dir.mkdir(exist_ok=True)
        shutil.copyfile(self._registry.path_of(manifest.digest), self._models_dir / f"{manifest.digest}.model")
        described = msgspec.json.format(msgspec.json.encode(manifest))
        (self._models_dir / f"{manifest.digest}.json").write_bytes(described)


def _shown(manifest: Manifest, metric: str) -> str:
    value = manifest.metrics.get(metric)
    return "undefined" if value is None else f"{value:.4f}"
