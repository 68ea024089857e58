"""What a cascade saved in a run, beside what it was calibrated for."""

from __future__ import annotations

from edgebench.experiments.figures import CascadeFigures
from edgebench.experiments.samples import ABSENT, Samples, latency_of
from edgebench.fabric.records import Observations
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
        share=_rounded(by_cloud.sum() / decided) if decided else 0.0,
        kept_bytes=int(samples.size_bytes[by_edge].sum()),
        edge_latency_ms=latency_of(samples.latency_ns[by_edge[samples.decided]]),
        cloud_latency_ms=latency_of(samples.latency_ns[by_cloud[samples.decided]]),
        threshold=_rounded(calibrated.threshold),
        target=_rounded(calibrated.target),
        expected_share=_rounded(calibrated.forwarded),
        quality=_rounded(calibrated.quality),
        light_quality=_rounded(calibrated.light_quality),
        heavy_quality=_rounded(calibrated.heavy_quality),
    )


def _rounded(value: float) -> float:
    return round(float(value), 6)
