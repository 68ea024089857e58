"""What containers cannot do of a topology is told before anything is made."""

from __future__ import annotations

from typing import cast

import pytest

from edgebench.containers.engine import Engine
from edgebench.errors import TopologyError
from edgebench.executors.container_fleet import ContainerFleet
from edgebench.topology.link_model import Link
from tests.containers.deployments import deployment


def test_a_link_that_is_shared_over_sites_is_refused_and_one_to_the_cloud_is_not() -> None:
    fleet = ContainerFleet(cast(Engine, None), None)
    to_cloud = deployment(links=(Link(between=("ward", "cloud"), rate_mbit_s=5.0, shared=True),))
    assert fleet.place(to_cloud, "t.yaml").nodes["ward-1"].machine == "ward-1"
    over_sites = deployment(links=(Link(between=("bed", "ward"), rate_mbit_s=5.0, shared=True),))
    with pytest.raises(TopologyError) as refused:
        fleet.place(over_sites, "t.yaml")
    assert str(refused.value) == (
        "t.yaml: $.links: links that share their rates have to end on one machine, and those of 'bed -> ward' end on"
        " ward-0, ward-1 (remove shared)"
    )
