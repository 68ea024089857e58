"""What images are made of, and that their names tell it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edgebench.containers.base import Bases
from edgebench.containers.images import PACKAGES, dockerfile_for, exported_dockerfile, tag_of, write_context
from edgebench.containers.wheels import Wheels
from edgebench.executors.container_fleet import packages_for
from edgebench.lab.facts import RUNTIMES
from edgebench.lab.wheel import Wheel
from tests.containers.deployments import deployment

BASES = Bases("debian", "debian-with-a-broker", "told")


@pytest.fixture
def wheels(tmp_path: Path) -> Wheels:
    return made(tmp_path, b"ours", "numpy-2.4.6-cp311.whl")


def made(folder: Path, own: bytes, *others: str) -> Wheels:
    folder.mkdir(exist_ok=True)
    for name in (*others, "pip-25.whl", "edgebench-0.1.whl"):
        (folder / name).write_bytes(own)
    own_wheel = Wheel(folder / "edgebench-0.1.whl", hashlib.sha256(own).hexdigest())
    return Wheels(own_wheel, tuple(folder / name for name in others), folder / "pip-25.whl")


def test_a_build_gets_the_wheels_and_a_list_of_those_that_it_installs(wheels: Wheels, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    write_context(context, dockerfile_for("device", BASES, wheels), wheels)
    assert sorted(str(each.relative_to(context)) for each in context.rglob("*") if each.is_file()) == [
        "Dockerfile",
        "own/edgebench-0.1.whl",
        "wheels/numpy-2.4.6-cp311.whl",
        "wheels/pip-25.whl",
        "wheels/requirements.txt",
    ]
    assert (context / "wheels/requirements.txt").read_text() == "./numpy-2.4.6-cp311.whl\n"


def test_the_last_stage_has_no_wheels_and_is_not_roots(wheels: Wheels) -> None:
    stages = dockerfile_for("edge", BASES, wheels).split("FROM ")[1:]
    assert [stage.partition("\n")[0] for stage in stages] == [
        "debian AS packages",
        "packages AS own",
        "debian-with-a-broker",
    ]
    assert "COPY wheels" not in stages[2]
    assert "--no-index" in stages[0]
    assert "ARG USER_ID=10001\n" in stages[2]
    assert "USER ${USER_ID}:${USER_ID}\n" in stages[2]


def test_an_exported_image_can_be_built_on_another_base_image_by_another_user(wheels: Wheels) -> None:
    text = exported_dockerfile("server", "python:3.11-slim", wheels, more="COPY topology /topology\n")
    assert text.startswith("ARG BASE_IMAGE=python:3.11-slim\nFROM ${BASE_IMAGE} AS packages\n")
    last = text.split("FROM ")[3]
    assert last.startswith("${BASE_IMAGE}\n")
    assert last.index("ARG USER_ID=") < last.index("$USER_ID") < last.index("COPY topology /topology\n")


def test_both_kinds_have_the_stages_before_the_last_in_common(wheels: Wheels) -> None:
    device, edge = (dockerfile_for(kind, BASES, wheels).split("FROM ") for kind in ("device", "edge"))
    assert device[1:3] == edge[1:3]


def test_a_tag_tells_what_is_in_it(wheels: Wheels, tmp_path: Path) -> None:
    dockerfile = dockerfile_for("device", BASES, wheels)
    tag = tag_of(dockerfile, "sha256:1", wheels)
    assert tag == tag_of(dockerfile, "sha256:1", made(tmp_path / "again", b"ours", "numpy-2.4.6-cp311.whl"))
    others = {
        tag_of(dockerfile, "sha256:2", wheels),
        tag_of(dockerfile + "#", "sha256:1", wheels),
        tag_of(dockerfile, "sha256:1", made(tmp_path / "other", b"ours", "numpy-2.4.7-cp311.whl")),
        tag_of(dockerfile, "sha256:1", made(tmp_path / "code", b"mine", "numpy-2.4.6-cp311.whl")),
    }
    assert len(others) == 4
    assert tag not in others


def test_every_runtime_of_models_can_be_put_into_an_image() -> None:
    assert PACKAGES.keys() == RUNTIMES.keys()


def test_an_image_has_what_its_nodes_need_and_no_more() -> None:
    assert packages_for(deployment(), "edge") == ()
    assert packages_for(deployment(runtime="keras"), "edge") == ("keras", "tensorflow")
    assert packages_for(deployment(runtime="keras"), "device") == ()
