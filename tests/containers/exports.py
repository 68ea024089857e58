"""A small run to be exported: two wards with five beds between them, one of which moves."""

from __future__ import annotations

from edgebench.containers.exported import Exported
from edgebench.containers.plan import containers_of
from edgebench.topology.fault_model import Fault
from edgebench.topology.model import Move
from tests.containers.deployments import deployment

MOVER = "ward-0-bed"
"""In the networks of both wards."""
STAYS = "ward-1-bed"


def exported(*, with_data: bool = False, faults: tuple[Fault, ...] = ()) -> Exported:
    return Exported(
        name="wards",
        parts=containers_of(deployment(moves=(Move(node="bed-0", to="ward-1", at_s=3.0),), faults=faults)),
        images={"device": "edgebench-device:d1", "edge": "edgebench-edge:e1", "server": "edgebench-server:s1"},
        base_image="python:3.11-slim",
        python="3.11",
        arch="x86_64",
        with_data=with_data,
    )
