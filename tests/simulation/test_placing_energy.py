"""`edgebench place` by what placements draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import edgebench
from edgebench.experiments import simulate
from edgebench.experiments.simulate import simulate_with
from edgebench.placement.stream_placed import StreamPlacement
from edgebench.topology.profiles import Profile
from tests.simulation.metered import METERED, metered_ward, slow_times
from tests.simulation.wards import NODES, WARD, WATCH

RADIO = {"up_nj_per_byte": 200_000.0, "down_nj_per_byte": 100_000.0, "source": "made up"}
FREE = {"up_nj_per_byte": 0.0, "down_nj_per_byte": 0.0, "source": "made up"}
LINKS = [{**link, "energy": RADIO} for link in WARD["links"]]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which each tier decides, on the slow machines."""
    return measured_with(METERED, tmp_path_factory.mktemp("metered"))


def measured_with(described: Profile, folder: Path) -> Path:
    each: dict[str, Any] = {tier: {**WATCH, "place": {"infer": tier}} for tier in ("device", "edge", "cloud")}
    del each["device"]["batch"]
    file = metered_ward(folder, described, workloads=each)
    found, _ = simulate_with(slow_times(), edgebench.load(file), folder / "runs", page="no")
    return found


def placed(file: Path, run_dir: Path, policy: str, **more: Any) -> StreamPlacement:
    found = edgebench.place(file, policy, calibrate=[run_dir], **more)
    assert isinstance(found, StreamPlacement)
    return found


def test_energy_is_that_of_nodes_and_links_beyond_idle_for_a_sample(run_dir: Path, tmp_path: Path) -> None:
    file = metered_ward(tmp_path, links=LINKS)
    found = placed(file, run_dir, "all-edge", objective=["energy-mj"])
    figures = edgebench.simulate(file, calibrate=[run_dir], out=tmp_path).figures
    work_j = [node.energy.work_j for node in figures.nodes.values() if node.energy is not None]
    link_j = [link.energy.up_j + link.energy.down_j for link in figures.links.values() if link.energy is not None]
    assert (len(work_j), len(link_j)) == (5, 4)
    assert found.value == found.terms["energy-mj"]
    assert found.value == pytest.approx(1e3 * (sum(work_j) + sum(link_j)) / 150, rel=1e-5)
    assert sum(work_j) > 0
    # Up to the ward 2,000 bytes of each sample and what MQTT adds, and 100 down.
    assert 150 * (2_000 * 2e-4 + 100 * 1e-4) < sum(link_j) < 150 * (2_100 * 2e-4 + 200 * 1e-4)


def test_the_placement_that_draws_least_is_found(run_dir: Path, tmp_path: Path) -> None:
    dear = placed(metered_ward(tmp_path, links=LINKS), run_dir, "exact", objective=["energy-mj"])
    assert (dear.proven, [stage.tier for stage in dear.stages]) == (True, ["device"])
    (tmp_path / "free").mkdir()
    file = metered_ward(tmp_path / "free", links=[{**link, "energy": FREE} for link in WARD["links"]])
    by_tier = {tier: placed(file, run_dir, f"all-{tier}", objective=["energy-mj"]).value for tier in ("device", "edge")}
    # The same inference, and no messages: 20 ms of one of four cores, at 4 W beyond idle for all of them.
    assert by_tier["device"] == pytest.approx(20.0, rel=0.01)
    assert by_tier["edge"] is not None
    assert by_tier["edge"] > 27.0
    limited = placed(file, run_dir, "all-edge", at_most=["energy-mj=25"])
    assert not limited.keeps


def test_what_no_figures_tell_of_is_an_error_and_not_nothing(run_dir: Path, tmp_path: Path) -> None:
    assert placed(metered_ward(tmp_path), run_dir, "all-device", objective=["bytes"]).terms["energy-mj"] is None
    file = metered_ward(tmp_path, msgspec.structs.replace(METERED, power=None))
    with pytest.raises(edgebench.EdgebenchError) as raised:
        placed(file, run_dir, "all-device", objective=["energy-mj"])
    slow = tmp_path / "slow.json"
    assert str(raised.value).splitlines() == [
        *(
            f"{file}: $.nodes.{name}.profile: {slow} tells no power (add it there, or leave energy-mj out)"
            for name in ("bed", "cloud", "ward")
        ),
        f"{file}: $.links[0]: tells no energy of a byte (set energy, or leave energy-mj out)",
        f"{file}: $.links[1]: tells no energy of a byte (set energy, or leave energy-mj out)",
    ]
    file = metered_ward(tmp_path, nodes=NODES, links=LINKS[:1])
    with pytest.raises(edgebench.EdgebenchError) as raised:
        placed(file, run_dir, "all-device", at_most=["energy-mj=5"])
    _, cloud, _, link = str(raised.value).splitlines()
    known = "of which no power is known (give a profile with power, or leave energy-mj out)"
    assert cloud == f"{file}: $.nodes.cloud.profile: host, {known}"
    assert link == (
        f"{file}: $.links: none between ward and cloud tells the energy of a byte (add it, or leave energy-mj out)"
    )


def test_energy_that_the_simulation_cannot_tell_is_an_error(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = msgspec.structs.replace(METERED, messages=METERED.messages[:1])
    known, file = measured_with(small, tmp_path), metered_ward(tmp_path, small, links=LINKS)
    with pytest.raises(edgebench.EdgebenchError) as raised:
        placed(file, known, "all-edge", objective=["energy-mj"])
    said = str(raised.value)
    assert said.startswith(f"{file}: $.nodes.bed: bed-0: ")
    assert said.endswith("(measure larger ones: edgebench profile --message-bytes, or leave energy-mj out)")
    monkeypatch.setattr(simulate, "MOST_RECORDED", 10)
    file = metered_ward(tmp_path, links=LINKS)
    with pytest.raises(edgebench.EdgebenchError) as raised:
        placed(file, run_dir, "all-edge", objective=["energy-mj"])
    said = str(raised.value)
    assert said.startswith(f"{file}: $.nodes.bed: bed-0: ")
    assert said.endswith(" or a cascade passes on some (leave energy-mj out)")
