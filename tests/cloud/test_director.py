"""When the streams begin."""

from __future__ import annotations

import pytest

from cloud.director import headstart_s
from edgebench.topology import resolve
from edgebench.topology.link_model import Link
from edgebench.topology.model import NodeGroup, Poisson, Topology, Workload


def headstart_of(devices: int, *links: Link) -> float:
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", parent="cloud"),
            "bed": NodeGroup(tier="device", count=devices, parent="ward"),
        },
        links=links,
        workloads={"death": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0))},
    )
    return headstart_s(resolve(topology, run_id="r", executor="local"))


def test_the_start_is_ahead_by_what_devices_take_and_by_the_longest_way_four_times() -> None:
    assert headstart_of(1) == pytest.approx(0.5003)
    assert headstart_of(10_000) == pytest.approx(3.5)
    uplink = Link(between=("ward", "cloud"), latency_ms=100.0, jitter_ms=10.0)
    assert headstart_of(10, uplink, Link(between=("bed", "ward"), latency_ms=20.0)) == pytest.approx(1.103)


def test_where_packets_get_lost_there_is_time_to_send_them_again() -> None:
    assert headstart_of(10, Link(between=("ward", "cloud"), loss_percent=1.0)) == pytest.approx(1.503)
