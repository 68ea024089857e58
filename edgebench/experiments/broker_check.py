"""What a run will send over a broker of the user's, and whether that carries it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench.executors.plan import connections_to_brokers
from edgebench.fabric import topics
from edgebench.fabric.broker_probe import Traffic, probe_access, probe_connections, probe_run_id, probe_sizes
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.message_sizes import envelope_bytes, forward_bytes
from edgebench.fabric.pictures import compressed
from edgebench.fabric.topics import ANY
from edgebench.federated.notices import LARGEST_NOTICE_BYTES
from edgebench.tasks import task_named
from edgebench.topology.deployment import Deployment, FederatedPlan, WorkloadPlan

_STATUS_BYTES = len(b"offline")
_MANIFEST_BYTES = 1024
_COMPRESSED = 64
"""Of so many samples the largest JPEG file is taken."""


def check_broker(deployment: Deployment, url: str) -> None:
    """Try a broker with what the run will send, before anything starts.

    Raises EdgebenchError, in one line with the mend, where it does not carry it.
    """
    broker = parse_broker_url(url)
    probe_access(broker, _largest_of_a_kind(traffic(deployment, {})))
    probe_connections(broker, connections_to_brokers(deployment))
    sizes = {name: _sample_bytes(plan, deployment) for name, plan in deployment.workloads.items()}
    probe_sizes(broker, _largest_of_a_kind(traffic(deployment, sizes)))


def traffic(deployment: Deployment, sample_bytes: dict[str, int]) -> Iterator[Traffic]:
    """What a run sends, a topic of each kind for each workload.

    sample_bytes: by workload, its largest sample as a device sends it. Whatever else streams is taken to be as large:
    its size is known only with the model. It is not larger, but for what goes on in a chain, which may be.
    """
    run_id = probe_run_id()
    edge = deployment.of_tier("edge")[0].name
    yield _status(topics.status(run_id, edge), topics.status(run_id, ANY), topics.status(ANY, ANY))
    if deployment.durability != "none":
        asks = topics.asks(run_id, edge)
        shown = f"requests for what is undecided ({topics.asks(ANY, ANY)})"
        yield Traffic(shown, asks, asks, 1, _STATUS_BYTES, retained=True)
    for plan in deployment.workloads.values():
        yield from _of_workload(plan, run_id, edge, deployment.cloud, sample_bytes.get(plan.name, 0))
    for federated in deployment.federated.values():
        if federated.over_mqtt:
            yield from _of_federation(federated, run_id)


def _of_workload(plan: WorkloadPlan, run_id: str, edge: str, cloud: str, sample_bytes: int) -> Iterator[Traffic]:
    name, device = plan.name, next(iter(plan.deciders))
    models = topics.models(run_id, name)
    manifests = _MANIFEST_BYTES * (2 if plan.head_on_device else 1)  # which are announced in one message
    yield Traffic(f"models ({topics.models(ANY, ANY)})", models, models, 1, manifests, retained=True)
    on_devices = {decider for source, decider in plan.deciders.items() if decider == source}
    if on_devices or plan.head_on_device:
        models = topics.site_models(run_id, edge, name)
        shown = f"models ({topics.site_models(ANY, ANY, ANY)})"
        yield Traffic(shown, models, models, 1, _MANIFEST_BYTES, retained=True)
    if on_devices < set(plan.deciders.values()):
        sample, decision = topics.sample(run_id, device, name), topics.decision(run_id, device, name)
        heard = topics.decision(run_id, device, ANY)
        yield Traffic(f"samples ({topics.sample(ANY, ANY, ANY)})", sample, sample, plan.qos, sample_bytes)
        yield Traffic(f"decisions ({topics.decision(ANY, ANY, ANY)})", decision, heard, plan.qos, sample_bytes)
    if cloud in plan.deciders.values() or plan.goes_on:
        forward, answer = topics.forward(run_id, edge, name), topics.answer(run_id, edge, name)
        heard, shown = topics.forward(run_id, ANY, name), f"samples for the cloud ({topics.forward(ANY, ANY, ANY)})"
        yield Traffic(shown, forward, heard, plan.qos, sample_bytes)
        yield Traffic(f"answers of the cloud ({topics.answer(ANY, ANY, ANY)})", answer, answer, plan.qos, sample_bytes)
    if plan.online is not None:
        trial, tried = topics.trial(run_id, edge, name), topics.tried(run_id, edge, name)
        heard, shown = topics.trial(run_id, ANY, name), f"trials of the cloud ({topics.trial(ANY, ANY, ANY)})"
        yield Traffic(shown, trial, heard, 0, sample_bytes)
        yield Traffic(f"what trials took ({topics.tried(ANY, ANY, ANY)})", tried, tried, 0, _STATUS_BYTES)


def _of_federation(plan: FederatedPlan, run_id: str) -> Iterator[Traffic]:
    name, (edge, devices) = plan.how.workload, next(iter(plan.edges.items()))
    hop = (run_id, name, edge, devices[0])
    any_hop = (ANY, ANY, ANY, ANY)
    ways = (
        (topics.fl_down(*hop), topics.fl_down(run_id, name, edge, ANY), topics.fl_down(*any_hop)),
        (topics.fl_up(*hop), topics.fl_up(run_id, name, ANY, ANY), topics.fl_up(*any_hop)),
        (site_down := topics.fl_site_down(*hop[:2], devices[0]), site_down, topics.fl_site_down(ANY, ANY, ANY)),
        (site_up := topics.fl_site_up(*hop[:2], devices[0]), site_up, topics.fl_site_up(ANY, ANY, ANY)),
    )
    for topic, heard, shown in ways:
        yield Traffic(f"notices of federated messages ({shown})", topic, heard, 0, LARGEST_NOTICE_BYTES)
    yield _status(topics.fl_status(*hop), topics.fl_status(run_id, name, ANY, ANY), topics.fl_status(*any_hop))


def _status(topic: str, heard: str, shown: str) -> Traffic:
    return Traffic(f"states of nodes ({shown})", topic, heard, 1, _STATUS_BYTES, retained=True)


def _largest_of_a_kind(sent: Iterator[Traffic]) -> list[Traffic]:
    """Of each kind and QoS the largest: what holds for one workload holds for all."""
    largest: dict[tuple[str, int], Traffic] = {}
    for each in sent:
        known = largest.setdefault((each.named, each.qos), each)
        if each.size_bytes > known.size_bytes:
            largest[each.named, each.qos] = each
    return list(largest.values())


def _sample_bytes(plan: WorkloadPlan, deployment: Deployment) -> int:
    """The largest sample of a workload, as it reaches the cloud: in an edge's envelope about the device's own; 0 where
    it is known with the model alone, since devices send what that gives."""
    if plan.head_on_device:
        return 0
    data = None if deployment.data is None else Path(deployment.data)
    dataset = task_named(plan.task).load(data, seed=deployment.seed)
    spec = dataset.spec
    payload = bytes(spec.size_bytes)
    if plan.compress is not None:
        quality = plan.compress.quality
        payload = max((compressed(x, quality) for x in dataset.test.x[:_COMPRESSED]), key=len)
    envelope = envelope_bytes(spec.dtype, spec.shape, payload)
    return forward_bytes(envelope, max(deployment.nodes, key=len))
