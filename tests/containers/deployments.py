"""Small deployments for the containers' tests."""

from __future__ import annotations

from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment
from edgebench.topology.fault_model import Fault
from edgebench.topology.link_model import Link
from edgebench.topology.model import ModelChoice, Move, NodeGroup, Place, Poisson, Runtime, Topology, Workload


def deployment(
    nodes: dict[str, NodeGroup] | None = None,
    moves: tuple[Move, ...] = (),
    sources: tuple[str, ...] = ("bed",),
    runtime: Runtime = "litert",
    links: tuple[Link, ...] = (),
    faults: tuple[Fault, ...] = (),
) -> Deployment:
    """By default two wards with five beds between them, that of a ward limited to 500 MB, each bed to 100."""
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            **(
                nodes
                or {
                    "ward": NodeGroup(tier="edge", count=2, parent="cloud", memory_mb=500),
                    "bed": NodeGroup(tier="device", count=5, parent="ward", memory_mb=100),
                }
            ),
        },
        workloads={
            "w": Workload(
                task="icu-death",
                source=sources,
                load=Poisson(rate_hz=1.0),
                place=Place(infer="edge"),
                model=ModelChoice(runtime=runtime),
            )
        },
        moves=moves,
        links=links,
        faults=faults,
    )
    return resolve(topology, run_id="r", executor="containers")
