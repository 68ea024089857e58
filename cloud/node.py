"""The cloud's side of the streams: announces models, and decides what is placed in the cloud."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from cloud.registry import Registry
from cloud.workload import CloudWorkload, EmulatedCloudWorkload
from edgebench.clock import now_ns
from edgebench.core.emulation import Machine
from edgebench.core.tallies import Tally
from edgebench.fabric import topics
from edgebench.fabric.echo import Echo
from edgebench.fabric.endpoints import parse_own_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import Entry, Released
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import Deployment, WorkloadPlan


class CloudNode:
    """The cloud's MQTT connection, in a thread of its own."""

    def __init__(
        self, deployment: Deployment, broker: str, registry: Registry, write: Callable[[Entry], None], work_dir: Path
    ) -> None:
        """work_dir: for what it keeps, where durability is promised. It is there."""
        self._deployment = deployment
        self._name = deployment.cloud
        self._registry = registry
        self._write = write
        self._reactor = Reactor()
        self._ups = 0
        self._work_dir = work_dir
        self._forwards: dict[str, tuple[str, CloudWorkload]] = {}
        self._trials: dict[str, tuple[str, CloudWorkload]] = {}
        self._workloads: dict[str, CloudWorkload] = {}
        self.tallies: dict[str, Tally] = {}
        self._connection = Connection(
            self._reactor,
            parse_own_broker_url(broker),
            f"{deployment.run_id}-{self._name}",
            on_message=self._received,
            on_up=self._is_up,
            will=(topics.status(deployment.run_id, self._name), b"offline"),
            seals=deployment.durability != "none",
            on_damaged=self._damaged,
        )
        profile = deployment.profiles.get(deployment.nodes[self._name].profile)
        self._machine: Machine | None = None
        self._echo: Echo | None = None
        if profile is not None:
            self._machine = Machine(self._name, profile, self._reactor, deployment.seed, has_broker=True)
            topic = topics.echo(deployment.run_id, self._name)
            self._echo = Echo(self._reactor, self._connection, topic, self._machine.passes_really)
        for plan in deployment.workloads.values():
            if self._name in plan.deciders.values() or plan.goes_on:
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
        for workload in self._workloads.values():
            workload.close()

    def released(self) -> Iterator[Released]:
        """What was released so far, where the cloud is emulated."""
        if self._machine is not None:
            yield Released(self._name, self._machine.noted(), at_ns=now_ns())

    def announce(self, workload: str, manifest: Manifest, *, here: Manifest | None = None) -> None:
        """Make a model of the registry the workload's: use it here, and tell every node. From any one thread.

        here: the larger model of a cascade, or the second stage of a chain, to be used here instead.
        """
        decides = self._workloads.get(workload)
        if decides is not None:
            max_batch = self._deployment.workloads[workload].batch.max_batch
            used = here or manifest
            decides.use(open_runtime(self._registry.path_of(used.digest), used, warm_for=max_batch), used)
        self._connection.announce(topics.models(self._deployment.run_id, workload), msgspec.json.encode(manifest))

    def _is_up(self) -> None:
        """Whatever the broker had of the edges may be lost."""
        if self._echo is not None:
            self._echo.begin()
        if self._deployment.durability != "none":
            self._ups += 1
            self._connection.announce(topics.asks(self._deployment.run_id, self._name), f"0.{self._ups}".encode())

    def _damaged(self, topic: str) -> None:
        known = self._forwards.get(topic) or self._trials.get(topic)
        if known is not None:
            _, workload = known
            workload.damaged()

    def _run(self) -> None:
        self._connection.start()
        self._reactor.run()

    def _decide_for(self, plan: WorkloadPlan) -> None:
        tally = self.tallies.setdefault(plan.name, Tally())
        ledger = self._work_dir / f"{plan.name}.ledger"
        common = (self._deployment, plan, tally, self._connection, self._write, ledger)
        if self._machine is None:
            workload = CloudWorkload(*common)
        else:
            workload = EmulatedCloudWorkload(*common, self._machine, self._reactor)
        self._workloads[plan.name] = workload
        # A cascade, and a chain of edges, begin at the edge; else only those come here whose samples are decided here.
        devices = [name for name, decider in plan.deciders.items() if plan.goes_on or decider == self._name]
        for edge in sorted({edge for name in devices for edge in self._deployment.nodes[name].sites}):
            self._forwards[topics.forward(self._deployment.run_id, edge, plan.name)] = edge, workload
            if plan.online is not None:
                self._trials[topics.trial(self._deployment.run_id, edge, plan.name)] = edge, workload
        self._connection.subscribe([topics.forward(self._deployment.run_id, topics.ANY, plan.name)], plan.qos)
        if plan.online is not None:
            self._connection.subscribe([topics.trial(self._deployment.run_id, topics.ANY, plan.name)], plan.qos)

    def _received(self, topic: str, payload: bytes) -> None:
        known = self._forwards.get(topic)
        if known is not None:
            edge, workload = known
            workload.forwarded(edge, payload)
        elif (asked := self._trials.get(topic)) is not None:
            edge, workload = asked
            workload.trial(edge, payload)
        elif self._echo is not None:
            self._echo.takes(topic, payload)
