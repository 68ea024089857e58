"""What a run shows while it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.experiments.progress import RunProgress
from edgebench.fabric.slices import LiveState
from tests.results import factory


def test_what_federations_have_done_is_printed_once_and_what_went_by_unseen_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = RunProgress(factory.deployment(), tmp_path)

    def show(*notes: str, noted: int) -> None:
        progress.show(LiveState("running", 0, "", [], [], {}, notes=list(notes), noted=noted))

    with progress:
        show("round 1", "round [2]", noted=2)
        show("round 1", "round [2]", noted=2)
        show("round 6", "round 7", noted=7)
    said = [line for line in capsys.readouterr().err.splitlines() if "round" in line or "more" in line]
    assert said == ["round 1", "round [2]", "… 3 lines more", "round 6", "round 7"]
