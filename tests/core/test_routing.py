"""What an edge does with which of its devices."""

from __future__ import annotations

from edgebench.core.routing import is_sparse, roles_at
from edgebench.topology.deployment import NodePlan
from edgebench.topology.model import After, Move
from tests.core.ward import plan

WARD = NodePlan("ward-0", "ward", "edge", "host", "cloud", ("bed-0", "bed-1", "bed-2", "cam"), elsewhere=("bed-3",))


def test_devices_of_one_site_may_be_decided_on_every_tier() -> None:
    deciders = {"bed-0": "ward-0", "bed-1": "cloud", "bed-2": "bed-2", "bed-3": "ward-0"}
    roles = roles_at(WARD, plan(deciders=deciders))
    assert roles == (("bed-0", "bed-3"), ("bed-1",), ("bed-2",))


def test_a_workload_of_other_devices_is_none_of_its() -> None:
    assert roles_at(WARD, plan(deciders={"bed-9": "ward-1"})) == ((), (), ())


def test_gaps_say_nothing_where_devices_move_or_wait_for_others() -> None:
    assert not is_sparse(plan(), ())
    assert is_sparse(plan(), (Move(at_s=1.0, node="bed-3", to="ward-0"),))
    assert is_sparse(plan(load=After(workloads=("o",))), ())
