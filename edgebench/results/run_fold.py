"""A run's records, read once and a chunk at a time, as all that its figures and charts are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgebench.fabric.records import RoundRecord
from edgebench.results.chunks import SampleChunk, chunks_of
from edgebench.results.disturbance import disturbance_of
from edgebench.results.fault_costs import FaultCosts, fault_costs
from edgebench.results.handovers import Handover, handovers_in
from edgebench.results.joints import JointFold
from edgebench.results.observations import Observations
from edgebench.results.replacements import Replacement, replacements_in
from edgebench.results.sample_times import SampleTimes
from edgebench.results.timeline import axis_of
from edgebench.results.values import Mergeable
from edgebench.results.workload_fold import WorkloadFold, workload_fold
from edgebench.topology.deployment import Deployment


@dataclass
class RunFold(Mergeable):
    """By workload, by joint decision, by move of a device and of a workload, and by fault."""

    workloads: dict[str, WorkloadFold]
    joints: dict[str, JointFold]
    handovers: list[Handover]
    replacements: list[Replacement]
    faults: FaultCosts

    def update(self, workload: str, chunk: SampleChunk) -> None:
        """Take in a chunk of a workload."""
        self.workloads[workload].update(chunk)
        for joint in self.joints.values():
            joint.update(workload, chunk)
        self.faults.update(workload, chunk)
        for replacement in self.replacements:
            replacement.update(workload, chunk)
        deciders = self.workloads[workload].plan.deciders
        for handover in self.handovers:
            # What a device decides itself goes on whatever its site is.
            if deciders.get(handover.move.node) != handover.move.node:
                handover.update(chunk)


def run_fold(deployment: Deployment, observations: Observations, rounds: Sequence[RoundRecord] = ()) -> RunFold:
    """Of no records yet."""
    axis, disturbance = axis_of(deployment, observations), disturbance_of(observations)
    return RunFold(
        workloads={
            name: workload_fold(plan, deployment, observations, rounds, axis, disturbance)
            for name, plan in deployment.workloads.items()
        },
        joints={name: JointFold(joint, deployment, observations) for name, joint in deployment.joint.items()},
        handovers=handovers_in(observations),
        replacements=replacements_in(deployment, observations),
        faults=fault_costs(deployment, observations),
    )


def folded(
    deployment: Deployment, observations: Observations, batches: Iterable[Any], rounds: Sequence[RoundRecord] = ()
) -> RunFold:
    """A whole run. batches: of its records, as pyarrow gives them."""
    fold = run_fold(deployment, observations, rounds)
    times = SampleTimes(deployment, observations)
    for workload, chunk in chunks_of(batches, deployment.workloads, deployment.heads_on_devices):
        fold.update(workload, times.on_server(chunk))
    return fold
