"""A plan carried out: real brokers and real nodes on this machine, and a part that is killed as was wanted."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from edgebench.clock import now_ns, utc_now
from edgebench.errors import FabricError
from edgebench.executors.execution import Execution, RunInputs
from edgebench.executors.faults import CutLink, FaultDriver, FaultTimer, Kill, PlannedFault
from edgebench.executors.here import PROCESSES, ThisMachine
from edgebench.executors.orders import AllEnded, End, Failed, Listen, Order, Report, Up
from edgebench.executors.plan import RunPlan, plan_of
from edgebench.executors.wiring import Loopback
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.records import Opened
from edgebench.fabric.spool import Spool
from edgebench.interruption import interrupt
from edgebench.report.page import write_report
from edgebench.results.collect import COMMAND_SPOOL, WORK, collect
from edgebench.results.rundir import create_run_dir, read_records, write_deployment
from edgebench.topology import load, resolve
from edgebench.topology.deployment import HERE
from edgebench.topology.fault_model import FaultPlan
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
    here = ThisMachine(run_dir, spool.write)
    execution = Execution(plan, {HERE: here}, inputs, spool, lambda _what: None, Loopback())
    try:
        execution.start()
        listed = (run_dir / WORK / PROCESSES).read_text().splitlines()
        parts = [psutil.Process(int(line.split()[0])) for line in listed]
        assert len(parts) == 3 + 1 + 2 + 2  # brokers, cloud, edges, agents
        with pytest.raises(FabricError, match="link 'bed-0 -> ward-0' of this run is not emulated"):
            execution.inject(CutLink("bed-0 -> ward-0"))
        with pytest.raises(FabricError, match="no part 'ward-7'"):
            execution.inject(Kill("ward-7"))
        killed = PlannedFault(0, FaultPlan("kill", 1.0, node="bed-1"), parts=(KILLED,))
        with FaultTimer(FaultDriver([killed], execution.inject)) as faults:
            execution.watch(lambda _live: None, faults.begin)
    finally:
        execution.stop()
        spool.close()
    _, alive = psutil.wait_procs(parts, timeout=10.0)
    assert alive == []
    observations = collect(run_dir)
    assert [(death.part, death.status, death.expected) for death in observations.deaths] == [(KILLED, -9, True)]
    (fault,) = observations.faults
    assert (fault.part, fault.kind, fault.nodes) == (KILLED, "kill", ("bed-1", "bed-3"))
    assert {"cloud", "ward-0", "ward-1", "bed-0", "bed-2"} <= set(observations.closed)
    assert [broker.site for broker in observations.brokers] == ["cloud", "ward-0", "ward-1"]
    assert {broker.kind for broker in observations.brokers} == {choose("auto")[0].kind}
    reasons = write_report(run_dir).verdict.reasons
    assert not any("killed" in reason or "good order" in reason for reason in reasons), reasons
    per_node = read_records(run_dir)["node"].to_pylist()
    assert (per_node.count("bed-0"), per_node.count("bed-2")) == (40, 40)


class Stubborn:
    """A machine on which everything comes up, and whose nodes cannot be ended."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.closed = False
        self._told: list[Report] = []

    def send(self, order: Order) -> None:
        self.orders.append(order)
        match order:
            case Listen(part=part):
                self._told.append(Up(part.name, dict.fromkeys(part.offers, 47000)))
            case End(parts=names) if "cloud" in names:
                self._told.append(Failed("no signal can be sent"))
            case End(parts=names):
                self._told.append(AllEnded(names))

    def reports(self) -> Sequence[Report]:
        told, self._told = self._told, []
        return told

    def close(self) -> None:
        self.closed = True


def test_every_step_of_the_end_is_taken_though_one_before_it_fails(tmp_path: Path) -> None:
    plan, inputs = planned(tmp_path)
    spool = Spool(inputs.run_dir / COMMAND_SPOOL)
    machine = Stubborn()
    execution = Execution(plan, {HERE: machine}, inputs, spool, lambda _what: None, Loopback())
    execution._started += plan.of_kind("broker", "cloud")
    with pytest.raises(FabricError, match="no signal can be sent"):
        execution.stop()
    spool.close()
    brokers = tuple(part.name for part in plan.of_kind("broker"))
    assert machine.orders == [End(("cloud",)), End(brokers)]
    assert machine.closed


class Signalled(Stubborn):
    """A machine that is about to tell something when a signal to end comes."""

    def reports(self) -> Sequence[Report]:
        os.kill(os.getpid(), signal.SIGTERM)
        return super().reports()


def test_what_a_machine_tells_is_heard_before_a_signal_to_end_interrupts(tmp_path: Path) -> None:
    plan, inputs = planned(tmp_path)
    spool = Spool(inputs.run_dir / COMMAND_SPOOL)
    execution = Execution(plan, {HERE: Signalled()}, inputs, spool, lambda _what: None, Loopback())
    before = signal.signal(signal.SIGTERM, lambda *_: interrupt(KeyboardInterrupt("told to end")))
    try:
        with pytest.raises(KeyboardInterrupt, match="told to end"):
            execution.start()
    finally:
        signal.signal(signal.SIGTERM, before)
    spool.close()
    assert execution._up == {"cloud"}
