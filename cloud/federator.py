"""The process that runs the server's side of a federation: `python -m cloud.federator` (see `cloud.federation`)."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from cloud.federation import (
    FailedFederation,
    FederationEvent,
    FederationSpec,
    Finished,
    GlobalModel,
    Go,
    Listening,
)
from edgebench.clock import NS_PER_S, now_ns, sleep_s
from edgebench.errors import DataError, EdgebenchError, describe_error
from edgebench.fabric import topics
from edgebench.fabric.endpoints import parse_own_broker_url
from edgebench.fabric.logs import log_to_stderr
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import AppMetrics, ReplyRecord, Rounded, RoundRecord
from edgebench.federated.client_bundle import INITIAL, KERAS_BACKENDS, STEP, STEP_SPEC, read_info
from edgebench.federated.content import Arrays, Head, arrays_in, pack, read_parcel, write_parcel
from edgebench.federated.courier import Courier
from edgebench.federated.flower.apps import load_app, run_server_app
from edgebench.federated.flower.built_in import run_built_in
from edgebench.federated.flower.engine_job import EngineJob, EngineNodes
from edgebench.federated.flower.events import Learned, MetricsSeen, Outcome, RoundSeen
from edgebench.federated.flower.flower_log import into_our_log
from edgebench.federated.flower.grid import MqttGrid
from edgebench.federated.flower.journal import digest_of
from edgebench.federated.flower.observed import ObservedGrid
from edgebench.federated.reply_checks import UNIFORM
from edgebench.seeds import seed_for

_CONNECT_S = 30.0
_NICE = 10


class Wire:
    """The federation's connection to the cloud's broker, in a thread of its own, and the courier that uses it."""

    def __init__(self, spec: FederationSpec) -> None:
        self._spec = spec
        workload = spec.plan.how.workload
        self._edge_of = {node: spec.parents.get(node, node) for node in spec.plan.asked}
        self._reactor = Reactor()
        self._up = threading.Event()
        self._connection = Connection(
            self._reactor,
            parse_own_broker_url(spec.broker),
            f"{spec.run_id}-{spec.cloud}-fl-{workload}",
            on_message=self._received,
            on_up=self._is_up,
        )
        down = {node: topics.fl_down(spec.run_id, workload, edge, node) for node, edge in self._edge_of.items()}
        self._node_of = {topics.fl_up(spec.run_id, workload, edge, node): node for node, edge in self._edge_of.items()}
        # A client can be reached where neither it nor its edge is known to be away.
        self._away: set[str] = set()
        self._status_of = {topics.status(spec.run_id, edge): edge for edge in self._edge_of.values()}
        for node, edge in self._edge_of.items():
            self._status_of[topics.fl_status(spec.run_id, workload, edge, node)] = node
        self.courier = Courier(
            self._reactor,
            lambda node, datagram: self._connection.publish(down[node], datagram, qos=0),
            Path(spec.work_dir),
            backed_up=lambda: self._connection.backed_up,
        )
        hops = (spec.run_id, workload, topics.ANY, topics.ANY)
        self._connection.subscribe([topics.fl_up(*hops)], 0)
        self._connection.subscribe([topics.fl_status(*hops), topics.status(spec.run_id, topics.ANY)], 1)
        self._thread = threading.Thread(target=self._run, name="federation-mqtt", daemon=True)

    @contextmanager
    def connected(self) -> Iterator[Courier]:
        """Be connected. Raises EdgebenchError where the broker does not answer."""
        self._thread.start()
        try:
            if not self._up.wait(_CONNECT_S):
                raise EdgebenchError(f"the cloud's broker did not answer in {_CONNECT_S:.0f} s")
            yield self.courier
        finally:
            for end in (self.courier.close, self._connection.close, self._reactor.stop):
                self._reactor.call_soon_threadsafe(end)
            self._thread.join()

    def _run(self) -> None:
        self._connection.start()
        self._reactor.run()

    def _is_up(self) -> None:
        self._up.set()
        self.courier.reconnected()

    def _received(self, topic: str, payload: bytes) -> None:
        node = self._node_of.get(topic)
        if node is not None:
            self.courier.feed(node, payload)
            return
        who = self._status_of.get(topic)
        if who is None:
            return
        if payload == b"online":
            self._away.discard(who)
        else:
            self._away.add(who)
        for node, edge in self._edge_of.items():
            if who in (node, edge):
                self.courier.peer_status(node, online=self._away.isdisjoint((node, edge)))


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

    def emit(event: FederationEvent) -> None:
        with emitting:
            events.write(msgspec.json.encode(event) + b"\n")
            events.flush()

    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=FederationSpec)
    try:
        _federate(spec, emit)
    except Exception as error:  # noqa: BLE001  (the event is where it goes)
        traceback.print_exc()
        reason = " ".join(str(error).split()) if isinstance(error, EdgebenchError) else describe_error(error)
        emit(FailedFederation(reason, about_data=isinstance(error, DataError)))
    else:
        emit(Finished())
    return 0


def _end_with_thread(failure: threading.ExceptHookArgs) -> None:
    """Without the thread that does its MQTT, no reply would ever come, and the clients would be blamed."""
    traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    os._exit(1)


def _federate(spec: FederationSpec, emit: Callable[[FederationEvent], None]) -> None:
    into_our_log()
    if spec.plan.how.engine != "mqtt":
        _federate_elsewhere(spec, emit)
        return
    with Wire(spec).connected() as courier:
        progress = _begin(spec, emit)
        if progress is None:
            return
        how = spec.plan.how
        grid = ObservedGrid(
            MqttGrid(
                courier,
                spec.plan.asked,
                run_id=seed_for(0, "run", spec.run_id),
                deadline_s=how.deadline_s,
                before_asking=partial(courier.wait_online, spec.plan.asked, how.min_replies),
            ),
            seed=spec.seed,
            deadline_s=how.deadline_s,
            min_replies=how.min_replies,
            on_round=progress.on_round,
            on_metrics=progress.on_metrics,
        )
        state_dir = Path(spec.journal_dir) / "state"
        if how.app is not None:
            progress.before_round(1)
            run_server_app(load_app(Path(how.app)).configured(how.config), grid, state_dir=state_dir)
            return
        run_built_in(
            grid,
            how,
            arrays_in(read_parcel(_initial(spec)).content),
            seed=spec.seed,
            on_model=progress.on_model,
            before_round=progress.before_round,
            state_dir=state_dir,
            most_examples=_most_examples(spec),
        )


def _federate_elsewhere(spec: FederationSpec, emit: Callable[[FederationEvent], None]) -> None:
    """By an engine of Flower's, whose clients are processes beside this one."""
    # Those processes learn, too, and take their share of the machine from the streams.
    os.nice(_NICE)
    how = spec.plan.how
    if how.app is None and how.fit.runtime in KERAS_BACKENDS:
        os.environ["KERAS_BACKEND"] = KERAS_BACKENDS[how.fit.runtime]
    progress = _begin(spec, emit)
    if progress is None:
        return
    job = EngineJob(
        clients=len(spec.plan.clients),
        seed=spec.seed,
        deadline_s=how.deadline_s,
        min_replies=how.min_replies,
        state_dir=str(Path(spec.journal_dir) / "state"),
    )
    if how.app is not None:
        job = msgspec.structs.replace(job, app=load_app(Path(how.app)).configured(how.config))
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


def _begin(spec: FederationSpec, emit: Callable[[FederationEvent], None]) -> FederationProgress | None:
    """Wait for the word to begin; None where it never comes."""
    emit(Listening())
    line = sys.stdin.buffer.readline()
    if not line:
        return None
    return FederationProgress(spec, emit, msgspec.json.decode(line, type=Go).start_ns)


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
