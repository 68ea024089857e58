"""Whether all workloads can be moved from edge to cloud, and back, while a run goes on."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.topology.model import Topology
from edgebench.topology.wording import listed

Problem = tuple[str, str]

_MOVED_BETWEEN = ("edge", "cloud")


def check_online(topology: Topology) -> Iterator[Problem]:
    """What `place.online` cannot do."""
    if topology.place.online is None:
        return
    if topology.jobs:
        yield "$.place.online", "has no effect on jobs, which are placed once (remove it)"
        return
    allowed = topology.place.allow
    if not set(_MOVED_BETWEEN) <= set(allowed):
        mend = "(allow both, or remove it)"
        yield "$.place.online", f"moves workloads between edge and cloud, and place.allow has {listed(allowed)} {mend}"
    for name, workload in topology.workloads.items():
        infer = workload.place.infer
        if infer in _MOVED_BETWEEN:
            continue
        at = f"$.workloads.{name}.place.infer"
        if isinstance(infer, dict):
            yield at, "with place.online a site has all its samples at one place (write edge or cloud)"
        else:
            where = "a chain" if isinstance(infer, tuple) else f"'{infer}'"
            yield at, f"{where} is not moved while a run goes on (write edge or cloud, or remove place.online)"
