"""What a profile does not hold of what its nodes would do is named before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.errors import TopologyError
from edgebench.experiments.deployment_checks import checked_deployment
from edgebench.topology import load
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import PictureCost, Profile
from tests.profiles import SLOW, inference, ms_times, profile
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


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("federated:\n  - {workload: risk, rounds: 1}\n", "federated learning (use host)"),
        ("    rollout: [{at_s: 1}]\n", "training while streams run (use host, or remove rollout)"),
    ],
)
def test_what_no_profile_emulates_is_refused(more: str, expected: str, tmp_path: Path) -> None:
    litert = profile(inference=tuple(inference(n, 9.0, runtime="litert") for n in (1, 8, 32)))
    assert problems(tmp_path, litert, CLOUD, more=more) == [f"cloud.profile: 'slow-board' has no times of {expected}"]


def test_two_profiles_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_bytes(written(SLOW))
    found = problems(tmp_path, SLOW, EDGE, ("count: 3,", "count: 3, profile: q.json,"), FAKE)
    other = f"and so does {tmp_path}/p.json (change the name in one)"
    assert found == [f"bed.profile: {tmp_path}/q.json calls itself 'slow-board', {other}"]
