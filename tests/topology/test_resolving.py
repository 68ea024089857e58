from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgebench.topology import check, load, resolve
from edgebench.topology.deployment import Deployment, LinkPlan, NodePlan, OnlinePlan
from edgebench.topology.link_model import LinkEnergy
from edgebench.topology.model import Broker, Tier
from edgebench.topology.reach import nodes_passed
from tests.topology.sound import SOUND, edited

TASKS = ("icu-death",)


def resolved(tmp_path: Path, text: str, data: str | None = None) -> Deployment:
    file = tmp_path / "small.yaml"
    file.write_text(text)
    topology = load(file)
    check(topology, file, tasks=TASKS)
    return resolve(topology, run_id="r1", executor="local", data=data)


def test_devices_are_dealt_round_the_edges(tmp_path: Path) -> None:
    nodes = resolved(tmp_path, SOUND).nodes

    assert list(nodes) == ["cloud", "ward-0", "ward-1", "bed-0", "bed-1", "bed-2"]
    assert {name: node.parent for name, node in nodes.items()} == {
        "cloud": None,
        "ward-0": "cloud",
        "ward-1": "cloud",
        "bed-0": "ward-0",
        "bed-1": "ward-1",
        "bed-2": "ward-0",
    }
    assert nodes["cloud"].children == ("ward-0", "ward-1")
    assert nodes["ward-0"].children == ("bed-0", "bed-2")
    assert nodes["bed-0"].children == ()
    assert (nodes["bed-2"].group, nodes["bed-2"].tier, nodes["bed-2"].profile) == ("bed", "device", "host")


def test_a_group_with_a_count_of_one_is_numbered_and_one_without_is_not(tmp_path: Path) -> None:
    nodes = resolved(tmp_path, edited(("{tier: cloud}", "{tier: cloud, count: 1}"), ("count: 2, ", ""))).nodes

    assert list(nodes) == ["cloud-0", "ward", "bed-0", "bed-1", "bed-2"]
    assert nodes["ward"].parent == "cloud-0"
    assert nodes["bed-1"].parent == "ward"


def test_each_pair_has_its_link_and_one_rate_goes_both_ways(tmp_path: Path) -> None:
    links = resolved(tmp_path, edited(("latency_ms: 2}", "latency_ms: 2, jitter_ms: 0.5, rate_mbit_s: 40}"))).links

    assert list(links) == [
        "ward-0 -> cloud",
        "ward-1 -> cloud",
        "bed-0 -> ward-0",
        "bed-1 -> ward-1",
        "bed-2 -> ward-0",
    ]
    assert links["bed-2 -> ward-0"] == LinkPlan("bed-2", "ward-0", 2, 0.5, 40, 40, "bed-2 -> ward-0")
    assert links["ward-1 -> cloud"] == LinkPlan("ward-1", "cloud", 20, 1, None, None, "ward-1 -> cloud")


def test_shared_links_of_two_groups_are_one_pipe(tmp_path: Path) -> None:
    links = resolved(
        tmp_path,
        edited(("jitter_ms: 1", "up_mbit_s: 20, down_mbit_s: 50, shared: true"), ("latency_ms: 2}", "shared: true}")),
    ).links

    assert {link.pipe for link in links.values() if link.parent == "cloud"} == {"ward -> cloud"}
    assert {link.pipe for link in links.values() if link.parent != "cloud"} == {"bed -> ward"}
    assert (links["ward-0 -> cloud"].up_mbit_s, links["ward-0 -> cloud"].down_mbit_s) == (20, 50)


def test_a_pair_without_an_entry_has_an_unshaped_link(tmp_path: Path) -> None:
    links = resolved(tmp_path, edited(("  - {between: [bed, ward], latency_ms: 2}\n", ""))).links

    assert links["bed-0 -> ward-0"] == LinkPlan("bed-0", "ward-0", 0, 0, None, None, "bed-0 -> ward-0")
    assert not links["bed-0 -> ward-0"].shaped
    assert links["ward-0 -> cloud"].shaped


def test_a_link_whose_bytes_cost_energy_is_emulated_so_that_they_are_counted(tmp_path: Path) -> None:
    own = "energy: {up_nj_per_byte: 30, down_nj_per_byte: 25, source: a plug}"
    links = resolved(tmp_path, edited(("latency_ms: 2}", "energy: wifi}"), ("jitter_ms: 1", own))).links

    (radio,) = {link.energy for link in links.values() if link.parent != "cloud"}
    assert radio is not None
    assert (radio.up_nj_per_byte, radio.down_nj_per_byte) == pytest.approx((2_265.36, 1_096.08))
    assert links["ward-0 -> cloud"].energy == LinkEnergy(30, 25, "a plug")
    assert links["bed-0 -> ward-0"].shaped


@pytest.mark.parametrize(
    ("place", "deciders"),
    [
        ("device", {"bed-0": "bed-0", "bed-1": "bed-1", "bed-2": "bed-2"}),
        ("edge", {"bed-0": "ward-0", "bed-1": "ward-1", "bed-2": "ward-0"}),
        ("cloud", {"bed-0": "cloud", "bed-1": "cloud", "bed-2": "cloud"}),
        ("cascade", {"bed-0": "ward-0", "bed-1": "ward-1", "bed-2": "ward-0"}),
    ],
)
def test_the_place_says_which_node_decides(tmp_path: Path, place: str, deciders: dict[str, str]) -> None:
    deployment = resolved(tmp_path, edited(("source: bed", f"source: bed\n    place: {{infer: {place}}}")))

    assert deployment.workloads["risk"].deciders == deciders
    assert deployment.workloads["risk"].sources == ("bed-0", "bed-1", "bed-2")
    assert deployment.workloads["risk"].place == place


def test_several_groups_feed_a_workload_in_the_order_they_are_named(tmp_path: Path) -> None:
    text = edited(
        ("links:", "  chair: {tier: device, parent: ward}\nlinks:"),
        ("source: bed", "source: [chair, bed]"),
    )

    assert resolved(tmp_path, text).workloads["risk"].sources == ("chair", "bed-0", "bed-1", "bed-2")


def test_the_deployment_holds_no_login(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SOUND)
    broker = Broker(url="mqtt://ann:secret@host:1884")
    deployment = resolve(msgspec.structs.replace(load(file), broker=broker), run_id="r", executor="local")

    assert deployment.broker_url == "mqtt://host:1884"
    assert b"secret" not in msgspec.json.encode(deployment)


def test_data_given_for_the_run_goes_before_the_topologys_own(tmp_path: Path) -> None:
    text = "data: .\n" + SOUND

    assert resolved(tmp_path, text).data == str(tmp_path)
    assert resolved(tmp_path, text, data="/patients").data == "/patients"


def test_resolving_twice_gives_equal_deployments_that_survive_json(tmp_path: Path) -> None:
    first, second = resolved(tmp_path, SOUND), resolved(tmp_path, SOUND)

    assert first == second
    assert msgspec.json.decode(msgspec.json.encode(first), type=Deployment) == first


def test_a_users_own_task_is_accepted_as_it_stands(tmp_path: Path) -> None:
    deployment = resolved(tmp_path, edited(("icu-death", "my_lab.tasks:FALL")))

    assert deployment.workloads["risk"].task == "my_lab.tasks:FALL"


def test_a_large_site_resolves(tmp_path: Path) -> None:
    deployment = resolved(tmp_path, edited(("count: 3", "count: 50000")))

    assert len(deployment.nodes) == 50_003
    assert deployment.workloads["risk"].deciders["bed-49999"] == "ward-1"


def test_placement_may_differ_by_group_and_device_and_a_devices_own_goes_first(tmp_path: Path) -> None:
    text = SOUND + "    place: {infer: {bed: edge, bed-1: cloud, bed-2: device}}\n"
    plan = resolved(tmp_path, text).workloads["risk"]

    assert plan.deciders == {"bed-0": "ward-0", "bed-1": "cloud", "bed-2": "bed-2"}
    assert plan.place == "device + edge + cloud"


def test_a_chain_begins_at_the_edge_and_is_decided_in_the_cloud(tmp_path: Path) -> None:
    plan = resolved(tmp_path, SOUND + "    place: {infer: [edge, cloud]}\n    split: 2\n").workloads["risk"]

    assert plan.deciders == {"bed-0": "ward-0", "bed-1": "ward-1", "bed-2": "ward-0"}
    assert (plan.place, plan.split, plan.goes_on) == ("edge → cloud", 2, True)
    assert (plan.head_at_edge, plan.head_on_device, plan.has_model("bed-0")) == (True, False, False)


@pytest.mark.parametrize(("second", "deciders"), [("edge", ["ward-0", "ward-1", "ward-0"]), ("cloud", ["cloud"] * 3)])
def test_a_chain_that_begins_on_devices_is_decided_by_its_second_stage(
    tmp_path: Path, second: str, deciders: list[str]
) -> None:
    deployment = resolved(tmp_path, SOUND + f"    place: {{infer: [device, {second}]}}\n    split: 2\n")
    plan = deployment.workloads["risk"]

    assert list(plan.deciders.values()) == deciders
    assert (plan.place, plan.goes_on, plan.head_on_device) == (f"device → {second}", False, True)
    with_model = [name for name, node in deployment.nodes.items() if [*plan.models_on(node, deciders)]]
    assert with_model == [name for name in deployment.nodes if name in {"bed-0", "bed-1", "bed-2", *deciders}]
    firsts, seconds = plan.stage_nodes(deployment)
    assert [node.name for node in firsts] == ["bed-0", "bed-1", "bed-2"]
    assert [node.name for node in seconds] == [*dict.fromkeys(deciders)]


@pytest.mark.parametrize("begins", ["edge", "cloud"])
def test_what_is_placed_online_begins_where_the_file_has_it_and_both_may_decide(tmp_path: Path, begins: Tier) -> None:
    text = SOUND + f"    place: {{infer: {begins}}}\nplace: {{online: {{hold_s: 2}}}}\n"
    plan = resolved(tmp_path, text).workloads["risk"]

    assert plan.deciders == {"bed-0": "ward-0", "bed-1": "ward-1", "bed-2": "ward-0"}
    assert (plan.place, plan.online, plan.goes_on) == (f"{begins}, online", OnlinePlan(begins, 0.2, 2.0), True)


def test_one_placement_for_each_device_is_that_placement(tmp_path: Path) -> None:
    plan = resolved(tmp_path, SOUND + "    place: {infer: {bed-0: cloud, bed-1: cloud, bed-2: cloud}}\n").workloads[
        "risk"
    ]

    assert set(plan.deciders.values()) == {"cloud"}
    assert plan.place == "cloud"


def test_a_node_connects_to_its_parent_and_a_device_to_the_edges_that_it_moves_to() -> None:
    bed = NodePlan("bed-3", "bed", "device", "host", "ward-1", (), elsewhere=("ward-0",))
    ward = NodePlan("ward-0", "ward", "edge", "host", "cloud", ("bed-0",), elsewhere=("bed-3",))
    cloud = NodePlan("cloud", "cloud", "cloud", "host", None, ("ward-0", "ward-1"))
    assert [node.sites for node in (bed, ward, cloud)] == [("ward-1", "ward-0"), ("cloud",), ()]


def test_clients_of_an_app_have_what_all_have_and_what_their_group_and_they_themselves_do(tmp_path: Path) -> None:
    app = Path(__file__).parents[2] / "examples/flower-numpy"
    config = "{site: north, bed: {data: /a, cores: 2}, bed-1: {data: /b}}"
    text = SOUND + f"federated: [{{workload: risk, app: {app}, node_config: {config}}}]\n"
    (federated,) = resolved(tmp_path, text).federated.values()
    common = {"site": "north", "data": "/a", "cores": 2}
    found = {federated.clients[number - 1]: own for number, own in federated.node_configs.items()}
    assert found == {name: common | ({"data": "/b"} if name == "bed-1" else {}) for name in federated.clients}
    assert len(found) > 1


@pytest.mark.parametrize(
    ("place", "passed"),
    [
        ("device", {"bed-0"}),
        ("edge", {"bed-0", "ward-0"}),
        ("cascade", {"bed-0", "ward-0", "cloud"}),
        ("cloud", {"bed-0", "ward-0", "cloud"}),
    ],
)
def test_samples_pass_whom_they_may_go_to(tmp_path: Path, place: str, passed: set[str]) -> None:
    text = edited(("count: 3, ", "count: 1, "), ("rate_hz: 2}", f"rate_hz: 2}}\n    place: {{infer: {place}}}"))
    deployment = resolved(tmp_path, text)
    (plan,) = deployment.workloads.values()
    assert nodes_passed(plan, deployment) == passed
