from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.cli import main
from edgebench.errors import TopologyError
from edgebench.topology import load
from edgebench.topology.model import Poisson
from edgebench.topology.overrides import apply_overrides
from edgebench.topology.settings import flat
from tests.topology.sound import SOUND


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SOUND)
    return file


def test_a_field_is_overridden_by_its_path(small: Path) -> None:
    topology = load(
        small,
        [
            "duration_s=1.5",
            "nodes.bed.count=7",
            "workloads.risk.load={kind: poisson, rate_hz: 3}",
            "workloads.risk.source=[bed]",
        ],
    )

    assert topology.duration_s == 1.5
    assert topology.nodes["bed"].count == 7
    assert topology.workloads["risk"].load == Poisson(rate_hz=3)
    assert topology.workloads["risk"].sources == ("bed",)
    assert topology.nodes["ward"].count == 2


@pytest.mark.parametrize("path", ["links[1].latency_ms", "links.1.latency_ms", "$.links[1].latency_ms"])
def test_a_list_is_indexed_in_either_way(small: Path, path: str) -> None:
    topology = load(small, [f"{path}=5"])

    assert [link.latency_ms for link in topology.links] == [2, 5]


def test_an_optional_object_that_is_missing_is_made(small: Path) -> None:
    topology = load(small, ["workloads.risk.place.infer=cloud", "workloads.risk.queue.max_samples=9"])

    assert topology.workloads["risk"].place.infer == "cloud"
    assert topology.workloads["risk"].queue.max_samples == 9


def test_a_setting_that_stands_by_its_dotted_key_is_reached_by_its_path(small: Path) -> None:
    config = "config: {params.eta: 0.1, deep: {er.still: 1}}, node_config: {bed: {data.path: /a}}"
    small.write_text(SOUND + f"federated: [{{workload: risk, app: app, {config}}}]\n")
    settings = (
        "config.params.eta=0.3",
        "config.deep.er.still=2",
        "config.params.gamma=1",
        "node_config.bed.data.path=/b",
    )
    (federated,) = load(small, [f"federated[0].{setting}" for setting in settings]).federated

    assert flat(federated.config) == {"params.eta": 0.3, "deep.er.still": 2, "params.gamma": 1}
    assert federated.node_config == {"bed": {"data.path": "/b"}}


def test_of_two_overrides_the_later_one_counts_and_nothing_is_null(small: Path) -> None:
    topology = load(small, ["nodes.bed.count=5", "nodes.bed.count=6", "nodes.ward.count="])

    assert topology.nodes["bed"].count == 6
    assert topology.nodes["ward"].count is None


def test_a_new_node_can_be_given_whole(small: Path) -> None:
    topology = load(small, ["nodes.chair={tier: device, parent: ward}"])

    assert list(topology.nodes) == ["cloud", "ward", "bed", "chair"]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("duration_s", "--set duration_s: no path=value (write, for example, --set duration_s=10)"),
        ("=5", "--set =5: no path=value (write, for example, --set duration_s=10)"),
        (
            "links[one].latency_ms=5",
            "--set links[one].latency_ms: not a path (write, for example, links[0].latency_ms)",
        ),
        ("nodes..count=5", "--set nodes..count: not a path (write, for example, links[0].latency_ms)"),
        ("nodes.wrad.count=5", "--set nodes.wrad.count: no node 'wrad' (did you mean 'ward'?)"),
        ("workloads.rsk.qos=0", "--set workloads.rsk.qos: no workload 'rsk' (did you mean 'risk'?)"),
        ("links[2].latency_ms=5", "--set links[2].latency_ms: $.links has 2 entries, there is no [2]"),
        pytest.param(
            f"links[{'9' * 5000}].latency_ms=5",
            f"--set links[{'9' * 5000}].latency_ms: $.links has 2 entries, there is no [{'9' * 5000}]",
            id="long",
        ),
        ("links.first.latency_ms=5", "--set links.first.latency_ms: $.links is a list, 'first' is no index into it"),
        ("faults[0].at_s=5", "--set faults[0].at_s: $.faults has 0 entries"),
        ("seed.of=5", "--set seed.of: expected a whole number, got a mapping of fields"),
        ("name.of=5", "--set name.of: $.name is 'small', it has no 'of'"),
        ("nodes.bed.cuont=5", "--set nodes.bed.cuont: unknown field 'cuont' (did you mean 'count'?)"),
        ("duration=5", "--set duration: unknown field 'duration' (did you mean 'duration_s'?)"),
        ("duration_s=-5", "--set duration_s: -5 is not a number > 0"),
        ("duration_s=soon", "--set duration_s: expected a number, got text ('soon')"),
        ("duration_s=.inf", "--set duration_s: value '.inf': .inf is not a finite number"),
        ("nodes.bed=[1", "--set nodes.bed: value '[1': expected ',' or ']', but got '<stream end>'"),
        (
            "workloads.risk.place.infer=egde",
            (
                "--set workloads.risk.place.infer: 'egde' is not one of cascade, cloud, device, edge"
                " (did you mean 'edge'?)"
            ),
        ),
        (
            "links=[{between: [bed, ward], latency_ms: x}]",
            "--set links: [0].latency_ms: expected a number, got text ('x')",
        ),
        ("nodes.bed={tier: device, count: x}", "--set nodes.bed: count: expected a whole number, got text ('x')"),
        ("nodes.bed={count: 3}", "--set nodes.bed: field 'tier' is missing (give cloud or device or edge)"),
    ],
)
def test_an_impossible_override_is_named(
    small: Path, setting: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(small), "--set", setting]) == 2
    assert capsys.readouterr().err == f"{problem}\n"


def test_a_mistake_of_the_file_stays_the_files_own(small: Path) -> None:
    small.write_text(SOUND.replace("rate_hz: 2", "rate_hz: 0"))

    with pytest.raises(TopologyError) as caught:
        load(small, ["duration_s=5", "workloads.risk.qos=0"])

    assert caught.value.problems == [f"{small}: $.workloads.risk.load.rate_hz: 0 is not a number >= 1e-06"]


def test_a_value_that_cannot_be_read_is_shown_in_part() -> None:
    with pytest.raises(TopologyError) as caught:
        apply_overrides({}, [f"name={'[' * 20_000}"])
    shown = f"value '{'[' * 80}…'"
    assert caught.value.problems == [f"--set name: {shown}: nested too deeply"]
