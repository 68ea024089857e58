"""What a deployment says of how long decisions take."""

from __future__ import annotations

import msgspec
import pytest

from edgebench.core.expecting import expected_of
from edgebench.core.timeouts import Expected
from edgebench.topology import resolve
from edgebench.topology.fault_model import Fault
from edgebench.topology.link_model import Link, LinkChange, Outage
from edgebench.topology.model import Batch, Move, NodeGroup, Place, Poisson, Tier, Topology, Workload

LINKS = (
    Link(between=("bed", "ward"), latency_ms=5.0, jitter_ms=1.0, rate_mbit_s=0.08),
    Link(between=("ward", "cloud"), latency_ms=50.0, rate_mbit_s=0.8, shared=True),
)


def expected(
    infer: Tier, *, moves: tuple[Move, ...] = (), faults: tuple[Fault, ...] = (), links: tuple[Link, ...] = LINKS
) -> Expected:
    """Two wards with two beds each; a bed's link is its own, the wards' is shared."""
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
            "bed": NodeGroup(tier="device", count=4, parent="ward"),
        },
        links=links,
        workloads={
            "w": Workload(
                task="icu-death",
                source="bed",
                load=Poisson(rate_hz=1.0),
                deadline_ms=150.0,
                place=Place(infer=infer),
                batch=Batch() if infer == "device" else Batch(max_wait_ms=20.0),
            )
        },
        moves=moves,
        faults=faults,
    )
    deployment = resolve(topology, run_id="r", executor="local")
    return expected_of(deployment.workloads["w"], deployment)


def test_what_a_device_decides_crosses_no_link() -> None:
    assert expected("device") == Expected(at_least_s=0.15)


def test_what_an_edge_decides_crosses_the_devices_own_link_there_and_back() -> None:
    asked = expected("edge")
    assert (asked.fixed_s, asked.s_per_byte, asked.at_least_s) == pytest.approx((0.032, 1e-4, 0.15))


def test_what_the_cloud_decides_waits_behind_a_sample_of_all_that_share_the_uplink() -> None:
    # 8 bits at 0.08 Mbit/s, and four times 8 bits at 0.8 Mbit/s.
    asked = expected("cloud")
    assert asked.fixed_s == pytest.approx(0.132)
    assert asked.s_per_byte == pytest.approx(1e-4 + 4e-5)


def test_a_cut_link_counts_where_decisions_cross_it_until_it_is_back() -> None:
    faults = (
        Fault(at_s=5.0, kind="down", link="ward-0 -> cloud", for_s=60.0),
        Fault(at_s=9.0, kind="down", link="bed-1 -> ward-1", for_s=2.0),
        Fault(at_s=9.0, kind="down", link="bed-2 -> ward-0"),
    )
    assert expected("edge", faults=faults).back_s == 11.0
    restarted = (Fault(at_s=20.0, kind="restart", node="ward-0", for_s=3.0),)
    assert expected("edge", faults=(*faults, *restarted)).back_s == 23.0
    assert expected("cloud", faults=faults).back_s == 65.0
    assert expected("device", faults=faults).back_s == 0.0


def test_a_device_whose_way_is_cut_for_good_is_cut_off_where_all_its_decisions_cross_that() -> None:
    faults = (
        Fault(at_s=5.0, kind="down", link="ward-0 -> cloud"),
        Fault(at_s=9.0, kind="down", link="bed-1 -> ward-1", for_s=2.0),
        Fault(at_s=4.0, kind="down", link="bed-2 -> ward-0"),
    )
    assert expected("edge", faults=faults).cut_s == {"bed-2": 4.0}
    assert expected("cloud", faults=faults).cut_s == {"bed-0": 5.0, "bed-2": 4.0}
    assert expected("device", faults=faults).cut_s == {}
    degraded = (Fault(at_s=3.0, kind="degrade", link="bed-2 -> ward-0", to=LinkChange(latency_ms=500.0)),)
    assert expected("edge", faults=degraded).cut_s == {}
    assert expected("edge", faults=degraded).fixed_s == pytest.approx(0.02 + 2 * 0.501)
    killed = (Fault(at_s=3.0, kind="kill", node="ward-0"), Fault(at_s=2.0, kind="kill", site="ward-1"))
    assert expected("edge", faults=killed).cut_s == {"bed-0": 3.0, "bed-1": 2.0, "bed-2": 3.0, "bed-3": 2.0}
    assert expected("device", faults=killed).cut_s == {"bed-1": 2.0, "bed-3": 2.0}
    moves = (Move(at_s=6.0, node="bed-2", to="ward-1"),)
    assert expected("edge", faults=faults, moves=moves).cut_s == {}


def test_after_an_outage_tcp_may_take_as_long_again_to_be_heard() -> None:
    outages = (Outage(at_s=2.0, for_s=3.0), Outage(at_s=1.0, for_s=0.5, every_s=10.0), Outage(at_s=29.0, reset=True))
    link = Link(between=("bed", "ward"), outages=outages)
    assert expected("edge", links=(link,)).back_s == 29.0
    assert expected("edge", links=(msgspec.structs.replace(link, outages=outages[:2]),)).back_s == 22.0
    assert expected("edge", links=(msgspec.structs.replace(link, outages=outages[:1]),)).back_s == 8.0


def test_delays_with_a_heavy_tail_are_waited_for() -> None:
    link = Link(between=("bed", "ward"), latency_ms=5.0, jitter_ms=2.0, jitter="pareto")
    assert expected("edge", links=(link,)).fixed_s == pytest.approx(0.02 + 2 * (5 + 2 * 3.628) / 1e3, abs=1e-4)
