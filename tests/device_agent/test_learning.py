"""Which of an agent's workloads are learned in one process, and whose devices are asked together."""

from __future__ import annotations

from device_agent.learner_messages import AppSpec, BuiltInSpec
from device_agent.learning import by_process, learns_together, sharers
from edgebench.fabric.slices import Endpoints, Slice
from edgebench.topology.deployment import FederatedPlan, NodePlan
from edgebench.topology.model import Federated, Learners

ON_LITERT = BuiltInSpec("/bundles/a", "litert")


def here(*by_turns: str, **ways: str) -> Slice:
    """Devices by their names, with where each finds files."""
    return Slice(
        "run",
        seed=0,
        duration_s=1.0,
        nodes={name: NodePlan(name, "bed", "device", "host", "ward", ()) for name in ways},
        endpoints={name: Endpoints("mqtt://127.0.0.1:1", way) for name, way in ways.items()},
        workloads={},
        shares={},
        by_turns=frozenset(by_turns),
    )


def of(*clients: str) -> FederatedPlan:
    return FederatedPlan(Federated(workload="watch"), clients, {})


def test_keras_gets_a_process_for_each_backend_and_apps_choose_for_themselves() -> None:
    app = AppSpec("/apps/mine", {}, clients=4, run_id=5)
    step, on_torch, on_tensorflow = (BuiltInSpec(f"/bundles/{each}", each) for each in ("litert", "torch", "keras"))
    learned: dict[str, AppSpec | BuiltInSpec] = {
        "a": app,
        "b": step,
        "c": on_torch,
        "d": on_tensorflow,
        "e": on_torch,
        "f": on_torch,
    }
    own = Learners(threads=2)
    assert by_process(learned, {**dict.fromkeys(learned, Learners()), "f": own}) == {
        (None, Learners()): {"a": app, "b": step},
        ("torch", Learners()): {"c": on_torch, "e": on_torch},
        ("tensorflow", Learners()): {"d": on_tensorflow},
        ("torch", own): {"f": on_torch},
    }


def test_devices_share_a_way_where_no_link_of_their_own_is_emulated_and_no_network_lies_between() -> None:
    cloud, relay, far = "http://127.0.0.1:8000", "http://127.0.0.1:9001", "http://10.0.0.2:8000"
    devices = here("c", a=cloud, b=cloud, c=cloud, d=relay, e=far, f=far, g=cloud)
    # c has samples on the way; d is behind an emulated link; e and f are across a network; g does not take part.
    assert sharers(devices, of("a", "b", "c", "d", "e", "f", "elsewhere")) == {"a", "b"}
    assert sharers(devices, of("a", "d")) == frozenset()


def test_devices_are_asked_together_where_all_of_them_share_a_way_and_only_compute() -> None:
    cloud, relay = "http://127.0.0.1:8000", "http://127.0.0.1:9001"
    devices = here(a=cloud, b=cloud, c=cloud, d=relay)
    assert learns_together(devices, of("a", "b", "c"), ON_LITERT, ())
    assert learns_together(devices, of("a", "b", "elsewhere"), ON_LITERT, {"c"})
    assert not learns_together(devices, of("a", "b", "d"), ON_LITERT, ())
    assert not learns_together(devices, of("a", "b"), ON_LITERT, {"b"})
    assert not learns_together(here("b", a=cloud, b=cloud), of("a", "b"), ON_LITERT, ())
    assert not learns_together(devices, of("a", "b"), BuiltInSpec("/bundles/a", "torch"), ())
    assert not learns_together(devices, of("a", "b"), AppSpec("/apps/mine", {}, clients=2, run_id=5), ())
