"""A plan carried out on this machine: real brokers, real nodes, and a part that is killed as was wanted."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from edgebench.clock import now_ns, utc_now
from edgebench.errors import FabricError
from edgebench.executors import EXECUTORS
from edgebench.executors.faults import CutLink, FaultDriver, FaultTimer, Kill, TimedInjection
from edgebench.executors.local import LocalExecution
from edgebench.executors.plan import RunPlan, plan_of
from edgebench.executors.protocol import RunInputs
from edgebench.fabric.records import Opened, Spool
from edgebench.report.page import write_report
from edgebench.results.collect import COMMAND_SPOOL, collect
from edgebench.results.rundir import create_run_dir, read_records, write_deployment
from edgebench.topology import load, resolve
from tests.system.running import SMALL

KILLED = "device agent of bed-1, bed-3"


def planned(tmp_path: Path) -> tuple[RunPlan, RunInputs]:
    file = tmp_path / "topology.yaml"
    file.write_text(SMALL)
    topology = load(file)
    run_dir = create_run_dir(tmp_path / "runs", topology.name, utc_now())
    deployment = resolve(topology, run_id=run_dir.name, executor="local")
    write_deployment(run_dir, deployment)
    return plan_of(deployment), RunInputs(
        deployment=deployment, run_dir=run_dir, registry_dir=tmp_path, data=None, broker_url=None, traces={}
    )


def test_a_part_killed_as_was_wanted_is_recorded_and_is_no_reason_against_the_run(tmp_path: Path) -> None:
    plan, inputs = planned(tmp_path)
    run_dir = inputs.run_dir
    spool = Spool(run_dir / COMMAND_SPOOL)
    spool.write(Opened(now_ns(), {}))
    execution = EXECUTORS["local"].start(plan, inputs, spool, lambda _what: None)
    try:
        parts = execution.processes
        assert len(parts) == 3 + 1 + 2 + 2  # brokers, cloud, edges, agents
        with pytest.raises(FabricError, match="no link of this run is emulated"):
            execution.inject(CutLink("bed-0 -> ward-0"))
        with pytest.raises(FabricError, match="no part 'ward-7'"):
            execution.inject(Kill("ward-7"))
        driver = FaultDriver([TimedInjection(1.0, Kill(KILLED))], execution.inject, spool.write)
        with FaultTimer(driver) as faults:
            execution.watch(lambda _live: None, faults.begin)
    finally:
        execution.stop()
        spool.close()
    _, alive = psutil.wait_procs(parts, timeout=10.0)
    assert alive == []
    observations = collect(run_dir)
    assert [(death.part, death.status, death.expected) for death in observations.deaths] == [(KILLED, -9, True)]
    (fault,) = observations.faults
    assert (fault.part, fault.kind) == (KILLED, "kill")
    assert {"cloud", "ward-0", "ward-1", "bed-0", "bed-2"} <= set(observations.closed)
    reasons = write_report(run_dir).verdict.reasons
    assert not any("killed" in reason or "good order" in reason for reason in reasons), reasons
    per_node = read_records(run_dir)["node"].to_pylist()
    assert (per_node.count("bed-0"), per_node.count("bed-2")) == (40, 40)


def test_every_step_of_the_end_is_taken_though_one_before_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FabricError("no counters")

    plan, inputs = planned(tmp_path)
    spool = Spool(inputs.run_dir / COMMAND_SPOOL)
    execution = LocalExecution(plan, inputs, spool, lambda _what: None)
    monkeypatch.setattr(execution._links, "stop", fail)
    part = plan.of_kind("broker")[0]
    broker = execution._launch(part)
    execution._running.append(broker)
    with pytest.raises(FabricError, match="no counters"):
        execution.stop()
    spool.close()
    assert broker.process.has_ended
    assert (inputs.run_dir / "logs" / broker.log.name).exists()
