"""A job trace as a topology that is run: one sample a job."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgebench
from edgebench.errors import EdgebenchError
from edgebench.topology import read_trace
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Trace
from edgebench.topology.profile_files import written
from tests.profiles import inference, profile

WARD = """\
schema: 1
name: jobs
nodes:
  cloud: {tier: cloud, profile: fast.json}
  ward: {tier: edge, count: 2, parent: cloud, profile: middle.json}
  bed: {tier: device, count: 3, parent: ward, profile: slow.json}
links:
  - {between: [bed, ward], latency_ms: 1, rate_mbit_s: 40}
  - {between: [ward, cloud], latency_ms: 10, up_mbit_s: 40}
jobs:
  - {release_s: 0.5, priority: 1, task: icu-death, device: bed-0, size_bytes: 14000}
  - {release_s: 1.25, priority: 2, task: icu-death, device: bed-1, size_bytes: 14000}
  - {release_s: 0, priority: 2, task: icu-death, device: bed-0, size_bytes: 14000}
place:
  cost: {by: measured, sample_bytes: {icu-death: 14592}}
"""


def ward(folder: Path, text: str = WARD) -> Path:
    for name, ms in (("slow", 400.0), ("middle", 80.0), ("fast", 20.0)):
        times = tuple(inference(size, ms, runtime="litert") for size in (1, 8))
        (folder / f"{name}.json").write_bytes(written(profile(name=name, cores=1, inference=times)))
    path = folder / "ward.yaml"
    path.write_text(text)
    return path


def run_as(policy: str, folder: Path) -> tuple[edgebench.TopologyFile, Deployment]:
    file = ward(folder)
    edgebench.place(file, policy, out=folder / "placed.json")
    topology = edgebench.load(file, placement=folder / "placed.json")
    return topology, edgebench.validate(topology)


def test_each_job_is_a_sample_that_is_decided_where_it_was_placed(tmp_path: Path) -> None:
    topology, deployment = run_as("best-layer", tmp_path)
    # 80 and 1 + 3 ms at the ward, 400 on the device; 20 and 10 + 3 more in the cloud.
    assert [plan.deciders for plan in deployment.workloads.values()] == [
        {"bed-0": "cloud"},
        {"bed-1": "cloud"},
        {"bed-0": "cloud"},
    ]
    loads = [plan.load for plan in deployment.workloads.values()]
    assert [read_trace(load.file) for load in loads if isinstance(load, Trace)] == [[0.5], [1.25], [0.0]]
    assert topology.topology.duration_s == 2.25
    assert {node.name: node.profile for node in deployment.nodes.values()} == {
        "cloud": "fast",
        "ward-0": "middle",
        "ward-1": "middle",
        "bed-0": "slow",
        "bed-1": "slow",
    }
    assert (deployment.links["ward-1 -> cloud"].up_mbit_s, deployment.links["bed-1 -> ward-1"].latency_ms) == (40, 1)


@pytest.mark.parametrize(
    ("policy", "deciders"), [("all-device", ["bed-0", "bed-1"]), ("all-edge", ["ward-0", "ward-1"])]
)
def test_each_tier_is_that_of_the_placement(policy: str, deciders: list[str], tmp_path: Path) -> None:
    _, deployment = run_as(policy, tmp_path)
    found = [next(iter(plan.deciders.values())) for plan in deployment.workloads.values()]
    assert found == [deciders[0], deciders[1], deciders[0]]


def test_a_trace_that_cannot_be_run_as_it_was_placed_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "placed.json"
    file = ward(tmp_path)
    longer = edgebench.load(file, ["jobs[1].size_bytes=30000"])
    edgebench.place(longer, "greedy", out=out)
    with pytest.raises(EdgebenchError) as raised:
        edgebench.load(file, ["jobs[1].size_bytes=30000"], placement=out)
    several = "has 3 samples, and is run as one (lower size_bytes)"
    assert str(raised.value) == f"{file}: $.jobs[1].size_bytes: {several}"
    cost = "place.cost={by: parameters, per_s: {cloud: 1.0e9, ward: 1.0e9, bed: 1.0e9}}"
    changes = [cost, *(f"nodes.{group}.profile=host" for group in ("cloud", "ward", "bed"))]
    edgebench.place(edgebench.load(file, changes), "greedy", out=out)
    with pytest.raises(EdgebenchError, match="a run takes what its machines take"):
        edgebench.load(file, changes, placement=out)


@pytest.mark.long
def test_jobs_that_are_run_take_about_what_the_placement_says(tmp_path: Path) -> None:
    topology, _ = run_as("all-edge", tmp_path)
    figures = edgebench.run(topology, out=tmp_path / "runs").figures
    for name in ("job-0", "job-1", "job-2"):
        latency = figures.workloads[name].latency_ms
        assert latency is not None
        assert 80 < latency.p50 < 200
