"""The local executor: brokers, relay, cloud, edges and devices as processes of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psutil

from edgebench.errors import FabricError
from edgebench.executors.faults import CutLink, Injection, Kill, MendLink
from edgebench.executors.local.brokers import Brokers
from edgebench.executors.local.links import Links
from edgebench.executors.local.nodes import Nodes
from edgebench.executors.plan import Part, RunPlan
from edgebench.executors.processes import PartProcess
from edgebench.executors.protocol import Execution, RunInputs, Tell
from edgebench.executors.supervisor import Supervisor
from edgebench.executors.wiring import Wiring
from edgebench.fabric.child_process import end_children
from edgebench.fabric.records import Spool
from edgebench.fabric.slices import LiveState

_DOING = {
    "broker": "starting brokers",
    "relay": "starting the link relay",
    "cloud": "starting the cloud",
    "edge": "starting nodes",
    "agent": "starting nodes",
}


def start(plan: RunPlan, inputs: RunInputs, spool: Spool, tell: Tell) -> Execution:
    """See `Executor.start`."""
    execution = LocalExecution(plan, inputs, spool, tell)
    try:
        execution.start()
    except BaseException:
        execution.stop()
        raise
    return execution


class LocalExecution:
    """One run on this machine. Made by `start`."""

    def __init__(self, plan: RunPlan, inputs: RunInputs, spool: Spool, tell: Tell) -> None:
        logs, work = inputs.run_dir / "logs", inputs.run_dir / "work"
        self._tell = tell
        self._plan = plan
        self._inputs = inputs
        self._running: list[PartProcess] = []
        self._brokers = Brokers(work, logs)
        self._links = Links(inputs.deployment, logs, spool.write)
        self._nodes = Nodes(plan, inputs, work, logs)
        self._control = self._nodes.client()
        self._supervisor = Supervisor(self._running, self._control, spool.write)

    def start(self) -> None:
        """Start the parts, those of a stage side by side."""
        for stage in self._plan.stages():
            self._tell(_DOING[stage[0].kind])
            for part in stage:
                self._running.append(self._launch(part))
            for part in stage:
                self._await_up(part)

    def watch(self, on_live: Callable[[LiveState], None], on_streaming: Callable[[int], None]) -> None:
        """See `Execution`."""
        self._supervisor.watch(on_live, on_streaming)

    def inject(self, injection: Injection) -> None:
        """See `Execution`."""
        match injection:
            case CutLink() | MendLink():
                self._links.inject(injection)
            case Kill(part=name):
                process = self._named(name).process
                self._supervisor.expect_death(name)
                process.kill()

    @property
    def processes(self) -> list[psutil.Process]:
        """See `Execution`."""
        alive = []
        for each in self._running:
            if not each.process.has_ended:
                try:
                    alive.append(psutil.Process(each.process.pid))
                except psutil.NoSuchProcess:
                    continue
        return alive

    def stop(self) -> None:
        """See `Execution`: first the nodes, which hand in what they have recorded, then what they are connected by."""
        # Written down from the last to the first: each happens, though one before it should fail.
        with contextlib.ExitStack() as steps:
            steps.callback(self._brokers.stop)
            steps.callback(self._stop_parts, hosting=False)
            steps.callback(self._links.stop)
            steps.callback(self._stop_parts, hosting=True)
            steps.callback(self._nodes.close)
            steps.callback(self._control.close)

    def _stop_parts(self, *, hosting: bool) -> None:
        end_children([each.process for each in self._running if bool(each.part.nodes) == hosting])

    def _launch(self, part: Part) -> PartProcess:
        match part.kind:
            case "broker":
                return self._brokers.launch(part)
            case "relay":
                return self._links.launch(part)
            case "cloud":
                return self._nodes.launch_cloud(part, self._wiring().endpoints(self._links.address))
            case "edge" | "agent":
                return self._nodes.launch_node(part)
            case _:
                raise AssertionError(f"{part.name}: started by {part.started_by}")

    def _await_up(self, part: Part) -> None:
        if part.kind == "broker":
            self._brokers.until_up(part)
        elif part.kind == "relay":
            self._tell("measuring the links")
            self._links.until_measured(self._wiring().routes())

    def _wiring(self) -> Wiring:
        external = self._inputs.broker_url
        deployment, crossings = self._inputs.deployment, self._plan.crossings
        urls = self._brokers.urls(deployment, external)
        return Wiring(deployment, crossings, urls, external is not None, self._nodes.control_url)

    def _named(self, name: str) -> PartProcess:
        for each in self._running:
            if each.part.name == name:
                return each
        raise FabricError(f"no part '{name}' of this run was started by the command")
