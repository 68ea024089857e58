"""A run over links that lose packets, vary by traces and have outages: asked for and found, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

from tests.system.running import SMALL, faults_of, run


def test_a_run_over_links_with_loss_traces_and_outages_tells_what_was_found_of_them(tmp_path: Path) -> None:
    # Of a number of lines that no exchange of packets divides, or all that are timed would meet the same one.
    (tmp_path / "delays.txt").write_text("2\n12\n3\n3\n2\n12\n12\n")
    (tmp_path / "lte.txt").write_text("".join(f"{ms}\n" for ms in range(1, 1001)))
    (tmp_path / "cuts.txt").write_text("2 0.5\n3.5 0 reset\n")
    links = """\
links:
  - {between: [bed, ward], delay_trace: delays.txt, loss_percent: 2, outage_trace: cuts.txt}
  - {between: [ward, cloud], latency_ms: 5, jitter_ms: 1, jitter: pareto, rate_trace: lte.txt}
"""
    _, result, run_dir = run(tmp_path, SMALL + links, "--set", "workloads.watch.place.infer=cloud")
    assert faults_of(result) == []
    figures = result["workloads"]["watch"]
    assert (figures["decided"], figures["lost"]) == (160, 0)
    near, far = result["links"]["bed-0 -> ward-0"], result["links"]["ward-0 -> cloud"]
    assert near["requested"] == {
        "latency_ms": 3.0,
        "latency_p90_ms": 12.0,
        "latency_p99_ms": 12.0,
        "jitter_ms": 10.0,
        "loss_percent": 2.0,
    }
    assert near["measured"]["latency_p99_ms"] >= 12.0
    assert 0.0 <= near["measured"]["up_loss_percent"] < 20.0
    assert far["requested"]["latency_ms"] < 5.0 < far["requested"]["latency_p90_ms"]
    assert far["requested"]["up_mbit_s"] == 12.032
    assert far["measured"]["up_mbit_s"] > 0
    outage, reset = result["faults"]
    assert (outage["kind"], outage["name"], outage["devices"], outage["lost"]) == ("outage", "bed -> ward", 4, 0)
    assert 2.0 <= outage["at_s"] < 2.5 <= outage["until_s"]
    assert (reset["kind"], reset["lost"]) == ("reset", 0)
    assert reset["at_s"] >= 3.5
    # What was sent into the outage came after it.
    assert figures["latency_ms"]["max"] >= 300.0
    kept = json.loads((run_dir / "overrides.json").read_text())
    assert 'links[0].delay_trace="traces/links-0.delay_trace.txt"' in kept
    assert (run_dir / "traces" / "links-1.rate_trace.txt").read_text().startswith("1\n2\n")
    assert "2 → " in (run_dir / "report.html").read_text()
