from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgebench.cli import main
from edgebench.topology.strict_yaml import parse
from tests.topology.sound import SOUND, edited
from tests.topology.test_broken_topologies import NOT_LOCAL

TOPOLOGIES = sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml"))


@pytest.fixture
def schema(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["schema"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


@pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.name)
def test_every_ready_topology_is_valid_by_command_and_by_schema(file: Path, schema: dict[str, Any]) -> None:
    assert main(["validate", str(file)]) == 0
    jsonschema.Draft202012Validator(schema).validate(parse(file.read_bytes()))


def test_the_schema_is_one_and_describes_its_records(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)

    assert schema["title"] == "edgebench topology, schema 1"
    assert schema["$defs"]["Batch"]["description"].startswith("The deciding node takes what has arrived")


@pytest.mark.parametrize("name", NOT_LOCAL)
def test_the_schema_knows_what_only_other_executors_enforce(name: str, schema: dict[str, Any]) -> None:
    assert jsonschema.Draft202012Validator(schema).is_valid(parse(NOT_LOCAL[name][0]))


@pytest.mark.parametrize(
    "text",
    [
        edited(("duration_s", "durations_s")),
        edited(("tier: edge", "tier: egde")),
        edited(("kind: fixed", "kind: poison")),
        edited(("count: 3", "count: 0")),
        edited(("  ward:", "  Ward_1:")),
        SOUND + "broker: {port: 3}\n",
        SOUND + "broker: {kind: rabbit}\n",
    ],
)
def test_the_schema_refuses_wrong_shapes(text: str, schema: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(parse(text))
