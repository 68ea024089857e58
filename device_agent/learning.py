"""Federated learning on an agent's devices: requests come in, a child process learns, replies go out.

Sensing goes on meanwhile, in this process. Keras has one backend in a process, so that workloads which need different
ones have a child each.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from device_agent.learner_messages import AppSpec, BuiltInSpec, LearnerSpec
from device_agent.learner_process import LearnerProcess, LearnerRequest
from edgebench.fabric import topics
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.records import Usage, Used
from edgebench.fabric.transfer_threads import TransferThreads
from edgebench.federated.client_bundle import KERAS_BACKENDS, read_info
from edgebench.federated.message_client import ContentFiles, MessageClient, Received
from edgebench.federated.own_files import FILES
from edgebench.seeds import seed_for
from edgebench.topology.deployment import FederatedPlan

_USAGE_S = 0.5


class _Client(NamedTuple):
    workload: str
    node: int
    messages: MessageClient


class Learning:
    """All federated clients of one agent. Everything but the learners' threads and transfers runs in the reactor's."""

    def __init__(self, process: NodeProcess, bundles: Mapping[str, Path], work_dir: Path) -> None:
        """bundles: workload -> its folder, of those that the built-in app learns."""
        self._process = process
        directory = work_dir / "learning"
        self._contents = ContentFiles(directory)
        self._transfers = TransferThreads(process.token)
        self._clients: dict[str, _Client] = {}
        self._of_device: dict[str, list[_Client]] = {}
        plan = process.plan
        learned = {
            name: _learned(each, bundles.get(name), plan.run_id)
            for name, each in plan.federated.items()
            if each.over_mqtt
        }
        self._closing = threading.Event()
        self._usage_thread = threading.Thread(target=self._note_usage_again, name="usage of learners", daemon=True)
        self._learners: list[LearnerProcess] = []
        self._learner_of: dict[str, LearnerProcess] = {}
        for backend, workloads in by_keras_backend(learned).items():
            replies = directory / (backend or "any")
            replies.mkdir(exist_ok=True)
            spec = LearnerSpec(plan.seed, workloads, str(directory.absolute() / FILES))
            learner = LearnerProcess(spec, replies, self._learned, keras_backend=backend)
            self._learners.append(learner)
            self._learner_of.update(dict.fromkeys(workloads, learner))
        self._usage_thread.start()

    def attach(self, device: str, connection: Connection) -> None:
        """Let a device take part, by a connection that is not started yet."""
        for before in self._of_device.pop(device, ()):
            before.messages.close()
        run_id = self._process.plan.run_id
        endpoints = self._process.plan.endpoints[device]
        for name, plan in self._process.plan.federated.items():
            if device not in plan.clients or not plan.over_mqtt:
                continue
            files = endpoints.site if plan.edges_aggregate else endpoints.models
            assert files is not None
            down = topics.fl_site_down(run_id, name, device)
            messages = MessageClient(
                self._process.reactor,
                partial(_publish, connection, topics.fl_site_up(run_id, name, device)),
                self._transfers,
                files,
                self._contents,
                on_request=partial(self._asked, down),
                on_cancelled=self._learner_of[name].cancel,
            )
            self._clients[down] = _Client(name, plan.clients.index(device) + 1, messages)
            self._of_device.setdefault(device, []).append(self._clients[down])
            connection.subscribe([down], 0)

    def takes(self, topic: str, payload: bytes) -> bool:
        """Take a message, if it is of a federation."""
        client = self._clients.get(topic)
        if client is None:
            return False
        client.messages.feed(payload)
        return True

    def reconnected(self, device: str) -> None:
        """A device's connection is up, perhaps again."""
        for client in self._of_device.get(device, ()):
            client.messages.reconnected()

    def note_usage(self) -> None:
        """Write down what the processes that learn have used, once there has been one. From any thread, but none that
        samples wait for: every process is looked at."""
        usages = [usage for learner in self._learners if (usage := learner.usage()) is not None]
        if usages:
            used = Usage(
                max(usage.at_ns for usage in usages),
                sum(usage.cpu_s for usage in usages),
                sum(usage.rss_bytes for usage in usages),
            )
            self._process.write(Used([f"learner of {self._process.nodes[0]}"], used))

    def close(self) -> None:
        """End the children; what they were doing is nobody's concern any more."""
        self._closing.set()
        self._usage_thread.join()
        for learner in self._learners:
            learner.close()
        for client in self._clients.values():
            client.messages.close()
        self._transfers.close()
        self._contents.close()

    def _note_usage_again(self) -> None:
        while not self._closing.wait(_USAGE_S):
            self.note_usage()

    def _asked(self, topic: str, received: Received) -> None:
        client = self._clients[topic]
        self._learner_of[client.workload].put(LearnerRequest(client.workload, client.node, received, client.messages))

    def _learned(self, request: LearnerRequest, reply: Path) -> None:
        self._process.reactor.call_soon_threadsafe(partial(request.client.answer, request.received, reply))


def by_keras_backend(
    workloads: Mapping[str, BuiltInSpec | AppSpec],
) -> dict[str | None, dict[str, BuiltInSpec | AppSpec]]:
    """The workloads that can be learned in one process, by what Keras must run on there.

    None: an app of the user's own chooses for itself, and LiteRT needs no Keras.
    """
    found: dict[str | None, dict[str, BuiltInSpec | AppSpec]] = {}
    for name, learned in workloads.items():
        backend = KERAS_BACKENDS.get(learned.runtime) if isinstance(learned, BuiltInSpec) else None
        found.setdefault(backend, {})[name] = learned
    return found


def _learned(plan: FederatedPlan, bundle: Path | None, run_id: str) -> BuiltInSpec | AppSpec:
    if bundle is not None:
        return BuiltInSpec(str(bundle), read_info(bundle).runtime)
    assert plan.how.app is not None
    run = seed_for(0, "run", run_id)
    return AppSpec(plan.how.app, plan.how.config, len(plan.clients), run, plan.node_configs)


def _publish(connection: Connection, topic: str, notice: bytes) -> bool:
    return connection.publish(topic, notice, qos=0)
