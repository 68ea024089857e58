"""A small made-up run: one bed, one ward, one cloud, and rows whose figures can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.clocks import Exchange
from edgebench.core.samples import Decision, SampleRecord, Stamps
from edgebench.core.tallies import Tally
from edgebench.fabric.records import HostUsage, LinkObserved, MachineFacts, ModelEvent, RoundRecord, Swap, Usage
from edgebench.inference.spec import TensorSpec
from edgebench.results import run_fold
from edgebench.results.compute import result_of
from edgebench.results.figures import Result
from edgebench.results.observations import MachineSeen, Observations
from edgebench.results.run_fold import RunFold
from edgebench.results.rundir import records_table
from edgebench.topology.deployment import Deployment, LinkPlan, NodePlan, WorkloadPlan
from edgebench.topology.model import Batch, Fixed, ModelChoice, Queue, Training
from tests.manifests import manifest

START_NS = 1_000 * NS_PER_S
FIRST, SECOND = "a" * 64, "b" * 64


def at_ms(ms: float) -> int:
    """Turn ms after the start of the streams into a time stamp."""
    return START_NS + round(ms * NS_PER_MS)


def workload(name: str = "death-risk", **changes: Any) -> WorkloadPlan:
    plan = WorkloadPlan(
        name=name,
        task="icu-death",
        sources=("bed-0",),
        deciders={"bed-0": "ward-0"},
        place="edge",
        load=Fixed(rate_hz=2),
        deadline_ms=150,
        model=ModelChoice(),
        train=Training(),
        rollout=(),
        batch=Batch(),
        queue=Queue(),
        qos=1,
    )
    return msgspec.structs.replace(plan, **changes)


def deployment(*workloads: WorkloadPlan) -> Deployment:
    nodes = (
        NodePlan("cloud", "cloud", "cloud", "host", None, ("ward-0",)),
        NodePlan("ward-0", "ward", "edge", "host", "cloud", ("bed-0",)),
        NodePlan("bed-0", "bed", "device", "host", "ward-0", ()),
    )
    links = (
        LinkPlan("bed-0", "ward-0", 2, 0.5, 40, 40, "bed-0"),
        LinkPlan("ward-0", "cloud", 20, 2, 20, 50, "ward-0"),
    )
    return Deployment(
        schema=1,
        run_id="20260101T000000Z-small",
        name="small",
        seed=7,
        duration_s=4,
        executor="local",
        data=None,
        broker_url=None,
        nodes={node.name: node for node in nodes},
        links={link.name: link for link in links},
        workloads={plan.name: plan for plan in workloads or (workload(),)},
    )


def raw(values: Sequence[float]) -> bytes:
    """The values as float32."""
    return np.array(values, np.float32).tobytes()


def row(seq: int, due_ms: float, hops_ms: tuple[float, ...] = (1, 3, 2, 4, 5), **changes: Any) -> SampleRecord:
    """A sample due at a time, taken 0.5 ms later, whose hops (sense, uplink, queue, infer, downlink) took so long."""
    sense, uplink, queue, infer, downlink = hops_ms
    for vector in ("label", "output"):
        if changes.get(vector) is not None:
            changes[vector] = raw(changes[vector])
    sent = due_ms + sense
    received = sent + uplink
    started = received + queue
    finished = started + infer
    stamps = Stamps(at_ms(received), at_ms(received), at_ms(started), at_ms(finished), at_ms(finished))
    sample = SampleRecord(
        node="bed-0",
        workload="death-risk",
        seq=seq,
        scheduled_ns=at_ms(due_ms),
        captured_ns=at_ms(due_ms + 0.5),
        sent_ns=at_ms(sent),
        size_bytes=14_600,
        label=raw([float(seq % 2)]),
        arrived_ns=at_ms(finished + downlink),
        reply_bytes=120,
        decision=Decision(1, seq, 0, "ward-0", FIRST, raw([0.9 if seq % 2 else 0.1]), 1, stamps),
    )
    return changed(sample, **changes)


def changed(sample: SampleRecord, **changes: Any) -> SampleRecord:
    """Another record, with other values in some columns."""
    decision = sample.decision
    if decision is not None:
        stamps = msgspec.structs.replace(decision.stamps, **_those_of(Stamps, changes))
        decision = msgspec.structs.replace(decision, stamps=stamps, **_those_of(Decision, changes))
    return msgspec.structs.replace(sample, decision=decision, **_those_of(SampleRecord, changes))


def _those_of(kind: type[msgspec.Struct], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name in kind.__struct_fields__}


def lost(seq: int, due_ms: float, **changes: Any) -> SampleRecord:
    """A sample that was sent, and of which no more was heard."""
    sent = row(seq, due_ms)
    return msgspec.structs.replace(sent, **{"arrived_ns": None, "reply_bytes": None, "decision": None, **changes})


def model(digest: str, ready_ms: float, announced_ms: float | None, auroc: float) -> ModelEvent:
    described = manifest(
        digest=digest,
        size_bytes=40_000,
        task="icu-death",
        runtime="litert",
        quantisation="dynamic",
        input=TensorSpec("float32", (48, 76)),
        batches=(1, 8),
        parameters=7_569,
        data_source="generated",
        examples=300,
        epochs=1,
        seed=7,
        evaluated_on="held-out",
        metrics={"auroc": auroc},
        train_s=1.0,
    )
    announced_ns = None if announced_ms is None else at_ms(announced_ms)
    return ModelEvent("death-risk", "train" if digest == FIRST else "rollout", described, at_ms(ready_ms), announced_ns)


def swap(digest: str, fetched_ms: float, swapped_ms: float, node: str = "ward-0") -> Swap:
    return Swap(node, "death-risk", digest, at_ms(fetched_ms), at_ms(swapped_ms))


def observations(**changes: Any) -> Observations:
    """Of a run in which all went well and that was over after 4 s."""
    observed = Observations(
        started_ns=START_NS,
        ended_ns=at_ms(4_000),
        command_started_ns=at_ms(-5_000),
        tallies={},
        swaps=[swap(FIRST, -900, -800)],
        usage={
            "ward-0": [Usage(at_ms(0), 1.0, 60_000_000), Usage(at_ms(4_000), 2.0, 50_000_000)],
            "devices": [Usage(at_ms(1_000), 0.5, 40_000_000)],
        },
        hosts_of={"ward-0": ["ward-0"], "devices": ["bed-0"]},
        closed=["cloud", "ward-0", "bed-0"],
        models=[model(FIRST, -1_200, -1_000, 0.7)],
        links=[
            LinkObserved("ward-0 -> cloud", {"latency_ms": 20.0}, {"latency_ms": 20.4}, 1_000, 3_000, 10, 30),
            LinkObserved(
                "bed-0 -> ward-0",
                {"latency_ms": 2.0, "jitter_ms": 0.5, "up_mbit_s": 40.0},
                {"latency_ms": 2.3, "jitter_ms": 0.4, "up_mbit_s": 39.2},
                58_400,
                480,
                4,
                4,
            ),
        ],
        deaths=[],
        host_usage=[],
        host={"cpus": 2},
        versions={"edgebench": "0.1.0"},
        data_sources={"death-risk": "generated"},
    )
    return msgspec.structs.replace(observed, **changes)


def placed(deployment: Deployment, **machines: str) -> Deployment:
    """With nodes on other machines. machines: node, `_` for `-`, -> the machine."""
    named = {node.replace("_", "-"): machine for node, machine in machines.items()}
    nodes = {
        name: msgspec.structs.replace(node, machine=named.get(name, node.machine))
        for name, node in deployment.nodes.items()
    }
    return msgspec.structs.replace(deployment, nodes=nodes)


def board(name: str, *, host_usage: Sequence[HostUsage] = ()) -> dict[str, MachineSeen]:
    """Another machine, whose clock happens to read as the server's."""
    compared = [Exchange(at_ns, at_ns, at_ns, at_ns) for at_ns in range(at_ms(-5_000), at_ms(10_000), NS_PER_S)]
    facts = MachineFacts(name, "aarch64", 4, 4_000, "10.0.0.2")
    return {name: MachineSeen(facts, compared, host_usage=list(host_usage))}


def tallies(**counts: Any) -> dict[str, dict[str, Tally]]:
    """What `bed-0` counted of death-risk."""
    return {"bed-0": {"death-risk": Tally(**counts)}}


def table(*rows: SampleRecord) -> Any:
    return records_table(list(rows))


def folded(deployment: Deployment, observations: Observations, *rows: SampleRecord) -> RunFold:
    """All of these rows at once."""
    return run_fold.folded(deployment, observations, table(*rows).to_batches())


def result(
    deployment: Deployment, observations: Observations, rows: Sequence[SampleRecord], rounds: Sequence[RoundRecord] = ()
) -> Result:
    """The result of a run with these rows."""
    fold = run_fold.folded(deployment, observations, table(*rows).to_batches(), rounds)
    return result_of(deployment, observations, fold, rounds)
