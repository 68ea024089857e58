"""The latency of a stream while rounds of its federation were going on, and of the rest of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgebench.fabric.records import RoundRecord
from edgebench.results.chunks import SampleChunk, ms
from edgebench.results.federated_figures import Beside
from edgebench.results.values import Ints, Mergeable, Values
from edgebench.topology.deployment import Deployment


@dataclass
class BesideRounds(Mergeable):
    """starts_ns, ends_ns: of the rounds, in the order of their starts; each end at least that of the one before."""

    PARAMETERS: ClassVar = ("starts_ns", "ends_ns")
    starts_ns: Ints
    ends_ns: Ints
    in_rounds_ns: Values = field(default_factory=Values)
    between_ns: Values = field(default_factory=Values)

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk of the workload."""
        due_ns = chunk.ns["scheduled_ns"][chunk.decided]
        begun = np.searchsorted(self.starts_ns, due_ns, side="right")
        inside = (begun > 0) & (due_ns <= self.ends_ns[begun - 1])
        self.in_rounds_ns.update(chunk.latency_ns[inside])
        self.between_ns.update(chunk.latency_ns[~inside])

    def figures(self) -> tuple[Beside | None, Beside | None]:
        """While rounds were going on, and else."""
        return _figures(self.in_rounds_ns), _figures(self.between_ns)


def beside_rounds(workload: str, deployment: Deployment, rounds: Sequence[RoundRecord]) -> BesideRounds | None:
    """Of the rounds that this run held at the cloud; None where the workload has no federation, or had no round."""
    held = [each for each in rounds if each.workload == workload and each.server == deployment.cloud]
    held = sorted((each for each in held if not each.resumed), key=lambda each: each.started_ns)
    if workload not in deployment.federated or not held:
        return None
    ends_ns = np.maximum.accumulate([each.ended_ns for each in held])
    return BesideRounds(np.array([each.started_ns for each in held]), ends_ns)


def _figures(latency_ns: Values) -> Beside | None:
    if not len(latency_ns):
        return None
    p50, p99 = latency_ns.percentiles(0.5, 0.99)
    return Beside(p50=ms(p50), p99=ms(p99), n=len(latency_ns))
