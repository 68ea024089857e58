"""The edge node: decides its site's samples, passes cloud-placed work on, and brings models and answers back.

It holds two MQTT connections, its site's and the cloud's. With the uplink down, QoS 1 work waits on disk and goes on in
order when it is back; what does not fit is counted as dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from edge_node.federating import SiteFederations
from edge_node.workload import EdgeWorkload
from edgebench.core.deciding import Origin, SampleTaker
from edgebench.core.routing import roles_at
from edgebench.fabric import topics
from edgebench.fabric.echo import Echo
from edgebench.fabric.endpoints import parse_own_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.slices import RunState
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import WorkloadPlan

_SITE = "site"
_UPLINK = "uplink"
_ECHO = "echo"


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
        self._workloads: dict[str, EdgeWorkload] = {}
        self._samples: dict[str, tuple[SampleTaker, Origin]] = {}
        self._answers: dict[str, EdgeWorkload] = {}
        self._tried: dict[str, EdgeWorkload] = {}
        self._models: dict[str, EdgeWorkload] = {}
        self._waiting_for = {_SITE, _UPLINK}
        self._machine = process.emulated(self._name, has_broker=True)
        self._site_ups = 0
        self._cloud_asks = ""
        self._echo: Echo | None = None
        if self._machine is not None:
            self._waiting_for.add(_ECHO)
            topic = topics.echo(self._run_id, self._name)
            self._echo = Echo(process.reactor, self._site, topic, self._echoed)
        for plan in self._plan.workloads.values():
            self._take_on(plan)
        if self._plan.durability != "none":
            self._cloud_asks = topics.asks(self._run_id, str(self._plan.nodes[self._name].parent))
            self._uplink.subscribe([self._cloud_asks], 0)
        one_broker = self._plan.endpoints[self._name].one_broker
        self._federations = SiteFederations(
            process, self._name, self._site, self._uplink, process.work_dir, samples, one_broker=one_broker
        )

    def run(self) -> None:
        """Serve until the run ends."""
        if not self._process.incarnation:
            self._site.start()
        self._uplink.start()
        self._process.run(
            on_phase=self._phase_changed, on_abort=lambda: None, before_flush=lambda: None, on_model=self._model_ready
        )
        self._federations.close()
        self._site.close()
        self._uplink.close()
        for workload in self._workloads.values():
            workload.close()

    def _connection(self, side: str, url: str, on_message: Callable[[str, bytes], None]) -> Connection:
        return Connection(
            self._process.reactor,
            parse_own_broker_url(url),
            f"{self._run_id}-{self._name}-{side}",
            on_message=on_message,
            on_up=partial(self._is_up, side),
            on_room=self._uplink_has_room if side == _UPLINK else None,
            will=(topics.status(self._run_id, self._name), b"offline"),
            session_key=self._process.token,
            seals=self._plan.durability != "none",
            on_damaged=self._damaged,
        )

    def _take_on(self, plan: WorkloadPlan) -> None:
        """Do this node's part of a workload: decide, pass on, bring the model to devices; each for some, or for all."""
        roles = roles_at(self._plan.nodes[self._name], plan)
        common = (self._process, self._plan, plan, roles, self._site, self._uplink)
        if self._machine is None:
            workload = EdgeWorkload(*common)
        else:
            from edge_node.emulated_workload import EmulatedWorkload

            workload = EmulatedWorkload(*common, self._machine, self._process.reactor)
        self._workloads[plan.name] = workload
        models = topics.models(self._run_id, plan.name)
        self._models[models] = workload
        self._uplink.subscribe([models], 1)
        decider = workload.either or workload.decider
        for taker, devices in ((decider, roles.decided), (workload.forwarder, roles.forwarded)):
            if taker is not None:
                for device in devices:
                    self._samples[self._sample_topic(device, plan)] = taker, Origin(device)
        travelling = [*roles.decided, *roles.forwarded]
        if not travelling:
            return
        self._waiting_for.add(plan.name)
        if roles.forwarded or plan.goes_on:
            answers = topics.answer(self._run_id, self._name, plan.name)
            self._answers[answers] = workload
            self._uplink.subscribe([answers], plan.qos)
        if plan.online is not None:
            tried = topics.tried(self._run_id, self._name, plan.name)
            self._tried[tried] = workload
            self._uplink.subscribe([tried], plan.qos)
        boards = [device for device in travelling if device in self._plan.boards]
        heard = travelling if self._plan.endpoints[self._name].one_broker else [topics.ANY, *boards]
        self._site.subscribe([self._sample_topic(device, plan) for device in heard], plan.qos)

    def _sample_topic(self, device: str, plan: WorkloadPlan) -> str:
        """Where a device's samples come."""
        if device in self._plan.boards:
            return topics.sample(topics.NOW, self._plan.boards[device], plan.name)
        return topics.sample(self._run_id, device, plan.name)

    def _is_up(self, side: str) -> None:
        connection = self._site if side == _SITE else self._uplink
        connection.publish(topics.status(self._run_id, self._name), b"online", qos=1, retain=True)
        if side == _SITE:
            self._federations.site_is_up()
            self._ask_devices()
            if self._echo is not None:
                self._echo.begin()
        else:
            self._federations.uplink_is_up()
            for workload in self._workloads.values():
                workload.uplink_is_up()
        self._no_longer_waiting_for(side)

    def _uplink_has_room(self) -> None:
        for workload in self._workloads.values():
            workload.uplink_has_room()

    def _ask_devices(self) -> None:
        """Whatever the broker, or an earlier life of this edge, had of them may be lost."""
        if self._plan.durability == "none":
            return
        self._site_ups += 1
        how = f"{self._process.incarnation}.{self._site_ups}".encode()
        self._site.announce(topics.asks(self._run_id, self._name), how)

    def _damaged(self, topic: str) -> None:
        workload = self._answers.get(topic) or self._tried.get(topic)
        if workload is not None:
            workload.damaged()
        elif topic in self._samples:
            taker, _ = self._samples[topic]
            taker.intake.reject("damaged")

    def _echoed(self, took_ns: int) -> None:
        assert self._machine is not None
        self._machine.passes_really(took_ns)
        self._no_longer_waiting_for(_ECHO)

    def _no_longer_waiting_for(self, what: str) -> None:
        news = what in self._waiting_for
        self._waiting_for.discard(what)
        if self._process.incarnation and news and self._waiting_for - {_ECHO} == {_SITE}:
            # The streams go on meanwhile: what they hold for this edge stays with the broker until it can be decided.
            self._site.start()
        self._process.ready = not self._waiting_for

    def _from_site(self, topic: str, payload: bytes) -> None:
        known = self._samples.get(topic)
        if known is not None:
            taker, origin = known
            taker.take(origin, payload)
        elif self._echo is None or not self._echo.takes(topic, payload):
            self._federations.takes_from_site(topic, payload)

    def _from_cloud(self, topic: str, payload: bytes) -> None:
        workload = self._answers.get(topic)
        if workload is not None:
            workload.bring_back(payload)
            return
        workload = self._tried.get(topic)
        if workload is not None:
            workload.trial_answered(payload)
            return
        if topic == self._cloud_asks:
            for each in self._workloads.values():
                each.asked(payload)
            return
        workload = self._models.get(topic)
        if workload is None:
            self._federations.takes_from_cloud(topic, payload)
        elif workload.announced(payload):
            self._no_longer_waiting_for(workload.name)

    def _model_ready(self, workload: str, runtime: Runtime, manifest: Manifest) -> None:
        self._workloads[workload].use(runtime, manifest)
        self._process.reactor.call_soon_threadsafe(partial(self._no_longer_waiting_for, workload))

    def _phase_changed(self, state: RunState) -> None:
        if state.phase == "ending":
            self._process.finish()
