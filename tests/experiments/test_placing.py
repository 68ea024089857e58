"""`edgebench place`, from the file to the placement."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edgebench
from edgebench.cli import main
from edgebench.placement.placed import Placement
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import Profile
from tests.profiles import inference, profile

WARD = """\
schema: 1
name: small
nodes:
  cloud: {tier: cloud}
  ward: {tier: edge, parent: cloud}
  bed: {tier: device, count: 2, parent: ward}
links:
  - {between: [bed, ward], latency_ms: 100, rate_mbit_s: 8}
  - {between: [ward, cloud], latency_ms: 400, up_mbit_s: 4}
jobs:
  - {release_s: 0, priority: 1, task: icu-death, device: bed-0, size_bytes: 1000000}
  - {release_s: 1, priority: 2, task: icu-heart-failure, device: bed-1, size_bytes: 2000000}
place:
  cost:
    by: parameters
    counts: {icu-death: 100, icu-heart-failure: 1000}
    sample_bytes: {icu-death: 1000, icu-heart-failure: 1000}
    per_s: {bed: 100000, ward: 1000000, cloud: 10000000}
"""
CSV = """\
device,release_s,priority,task,size_bytes
bed-0,0,1,icu-death,1000000

bed-1,1.0,2,icu-heart-failure,2000000
"""
LIST = WARD[WARD.index("jobs:\n") : WARD.index("place:\n")]
COUNTS = "    counts: {icu-death: 100, icu-heart-failure: 1000}\n"
BYTES = "    sample_bytes: {icu-death: 1000, icu-heart-failure: 1000}\n"
COLUMNS = "release_s, priority, task, device, size_bytes"
COST = WARD[WARD.index("    by: parameters\n") :]


def ward(folder: Path, text: str = WARD) -> Path:
    path = folder / "ward.yaml"
    path.write_text(text)
    return path


def placed_by(*how: Any, **more: Any) -> Placement:
    found = edgebench.place(*how, **more)
    assert isinstance(found, Placement)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.removesuffix("\n")


def edited(*changes: tuple[str, str]) -> str:
    text = WARD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_a_job_takes_its_transmission_and_its_processing(tmp_path: Path) -> None:
    topology = edgebench.load(ward(tmp_path))
    on_device, at_edge, in_cloud = (placed_by(topology, f"all-{tier}").jobs for tier in ("device", "edge", "cloud"))
    # 1,000 samples of 100 parameters, 2,000 of 1,000; 1 s a MB to the edge, 2 s more to the cloud.
    assert [(job.transmission_s, job.processing_s) for job in on_device] == [(0.0, 1.0), (0.0, 20.0)]
    assert [job.transmission_s for job in at_edge] == pytest.approx([1.1, 2.1])
    assert [job.processing_s for job in at_edge] == pytest.approx([0.1, 2.0])
    assert [job.transmission_s for job in in_cloud] == pytest.approx([3.5, 6.5])
    assert [job.node for job in (*on_device, *at_edge)] == ["bed-0", "bed-1", "ward", "ward"]


def test_the_best_layers_are_placed_and_their_sum_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["place", str(ward(tmp_path)), "--policy", "best-layer", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [job["tier"] for job in found["jobs"]] == ["device", "edge"]
    assert found["weighted_response_s"] == pytest.approx(1 * 1.0 + 2 * 4.1)
    told = [found[key] for key in ("kind", "schema", "topology", "policy")]
    assert told == ["placement", 1, "small", "best-layer"]


def test_a_csv_file_beside_the_topology_is_the_same_trace(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text(CSV)
    listed = placed_by(ward(tmp_path), "tabu")
    assert placed_by(ward(tmp_path, edited((LIST, "jobs: jobs.csv\n"))), "tabu") == listed


def test_exact_is_shown_with_its_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["place", str(ward(tmp_path)), "--policy", "exact"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "small: 2 jobs by exact, seed 0: 1 on device, 1 on edge"
    assert lines[1] == "  weighted sum of response times  9.2 s"
    assert lines[3] == "  no schedule is below            9.2 s (proven optimal)"
    assert lines[5].split() == ["0", "icu-death", "bed-0", "1", "0", "bed-0", "0", "0", "1", "1"]
    assert lines[6].split() == ["1", "icu-heart-failure", "bed-1", "2", "1", "ward", "2.1", "0", "2", "4.1"]


def test_a_placement_is_written_read_back_and_judged_on_another_link(tmp_path: Path) -> None:
    file = ward(tmp_path)
    out = tmp_path / "placed.json"
    placed = placed_by(file, "all-edge", out=out)
    assert edgebench.load_placement(out) == placed
    assert placed_by(file, placement=out) == placed
    slower = placed_by(edgebench.load(file, ["links[0].latency_ms=600"]), placement=out)
    assert slower.weighted_response_s == pytest.approx(placed.weighted_response_s + 3 * 0.5)


@pytest.mark.parametrize("policy", ["best-layer", "greedy", "tabu", "exact", "random"])
def test_no_policy_places_a_job_where_it_may_not_be(policy: str, tmp_path: Path) -> None:
    topology = edgebench.load(ward(tmp_path), ["place.allow=[cloud]"])
    assert {job.tier for job in placed_by(topology, policy).jobs} == {"cloud"}


def test_a_policy_whose_tier_is_not_allowed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ward(tmp_path)
    said = refused(capsys, "place", file, "--policy", "all-cloud", "--set", "place.allow=[device, edge]")
    assert said == "--policy all-cloud: place.allow does not have 'cloud' (add it, or take another)"
    placed_by(file, "all-cloud", out=tmp_path / "cloud.json")
    words = ("--placement", tmp_path / "cloud.json", "--set", "place.allow=[device, edge]")
    said = refused(capsys, "place", file, *words)
    may = "$.jobs[0].node: the job may not be on 'cloud' (it may on bed-0, ward)"
    assert said == f"{tmp_path}/cloud.json: {may}"


def test_jobs_cost_what_was_measured(tmp_path: Path) -> None:
    measured: Profile = profile(inference=tuple(inference(n, ms, runtime="litert") for n, ms in ((1, 20.0), (8, 40.0))))
    (tmp_path / "slow.json").write_bytes(written(measured))
    text = edited(
        ("count: 2,", "count: 2, profile: slow.json,"),
        (COST, "    by: measured\n    sample_bytes: {icu-death: 100000}\n"),
        ("task: icu-heart-failure", "task: icu-death"),
    ).replace("place:\n", "place:\n  allow: [device]\n")
    placed = placed_by(ward(tmp_path, text), "all-device").jobs
    # 10 samples: eight at once, and two one by one, or eight more places for the two, which take as long; 20 samples.
    assert [job.processing_s for job in placed] == pytest.approx([0.08, 0.12])


def test_costs_of_published_models_are_known(tmp_path: Path) -> None:
    text = edited(
        (COUNTS + BYTES, ""), ("by: parameters", "by: multiply-adds"), ("size_bytes: 1000000", "size_bytes: 14592")
    )
    assert placed_by(ward(tmp_path, text), "all-device").jobs[0].processing_s == pytest.approx(3.56368)


BROKEN = {
    "$.jobs[1].device: no device 'bad-1' (did you mean 'bed-1'?)": [("bed-1, size", "bad-1, size")],
    "$.jobs[0].task: no task 'icu-deat' (did you mean 'icu-death'?)": [("icu-death, device", "icu-deat, device")],
    "$.jobs[1].priority: 0 is not a whole number >= 1": [("priority: 2", "priority: 0")],
    "$: has neither workloads nor jobs (give workloads to run, or jobs to place)": [
        (LIST, ""),
        (f"place:\n  cost:\n{COST}", ""),
    ],
    "$.duration_s: has no effect beside jobs, which are placed, not run (remove it)": [
        ("name: small", "name: small\nduration_s: 5")
    ],
    "$.links[1].loss_percent: has no effect on jobs, which take a link's mean way up (remove it)": [
        ("latency_ms: 400", "latency_ms: 400, loss_percent: 1")
    ],
    "$.place.cost.per_s: does not say how fast 'bed' is, which jobs may be placed on (add it)": [
        ("per_s: {bed: 100000, ", "per_s: {")
    ],
    "$.place.cost.per_s.bad: no node 'bad' (did you mean 'bed'?)": [("per_s: {bed", "per_s: {bad: 1, bed")],
    "$.place.cost.by: 'guess' is not one of parameters, multiply-adds, measured": [(COST, "    by: guess\n")],
    "$.place: does not say what a job takes (give cost, by parameters, multiply-adds or measured)": [
        (f"place:\n  cost:\n{COST}", "")
    ],
    "$.nodes.ward: jobs cost what its profile says, and it has none (give profile: FILE)": [
        (COST, "    by: measured\n"),
        ("place:\n", "place:\n  allow: [edge]\n"),
    ],
    "$.place.cost.counts: no job is of the task 'occupancy' (known: icu-death, icu-heart-failure)": [
        ("counts: {icu-death: 100", "counts: {icu-death: 100, occupancy: 1")
    ],
    "$.place.cost: sample_bytes: nothing tells how large a sample of icu-death (light) is (add icu-death: BYTES)": [
        (BYTES, ""),
        ("by: parameters\n", "by: parameters\n    size: light\n"),
    ],
    "$.place.cost: counts: nobody has counted the multiply-adds of icu-death (light) (add icu-death: NUMBER)": [
        (COUNTS, ""),
        ("by: parameters\n", "by: multiply-adds\n    size: light\n"),
    ],
}


@pytest.mark.parametrize("said", BROKEN)
def test_what_is_wrong_with_a_topology_of_jobs_is_told(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ward(tmp_path, edited(*BROKEN[said]))
    assert refused(capsys, "place", file, "--policy", "tabu") == f"{file}: {said}"


BROKEN_CSV: dict[str, str | bytes] = {
    "line 4: device: no device 'bed-7' (did you mean 'bed-1'?)": CSV.replace("bed-1,1.0", "bed-7,1.0"),
    "line 4: release_s: expected a number, got text ('soon')": CSV.replace("1.0,2", "soon,2"),
    "line 4: release_s: expected a number, got text ('1_0')": CSV.replace("1.0,2", "1_0,2"),
    "line 4: release_s: expected a number, got text ('nan')": CSV.replace("1.0,2", "nan,2"),
    "line 4: a byte that is no UTF-8 (save it as UTF-8)": CSV.encode().replace(b"bed-1", b"\xe9"),
    "line 4: release_s: -1 is not a number >= 0": CSV.replace("1.0,2", "-1,2"),
    "line 4: release_s: inf is not a number <= 604800": CSV.replace("1.0,2", "9" * 400 + ",2"),
    "line 2: priority: expected a whole number, got a number (1.5)": CSV.replace("0,1,icu", "0,1.5,icu"),
    "line 2: 4 fields, and the first line names 5 columns (write one field a column)": CSV.replace(",1000000", ""),
    f"line 1: no column is called 'weight' (known: {COLUMNS})": CSV.replace("priority", "weight"),
    f"line 1: column 'size_bytes' is missing (name {COLUMNS})": CSV.replace(",size_bytes", ""),
    f"no jobs in it (write a line a job below {COLUMNS.replace(' ', '')})": CSV.splitlines()[0],
    "line 2: unexpected end of data": CSV.splitlines()[0] + '\n"bed',
}


@pytest.mark.parametrize("said", BROKEN_CSV)
def test_what_is_wrong_with_a_csv_file_is_told_with_its_line(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "jobs.csv"
    content = BROKEN_CSV[said]
    trace.write_bytes(content if isinstance(content, bytes) else content.encode())
    file = ward(tmp_path, edited((LIST, "jobs: jobs.csv\n")))
    found = refused(capsys, "place", file, "--policy", "tabu")
    assert found == f"{file}: $.jobs: {trace}: {said}"


def test_a_csv_file_is_no_topology(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "jobs.csv"
    trace.write_text(CSV)
    said = refused(capsys, "place", trace, "--policy", "tabu")
    assert said == f"{trace}: a table, not a topology (a job trace is named in one, by jobs: jobs.csv)"


def test_jobs_are_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ward(tmp_path)
    said = refused(capsys, "validate", file)
    assert (
        said == f"{file}: $.jobs: the local executor cannot enforce jobs, which are placed, not run (edgebench place)"
    )


def test_a_placement_of_another_trace_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ward(tmp_path)
    out = tmp_path / "placed.json"
    placed_by(file, "greedy", out=out)
    said = refused(capsys, "place", file, "--placement", out, "--set", "jobs[1].priority=3")
    assert said == f"{out}: $.jobs[1]: is not the job trace's (place that trace anew)"
    document = json.loads(out.read_bytes())
    out.write_bytes(msgspec.json.encode({**document, "jobs": [{**document["jobs"][0], "tier": "moon"}]}))
    said = refused(capsys, "place", file, "--placement", out)
    assert said == f"{out}: $.jobs[0].tier: 'moon' is not one of cloud, device, edge"
    other = {**document, "jobs": [{**document["jobs"][0], "tier": "edge"}, document["jobs"][1]]}
    out.write_bytes(msgspec.json.encode(other))
    said = refused(capsys, "place", file, "--placement", out)
    assert said == f"{out}: $.jobs[0].tier: is edge, and 'bed-0' is of tier device (change one of them)"
    out.write_bytes(b"[" * 100_000)
    assert refused(capsys, "place", file, "--placement", out) == (
        f"{out}: no placement: nested too deeply (edgebench place --out writes one)"
    )
    out.write_text("{}")
    assert (
        refused(capsys, "place", file, "--placement", out) == f"{out}: no placement (edgebench place --out writes one)"
    )


def test_what_an_option_would_have_no_effect_on_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = ward(tmp_path), tmp_path / "placed.json"
    said = refused(capsys, "place", file, "--policy", "tabu", "--limit-s", "5")
    assert said == "--limit-s: only --policy exact seeks until then (leave it out)"
    placed_by(file, "greedy", out=out)
    said = refused(capsys, "place", file, "--placement", out, "--seed", "5")
    assert said == "--seed: what an earlier placement of jobs has decided is not left to chance (leave it out)"
    for option, value in (("objective", "bytes"), ("at-most", "bytes=1"), ("calibrate", "runs/x")):
        said = refused(capsys, "place", file, "--policy", "tabu", f"--{option}", value)
        assert said == f"--{option}: is for workloads, not for jobs (leave it out)"


def test_a_placement_of_jobs_is_none_of_workloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = ward(tmp_path), tmp_path / "placed.json"
    placed_by(file, "greedy", out=out)
    said = refused(capsys, "run", "icu-ward", "--placement", out)
    assert said == f"{out}: places jobs, and the topology has workloads (place these: edgebench place)"


def test_exact_without_its_solver_says_how_to_get_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['ortools'] = None; from edgebench.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "place", str(ward(tmp_path)), "--policy", "exact"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    need = "--policy exact: needs OR-tools, which is not installed (pip install 'edgebench[place]')\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", need)
