"""What a job in another process tells arrives as it was told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgebench.federated.flower.events import Learned, MetricsSeen, RoundSeen
from edgebench.federated.flower.remote_listener import ListenerServer
from tests.conftest import ROOT


class _Keeping:
    def __init__(self) -> None:
        self.heard: list[RoundSeen | MetricsSeen] = []

    def on_round(self, seen: RoundSeen) -> None:
        self.heard.append(seen)

    def on_metrics(self, seen: MetricsSeen) -> None:
        self.heard.append(seen)

    def on_model(self, learned: Learned) -> None:
        raise AssertionError(learned)

    def before_round(self, number: int) -> None:
        raise AssertionError(number)


HELD = RoundSeen(round=1, kind="evaluate", started_ns=1, ended_ns=2, outcomes=())
MEASURED = MetricsSeen(kind="evaluate", round=1, metrics={"loss": 0.5, "worst": None})
JOB = """
import sys
from pathlib import Path
from edgebench.federated.flower.remote_listener import RemoteListener
from tests.federated.test_remote_listener import HELD, MEASURED

remote = RemoteListener(Path(sys.argv[1]))
remote.on_round(HELD)
remote.on_metrics(MEASURED)
remote.done()
"""


def test_rounds_and_metrics_of_an_app_arrive_as_they_were_told(tmp_path: Path) -> None:
    keeping, address = _Keeping(), tmp_path / "socket"
    command = [sys.executable, "-c", JOB, str(address)]
    with ListenerServer(address) as server, subprocess.Popen(command, cwd=ROOT) as job:
        while not server.hear(keeping, timeout_s=1):
            assert job.poll() is None
    assert keeping.heard == [HELD, MEASURED]
