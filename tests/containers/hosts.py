"""Where runs in containers are started: on this computer, or on a machine of its own that has another engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import docker
import psutil

from edgebench.clock import now_s, sleep_s
from edgebench.containers.made import RUN
from tests.lab_kit.machines import Machine, Task
from tests.system.running import command, run_dir_of

FIRST_BUILD_S = 900.0
_ENDS_WITHIN_S = 300.0


class Host(NamedTuple):
    """client: of its engine. machine: None for this computer."""

    client: docker.DockerClient
    machine: Machine | None = None

    def start(self, argv: list[str], log: Path) -> tuple[subprocess.Popen[Any], psutil.Process]:
        """A command there: what is waited for, and the command itself."""
        if self.machine is None:
            with log.open("wb") as out:
                popen: subprocess.Popen[Any] = subprocess.Popen(argv, stdout=out, stderr=out)
            return popen, psutil.Process(popen.pid)
        task: Task = self.machine.start(*self._with_home(), *argv, log=log)
        return task.popen, task.process

    def run(self, *argv: str) -> str:
        """What a command prints that is to end well."""
        if self.machine is None:
            return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=_ENDS_WITHIN_S).stdout
        return self.machine.run(*self._with_home(), *argv, timeout_s=_ENDS_WITHIN_S).stdout

    def _with_home(self) -> tuple[str, str]:
        """What the test has set since the machine is on."""
        return "env", f"EDGEBENCH_HOME={os.environ['EDGEBENCH_HOME']}"


class Running:
    """A run in containers that streams. `process` ends when `command` does, which is `edgebench run` itself."""

    def __init__(self, host: Host, folder: Path, topology: str, *more: str) -> None:
        (folder / "topology.yaml").write_text(topology)
        self.client = host.client
        self.out = folder / "runs"
        self.log = folder / "said"
        argv = command(folder / "topology.yaml", self.out, "--executor", "containers", *more)
        self.process, self.command = host.start(argv, self.log)
        until_s = now_s() + FIRST_BUILD_S
        while "streaming" not in self.log.read_text().splitlines():
            assert self.process.poll() is None, self.log.read_text()
            assert now_s() < until_s, self.log.read_text()
            sleep_s(0.2)

    @property
    def run_dir(self) -> Path:
        return run_dir_of(self.out)

    def containers(self) -> dict[str, Any]:
        found = self.client.containers.list(
            all=True, filters={"label": f"{RUN}={self.run_dir.name}"}, ignore_removed=True
        )
        return {each.attrs["Config"]["Hostname"]: each for each in found}

    def left(self) -> list[str]:
        label = {"label": f"{RUN}={self.run_dir.name}"}
        networks, volumes = self.client.networks.list(filters=label), self.client.volumes.list(filters=label)
        return [*self.containers(), *(each.name for each in networks), *(each.name for each in volumes)]
