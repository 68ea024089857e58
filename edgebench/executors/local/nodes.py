"""The cloud, the edge nodes and the device agents of a run on this machine, and what speaks for each: a token."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import msgspec

from cloud.cloud_spec import CloudSpec
from edgebench.executors.plan import Part, RunPlan
from edgebench.executors.processes import PartProcess, start_part
from edgebench.executors.protocol import RunInputs
from edgebench.fabric.control import ControlClient
from edgebench.fabric.slices import WATCHER, Endpoints

_PROGRAMS = {"edge": "edge_node", "agent": "device_agent"}


class Nodes:
    """The control plane's socket listens from the beginning, so nodes can be started before the cloud serves it."""

    def __init__(self, plan: RunPlan, inputs: RunInputs, work_dir: Path, log_dir: Path) -> None:
        self._inputs = inputs
        self._work_dir = work_dir
        self._log_dir = log_dir
        self._tokens = {part.name: secrets.token_urlsafe(24) for part in plan.of_kind("edge", "agent")}
        self._nodes = {part.name: list(part.nodes) for part in plan.of_kind("edge", "agent")}
        self._watcher_token = secrets.token_urlsafe(24)
        self._control = socket.create_server(("127.0.0.1", 0))
        host, port = self._control.getsockname()
        self.control_url = f"http://{host}:{port}"

    def client(self) -> ControlClient:
        """Speaks to the cloud for the executor."""
        return ControlClient(self.control_url, self._watcher_token)

    def launch_cloud(self, part: Part, endpoints: dict[str, Endpoints]) -> PartProcess:
        """Start the cloud, and tell it what it runs."""
        inputs = self._inputs
        spec = CloudSpec(
            deployment=inputs.deployment,
            endpoints=endpoints,
            tokens={token: self._nodes[name] for name, token in self._tokens.items()}
            | {self._watcher_token: [WATCHER]},
            traces=inputs.traces,
            run_dir=str(inputs.run_dir),
            registry_dir=str(inputs.registry_dir),
            data=str(inputs.data) if inputs.data is not None else None,
            retrain=inputs.retrain,
        )
        work_dir = self._work_dir / part.name
        work_dir.mkdir(parents=True)
        descriptor = self._control.fileno()
        cloud = start_part(
            part,
            "cloud",
            ["--listen-fd", str(descriptor), "--work-dir", str(work_dir), "--lifeline"],
            log=self._log_dir / f"{part.name}.log",
            token=self._watcher_token,
            pass_fds=(descriptor,),
        )
        cloud.process.write_line(msgspec.json.encode(spec))
        self._control.close()  # it is the cloud's now, and dies with it
        return cloud

    def launch_node(self, part: Part) -> PartProcess:
        """Start an edge node or a device agent, which waits for the cloud by itself."""
        first = part.nodes[0]
        arguments = ["--cloud", self.control_url, "--work-dir", str(self._work_dir / first), "--lifeline"]
        for node in part.nodes:
            arguments += ["--node", node]
        log = self._log_dir / f"{first}.log"
        return start_part(part, _PROGRAMS[part.kind], arguments, log=log, token=self._tokens[part.name])

    def close(self) -> None:
        """Listen no longer, where the cloud never took over."""
        self._control.close()
