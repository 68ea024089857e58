"""All kinds of load at once, on live nodes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgebench.results.rundir import read_records
from tests.system.running import run

TOPOLOGY = """\
schema: 1
name: loads
seed: 3
duration_s: 4
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 2, parent: ward}
workloads:
  fixed:   {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 5}, model: {runtime: fake}}
  trace:   {task: icu-death, source: bed, load: {kind: trace, file: trace.txt}, model: {runtime: fake}}
  single:  {task: icu-death, source: bed, load: {kind: single-stream}, model: {runtime: fake}}
  multi:   {task: icu-death, source: bed, load: {kind: multi-stream, samples: 4}, model: {runtime: fake}}
  offline: {task: icu-death, source: bed, load: {kind: offline, samples: 300}, model: {runtime: fake}, qos: 0}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """result.json, run directory."""
    folder = tmp_path_factory.mktemp("loads")
    (folder / "trace.txt").write_text("0.5\n0.75\n3.0\n9.0\n")
    _, result, run_dir = run(folder, TOPOLOGY)
    return result, run_dir


def test_each_kind_of_load_issues_what_it_promises(ran: tuple[dict[str, Any], Path]) -> None:
    figures = ran[0]["workloads"]
    assert figures["fixed"]["scheduled"] == 2 * 5 * 4
    assert figures["trace"]["scheduled"] == 2 * 3
    assert figures["offline"]["scheduled"] == 2 * 300
    assert figures["single"]["scheduled"] > 10
    assert figures["multi"]["scheduled"] % 4 == 0
    for name, each in figures.items():
        assert each["decided"] == each["scheduled"], name
        assert each["lost"] == each["duplicated"] == 0, name


def test_a_closed_loop_never_has_more_than_one_query_open(ran: tuple[dict[str, Any], Path]) -> None:
    table = read_records(ran[1]).to_pylist()
    for device in ("bed-0", "bed-1"):
        mine = [row for row in table if row["node"] == device and row["workload"] == "single"]
        mine.sort(key=lambda row: row["seq"])
        assert all(later["captured_ns"] >= earlier["arrived_ns"] for earlier, later in pairwise(mine))
