"""What only tasks can say of a topology is said by `validate`, with its place and its mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.cli import main
from tests.topology.sound import SOUND

LEARNED = SOUND + "federated: [{workload: risk, rounds: 2}]\n"


@pytest.mark.parametrize(
    ("text", "task", "problem"),
    [
        (SOUND, "no_such:TASK", "$.workloads.risk.task: task 'no_such:TASK': no module 'no_such' (is it installed"),
        (
            SOUND,
            "tests.cloud.tiny:TSK",
            "$.workloads.risk.task: task 'tests.cloud.tiny:TSK': module 'tests.cloud.tiny'",
        ),
        (
            SOUND + "# size",
            "occupancy",
            "$.workloads.risk.model.size: occupancy has no 'published' (write light or",
        ),
        (
            LEARNED,
            "person-reid",
            "$.federated[0].fit.runtime: person-reid has a loss of its own, by which dev",
        ),
        (LEARNED, "lane-detection", "$.federated[0].workload: lane-detection has no loss by which"),
        (SOUND + "# cascade", "face-recognition", "$.workloads.risk.place.infer: no cascade: the outputs of face-re"),
    ],
)
def test_validate_refuses_what_a_task_cannot_do(
    text: str, task: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(text.replace("icu-death", task))
    more = {"# size": ["model.size=published"], "# cascade": ["place={infer: cascade}"]}
    overrides = [f"workloads.risk.{each}" for mark, found in more.items() if mark in text for each in found]
    assert main(["validate", str(file), *(word for each in overrides for word in ("--set", each))]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"{file}: {problem}")


def test_a_loss_of_its_own_is_fine_where_devices_have_keras(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(LEARNED.replace("icu-death", "person-reid"))
    assert main(["validate", str(file), "--set", "federated[0].fit.runtime=keras"]) == 0
