"""What a run directory keeps of the topology that it was given."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgebench.experiments.given import keep_given, open_topology
from edgebench.results.rundir import DEPLOYMENT
from edgebench.tasks import names
from edgebench.topology import check
from edgebench.topology.model import Broker
from tests.topology.sound import SOUND


def test_a_run_at_a_broker_of_the_users_own_is_run_again_there_though_the_file_names_a_kind(tmp_path: Path) -> None:
    file, run_dir = tmp_path / "topology.yaml", tmp_path / "run"
    file.write_text(SOUND + "broker: {kind: nats}\n")
    run_dir.mkdir()
    given = open_topology(file)
    elsewhere = msgspec.structs.replace(given.topology, broker=Broker(url="mqtt://ann:secret@host:1884"))
    keep_given(run_dir, given, elsewhere)
    (run_dir / DEPLOYMENT).write_text("{}")
    again = open_topology(run_dir)
    assert again.topology.broker == Broker(url="mqtt://host:1884")
    check(again.topology, again.path, tasks=names())
