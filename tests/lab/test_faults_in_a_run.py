"""Faults on a machine of a lab: what runs there dies and is started again there, its clock stepped, all of it lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.clock import OTHER_CLOCK
from tests.lab.labs import Lab
from tests.lab.runs import TOPOLOGY, Running, joined
from tests.system.running import faults_of

SHORT = TOPOLOGY.replace("duration_s: 60", "duration_s: 12").replace("{far: pi}", "{far: pi, ward: pi}")
FAULTS = """\
durability: process
faults:
  - {kind: restart, node: far, at_s: 2, for_s: 0.5}
  - {kind: restart, broker: ward, at_s: 4, for_s: 0.5}
  - {kind: clock, machine: pi, at_s: 6, by_ms: 400}
  - {kind: kill, machine: pi, at_s: 10}
"""


@pytest.mark.long
def test_faults_come_about_on_the_machine_where_they_are(lab: Lab, tmp_path: Path) -> None:
    with joined(lab, tmp_path / "pi", lab.token(), **{OTHER_CLOCK: f"@{tmp_path / 'ahead'}"}) as pi:
        running = Running(lab, pi, tmp_path, SHORT + FAULTS)
        try:
            result = running.result()
        finally:
            running.end()
    assert faults_of(result) == []
    device, broker, clock, machine = result["faults"]
    assert [(each["kind"], each["name"]) for each in (device, broker, clock, machine)] == [
        ("restart", "far"),
        ("restart", "ward"),
        ("clock", "pi"),
        ("kill", "pi"),
    ]
    assert min(device["recovery_s"], broker["recovery_s"]) > 0
    # What was due on both devices when everything on pi was gone had nowhere to go.
    assert machine["lost"] > 10
    (jumped,) = result["machines"]["pi"]["clock"]["jumped"]
    assert float(jumped.removeprefix("jumped forward by ").split()[0]) == pytest.approx(400.0, abs=20.0)
    assert f"pi: its clock {jumped}, as a fault had it" in "\n".join(result["verdict"]["notes"])
    deaths = {death["part"]: death["expected"] for death in result["deaths"]}
    assert deaths == dict.fromkeys(["device agent of far", "ward", "broker of ward"], True)


@pytest.mark.long
def test_a_clock_that_cannot_be_stepped_is_told_before_the_run(lab: Lab, tmp_path: Path) -> None:
    with joined(lab, tmp_path / "pi", lab.token()) as pi, pytest.raises(AssertionError, match="cannot be stepped"):
        Running(lab, pi, tmp_path, SHORT + "faults: [{kind: clock, machine: pi, at_s: 6, by_ms: 400}]\n")
