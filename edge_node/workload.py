"""One workload at an edge: what takes its samples in there, and where they and their decisions leave it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from edge_node.cloud_bound import CloudBound, Resend
from edge_node.online import EitherPlace
from edgebench.clock import RealClock, now_ns
from edgebench.core.deciding import Decider, Forwarder, HeadOutput, Origin, brought_back
from edgebench.core.intake import Intake
from edgebench.core.replacing import OnlinePlacement
from edgebench.core.routing import Roles, is_sparse
from edgebench.core.samples import Decision, RejectedError, SampleKey
from edgebench.core.tallies import Tally
from edgebench.fabric import topics, wire
from edgebench.fabric.drops import DroppedOnce
from edgebench.fabric.ledger import Ledger
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import Entry
from edgebench.fabric.serving import ModelServer
from edgebench.fabric.slices import Slice
from edgebench.fabric.timing import takes_here
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.seeds import rng_for
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Durability

_log = logging.getLogger(__name__)


class Host(Protocol):
    """The process that an edge runs in. incarnation: how often it has been started before; store_dir: where all its
    lives keep what they have to."""

    incarnation: int
    store_dir: Path
    reactor: Reactor

    def tally(self, node: str, workload: str) -> Tally:
        """The counts of a workload at a node; the same object each time."""
        ...

    def announced(self, node: str, workload: str, manifest: bytes) -> None:
        """A model to be fetched; it comes to `EdgeWorkload.use`."""
        ...

    def swapped(self, node: str, workload: str, manifest: Manifest) -> None:
        """A model that decides from now on."""
        ...

    def write(self, entry: Entry) -> None:
        """Record something."""
        ...


class EdgeWorkload:
    """Answers towards the site, and passes on towards the cloud, for one workload.

    decider: takes in what this edge decides; forwarder: what the cloud does; either: what one of the two does. None
    where there is no such device.
    """

    def __init__(
        self,
        host: Host,
        part: Slice,
        plan: WorkloadPlan,
        roles: Roles,
        site: Connection,
        uplink: Connection,
        *,
        resend: Resend | None = None,
    ) -> None:
        """part: the slice of this edge's process. resend: as `CloudBound` has it."""
        self.name = plan.name
        self.decider: Decider | None = None
        self.forwarder: Forwarder | None = None
        self.either: EitherPlace | None = None
        self._host = host
        self._run_id = run_id = part.run_id
        (self._node,) = part.nodes
        self._qos = plan.qos
        self._on_device = bool(roles.on_device)
        self._site = site
        self._uplink = uplink
        self._max_batch = plan.batch.max_batch
        self._decision_topics = {
            device: topics.decision(topics.NOW, board, plan.name) for device, board in part.boards.items()
        }
        self._trial_topic = topics.trial(run_id, self._node, plan.name)
        self._site_models_topic = topics.site_models(run_id, self._node, plan.name)
        self._tally = host.tally(self._node, plan.name)
        self._no_room = DroppedOnce(self._tally, "store-full")
        self._answer_gone = DroppedOnce(self._tally, "answer-gone")
        self._cloud_bound: CloudBound | None = None
        if roles.forwarded or (roles.decided and plan.goes_on):
            path = host.store_dir / f"{plan.name}.forwards"
            topic = topics.forward(run_id, self._node, plan.name)
            self._cloud_bound = CloudBound(
                host.reactor, uplink, topic, plan, self._tally, path, part.durability, self._dropped, resend
            )
        self._ledger: Ledger | None = None
        if part.durability != "none" and (roles.decided or roles.forwarded):
            self._ledger = self._open_ledger(host.store_dir / f"{plan.name}.ledger", part.durability)
        sparse = is_sparse(plan, part.moves) or host.incarnation > 0
        if roles.decided:
            self.decider = self._decide(plan, sparse=sparse)
        if self.decider is not None and plan.online is not None:
            rng = rng_for(part.seed, "online", self._node, plan.name)
            placement = OnlinePlacement(plan.name, self._node, plan.online, rng, now_ns())
            self.forwarder = self._forward(self.decider.intake)
            self.either = EitherPlace(self.decider, self.forwarder, placement, self, host.reactor, host.write)
        elif roles.forwarded:
            self.forwarder = self._forward(Intake(self._tally, sparse=sparse, memory=self._ledger))

    def _decide(self, plan: WorkloadPlan, *, sparse: bool) -> Decider:
        decider = Decider(
            self._node,
            self._tally,
            self,
            RealClock(),
            upstream=None if plan.cascade is None else self,
            next_stage=self if plan.head_at_edge else None,
            trials=self if plan.online is not None else None,
            sparse=sparse,
            memory=self._ledger,
        )
        self._server = ModelServer(plan.name, plan.batch, plan.queue, decider)
        decider.served_by(self._server)
        return decider

    def _forward(self, intake: Intake) -> Forwarder:
        return Forwarder(intake, self, RealClock())

    def _open_ledger(self, path: Path, durability: Durability) -> Ledger:
        bound = self._cloud_bound
        taken_in = [] if bound is None else bound.undecided()
        ledger = Ledger(
            path,
            durability,
            answer_again=self._answer_again,
            answer_gone=self._answer_gone.drop,
            came_again=None if bound is None else bound.came_again,
            taken_in=taken_in,
        )
        if bound is not None:
            for key in filter(ledger.has_answered, taken_in):
                bound.answered(key)
        return ledger

    def close(self) -> None:
        """Close what it keeps."""
        for each in (self._ledger, self._cloud_bound):
            if each is not None:
                each.close()

    def answer(self, origin: Origin, decision: Decision) -> None:
        """Send a decision to its device."""
        body = wire.encode(decision)
        took_ns = decision.stamps.received_ns, decision.stamps.replied_ns
        if self._ledger is not None:
            send = self._noted(*took_ns, partial(self._reply, origin.device, body))
            self._once(origin.key(decision.incarnation, decision.seq), body, send)
            return
        if self.either is not None:
            self.either.done(*took_ns)
        self._reply(origin.device, body, waits=True)

    def flush(self) -> None:
        """Send what waits."""
        self._site.flush()

    def _once(self, key: SampleKey | None, body: bytes, send: Callable[[], None]) -> None:
        """Send an answer; where more is promised it is written down first, and a second one is not sent. key: None of
        what is in plain JSON."""
        if key is None or self._ledger is None:
            send()
        elif not self._ledger.answered(key, body, send):
            self._no_room.drop(key)

    def _answer_again(self, key: SampleKey, body: bytes) -> None:
        self._reply(key.device, body)

    def _noted(self, began_ns: int | None, ended_ns: int, send: Callable[[], None]) -> Callable[[], None]:
        """To send an answer, which tells what its sample took where the workload is. began_ns: None of plain JSON."""
        if self.either is None or began_ns is None:
            return send
        done = self.either.done

        def note_and_send() -> None:
            done(began_ns, ended_ns)
            send()

        return note_and_send

    def answer_plain(self, origin: Origin, output: list[float], digest: str, sample_id: str | int | None) -> None:
        """Send a decision on a plain sample to its device."""
        self._reply(origin.device, wire.encode_json(wire.PlainDecision(output, digest, self._node, sample_id)))

    def swapped(self, manifest: Manifest) -> None:
        """Write down which model decides here from now on."""
        self._host.swapped(self._node, self.name, manifest)

    def pass_on(self, device: str, received_ns: int, payload: bytes | memoryview, key: SampleKey | None) -> None:
        """Send a sample to the cloud."""
        body = wire.encode(wire.Forward(wire.VERSION, device, received_ns, now_ns(), memoryview(payload)))
        self._to_cloud(key, body)

    def hand_on(self, output: HeadOutput) -> None:
        """Send the cloud what the first stage of a chain gave."""
        self._to_cloud(output.key, self._handed_on(output, now_ns()))

    @staticmethod
    def _handed_on(given: HeadOutput, out_ns: int) -> bytes:
        """The envelope of it, which leaves at `out_ns`."""
        if given.seq is None:
            payload = wire.encode_json(wire.PlainSample(given.output.tolist(), given.id))
        else:
            shape, values = given.output.shape, given.output.data.cast("B")
            times_ns = given.received_ns, given.stamps.finished_ns, out_ns
            count = given.seq, given.incarnation
            payload = wire.encode(wire.Sample(wire.VERSION, *count, *times_ns, "float32", shape, None, values))
        on = (given.device, given.received_ns, out_ns, memoryview(payload), given.stamps)
        return wire.encode(wire.Forward(wire.VERSION, *on))

    def bring_back(self, payload: bytes) -> None:
        """Send an answer of the cloud to its device."""
        return_in_ns = now_ns()
        brought = self._brought_back(payload, return_in_ns)
        if brought is not None:
            key, device, body, began_ns = brought
            send = self._noted(began_ns, return_in_ns, partial(self._reply, device, body))
            self._once(key, body, partial(self._bring, key, send))

    def _bring(self, key: SampleKey | None, reply: Callable[[], None]) -> None:
        reply()
        if key is not None and self._ledger is not None:
            self._keep_no_longer(key)

    def _keep_no_longer(self, key: SampleKey) -> None:
        if self._cloud_bound is not None:
            self._host.reactor.call_soon_threadsafe(partial(self._cloud_bound.answered, key))

    def _brought_back(
        self, payload: bytes, return_in_ns: int
    ) -> tuple[SampleKey | None, str, bytes, int | None] | None:
        """The sample and the device that an answer is for, what that is to get, and when the sample was taken in; None
        where it is no answer, or says that there is none any more."""
        try:
            answer = wire.parse_answer(payload)
            body = bytes(answer.body)
            key = began_ns = None
            if wire.is_gone(body):
                gone = wire.parse_gone(body)
                self._keep_no_longer(SampleKey(answer.origin, gone.incarnation, gone.seq))
                return None
            if not wire.is_plain(body):
                decision = wire.parse_decision(body)
                key = SampleKey(answer.origin, decision.incarnation, decision.seq)
                began_ns = decision.stamps.forward_in_ns
                body = wire.encode(brought_back(decision, return_in_ns, now_ns()))
        except RejectedError as rejected:
            self._tally.reject(rejected.reason)
            return None
        return key, answer.origin, body, began_ns

    def tried(self, origin: Origin, received_ns: int, finished_ns: int) -> None:
        """See `Trials`: the model here has decided one."""
        del received_ns  # it has waited since the sample came
        assert self.either is not None
        assert origin.trial_ns is not None
        self.either.tried(origin.trial_ns, finished_ns)

    def let_go(self, origin: Origin) -> None:
        """See `Trials`."""
        assert self.either is not None
        assert origin.trial_ns is not None
        self.either.let_go(origin.trial_ns)

    def takes_in(self, came_ns: int, size_bytes: int, then: Callable[[int], None]) -> None:
        """See `Edge`."""
        del size_bytes  # it is in
        then(came_ns)

    def ask(self, request: bytes) -> bool:
        """See `Edge`."""
        return self._way_is_free and self._uplink.publish(self._trial_topic, request, qos=self._qos)

    @property
    def _way_is_free(self) -> bool:
        """Whether samples would set out for the cloud at once."""
        return self._uplink.connected and self._cloud_bound is not None and not self._cloud_bound.is_behind

    def trial_answered(self, payload: bytes) -> None:
        """The cloud has decided a trial, or says how long the way to it is."""
        assert self.either is not None
        try:
            self.either.answered(payload)
        except RejectedError as rejected:
            self._tally.reject(rejected.reason)

    def uplink_is_up(self) -> None:
        """The uplink stands, perhaps again."""
        if self.either is not None:
            self.either.uplink_is_up()
        if self._cloud_bound is not None:
            self._cloud_bound.uplink_is_up()

    def uplink_has_room(self) -> None:
        """The uplink takes more again."""
        if self._cloud_bound is not None:
            self._cloud_bound.uplink_has_room()

    def asked(self, how: bytes) -> None:
        """The cloud asks for what is unanswered."""
        if self._cloud_bound is not None:
            self._cloud_bound.asked(how)

    def damaged(self) -> None:
        """A message of this workload was changed on its way."""
        self._tally.reject("damaged")

    def _dropped(self, key: SampleKey) -> None:
        if self._ledger is not None:
            self._ledger.dropped(key)

    def announced(self, manifest: bytes) -> bool:
        """Bring a model to whoever decides with it; whether all is ready then that travels by here.

        Where this edge decides too, that is for `use` to say.
        """
        try:
            parsed = wire.parse_manifest(manifest)
        except RejectedError as rejected:
            _log.error("%s: %s", self.name, rejected)
            return False
        if self._on_device:
            self._site.announce(self._site_models_topic, manifest)
        elif parsed.head is not None:  # devices have the first stage, and their site or the cloud the second
            self._site.announce(self._site_models_topic, wire.encode_json(parsed.head))
        if self.forwarder is not None:
            self.forwarder.intake.expect(wire.SampleReader(parsed.input))
        if self.decider is not None:
            self._host.announced(self._node, self.name, manifest)
            return False
        return self.forwarder is not None

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this (warm) model from the next batch on."""
        assert self.decider is not None
        if self.either is not None:
            self.either.use(takes_here(runtime, manifest, self._max_batch))
        self.decider.expect(manifest, wire.SampleReader(manifest.input))
        self._server.swap(runtime, manifest)

    def _to_cloud(self, key: SampleKey | None, body: bytes) -> None:
        assert self._cloud_bound is not None
        self._cloud_bound.send(key, body)

    def _reply(self, device: str, body: bytes, *, waits: bool = False) -> None:
        topic = self._decision_topics.get(device)
        if topic is None:
            topic = self._decision_topics[device] = topics.decision(self._run_id, device, self.name)
        if not self._site.publish(topic, body, qos=self._qos, waits=waits):
            self._tally.drop("site-full")
