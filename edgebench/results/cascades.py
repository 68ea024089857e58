"""What a cascade saved in a run, beside what it was calibrated for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from edgebench.fabric.records import Calibration
from edgebench.results import stats
from edgebench.results.chunks import SampleChunk, latency_of
from edgebench.results.observations import Observations
from edgebench.results.sample_figures import CascadeFigures
from edgebench.results.values import Mergeable, Values
from edgebench.topology.deployment import Deployment


@dataclass
class CascadeFold(Mergeable):
    """What a workload's cascade forwarded to the cloud, and kept at the edge."""

    PARAMETERS: ClassVar = ("cloud", "calibrated")
    cloud: str
    calibrated: Calibration
    kept_bytes: int = 0
    edge_latency_ns: Values = field(default_factory=Values)
    cloud_latency_ns: Values = field(default_factory=Values)

    def update(self, chunk: SampleChunk) -> None:
        """Take in a chunk."""
        by_cloud = chunk.is_of("decider", self.cloud)
        self.kept_bytes += int(chunk.ints["size_bytes"][chunk.decided & ~by_cloud].sum())
        among_decided = by_cloud[chunk.decided]
        self.edge_latency_ns.update(chunk.latency_ns[~among_decided])
        self.cloud_latency_ns.update(chunk.latency_ns[among_decided])

    def figures(self) -> CascadeFigures:
        """The figures."""
        calibrated, forwarded = self.calibrated, len(self.cloud_latency_ns)
        decided = forwarded + len(self.edge_latency_ns)
        return CascadeFigures(
            forwarded=forwarded,
            share=stats.rounded(forwarded / decided) if decided else 0.0,
            kept_bytes=self.kept_bytes,
            edge_latency_ms=latency_of(self.edge_latency_ns),
            cloud_latency_ms=latency_of(self.cloud_latency_ns),
            threshold=stats.rounded(calibrated.threshold),
            target=stats.rounded(calibrated.target),
            expected_share=stats.rounded(calibrated.forwarded),
            quality=stats.rounded(calibrated.quality),
            light_quality=stats.rounded(calibrated.light_quality),
            heavy_quality=stats.rounded(calibrated.heavy_quality),
        )


def cascade_in(workload: str, deployment: Deployment, observations: Observations) -> CascadeFold | None:
    """The cascade of a workload; None where it is none."""
    calibrated = next((each.calibration for each in observations.cascades if each.workload == workload), None)
    return None if calibrated is None else CascadeFold(deployment.cloud, calibrated)
