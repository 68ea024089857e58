"""The manifests: valid, tight, apart, and without a token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from edgebench.containers.compose import compose_file
from edgebench.containers.k8s import enrolment, kustomization, manifests
from edgebench.topology.fault_model import Fault
from tests.containers.exports import MOVER, STAYS, exported

Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def objects() -> Objects:
    return [each for documents in manifests(exported()).values() for each in documents]


def of_kind(objects: Objects, kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: Objects) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """Labels and specification, by name."""
    templates = {name: each["spec"]["template"] for name, each in of_kind(objects, "Job").items()}
    found = {**of_kind(objects, "Pod"), **templates}
    return {name: (each["metadata"]["labels"], each["spec"]) for name, each in found.items()}


def test_each_is_valid_for_kubernetes(objects: Objects) -> None:
    version = kubernetes_validate.latest_version()
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**objects[0], "specc": {}}, version, strict=True)


def test_a_part_whose_clock_a_fault_steps_is_told_of_one_of_its_own() -> None:
    faults = (Fault(kind="clock", machine="ward-0", at_s=3.0, by_ms=40.0),)
    stepped = [each for documents in manifests(exported(faults=faults)).values() for each in documents]
    for each in stepped:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    told = {name: spec["containers"][0].get("env") for name, (_, spec) in pods(stepped).items()}
    clock = [{"name": "EDGEBENCH_CLOCK", "value": "@/var/lib/edgebench/clock"}]
    assert told == {**dict.fromkeys(told), "ward-0": clock}


def test_all_of_them_are_applied_and_in_the_namespace(objects: Objects) -> None:
    assert kustomization(exported())["resources"] == [*manifests(exported())]
    assert [*of_kind(objects, "Namespace")] == [kustomization(exported())["namespace"]] == ["edgebench-wards"]
    assert {each["name"] for each in kustomization(exported())["images"]} == {
        container["image"].partition(":")[0] for _, spec in pods(objects).values() for container in spec["containers"]
    }


def test_there_is_a_pod_for_the_server_and_a_job_a_part_and_they_run_what_compose_does(objects: Objects) -> None:
    services = compose_file(exported())["services"]
    found = pods(objects)
    assert found.keys() == services.keys()
    for name, (_, spec) in found.items():
        assert spec["containers"][0]["args"] == services[name]["command"]
    assert of_kind(objects, "Service")["server"]["spec"]["selector"].items() <= found["server"][0].items()


def test_each_container_is_tight(objects: Objects) -> None:
    for _, spec in pods(objects).values():
        of_pod = spec["securityContext"]
        assert (of_pod["runAsNonRoot"], of_pod["runAsUser"]) == (True, 10001)
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
    (container,) = pods(objects)["ward-0"][1]["containers"]
    assert container["resources"]["limits"] == {"memory": "500000000"}


def test_a_secret_is_empty_and_mounted_by_its_part_alone(objects: Objects) -> None:
    secrets = of_kind(objects, "Secret")
    assert all(not {"data", "stringData"} & each.keys() for each in secrets.values())
    mounted = {
        name: [volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume]
        for name, (_, spec) in pods(objects).items()
    }
    assert mounted == {"server": [], **{each: [f"token-{each}"] for each in mounted if each != "server"}}
    assert {name for names in mounted.values() for name in names} == secrets.keys()
    assert all(f" {name}" in enrolment(exported()) for name in mounted if name != "server")


def test_what_a_part_is_in_the_lab_outlives_its_pod(objects: Objects) -> None:
    claims = of_kind(objects, "PersistentVolumeClaim")
    for name, (_, spec) in pods(objects).items():
        if name == "server":
            continue
        volume = next(each for each in spec["volumes"] if each["name"] == "home")
        assert volume["persistentVolumeClaim"]["claimName"] in claims
        mount = next(each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "home")
        assert mount["mountPath"] == "/var/lib/edgebench"


def test_a_part_reaches_its_own_sites_and_the_server_alone(objects: Objects) -> None:
    found = pods(objects)
    reached = {
        (name, other) for name in found for other in found if name != other and can_reach(objects, found, name, other)
    }
    parts = found.keys() - {"server"}
    assert reached == {
        *((part, "server") for part in parts),
        ("server", "ward-0"),
        ("server", "ward-1"),
        (MOVER, "ward-0"),
        (MOVER, "ward-1"),
        (STAYS, "ward-1"),
        ("ward-0-bed-2", "ward-0"),
    }


def can_reach(objects: Objects, found: dict[str, Any], name: str, other: str) -> bool:
    """Whether the policies let one pod open a connection to another: both ends have to."""
    (of_one, _), (of_other, _) = found[name], found[other]
    outwards = [
        to["podSelector"]
        for policy in selecting(objects, of_one)
        for rule in policy.get("egress", ())
        for to in rule["to"]
        if "podSelector" in to
    ]
    inwards = [
        source["podSelector"]
        for policy in selecting(objects, of_other)
        for rule in policy.get("ingress", ())
        for source in rule["from"]
    ]
    return any(selects(each, of_other) for each in outwards) and any(selects(each, of_one) for each in inwards)


def selecting(objects: Objects, labels: dict[str, str]) -> Iterator[dict[str, Any]]:
    policies = [each["spec"] for each in of_kind(objects, "NetworkPolicy").values()]
    everybody = [each for each in policies if each["podSelector"] == {"matchLabels": {}}]
    assert everybody[0]["policyTypes"] == ["Ingress", "Egress"], "what none allows is denied"
    return (each for each in policies if selects(each["podSelector"], labels))


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()
