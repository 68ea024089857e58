"""The cloud's side of the streams: announces models, and decides what is placed in the cloud."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import msgspec

from cloud.registry import Registry
from edgebench.clock import RealClock, now_ns
from edgebench.core.deciding import Decider, Origin
from edgebench.core.routing import is_sparse
from edgebench.core.samples import Decision, RejectedError
from edgebench.core.tallies import Tally
from edgebench.fabric import topics, wire
from edgebench.fabric.endpoints import parse_own_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import Entry, Swap, Swapped
from edgebench.fabric.serving import ModelServer
from edgebench.inference.runtime import Runtime, open_runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import Deployment, WorkloadPlan

ANNOUNCED_AGAIN_S = 1.0
"""nats-server passes a retained message that comes just as a subscription is taken in neither at once nor as a retained
one: 4 of 50 were lost where both came within 2 ms. What is announced twice reaches everybody."""


class CloudNode:
    """The cloud's MQTT connection, in a thread of its own."""

    def __init__(self, deployment: Deployment, broker: str, registry: Registry, write: Callable[[Entry], None]) -> None:
        self._deployment = deployment
        self._name = deployment.cloud
        self._registry = registry
        self._write = write
        self._reactor = Reactor()
        self._up = threading.Event()
        self._forwards: dict[str, tuple[str, CloudWorkload]] = {}
        self._workloads: dict[str, CloudWorkload] = {}
        self._announced: dict[str, bytes] = {}
        self.tallies: dict[str, Tally] = {}
        self._connection = Connection(
            self._reactor,
            parse_own_broker_url(broker),
            f"{deployment.run_id}-{self._name}",
            on_message=self._received,
            on_up=self._up.set,
            will=(topics.status(deployment.run_id, self._name), b"offline"),
        )
        for plan in deployment.workloads.values():
            if self._name in plan.deciders.values() or plan.cascade is not None:
                self._decide_for(plan)
        self._thread = threading.Thread(target=self._run, name="cloud-mqtt", daemon=True)

    def start(self) -> None:
        """Connect."""
        self._thread.start()

    def stop(self) -> None:
        """Disconnect, and end the thread."""
        self._reactor.call_soon_threadsafe(self._connection.close)
        self._reactor.call_soon_threadsafe(self._reactor.stop)
        self._thread.join()
        self._reactor.close()

    def announce(self, workload: str, manifest: Manifest, *, here: Manifest | None = None) -> None:
        """Make a model of the registry the workload's: use it here, and tell every node. From any one thread.

        here: the larger model of a cascade, to be used here instead.
        """
        decides = self._workloads.get(workload)
        if decides is not None:
            max_batch = self._deployment.workloads[workload].batch.max_batch
            used = here or manifest
            decides.use(open_runtime(self._registry.path_of(used.digest), used, warm_for=max_batch), used)
        self._announced[workload] = body = msgspec.json.encode(manifest)
        self._publish(workload, body)
        self._reactor.call_soon_threadsafe(partial(self._publish_again, workload, body))

    def _publish_again(self, workload: str, body: bytes) -> None:
        self._reactor.call_later(ANNOUNCED_AGAIN_S, partial(self._publish, workload, body))

    def _publish(self, workload: str, body: bytes) -> None:
        if self._announced[workload] is body:  # else there is a later one
            topic = topics.models(self._deployment.run_id, workload)
            self._connection.publish(topic, body, qos=1, retain=True)

    def _run(self) -> None:
        self._connection.start()
        self._reactor.run()

    def _decide_for(self, plan: WorkloadPlan) -> None:
        tally = self.tallies.setdefault(plan.name, Tally())
        workload = CloudWorkload(self._deployment, plan, tally, self._connection, self._write)
        self._workloads[plan.name] = workload
        # A cascade is decided at the edge first; else only those come here whose samples are decided here.
        devices = [name for name, decider in plan.deciders.items() if plan.cascade or decider == self._name]
        for edge in sorted({edge for name in devices for edge in self._deployment.nodes[name].sites}):
            self._forwards[topics.forward(self._deployment.run_id, edge, plan.name)] = edge, workload
        self._connection.subscribe([topics.forward(self._deployment.run_id, topics.ANY, plan.name)], plan.qos)

    def _received(self, topic: str, payload: bytes) -> None:
        known = self._forwards.get(topic)
        if known is not None:
            edge, workload = known
            workload.forwarded(edge, payload)


class CloudWorkload:
    """One workload that is decided in the cloud, for some devices at least: it takes forwards in, and answers them."""

    def __init__(
        self,
        deployment: Deployment,
        plan: WorkloadPlan,
        tally: Tally,
        connection: Connection,
        write: Callable[[Entry], None],
    ) -> None:
        self._deployment = deployment
        self._plan = plan
        self._tally = tally
        self._connection = connection
        self._write = write
        self._node = deployment.cloud
        sparse = plan.cascade is not None or is_sparse(plan, deployment.moves)
        self._decider = Decider(self._node, tally, self, RealClock(), sparse=sparse)
        self._server = ModelServer(plan.name, plan.batch, plan.queue, self._decider)
        self._decider.served_by(self._server)

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this (warm) model from the next batch on."""
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
        origin = Origin(forward.origin, forward.forward_in_ns, forward.forward_out_ns, edge)
        self._decider.take(origin, forward.envelope)

    def answer(self, origin: Origin, decision: Decision) -> None:
        """Send a decision to the edge that asked for it."""
        self._reply(origin, wire.encode(decision))

    def answer_plain(self, origin: Origin, output: list[float], digest: str, sample_id: str | int | None) -> None:
        """Send a decision on a plain sample to the edge that asked for it."""
        self._reply(origin, wire.encode_json(wire.PlainDecision(output, digest, self._node, sample_id)))

    def swapped(self, manifest: Manifest) -> None:
        """Write down which model decides here from now on."""
        now = now_ns()
        self._write(Swapped(Swap(self._node, self._plan.name, manifest.digest, now, now)))

    def _reply(self, origin: Origin, body: bytes) -> None:
        answer = wire.encode(wire.Answer(wire.VERSION, origin.device, memoryview(body)))
        assert origin.edge is not None
        topic = topics.answer(self._deployment.run_id, origin.edge, self._plan.name)
        if not self._connection.publish(topic, answer, qos=self._plan.qos):
            self._tally.drop("not-connected")
