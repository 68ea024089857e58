"""Federated learning on an agent's devices: requests come in, child processes learn, replies go out.

Sensing goes on meanwhile, in this process. Keras has one backend in a process, so that workloads which need different
ones have children of their own.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from device_agent.emulated_learning import EmulatedLearning
from device_agent.learner_messages import AppSpec, BuiltInSpec, LearnerSpec
from device_agent.learner_pool import LearnerPool, together
from device_agent.learner_process import LearnerRequest
from edgebench.core.emulation import Machine
from edgebench.cpu import core_count
from edgebench.fabric import topics
from edgebench.fabric.endpoints import parse_http_url
from edgebench.fabric.listening import LOOPBACK
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.records import Used
from edgebench.fabric.slices import Slice
from edgebench.fabric.transfer_threads import TransferThreads
from edgebench.federated.client_bundle import KERAS_BACKENDS, read_info
from edgebench.federated.learner_environment import environment_for
from edgebench.federated.message_client import ContentFiles, MessageClient, Received, answer_together
from edgebench.federated.own_files import FILES
from edgebench.seeds import seed_for
from edgebench.topology.deployment import FederatedPlan
from edgebench.topology.model import Learners
from edgebench.topology.profiles import TrainingCost

_USAGE_S = 0.5


class _Client(NamedTuple):
    workload: str
    device: str
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
        learned: dict[str, BuiltInSpec | AppSpec] = {
            name: _learned(each, bundles.get(name), plan.run_id)
            for name, each in plan.federated.items()
            if each.over_mqtt
        }
        self._closing = threading.Event()
        self._usage_thread = threading.Thread(target=self._note_usage_again, name="usage of learners", daemon=True)
        self._learners: list[LearnerPool] = []
        self._learner_of: dict[str, LearnerPool] = {}
        at_once = max(1, core_count() // max(1, plan.learning_sites))
        self._takes: dict[tuple[str, str], tuple[Machine, TrainingCost, int]] = {}
        self._emulate(bundles)
        self._sharers = {name: sharers(plan, plan.federated[name]) for name in learned}
        emulated = {name: {device for each, device in self._takes if each == name} for name in learned}
        for (backend, how), workloads in by_process(
            learned, {name: plan.federated[name].how.learners for name in learned}
        ).items():
            replies = directory / f"replies-{len(self._learners)}"
            replies.mkdir(exist_ok=True)
            files, states = (str(directory.absolute() / name) for name in (FILES, "states"))
            learner = LearnerPool(
                LearnerSpec(plan.seed, workloads, files, states),
                replies,
                self._learned,
                at_once=how.at_once or at_once,
                most=sum(device in process.nodes for name in workloads for device in plan.federated[name].clients),
                environment=environment_for(how, backend),
                together=[
                    name
                    for name in workloads
                    if learns_together(plan, plan.federated[name], learned[name], emulated[name])
                ],
            )
            self._learners.append(learner)
            self._learner_of.update(dict.fromkeys(workloads, learner))
        self._emulated = EmulatedLearning(_answer)
        self._usage_thread.start()

    def _emulate(self, bundles: Mapping[str, Path]) -> None:
        """What learning takes on the machines that devices here are emulated to run on."""
        plan = self._process.plan
        for name, bundle in bundles.items():
            federated, learned = plan.federated[name], plan.workloads[name]
            samples = dict(zip(federated.clients, read_info(bundle).samples, strict=True))
            for device in federated.clients:
                machine = self._process.emulated(device, has_broker=False) if device in plan.nodes else None
                if machine is None:
                    continue
                how = federated.how
                cost = machine.profile.training_cost(learned.task, learned.model.size, how.fit, how.batch_size)
                assert cost is not None
                steps = how.local_epochs * math.ceil(samples[device] / how.batch_size)
                self._takes[name, device] = machine, cost, steps

    def attach(self, device: str, connection: Connection) -> None:
        """Let a device take part, by a connection that is not started yet."""
        for before in self._of_device.pop(device, ()):
            before.messages.close()
        run_id = self._process.plan.run_id
        for name, plan in self._process.plan.federated.items():
            if device not in plan.clients or not plan.over_mqtt:
                continue
            files = _files(self._process.plan, plan, device)
            down = topics.fl_site_down(run_id, name, device)
            messages = MessageClient(
                self._process.reactor,
                partial(_publish, connection, topics.fl_site_up(run_id, name, device)),
                self._transfers,
                files,
                self._contents,
                on_request=partial(self._asked, down),
                on_cancelled=partial(self._cancelled, self._learner_of[name]),
                by_turns=device in self._process.plan.by_turns,
                shares_way=device in self._sharers[name],
            )
            self._clients[down] = _Client(name, device, plan.clients.index(device) + 1, messages)
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
        used = together(usage for learner in self._learners if (usage := learner.usage()) is not None)
        if used is not None:
            self._process.write(Used([f"learner of {self._process.nodes[0]}"], used))

    def close(self) -> None:
        """End the children; what they were doing is nobody's concern any more."""
        self._closing.set()
        self._usage_thread.join()
        for learner in self._learners:
            learner.close()
        self._emulated.close()
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
        takes = self._takes.get((client.workload, client.device))
        if takes is not None:
            machine, cost, steps = takes
            self._emulated.begin(machine, received, cost, steps)

    def _cancelled(self, learner: LearnerPool, received: Received) -> None:
        self._emulated.cancel(received)
        learner.cancel(received)

    def _learned(self, requests: Sequence[LearnerRequest], replies: Path) -> None:
        self._process.reactor.call_soon_threadsafe(partial(self._done, requests, replies))

    def _done(self, requests: Sequence[LearnerRequest], replies: Path) -> None:
        if len(requests) == 1 and self._emulated.done(requests[0], replies):
            return  # it is answered when its time has come
        answer_together([(request.client, request.received) for request in requests], replies)


def _answer(request: LearnerRequest, reply: Path) -> None:
    request.client.answer(request.received, reply)


def sharers(here: Slice, plan: FederatedPlan) -> frozenset[str]:
    """The devices here that reach what a federation asks them by one way, with nothing emulated and no network on it.
    Across an emulated link each has an address of its own, at the relay."""
    ways = {device: _files(here, plan, device) for device in plan.clients if device in here.nodes}
    users = Counter(ways.values())
    return frozenset(
        device
        for device, way in ways.items()
        if users[way] > 1 and parse_http_url(way).host == LOOPBACK and device not in here.by_turns
    )


def learns_together(
    here: Slice, plan: FederatedPlan, learned: BuiltInSpec | AppSpec, emulated: Collection[str]
) -> bool:
    """Whether a federation's clients here can be asked together: they do nothing but compute, each as fast as this
    machine does, and what they answer goes one way. emulated: those that learn as long as another machine would."""
    devices = [device for device in plan.clients if device in here.nodes]
    is_plain = isinstance(learned, BuiltInSpec) and learned.runtime == "litert"
    ways = {_files(here, plan, device) for device in devices}
    is_one_way = len(ways) == 1 and sharers(here, plan).issuperset(devices)
    return is_plain and is_one_way and not any(device in emulated for device in devices)


def _files(here: Slice, plan: FederatedPlan, device: str) -> str:
    """Where a device finds what a federation asks it."""
    endpoints = here.endpoints[device]
    files = endpoints.site if plan.edges_aggregate else endpoints.models
    assert files is not None
    return files


class _Kind(NamedTuple):
    """What all that is learned in one process has in common. keras_backend: None leaves it to what is learned."""

    keras_backend: str | None
    how: Learners


def by_process(
    workloads: Mapping[str, BuiltInSpec | AppSpec], learners: Mapping[str, Learners]
) -> dict[_Kind, dict[str, BuiltInSpec | AppSpec]]:
    """The workloads that can be learned in one process.

    An app of the user's own chooses its Keras backend for itself, and LiteRT needs no Keras.
    """
    found: dict[_Kind, dict[str, BuiltInSpec | AppSpec]] = {}
    for name, learned in workloads.items():
        backend = KERAS_BACKENDS.get(learned.runtime) if isinstance(learned, BuiltInSpec) else None
        found.setdefault(_Kind(backend, learners[name]), {})[name] = learned
    return found


def _learned(plan: FederatedPlan, bundle: Path | None, run_id: str) -> BuiltInSpec | AppSpec:
    if bundle is not None:
        return BuiltInSpec(str(bundle), read_info(bundle).runtime)
    assert plan.how.app is not None
    run = seed_for(0, "run", run_id)
    return AppSpec(plan.how.app, plan.how.config, len(plan.clients), run, plan.node_configs)


def _publish(connection: Connection, topic: str, notice: bytes) -> bool:
    return connection.publish(topic, notice, qos=0)
