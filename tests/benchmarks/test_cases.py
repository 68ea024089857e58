from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.case_runs import Case, Place, table, tried
from benchmarks.cases_known import KNOWN
from benchmarks.cases_strange import STRANGE

ROOT = Path(__file__).resolve().parents[2]
FAKE = """\
schema: 1
name: made-up
duration_s: 2
nodes:
  cloud: {tier: cloud}
  hub: {tier: edge, parent: cloud}
  room: {tier: device, parent: hub}
workloads:
  anybody: {task: occupancy, source: room, load: {kind: fixed, rate_hz: 5}, model: {runtime: fake}}
"""


def test_a_case_that_gives_what_is_right_and_one_that_does_not_are_told_apart(tmp_path: Path) -> None:
    for name, text in (
        ("yaml/nbsp.yaml", FAKE.replace("tier: edge", "tier:\u00a0edge")),
        ("flower/config-nested.yaml", FAKE),  # without a federation, so that its last line is another one
        ("flower/hang/pyproject.toml", ""),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    before = sorted(tmp_path.rglob("*"))
    command = [
        sys.executable,
        "benchmarks/cases.py",
        str(tmp_path),
        "--only",
        "nbsp",
        "--only",
        "nested.yaml",
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    found = {each["case"]: each for each in json.loads(done.stdout)["found"] if each["is_right"] is not None}
    assert found["yaml/nbsp.yaml"]["is_right"]
    assert found["yaml/nbsp.yaml"]["status"] == 2
    assert "no-break space" in found["yaml/nbsp.yaml"]["said"]
    assert found["yaml/nbsp.yaml"]["gave"] == "\"could not find expected ':'\""
    assert not found["flower/config-nested.yaml"]["is_right"]
    assert found["flower/config-nested.yaml"]["status"] == 0
    assert str(tmp_path) not in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_without_any_of_the_inputs_is_no_success(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/cases.py", str(tmp_path), "--only", "nbsp"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "not tried: no yaml/nbsp.yaml in the folder" in done.stdout


def case(**changes: Any) -> Case:
    return Case(**{"name": "a", "words": ("topologies",), "status": 0, "says": "", "right": "said", **changes})


def test_what_a_command_leaves_running_is_told_and_ended(tmp_path: Path) -> None:
    found = tried(case(shell=f"'{sys.executable}' -c 'import time; time.sleep(1000)' & true"), None)
    assert found.status == 0
    assert not found.is_right
    (left,) = found.left
    assert "time.sleep(1000)" in left
    assert left in table([found])


def test_a_command_that_takes_too_long_is_ended_and_a_machine_that_lacks_something_says_so() -> None:
    slow = tried(case(words=("run", "t.yaml"), prepare=_long_run, within_s=3), None)
    assert (slow.status, slow.is_right, slow.said, slow.left) == (None, False, "not over after 3 s", [])
    lacking = tried(case(needs=lambda: "no Docker on this machine"), None)
    assert (lacking.is_right, lacking.said) == (None, "not tried: no Docker on this machine")


def _long_run(place: Place) -> None:
    (place.folder / "t.yaml").write_text(FAKE.replace("duration_s: 2", "duration_s: 600"), "utf-8")


def test_every_case_has_a_name_of_its_own_and_says_what_is_right() -> None:
    every = (*KNOWN, *STRANGE)
    assert len({each.name for each in every}) == len(every)
    assert all(each.right for each in every)
    assert all(each.gave for each in KNOWN)


ARGUMENTS = [each for each in STRANGE if each.name.startswith("an argument: ")]


@pytest.mark.parametrize("strange", ARGUMENTS, ids=lambda each: each.name)
def test_a_strangers_arguments_are_told_in_a_line(strange: Case) -> None:
    found = tried(strange, None)
    assert found.is_right, found.said
