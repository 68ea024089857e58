"""What machines drew and would have drawn, worked out by hand."""

from __future__ import annotations

import msgspec
import pytest

from edgebench.core.releases import Releases
from edgebench.fabric.records import RAPL, HostUsage, Metered
from edgebench.results.energy import energy_figures
from edgebench.topology.link_model import LinkEnergy
from edgebench.topology.profiles import Power
from tests.profiles import SLOW, profile
from tests.results import factory
from tests.results.factory import at_ms

METERED = profile(power=Power(2.0, 6.0, "a plug", measured=True))
"""Two cores."""


def test_a_machine_draws_its_idle_power_and_more_by_the_share_of_its_cores_that_is_busy() -> None:
    found = energy_figures(METERED, Releases(busy_ns=5_000_000_000), 10.0)
    assert found is not None
    assert (found.busy_share, found.idle_j, found.work_j, found.mean_w) == (0.25, 20.0, 10.0, 3.0)
    assert (found.how, found.source) == ("modelled", "a plug (measured)")


def test_work_that_is_done_after_the_streams_is_drawn_for_as_well() -> None:
    found = energy_figures(METERED, Releases(busy_ns=50_000_000_000), 10.0)
    assert found is not None
    assert (found.busy_share, found.idle_j, found.work_j, found.mean_w) == (1.0, 20.0, 100.0, 12.0)


def test_a_profile_that_tells_no_power_has_no_energy() -> None:
    assert energy_figures(SLOW, Releases(busy_ns=1), 10.0) is None


def test_a_links_bytes_cost_what_the_topology_says_of_a_byte_and_nothing_is_told_where_it_says_nothing() -> None:
    deployment = factory.deployment()
    bed, ward = deployment.links.values()
    links = {bed.name: msgspec.structs.replace(bed, energy=LinkEnergy(2_000.0, 500.0, "a paper")), ward.name: ward}
    plan = msgspec.structs.replace(deployment, links=links)
    found = factory.result(plan, factory.observations(), [factory.row(0, 0)])
    energy = found.links[bed.name].energy
    assert energy is not None
    assert (energy.how, energy.up_j, energy.down_j, energy.source) == ("modelled", 0.1168, 0.00024, "a paper")
    assert energy.counted == "whole run"
    assert found.links[ward.name].energy is None


def test_what_a_meter_told_counts_as_far_as_it_is_of_the_streams() -> None:
    told = [(-500, 500, 20.0), (500, 1_500, 40.0), (1_500, 2_500, None), (3_500, 4_500, 10.0)]
    usage = [HostUsage(at_ms(to), 0.5, 0.0, since_ns=at_ms(since), watts=watts) for since, to, watts in told]
    observed = factory.observations(host_usage=usage, meters={"here": Metered("a plug", "it fell")})
    found = factory.result(factory.deployment(), observed, [factory.row(0, 0)])
    energy = found.machines["here"].energy
    assert energy is not None
    assert energy.metered_s == pytest.approx(0.5 + 1.0 + 0.5)  # of streams of 4 s
    assert energy.j == pytest.approx(10.0 + 40.0 + 5.0)
    assert (energy.how, energy.mean_w, energy.source, energy.failed) == ("measured", 27.5, "a plug", "it fell")


def test_what_a_processor_tells_stands_with_one_of_the_machines_that_share_it_and_a_plug_with_each() -> None:
    usage = [HostUsage(at_ms(4_000), 0.5, 0.0, since_ns=at_ms(0), watts=20.0)]
    machines = factory.board("pi", host_usage=usage) | factory.board("other", host_usage=usage)
    facts = msgspec.structs.replace(machines["pi"].facts, computer="here")
    machines["pi"] = msgspec.structs.replace(machines["pi"], facts=facts)
    for source, having in ((RAPL, {"here", "other"}), ("a plug", {"here", "pi", "other"})):
        meters = dict.fromkeys(("here", *machines), Metered(source))
        observed = factory.observations(host_usage=usage, meters=meters, machines=machines)
        found = factory.result(factory.deployment(), observed, [factory.row(0, 0)])
        assert {name for name, machine in found.machines.items() if machine.energy is not None} == having


def test_a_machine_without_a_meter_has_no_energy() -> None:
    found = factory.result(factory.deployment(), factory.observations(), [factory.row(0, 0)])
    assert found.machines["here"].energy is None
