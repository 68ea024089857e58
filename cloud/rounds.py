"""The federations of a run beside its streams: their rounds, and the quality and the roll-out of each global model."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from cloud.announcing import Announcer
from cloud.cloud_spec import CloudSpec
from cloud.federation import Federation, FederationSpec, GlobalModel
from cloud.jobs import EvaluateJob
from cloud.preparation import Preparation, target
from cloud.run_status import RunStatus
from cloud.trainer import NICE_BESIDE_STREAMS, Trainer
from edgebench.clock import NS_PER_S
from edgebench.errors import EdgebenchError, ModelError
from edgebench.fabric.records import AppMetrics, Entry, Invalidated, Rounded, RoundRecord, RoundScored
from edgebench.federated.message_files import MessageFiles
from edgebench.federated.own_files import FILES
from edgebench.topology.deployment import FederatedPlan

_ENGINE_PATIENCE_S = 180.0
"""For the first round of a federation: the other engines start a process or two for each client first."""

_log = logging.getLogger(__name__)


class Federations:
    """All federations of a run."""

    def __init__(
        self,
        spec: CloudSpec,
        status: RunStatus,
        preparation: Preparation,
        announcer: Announcer,
        trainer: Trainer,
        messages: MessageFiles,
        work_dir: Path,
        write: Callable[[Entry], None],
    ) -> None:
        """messages: what theirs carry, at the control plane."""
        self._spec = spec
        self._messages = messages
        self._deployment = spec.deployment
        self._status = status
        self._preparation = preparation
        self._announcer = announcer
        self._trainer = trainer
        self._work_dir = work_dir
        self._write = write
        self._federations: dict[str, Federation] = {}

    async def prepare(self, children: contextlib.AsyncExitStack, patience_s: float) -> None:
        """Start their processes, which end with `children`. Raises ModelError where one is not ready in time."""
        for name, federated in self._deployment.federated.items():
            self._status.preparing = f"the cloud prepares the federation of {name}"
            spec = self._federation_spec(name, federated)
            federation = await children.enter_async_context(Federation(spec, self._messages))
            try:
                await asyncio.wait_for(federation.listening(), patience_s)
            except TimeoutError:
                raise ModelError(f"the federation of {name} was not ready after {patience_s:.0f} s") from None
            self._federations[name] = federation

    def begin(self, start_ns: int) -> list[asyncio.Task[None]]:
        """Let the rounds go on, from the start of the streams."""
        return [
            asyncio.create_task(self._federate(name, start_ns), name=f"federation of {name}")
            for name in self._federations
        ]

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
            bundle_dir=None if plan.how.app is not None else str(self._preparation.bundle_dir(name)),
            journal_dir=str(Path(self._spec.run_dir) / "federated" / name),
            files_dir=str(Path(self._spec.run_dir) / FILES / self._deployment.cloud / name),
            work_dir=str(work_dir),
            log_dir=str(Path(self._spec.run_dir) / "logs"),
            seals=self._deployment.durability != "none",
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
        first = ""
        try:
            events = federation.events()
            while (event := await asyncio.wait_for(anext(events, None), patience_s)) is not None:
                if isinstance(event, Rounded):
                    self._write(event)
                    first = first or _first_failure(event.record)
                    shown = _shown_round(event.record, rounds)
                    self._status.rollouts[name] = shown
                    self._status.note(f"{name}: {shown}: {_replies(event.record)}")
                    if event.record.kind == "train" and not event.record.resumed:
                        self._status.rounds[name] = event.record.number
                elif isinstance(event, AppMetrics):
                    self._write(event)
                    of = "server, after" if event.kind == "server" else f"{event.kind},"
                    self._status.note(f"{name}: {of} round {event.number}: {_metrics(event.metrics)}")
                elif isinstance(event, GlobalModel):
                    on_model(event)
        except TimeoutError:
            self._write(Invalidated(f"the federation of {name} stood still for {patience_s:.0f} s{first}"))
        except EdgebenchError as error:
            _log.error("%s: %s", name, error)
            # What the server then fails of is often that it has nothing to aggregate.
            self._write(Invalidated(f"the federation of {name} failed: {error}{first}"))

    async def _score_rounds(self, name: str, models: asyncio.Queue[GlobalModel | None]) -> None:
        plan, every = self._deployment.workloads[name], self._deployment.federated[name].how.rollout_every
        while (model := await models.get()) is not None:
            # Of the models that an earlier run has learned, only the one that this run goes on from is of use to it.
            superseded = model.resumed and not models.empty()
            due = every > 0 and model.number > 0 and model.number % every == 0 and not superseded
            job = EvaluateJob(
                name=name,
                of=self._preparation.first_jobs[name],
                model=self._preparation.learned_on[name],
                number=model.number,
                weights=model.path,
                targets=(target(plan),) if due else (),
                out_dir=self._preparation.out_dir(),
            )
            try:
                (evaluated,) = await self._trainer.train([job], nice=NICE_BESIDE_STREAMS)
                self._write(RoundScored(name, model.number, evaluated.metrics))
                self._status.note(f"{name}: model of round {model.number}: {_metrics(evaluated.metrics)}")
                if due:
                    origin, when = f"federated round {model.number}", self._preparation.now_trained()
                    await self._announcer.take_up_beside(plan, evaluated, origin, when)
            except EdgebenchError as error:
                _log.error("%s: round %d: %s", name, model.number, error)
                self._write(
                    Invalidated(f"the model of federated round {model.number} of {name} was not usable: {error}")
                )
            finally:
                await asyncio.to_thread(_discard, Path(model.path), Path(job.out_dir))


def _shown_round(record: RoundRecord, of_all: str) -> str:
    kind = "" if record.kind == "train" else f"{record.kind} "
    return f"federated {kind}round {record.number}{of_all}"


def _replies(record: RoundRecord) -> str:
    """How a round went, in a line."""
    failed = [reply for reply in record.replies if reply.error is not None]
    took = f"{len(record.replies) - len(failed)} of {len(record.replies)} replies in {_seconds(record):.2f} s"
    why = f" ({failed[0].node}: {failed[0].error})" if failed else ""
    return f"{took}{why}" + ("" if record.skipped is None else f"; skipped: {record.skipped}")


def _first_failure(record: RoundRecord) -> str:
    """That of a client in this run, in a round that may be the cause of what comes after it."""
    failed = [] if record.resumed else [reply for reply in record.replies if reply.error is not None]
    return "".join(f"; the first failure of a client was that of {each.node}: {each.error}" for each in failed[:1])


def _seconds(record: RoundRecord) -> float:
    return (record.ended_ns - record.started_ns) / NS_PER_S


def _metrics(metrics: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {'–' if value is None else format(value, '.4g')}" for name, value in metrics.items())


def _discard(weights: Path, out_dir: Path) -> None:
    """What a round's model was made of; the registry has what is worth keeping."""
    weights.unlink(missing_ok=True)
    shutil.rmtree(out_dir, ignore_errors=True)
