"""What each process is told of the deployment."""

from __future__ import annotations

from cloud.slicing import slice_for
from edgebench.fabric.slices import Endpoints, Share
from edgebench.topology import resolve
from edgebench.topology.model import NodeGroup, Place, Poisson, Topology, Workload

TOPOLOGY = Topology(
    schema=1,
    name="t",
    nodes={
        "cloud": NodeGroup(tier="cloud"),
        "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
        "bed": NodeGroup(tier="device", count=4, parent="ward"),
        "cam": NodeGroup(tier="device", parent="ward"),
    },
    workloads={
        "death": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0)),
        "watch": Workload(task="icu-death", source="cam", load=Poisson(rate_hz=1.0), place=Place(infer="cloud")),
    },
)
DEPLOYMENT = resolve(TOPOLOGY, run_id="r", executor="local")
ENDPOINTS = {name: Endpoints("mqtt://h:1", "http://h:2") for name in DEPLOYMENT.nodes}


def test_an_edge_knows_the_devices_of_its_site_and_no_others() -> None:
    part = slice_for(DEPLOYMENT, ["ward-1"], ENDPOINTS, {})
    assert list(part.nodes) == ["ward-1"]
    assert part.workloads.keys() == {"death"}
    assert part.workloads["death"].deciders == {"bed-1": "ward-1", "bed-3": "ward-1"}
    assert part.shares == {}


def test_devices_know_their_shares_of_the_stream_among_all_devices() -> None:
    part = slice_for(DEPLOYMENT, ["bed-1", "bed-3"], ENDPOINTS, {})
    assert part.shares == {"bed-1": {"death": Share(1, 4)}, "bed-3": {"death": Share(3, 4)}}
    assert list(part.endpoints) == ["bed-1", "bed-3"]


def test_a_trace_goes_to_those_who_play_it() -> None:
    traces = {"watch": [1.0, 2.0]}
    assert slice_for(DEPLOYMENT, ["cam"], ENDPOINTS, traces).traces == traces
    assert slice_for(DEPLOYMENT, ["bed-1"], ENDPOINTS, traces).traces == {}
