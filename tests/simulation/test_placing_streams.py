"""`edgebench place` for stream workloads, judged by simulations."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import edgebench
from edgebench.cli import main
from edgebench.experiments.place import PlaceOptions, place
from edgebench.experiments.simulate import simulate_with
from edgebench.fabric.records import Cut
from edgebench.placement.stream_model import StreamProblem
from edgebench.placement.stream_placed import StreamPlacement, shown
from edgebench.simulation.service_times import Cuts, ServiceTimes
from tests.profiles import inference, profile
from tests.simulation.made import LIGHT, MS, cut_elsewhere, times
from tests.simulation.test_contention import PLAIN
from tests.simulation.wards import NODES, WATCH, measured, slow_ward, ward

TWO = {name: {**WATCH, "load": {"kind": "poisson", "rate_hz": rate_hz}} for name, rate_hz in (("a", 9.0), ("b", 5.0))}
"""Two workloads that the ward decides one at a time each: at 27 and 15 Hz, 20 ms a decision."""
FAR = {"place": {"allow": ["edge", "cloud"]}}
HERE = "tests.simulation.test_placing_streams"


def upwards(problem: StreamProblem, _: Any) -> list[str]:
    return ["cloud" for _ in problem.stages]


def one_too_few(problem: StreamProblem, _: Any) -> list[str]:
    return ["cloud"]


def asks_for_a_stage_too_many(problem: StreamProblem, _: Any) -> list[str]:
    return [str(problem.judge({2: "edge"}))]


def asks_for_what_is_not_allowed(problem: StreamProblem, _: Any) -> list[str]:
    return [str(problem.judge({0: "device"}))]


def apart(problem: StreamProblem, _: Any) -> list[str]:
    return ["device", "cloud"]


def asks_for_nothing(problem: StreamProblem, _: Any) -> list[str]:
    return [str(problem.judge({}))]


def half_of_what_is_waited_for(problem: StreamProblem, _: Any) -> list[str]:
    return [str(problem.judge({0: "edge", 2: "edge"}))]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(tmp_path_factory.mktemp("placing"))


def placed(file: Path, run_dir: Path, policy: str, **more: Any) -> StreamPlacement:
    found = edgebench.place(file, policy, calibrate=[run_dir], **more)
    assert isinstance(found, StreamPlacement)
    return found


def tiers(placement: StreamPlacement) -> list[str]:
    return [stage.tier for stage in placement.stages]


def test_what_the_simulator_says_of_a_placement_is_what_simulate_says(run_dir: Path, tmp_path: Path) -> None:
    file = ward(tmp_path, workloads=TWO)
    found = placed(file, run_dir, "all-cloud")
    changes = [f"workloads.{name}.place.infer=cloud" for name in TWO]
    figures = edgebench.simulate(edgebench.load(file, changes), calibrate=[run_dir], out=tmp_path).figures
    for name, each in figures.workloads.items():
        assert each.latency_ms is not None
        assert found.figures[name].mean_ms == each.latency_ms.mean
        assert found.figures[name].scheduled == each.scheduled
    assert found.terms["bytes"] == pytest.approx(
        sum(link.bytes or 0 for link in figures.links.values())
        / sum(each.scheduled for each in figures.workloads.values())
    )


def test_exact_is_not_worse_than_any_other_policy_and_proves_it(run_dir: Path, tmp_path: Path) -> None:
    file = ward(tmp_path, workloads=TWO, duration_s=3)
    best = placed(file, run_dir, "exact", objective=["p99-ms=2", "bytes=0.001"])
    assert (best.proven, best.judged) == (True, 9)
    assert best.value is not None
    for policy in ("all-device", "all-edge", "all-cloud", "best-layer", "greedy", "tabu", "random"):
        other = placed(file, run_dir, policy, objective=["p99-ms=2", "bytes=0.001"])
        assert other.value is not None
        assert other.value >= best.value
        assert other.proven is None


def test_what_travels_least_is_decided_where_it_is_sensed(run_dir: Path, tmp_path: Path) -> None:
    found = placed(ward(tmp_path, workloads=TWO), run_dir, "greedy", objective=["bytes"])
    assert tiers(found) == ["device", "device"]
    assert found.value == 0


@pytest.mark.parametrize("policy", ["best-layer", "greedy", "tabu", "exact", "random"])
def test_no_policy_decides_where_it_is_not_allowed(policy: str, run_dir: Path, tmp_path: Path) -> None:
    file = ward(tmp_path, workloads=TWO, **FAR)
    assert set(tiers(placed(file, run_dir, policy))) <= {"edge", "cloud"}


def test_a_limit_goes_before_the_objective(run_dir: Path, tmp_path: Path) -> None:
    """What is sent to the ward is decided sooner than a device hears of its own decisions."""
    file = ward(tmp_path, links=[], workloads={"watch": WATCH}, place={"allow": ["device", "edge"]})
    free = placed(file, run_dir, "exact", objective=["mean-ms"])
    assert tiers(free) == ["edge"]
    assert free.terms["bytes"]
    bound = placed(file, run_dir, "exact", objective=["mean-ms"], at_most=["bytes=1"])
    assert tiers(bound) == ["device"]
    assert bound.keeps
    assert bound.value is not None
    assert free.value is not None
    assert bound.value > free.value


def test_late_samples_are_counted_where_there_is_a_deadline(run_dir: Path, tmp_path: Path) -> None:
    strict = {**WATCH, "deadline_ms": 1}
    found = placed(ward(tmp_path, workloads={"watch": strict}), run_dir, "all-edge", objective=["late-percent"])
    assert found.value == 100
    never = ward(tmp_path, workloads={"watch": {**WATCH, "deadline_ms": None}})
    assert placed(never, run_dir, "all-edge").terms["late-percent"] is None
    with pytest.raises(edgebench.EdgebenchError, match=r"watch\.deadline_ms: none, so that no sample is late"):
        placed(never, run_dir, "all-edge", at_most=["late-percent=1"])


def test_a_joint_decision_that_is_late_counts_as_a_deadline_miss(run_dir: Path, tmp_path: Path) -> None:
    """Two workloads decide each frame, on the device in some 45 ms, at the ward, beyond 25 ms of link each way, in
    some 75: either keeps its own deadline of 100 ms, and at the ward the two together miss theirs."""
    far = [{"between": ["bed", "ward"], "latency_ms": 25}]
    both = {"a": WATCH, "b": {**WATCH, "load": {"kind": "with", "workload": "a"}}}
    near = {"place": {"allow": ["device", "edge"]}}
    found = {}
    for deadline_ms in (60, 100, None):
        joint = {"both": {"of": ["a", "b"], "deadline_ms": deadline_ms}}
        file = ward(tmp_path, links=far, workloads=both, joint=joint, **near)
        for policy in ("all-device", "all-edge"):
            found[policy, deadline_ms] = placed(file, run_dir, policy, objective=["late-percent"])
    assert {key: each.value for key, each in found.items() if each.value} == {
        ("all-edge", 60): pytest.approx(100 * 150 / (150 + 150 + 150), abs=1e-3)
    }
    strict = found["all-edge", 60]
    assert (strict.joint["both"].scheduled, strict.joint["both"].late, strict.joint["both"].lost) == (150, 150, 0)
    assert any(line.split()[:4] == ["both", "joint", "150", "150"] for line in shown(strict))
    assert found["all-edge", None].joint == {}
    file = ward(tmp_path, links=far, workloads=both, joint={"both": {"of": ["a", "b"], "deadline_ms": 60}}, **near)
    assert tiers(placed(file, run_dir, "exact", objective=["late-percent"])) == ["device", "device"]


def test_a_placement_whose_batches_nobody_measured_is_no_choice(run_dir: Path, tmp_path: Path) -> None:
    """At 81 Hz the ward gathers batches of more than one, which the run never had."""
    busy = {**WATCH, "load": {"kind": "poisson", "rate_hz": 27}, "batch": {"max_batch": 8}}
    file = ward(tmp_path, duration_s=3, workloads={"watch": busy}, place={"allow": ["device", "edge"]})
    told: list[str] = []
    options = PlaceOptions(policy="exact", calibrate=(run_dir,), tell=told.append)
    found = place(edgebench.load(file), options)
    assert isinstance(found, StreamPlacement)
    assert (tiers(found), found.judged, found.proven) == (["device"], 1, False)
    assert any(line.startswith("is no choice: watch: a batch of ") for line in told)
    with pytest.raises(edgebench.EdgebenchError, match="a batch of"):
        placed(file, run_dir, "all-edge")


def test_a_placement_that_is_read_back_keeps_what_it_is_judged_by(run_dir: Path, tmp_path: Path) -> None:
    file, out = ward(tmp_path, workloads=TWO), tmp_path / "placed.json"
    first = placed(file, run_dir, "random", objective=["bytes=2"], at_most=["p99-ms=1"], out=out)
    other_seed = edgebench.load(file, ["seed=9"])
    again = edgebench.place(other_seed, placement=out, calibrate=[run_dir])
    assert isinstance(again, StreamPlacement)
    assert (again.objective, again.at_most, again.keeps) == ({"bytes": 2}, {"p99-ms": 1}, False)
    assert (first.policy_seed, first.seed, again.policy_seed, again.seed) == (4, 4, 4, 9)
    assert next(iter(shown(again))) == "ward: 2 stages by random with seed 4, seed 9, modelled"
    other = edgebench.place(file, placement=out, calibrate=[run_dir], objective=["mean-ms"])
    assert isinstance(other, StreamPlacement)
    assert (other.objective, other.at_most) == ({"mean-ms": 1}, {"p99-ms": 1})
    out.write_text(out.read_text().replace('"bytes": 2.0', '"joules": 2.0'))
    with pytest.raises(edgebench.EdgebenchError, match=r"placed\.json: \$\.objective: joules=2\.0: no such figure"):
        edgebench.place(file, placement=out, calibrate=[run_dir])


def test_a_placement_is_written_read_back_judged_elsewhere_and_decides_what_is_run(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = ward(tmp_path, workloads=TWO), tmp_path / "placed.json"
    words = ["place", str(file), "--policy", "random", "--calibrate", str(run_dir), "--out", str(out)]
    assert main([*words, "--json"]) == 0
    found = edgebench.load_placement(out)
    assert isinstance(found, StreamPlacement)
    assert json.loads(capsys.readouterr().out)["kind"] == "stream-placement"
    again = edgebench.place(file, placement=out, calibrate=[run_dir])
    assert isinstance(again, StreamPlacement)
    assert (again.stages, again.terms) == (found.stages, found.terms)
    topology = edgebench.load(file, placement=out)
    deployment = edgebench.validate(topology)
    assert [plan.place for plan in deployment.workloads.values()] == tiers(found)
    assert (
        main(["simulate", str(file), "--placement", str(out), "--calibrate", str(run_dir), "--out", str(tmp_path)]) == 0
    )


def test_what_has_no_effect_on_a_device_is_left_out_there(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "placed.json"
    file = ward(tmp_path, workloads={"watch": {**WATCH, "qos": 0}})
    placed(file, run_dir, "all-device", out=out)
    watch = edgebench.validate(edgebench.load(file, placement=out)).workloads["watch"]
    assert (watch.place, watch.qos, watch.batch.max_batch) == ("device", 1, 8)


def test_groups_of_a_workload_are_placed_one_by_one(run_dir: Path, tmp_path: Path) -> None:
    nodes = {
        "cloud": {"tier": "cloud"},
        "ward": {"tier": "edge", "parent": "cloud"},
        "bed": {"tier": "device", "count": 2, "parent": "ward"},
        "cot": {"tier": "device", "parent": "ward"},
    }
    file = ward(tmp_path, nodes=nodes, links=[], workloads={"watch": {**WATCH, "source": ["bed", "cot"]}})
    found = placed(file, run_dir, "exact", out=tmp_path / "placed.json")
    assert [(stage.group, found.judged) for stage in found.stages] == [("bed", 9), ("cot", 9)]
    edgebench.validate(edgebench.load(file, placement=tmp_path / "placed.json"))


def test_groups_that_part_are_run_apart(run_dir: Path, tmp_path: Path) -> None:
    nodes = {**NODES, "cot": {"tier": "device", "parent": "ward"}}
    both = {**WATCH, "source": ["bed", "cot"], "place": {"infer": "cascade"}, "cascade": {}}
    at_edge = {**both, "place": {"infer": "edge"}}
    del at_edge["cascade"]
    file, out = ward(tmp_path, nodes=nodes, links=[], workloads={"watch": at_edge}), tmp_path / "placed.json"
    placed(file, run_dir, f"{HERE}:apart", out=out)
    ward(tmp_path, nodes=nodes, links=[], workloads={"watch": both})
    watch = edgebench.validate(edgebench.load(file, placement=out)).workloads["watch"]
    assert (watch.deciders["bed-0"], watch.deciders["cot"]) == ("bed-0", "cloud")


def test_a_site_that_holds_less_than_it_is_given_is_placed_apart_from_the_others(run_dir: Path, tmp_path: Path) -> None:
    """A bed keeps a ward's slow board busy for 60 % of the time, and the cloud for 30: four are too much for either
    place, and the first ward has two."""
    board = profile(cores=4, inference=(inference(1, 40.0, runtime="litert"),), messages=PLAIN.messages)
    watch = {**WATCH, "load": {"kind": "poisson", "rate_hz": 15}}
    slow_ward(tmp_path, ("ward",), board, workloads={"a": watch}, duration_s=20, **FAR)
    file = edgebench.load(tmp_path / "ward.yaml", ["nodes.ward.count=3", "nodes.bed.count=4"])
    alike, apart = (edgebench.place(file, "exact", calibrate=[run_dir], by=by) for by in ("group", "site"))
    assert isinstance(alike, StreamPlacement)
    assert isinstance(apart, StreamPlacement)
    assert (tiers(apart), apart.proven, apart.judged) == (["cloud", "edge", "edge"], True, 8)
    assert [(stage.group, stage.site) for stage in apart.stages] == [("bed", f"ward-{site}") for site in range(3)]
    assert apart.value is not None
    assert alike.value is not None
    assert 3 * apart.value < alike.value
    out = tmp_path / "placed.json"
    searched = edgebench.place(file, "tabu", calibrate=[run_dir], by="site", out=out)
    assert isinstance(searched, StreamPlacement)
    assert tiers(searched) == tiers(apart)
    assert "a         bed at ward-1  edge" in "\n".join(shown(searched))
    placed_so = edgebench.load(tmp_path / "ward.yaml", [*file.overrides], placement=out)
    assert placed_so.topology.workloads["a"].place.infer == {"bed": "cloud", "bed-1": "edge", "bed-2": "edge"}
    again = edgebench.place(placed_so, placement=out, calibrate=[run_dir])
    assert isinstance(again, StreamPlacement)
    assert (again.value, again.judged) == (apart.value, 1)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([("ward-0", "edge"), ("ward-9", "edge")], "$.stages[1].site: no device of 'bed' is at 'ward-9' (did you mean"),
        (
            [("ward-0", "edge"), (None, "edge")],
            "$.stages[1]: 'a' of 'bed' is placed by $.stages[0], too, for 'bed at ward-0' (remove one, or name",
        ),
        (
            [(None, "edge"), ("ward-1", "edge")],
            "$.stages[1]: 'a' of 'bed at ward-1' is placed by $.stages[0], too, for 'bed' (remove one, or name",
        ),
        ([("ward-1", "edge")] * 2, "$.stages[1]: 'a' of 'bed at ward-1' is placed by $.stages[0], too (remove one)"),
        ([("ward-1", "edge")], "$.stages: does not place 'a' of bed at ward-0 (place the topology anew)"),
    ],
)
def test_sites_that_a_placement_does_not_have_once_each_are_named(
    stages: list[tuple[str | None, str]], said: str, run_dir: Path, tmp_path: Path
) -> None:
    watch = {"a": TWO["a"]}
    file = edgebench.load(ward(tmp_path, workloads=watch, **FAR), ["nodes.ward.count=2"])
    out = tmp_path / "placed.json"
    edgebench.place(file, "all-edge", calibrate=[run_dir], by="site", out=out)
    kept = json.loads(out.read_text())
    kept["stages"] = [{"workload": "a", "group": "bed", "tier": tier, "site": site} for site, tier in stages]
    out.write_text(json.dumps(kept))
    with pytest.raises(edgebench.EdgebenchError, match=re.escape(said)):
        edgebench.place(file, placement=out, calibrate=[run_dir])


def test_what_is_placed_alike_is_said_with_a_policy_alone(run_dir: Path, tmp_path: Path) -> None:
    file, out = ward(tmp_path, workloads=TWO), tmp_path / "placed.json"
    placed(file, run_dir, "all-edge", out=out)
    with pytest.raises(edgebench.EdgebenchError, match="--by: an earlier placement says itself what it has placed"):
        edgebench.place(file, placement=out, calibrate=[run_dir], by="site")
    with pytest.raises(edgebench.EdgebenchError, match=r"--by sites: is nothing to place by \(did you mean 'site'\?\)"):
        edgebench.place(file, "exact", calibrate=[run_dir], by="sites")  # type: ignore[arg-type]


def test_what_waits_for_another_is_judged_beside_it(run_dir: Path, tmp_path: Path) -> None:
    then = {**WATCH, "load": {"kind": "after", "workloads": ["watch"]}}
    file = ward(tmp_path, duration_s=3, workloads={"watch": WATCH, "then": then})
    found = placed(file, run_dir, "best-layer")
    assert found.figures["then"].scheduled == found.figures["watch"].scheduled


def test_what_others_wait_for_is_placed_before_them(run_dir: Path, tmp_path: Path) -> None:
    nodes = {**NODES, "cot": {"tier": "device", "parent": "ward"}}
    both = {**WATCH, "source": ["bed", "cot"]}
    then = {**both, "load": {"kind": "after", "workloads": ["watch"]}}
    file = ward(tmp_path, nodes=nodes, links=[], duration_s=1, workloads={"then": then, "watch": both})
    found = placed(file, run_dir, "greedy")
    assert [stage.workload for stage in found.stages] == ["watch", "watch", "then", "then"]
    assert found.figures["then"].scheduled == found.figures["watch"].scheduled
    with pytest.raises(edgebench.EdgebenchError, match="judge: 'watch' of cot has to be placed as well, since others"):
        placed(file, run_dir, f"{HERE}:half_of_what_is_waited_for")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("asks_for_a_stage_too_many", r"judge: there is no stage 2 \(they are 0 to 1\)"),
        ("asks_for_what_is_not_allowed", "judge: a of bed on 'device', and it may be on edge, cloud"),
        ("asks_for_nothing", "judge: is asked of no stage"),
    ],
)
def test_what_a_policy_asks_has_to_be_there_and_allowed(policy: str, said: str, run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(edgebench.EdgebenchError, match=said):
        placed(ward(tmp_path, workloads=TWO, **FAR), run_dir, f"{HERE}:{policy}")


def test_a_policy_of_ones_own_gives_a_tier_for_each_stage(run_dir: Path, tmp_path: Path) -> None:
    file = ward(tmp_path, workloads=TWO)
    assert tiers(placed(file, run_dir, f"{HERE}:upwards")) == ["cloud", "cloud"]
    with pytest.raises(edgebench.EdgebenchError, match=r"gave 1 tiers for 2 stages \(give one a stage\)"):
        placed(file, run_dir, f"{HERE}:one_too_few")
    with pytest.raises(edgebench.EdgebenchError, match="placed a of bed on 'cloud', and it may be on device, edge"):
        placed(ward(tmp_path, workloads=TWO, place={"allow": ["device", "edge"]}), run_dir, f"{HERE}:upwards")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "gredy"], "--policy gredy: no such policy (did you mean 'greedy'?), or give module:function"),
        (["--policy", "greedy"], "nothing says what things take (name a run of the same tasks with --calibrate RUN)"),
        (["--policy", "greedy", "--limit-s", "5"], "--limit-s: only --policy exact seeks until then (leave it out)"),
        (
            ["--policy", "greedy", "--objective", "p98-ms"],
            "--objective p98-ms: no such figure (did you mean 'p99-ms'?)",
        ),
        (["--policy", "greedy", "--at-most", "bytes"], "--at-most bytes: gives no number (write, for example, "),
        (
            ["--policy", "greedy", "--set", "place.allow=[cloud]"],
            "$.workloads.a.place.infer: 'edge' is not within place.allow: cloud (change one of them)",
        ),
    ],
)
def test_a_mistake_is_told_before_anything_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    file = ward(tmp_path, workloads=TWO)
    assert main(["place", str(file), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.removeprefix(f"{file}: ").startswith(said)


def test_a_placement_of_another_topology_is_refused(run_dir: Path, tmp_path: Path) -> None:
    file, out = ward(tmp_path, workloads=TWO), tmp_path / "placed.json"
    placed(file, run_dir, "all-cloud", out=out)
    one = ward(tmp_path, workloads={"a": TWO["a"]})
    with pytest.raises(edgebench.EdgebenchError) as raised:
        edgebench.load(one, placement=out)
    assert str(raised.value) == f"{out}: $.stages[1].workload: the topology has no workload 'b' (known: a)"
    near = ward(tmp_path, workloads=TWO, place={"allow": ["device", "edge"]})
    with pytest.raises(
        edgebench.EdgebenchError, match=r"\$\.stages\[0\]\.tier: is cloud, and place\.allow has device, edge"
    ):
        edgebench.load(near, placement=out)


SPLIT = {**WATCH, "place": {"infer": ["edge", "cloud"]}, "split": 2}


def chained(folder: Path) -> Path:
    """The directory of a run of a chain, cut at its second place, whose first stage takes 3 ms and gives 400 bytes."""
    known = times([20 * MS], head_ns={1: [3 * MS]})
    file = ward(folder, workloads={"watch": SPLIT})
    return simulate_with(known, edgebench.load(file), folder / "chained", page="no")[0]


def test_a_chain_that_is_given_is_judged_and_kept_where_it_is_best(run_dir: Path, tmp_path: Path) -> None:
    """Where hardly anything fits through the link, the edge decides by itself, if runs tell what it takes for that."""
    of_chain = chained(tmp_path)
    slow = [{"between": ["ward", "cloud"], "latency_ms": 30, "rate_mbit_s": 0.008}]
    watch = {**SPLIT, "load": {"kind": "fixed", "rate_hz": 0.1}}
    file = ward(tmp_path, links=slow, workloads={"watch": watch}, place={"allow": ["edge", "cloud"]})
    out = tmp_path / "placed.json"
    found = edgebench.place(file, "exact", calibrate=[run_dir, of_chain], out=out)
    assert isinstance(found, StreamPlacement)
    assert (tiers(found), found.judged, found.proven) == (["edge"], 3, True)
    far = [{"between": ["ward", "cloud"], "latency_ms": 0.1}]
    quick = ward(tmp_path, links=far, workloads={"watch": watch}, place={"allow": ["edge", "cloud"]})
    assert edgebench.validate(edgebench.load(quick, placement=out)).workloads["watch"].place == "edge"
    told: list[str] = []
    alone = place(edgebench.load(quick), PlaceOptions(policy="exact", calibrate=(of_chain,), out=out, tell=told.append))
    assert isinstance(alone, StreamPlacement)
    assert (tiers(alone), alone.proven) == (["chain@2"], False)
    assert [line.partition(" is ")[0] for line in told[:2]] == ["watch on edge", "watch on cloud"]
    said = r"watch on cloud is no choice: .*ward\.yaml: \$\.workloads\.watch: [^\n]+ \(and [2-9] more lines\)"
    assert re.fullmatch(said, told[1])
    again = edgebench.place(quick, placement=out, calibrate=[of_chain])
    assert isinstance(again, StreamPlacement)
    assert (again.stages, again.terms) == (alone.stages, alone.terms)
    plan = edgebench.validate(edgebench.load(quick, placement=out)).workloads["watch"]
    assert (plan.place, plan.split) == ("edge → cloud", 2)


def test_a_chain_that_is_read_back_is_cut_where_it_was_judged_whatever_the_file_says(tmp_path: Path) -> None:
    of_chain, out = chained(tmp_path), tmp_path / "placed.json"
    first = edgebench.place(ward(tmp_path, workloads={"watch": SPLIT}), "exact", calibrate=[of_chain], out=out)
    assert isinstance(first, StreamPlacement)
    assert tiers(first) == ["chain@2"]
    others: list[dict[str, Any]] = [{**SPLIT, "split": 5}, {**SPLIT, "split": "auto"}, WATCH]
    for other in others:
        file = ward(tmp_path, workloads={"watch": other})
        plan = edgebench.validate(edgebench.load(file, placement=out)).workloads["watch"]
        assert (plan.place, plan.split) == ("edge → cloud", 2)
        again = edgebench.place(file, placement=out, calibrate=[of_chain])
        assert isinstance(again, StreamPlacement)
        assert (again.stages, again.value, again.terms) == (first.stages, first.value, first.terms)


def test_a_chain_of_two_models_is_no_model_that_is_cut_nor_the_other_way_round(tmp_path: Path) -> None:
    of_chain, out = chained(tmp_path), tmp_path / "placed.json"
    one = ward(tmp_path, workloads={"watch": SPLIT})
    edgebench.place(one, "exact", calibrate=[of_chain], out=out)
    headed = {**WATCH, "place": {"infer": ["edge", "cloud"]}, "head": {"task": "occupancy"}}
    two = ward(tmp_path, workloads={"watch": headed})
    with pytest.raises(edgebench.EdgebenchError) as refused:
        edgebench.load(two, placement=out)
    assert str(refused.value) == (
        f"{out}: $.stages[0].tier: is chain@2, of a model that is cut, and the topology has a head before that of "
        "'watch' (write chain, or place it anew)"
    )
    out.write_text(out.read_text().replace("chain@2", "chain"))
    assert edgebench.load(two, placement=out).topology.workloads["watch"].head is not None
    for plan in (SPLIT, WATCH):
        with pytest.raises(
            edgebench.EdgebenchError, match=r"\$\.stages\[0\]\.tier: is chain, of two models, and the to"
        ):
            edgebench.load(ward(tmp_path, workloads={"watch": plan}), placement=out)


def test_groups_that_share_a_chain_have_it_cut_where_auto_would(tmp_path: Path) -> None:
    nodes = {**NODES, "cot": {"tier": "device", "parent": "ward"}}
    shared = {**SPLIT, "split": "auto", "source": ["bed", "cot"]}
    file = ward(tmp_path, nodes=nodes, links=[], workloads={"watch": shared})
    cuts = {LIGHT._replace(profile=""): [Cuts({2: Cut(2, "second", 100, 3.0, 20.0)}, frozenset({2}), 1)]}
    known = dataclasses.replace(times([20 * MS], head_ns={1: [3 * MS]}), cuts=cuts)
    run_dir, _ = simulate_with(known, edgebench.load(file), tmp_path / "runs", page="no")
    assert tiers(placed(file, run_dir, "greedy")) == ["chain@2", "chain@2"]


def test_where_auto_would_cut_each_place_that_a_run_had_is_tried(tmp_path: Path) -> None:
    """The first place gives 40,000 bytes, the second 400, and its first stage takes longer by 30 ms."""
    runs = []
    for number, head_ms, size in ((1, 3, 40_000), (2, 33, 400)):
        cut = Cut(number, f"layer-{number}", size // 4, float(head_ms), 20.0)
        known = cut_at(times([20 * MS], {"output": (size,)}, head_ns={1: [head_ms * MS]}), cut)
        file = ward(tmp_path, workloads={"watch": {**SPLIT, "split": number}})
        runs.append(simulate_with(known, edgebench.load(file), tmp_path / "runs", page="no")[0])
    found = {}
    for mbit_s in (0.4, 400):
        links = [{"between": ["ward", "cloud"], "latency_ms": 30, "rate_mbit_s": mbit_s}]
        watch = {**SPLIT, "split": "auto", "load": {"kind": "fixed", "rate_hz": 0.2}}
        file = ward(tmp_path, links=links, workloads={"watch": watch})
        found[mbit_s] = edgebench.place(file, "best-layer", calibrate=runs, out=tmp_path / "placed.json")
    assert [tiers(each) for each in found.values() if isinstance(each, StreamPlacement)] == [["chain@2"], ["chain@1"]]
    assert edgebench.validate(edgebench.load(file, placement=tmp_path / "placed.json")).workloads["watch"].split == 1
    with pytest.raises(edgebench.EdgebenchError, match="all-edge: watch of bed may be on chain@1, chain@2"):
        edgebench.place(file, "all-edge", calibrate=runs)
    plain = ward(tmp_path, workloads={"watch": WATCH}, place={"allow": ["device", "edge"]})
    with pytest.raises(edgebench.EdgebenchError, match=r"\.tier: is chain@1, and place\.allow has device, edge"):
        edgebench.load(plain, placement=tmp_path / "placed.json")
    (tmp_path / "placed.json").write_text((tmp_path / "placed.json").read_text().replace("chain@1", "chain@x"))
    with pytest.raises(edgebench.EdgebenchError, match=r"stages\[0\]\.tier: 'chain@x' is not one of cloud, device"):
        edgebench.load(file, placement=tmp_path / "placed.json")


def cut_at(known: ServiceTimes, cut: Cut) -> ServiceTimes:
    """As `made.times` says of the second place, of this one."""
    cuts = {LIGHT._replace(profile=""): [Cuts({cut.place: cut}, frozenset(), 2)]}
    return dataclasses.replace(cut_elsewhere(known, cut.place), cuts=cuts)
