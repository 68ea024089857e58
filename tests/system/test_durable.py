"""What a whole run keeps when its parts are killed: nothing is lost, and nothing decided twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.running import faults_of, run

TORN = """\
schema: 1
name: torn
duration_s: 6
durability: process
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, parent: cloud}
  bed:   {tier: device, count: 2, parent: ward}
workloads:
  watch:
    task: icu-death
    source: bed
    load: {kind: fixed, rate_hz: 20}
    model: {runtime: fake}
    place: {infer: {bed-0: edge, bed-1: cloud}}
faults:
  - {at_s: 0.5, kind: restart, broker: ward, for_s: 0.3}
  - {at_s: 1.2, kind: restart, node: ward, for_s: 0.2}
  - {at_s: 2.0, kind: restart, broker: cloud, for_s: 0.3}
  - {at_s: 3.0, kind: restart, node: bed-0, for_s: 0.2}
"""
"""Everything but the cloud is killed once, the devices while others have just come back."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["auto", pytest.param("nats", marks=pytest.mark.long)])
def test_each_sample_is_decided_once_whatever_is_killed(kind: str, tmp_path: Path) -> None:
    _, result, _ = run(tmp_path, TORN, "--set", f"broker.kind={kind}")
    assert faults_of(result) == []
    watch = result["workloads"]["watch"]
    assert (watch["lost"], watch["duplicated_at_devices"]) == (0, 0)
    # What was due while the devices were not there was never sensed, and none of it is untold.
    assert watch["scheduled"] + watch["missed"] == 240
    assert watch["missed"] > 0
