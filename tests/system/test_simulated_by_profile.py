"""Runs in which nodes are emulated, beside simulations that know these nodes by their profiles alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import edgebench
from edgebench.results.sample_figures import WorkloadFigures
from edgebench.topology.profile_files import written
from tests.profiles import inference, profile
from tests.system.running import faults_of, run

BOARD = profile(
    cores=4,
    inference=(inference(1, 18.0, 20.0, 22.0), inference(8, 36.0, 40.0, 44.0), inference(32, 90.0, 100.0, 110.0)),
)
TOPOLOGY = """\
schema: 1
name: emulated
seed: 3
duration_s: 6
nodes:
  cloud: {{tier: cloud{above}}}
  ward:  {{tier: edge, parent: cloud{above}}}
  bed:   {{tier: device, count: 4, parent: ward{below}}}
workloads:
  here:  {{task: icu-death, source: bed, load: {load}, model: {{runtime: fake}}, place: {{infer: device}}}}
  near:  {{task: icu-death, source: bed, load: {load}, model: {{runtime: fake}}}}
  there: {{task: icu-death, source: bed, load: {load}, model: {{runtime: fake}}, place: {{infer: cloud}}}}
"""
SLOW = ", profile: slow.json"
_WITHIN = 0.05
"""A message takes 0.1 to 0.2 ms more at a device than its profile says, timers are late by as much, and the mean of 36
draws of inference is within 0.3 ms: together 1.5 of the 34 ms that a decision at the edge takes."""
_TRIES = 3
"""A machine that is busy with other tests makes a run late, and none too early."""


def means_ms(figures: Mapping[str, WorkloadFigures]) -> dict[str, float]:
    return {name: each.latency_ms.mean for name, each in figures.items() if each.latency_ms is not None}


def topology(*, above: str = "", below: str = "") -> str:
    return TOPOLOGY.format(above=above, below=below, load="{kind: poisson, rate_hz: 1.5}")


def assert_near(folder: Path, text: str, calibrate: Sequence[Path], workloads: Sequence[str]) -> None:
    """What a run takes is what its simulation says, of these workloads."""
    errors: list[dict[str, float]] = []
    for number in range(_TRIES):
        (folder / f"try-{number}").mkdir()
        (folder / f"try-{number}" / "slow.json").write_bytes(written(BOARD))
        _, result, run_dir = run(folder / f"try-{number}", text)
        assert faults_of(result) == []
        assert result["figures"] == "emulated"
        simulated = edgebench.simulate(edgebench.load(run_dir), calibrate=calibrate, out=folder / "simulated")
        assert simulated.figures.calibrated_by[-1] == "profile slow-board"
        predicted = means_ms(simulated.figures.workloads)
        assert {name: each.scheduled for name, each in simulated.figures.workloads.items()} == {
            name: each["scheduled"] for name, each in result["workloads"].items()
        }
        measured = {name: each["latency_ms"]["mean"] for name, each in result["workloads"].items()}
        errors.append({name: predicted[name] / measured[name] - 1 for name in workloads})
        if all(abs(error) <= _WITHIN for error in errors[-1].values()):
            return
    raise AssertionError(errors)


def test_a_simulation_by_the_profile_alone_is_near_the_emulated_run(tmp_path: Path) -> None:
    assert_near(tmp_path, topology(above=SLOW, below=SLOW), [], ["here", "near", "there"])


def test_a_run_of_this_machine_and_a_profile_tell_what_emulated_edges_take(tmp_path: Path) -> None:
    """Beds are as fast as this machine, in both; their own decisions take next to nothing."""
    (tmp_path / "here").mkdir()
    _, result, run_dir = run(tmp_path / "here", topology())
    assert faults_of(result) == []
    assert_near(tmp_path, topology(above=SLOW), [run_dir], ["near", "there"])
