"""What each node may do at each broker, held against what nodes send and hear."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgebench.experiments.broker_check import traffic
from edgebench.fabric import topics
from edgebench.fabric.brokers.permissions import permissions_at
from edgebench.fabric.brokers.settings import Permission
from edgebench.fabric.topics import covers
from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Federated, Move, NodeGroup, Online, Place, Placing, Poisson, Topology, Workload

RUN = "r"


def deployment(
    infer: Any = "cloud", *, learning: bool = False, moving: bool = False, online: bool = False
) -> Deployment:
    split = 1 if isinstance(infer, tuple) else None
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
            "bed": NodeGroup(tier="device", count=4, parent="ward"),
        },
        workloads={
            "w": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0), place=Place(infer), split=split)
        },
        federated=(Federated(workload="w", rounds=1),) if learning else (),
        moves=(Move(at_s=1.0, node="bed-0", to="ward-1"),) if moving else (),
        place=Placing(online=Online() if online else None),
    )
    return resolve(topology, run_id=RUN, executor="local")


def publishes(may: Permission, topic: str) -> bool:
    return any(covers(each, topic) for each in may.publish)


def hears(may: Permission, topic: str) -> bool:
    return any(covers(each, topic) for each in may.subscribe)


CHAINS = [("device", "edge"), ("device", "cloud"), ("edge", "cloud")]


@pytest.mark.parametrize("infer", ["device", "edge", "cloud", "cascade", "online", *CHAINS])
@pytest.mark.parametrize("learning", [False, True])
def test_whatever_a_run_sends_somebody_may_publish_and_another_hear(infer: Any, learning: bool) -> None:
    online = infer == "online"
    planned = deployment("edge" if online else infer, learning=learning, online=online)
    brokers = [permissions_at(planned, site).values() for site in ("cloud", "ward-0")]
    for each in traffic(planned, {}):
        probe = each.topic.split("/")[1]
        topic, heard_on = (text.replace(probe, RUN) for text in (each.topic, each.heard_on))
        at = [
            users
            for users in brokers
            if any(publishes(may, topic) for may in users) and any(hears(may, heard_on) for may in users)
        ]
        is_status = topic == topics.status(RUN, "ward-0") and not learning  # nobody asks for it then
        assert at or is_status, topic


def test_who_is_at_which_broker() -> None:
    planned = deployment(moving=True)
    assert set(permissions_at(planned, "cloud")) == {"cloud", "ward-0", "ward-1"}
    assert set(permissions_at(planned, "ward-0")) == {"ward-0", "bed-0", "bed-2"}
    assert set(permissions_at(planned, "ward-1")) == {"ward-1", "bed-0", "bed-1", "bed-3"}


def test_a_device_speaks_for_itself_alone_and_hears_what_is_its_own() -> None:
    bed = permissions_at(deployment("edge", learning=True), "ward-0")["bed-0"]
    assert publishes(bed, topics.sample(RUN, "bed-0", "w"))
    assert publishes(bed, topics.status(RUN, "bed-0"))
    assert publishes(bed, topics.fl_site_up(RUN, "w", "bed-0"))
    assert hears(bed, topics.decision(RUN, "bed-0", "w"))
    assert hears(bed, topics.fl_site_down(RUN, "w", "bed-0"))
    others = (
        topics.sample(RUN, "bed-2", "w"),
        topics.status(RUN, "ward-0"),
        topics.status(RUN, "bed-2"),
        topics.decision(RUN, "bed-0", "w"),
        topics.site_models(RUN, "ward-0", "w"),
        topics.fl_site_up(RUN, "w", "bed-2"),
        topics.fl_site_down(RUN, "w", "bed-0"),
        topics.sample("another-run", "bed-0", "w"),
    )
    assert not any(publishes(bed, topic) for topic in others)
    unheard = (
        topics.sample(RUN, "bed-0", "w"),
        topics.decision(RUN, "bed-2", "w"),
        topics.decision(RUN, "+", "w"),
        topics.status(RUN, "+"),
        topics.fl_site_up(RUN, "w", "bed-0"),
    )
    assert not any(hears(bed, topic) for topic in unheard)


def test_a_device_hears_of_models_only_where_it_has_one() -> None:
    models = topics.site_models(RUN, "ward-0", "w")
    for infer in ("device", ("device", "edge"), ("device", "cloud")):
        assert hears(permissions_at(deployment(infer), "ward-0")["bed-0"], models)
    for infer in ("edge", ("edge", "cloud")):
        assert not hears(permissions_at(deployment(infer), "ward-0")["bed-0"], models)


def test_an_edge_speaks_at_the_cloud_for_itself_alone() -> None:
    ward = permissions_at(deployment("cloud", learning=True), "cloud")["ward-0"]
    assert publishes(ward, topics.forward(RUN, "ward-0", "w"))
    assert publishes(ward, topics.fl_up(RUN, "w", "ward-0", "bed-0"))
    assert publishes(ward, topics.fl_status(RUN, "w", "ward-0", "bed-0"))
    assert hears(ward, topics.answer(RUN, "ward-0", "w"))
    assert not publishes(ward, topics.models(RUN, "w"))
    assert not publishes(ward, topics.forward(RUN, "ward-1", "w"))
    assert not publishes(ward, topics.fl_up(RUN, "w", "ward-1", "bed-1"))
    assert not hears(ward, topics.answer(RUN, "ward-1", "w"))
    assert not hears(ward, topics.fl_down(RUN, "w", "ward-1", "bed-1"))


def test_an_edge_tries_the_cloud_in_its_own_name_alone_and_only_where_it_may_move_to_it() -> None:
    trial, tried = topics.trial(RUN, "ward-0", "w"), topics.tried(RUN, "ward-0", "w")
    may = permissions_at(deployment("edge", online=True), "cloud")
    assert [user for user, each in may.items() if publishes(each, trial)] == ["ward-0"]
    assert [user for user, each in may.items() if hears(each, trial)] == ["cloud"]
    assert [user for user, each in may.items() if publishes(each, tried)] == ["cloud"]
    assert [user for user, each in may.items() if hears(each, tried)] == ["ward-0"]
    assert not any(publishes(each, trial) for each in permissions_at(deployment("edge"), "cloud").values())


def test_only_the_cloud_announces_models_to_edges() -> None:
    may = permissions_at(deployment(), "cloud")
    assert [user for user, each in may.items() if publishes(each, topics.models(RUN, "w"))] == ["cloud"]


def test_a_board_that_plays_a_device_sends_samples_and_hears_decisions_by_its_own_name_and_nothing_else() -> None:
    planned = deployment("edge", learning=False)
    played = msgspec.structs.replace(planned.nodes["bed-0"], board="esp-1")
    planned = msgspec.structs.replace(planned, nodes={**planned.nodes, "bed-0": played})
    may = permissions_at(planned, "ward-0")
    assert "bed-0" not in may
    assert may["esp-1"] == Permission((topics.sample("now", "esp-1", "w"),), (topics.decision("now", "esp-1", "+"),))
    assert hears(may["ward-0"], topics.sample("now", "esp-1", "w"))
    assert publishes(may["ward-0"], topics.decision("now", "esp-1", "w"))
    elsewhere = permissions_at(planned, "ward-1")
    assert "esp-1" not in elsewhere
    assert not hears(elsewhere["ward-1"], topics.sample("now", "esp-1", "w"))


def test_without_a_federation_nobody_may_use_its_topics() -> None:
    planned = deployment()
    for site in ("cloud", "ward-0"):
        for may in permissions_at(planned, site).values():
            assert not any("/fl/" in topic for topic in (*may.publish, *may.subscribe))
    assert msgspec.structs.replace(planned, federated={}) == planned
