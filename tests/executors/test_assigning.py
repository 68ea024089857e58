"""Which node runs on which machine of a lab, and what is named before anything starts."""

from __future__ import annotations

import msgspec
import pytest

from edgebench.executors.assigning import by_tier, machines_of, played_by_boards, problems
from edgebench.executors.lab_fleet import first_by_processors
from edgebench.lab.messages import MachineInfo, Role
from edgebench.lab.wheel import code_digest
from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment
from edgebench.topology.link_model import Link
from edgebench.topology.model import Broker, ModelChoice, NodeGroup, Place, Poisson, Topology, Workload


def deployment(
    *links: Link,
    infer: str = "edge",
    runtime: str = "litert",
    machines: dict[str, str | tuple[str, ...]] | None = None,
    kind: str = "auto",
) -> Deployment:
    """Two wards with five beds between them."""
    load, model = Poisson(rate_hz=1.0), ModelChoice(runtime=runtime)  # type: ignore[arg-type]
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
            "bed": NodeGroup(tier="device", count=5, parent="ward"),
        },
        links=links,
        workloads={"w": Workload(task="icu-death", source="bed", load=load, place=Place(infer=infer), model=model)},  # type: ignore[arg-type]
        machines=machines or {},
        broker=Broker(kind=kind),  # type: ignore[arg-type]
    )
    return resolve(topology, run_id="r", executor="lab")


def machine(
    name: str,
    role: Role = "any",
    *,
    present: bool = True,
    runtimes: tuple[str, ...] = ("litert",),
    brokers: tuple[str, ...] = ("mosquitto",),
    last_seen_s: float | None = 1.0,
    same_code: bool = True,
    open_files: int = 0,
) -> MachineInfo:
    return MachineInfo(
        name,
        "machine",
        role,
        present,
        arch="aarch64",
        versions={"edgebench": "0.1.0"},
        same_code=same_code,
        mend="pip install it",
        runtimes=runtimes,
        brokers=brokers,
        last_seen_s=last_seen_s,
        open_files=open_files,
        lab_code=code_digest(),
    )


def where(placed: Deployment) -> dict[str, str]:
    return {node.name: node.machine for node in placed.nodes.values()}


def told(of: Deployment, *machines: MachineInfo) -> list[str]:
    return [problem for _, problem in problems(of, {each.name: each for each in machines})]


def test_edges_and_devices_are_dealt_round_the_machines_invited_for_them() -> None:
    placed = by_tier(deployment(), [machine("e", "edge"), machine("d", "device"), machine("a")])
    assert where(placed) == {
        "cloud": "here",
        "ward-0": "e",
        "ward-1": "a",
        "bed-0": "d",
        "bed-1": "a",
        "bed-2": "d",
        "bed-3": "a",
        "bed-4": "d",
    }


def test_what_no_machine_is_for_stays_here() -> None:
    assert machines_of(by_tier(deployment(), [machine("d", "device")])) == ["d"]
    assert where(by_tier(deployment(), [machine("e", "edge")]))["bed-0"] == "here"
    assert machines_of(by_tier(deployment(), [])) == []


def test_a_machine_is_not_mapped_to_what_it_was_not_invited_for() -> None:
    mapped = deployment(machines={"ward": "d", "bed-0": "d", "bed-1": "e", "bed-2": "a"})
    mend = "put them on another machine, or invite it anew after edgebench lab remove"
    assert told(mapped, machine("d", "device"), machine("e", "edge", present=False), machine("a")) == [
        f"'d' was invited with --as device, and is to run ward-0 (edge), ward-1 (edge) ({mend} d)",
        f"'e' was invited with --as edge, and is to run bed-1 (device) ({mend} e)",
    ]
    assert told(deployment(machines={"ward": "e", "bed": "d"}), machine("e", "edge"), machine("d", "device")) == []


def test_a_device_without_python_is_no_device_of_the_edge_whose_broker_it_finds() -> None:
    infos = {"e": machine("e", "edge"), "esp": MachineInfo("esp", "device-only", "device", True, near="e")}
    placed = played_by_boards(deployment(machines={"ward": "e", "bed-0": "esp"}), infos)
    assert not [problem for _, problem in problems(placed, infos) if "invited" in problem]


@pytest.mark.parametrize(("infer", "sensor_has"), [("edge", ["bed-0", "bed-2"]), ("device", [])])
def test_a_machine_without_a_runtime_is_a_sensor_and_nothing_else(infer: str, sensor_has: list[str]) -> None:
    sensor = machine("s", runtimes=(), brokers=())
    placed = by_tier(deployment(infer=infer), [sensor, machine("a")])
    assert [name for name, at in where(placed).items() if at == "s"][:2] == sensor_has


def test_a_sensor_that_is_to_be_an_edge_or_to_decide_is_named() -> None:
    sensor = machine("s", runtimes=(), brokers=("mosquitto",))
    assert told(deployment(machines={"ward-1": "s"}), sensor) == [
        "'s' (aarch64) has no LiteRT, so it can be a sensor only (put ward-1 on another machine)"
    ]
    assert told(deployment(machines={"bed": "s"}), sensor) == []
    assert len(told(deployment(machines={"bed": "s"}, infer="device"), sensor)) == 1
    assert told(deployment(machines={"ward": "s"}, runtime="fake"), sensor) == []


def test_an_edge_needs_a_broker_there_of_the_kind_that_is_asked_for() -> None:
    bare = machine("b", brokers=())
    assert told(deployment(machines={"ward": "b"}), bare) == [
        "'b' (aarch64) has no MQTT broker (apt-get install mosquitto) (put ward-0, ward-1 on another machine)"
    ]
    nats = machine("b", brokers=("nats",))
    assert told(deployment(machines={"ward": "b"}), nats) == []
    assert len(told(deployment(machines={"ward": "b"}, kind="mosquitto"), nats)) == 1


def test_machines_that_are_unknown_away_or_of_other_code_are_named_with_the_mend() -> None:
    mapped = deployment(machines={"ward-0": "pi-1", "ward-1": "pi-2", "bed-0": "pi-3", "bed-1": "pi-4"})
    away = machine("pi-2", present=False, last_seen_s=7_300.0)
    assert told(mapped, away, machine("pi-3", present=False, last_seen_s=None), machine("pi-4", same_code=False)) == [
        "no machine 'pi-1' has joined the lab (did you mean 'pi-4'?)",
        "'pi-2' is not there, and was heard 2 h ago (see to its power and network)",
        "'pi-3' is not there (see to its power and network)",
        "'pi-4' runs another edgebench (0.1.0) than this (there: pip install it)",
    ]


def test_a_machine_whose_processes_may_not_have_as_many_open_files_as_they_need_is_named() -> None:
    mapped = deployment(machines={"ward-0": "pi-1", "bed-0": "pi-2"})
    (problem,) = told(mapped, machine("pi-1", open_files=60), machine("pi-2", open_files=1024))
    assert problem == (
        "the 4 connections to the broker of ward-0 need 68 open files in one process, and the hard limit on 'pi-1' "
        "is 60 (raise it, as root: ulimit -Hn 68; or take fewer devices)"
    )


def test_links_that_share_their_rates_have_to_end_on_one_machine() -> None:
    shared = Link(between=("bed", "ward"), rate_mbit_s=10.0, shared=True)
    apart = deployment(shared, machines={"ward-1": "pi"})
    (problem,) = told(apart, machine("pi"))
    assert "those of 'bed -> ward' end on here, pi (remove shared)" in problem
    assert told(deployment(shared, machines={"ward": "pi"}), machine("pi")) == []


def test_machines_with_the_same_processors_are_one_computer_and_unknown_ones_their_own() -> None:
    found = first_by_processors({"here": "a", "pi": "b", "ward": "a", "old": "", "older": "", "pi-2": "b"})
    assert found == {"here": "here", "pi": "pi", "ward": "here", "old": "old", "older": "older", "pi-2": "pi"}


def test_a_server_that_was_started_before_an_upgrade_is_named_and_not_what_it_says_of_machines() -> None:
    mapped = deployment(machines={"ward": "e", "bed": "d"})
    old = [
        msgspec.structs.replace(machine(name, same_code=same), lab_code="old")
        for name, same in (("e", True), ("d", False))
    ]
    mend = "(end edgebench lab serve, and start it again)"
    assert told(mapped, *old) == [f"the lab's server runs other code than this command {mend}"] * 2
    now = [msgspec.structs.replace(each, lab_code=code_digest()) for each in old]
    assert told(mapped, *now) == ["'d' runs another edgebench (0.1.0) than this (there: pip install it)"]
