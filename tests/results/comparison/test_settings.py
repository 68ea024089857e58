"""What differs in topologies, by path and group; in versions and hosts, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgebench.results.comparison.figures import SettingDifference
from edgebench.results.comparison.settings import key_of, plain_differences, topology_differences, topology_of
from edgebench.topology.deployment import Deployment
from edgebench.topology.fault_model import FaultPlan
from edgebench.topology.model import Trace
from tests.results import factory

NOWHERE = Path("/nowhere")


def ward(beds: int = 3, latency_ms: float = 2, infer: str = "edge") -> Deployment:
    """A made-up ward with so many beds."""
    small = factory.deployment()
    names = tuple(f"bed-{number}" for number in range(beds))
    bed, link = small.nodes["bed-0"], small.links["bed-0 -> ward-0"]
    plan = factory.workload(
        sources=names, place=infer, deciders={name: "ward-0" if infer == "edge" else name for name in names}
    )
    nodes = {
        "cloud": small.nodes["cloud"],
        "ward-0": msgspec.structs.replace(small.nodes["ward-0"], children=names),
        **{name: msgspec.structs.replace(bed, name=name) for name in names},
    }
    links = {
        f"{name} -> ward-0": msgspec.structs.replace(link, child=name, pipe=name, latency_ms=latency_ms)
        for name in names
    }
    links["ward-0 -> cloud"] = small.links["ward-0 -> cloud"]
    return msgspec.structs.replace(small, nodes=nodes, links=links, workloads={"death-risk": plan})


def differences(**sides: Deployment) -> list[SettingDifference]:
    return topology_differences({name: (each, topology_of(each, NOWHERE)) for name, each in sides.items()})


def shown(found: list[SettingDifference]) -> Mapping[str, tuple[Any, ...]]:
    return {each.path: (*each.values.values(), each.places) for each in found}


def test_runs_of_one_topology_differ_in_nothing_whatever_their_seeds_and_names() -> None:
    again = msgspec.structs.replace(ward(), run_id="another", seed=8)
    assert differences(A=ward(), B=again) == []
    assert key_of(topology_of(ward(), NOWHERE)) == key_of(topology_of(again, NOWHERE))


def test_what_all_nodes_of_a_group_share_is_said_once() -> None:
    assert shown(differences(A=ward(), B=ward(latency_ms=20), C=ward())) == {
        "links.bed -> ward.latency_ms": (2, 20, 2, 3)
    }
    assert shown(differences(A=ward(), B=ward(infer="device"))) == {
        "workloads.death-risk.deciders.bed": ("ward", "bed", 3),
        "workloads.death-risk.place": ("edge", "device", 1),
    }


def test_more_nodes_are_a_count_and_no_list_of_what_is_not_there() -> None:
    assert shown(differences(A=ward(3), B=ward(5))) == {
        "nodes.bed": (3, 5, 1),
        "links.bed -> ward": (3, 5, 1),
    }


def test_a_device_at_another_node_of_the_same_group_is_told_by_the_nodes_names() -> None:
    def at(site: str) -> Deployment:
        two = ward(1)
        second = msgspec.structs.replace(two.nodes["ward-0"], name="ward-1", children=())
        bed = msgspec.structs.replace(two.nodes["bed-0"], parent=site)
        return msgspec.structs.replace(two, nodes={**two.nodes, "ward-1": second, "bed-0": bed})

    assert shown(differences(A=at("ward-0"), B=at("ward-1"))) == {"nodes.bed.parent": ("ward-0", "ward-1", 1)}


def test_workloads_of_one_side_only_are_no_settings_that_differ() -> None:
    more = msgspec.structs.replace(
        ward(), workloads={**ward().workloads, "decline": factory.workload("decline", qos=0)}
    )
    assert differences(A=ward(), B=more) == []


def test_a_trace_is_what_is_in_its_file(tmp_path: Path) -> None:
    def run(name: str, due: str) -> tuple[Deployment, dict[str, Any]]:
        folder = tmp_path / name
        (folder / "traces").mkdir(parents=True)
        (folder / "traces" / "death-risk.txt").write_text(due)
        deployment = factory.deployment(factory.workload(load=Trace(file="traces/death-risk.txt")))
        return deployment, topology_of(deployment, folder)

    found = topology_differences({"A": run("one", "0.1\n"), "B": run("two", "0.2\n")})
    assert [each.path for each in found] == ["workloads.death-risk.load.file"]
    assert topology_differences({"A": run("three", "0.1\n"), "B": run("four", "0.1\n")}) == []


def test_faults_of_chance_are_those_of_their_law_and_not_of_their_times(tmp_path: Path) -> None:
    def run(name: str, at_s: float, rate: float) -> tuple[Deployment, dict[str, Any]]:
        fault = FaultPlan("pause", at_s=at_s, for_s=1, node="bed-0", entry="chaos[0]")
        deployment = msgspec.structs.replace(factory.deployment(), faults=(fault,))
        (tmp_path / name).mkdir()
        (tmp_path / name / "topology.yaml").write_text(
            "schema: 1\nname: small\nnodes: {cloud: {tier: cloud}}\nworkloads:\n"
            "  watch: {task: icu-death, source: cloud, load: {kind: fixed, rate_hz: 1}}\n"
            f"chaos:\n  - {{kind: pause, nodes: [bed], rate_per_h: {rate}, for_s: [1, 2]}}\n"
        )
        return deployment, topology_of(deployment, tmp_path / name)

    assert topology_differences({"A": run("one", 1, 60), "B": run("two", 2, 60)}) == []
    found = topology_differences({"A": run("three", 1, 60), "B": run("four", 1, 90)})
    assert shown(found) == {"chaos[0].rate_per_h": (60, 90, 1)}


def test_a_side_whose_runs_differ_lists_what_they_have() -> None:
    found = plain_differences({"A": [{"numpy": "1"}, {"numpy": "2"}], "B": [{"numpy": "2"}], "C": [{}]})
    assert found == [SettingDifference("numpy", {"A": ["1", "2"], "B": "2"})]
    one, two = {"numpy": "1"}, {"numpy": "2"}
    assert plain_differences({"A": [one, two], "B": [two, one]}) == []
