"""Devices without Python that play nodes of a run: where they stand in it, and what they cannot do."""

from __future__ import annotations

import pytest

from edgebench.executors.assigning import boards_of, machines_of, played_by_boards, problems
from edgebench.executors.plan import plan_of
from edgebench.lab.messages import MachineInfo
from edgebench.lab.wheel import code_digest
from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment, boards_at
from edgebench.topology.link_model import Link
from edgebench.topology.model import Move, NodeGroup, Place, Poisson, Topology, Workload

WARD = MachineInfo(
    "pi",
    "machine",
    "any",
    True,
    same_code=True,
    runtimes=("litert",),
    brokers=("mosquitto",),
    last_seen_s=1.0,
    lab_code=code_digest(),
)


def board(name: str = "esp-1", near: str = "here") -> MachineInfo:
    return MachineInfo(name, "device-only", "device", True, near=near)


def placed(
    machines: dict[str, str | tuple[str, ...]],
    *known: MachineInfo,
    links: tuple[Link, ...] = (),
    infer: str = "edge",
    moves: tuple[Move, ...] = (),
) -> Deployment:
    """Two wards, a bed and a sensor at each; `machines` as a topology has them."""
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", count=2, parent="cloud"),
            "bed": NodeGroup(tier="device", count=2, parent="ward"),
            "sensor": NodeGroup(tier="device", count=2, parent="ward"),
        },
        links=links,
        workloads={
            "w": Workload(
                task="icu-death",
                source=("bed", "sensor"),
                load=Poisson(rate_hz=1.0),
                place=Place(infer=infer),  # type: ignore[arg-type]
            )
        },
        moves=moves,
        machines=machines,
    )
    deployment = resolve(topology, run_id="r", executor="lab")
    return played_by_boards(deployment, {each.name: each for each in known})


def told(deployment: Deployment, *known: MachineInfo) -> list[str]:
    return [f"{path}: {problem}" for path, problem in problems(deployment, {each.name: each for each in known})]


def test_a_board_plays_a_node_beside_the_machine_of_its_site_and_nothing_is_started_for_it() -> None:
    of = placed({"sensor-0": "esp-1", "ward-0": "pi"}, board(near="pi"), WARD)
    assert (of.nodes["sensor-0"].machine, of.nodes["sensor-0"].board) == ("pi", "esp-1")
    assert (machines_of(of), boards_of(of), boards_at(of, "ward-0"), boards_at(of, "ward-1")) == (
        ["pi"],
        ["esp-1"],
        ["esp-1"],
        [],
    )
    agents = [part for part in plan_of(of).parts if part.kind == "agent"]
    assert "sensor-0" not in {node for part in agents for node in part.nodes}
    assert told(of, board(near="pi"), WARD) == []


def test_a_site_has_to_be_where_its_board_finds_it() -> None:
    of = placed({"sensor-0": "esp-1", "ward-0": "pi"}, board(), WARD)
    where = "finds its broker on 'here', and its site 'ward-0' is on 'pi'"
    mend = "(put the site there, or invite it again with --near pi)"
    assert told(of, board(), WARD) == [f"$.machines.sensor-0: 'esp-1' {where} {mend}"]


def test_one_machine_has_one_site_with_boards() -> None:
    boards = board(), board("esp-2")
    (problem,) = told(placed({"sensor": ("esp-1", "esp-2")}, *boards), *boards)
    assert problem.startswith(
        "$.machines: ward-0, ward-1 have devices without Python, which find one broker on 'here' ("
    )


def test_a_board_is_one_device() -> None:
    of = placed({"sensor-0": "esp-1", "bed-0": "esp-1"}, board())
    assert told(of, board()) == [
        "$.machines.sensor-0: 'esp-1' plays 'bed-0' already (a device without Python is one device)"
    ]
    assert told(placed({"ward-0": "esp-1"}, board()), board()) == [
        "$.machines.ward-0: 'esp-1' is a device without Python (name a device)"
    ]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"links": (Link(between=("sensor", "ward"), latency_ms=5.0),)}, "cannot cross an emulated link"),
        ({"infer": "device"}, "decides nothing itself"),
        ({"moves": (Move(at_s=1.0, node="sensor-0", to="ward-1"),)}, "does not move"),
    ],
)
def test_what_a_board_cannot_do_is_named_with_the_mend(how: dict[str, object], said: str) -> None:
    of = placed({"sensor-0": "esp-1"}, board(), **how)  # type: ignore[arg-type]
    (problem,) = told(of, board())
    assert problem.startswith(f"$.machines.sensor-0: 'esp-1' {said}")
    assert problem.endswith(")")
