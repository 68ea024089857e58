"""The cloud's side of the streams: announces models, and decides what is placed in the cloud."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import msgspec

from cloud.registry import Registry
from edgebench.clock import now_ns
from edgebench.core.tallies import Tally
from edgebench.fabric import topics, wire
from edgebench.fabric.deciding import Decider, Origin
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import Entry, Swap, Swapped
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.model import After


class CloudNode:
    """The cloud's MQTT connection, in a thread of its own."""

    def __init__(self, deployment: Deployment, broker: str, registry: Registry, write: Callable[[Entry], None]) -> None:
        self._deployment = deployment
        self._name = deployment.cloud
        self._registry = registry
        self._write = write
        self._reactor = Reactor()
        self._up = threading.Event()
        self._forwards: dict[str, tuple[str, Decider]] = {}
        self._deciders: dict[str, Decider] = {}
        self.tallies: dict[str, Tally] = {}
        self._connection = Connection(
            self._reactor,
            parse_broker_url(broker),
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

    def announce(self, workload: str, manifest: Manifest, *, here: Manifest | None = None) -> None:
        """Make a model of the registry the workload's: use it here, and tell every node. From any one thread.

        here: the larger model of a cascade, to be used here instead.
        """
        decider = self._deciders.get(workload)
        if decider is not None:
            max_batch = self._deployment.workloads[workload].batch.max_batch
            used = here or manifest
            decider.use(open_runtime(self._registry.path_of(used.digest), used, warm_for=max_batch), used)
        topic = topics.models(self._deployment.run_id, workload)
        self._connection.publish(topic, msgspec.json.encode(manifest), qos=1, retain=True)

    def _run(self) -> None:
        self._connection.start()
        self._reactor.run()

    def _decide_for(self, plan: WorkloadPlan) -> None:
        tally = self.tallies.setdefault(plan.name, Tally())
        self._deciders[plan.name] = Decider(
            self._name,
            plan,
            tally,
            reply=partial(self._reply, plan),
            on_swap=partial(self._swapped, plan.name),
            sparse=plan.cascade is not None or bool(self._deployment.moves) or isinstance(plan.load, After),
        )
        edges = sorted({edge for device in plan.deciders for edge in self._edges_of(device)})
        for edge in edges:
            topic = topics.forward(self._deployment.run_id, edge, plan.name)
            self._forwards[topic] = (edge, self._deciders[plan.name])
        self._connection.subscribe([topics.forward(self._deployment.run_id, topics.ANY, plan.name)], plan.qos)

    def _edges_of(self, device: str) -> tuple[str, ...]:
        """Those that a device is at, at one time or another."""
        node = self._deployment.nodes[device]
        if node.parent is None:
            raise AssertionError("a checked topology has an edge above each device")
        return (node.parent, *node.elsewhere)

    def _received(self, topic: str, payload: bytes) -> None:
        known = self._forwards.get(topic)
        if known is None:
            return
        edge, decider = known
        try:
            forward = wire.parse_forward(payload)
        except wire.RejectedError as rejected:
            decider.intake.reject(rejected.reason)
            return
        device = self._deployment.nodes.get(forward.origin)
        if device is None or device.tier != "device" or edge not in self._edges_of(forward.origin):
            decider.intake.reject("unknown-origin")
            return
        origin = Origin(forward.origin, forward.forward_in_ns, forward.forward_out_ns, edge)
        decider.decide(origin, forward.envelope)

    def _reply(self, plan: WorkloadPlan, origin: Origin, body: bytes) -> None:
        answer = wire.encode(wire.Answer(wire.VERSION, origin.device, memoryview(body)))
        assert origin.edge is not None
        topic = topics.answer(self._deployment.run_id, origin.edge, plan.name)
        if not self._connection.publish(topic, answer, qos=plan.qos):
            self.tallies[plan.name].drop("not-connected")

    def _swapped(self, workload: str, manifest: Manifest) -> None:
        now = now_ns()
        self._write(Swapped(Swap(self._name, workload, manifest.digest, now, now)))
