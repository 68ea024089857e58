"""The compose file: as the Compose Specification has it, as tight as a run's containers, no token in it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from edgebench.containers.compose import compose_file, readme
from edgebench.topology.fault_model import Fault
from tests.containers.exports import MOVER, STAYS, exported


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    return compose_file(exported())


def parts_of(file: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in file["services"].items() if name != "server"}


STEPPED = (Fault(kind="clock", machine="ward-0", at_s=3.0, by_ms=40.0),)


@pytest.mark.parametrize("with_data", [False, True])
def test_it_conforms_to_the_published_schema(with_data: bool) -> None:
    published = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(published.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for faults in ((), STEPPED):
        file = compose_file(exported(with_data=with_data, faults=faults))
        assert [error.message for error in validator.iter_errors(file)] == []
    assert [*validator.iter_errors({"services": {"server": {"read_onyl": True}}})] != [], "it checks anything at all"


def test_each_service_is_as_tight_as_the_containers_of_a_run(file: dict[str, Any]) -> None:
    for service in file["services"].values():
        assert service["user"].startswith("${USER_ID:?")
        assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] == 4096
        assert service["tmpfs"] == ["/tmp:rw,noexec,nosuid,nodev,size=64000000"]
        assert not {"ports", "expose", "privileged", "cap_add", "environment", "network_mode"} & service.keys()
        assert service["build"]["network"] == "none"


def test_a_part_whose_clock_a_fault_steps_is_told_of_one_of_its_own() -> None:
    told = {name: each.get("environment") for name, each in parts_of(compose_file(exported(faults=STEPPED))).items()}
    assert told == {**dict.fromkeys(told), "ward-0": {"EDGEBENCH_CLOCK": "@/var/lib/edgebench/clock"}}


def test_a_parts_memory_is_that_of_its_nodes_together(file: dict[str, Any]) -> None:
    limits = {name: (each["mem_limit"], each["memswap_limit"]) for name, each in parts_of(file).items()}
    assert limits["ward-0"] == (500_000_000, 500_000_000)
    assert limits[STAYS] == (200_000_000, 200_000_000)
    assert "mem_limit" not in file["services"]["server"]


def test_each_site_has_a_network_that_leads_nowhere_with_the_server_in_it(file: dict[str, Any]) -> None:
    assert file["networks"] == {"ward-0": {"internal": True}, "ward-1": {"internal": True}}
    assert file["services"]["server"]["networks"] == ["ward-0", "ward-1"]
    networks = {name: each["networks"] for name, each in parts_of(file).items()}
    assert networks == {
        "ward-0": ["ward-0"],
        "ward-1": ["ward-1"],
        MOVER: ["ward-0", "ward-1"],
        STAYS: ["ward-1"],
        "ward-0-bed-2": ["ward-0"],
    }


def test_a_token_goes_by_a_volume_in_memory_of_the_server_and_that_part(file: dict[str, Any]) -> None:
    server = [each for each in file["services"]["server"]["volumes"] if isinstance(each, str)]
    assert server == [f"token-{name}:/tokens/{name}" for name in parts_of(file)]
    for name, part in parts_of(file).items():
        assert part["volumes"] == [f"token-{name}:/token:ro"]
        options = file["volumes"][f"token-{name}"]["driver_opts"]
        assert options["type"] == "tmpfs"
        assert ",mode=0700," in options["o"]
        assert part["command"][-3:] == ["--token-file", "/token/token", "--once"]
        assert "--token" not in part["command"]


def test_no_part_begins_before_the_server_has_invited_it(file: dict[str, Any]) -> None:
    assert "-name invited)" in file["services"]["server"]["healthcheck"]["test"][1]
    for part in parts_of(file).values():
        assert part["depends_on"] == {"server": {"condition": "service_healthy"}}


def test_a_shells_dollars_are_not_for_compose_to_read(file: dict[str, Any]) -> None:
    test = file["services"]["ward-0"]["healthcheck"]["test"]
    assert test[1].replace("$$", "").count("$") == 0
    assert test[1].count("$$(find ") == 1


def test_real_data_is_mounted_read_only_from_where_a_variable_says() -> None:
    def mounted(with_data: bool) -> list[dict[str, Any]]:
        volumes = compose_file(exported(with_data=with_data))["services"]["server"]["volumes"]
        return [each for each in volumes if isinstance(each, dict) and each["target"] == "/data"]

    assert mounted(False) == []
    (data,) = mounted(True)
    assert (data["source"].startswith("${DATA:?"), data["read_only"]) == (True, True)
    assert "echo DATA=" in readme(exported(with_data=True))
    assert "DATA" not in readme(exported())
