"""What the cloud process is told at its start, as one line of JSON on standard input (so that no secret is on disk)."""

from __future__ import annotations

import msgspec

from edgebench.fabric.shelves import Caller
from edgebench.fabric.slices import Endpoints
from edgebench.topology.deployment import Deployment


class CloudSpec(msgspec.Struct, frozen=True):
    """tokens: what each is good for. data: where real data is, None for generated data.
    traces: workload -> due times in s of a trace load. retrain: whatever is remembered."""

    deployment: Deployment
    endpoints: dict[str, Endpoints]
    tokens: dict[str, Caller]
    traces: dict[str, list[float]]
    run_dir: str
    registry_dir: str
    data: str | None
    retrain: bool = False
