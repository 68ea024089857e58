"""Which files let samples pass."""

from __future__ import annotations

import pytest

from cloud.link_turns import LinkTurns, links_with_samples
from cloud.slicing import slice_for
from edgebench.clock import NS_PER_S
from edgebench.fabric.slices import Endpoints
from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment
from edgebench.topology.fault_model import Fault
from edgebench.topology.link_model import Link, LinkChange
from edgebench.topology.model import NodeGroup, Place, Poisson, Topology, Workload


def deployed(
    infer: str, faults: tuple[Fault, ...] = (), *, up_mbit_s: float | None = None, down_mbit_s: float | None = None
) -> Deployment:
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
            "bed": NodeGroup(tier="device", count=4, parent="ward"),
        },
        links=(Link(between=("ward", "cloud"), latency_ms=5.0, up_mbit_s=up_mbit_s, down_mbit_s=down_mbit_s),),
        workloads={
            "death": Workload(
                task="icu-death",
                source="bed",
                load=Poisson(rate_hz=1.0),
                place=Place(infer=infer),  # type: ignore[arg-type]
            )
        },
        faults=faults,
    )
    return resolve(topology, run_id="r", executor="local")


def test_files_go_by_turns_across_a_link_that_samples_cross_while_they_do() -> None:
    began_ns: list[int | None] = [0]
    turns_of = LinkTurns(deployed("cloud", up_mbit_s=10.0, down_mbit_s=40.0), lambda: began_ns[0])
    beds, others = frozenset({"bed-0", "bed-2"}), frozenset({"bed-1", "bed-3"})
    up, down = turns_of(beds, "up"), turns_of(beds, "down")
    assert up is not None
    assert down is not None
    assert (up.piece_bytes(0.0), down.piece_bytes(0.0)) == (10_000, 40_000)
    edge = turns_of(frozenset({"ward-0"}), "up")
    assert edge is not None
    up.begin(0.0, 10_000)
    assert edge.free_s == pytest.approx(0.01)
    elsewhere = turns_of(others, "up")
    assert elsewhere is not None
    assert elsewhere.free_s == 0.0
    began_ns[0] = None
    assert turns_of(beds, "up") is None


def degraded(**what: float | None) -> tuple[Fault, ...]:
    return (Fault(kind="degrade", at_s=10.0, for_s=5.0, link="ward-0 -> cloud", to=LinkChange(**what)),)  # type: ignore[arg-type]


def test_turns_are_by_the_rate_that_a_fault_gives_a_link_for_as_long_as_it_does() -> None:
    deployment = deployed("cloud", degraded(up_mbit_s=2.0, down_mbit_s=4.0), up_mbit_s=10.0)
    turns_of = LinkTurns(deployment, lambda: 100 * NS_PER_S)
    beds, elsewhere = frozenset({"bed-0", "bed-2"}), frozenset({"bed-1", "bed-3"})
    up, down, other = turns_of(beds, "up"), turns_of(beds, "down"), turns_of(elsewhere, "up")
    assert up is not None
    assert down is not None
    assert other is not None
    at_s = (109.9, 110.0, 114.9, 115.0)
    assert [up.begin(each, 1 << 30).size_bytes for each in at_s] == [10_000, 2_000, 2_000, 10_000]
    assert [down.begin(each, 1 << 30).size_bytes for each in at_s] == [1 << 20, 4_000, 4_000, 1 << 20]
    assert {other.begin(each, 1 << 30).size_bytes for each in at_s} == {10_000}
    assert turns_of(elsewhere, "down") is None


@pytest.mark.parametrize(("infer", "rates"), [("edge", {"up_mbit_s": 10.0, "down_mbit_s": 10.0}), ("cloud", {})])
def test_files_are_alone_where_samples_stay_at_the_site_or_the_rate_is_unlimited(
    infer: str, rates: dict[str, float]
) -> None:
    deployment = deployed(infer, up_mbit_s=rates.get("up_mbit_s"), down_mbit_s=rates.get("down_mbit_s"))
    assert not links_with_samples(deployment)
    assert LinkTurns(deployment, lambda: 0)(frozenset({"bed-0"}), "up") is None


def test_nodes_are_told_whether_samples_are_on_their_files_way() -> None:
    deployment = deployed("cloud", up_mbit_s=10.0)
    endpoints = {name: Endpoints("mqtt://h:1", "http://h:2") for name in deployment.nodes}
    assert slice_for(deployment, ["bed-0", "bed-2"], endpoints, {}).by_turns == {"bed-0", "bed-2"}
    assert slice_for(deployment, ["ward-1"], endpoints, {}).by_turns == {"ward-1"}
    assert not slice_for(deployed("edge", up_mbit_s=10.0), ["bed-0"], endpoints, {}).by_turns
