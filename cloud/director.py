"""The course of a run, as the cloud steers it: first models, start, roll-outs, federations, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Container
from pathlib import Path

from cloud.announcing import Announcer
from cloud.cloud_spec import CloudSpec
from cloud.control_plane import ControlPlane
from cloud.jobs import EpochDone
from cloud.node import CloudNode
from cloud.preparation import Preparation
from cloud.registry import Registry
from cloud.rounds import Federations
from cloud.run_status import RunStatus
from cloud.trainer import NICE_BESIDE_STREAMS, Trainer
from edgebench.clock import NS_PER_S, now_ns, now_s
from edgebench.core.timeouts import LONGEST_DRAIN_S
from edgebench.errors import DataError, EdgebenchError, ModelError
from edgebench.fabric.records import Began, Entry, Invalidated
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.model import Rollout
from edgebench.topology.wording import listed

_log = logging.getLogger(__name__)
_HEADSTART_S, _HEADSTART_PER_DEVICE_S, _LOSSY_HEADSTART_S = 0.5, 3e-4, 1.0
"""By which all know the start of the streams before it comes: for a busy machine; for a process to set its devices'
schedules up, and look through its memory once; and for packets that have to be sent again."""
_WAYS = 4
"""Times a message may cross the links between the cloud and a node meanwhile."""
_LONGEST_ROUND_TRIP_S = 1.0
"""That is waited for once more: of a machine that was busy it may be anything."""
_READY_PATIENCE_S, _LONGEST_LOADING_S = 120.0, 3600.0
"""After the models, or the last that a node was heard to load: a slow board may do so for minutes."""
_READY_LOOK_S, _SLOW_S = 1.0, 30.0
_DRAIN_PATIENCE_S = LONGEST_DRAIN_S + 10.0
"""A little longer than devices wait, so that they say themselves what is lost."""

_UPLOAD_PATIENCE_S = 60.0
_TELLING_PATIENCE_S = 3.0


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
        self._deployment = spec.deployment
        self._status = status
        self._write = write
        self._trainer = Trainer()
        self._announcer = Announcer(registry, node, status, Path(spec.run_dir), write)
        self._preparation = Preparation(spec, plane, registry, self._announcer, work_dir, write)
        self._federations = Federations(
            spec,
            status,
            self._preparation,
            self._announcer,
            self._trainer,
            plane.messages,
            work_dir,
            write,
        )

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
        await self._preparation.run(self._trainer, self._tell_preparing)
        await self._federations.prepare(children, _READY_PATIENCE_S)
        self._status.preparing = "the nodes load their models"
        await ready_in_time(self._status, self._announcer.announced)

    async def _stream(self) -> None:
        start_ns = now_ns() + int(headstart_s(self._deployment, self._status.round_trip_s) * NS_PER_S)
        end_ns = start_ns + int(self._deployment.duration_s * NS_PER_S)
        self._announcer.streams_end_ns = end_ns
        self._write(Began(start_ns, end_ns))
        self._status.start(start_ns)
        later = self._preparation.later_jobs()
        if not self._deployment.federated and not later:
            await self._trainer.close()
        ahead = [asyncio.create_task(self._trainer.load_ahead(later, nice=NICE_BESIDE_STREAMS))] if later else []
        rollouts = [
            asyncio.create_task(self._roll_out(plan, rollout, start_ns), name=f"roll-out of {plan.name}")
            for plan in self._deployment.workloads.values()
            for rollout in plan.rollout
        ]
        federating = self._federations.begin(start_ns)
        try:
            await self._end_streams(end_ns, federating, rollouts)
        finally:
            # In an orderly end they are done; else what becomes of them is no news.
            for task in (*ahead, *federating, *rollouts):
                task.cancel()
            await asyncio.gather(*ahead, *federating, *rollouts, return_exceptions=True)

    async def _end_streams(
        self, end_ns: int, federating: list[asyncio.Task[None]], rollouts: list[asyncio.Task[None]]
    ) -> None:
        try:
            if any(node.board is not None for node in self._deployment.nodes.values()):
                # A device without our software never says that it is done.
                await asyncio.sleep((end_ns - now_ns()) / NS_PER_S)
            wait_s = (end_ns - now_ns()) / NS_PER_S + _DRAIN_PATIENCE_S
            await asyncio.wait_for(self._status.all_drained(), wait_s)
        except TimeoutError:
            self._write(Invalidated(f"devices had not drained {_DRAIN_PATIENCE_S:.0f} s after the last sample was due"))
        # A federation has its rounds, whether or not the streams outlast them.
        note_failures(self._write, federating, await asyncio.gather(*federating, return_exceptions=True))
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
        note_failures(self._write, rollouts, await asyncio.gather(*rollouts, return_exceptions=True))

    def _tell_preparing(self, progress: EpochDone) -> None:
        self._status.preparing = f"the cloud trains {progress.name}: epoch {progress.epoch} of {progress.epochs}"

    async def _roll_out(self, plan: WorkloadPlan, rollout: Rollout, start_ns: int) -> None:
        await asyncio.sleep(max(0.0, start_ns / NS_PER_S + rollout.at_s - now_s()))
        self._status.rollouts[plan.name] = "training a better model"
        try:
            (trained,) = await self._trainer.train(
                [self._preparation.rollout_job(plan, rollout)],
                on_progress=lambda progress: self._tell_rollout(plan, progress),
                nice=NICE_BESIDE_STREAMS,
            )
            origin, when = "trained while the streams ran", self._preparation.now_trained()
            announced = await self._announcer.take_up_beside(plan, trained, origin, when)
            if announced is not None:
                self._status.roll_out(plan.name, announced.digest)
        except EdgebenchError as error:
            _log.error("%s: %s", plan.name, error)
            self._status.rollouts[plan.name] = "training failed"
            self._write(Invalidated(f"the roll-out of {plan.name} failed: {error}"))

    def _tell_rollout(self, plan: WorkloadPlan, progress: EpochDone) -> None:
        self._status.rollouts[plan.name] = f"training a better model: epoch {progress.epoch} of {progress.epochs}"


def headstart_s(deployment: Deployment, round_trip_s: float = 0.0) -> float:
    """How long before the first sample may be due all nodes are told when that is. round_trip_s: the longest so far
    between machines, of which no plan tells."""
    devices = deployment.of_tier("device")
    by_child = {link.child: link for link in deployment.links.values()}
    latencies_ms = (
        sum(
            link.latency_ms + 3.0 * link.jitter_ms
            for child in (device.name, str(device.parent))
            if (link := by_child.get(child)) is not None
        )
        for device in devices
    )
    return (
        _HEADSTART_S
        + _HEADSTART_PER_DEVICE_S * len(devices)
        + _WAYS * max(latencies_ms, default=0.0) / 1e3
        + _LOSSY_HEADSTART_S * any(link.loses for link in by_child.values())
        + min(round_trip_s, _LONGEST_ROUND_TRIP_S)
    )


def note_failures(
    write: Callable[[Entry], None], tasks: list[asyncio.Task[None]], outcomes: list[BaseException | None]
) -> None:
    """Write down what tasks that have ended have failed of."""
    for task, outcome in zip(tasks, outcomes, strict=True):
        if isinstance(outcome, Exception):
            _log.error("%s", task.get_name(), exc_info=outcome)
            # A task with tasks of its own tells of a group.
            failures = outcome.exceptions if isinstance(outcome, ExceptionGroup) else (outcome,)
            for failure in failures:
                write(Invalidated(f"the {task.get_name()} failed: {type(failure).__name__}: {failure}"))


async def ready_in_time(status: RunStatus, announced: Container[str]) -> None:
    """Return when every node is ready. While any that is not says that it gets ready (`RunStatus.is_loading`), all are
    waited for. announced: digests of the models that they were told of.

    Raises ModelError where nobody has said so for a while, and some are not ready, and where a model is refused.
    """
    since_s = loading_s = now_s()
    is_told = False
    while True:
        try:
            return await asyncio.wait_for(status.all_ready(announced), _READY_LOOK_S)
        except TimeoutError:
            at_s = now_s()
            if status.is_loading:
                loading_s = at_s
            if at_s - loading_s > _READY_PATIENCE_S or at_s - since_s > _LONGEST_LOADING_S:
                waiting = listed(status.not_ready())
                raise ModelError(f"not ready {at_s - since_s:.0f} s after the models: {waiting}") from None
            if at_s - since_s > _SLOW_S and not is_told:  # once: of many nodes a few more are ready each second
                status.preparing, is_told = f"waiting for {listed(status.not_ready())}", True
