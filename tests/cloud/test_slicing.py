"""What each process is told of the deployment."""

from __future__ import annotations

import msgspec

from cloud.slicing import slice_for
from edgebench.fabric.slices import Endpoints, Share
from edgebench.topology import resolve
from edgebench.topology.deployment import on_machines
from edgebench.topology.model import Federated, NodeGroup, Place, Poisson, Topology, Workload

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


def test_agents_know_how_many_of_them_learn_on_their_machine() -> None:
    learning = msgspec.structs.replace(TOPOLOGY, federated=(Federated(workload="death", rounds=1),))
    placed = on_machines(resolve(learning, run_id="r", executor="local"), {"bed-0": "pi"})
    sites = {name: slice_for(placed, [name], ENDPOINTS, {}).learning_sites for name in ("bed-0", "bed-1", "bed-2")}
    assert sites == {"bed-0": 1, "bed-1": 2, "bed-2": 2}
    assert slice_for(DEPLOYMENT, ["bed-0"], ENDPOINTS, {}).learning_sites == 0
