"""How large messages become, beside messages that are made as nodes make them."""

from __future__ import annotations

import msgspec
import numpy as np

from edgebench.core.samples import Decision, Stamps
from edgebench.fabric import wire
from edgebench.fabric.message_sizes import Sizes, Ways, message_problems, sizes_of
from edgebench.inference.spec import TensorSpec
from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment, WorkloadPlan
from edgebench.topology.model import Fixed, Jpeg, NodeGroup, Place, Topology, Workload
from edgebench.topology.profiles import DataSheet
from tests.profiles import SLOW, message, profile

SAMPLE = TensorSpec("uint8", (3, 112, 112, 3))
"""Three frames, as those of action-recognition on UCF101."""
NOW_NS = 10**18


def deployment(infer: Place, *, profiled: str = "ward", messages_up_to: int = 65_600) -> Deployment:
    groups = {
        "cloud": NodeGroup(tier="cloud"),
        "ward": NodeGroup(tier="edge", parent="cloud"),
        "bed": NodeGroup(tier="device", parent="ward"),
    }
    nodes = {**groups, profiled: msgspec.structs.replace(groups[profiled], profile="p.json")}
    split = 1 if infer.infer == ("edge", "cloud") else None
    workload = Workload(task="signs", source="bed", load=Fixed(rate_hz=1.0), place=infer, split=split)
    topology = Topology(schema=1, name="t", nodes=nodes, workloads={"seen": workload})
    knows = profile(messages=(message(100, 1.0, 2.0, 3.0), message(messages_up_to, 3.0, 6.0, 9.0)))
    return resolve(topology, run_id="r", executor="local", profiles={"p.json": knows})


def problems(found: Deployment, sizes: Sizes) -> list[tuple[str, str]]:
    return list(message_problems(found, lambda _: sizes))


def plan_of(found: Deployment) -> WorkloadPlan:
    return found.workloads["seen"]


def test_samples_and_decisions_are_a_little_smaller_than_they_are_said_to_become_at_most() -> None:
    found = deployment(Place(infer="cloud"))
    sizes = sizes_of(plan_of(found), found, SAMPLE, outputs=101)
    x = np.zeros(SAMPLE.shape, np.uint8)
    envelope = wire.encode(
        wire.Sample(wire.VERSION, 7, 0, NOW_NS, NOW_NS, NOW_NS, "uint8", x.shape, None, memoryview(x.tobytes()))
    )
    passed_on = wire.encode(wire.Forward(wire.VERSION, "bed", NOW_NS, NOW_NS, memoryview(envelope)))
    stamps = Stamps(*(NOW_NS,) * 9)
    decision = wire.encode(Decision(wire.VERSION, 7, 0, "cloud", "d" * 64, bytes(4 * 101), 32, stamps))
    assert x.nbytes < len(envelope) <= sizes.sample < len(envelope) + 16
    assert len(passed_on) <= sizes.passed_on < len(passed_on) + 32
    assert len(decision) <= sizes.decision < len(decision) + 128


def test_what_is_compressed_or_cut_is_not_known_before_the_model_is() -> None:
    found = deployment(Place(infer=("edge", "cloud")))
    assert sizes_of(plan_of(found), found, SAMPLE).passed_on == 0
    cut = sizes_of(plan_of(found), found, SAMPLE, handed_on=24_576)
    assert 98_304 < cut.passed_on < 98_304 + 256
    compressed = msgspec.structs.replace(plan_of(found), compress=Jpeg(), split=None)
    assert sizes_of(compressed, found, SAMPLE) == Sizes()


def test_a_message_larger_than_any_of_the_profile_is_told_with_the_command_that_measures_it() -> None:
    found = deployment(Place(infer="edge"))
    ((path, problem),) = problems(found, Sizes(sample=112_960, passed_on=200_000))
    assert path == "$.nodes.ward.profile"
    assert problem == (
        "'slow-board' has no times of messages of 112,960 bytes with qos 1, as seen has them, only up to 65,600 "
        "(measure them: edgebench profile --task signs --message-bytes 112960)"
    )
    assert problems(found, Sizes(sample=65_600)) == []
    assert len(problems(found, Sizes(decision=65_601))) == 1


def test_each_node_is_asked_for_the_messages_that_pass_it_alone() -> None:
    cut = Sizes(sample=1_000, passed_on=98_400, decision=100)
    for profiled, of in (("bed", 0), ("ward", 1), ("cloud", 1)):
        assert len(problems(deployment(Place(infer=("edge", "cloud")), profiled=profiled), cut)) == of
    sample = Sizes(sample=98_400, passed_on=98_450)
    for profiled, of in (("bed", 0), ("ward", 0)):
        found = deployment(Place(infer="device"), profiled=profiled)
        assert not Ways.of(plan_of(found), found).travel_by(found.nodes[profiled])
        assert len(problems(found, sample)) == of


def test_a_machine_by_a_data_sheet_has_the_one_measured_that_it_is_like() -> None:
    found = deployment(Place(infer="edge"))
    sheet = DataSheet(1, "slow-board", cores=2, memory_mb=1000, like="pi.json", times_slower=2.0, source="a paper")
    found = msgspec.structs.replace(found, profiles={"slow-board": sheet.scaled(SLOW)})
    (problem,) = problems(found, Sizes(sample=100_001))
    assert problem[1].endswith("(measure 'slow-board' anew: edgebench profile --task signs --message-bytes 100001)")
