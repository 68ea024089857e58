"""An edge that is measured: `python -m edgebench.experiments.profiling.node_child`.

The first line on standard input is a `NodeSpec`; a line comes back once it has subscribed. It decides, or passes on,
what comes, with the very parts of an edge node and a model of the kit, until standard input ends.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_node.workload import EdgeWorkload
from edgebench.core.deciding import Origin, SampleTaker
from edgebench.core.routing import Roles
from edgebench.core.tallies import Tally
from edgebench.fabric import topics
from edgebench.fabric.endpoints import BrokerUrl
from edgebench.fabric.logs import log_to_stderr
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import Entry
from edgebench.fabric.slices import Slice
from edgebench.fabric.tls import client_context, trust_in
from edgebench.inference.runtime import Runtime, open_runtime
from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.topology.deployment import NodePlan, WorkloadPlan
from edgebench.topology.model import Batch, Fixed, ModelChoice, Queue, Training

RUN, EDGE, DECIDED, PASSED_ON = "profile", "edge", "decided", "passed-on"
MOST_OUTPUTS = 65_536


class ModelInUse(msgspec.Struct, frozen=True):
    """A model's file, and some of its samples."""

    path: str
    manifest: Manifest
    samples: str


class NodeSpec(msgspec.Struct, frozen=True):
    """Where the broker is, with whose files it is trusted, and which workloads there are: of these many values, each
    with these qualities of service. model: that is at work, whatever the samples are."""

    host: str
    port: int
    server_name: str
    password: str
    trust: str
    values: tuple[int, ...]
    qos: tuple[int, ...]
    model: ModelInUse


class _AtWork:
    """Decides a sample of its own, as a node does between two messages, and gives as many outputs as are asked for."""

    def __init__(self, runtime: Runtime, sample: NDArray[Any], outputs: int) -> None:
        self._runtime = runtime
        self._sample = sample
        self._outputs = outputs

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """See `Runtime.infer`."""
        self._runtime.infer(self._sample)
        return np.zeros((len(x), self._outputs), np.float32)

    def close(self) -> None:
        """It is others' as well."""


def workload_name(values: int, qos: int) -> str:
    """Of samples of so many values."""
    return f"{values}-{qos}"


def manifest(values: int) -> Manifest:
    """Of a model that takes and gives so many values."""
    return Manifest(
        digest="0" * 64,
        size_bytes=0,
        task="t",
        model_size="light",
        runtime="fake",
        quantisation="float32",
        input=TensorSpec("float32", (values,)),
        outputs=min(values, MOST_OUTPUTS),
        batches=(1,),
        parameters=0,
        data_source="generated",
        real=False,
        examples=0,
        epochs=0,
        seed=0,
        evaluated_on="valid",
        metrics={},
        train_s=0.0,
    )


class _Host:
    """Counts, and announces nothing."""

    incarnation = 0

    def __init__(self, store_dir: Path, reactor: Reactor) -> None:
        self.store_dir = store_dir
        self.reactor = reactor
        self._tally = Tally()

    def tally(self, node: str, workload: str) -> Tally:
        """See `edge_node.workload.Host`."""
        del node, workload
        return self._tally

    def announced(self, node: str, workload: str, manifest: bytes) -> None:
        """See `edge_node.workload.Host`."""

    def swapped(self, node: str, workload: str, manifest: Manifest) -> None:
        """See `edge_node.workload.Host`."""

    def write(self, entry: Entry) -> None:
        """See `edge_node.workload.Host`."""


class _Node:
    def __init__(self, spec: NodeSpec) -> None:
        self._spec = spec
        self._reactor = Reactor()
        self._takers: dict[str, tuple[SampleTaker, Origin]] = {}
        self._ups = 0
        self._model = open_runtime(Path(spec.model.path), spec.model.manifest)
        self._sample = np.load(spec.model.samples, allow_pickle=False)[:1]
        self._site, self._uplink = (self._connection(side) for side in ("site", "uplink"))
        for values in spec.values:
            for qos in spec.qos:
                self._take_on(values, qos)

    def run(self) -> None:
        """Until standard input ends."""
        self._site.start()
        self._uplink.start()
        threading.Thread(target=self._wait, name="lifeline", daemon=True).start()
        self._reactor.run()

    def _wait(self) -> None:
        sys.stdin.buffer.read()
        self._reactor.stop()

    def _connection(self, side: str) -> Connection:
        spec = self._spec
        return Connection(
            self._reactor,
            BrokerUrl(spec.host, spec.port, EDGE, spec.password, True, spec.server_name),
            f"{EDGE}-{side}",
            on_message=self._received,
            on_up=partial(self._is_up),
            tls=client_context(trust_in(Path(spec.trust)), mutual=True),
        )

    def _is_up(self) -> None:
        self._ups += 1
        if self._ups == 2:
            print("up", flush=True)

    def _take_on(self, values: int, qos: int) -> None:
        name = workload_name(values, qos)
        plan = WorkloadPlan(
            name=name,
            task="t",
            sources=(DECIDED, PASSED_ON),
            deciders={DECIDED: EDGE, PASSED_ON: "cloud"},
            place="edge",
            load=Fixed(1.0),
            deadline_ms=None,
            model=ModelChoice(),
            train=Training(),
            rollout=(),
            batch=Batch(),
            queue=Queue(),
            qos=qos,
        )
        node = NodePlan(EDGE, EDGE, "edge", "host", "cloud", (DECIDED, PASSED_ON))
        part = Slice(RUN, 0, 1.0, {EDGE: node}, {}, {name: plan}, {})
        roles = Roles((DECIDED,), (PASSED_ON,), ())
        host = _Host(Path(self._spec.trust), self._reactor)
        workload = EdgeWorkload(host, part, plan, roles, self._site, self._uplink)
        described = manifest(values)
        workload.announced(msgspec.json.encode(described))
        workload.use(_AtWork(self._model, self._sample, described.outputs), described)
        assert workload.decider is not None
        assert workload.forwarder is not None
        self._takers[topics.sample(RUN, DECIDED, name)] = workload.decider, Origin(DECIDED)
        self._takers[topics.sample(RUN, PASSED_ON, name)] = workload.forwarder, Origin(PASSED_ON)
        self._site.subscribe([topics.sample(RUN, topics.ANY, name)], qos)

    def _received(self, topic: str, payload: bytes) -> None:
        taker, origin = self._takers[topic]
        taker.take(origin, payload)


def main() -> None:
    """Serve."""
    log_to_stderr()
    _Node(msgspec.json.decode(sys.stdin.buffer.readline(), type=NodeSpec)).run()


if __name__ == "__main__":
    main()
