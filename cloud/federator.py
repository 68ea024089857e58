"""The process that runs the server's side of a federation: `python -m cloud.federator` (see `cloud.federation`)."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from cloud.announced_files import AnnouncedFiles, lines_on
from cloud.federation import (
    Announced,
    FailedFederation,
    FederationEvent,
    FederationSpec,
    Finished,
    GlobalModel,
    Listening,
    Withdrawn,
)
from cloud.federation_messages import FederationMessages
from edgebench.clock import NS_PER_S, now_ns, sleep_s
from edgebench.errors import DataError, reason_of
from edgebench.fabric.logs import log_to_stderr
from edgebench.fabric.records import AppMetrics, ReplyRecord, Rounded, RoundRecord
from edgebench.federated.client_bundle import INITIAL, KERAS_BACKENDS, STEP, STEP_SPEC, read_info
from edgebench.federated.content import Arrays, Head, arrays_in, pack, read_parcel, write_parcel
from edgebench.federated.flower.apps import FlowerApp, load_app, run_server_app
from edgebench.federated.flower.built_in import run_built_in
from edgebench.federated.flower.engine_job import EngineJob, EngineNodes
from edgebench.federated.flower.events import Learned, MetricsSeen, Outcome, RoundSeen
from edgebench.federated.flower.flower_log import into_our_log
from edgebench.federated.flower.grid import MessageGrid
from edgebench.federated.flower.journal import digest_of
from edgebench.federated.flower.needs import other_versions
from edgebench.federated.flower.observed import ObservedGrid
from edgebench.federated.own_files import stand_in
from edgebench.federated.reply_checks import UNIFORM
from edgebench.seeds import seed_for
from edgebench.topology.model import Federated

_NICE = 10
_log = logging.getLogger(__name__)


class FederationProgress:
    """Tells of a federation's rounds and models, and paces them: the first begins `at_s` after the streams' start, each
    at least `interval_s` after the last."""

    def __init__(self, spec: FederationSpec, emit: Callable[[FederationEvent], None], start_ns: int) -> None:
        self._spec = spec
        self._emit = emit
        self._seen: RoundSeen | None = None
        self._next_ns = start_ns + int(spec.plan.how.at_s * NS_PER_S)
        self._interval_ns = int(spec.plan.how.interval_s * NS_PER_S)

    def before_round(self, _number: int) -> None:
        """Return when the next round may begin."""
        sleep_s(max(0.0, (self._next_ns - now_ns()) / NS_PER_S))
        self._next_ns = max(self._next_ns, now_ns()) + self._interval_ns

    def on_round(self, seen: RoundSeen) -> None:
        """A round's replies are there."""
        if self._spec.plan.how.app is None:
            self._seen = seen  # it ends when its model is made
        else:
            self._emit(Rounded(self._record(seen, seen.ended_ns)))

    def on_metrics(self, seen: MetricsSeen) -> None:
        """An app has made metrics of its last round."""
        self._emit(AppMetrics(self._spec.plan.how.workload, seen.kind, seen.round, seen.metrics))

    def on_model(self, learned: Learned) -> None:
        """The model after a round of the built-in app."""
        if self._seen is not None:
            record = self._record(self._seen, now_ns())
            self._seen = None
            privacy = learned.privacy
            self._emit(
                Rounded(
                    msgspec.structs.replace(
                        record,
                        # With too few replies the strategy is handed none: that is the reason, not what it made of it.
                        skipped=record.skipped or learned.skipped,
                        metrics={
                            name: float(value)
                            for name, value in learned.metrics.items()
                            if _is_number(value) and name != UNIFORM
                        },
                        epsilon=None if privacy is None else privacy.epsilon,
                        delta=None if privacy is None else privacy.delta,
                        no_epsilon=None if privacy is None else privacy.reason,
                        model=digest_of({"arrays": Arrays(learned.arrays)}),
                    )
                )
            )
        path = Path(self._spec.work_dir) / f"round-{learned.round}.parcel"
        write_parcel(path, pack(Head(message_id="", kind="model"), {"arrays": Arrays(learned.arrays)}))
        self._emit(GlobalModel(learned.round, str(path), learned.replayed))

    def _record(self, seen: RoundSeen, ended_ns: int) -> RoundRecord:
        plan = self._spec.plan
        return RoundRecord(
            workload=plan.how.workload,
            server=self._spec.cloud,
            kind=seen.kind,
            number=seen.round,
            inner=0,
            started_ns=seen.started_ns,
            gathered_ns=seen.ended_ns,
            ended_ns=ended_ns,
            replies=tuple(_reply(plan.asked[outcome.node - 1], outcome, seen) for outcome in seen.outcomes),
            skipped=seen.skipped,
            resumed=seen.replayed,
        )


def _reply(node: str, outcome: Outcome, seen: RoundSeen) -> ReplyRecord:
    stamps = outcome.stamps
    return ReplyRecord(
        node=node,
        asked_ns=stamps.sent_ns or seen.started_ns,
        delivered_ns=stamps.received_ns or stamps.delivered_ns,
        started_ns=stamps.started_ns,
        finished_ns=stamps.finished_ns,
        arrived_ns=stamps.arrived_ns,
        bytes_down=stamps.bytes_down,
        bytes_up=stamps.bytes_up,
        examples=None if outcome.examples is None else int(outcome.examples),
        error=outcome.error,
        unread=outcome.unread,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def main() -> int:
    """Run the federation that the first line on standard input describes, from the second line on."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever an app prints must not mix with the events
    log_to_stderr()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    threading.excepthook = _end_with_thread
    emitting = threading.Lock()

    def emit(event: FederationEvent | Announced | Withdrawn) -> None:
        with emitting:
            events.write(msgspec.json.encode(event) + b"\n")
            events.flush()

    said = lines_on(sys.stdin.fileno())
    spec = msgspec.json.decode(next(said), type=FederationSpec)
    files = AnnouncedFiles(said, emit)
    if spec.plan.how.app is not None:
        stand_in(Path(spec.files_dir))
    try:
        _federate(spec, files, emit)
    except Exception as error:  # noqa: BLE001  (the event is where it goes)
        traceback.print_exc()
        emit(FailedFederation(reason_of(error), about_data=isinstance(error, DataError)))
    else:
        emit(Finished())
    return 0


def _end_with_thread(failure: threading.ExceptHookArgs) -> None:
    """Without the thread that does its MQTT, no reply would ever come, and the clients would be blamed."""
    traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    os._exit(1)


def _federate(spec: FederationSpec, files: AnnouncedFiles, emit: Callable[[FederationEvent], None]) -> None:
    into_our_log()
    if not spec.plan.over_mqtt:
        _federate_elsewhere(spec, files, emit)
        return
    with FederationMessages(spec, files).connected() as server:
        progress = _begin(spec, files, emit)
        if progress is None:
            return
        how = spec.plan.how
        grid = ObservedGrid(
            MessageGrid(
                server,
                spec.plan.asked,
                run_id=seed_for(0, "run", spec.run_id),
                deadline_s=how.deadline_s,
                before_asking=partial(server.wait_online, spec.plan.asked, how.min_replies),
            ),
            seed=spec.seed,
            deadline_s=how.deadline_s,
            min_replies=how.min_replies,
            on_round=progress.on_round,
            on_metrics=progress.on_metrics,
        )
        if how.app is not None:
            app = _app(how)
            progress.before_round(1)
            run_server_app(app, grid, state_dir=_state_dir(spec))
            return
        run_built_in(
            grid,
            how,
            arrays_in(read_parcel(_initial(spec)).content),
            seed=spec.seed,
            on_model=progress.on_model,
            before_round=progress.before_round,
            state_dir=_state_dir(spec),
            most_examples=_most_examples(spec),
        )


def _federate_elsewhere(spec: FederationSpec, files: AnnouncedFiles, emit: Callable[[FederationEvent], None]) -> None:
    """By an engine of Flower's, whose clients are processes beside this one."""
    # Those processes learn, too, and take their share of the machine from the streams.
    os.nice(_NICE)
    how = spec.plan.how
    if how.app is None and how.fit.runtime in KERAS_BACKENDS:
        os.environ["KERAS_BACKEND"] = KERAS_BACKENDS[how.fit.runtime]
    progress = _begin(spec, files, emit)
    if progress is None:
        return
    state_dir = _state_dir(spec)
    job = EngineJob(
        clients=len(spec.plan.clients),
        seed=spec.seed,
        deadline_s=how.deadline_s,
        min_replies=how.min_replies,
        state_dir=None if state_dir is None else str(state_dir),
    )
    if how.app is not None:
        configs = spec.plan.node_configs
        job = msgspec.structs.replace(job, app=_app(how), node_configs=configs, files_dir=spec.files_dir)
        progress.before_round(1)
    else:
        settings = {"bundle_dir": spec.bundle_dir, "seed": spec.seed}
        nodes = EngineNodes("edgebench.federated.client_bundle:engine_client", settings)
        job = msgspec.structs.replace(
            job, how=how, initial=str(_initial(spec)), nodes=nodes, most_examples=_most_examples(spec)
        )
    if how.engine == "ray":
        from edgebench.federated.flower.simulation import run_on_ray

        run_on_ray(job, progress)
    else:
        from edgebench.federated.flower.superlink import run_on_superlink

        run_on_superlink(job, progress, log_dir=Path(spec.log_dir))


def _begin(
    spec: FederationSpec, files: AnnouncedFiles, emit: Callable[[FederationEvent], None]
) -> FederationProgress | None:
    """Wait for the word to begin; None where it never comes."""
    emit(Listening())
    go = files.go()
    return None if go is None else FederationProgress(spec, emit, go.start_ns)


def _app(how: Federated) -> FlowerApp:
    assert how.app is not None
    app = load_app(Path(how.app)).configured(how.config)
    for line in other_versions(app):
        _log.warning("%s: %s", app.folder, line)
    return app


def _state_dir(spec: FederationSpec) -> Path | None:
    """Where answers are kept."""
    return Path(spec.journal_dir) / "state" if spec.plan.how.keep_answers else None


def _most_examples(spec: FederationSpec) -> dict[int, int]:
    """How many samples each client has, by node id; an edge that aggregates has those of its site."""
    assert spec.bundle_dir is not None
    own = dict(zip(spec.plan.clients, read_info(Path(spec.bundle_dir)).samples, strict=True))
    return {
        node: sum(own[device] for device in spec.plan.edges.get(name, (name,)))
        for node, name in enumerate(spec.plan.asked, 1)
    }


def _initial(spec: FederationSpec) -> Path:
    """The weights that the first round begins with; those of the first start, where this is a later one."""
    kept = Path(spec.journal_dir) / INITIAL
    if not kept.exists():
        assert spec.bundle_dir is not None
        kept.parent.mkdir(parents=True, exist_ok=True)
        # With its training step, and the data that the topology names, a run's models can be computed again.
        for name in (STEP, STEP_SPEC, INITIAL):
            if (Path(spec.bundle_dir) / name).exists():
                shutil.copyfile(Path(spec.bundle_dir) / name, kept.parent / name)
    return kept


if __name__ == "__main__":
    sys.exit(main())
