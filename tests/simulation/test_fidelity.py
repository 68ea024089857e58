"""`edgebench fidelity`, of runs that were simulated themselves, so that a prediction can be right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest
import yaml

import edgebench
from edgebench.cli import main
from edgebench.experiments.simulate import simulate_with
from edgebench.results.rundir import load_deployment, write_deployment
from tests.simulation.made import MS, times
from tests.simulation.test_command import TOPOLOGY


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """At 30 % and at 120 % of what the ward can do."""
    folder = tmp_path_factory.mktemp("fidelity")
    file = folder / "ward.yaml"
    file.write_text(yaml.safe_dump(TOPOLOGY))
    known = times([20 * MS], {"size": (2_000,), "site-up": (500_000,), "site-down": (300_000,), "wake": (100_000,)})
    loads = ("{kind: poisson, rate_hz: 5}", "{kind: poisson, rate_hz: 20}")
    given = [edgebench.load(file, [f"workloads.watch.load={load}"]) for load in loads]
    return [simulate_with(known, each, folder)[0] for each in given]


def test_an_overload_is_predicted_from_a_run_that_hardly_waited(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fidelity", str(runs[1]), "--calibrate", str(runs[0]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"][runs[1].name]
    assert (found["calibrated_by"], found["valid"]) == ([runs[0].name], True)
    figures = found["figures"]
    spreads = ("latency_ms.mean", "latency_ms.p50", "latency_ms.p99", "hops_ms.queue.p90")
    for name in ("throughput_hz", "backlog", *spreads):
        assert figures[f"watch.{name}"]["error"] == pytest.approx(0, abs=0.01), name
    assert figures["watch.backlog"]["measured"] > 60
    assert figures["watch.latency_ms.mean"]["formula"] is None


def test_what_of_an_error_a_slower_model_makes_is_told_apart(runs: list[Path], tmp_path: Path) -> None:
    """In the run that tells, the model took half as long again."""
    known = times([30 * MS], {"size": (2_000,), "site-up": (500_000,), "site-down": (300_000,), "wake": (100_000,)})
    given = edgebench.load(runs[0], ["workloads.watch.load={kind: poisson, rate_hz: 5}"])
    slower = simulate_with(known, given, tmp_path)[0]
    (found,) = edgebench.fidelity([runs[0]], calibrate=[slower]).runs.values()
    for name in ("latency_ms.mean", "latency_ms.p99", "hops_ms.queue.mean"):
        figure = found.figures[f"watch.{name}"]
        assert figure.error is not None
        assert figure.error > 0.4, name
        assert figure.own_service_error == pytest.approx(0, abs=0.01), name


def test_each_run_is_predicted_from_the_others(runs: list[Path]) -> None:
    found = edgebench.fidelity([*runs, runs[0]]).runs
    assert [each.calibrated_by for each in found.values()] == [[runs[1].name], [runs[0].name]]
    figures = found[runs[0].name].figures
    for name in ("latency_ms.mean", "latency_ms.p50", "latency_ms.p90", "latency_ms.p99", "hops_ms.infer.p99"):
        formula_error = figures[f"watch.{name}"].formula_error
        assert formula_error is not None
        assert abs(formula_error) < 0.3, name
    assert figures["watch.throughput_hz"].formula is None


def test_a_run_that_was_simulated_is_told_to_be_no_measurement(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fidelity", str(runs[1]), "--calibrate", str(runs[0])]) == 0
    assert "the run was simulated itself: nothing of it was measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{0}"], "name a second run, or one with --calibrate RUN"),
        (["{0}", "{0}/."], "name a second run, or one with --calibrate RUN"),
        (["{0}", "--calibrate", "{1}", "--calibrate", "{0}/."], "a run that is predicted from itself proves nothing"),
        (["{0}/logs", "{1}"], "not a run directory"),
    ],
)
def test_a_run_by_itself_says_nothing(
    runs: list[Path], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["fidelity", *(word.format(*runs) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_a_simulation_by_a_run_proves_nothing_of_it_and_is_told_where_others_are_predicted_by_it(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_it = edgebench.simulate(
        edgebench.load(runs[1], ["name=by-it"]), calibrate=[runs[0]], out=tmp_path / "out"
    ).folder
    assert main(["fidelity", str(runs[0]), "--calibrate", str(by_it)]) == 2
    said = f"{by_it}: a simulation by {runs[0].name} proves nothing of that run (leave it out)"
    assert said in capsys.readouterr().err
    (found,) = edgebench.fidelity([runs[1]], calibrate=[by_it]).runs.values()
    assert f"{by_it.name}, by which it was predicted, was simulated itself" in found.notes


def test_a_run_across_a_bad_link_is_predicted_from_one_across_a_good_one(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = times([20 * MS], {"size": (2_000,), "site-up": (500_000,), "site-down": (300_000,), "wake": (100_000,)})
    bad_link = ["links[0].loss_percent=2", "links[0].outages=[{at_s: 3, for_s: 1}]"]
    given = edgebench.load(runs[0], ["name=bad", *bad_link])  # else both may have one name, of the same second
    bad = simulate_with(known, given, tmp_path)[0]
    (found,) = edgebench.fidelity([bad], calibrate=[runs[0]]).runs.values()
    latency = found.figures["watch.latency_ms.p99"]
    assert latency.measured is not None
    assert latency.measured > 1_000
    assert latency.error == pytest.approx(0, abs=0.01)
    assert latency.formula is None
    assert main(["fidelity", str(bad), str(runs[0])]) == 2
    said = "a run with links that lose packets or follow a trace tells nothing of others (name those that tell with"
    assert f"{bad}: {said}" in capsys.readouterr().err


def test_two_runs_of_one_name_are_told_apart(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As two have that were begun in one second, in different folders."""
    namesake = shutil.copytree(runs[1], tmp_path / "namesake")
    write_deployment(namesake, msgspec.structs.replace(load_deployment(namesake), run_id=runs[0].name))
    (found,) = edgebench.fidelity([runs[0]], calibrate=[namesake]).runs.values()
    assert found.calibrated_by == [runs[0].name]
    assert main(["fidelity", str(runs[0]), str(namesake)]) == 2
    assert f"{namesake}: another run is called {runs[0].name}, too (predict one" in capsys.readouterr().err


def test_a_run_that_kept_its_samples_is_not_predicted_from_one_that_did_not(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = shutil.copytree(runs[0], tmp_path / "kept")
    write_deployment(kept, msgspec.structs.replace(load_deployment(kept), durability="process", run_id="kept"))
    assert main(["fidelity", str(runs[1]), "--calibrate", str(kept)]) == 2
    assert f"$.durability: none, and that of {kept} was process" in capsys.readouterr().err
