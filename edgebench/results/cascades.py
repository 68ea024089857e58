"""What a cascade saved in a run, beside what it was calibrated for."""

from __future__ import annotations

from edgebench.fabric.records import Observations
from edgebench.results import stats
from edgebench.results.figures import CascadeFigures
from edgebench.results.samples import ABSENT, Samples, latency_of
from edgebench.topology.deployment import Deployment, WorkloadPlan


def cascade_of(
    plan: WorkloadPlan, deployment: Deployment, observations: Observations, samples: Samples
) -> CascadeFigures | None:
    """What a workload's cascade forwarded and kept; None where it is none."""
    calibrated = next((each.calibration for each in observations.cascades if each.workload == plan.name), None)
    if calibrated is None:
        return None
    names = {name: code for code, name in enumerate(samples.deciders)}
    by_cloud = samples.decided & (samples.decider == names.get(deployment.cloud, ABSENT - 1))
    by_edge = samples.decided & ~by_cloud
    decided = int(samples.decided.sum())
    return CascadeFigures(
        forwarded=int(by_cloud.sum()),
        share=stats.rounded(by_cloud.sum() / decided) if decided else 0.0,
        kept_bytes=int(samples.size_bytes[by_edge].sum()),
        edge_latency_ms=latency_of(samples.latency_ns[by_edge[samples.decided]]),
        cloud_latency_ms=latency_of(samples.latency_ns[by_cloud[samples.decided]]),
        threshold=stats.rounded(calibrated.threshold),
        target=stats.rounded(calibrated.target),
        expected_share=stats.rounded(calibrated.forwarded),
        quality=stats.rounded(calibrated.quality),
        light_quality=stats.rounded(calibrated.light_quality),
        heavy_quality=stats.rounded(calibrated.heavy_quality),
    )
