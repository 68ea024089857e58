"""The edge node: decides its site's samples, passes cloud-placed work on, and brings models and answers back.

It holds two MQTT connections, its site's and the cloud's. With the uplink down, QoS 1 work waits in the connection's
queue and goes on when it is back; what does not fit is counted as dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from edge_node.federating import Federations
from edgebench.clock import now_ns
from edgebench.fabric import topics, wire
from edgebench.fabric.deciding import Decider, Intake, Origin
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.slices import RunState
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import After

_log = logging.getLogger(__name__)
_SITE = "site"
_UPLINK = "uplink"


class EdgeNode:
    """One site's node."""

    def __init__(self, process: NodeProcess, samples: Mapping[str, Mapping[str, int]]) -> None:
        """samples: by workload that this edge aggregates, how many examples each device has, where that is known."""
        self._process = process
        self._plan = process.plan
        (self._name,) = process.nodes
        self._run_id = self._plan.run_id
        self._site = self._connection(_SITE, self._plan.endpoints[self._name].broker, self._from_site)
        uplink = self._plan.endpoints[self._name].uplink
        if uplink is None:
            raise AssertionError("an edge's slice always has an uplink")
        self._uplink = self._connection(_UPLINK, uplink, self._from_cloud)
        self._deciders: dict[str, Decider] = {}
        self._forwarded: dict[str, Intake] = {}
        self._for_devices: set[str] = set()
        self._samples: dict[str, Callable[[bytes], None]] = {}
        self._answers: dict[str, str] = {}
        self._models: dict[str, str] = {}
        self._waiting_for = {_SITE, _UPLINK}
        for plan in self._plan.workloads.values():
            self._take_on(plan)
        one_broker = self._plan.endpoints[self._name].one_broker
        self._federations = Federations(
            process, self._name, self._site, self._uplink, process.work_dir, samples, one_broker=one_broker
        )

    def run(self) -> None:
        """Serve until the run ends."""
        self._site.start()
        self._uplink.start()
        self._process.run(
            on_phase=self._phase_changed, on_abort=lambda: None, before_flush=lambda: None, on_model=self._model_ready
        )
        self._federations.close()
        self._site.close()
        self._uplink.close()

    def _connection(self, side: str, url: str, on_message: Callable[[str, bytes], None]) -> Connection:
        return Connection(
            self._process.reactor,
            parse_broker_url(url),
            f"{self._run_id}-{self._name}-{side}",
            on_message=on_message,
            on_up=partial(self._is_up, side),
            will=(topics.status(self._run_id, self._name), b"offline"),
        )

    def _take_on(self, plan: WorkloadPlan) -> None:
        """Do this node's part of a workload: decide, pass on, or only bring the model to the devices."""
        tally = self._process.tally(self._name, plan.name)
        self._models[topics.models(self._run_id, plan.name)] = plan.name
        self._uplink.subscribe([topics.models(self._run_id, plan.name)], 1)
        node = self._plan.nodes[self._name]
        # Devices come and go, or have a sample only where those before it were decided.
        sparse = bool(self._plan.moves) or isinstance(plan.load, After)
        mine = [device for device in (*node.children, *node.elsewhere) if device in plan.deciders]
        deciders = {plan.deciders[device] for device in mine}
        here = deciders == {self._name}
        in_cloud = not here and not deciders & set(mine)
        if here:
            self._waiting_for.add(plan.name)
            self._deciders[plan.name] = Decider(
                self._name,
                plan,
                tally,
                reply=lambda origin, body: self._reply(plan, origin.device, body),
                on_swap=partial(self._process.swapped, self._name, plan.name),
                pass_on=None if plan.cascade is None else partial(self._pass_on, plan),
                sparse=sparse,
            )
        elif in_cloud:
            self._waiting_for.add(plan.name)
            self._forwarded[plan.name] = Intake(tally, sparse=sparse)
        else:
            self._for_devices.add(plan.name)
            return
        if in_cloud or plan.cascade is not None:
            answer_topic = topics.answer(self._run_id, self._name, plan.name)
            self._answers[answer_topic] = plan.name
            self._uplink.subscribe([answer_topic], plan.qos)
        for device in mine:
            topic = topics.sample(self._run_id, device, plan.name)
            if here:
                self._samples[topic] = partial(self._deciders[plan.name].decide, Origin(device))
            else:
                self._samples[topic] = partial(self._forward, plan, device)
        heard = mine if self._plan.endpoints[self._name].one_broker else [topics.ANY]
        self._site.subscribe([topics.sample(self._run_id, device, plan.name) for device in heard], plan.qos)

    def _is_up(self, side: str) -> None:
        connection = self._site if side == _SITE else self._uplink
        connection.publish(topics.status(self._run_id, self._name), b"online", qos=1, retain=True)
        if side == _SITE:
            self._federations.site_is_up()
        else:
            self._federations.uplink_is_up()
        self._no_longer_waiting_for(side)

    def _no_longer_waiting_for(self, what: str) -> None:
        self._waiting_for.discard(what)
        self._process.ready = not self._waiting_for

    def _from_site(self, topic: str, payload: bytes) -> None:
        take = self._samples.get(topic)
        if take is not None:
            take(payload)
        else:
            self._federations.takes_from_site(topic, payload)

    def _reply(self, plan: WorkloadPlan, device: str, body: bytes) -> None:
        if not self._site.publish(topics.decision(self._run_id, device, plan.name), body, qos=plan.qos):
            self._process.tally(self._name, plan.name).drop("site-full")

    def _forward(self, plan: WorkloadPlan, device: str, payload: bytes) -> None:
        forward_in_ns = now_ns()
        if self._forwarded[plan.name].take(device, payload) is not None:
            self._pass_on(plan, device, forward_in_ns, payload)

    def _pass_on(self, plan: WorkloadPlan, device: str, forward_in_ns: int, payload: bytes | memoryview) -> None:
        tally = self._process.tally(self._name, plan.name)
        body = wire.encode(wire.Forward(wire.VERSION, device, forward_in_ns, now_ns(), memoryview(payload)))
        if self._uplink.publish(topics.forward(self._run_id, self._name, plan.name), body, qos=plan.qos):
            tally.forwarded += 1
        else:
            tally.drop("uplink-full")

    def _from_cloud(self, topic: str, payload: bytes) -> None:
        workload = self._answers.get(topic)
        if workload is not None:
            self._answered(workload, payload)
            return
        workload = self._models.get(topic)
        if workload is not None:
            self._announced(workload, payload)
        else:
            self._federations.takes_from_cloud(topic, payload)

    def _answered(self, workload: str, payload: bytes) -> None:
        return_in_ns = now_ns()
        try:
            answer = wire.parse_answer(payload)
            body = bytes(answer.body)
            if not wire.is_plain(body):
                decision = wire.parse_decision(body)
                stamps = msgspec.structs.replace(decision.stamps, return_in_ns=return_in_ns, return_out_ns=now_ns())
                body = wire.encode(msgspec.structs.replace(decision, stamps=stamps))
        except wire.RejectedError as rejected:
            self._process.tally(self._name, workload).reject(rejected.reason)
            return
        self._reply(self._plan.workloads[workload], answer.origin, body)

    def _announced(self, workload: str, payload: bytes) -> None:
        if workload in self._deciders:
            self._process.announced(self._name, workload, payload)
        elif workload in self._forwarded:
            try:
                self._forwarded[workload].expect(wire.parse_manifest(payload))
            except wire.RejectedError as rejected:
                _log.error("%s: %s", workload, rejected)
                return
            self._no_longer_waiting_for(workload)
        else:
            self._site.publish(topics.site_models(self._run_id, self._name, workload), payload, qos=1, retain=True)

    def _model_ready(self, workload: str, runtime: Runtime, manifest: Manifest) -> None:
        self._deciders[workload].use(runtime, manifest)
        self._process.reactor.call_soon_threadsafe(partial(self._no_longer_waiting_for, workload))

    def _phase_changed(self, state: RunState) -> None:
        if state.phase == "ending":
            self._process.finish()
