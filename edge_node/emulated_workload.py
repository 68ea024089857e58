"""One workload at an edge that is emulated: everything takes as long as its profile's machine would have taken."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edge_node.workload import EdgeWorkload, Host
from edgebench.core.deciding import HeadOutput, Origin, QueuedSample
from edgebench.core.emulation import EmulatedDecider, EmulatedForwarder, EmulatedServer, Machine
from edgebench.core.intake import Intake
from edgebench.core.routing import Roles
from edgebench.core.samples import Decision, SampleKey
from edgebench.core.station import Thread
from edgebench.fabric import wire
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.real_work import RealWork, check_emulable
from edgebench.fabric.slices import Slice
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan


class EmulatedWorkload(EdgeWorkload):
    """See `EdgeWorkload`; all but `use` is called in the reactor's thread."""

    def __init__(
        self,
        host: Host,
        part: Slice,
        plan: WorkloadPlan,
        roles: Roles,
        site: Connection,
        uplink: Connection,
        machine: Machine,
        reactor: Reactor,
    ) -> None:
        """machine: that the edge is emulated to run on."""
        self._machine = machine
        self._reactor = reactor
        self._power = part.durability == "power"
        super().__init__(host, part, plan, roles, site, uplink, resend=self._resend)

    def _decide(self, plan: WorkloadPlan, *, sparse: bool) -> EmulatedDecider:
        decider = EmulatedDecider(
            self._machine,
            self._tally,
            self,
            plan.qos,
            decompress=self._machine.decompresses(plan),
            upstream=None if plan.cascade is None else self,
            next_stage=self if plan.head_at_edge else None,
            trials=self if plan.online is not None else None,
            sparse=sparse,
            memory=self._ledger,
        )
        self._emulated: EmulatedServer[QueuedSample] = self._machine.server(plan.batch, plan.queue, decider)
        decider.served_by(self._emulated)
        self._work = RealWork(plan.name, self._reactor)
        return decider

    def _forward(self, intake: Intake) -> EmulatedForwarder:
        return EmulatedForwarder(self._machine, intake, self, self._qos)

    def answer(self, origin: Origin, decision: Decision) -> None:
        """See `EdgeWorkload`."""
        stamps = decision.stamps
        body = wire.encode(decision)
        send = partial(self._send, origin.device, body, stamps.received_ns, stamps.finished_ns, self._emulated.thread)
        noted = self._noted(stamps.received_ns, stamps.replied_ns, partial(self._soon, send))
        self._once(origin.key(decision.incarnation, decision.seq), body, noted)

    def answer_plain(self, origin: Origin, output: list[float], digest: str, sample_id: str | int | None) -> None:
        """See `EdgeWorkload`."""
        now_ns = self._machine.time.now_ns()
        body = wire.encode_json(wire.PlainDecision(output, digest, self._node, sample_id))
        self._send(origin.device, body, now_ns, now_ns, self._emulated.thread)

    def _answer_again(self, key: SampleKey, body: bytes) -> None:
        now_ns = self._machine.time.now_ns()
        self._send(key.device, body, now_ns, now_ns)

    def _resend(self, size_bytes: int, then: Callable[[], None]) -> None:
        now_ns = self._machine.time.now_ns()

        def send(end_ns: int) -> None:
            self._machine.released(now_ns, end_ns)
            then()

        self._machine.sends(now_ns, size_bytes, self._qos, send)

    def _soon(self, send: Callable[[], None]) -> None:
        """In the reactor's thread: where an answer is synced first, another calls."""
        if self._power:
            self._reactor.call_soon_threadsafe(send)
        else:
            send()

    def pass_on(self, device: str, received_ns: int, payload: bytes | memoryview, key: SampleKey | None) -> None:
        """See `EdgeWorkload`."""
        # A forwarder passes on at the time at which it took in; a cascade when its own model has been unsure.
        out_ns = received_ns if self.forwarder is not None else self._machine.time.now_ns()
        body = wire.encode(wire.Forward(wire.VERSION, device, received_ns, out_ns, memoryview(payload)))

        def send(end_ns: int) -> None:
            self._machine.released(received_ns, end_ns)
            self._to_cloud(key, body)

        self._machine.sends(out_ns, len(body), self._qos, send)

    def hand_on(self, output: HeadOutput) -> None:
        """See `EdgeWorkload`."""
        body = self._handed_on(output, output.stamps.finished_ns)

        def send(end_ns: int) -> None:
            self._machine.released(output.received_ns, end_ns)
            self._to_cloud(output.key, body)

        self._machine.sends(output.stamps.finished_ns, len(body), self._qos, send, thread=self._emulated.thread)

    def bring_back(self, payload: bytes) -> None:
        """See `EdgeWorkload`."""

        def heard(at_ns: int) -> None:
            brought = self._brought_back(payload, at_ns)
            if brought is not None:
                key, device, body, began_ns = brought
                reply = partial(self._soon, partial(self._send, device, body, at_ns, at_ns))
                self._once(key, body, partial(self._bring, key, self._noted(began_ns, at_ns, reply)))

        self._machine.hears(len(payload), self._qos, heard)

    def takes_in(self, came_ns: int, size_bytes: int, then: Callable[[int], None]) -> None:
        """See `Edge`; once the emulated machine would have it."""
        del came_ns  # to this machine
        self._machine.takes_in(size_bytes, self._qos, then)

    def ask(self, request: bytes) -> bool:
        """See `Edge`; it sets out once the emulated machine would have sent it."""
        if not self._way_is_free:
            return False
        publish = super().ask

        def send(_end_ns: int) -> None:
            publish(request)

        self._machine.sends(self._machine.time.now_ns(), len(request), self._qos, send)
        return True

    def trial_answered(self, payload: bytes) -> None:
        """See `EdgeWorkload`."""
        hear = super().trial_answered
        self._machine.hears(len(payload), self._qos, lambda _at_ns: hear(payload))

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """See `EdgeWorkload`. Raises ModelError where the model cannot be emulated here."""
        check_emulable(self._machine, runtime, manifest, self._max_batch)
        assert self.decider is not None
        if self.either is not None:
            self.either.use(self._machine.takes(manifest, self._max_batch))
        self.decider.expect(manifest, wire.SampleReader(manifest.input))
        model = self._work.model(runtime, manifest)
        self._reactor.call_soon_threadsafe(partial(self._emulated.swap, model, manifest))

    def _send(self, device: str, body: bytes, since_ns: int, at_ns: int, thread: Thread | None = None) -> None:
        """Have a device get what there is to be sent from `at_ns` on; since_ns: when what led to it had come."""

        def send(end_ns: int) -> None:
            self._machine.released(since_ns, end_ns)
            self._reply(device, body)

        self._machine.sends(at_ns, len(body), self._qos, send, thread=thread, to_own_broker=True)
