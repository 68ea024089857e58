"""A run on machines whose clocks are far apart and drift: what is told of them, and of hops between them, is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S, OTHER_CLOCK
from edgebench.results.chunks import HOPS, NEEDED, chunks_of
from edgebench.results.rundir import load_run, record_batches
from edgebench.results.sample_times import SampleTimes
from tests.lab_kit.labs import Lab
from tests.lab_kit.machines import network
from tests.system.running import faults_of

AHEAD_NS = 5_000 * NS_PER_S
BEHIND_NS, PPM = -3 * NS_PER_S, 200
TOPOLOGY = """\
schema: 1
name: clocks
seed: 3
duration_s: 8
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 2, parent: ward}
machines: {ward: drifting, bed: ahead}
workloads:
  watch: {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 20}, model: {runtime: fake}}
"""


def drifting_ns(server_ns: int) -> int:
    """What the one machine's clock reads when the server's does so; both are counted from this computer's start."""
    return server_ns + BEHIND_NS + server_ns * PPM // 1_000_000


@pytest.mark.long
def test_clocks_and_hops_between_them_are_known_within_the_stated_bounds(tmp_path: Path) -> None:
    with network() as net:
        lab = Lab(net, tmp_path)
        lab.join(lab.machine("ahead", monotonic_ahead_s=5_000))
        lab.join(
            net.machine(
                "drifting",
                environment={"EDGEBENCH_HOME": str(tmp_path / "drifting"), OTHER_CLOCK: f"{BEHIND_NS},{PPM}"},
            )
        )
        _, result, run_dir = lab.run(TOPOLOGY)
    assert faults_of(result) == []
    run = load_run(run_dir)
    started_ns = run.observations.started_ns
    assert started_ns is not None
    true_ms = {"ahead": AHEAD_NS / NS_PER_MS, "drifting": (drifting_ns(started_ns) - started_ns) / NS_PER_MS}
    for name, offset_ms in true_ms.items():
        clock = result["machines"][name]["clock"]
        assert abs(clock["offset_ms"] - offset_ms) <= clock["bound_ms"] < 5.0
    assert abs(result["machines"]["drifting"]["clock"]["drift_ppm"] - PPM) < 100
    assert any(note.startswith("drifting: its clock drifted by ") for note in result["verdict"]["notes"])

    ((_, own),) = chunks_of(record_batches(run_dir, NEEDED), ["watch"])
    found = SampleTimes(run.deployment, run.observations).on_server(own)
    assert np.sum([found.hops_ns[hop] for hop in HOPS], axis=0).tolist() == own.latency_ns.tolist()
    of_bed = own.ns["scheduled_ns"] - AHEAD_NS
    received_ns = ((own.ns["received_ns"] - BEHIND_NS) / (1 + PPM * 1e-6)).round().astype(np.int64)
    uplink_ns = (received_ns - (own.ns["sent_ns"] - AHEAD_NS))[own.decided]
    assert np.abs(found.hops_ns["uplink"] - uplink_ns).max() <= found.hop_bounds_ns["uplink"]
    assert abs(of_bed.min() - started_ns) < 100 * NS_PER_MS  # the first of 20 a second
    hops = result["workloads"]["watch"]["hops_ms"]
    assert hops["uplink"]["bound_ms"] == pytest.approx(found.hop_bounds_ns["uplink"] / NS_PER_MS)
    assert "bound_ms" not in hops["infer"]
