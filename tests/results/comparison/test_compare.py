"""Run directories whose figures are known, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgebench.core.samples import SampleRecord
from edgebench.errors import EdgebenchError
from edgebench.report.comparison_view import written
from edgebench.results import rundir
from edgebench.results.comparison.compare import compare
from edgebench.results.comparison.figures import Comparison, FigureDifference
from edgebench.results.comparison.run_values import figures_of
from edgebench.results.rundir import load_run, read_result
from edgebench.seeds import rng_for
from edgebench.topology.deployment import Deployment
from tests.results import factory

SAMPLES = 800


def rows(seed: int, infer_ms: float, lost: int = 0) -> list[SampleRecord]:
    """A sample every 5 ms for 4 s, whose inference takes so long on average; so many are lost, at even distances."""
    infer = rng_for(seed, "rows").gamma(4, infer_ms / 4, SAMPLES)
    every = SAMPLES // lost if lost else SAMPLES + 1
    return [
        factory.lost(seq, 5 * seq) if (seq + 1) % every == 0 else factory.row(seq, 5 * seq, (1, 3, 2, took, 5))
        for seq, took in enumerate(infer.tolist())
    ]


def run_dir(folder: Path, rows: list[SampleRecord], deployment: Deployment | None = None, **observed: Any) -> Path:
    """A run directory with these rows."""
    deployment = deployment or factory.deployment()
    observations = factory.observations(**observed)
    folder.mkdir()
    rundir.write_deployment(folder, deployment)
    rundir.write_observations(folder, observations)
    rundir.write_records(folder, rows)
    rundir.write_json(folder / rundir.RESULT, factory.result(deployment, observations, rows))
    return folder


def seeded(seed: int, **changes: Any) -> Deployment:
    return msgspec.structs.replace(factory.deployment(), seed=seed, **changes)


def figures(comparison: Comparison, side: str = "B") -> dict[str, FigureDifference]:
    return {each.figure.removeprefix("workloads.death-risk."): each for each in comparison.against[side]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two that are alike, one whose inference takes twice as long, and one that loses samples."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "one": run_dir(folder / "one", rows(1, 4)),
        "two": run_dir(folder / "two", rows(2, 4)),
        "slow": run_dir(folder / "slow", rows(3, 8)),
        "lossy": run_dir(folder / "lossy", rows(4, 4, lost=200)),
    }


def test_what_takes_twice_as_long_is_shown_where_it_does_and_nowhere_else(runs: dict[str, Path]) -> None:
    found = figures(compare([runs["one"], runs["slow"]]))
    infer = found["hops_ms.infer.mean"]
    assert (infer.shown, infer.by) == ("higher", "time blocks")
    assert infer.interval is not None
    assert infer.interval[0] < 4 < infer.interval[1]
    assert infer.interval[1] - infer.interval[0] < 1.5
    assert {found[f"latency_ms.{name}"].shown for name in ("mean", "p50", "p90", "p99")} == {"higher"}
    for name in ("hops_ms.uplink.mean", "hops_ms.queue.p99", "throughput_hz", "lost_percent"):
        assert found[name].shown == "no difference shown"


def test_runs_that_are_alike_show_no_difference(runs: dict[str, Path]) -> None:
    comparison = compare([runs["one"], runs["two"]])
    assert comparison.sides_by == "run"
    assert (comparison.topology, comparison.versions, comparison.host) == ([], [], [])
    told = [each for each in comparison.against["B"] if each.interval is not None]
    assert len(told) > 30
    assert {each.shown for each in told} == {"no difference shown"}
    again = compare([runs["one"], runs["two"]])
    assert again == comparison


def test_a_run_that_is_named_in_two_ways_is_one_run(runs: dict[str, Path]) -> None:
    comparison = compare([runs["one"], runs["one"] / ".." / "one", runs["two"]])
    assert [len(side.runs) for side in comparison.sides] == [1, 1]


def test_figures_are_those_of_result_json_and_a_hops_p90_that_of_its_samples(runs: dict[str, Path]) -> None:
    found = figures(compare([runs["one"], runs["two"]]))
    result = rundir.read_result(runs["two"]).workloads["death-risk"]
    assert result.latency_ms is not None
    assert result.hops_ms is not None
    assert found["latency_ms.p99"].other == pytest.approx(result.latency_ms.p99)
    assert found["hops_ms.infer.p99"].other == pytest.approx(result.hops_ms.infer.p99)
    took_ms = sorted(rng_for(2, "rows").gamma(4, 1, SAMPLES))
    assert found["hops_ms.infer.p90"].other == pytest.approx(took_ms[719], rel=0.003)


def test_lost_samples_are_told_with_the_share_that_they_are(runs: dict[str, Path]) -> None:
    lost = figures(compare([runs["one"], runs["lossy"]]))["lost_percent"]
    assert (lost.first, lost.other, lost.percent) == (0, 25, None)
    assert lost.interval is not None
    assert 0 < lost.interval[0] < 25 < lost.interval[1]


def test_a_p99_of_too_few_samples_has_no_interval(tmp_path: Path, runs: dict[str, Path]) -> None:
    few = run_dir(tmp_path / "few", rows(5, 4)[:400])
    found = figures(compare([runs["one"], few]))
    assert (found["latency_ms.p99"].interval, found["latency_ms.p99"].why) == (None, "fewer than 459 decided samples")
    assert found["latency_ms.p90"].interval is not None


def test_several_runs_of_one_topology_are_a_side_and_tell_how_far_they_differ(tmp_path: Path) -> None:
    def side(name: str, infer_ms: float, **changes: Any) -> list[Path]:
        return [
            run_dir(tmp_path / f"{name}-{seed}", rows(seed, infer_ms + 0.1 * seed), seeded(seed, **changes))
            for seed in (1, 2, 3)
        ]

    before, after = side("before", 4), side("after", 8, duration_s=5)
    comparison = compare([before[0], after[0], *before[1:], *after[1:]])
    assert comparison.sides_by == "topology"
    assert [[Path(run.folder) for run in each.runs] for each in comparison.sides] == [before, after]
    assert [(each.path, each.values) for each in comparison.topology] == [("duration_s", {"A": 4, "B": 5})]
    mean = figures(comparison)["latency_ms.mean"]
    assert (mean.by, mean.shown, mean.blocks_s) == ("runs", "higher", None)
    assert mean.difference == pytest.approx(4, rel=0.1)


def test_runs_of_one_topology_with_other_versions_are_told_apart_by_these(
    tmp_path: Path, runs: dict[str, Path]
) -> None:
    newer = run_dir(tmp_path / "newer", rows(1, 4), versions={"edgebench": "0.2.0"})
    comparison = compare([runs["one"], runs["two"], newer])
    assert comparison.sides_by == "versions"
    assert [len(each.runs) for each in comparison.sides] == [2, 1]
    assert [(each.path, each.values) for each in comparison.versions] == [("edgebench", {"A": "0.1.0", "B": "0.2.0"})]


def test_what_one_side_alone_has_is_listed_and_the_rest_compared(tmp_path: Path, runs: dict[str, Path]) -> None:
    both = factory.deployment(factory.workload(), factory.workload("decline"))
    more = [*rows(6, 4), *(factory.row(seq, 5 * seq, workload="decline") for seq in range(SAMPLES))]
    comparison = compare([runs["one"], run_dir(tmp_path / "more", more, both)])
    assert comparison.only == {"workloads.decline": ["B"]}
    assert "latency_ms.p50" in figures(comparison)


def test_an_invalid_run_is_named_as_such_and_compared_all_the_same(tmp_path: Path, runs: dict[str, Path]) -> None:
    cut = run_dir(tmp_path / "cut", rows(7, 4), invalidated=["interrupted by Ctrl-C"])
    comparison = compare([runs["one"], cut])
    (run,) = comparison.sides[1].runs
    assert (run.valid, run.reasons[0]) == (False, "interrupted by Ctrl-C")
    assert figures(comparison)["latency_ms.mean"].interval is not None
    assert "; INVALID: interrupted by Ctrl-C" in " ".join(written(comparison).split())


def test_the_text_says_what_was_drawn_and_how_far_chance_goes(runs: dict[str, Path]) -> None:
    text = written(compare([runs["one"], runs["slow"]]))
    assert "topology: the same" in text
    (infer,) = (line for line in text.splitlines() if line.startswith("hops_ms.infer.mean"))
    assert " higher by " in infer
    assert "no difference shown" in text
    assert "1,000 resamples" in text
    assert max(map(len, text.splitlines())) <= 120


def test_what_is_no_run_or_half_of_one_is_a_line_with_the_mend(tmp_path: Path, runs: dict[str, Path]) -> None:
    def refused(*folders: Path) -> str:
        with pytest.raises(EdgebenchError) as raised:
            compare(list(folders))
        return str(raised.value)

    assert refused(runs["one"], tmp_path) == f"{tmp_path}: not a run directory, it has no deployment.json"
    assert refused(runs["one"]) == "compare: needs two runs (name their run directories)"
    again = f"and {runs['one']} is one, however often it is named"
    assert refused(runs["one"], runs["one"]) == f"compare: needs two runs, {again} (name their run directories)"
    folder = runs["one"].parent
    assert refused(folder).startswith(f"{folder}: not a run directory, it has no deployment.json (name one of those ")
    half = run_dir(tmp_path / "half", rows(8, 4)[:3])
    (half / "result.json").unlink()
    assert refused(runs["one"], half) == f"{half}: has no result.json (edgebench report {half} writes it)"
    (half / "records.parquet").unlink()
    assert "cut off before it wrote records.parquet" in refused(runs["one"], half)


@pytest.mark.parametrize("name", ["deployment.json", "result.json"])
def test_a_newer_schema_is_named(name: str, tmp_path: Path, runs: dict[str, Path]) -> None:
    newer = run_dir(tmp_path / "newer", rows(9, 4)[:3])
    written = msgspec.json.decode((newer / name).read_bytes())
    (newer / name).write_bytes(msgspec.json.encode({**written, "schema": 2}))
    with pytest.raises(EdgebenchError) as raised:
        compare([runs["one"], newer])
    assert str(raised.value) == (
        f"{newer / name}: schema 2, of a newer edgebench: this one reads 1 (pip install -U edgebench)"
    )


def test_figures_that_no_result_has_are_not_among_those_that_can_be_named(runs: dict[str, Path]) -> None:
    found = figures_of(read_result(runs["one"]), load_run(runs["one"]).deployment)
    assert "workloads.death-risk.hops_ms.infer.p99" in found
    assert not [path for path in found if ".hops_ms." in path and path.endswith(".p90")]
    assert "workloads.death-risk.latency_ms.p90" in found
