"""A lab on a network of machines, set up and used by the lines that the documentation tells."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from edgebench.clock import now_s, sleep_s
from edgebench.fabric.records import SampleRows
from edgebench.fabric.spool import read_spool
from tests.lab_kit.machines import Disk, Machine, Network, Task
from tests.system.running import run_dir_of

PORT = 46_900
PATIENCE_S = 300.0
RUN_S = 1200.0
EDGEBENCH = (sys.executable, "-m", "edgebench.cli")


class Lab:
    """A server, and who has joined it. Each has a home folder of its own."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.net = net
        self.folder = folder
        self.joined: dict[str, Task] = {}
        self.server = self.machine("server")
        self.serving = self._serve()

    def machine(self, name: str, **options: Any) -> Machine:
        """A machine with this computer's files but for the lab's."""
        return self.net.machine(name, environment={"EDGEBENCH_HOME": str(self.folder / name)}, **options)

    def board(self, name: str, layers: tuple[Path, ...]) -> Machine:
        """A machine with a disk of its own."""
        return self.net.machine(name, disk=Disk(layers, self.folder / name))

    def _serve(self) -> Task:
        log = self.folder / "server.log"
        task = self.server.start(*EDGEBENCH, "lab", "serve", "--listen", f"{self.server.address}:{PORT}", log=log)
        until_s = now_s() + PATIENCE_S
        while "the lab is served at" not in task.said():
            assert task.popen.poll() is None, task.said()
            assert now_s() < until_s, task.said()
            sleep_s(0.05)
        return task

    def invite(self, *how: str) -> tuple[str, str]:
        """The two lines to paste at a board: one that installs, one that joins."""
        install, join = self.server.run(*EDGEBENCH, "lab", "invite", *how).stdout.splitlines()
        assert not {"'", '"'} & set(join)
        return install, join

    def join(self, machine: Machine, *how: str, program: tuple[str, ...] = EDGEBENCH) -> None:
        """Enrol a machine by a token of its own, and wait until the lab knows that it is there."""
        _, join = self.invite(*how)
        name, *words = shlex.split(join)
        assert name == "edgebench"
        self.start(machine, *words, program=program)

    def start(self, machine: Machine, *words: str, program: tuple[str, ...] = EDGEBENCH) -> None:
        """Run `edgebench join` there with these words, and wait until the lab knows of it."""
        task = self.joined[machine.name] = machine.start(*program, *words, log=self.folder / f"{machine.name}.log")
        until_s = now_s() + PATIENCE_S
        while machine.name not in self.present():
            assert task.popen.poll() is None, task.said()
            assert now_s() < until_s, task.said()
            sleep_s(0.2)

    def listed(self) -> dict[str, dict[str, Any]]:
        """What `edgebench lab list` says, by machine."""
        said = json.loads(self.server.run(*EDGEBENCH, "lab", "list", "--json").stdout)
        return {each["name"]: each for each in said["machines"]}

    def present(self) -> list[str]:
        """The machines that are there now."""
        return [name for name, each in self.listed().items() if each["present"]]

    def run(self, topology: str, *more: str) -> tuple[int, dict[str, Any], Path]:
        """Run a topology in the lab: exit status, result.json, run directory."""
        running = self.start_run(topology, *more)
        out, _ = running.popen.communicate(timeout=RUN_S)
        return self.result(running, out)

    def start_run(self, topology: str, *more: str) -> Task:
        """Begin to run a topology in the lab."""
        file = self.folder / "topology.yaml"
        file.write_text(topology)
        command = ("run", str(file), "--executor", "lab", "--out", str(self.folder / "runs"), "--json")
        return self.server.start(*EDGEBENCH, *command, *more)

    def until_streaming(self, running: Task, decided: int, timeout_s: float = PATIENCE_S) -> Path:
        """Wait until devices on the server have written down so many decisions of a run that was begun; its run
        directory."""
        before = {path.name for path in (self.folder / "runs").glob("*") if (path / "result.json").exists()}
        until_s = now_s() + timeout_s
        while True:
            new = [path.parent for path in (self.folder / "runs").glob("*/deployment.json")]
            for run_dir in new:
                if run_dir.name not in before and _decided_in(run_dir) >= decided:
                    return run_dir
            assert running.popen.poll() is None, running.popen.stdout and running.popen.stdout.read()
            assert now_s() < until_s, "the streams did not begin"
            sleep_s(0.2)

    def result(self, running: Task, said: str) -> tuple[int, dict[str, Any], Path]:
        """Of a run that has ended."""
        assert (self.folder / "runs").is_dir(), said
        run_dir = run_dir_of(self.folder / "runs")
        assert (run_dir / "result.json").exists(), said
        return running.popen.returncode, json.loads((run_dir / "result.json").read_text()), run_dir

    def left(self, timeout_s: float = 20.0) -> dict[str, list[str]]:
        """What still runs on each machine, when that time is over, beside the server and those who have joined; empty
        as soon as nothing does."""
        until_s = now_s() + timeout_s
        while (found := self._left()) and now_s() < until_s:
            sleep_s(0.2)
        return found

    def _left(self) -> dict[str, list[str]]:
        found = {}
        for name, machine in self.net.machines.items():
            lines = machine.left(timeout_s=0.0)
            found[name] = [line for line in lines if "edgebench.cli" not in line and "edgebench join" not in line]
        return {name: lines for name, lines in found.items() if lines}


def _decided_in(run_dir: Path) -> int:
    """Samples that are written down so far by the processes of the server."""
    spools = run_dir.glob("work/bed*/records.spool")
    return sum(len(entry.rows) for spool in spools for entry in read_spool(spool) if isinstance(entry, SampleRows))
