"""Runs in which nodes are emulated, beside simulations that know these nodes by their profiles alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import edgebench
from edgebench.results.rundir import read_records
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
"""A message takes 0.1 to 0.2 ms more at a device than its profile says, a timer is late by as much, and which values
are drawn differs: together 1.5 of the 34 ms that a decision at the edge takes. So it is of the fastest tenth, and of
the mean where the machine is idle."""
_BUSY = 0.2
"""By so much a machine that is busy with other tests may make the mean of a run longer; it makes none shorter."""
_TRIES = 3


def topology(*, above: str = "", below: str = "") -> str:
    return TOPOLOGY.format(above=above, below=below, load="{kind: poisson, rate_hz: 1.5}")


def latencies_ms(run_dir: Path, workload: str) -> NDArray[np.float64]:
    table = read_records(run_dir).to_pydict()
    rows = zip(table["workload"], table["scheduled_ns"], table["arrived_ns"], strict=True)
    return np.array([(arrived - due) / 1e6 for name, due, arrived in rows if name == workload])


def errors_of(run_dir: Path, simulated: Path, workload: str) -> tuple[float, float]:
    """Of what was predicted of the tenth percentile and of the mean, as shares of what was measured."""
    ran, told = latencies_ms(run_dir, workload), latencies_ms(simulated, workload)
    assert len(ran) == len(told) > 20
    return float(np.quantile(told, 0.1) / np.quantile(ran, 0.1) - 1), float(told.mean() / ran.mean() - 1)


def assert_near(folder: Path, text: str, calibrate: Sequence[Path], workloads: Sequence[str]) -> None:
    """What a run takes is what its simulation says, of these workloads."""
    found: list[dict[str, tuple[float, float]]] = []
    for number in range(_TRIES):
        (folder / f"try-{number}").mkdir()
        (folder / f"try-{number}" / "slow.json").write_bytes(written(BOARD))
        _, result, run_dir = run(folder / f"try-{number}", text)
        assert faults_of(result) == []
        assert result["figures"] == "emulated"
        simulated = edgebench.simulate(edgebench.load(run_dir), calibrate=calibrate, out=folder / "simulated")
        assert simulated.figures.calibrated_by[-1] == "profile slow-board"
        found.append({name: errors_of(run_dir, simulated.folder, name) for name in workloads})
        if all(abs(fast) <= _WITHIN and -_BUSY <= mean <= _WITHIN for fast, mean in found[-1].values()):
            return
    pytest.fail(f"predicted less measured, of the fastest tenth and of the mean: {found}")


def test_a_simulation_by_the_profile_alone_is_near_the_emulated_run(tmp_path: Path) -> None:
    assert_near(tmp_path, topology(above=SLOW, below=SLOW), [], ["here", "near", "there"])


def test_a_run_of_this_machine_and_a_profile_tell_what_emulated_edges_take(tmp_path: Path) -> None:
    """Beds are as fast as this machine, in both; their own decisions take next to nothing."""
    (tmp_path / "here").mkdir()
    _, result, run_dir = run(tmp_path / "here", topology())
    assert faults_of(result) == []
    assert_near(tmp_path, topology(above=SLOW), [run_dir], ["near", "there"])
