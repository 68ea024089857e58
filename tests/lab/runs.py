"""Runs in a lab on this computer, as processes: a server's run, and a machine that has joined as `pi`."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from edgebench.errors import FabricError
from edgebench.fabric.control import ControlClient
from edgebench.fabric.endpoints import BrokerUrl, parse_own_broker_url
from edgebench.fabric.tls import Trust, client_context, trust_in
from tests.conftest import ROOT
from tests.lab.labs import Lab, eventually
from tests.lab.labs import command as edgebench
from tests.system.running import RUN_PATIENCE_S, command, run_dir_of

TOPOLOGY = """\
schema: 1
name: in-a-lab
seed: 3
duration_s: 60
nodes:
  cloud:  {tier: cloud}
  ward:   {tier: edge, parent: cloud}
  bed:    {tier: device, parent: ward}
  far:    {tier: device, parent: ward}
workloads:
  watch: {task: occupancy, source: [bed, far], load: {kind: fixed, rate_hz: 10}, model: {runtime: fake}}
machines: {far: pi}
"""


@contextlib.contextmanager
def joined(lab: Lab, home: Path, token: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`edgebench join`, as a process."""
    words = ("join", lab.url, "--token", token, "--name", "pi", "--ports", "47800-47899")
    process = edgebench(home, *words, **environment)
    try:
        eventually(lambda: any(each.name == "pi" and each.present for each in lab.client.machines()), within_s=60.0)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30.0)


class Running:
    """The run, as a process, once its parts are there. trust: of pi."""

    def __init__(
        self, lab: Lab, pi: subprocess.Popen[str], tmp_path: Path, text: str, *more: str, **environment: str
    ) -> None:
        topology = tmp_path / "topology.yaml"
        topology.write_text(text)
        self.out = tmp_path / "runs"
        self._process = subprocess.Popen(
            command(topology, self.out, "--json", "--executor", "lab", *more),
            env={**os.environ, "EDGEBENCH_HOME": str(lab.home), "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._pi = pi
        self.trust = trust_in(tmp_path / "pi" / "machine")
        eventually(lambda: self._parts("device_agent", pi.pid), within_s=RUN_PATIENCE_S)
        (agent,) = self._parts("device_agent", pi.pid)
        arguments = agent.cmdline()
        self.control_url = arguments[arguments.index("--cloud") + 1]
        self.token = agent.environ()["EDGEBENCH_TOKEN"]

    def _parts(self, program: str, below: int) -> list[psutil.Process]:
        assert self._process.poll() is None, self._process.communicate()
        found = []
        for each in psutil.Process(below).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended just now
                if program in each.cmdline():
                    found.append(each)
        return found

    @property
    def token_of_ward(self) -> str:
        (edge,) = self._parts("edge_node", self._process.pid)
        return edge.environ()["EDGEBENCH_TOKEN"]

    @contextlib.contextmanager
    def bed_asleep(self) -> Iterator[None]:
        """The agent of the bed, which is here, does nothing meanwhile, so that the run's end waits for it."""
        (agent,) = self._parts("device_agent", self._process.pid)
        agent.suspend()
        try:
            yield
        finally:
            agent.resume()

    @property
    def run_dir(self) -> Path:
        return run_dir_of(self.out)

    def control(self) -> ControlClient:
        """By what pi knows."""
        return ControlClient(self.control_url, self.token, trust=self.trust)

    def broker(self) -> BrokerUrl:
        """That of pi's site, with the login of its node."""
        with self.control() as client:
            return parse_own_broker_url(client.slice_of(["far"]).endpoints["far"].broker)

    def wait_for_streams(self) -> None:
        eventually(lambda: self._decided() > 20, RUN_PATIENCE_S)

    def _decided(self) -> int:
        with self.control() as client, contextlib.suppress(FabricError):  # it has not begun to answer
            seen = client.state().totals.get("watch")
            return 0 if seen is None else seen.decided
        return 0

    def result(self) -> dict[str, Any]:
        out, err = self._process.communicate(timeout=RUN_PATIENCE_S)
        assert out, err
        found: dict[str, Any] = json.loads(out)
        return found

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def logged_in(broker: BrokerUrl) -> tuple[str, str]:
    """Its login."""
    return broker.username or "", broker.password or ""


def own_context(trust: Trust) -> ssl.SSLContext:
    """For a client of a test, which connects by address."""
    context = client_context(trust, mutual=True)
    context.check_hostname = False
    return context
