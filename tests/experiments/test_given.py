"""What a run directory keeps of the topology that it was given."""

from __future__ import annotations

from pathlib import Path

import msgspec

import edgebench
from edgebench.experiments.given import keep_given, open_topology
from edgebench.results.rundir import DEPLOYMENT
from edgebench.tasks import names
from edgebench.topology import check, link_traces_of, resolve
from edgebench.topology.link_model import Outage
from edgebench.topology.model import Broker, Online
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


def test_placed_online_is_kept_as_an_override_and_leaves_what_the_file_says_of_it(tmp_path: Path) -> None:
    file, run_dir = tmp_path / "topology.yaml", tmp_path / "run"
    file.write_text(SOUND)
    run_dir.mkdir()
    given = edgebench.load(file, placement="online")
    assert given.topology.place.online == Online(gain=0.2, hold_s=1.0)
    keep_given(run_dir, given, given.topology)
    (run_dir / DEPLOYMENT).write_text("{}")
    assert open_topology(run_dir).topology.place.online == Online()
    file.write_text(SOUND + "place: {online: {gain: 0.5}}\n")
    assert edgebench.load(file, placement="online").topology.place.online == Online(gain=0.5)


def test_a_run_keeps_the_traces_of_its_links_and_is_run_again_with_them(tmp_path: Path) -> None:
    file, run_dir = tmp_path / "topology.yaml", tmp_path / "run"
    file.write_text(SOUND.replace("latency_ms: 2}", "up_trace: up.txt, outage_trace: out.txt}"))
    (tmp_path / "up.txt").write_text("1\n")
    (tmp_path / "out.txt").write_text("1 2\n")
    run_dir.mkdir()
    given = open_topology(file)
    kept = keep_given(run_dir, given, given.topology)
    assert kept.links[0].up_trace == "traces/links-0.up_trace.txt"
    (tmp_path / "up.txt").unlink()
    (tmp_path / "out.txt").unlink()
    traces = link_traces_of(kept, run_dir)
    plan = resolve(kept, run_id="r", executor="local", traces=traces).links["bed-0 -> ward-0"]
    assert (plan.up_mbit_s, plan.outages) == (12.032, (Outage(1.0, 2.0),))
    (run_dir / DEPLOYMENT).write_text("{}")
    again = open_topology(run_dir).topology
    check(again, run_dir, tasks=names())
    assert again.links[0].outage_trace == str(run_dir / "traces/links-0.outage_trace.txt")
