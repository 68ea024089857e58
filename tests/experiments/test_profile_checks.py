"""What a profile does not hold of what its nodes would do is named before anything starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgebench.errors import TopologyError
from edgebench.experiments.deployment_checks import checked_deployment
from edgebench.experiments.profiling.messages import BESIDE_BYTES
from edgebench.tasks import task_named
from edgebench.topology import load
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import PictureCost, Profile, TrainingCost
from tests.profiles import SLOW, inference, message, ms_times, profile
from tests.topology.sound import edited

MEASURE = "(measure them: edgebench profile)"
EDGE = ("ward: {tier: edge, count: 2, parent: cloud}", "ward: {tier: edge, count: 2, parent: cloud, profile: p.json}")
CLOUD = ("cloud: {tier: cloud}", "cloud: {tier: cloud, profile: p.json}")
DEVICE = ("count: 3,", "count: 3, profile: p.json,")
LOAD = "load: {kind: fixed, rate_hz: 2}\n"
FAKE = (LOAD, f"{LOAD}    model: {{runtime: fake}}\n")


def problems(tmp_path: Path, described: Profile, *changes: tuple[str, str], more: str = "") -> list[str]:
    (tmp_path / "p.json").write_bytes(written(described))
    file = tmp_path / "small.yaml"
    file.write_text(edited(*changes) + more)
    try:
        checked_deployment(load(file), file, "local")
    except TopologyError as error:
        return [each.removeprefix(f"{file}: $.nodes.") for each in error.problems]
    return []


def test_a_profile_that_holds_all_is_taken(tmp_path: Path) -> None:
    assert problems(tmp_path, SLOW, EDGE, FAKE) == []
    assert problems(tmp_path, SLOW, EDGE, CLOUD, DEVICE, FAKE) == []


def test_models_and_batches_that_were_not_measured_are_named(tmp_path: Path) -> None:
    assert problems(tmp_path, SLOW, EDGE) == [
        f"ward.profile: 'slow-board' has no times of icu-death, light, litert, float32 for batches of 1, 8 {MEASURE}"
    ]
    only_one = profile(inference=(inference(1, 5.0, runtime="litert"),))
    assert problems(tmp_path, only_one, EDGE) == [
        f"ward.profile: 'slow-board' has no times of icu-death, light, litert, float32 for batches of 8 {MEASURE}"
    ]
    # A device decides one by one, and its samples do not travel.
    alone = profile(inference=(inference(1, 5.0, runtime="litert"),), messages=())
    assert problems(tmp_path, alone, DEVICE, (LOAD, f"{LOAD}    place: {{infer: device}}\n")) == []


def test_a_cut_is_not_chosen_where_some_edges_alone_are_emulated(tmp_path: Path) -> None:
    more = "  hall: {tier: edge, parent: cloud}\n  chair: {tier: device, parent: hall}\n"
    hall = ("parent: ward}\n", f"parent: ward}}\n{more}")
    both = ("source: bed", "source: [bed, chair]")
    described = profile(inference=tuple(inference(batch, 20.0, runtime="litert") for batch in (1, 8, 32)))
    chain = f"{LOAD}    place: {{infer: [edge, cloud]}}\n    split: "
    assert problems(tmp_path, described, EDGE, hall, both, (LOAD, f"{chain}1\n")) == []
    (problem,) = problems(tmp_path, described, EDGE, hall, both, (LOAD, f"{chain}auto\n"))
    assert problem.endswith(
        "$.workloads.risk.split: some of its edges are emulated and some are not, and no place is the best for both "
        "(write the number of one)"
    )


def test_a_runtime_that_is_never_measured_is_not_to_be_measured(tmp_path: Path) -> None:
    keras = (LOAD, f"{LOAD}    model: {{runtime: keras}}\n")
    (problem,) = problems(tmp_path, SLOW, EDGE, keras)
    assert problem.endswith(
        "(edgebench profile measures litert and onnx alone: set model.runtime to one, or write them down)"
    )


def test_messages_and_pictures_that_were_not_measured_are_named(tmp_path: Path) -> None:
    assert problems(tmp_path, SLOW, EDGE, (LOAD, f"{LOAD}    model: {{runtime: fake}}\n    qos: 0\n")) == [
        f"ward.profile: 'slow-board' has no times of messages with qos 0 {MEASURE}"
    ]
    faces = (LOAD, f"{LOAD}    model: {{runtime: fake}}\n    compress: {{kind: jpeg}}\n")
    of_faces = profile(inference=tuple(inference(n, 9.0, task="face-recognition") for n in (1, 8, 32)))
    assert problems(tmp_path, of_faces, DEVICE, EDGE, faces, ("icu-death", "face-recognition")) == [
        f"{group}.profile: 'slow-board' has no times of pictures of face-recognition at quality 75 {MEASURE}"
        for group in ("ward", "bed")
    ]
    pictures = (PictureCost("face-recognition", 75, ms_times(1.0), ms_times(2.0)),)
    whole = profile(inference=of_faces.inference, pictures=pictures)
    assert problems(tmp_path, whole, DEVICE, EDGE, faces, ("icu-death", "face-recognition")) == []


@pytest.mark.parametrize("online", [True, False])
def test_a_cloud_that_may_decide_pictures_has_to_have_their_times(tmp_path: Path, online: bool) -> None:
    place = "    place: {infer: cloud}\n"
    faces = (LOAD, f"{LOAD}{place}    model: {{runtime: fake}}\n    compress: {{kind: jpeg}}\n")
    of_faces = profile(inference=tuple(inference(n, 9.0, task="face-recognition") for n in (1, 8, 32)))
    more = "place: {online: {}}\n" * online
    assert problems(tmp_path, of_faces, CLOUD, faces, ("icu-death", "face-recognition"), more=more) == [
        f"cloud.profile: 'slow-board' has no times of pictures of face-recognition at quality 75 {MEASURE}"
    ]


def test_samples_larger_than_any_message_that_was_measured_are_refused_with_the_command_that_measures_them(
    tmp_path: Path,
) -> None:
    small = profile(messages=(message(100, 1.0, 2.0, 3.0),))
    (problem,) = problems(tmp_path, small, EDGE, FAKE)
    found = re.fullmatch(
        r"ward\.profile: 'slow-board' has no times of messages of ([\d,]+) bytes with qos 1, as risk has them, only "
        r"up to 100 \(measure them: edgebench profile --task icu-death --message-bytes (\d+)\)",
        problem,
    )
    assert found is not None
    size = int(found[2])
    assert found[1] == f"{size:,}"
    payload = task_named("icu-death").load(None, seed=0).spec.size_bytes
    assert payload < size < payload + BESIDE_BYTES
    measured = profile(messages=(message(100, 1.0, 2.0, 3.0), message(size, 1.0, 2.0, 3.0)))
    assert problems(tmp_path, measured, EDGE, FAKE) == []
    # On its way to the cloud a sample has some bytes more.
    (problem,) = problems(tmp_path, measured, CLOUD, (LOAD, f"{FAKE[1]}    place: {{infer: cloud}}\n"))
    assert f"only up to {size:,}" in problem
    # What a device decides does not travel, nor past its edge.
    on_device = (LOAD, f"{FAKE[1]}    place: {{infer: device}}\n")
    assert problems(tmp_path, small, DEVICE, EDGE, on_device) == []


def test_an_emulated_edge_or_cloud_is_refused_with_a_broker_that_is_not_beside_it(tmp_path: Path) -> None:
    broker = "broker: {url: mqtt://broker.example}\n"
    elsewhere = "broker beside it, and the run has one elsewhere (use host)"
    assert problems(tmp_path, SLOW, EDGE, CLOUD, DEVICE, FAKE, more=broker) == [
        f"{group}.profile: 'slow-board' has the {tier}'s {elsewhere}"
        for group, tier in (("cloud",) * 2, ("ward", "edge"))
    ]
    assert problems(tmp_path, SLOW, DEVICE, FAKE, more=broker) == []


def test_the_memory_of_a_profile_is_a_limit_in_containers_and_refused_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(written(SLOW))
    file = tmp_path / "small.yaml"
    file.write_text(edited((EDGE[0], EDGE[1].replace("p.json}", "p.json, memory_mb: profile}")), FAKE))
    nodes = checked_deployment(load(file), file, "containers").nodes
    assert {node.group: node.memory_mb for node in nodes.values()} == {"cloud": None, "ward": 1000, "bed": None}
    for executor in ("local", "lab", "simulate"):
        with pytest.raises(TopologyError, match=rf"ward.memory_mb: the {executor} executor cannot enforce a limit"):
            checked_deployment(load(file), file, executor)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("federated:\n  - {workload: risk, rounds: 1}\n", "aggregating what devices have learned (use host)"),
        ("    rollout: [{at_s: 1}]\n", "training while streams run (use host, or remove rollout)"),
    ],
)
def test_what_no_profile_emulates_is_refused(more: str, expected: str, tmp_path: Path) -> None:
    litert = profile(inference=tuple(inference(n, 9.0, runtime="litert") for n in (1, 8, 32)))
    assert problems(tmp_path, litert, CLOUD, more=more) == [f"cloud.profile: 'slow-board' has no times of {expected}"]


def test_a_training_step_that_was_not_measured_is_named_with_how_to_measure_it(tmp_path: Path) -> None:
    whole = profile(
        inference=tuple(inference(n, 9.0, runtime="litert") for n in (1, 8, 32)),
        training=(TrainingCost("icu-death", "light", "litert", 32, ms_times(1.0), ms_times(2.0)),),
    )
    learning = "federated:\n  - {workload: risk, rounds: 1, batch_size: %d, fit: {runtime: %s}}\n"
    assert problems(tmp_path, whole, DEVICE, more=learning % (32, "litert")) == []
    (found,) = problems(tmp_path, whole, DEVICE, more=learning % (16, "litert"))
    assert found.endswith("icu-death, light, litert, 16 samples (measure them: edgebench profile --train-batch 16)")
    (found,) = problems(tmp_path, whole, DEVICE, more=learning % (32, "keras"))
    assert "icu-death, light, keras, 32 samples (edgebench profile measures learning with litert alone" in found


def test_two_profiles_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_bytes(written(SLOW))
    found = problems(tmp_path, SLOW, EDGE, ("count: 3,", "count: 3, profile: q.json,"), FAKE)
    other = f"and so does {tmp_path}/p.json (change the name in one)"
    assert found == [f"bed.profile: {tmp_path}/q.json calls itself 'slow-board', {other}"]
