"""One workload that is decided in the cloud: what takes its samples in there, and how its answers leave."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgebench.clock import RealClock, now_ns
from edgebench.core.deciding import Decider, Origin, QueuedSample
from edgebench.core.emulation import EmulatedDecider, EmulatedServer, Machine
from edgebench.core.replacing import Takes
from edgebench.core.routing import is_sparse
from edgebench.core.samples import Decision, RejectedError, SampleKey
from edgebench.core.station import Thread
from edgebench.core.tallies import Tally
from edgebench.fabric import topics, wire
from edgebench.fabric.drops import DroppedOnce
from edgebench.fabric.ledger import Ledger
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.real_work import RealWork, check_emulable
from edgebench.fabric.records import Entry, Swap, Swapped
from edgebench.fabric.serving import ModelServer
from edgebench.fabric.timing import takes_here
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import Deployment, WorkloadPlan


class CloudWorkload:
    """One workload that is decided in the cloud, for some devices at least: it takes forwards in, and answers them."""

    def __init__(
        self,
        deployment: Deployment,
        plan: WorkloadPlan,
        tally: Tally,
        connection: Connection,
        write: Callable[[Entry], None],
        ledger: Path,
    ) -> None:
        """ledger: its file, where durability is promised."""
        self._deployment = deployment
        self._plan = plan
        self._tally = tally
        self._no_room = DroppedOnce(tally, "store-full")
        self._answer_gone = DroppedOnce(tally, "answer-gone")
        self._connection = connection
        self._write = write
        self._node = deployment.cloud
        self._takes = Takes(0.0, 0.0, plan.batch.max_batch)
        """What its model does, where edges ask for that."""
        self._ledger: Ledger | None = None
        if deployment.durability != "none":
            self._ledger = Ledger(
                ledger,
                deployment.durability,
                answer_again=self._answer_again,
                answer_gone=self._tell_gone,
            )
        # What an edge decides itself, or drops, before it would go on leaves gaps.
        self._decider = self._decides(sparse=plan.goes_on or is_sparse(plan, deployment.moves))

    def _decides(self, *, sparse: bool) -> Decider:
        trials = None if self._plan.online is None else self
        decider = Decider(self._node, self._tally, self, RealClock(), trials=trials, sparse=sparse, memory=self._ledger)
        self._server = ModelServer(self._plan.name, self._plan.batch, self._plan.queue, decider)
        decider.served_by(self._server)
        return decider

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this (warm) model from the next batch on."""
        if self._plan.online is not None:
            self._takes = takes_here(runtime, manifest, self._plan.batch.max_batch)
        self._decider.expect(manifest, wire.SampleReader(manifest.input))
        self._server.swap(runtime, manifest)

    def forwarded(self, edge: str, payload: bytes) -> None:
        """Take in what an edge passes on."""
        try:
            forward = wire.parse_forward(payload)
        except RejectedError as rejected:
            self._tally.reject(rejected.reason)
            return
        device = self._deployment.nodes.get(forward.origin)
        if device is None or device.tier != "device" or edge not in device.sites:
            self._tally.reject("unknown-origin")
            return
        # By the node's own name: each message has it anew, and what is answered is remembered by it.
        origin = Origin(device.name, forward.forward_in_ns, forward.forward_out_ns, edge, forward.head)
        self._decider.take(origin, forward.envelope)

    def trial(self, edge: str, payload: bytes) -> None:
        """Take in what an edge tries: a sample is decided, and all else is answered as it comes."""
        received_ns = now_ns()
        try:
            request = wire.parse_trial_request(payload)
        except RejectedError as rejected:
            self._tally.reject(rejected.reason)
            return
        if request.envelope is None:
            self._answer_trial(edge, len(payload), wire.TrialAnswer(wire.VERSION, request.began_ns))
            return
        accepted = self._decider.intake.read(request.envelope)
        origin = Origin("", edge=edge, trial_ns=request.began_ns)
        if accepted is None:
            self.let_go(origin)
        else:
            self._decider.accept(origin, payload, accepted, received_ns)

    def tried(self, origin: Origin, received_ns: int, finished_ns: int) -> None:
        """See `Trials`."""
        assert origin.edge is not None
        assert origin.trial_ns is not None
        held_ns, takes = finished_ns - received_ns, self._takes
        answer = wire.TrialAnswer(wire.VERSION, origin.trial_ns, held_ns, takes.single_ns, takes.each_ns)
        self._send_tried(origin.edge, wire.encode(answer), finished_ns)

    def let_go(self, origin: Origin) -> None:
        """See `Trials`; the edge need not wait for that."""
        assert origin.edge is not None
        assert origin.trial_ns is not None
        answer = wire.TrialAnswer(wire.VERSION, origin.trial_ns, let_go=True)
        self._send_tried(origin.edge, wire.encode(answer), now_ns())

    def _answer_trial(self, edge: str, _size_bytes: int, answer: wire.TrialAnswer) -> None:
        self._send_tried(edge, wire.encode(answer), now_ns())

    def _send_tried(self, edge: str, body: bytes, _at_ns: int) -> None:
        """A trial that goes lost is one that is not known; the next one tells."""
        self._connection.publish(topics.tried(self._deployment.run_id, edge, self._plan.name), body, qos=self._plan.qos)

    def answer(self, origin: Origin, decision: Decision) -> None:
        """Send a decision to the edge that asked for it."""
        body = wire.encode(decision)
        if self._ledger is None:
            self._publish(origin, self._enveloped(origin, body), waits=True)
        else:
            self._once(origin, decision, body, partial(self._reply, origin, body))

    def flush(self) -> None:
        """Send what waits."""
        self._connection.flush()

    def _once(self, origin: Origin, decision: Decision, body: bytes, send: Callable[[], None]) -> None:
        """Send a decision; where more is promised it is written down first."""
        key = origin.key(decision.incarnation, decision.seq)
        if self._ledger is None:
            send()
        elif not self._ledger.answered(key, body, send):
            self._no_room.drop(key)

    def _answer_again(self, key: SampleKey, body: bytes) -> None:
        self._reply(Origin(key.device, edge=key.by), body)

    def _tell_gone(self, key: SampleKey) -> None:
        """The edge that waits for an answer need not keep its sample for it any longer."""
        self._answer_gone.drop(key)
        self._answer_again(key, wire.encode(wire.Gone(wire.VERSION, key.incarnation, key.seq)))

    def damaged(self) -> None:
        """A message of this workload was changed on its way."""
        self._tally.reject("damaged")

    def close(self) -> None:
        """Close what it keeps."""
        if self._ledger is not None:
            self._ledger.close()

    def answer_plain(self, origin: Origin, output: list[float], digest: str, sample_id: str | int | None) -> None:
        """Send a decision on a plain sample to the edge that asked for it."""
        self._reply(origin, wire.encode_json(wire.PlainDecision(output, digest, self._node, sample_id)))

    def swapped(self, manifest: Manifest) -> None:
        """Write down which model decides here from now on."""
        now = now_ns()
        self._write(Swapped(Swap(self._node, self._plan.name, manifest.digest, now, now)))

    def _reply(self, origin: Origin, body: bytes) -> None:
        self._publish(origin, self._enveloped(origin, body))

    @staticmethod
    def _enveloped(origin: Origin, body: bytes) -> bytes:
        return wire.encode(wire.Answer(wire.VERSION, origin.device, memoryview(body)))

    def _publish(self, origin: Origin, answer: bytes, *, waits: bool = False) -> None:
        assert origin.edge is not None
        topic = topics.answer(self._deployment.run_id, origin.edge, self._plan.name)
        if not self._connection.publish(topic, answer, qos=self._plan.qos, waits=waits):
            self._tally.drop("not-connected")


class EmulatedCloudWorkload(CloudWorkload):
    """In a cloud that is emulated: everything takes as long as its profile's machine would have taken. All but `use` is
    called in the reactor's thread."""

    def __init__(
        self,
        deployment: Deployment,
        plan: WorkloadPlan,
        tally: Tally,
        connection: Connection,
        write: Callable[[Entry], None],
        ledger: Path,
        machine: Machine,
        reactor: Reactor,
    ) -> None:
        self._machine = machine
        self._reactor = reactor
        self._work = RealWork(plan.name, reactor)
        super().__init__(deployment, plan, tally, connection, write, ledger)

    def _decides(self, *, sparse: bool) -> Decider:
        plan, machine = self._plan, self._machine
        decompress = None if plan.is_chain else machine.decompresses(plan)
        decider = EmulatedDecider(
            machine,
            self._tally,
            self,
            plan.qos,
            decompress=decompress,
            trials=None if plan.online is None else self,
            sparse=sparse,
            memory=self._ledger,
        )
        self._emulated: EmulatedServer[QueuedSample] = machine.server(plan.batch, plan.queue, decider)
        decider.served_by(self._emulated)
        return decider

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """See `CloudWorkload`. Raises ModelError where the model cannot be emulated here."""
        max_batch = self._plan.batch.max_batch
        check_emulable(self._machine, runtime, manifest, max_batch)
        if self._plan.online is not None:
            self._takes = self._machine.takes(manifest, max_batch)
        self._decider.expect(manifest, wire.SampleReader(manifest.input))
        model = self._work.model(runtime, manifest)
        self._reactor.call_soon_threadsafe(partial(self._emulated.swap, model, manifest))

    def answer(self, origin: Origin, decision: Decision) -> None:
        """See `CloudWorkload`."""
        stamps, body = decision.stamps, wire.encode(decision)
        since_ns, at_ns = stamps.received_ns, stamps.finished_ns
        send = partial(self._send, origin, body, since_ns, at_ns, self._emulated.thread)
        # Where it is synced first, another thread calls.
        soon = partial(self._reactor.call_soon_threadsafe, send) if self._deployment.durability == "power" else send
        self._once(origin, decision, body, soon)

    def answer_plain(self, origin: Origin, output: list[float], digest: str, sample_id: str | int | None) -> None:
        """See `CloudWorkload`."""
        now_ns = self._machine.time.now_ns()
        body = wire.encode_json(wire.PlainDecision(output, digest, self._node, sample_id))
        self._send(origin, body, now_ns, now_ns, self._emulated.thread)

    def _answer_again(self, key: SampleKey, body: bytes) -> None:
        now_ns = self._machine.time.now_ns()
        self._send(Origin(key.device, edge=key.by), body, now_ns, now_ns)

    def _answer_trial(self, edge: str, size_bytes: int, answer: wire.TrialAnswer) -> None:
        body = wire.encode(answer)
        self._machine.takes_in(size_bytes, self._plan.qos, lambda at_ns: self._send_tried(edge, body, at_ns))

    def _send_tried(self, edge: str, body: bytes, at_ns: int) -> None:
        publish = super()._send_tried

        def send(end_ns: int) -> None:
            publish(edge, body, end_ns)

        self._machine.sends(at_ns, len(body), self._plan.qos, send, to_own_broker=True)

    def _send(self, origin: Origin, body: bytes, since_ns: int, at_ns: int, thread: Thread | None = None) -> None:
        answer = self._enveloped(origin, body)

        def send(end_ns: int) -> None:
            self._machine.released(since_ns, end_ns)
            self._publish(origin, answer)

        self._machine.sends(at_ns, len(answer), self._plan.qos, send, thread=thread, to_own_broker=True)
