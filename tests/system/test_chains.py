"""Two stages, the first at the edge or on devices, the second above: of a model that is cut, and of two models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edgebench
from edgebench.errors import EdgebenchError
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest
from edgebench.report.trade_offs import summary_lines
from edgebench.report.wording import shown_hops
from edgebench.results.rundir import load_run, read_records, read_result
from edgebench.simulation.calibration_samples import ENOUGH, Samples, samples_of
from edgebench.topology.profile_files import written
from tests.cloud.tiny import TASK
from tests.profiles import inference, profile
from tests.system.running import faults_of, run

pytestmark = pytest.mark.timeout(600)  # it makes, cuts and converts four models

SPLIT = """\
schema: 1
name: split
seed: 3
duration_s: 4
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 4, parent: ward}
links:
  - {between: [ward, cloud], latency_ms: 20, rate_mbit_s: 20}
workloads:
  watch:
    task: tests.cloud.tiny:TASK
    source: bed
    load: {kind: fixed, rate_hz: 10}
    place: {infer: [edge, cloud]}
    split: 2
    model: {runtime: keras}
    batch: {max_batch: 1}
    train: {epochs: 1}
  after:
    task: tests.cloud.tiny:SECOND
    source: bed
    load: {kind: with, workload: watch}
    place: {infer: [edge, cloud]}
    head: {task: tests.cloud.tiny:TASK, runtime: keras, train: {epochs: 1}}
    model: {runtime: keras}
    batch: {max_batch: 1}
"""
SENT = 160


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Its figures, and its directory."""
    _, result, run_dir = run(tmp_path_factory.mktemp("chains"), SPLIT)
    return result, run_dir


def test_what_the_edge_makes_of_a_sample_is_decided_in_the_cloud_and_each_stage_is_told_apart(
    ran: tuple[dict[str, Any], Path],
) -> None:
    result, run_dir = ran
    assert faults_of(result) == []
    two = result["workloads"]["after"]
    assert (two["decided"], two["lost"], two["place"], two["chain"]["cut"]) == (SENT, 0, "edge → cloud", None)
    assert [(model["origin"], model["n"]) for model in two["models"]] == [
        ("trained for the edge", 0),
        ("trained for the cloud", SENT),
    ]
    assert two["hops_ms"]["head_infer"]["mean"] > 0
    figures = result["workloads"]["watch"]
    counts = [figures[key] for key in ("scheduled", "decided", "lost", "duplicated", "reordered", "rejected")]
    assert counts == [SENT, SENT, 0, 0, 0, 0]
    assert figures["place"] == "edge → cloud"
    # 8 values go on, of the 24 of a sample.
    chain = figures["chain"]
    assert (chain["cut"]["place"], chain["places"], chain["cut"]["output_bytes"]) == (2, 2, 32)
    hops = {name: spread["mean"] for name, spread in figures["hops_ms"].items()}
    assert sum(hops.values()) == pytest.approx(figures["latency_ms"]["mean"], abs=0.01)
    assert hops["head_infer"] > 0
    assert hops["backhaul_up"] >= 20.0
    assert chain["measured_ms"] == pytest.approx(
        sum(hops[name] for name in hops if name not in ("sense", "uplink", "backhaul_down", "edge_return", "downlink")),
        abs=0.01,
    )
    # Each part is with those that have it, and the cloud's has decided all.
    (head, of_head), (tail, of_tail) = (_model(run_dir, model["digest"]) for model in figures["models"])
    assert [model["n"] for model in figures["models"]] == [0, SENT]
    observed = json.loads((run_dir / "observations.json").read_text())
    swapped = {(swap["node"], swap["digest"]) for swap in observed["swaps"] if swap["workload"] == "watch"}
    assert swapped == {("ward", of_head.digest), ("cloud", of_tail.digest)}
    # What was decided is what both files give for the samples that were sent.
    records = [row for row in read_records(run_dir).to_pylist() if row["workload"] == "watch"]
    assert _farthest_off(records, head, of_head, tail, of_tail) < 1e-5
    assert {row["decider"] for row in records} == {"cloud"}
    assert all(row["forward_in_ns"] <= row["head_ready_ns"] <= row["head_started_ns"] for row in records)
    assert all(row["head_finished_ns"] <= row["forward_out_ns"] <= row["received_ns"] for row in records)


@pytest.mark.long  # by times, which a busy machine has none of
def test_a_simulation_by_a_run_of_chains_takes_as_long_as_that_did(
    ran: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """By the medians of the hops in which the fewest have a part: a model alone, and a link that is slower than all
    that happens at its ends."""
    result, run_dir = ran
    calm = _calm(run_dir)
    if min(map(len, calm.values())) < ENOUGH:
        _, result, run_dir = run(tmp_path, SPLIT)
        calm = _calm(run_dir)
    if min(map(len, calm.values())) < ENOUGH:
        pytest.skip("foreign work disturbed both runs, so nothing can be calibrated by them")
    found = edgebench.simulate(edgebench.load(run_dir), calibrate=[run_dir], out=tmp_path / "simulated").figures
    for name, measured in calm.items():
        simulated = found.workloads[name]
        assert (simulated.decided, simulated.place) == (SENT, "edge → cloud")
        assert simulated.hops_ms is not None
        assert simulated.hops_ms.head_infer is not None
        first_ms = np.median(measured["head_finished_ns"] - measured["head_started_ns"]) / 1e6
        assert simulated.hops_ms.head_infer.p50 == pytest.approx(first_ms, rel=0.2)
        across_ms = np.median(measured["received_ns"] - measured["forward_out_ns"]) / 1e6
        assert across_ms > 20
        assert simulated.hops_ms.backhaul_up.p50 == pytest.approx(across_ms, rel=0.1)
    # What crosses the uplink, but for acknowledgements and the like, which a simulation leaves out.
    name = "ward -> cloud"
    assert found.links[name].up_bytes == pytest.approx(result["links"][name]["up_bytes"], rel=0.1)


def _calm(run_dir: Path) -> dict[str, Samples]:
    """What nothing foreign disturbed of each workload."""
    return {name: samples.select(samples.calm) for name, samples in samples_of(load_run(run_dir)).items()}


def _farthest_off(records: list[dict[str, Any]], head: Path, of_head: Manifest, tail: Path, of_tail: Manifest) -> float:
    """How far any decision is from what both files give for one of the samples that were sensed."""
    given = open_runtime(head, of_head).infer(TASK.load(None, seed=3).test.x)
    whole = open_runtime(tail, of_tail).infer(given)
    found = np.array([row["output"] for row in records], np.float32)
    return float(np.abs(found - whole.T).min(axis=1).max())


def _model(run_dir: Path, digest: str) -> tuple[Path, Manifest]:
    described = msgspec.json.decode((run_dir / "models" / f"{digest}.json").read_bytes(), type=Manifest)
    return run_dir / "models" / f"{digest}.model", described


ON_DEVICES = """\
schema: 1
name: heads-on-devices
seed: 3
duration_s: 4
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 2, parent: ward}
  slow:  {tier: device, count: 2, parent: ward, profile: slow.json}
links:
  - {between: [bed, ward], latency_ms: 5, rate_mbit_s: 20}
  - {between: [ward, cloud], latency_ms: 20, rate_mbit_s: 20}
workloads:
  near:
    task: tests.cloud.tiny:TASK
    source: bed
    load: {kind: fixed, rate_hz: 10}
    place: {infer: [device, edge]}
    split: 2
    model: {runtime: keras}
    train: {epochs: 1}
  far:
    task: tests.cloud.tiny:SECOND
    source: bed
    load: {kind: with, workload: near}
    place: {infer: [device, cloud]}
    head: {task: tests.cloud.tiny:TASK, runtime: keras, train: {epochs: 1}}
    model: {runtime: keras}
  slowly:
    task: tests.cloud.tiny:TASK
    source: slow
    load: {kind: fixed, rate_hz: 5}
    place: {infer: [device, edge]}
    split: 1
    model: {runtime: keras}
    train: {epochs: 1}
"""
OF_BEDS, OF_SLOW, WHOLE_MS = 80, 40, 20.0


@pytest.fixture(scope="module")
def ran_on_devices(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Its figures, and its directory."""
    folder = tmp_path_factory.mktemp("on-devices")
    model = inference(1, WHOLE_MS, task=TASK.name, runtime="keras")
    (folder / "slow.json").write_bytes(written(profile(inference=(model,))))
    _, result, run_dir = run(folder, ON_DEVICES)
    return result, run_dir


def test_what_devices_make_of_samples_is_decided_at_their_site_or_in_the_cloud(
    ran_on_devices: tuple[dict[str, Any], Path],
) -> None:
    result, run_dir = ran_on_devices
    assert faults_of(result) == []
    records = read_records(run_dir).to_pylist()
    observed = json.loads((run_dir / "observations.json").read_text())
    for name, sent, decider, devices in (
        ("near", OF_BEDS, "ward", ["bed-0", "bed-1"]),
        ("far", OF_BEDS, "cloud", ["bed-0", "bed-1"]),
        ("slowly", OF_SLOW, "ward", ["slow-0", "slow-1"]),
    ):
        figures = result["workloads"][name]
        counts = [figures[key] for key in ("scheduled", "decided", "lost", "duplicated", "reordered", "rejected")]
        assert counts == [sent, sent, 0, 0, 0, 0], name
        assert figures["chain"]["head_tier"] == "device"
        assert [model["n"] for model in figures["models"]] == [0, sent]
        (head, of_head), (tail, of_tail) = (_model(run_dir, model["digest"]) for model in figures["models"])
        swapped = {(swap["node"], swap["digest"]) for swap in observed["swaps"] if swap["workload"] == name}
        assert swapped == {*((device, of_head.digest) for device in devices), (decider, of_tail.digest)}
        # What was decided is what both files give for the samples that were sensed.
        of_it = [row for row in records if row["workload"] == name]
        assert _farthest_off(of_it, head, of_head, tail, of_tail) < 1e-5
        assert {row["decider"] for row in of_it} == {decider}
        assert all(row["captured_ns"] == row["head_ready_ns"] <= row["head_started_ns"] for row in of_it)
        assert all(row["head_finished_ns"] <= row["sent_ns"] < row["received_ns"] for row in of_it)
        hops = {hop: spread["mean"] for hop, spread in figures["hops_ms"].items()}
        assert sum(hops.values()) == pytest.approx(figures["latency_ms"]["mean"], abs=0.01)
        assert hops["head_infer"] > 0
        assert min(hops.values()) >= 0
    found_there = read_result(run_dir)
    shown = shown_hops(found_there)
    assert shown.index("head_infer") == shown.index("uplink") - 1
    assert sum("ms from device to decision" in line for line in summary_lines(found_there)) == 3
    # 8 values and not 24 cross the link of a device.
    assert max(row["size_bytes"] for row in records if row["workload"] == "near") < min(
        row["size_bytes"] for row in records if row["workload"] == "slowly"
    )


def test_the_first_stage_takes_its_share_of_what_the_model_takes_on_an_emulated_device(
    ran_on_devices: tuple[dict[str, Any], Path],
) -> None:
    result, run_dir = ran_on_devices
    figures = result["workloads"]["slowly"]
    _, of_head = _model(run_dir, figures["models"][0]["digest"])
    assert of_head.part is not None
    rows = [row for row in read_records(run_dir).to_pylist() if row["workload"] == "slowly"]
    took_ms = {round((row["head_finished_ns"] - row["head_started_ns"]) / 1e6, 3) for row in rows}
    assert took_ms == {round(of_head.part.share * WHOLE_MS, 3)}
    assert result["nodes"]["slow-0"]["emulated"]["released"] >= 2 * OF_SLOW / 2  # the first stage, and what it gives


def test_no_simulation_takes_a_chain_that_begins_on_devices_nor_is_calibrated_by_one(
    ran_on_devices: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    _, run_dir = ran_on_devices
    with pytest.raises(
        EdgebenchError, match=r"\$\.workloads\.near\.place\.infer: the simulate executor cannot enforce"
    ):
        edgebench.simulate(edgebench.load(run_dir), calibrate=[run_dir], out=tmp_path / "simulated")
    plain = tmp_path / "plain.yaml"
    plain.write_text(SPLIT)
    with pytest.raises(EdgebenchError, match="a run with chains that begin on devices does not tell"):
        edgebench.simulate(plain, calibrate=[run_dir], out=tmp_path / "simulated")
