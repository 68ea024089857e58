"""One workload at an edge: what takes its samples in there, and where they and their decisions leave it."""

from __future__ import annotations

import logging
from typing import Protocol

from edgebench.clock import RealClock, now_ns
from edgebench.core.deciding import Decider, Forwarder, Origin, brought_back
from edgebench.core.routing import Roles, is_sparse
from edgebench.core.samples import Decision, RejectedError
from edgebench.core.tallies import Tally
from edgebench.fabric import topics, wire
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.serving import ModelServer
from edgebench.fabric.slices import Slice
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan

_log = logging.getLogger(__name__)


class Host(Protocol):
    """The process that an edge runs in. incarnation: how often it has been started before."""

    incarnation: int

    def tally(self, node: str, workload: str) -> Tally:
        """The counts of a workload at a node; the same object each time."""
        ...

    def announced(self, node: str, workload: str, manifest: bytes) -> None:
        """A model to be fetched; it comes to `EdgeWorkload.use`."""
        ...

    def swapped(self, node: str, workload: str, manifest: Manifest) -> None:
        """A model that decides from now on."""
        ...


class EdgeWorkload:
    """Answers towards the site, and passes on towards the cloud, for one workload.

    decider: takes in what this edge decides; forwarder: what the cloud does. None where there is no such device.
    """

    def __init__(
        self, host: Host, part: Slice, plan: WorkloadPlan, roles: Roles, site: Connection, uplink: Connection
    ) -> None:
        """part: the slice of this edge's process."""
        self.name = plan.name
        self.decider: Decider | None = None
        self.forwarder: Forwarder | None = None
        self._host = host
        self._run_id = run_id = part.run_id
        (self._node,) = part.nodes
        self._qos = plan.qos
        self._on_device = bool(roles.on_device)
        self._announced: bytes | None = None
        self._site = site
        self._uplink = uplink
        self._decision_topics = {
            device: topics.decision(topics.NOW, board, plan.name) for device, board in part.boards.items()
        }
        self._forward_topic = topics.forward(run_id, self._node, plan.name)
        self._site_models_topic = topics.site_models(run_id, self._node, plan.name)
        self._tally = host.tally(self._node, plan.name)
        sparse = is_sparse(plan, part.moves) or host.incarnation > 0
        if roles.decided:
            self._decide(plan, sparse=sparse)
        if roles.forwarded:
            self._forward(plan, sparse=sparse)

    def _decide(self, plan: WorkloadPlan, *, sparse: bool) -> None:
        upstream = None if plan.cascade is None else self
        self.decider = Decider(self._node, self._tally, self, RealClock(), upstream=upstream, sparse=sparse)
        self._server = ModelServer(plan.name, plan.batch, plan.queue, self.decider)
        self.decider.served_by(self._server)

    def _forward(self, _plan: WorkloadPlan, *, sparse: bool) -> None:
        self.forwarder = Forwarder(self._tally, self, RealClock(), sparse=sparse)

    def answer(self, origin: Origin, decision: Decision) -> None:
        """Send a decision to its device."""
        self._reply(origin.device, wire.encode(decision))

    def answer_plain(self, origin: Origin, output: list[float], digest: str, sample_id: str | int | None) -> None:
        """Send a decision on a plain sample to its device."""
        self._reply(origin.device, wire.encode_json(wire.PlainDecision(output, digest, self._node, sample_id)))

    def swapped(self, manifest: Manifest) -> None:
        """Write down which model decides here from now on."""
        self._host.swapped(self._node, self.name, manifest)

    def pass_on(self, device: str, received_ns: int, payload: bytes | memoryview) -> None:
        """Send a sample to the cloud."""
        self._to_cloud(wire.encode(wire.Forward(wire.VERSION, device, received_ns, now_ns(), memoryview(payload))))

    def bring_back(self, payload: bytes) -> None:
        """Send an answer of the cloud to its device."""
        brought = self._brought_back(payload, now_ns())
        if brought is not None:
            self._reply(*brought)

    def _brought_back(self, payload: bytes, return_in_ns: int) -> tuple[str, bytes] | None:
        """The device that an answer is for, and what that is to get; None where it is no answer."""
        try:
            answer = wire.parse_answer(payload)
            body = bytes(answer.body)
            if not wire.is_plain(body):
                body = wire.encode(brought_back(wire.parse_decision(body), return_in_ns, now_ns()))
        except RejectedError as rejected:
            self._tally.reject(rejected.reason)
            return None
        return answer.origin, body

    def announced(self, manifest: bytes) -> bool:
        """Bring a model to whoever decides with it; whether all is ready then that travels by here.

        Where this edge decides too, that is for `use` to say.
        """
        if self._on_device:
            self._announced = manifest
            self.announce_again()
        if self.forwarder is not None:
            try:
                self.forwarder.intake.expect(wire.SampleReader(wire.parse_manifest(manifest).input))
            except RejectedError as rejected:
                _log.error("%s: %s", self.name, rejected)
                return False
        if self.decider is not None:
            self._host.announced(self._node, self.name, manifest)
            return False
        return self.forwarder is not None

    def announce_again(self) -> None:
        """Tell the site's devices of the model that they decide with, if any: its broker may have forgotten it."""
        if self._announced is not None:
            self._site.publish(self._site_models_topic, self._announced, qos=1, retain=True)

    def use(self, runtime: Runtime, manifest: Manifest) -> None:
        """Decide with this (warm) model from the next batch on."""
        assert self.decider is not None
        self.decider.expect(manifest, wire.SampleReader(manifest.input))
        self._server.swap(runtime, manifest)

    def _to_cloud(self, body: bytes) -> None:
        if self._uplink.publish(self._forward_topic, body, qos=self._qos):
            self._tally.forwarded += 1
        else:
            self._tally.drop("uplink-full")

    def _reply(self, device: str, body: bytes) -> None:
        topic = self._decision_topics.get(device)
        if topic is None:
            topic = self._decision_topics[device] = topics.decision(self._run_id, device, self.name)
        if not self._site.publish(topic, body, qos=self._qos):
            self._tally.drop("site-full")
