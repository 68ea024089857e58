"""What simulated nodes would have drawn, worked out by hand from what their profile holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

import edgebench
from edgebench.experiments import simulate
from edgebench.experiments.simulate import simulate_with
from edgebench.results.figures import NodeFigures
from edgebench.results.rundir import load_deployment, read_records
from edgebench.simulation.busy import Busy
from edgebench.topology.profiles import PictureCost, Profile
from tests.profiles import ms_times
from tests.simulation.metered import CORES, METERED, metered_ward, slow_times
from tests.simulation.wards import WATCH

SAMPLES, BED_SAMPLES, STREAMED_S = 150, 50, 10.0


def relay_ms(size: float) -> float:
    """Of a message by that profile, as are the others: between 100 and 100,000 bytes, linearly."""
    return 1 + 2 * (size - 100) / 99_900


def receive_ms(size: float) -> float:
    return 2 + 4 * (size - 100) / 99_900


def send_ms(size: float) -> float:
    return 3 + 6 * (size - 100) / 99_900


def simulated(folder: Path, described: Profile = METERED, **watch: Any) -> dict[str, NodeFigures]:
    """The nodes of a ward, which are all of this machine."""
    plan = {name: value for name, value in {**WATCH, **watch}.items() if value is not None}
    file = metered_ward(folder, described, workloads={"watch": plan})
    _, result = simulate_with(slow_times(), edgebench.load(file), folder / "runs", page="no")
    assert {each.no_energy for each in result.nodes.values() if each.energy is not None} <= {None}
    return result.nodes


def check(node: NodeFigures, samples: int, each_ms: float) -> None:
    """Whether a node was busy for so long with each of so many samples."""
    assert node.energy is not None
    share = samples * each_ms / 1e3 / (CORES * STREAMED_S)
    assert node.energy.busy_share == pytest.approx(share, abs=2e-6)
    assert node.energy.idle_j == 2.0 * STREAMED_S
    assert node.energy.work_j == pytest.approx(4.0 * share * STREAMED_S, abs=1e-4)
    assert (node.energy.how, node.energy.source) == ("modelled", "a plug (measured)")


def test_an_edge_that_decides_takes_in_decides_and_answers(tmp_path: Path) -> None:
    nodes = simulated(tmp_path)
    check(nodes["bed-0"], BED_SAMPLES, send_ms(2_000) + receive_ms(100))
    check(nodes["ward"], SAMPLES, relay_ms(2_000) + receive_ms(2_000) + 20 + send_ms(100) + relay_ms(100))
    check(nodes["cloud"], 0, 0.0)


def test_what_the_cloud_decides_passes_the_edge_both_ways(tmp_path: Path) -> None:
    nodes = simulated(tmp_path, place={"infer": "cloud"})
    forward, answer = 2_000 + 27 + len("bed-0"), 100 + 7 + len("bed-0")
    check(nodes["bed-2"], BED_SAMPLES, send_ms(2_000) + receive_ms(100))
    there_ms = relay_ms(2_000) + receive_ms(2_000) + send_ms(forward)
    back_ms = receive_ms(answer) + send_ms(100) + relay_ms(100)
    check(nodes["ward"], SAMPLES, there_ms + back_ms)
    decided_ms = relay_ms(forward) + receive_ms(forward) + 20 + send_ms(answer) + relay_ms(answer)
    check(nodes["cloud"], SAMPLES, decided_ms)


def test_a_device_that_decides_has_no_messages(tmp_path: Path) -> None:
    nodes = simulated(tmp_path, place={"infer": "device"}, batch=None)
    check(nodes["bed-1"], BED_SAMPLES, 20)
    check(nodes["ward"], 0, 0.0)


def test_closed_loops_are_added_up_likewise(tmp_path: Path) -> None:
    node = simulated(tmp_path, load={"kind": "single-stream"})["ward"]
    assert node.energy is not None
    each_ms = relay_ms(2_000) + receive_ms(2_000) + 20 + send_ms(100) + relay_ms(100)
    decided = node.energy.busy_share * CORES * STREAMED_S * 1e3 / each_ms
    assert decided > 10
    assert decided == pytest.approx(round(decided), abs=0.01)


def test_a_chain_is_decided_in_part_at_the_edge_and_in_part_in_the_cloud(tmp_path: Path) -> None:
    nodes = simulated(tmp_path, place={"infer": ["edge", "cloud"]}, split=2)
    ward_, cloud = (nodes[name].energy for name in ("ward", "cloud"))
    assert ward_ is not None
    assert cloud is not None
    answer = 100 + 7 + len("bed-0")
    # What goes on are 400 bytes in envelopes: some 500.
    for energy, inferred_ms, rest_ms in (
        (ward_, 5, relay_ms(2_000) + receive_ms(2_000) + send_ms(500) + receive_ms(answer) + send_ms(100) + 1),
        (cloud, 15, relay_ms(500) + receive_ms(500) + send_ms(answer) + relay_ms(answer)),
    ):
        share = SAMPLES * (inferred_ms + rest_ms) / 1e3 / (CORES * STREAMED_S)
        assert energy.busy_share == pytest.approx(share, rel=0.002)


def test_pictures_are_compressed_and_decompressed_besides(tmp_path: Path) -> None:
    pictures = (PictureCost("icu-death", 75, ms_times(7.0), ms_times(9.0)),)
    described = msgspec.structs.replace(METERED, pictures=pictures)
    nodes = simulated(tmp_path, described, compress={"kind": "jpeg"})
    check(nodes["bed-0"], BED_SAMPLES, 7 + send_ms(2_000) + receive_ms(100))
    check(nodes["ward"], SAMPLES, relay_ms(2_000) + receive_ms(2_000) + 9 + 20 + send_ms(100) + relay_ms(100))


def test_at_an_edge_of_a_cascade_nobody_knows_what_its_own_model_took(tmp_path: Path) -> None:
    place, cascade = {"infer": "cascade"}, {"size": "heavy"}
    nodes = simulated(tmp_path, place=place, cascade=cascade)
    assert nodes["ward"].energy is None
    assert nodes["ward"].no_energy is not None
    assert "a cascade passes on some" in nodes["ward"].no_energy
    assert nodes["cloud"].energy is not None
    assert nodes["bed-0"].energy is not None


def test_what_an_edge_of_a_cascade_took_for_lost_samples_is_not_known_either(tmp_path: Path) -> None:
    plan = {**WATCH, "place": {"infer": "cascade"}, "cascade": {"size": "heavy"}}
    file = metered_ward(tmp_path, workloads={"watch": plan})
    run_dir, _ = simulate_with(slow_times(), edgebench.load(file), tmp_path / "runs", page="no")
    table = read_records(run_dir)
    lost = pa.nulls(len(table), table["decider"].type)
    table = table.set_column(table.column_names.index("decider"), "decider", lost)
    busy = Busy(load_deployment(run_dir), ())
    assert len(list(busy.passing([table]))) == 1
    assert {"bed-0", "cloud"} < busy.released().keys()
    assert "ward" not in busy.released()


def test_where_no_records_are_kept_or_messages_are_larger_than_the_profile_knows_a_reason_stands_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small").mkdir()
    small = msgspec.structs.replace(METERED, messages=METERED.messages[:1])
    nodes = simulated(tmp_path / "small", small)
    assert nodes["ward"].energy is None
    assert nodes["ward"].no_energy == (
        "150 messages were larger than any that its profile knows the cost of "
        "(measure larger ones: edgebench profile --message-bytes)"
    )
    monkeypatch.setattr(simulate, "MOST_RECORDED", 10)
    nodes = simulated(tmp_path)
    assert nodes["ward"].energy is None
    assert nodes["ward"].no_energy is not None
    assert "too many samples" in nodes["ward"].no_energy


def test_a_node_whose_profile_tells_no_power_has_neither_energy_nor_a_reason(tmp_path: Path) -> None:
    nodes = simulated(tmp_path, msgspec.structs.replace(METERED, power=None))
    assert {(each.energy, each.no_energy) for each in nodes.values()} == {(None, None)}
