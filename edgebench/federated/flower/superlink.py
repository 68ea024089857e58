"""Flower's deployment on this machine: a SuperLink, and a SuperNode for each client, with TLS and node authentication.

Each message starts a process of its own there, as Flower has it. All that it needs lies in a private directory.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from edgebench.clock import now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.fabric.authority import Authority
from edgebench.fabric.brokers.ports import Reservation
from edgebench.fabric.child_process import ChildProcess, describe_end, end_children
from edgebench.fabric.tls import Trust
from edgebench.federated.flower.clients import JOB
from edgebench.federated.flower.engine_job import EngineJob, Listener
from edgebench.federated.flower.entry import LOGS, SOCKET
from edgebench.federated.flower.keys import make_node_key
from edgebench.federated.flower.remote_listener import ListenerServer
from edgebench.federated.learner_environment import environment_for
from edgebench.topology.model import Learners

_HOST = "localhost"
_ADDRESS = "127.0.0.1"
_NAME = "edgebench"
_START_S = 120.0
_STOP_S = 5.0
_POLL_S = 0.1

_PROJECT = """
[project]
name = "edgebench-job"
version = "1.0.0"
description = "A federation of edgebench"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "edgebench"

[tool.flwr.app.components]
serverapp = "edgebench_job:server_app"
clientapp = "edgebench_job:client_app"

[tool.flwr.app.config]
{job_key} = {job}
{socket_key} = {socket}
{logs_key} = {logs}
"""
_MODULE = """
from edgebench.federated.flower import entry

server_app = entry.server_app()
client_app = entry.client_app()
"""
_CONNECTIONS = """
[superlink]
default = "{name}"

[superlink.{name}]
address = "{address}:{port}"
root-certificates = {authority}
"""


class _Process:
    """One of the processes, and its log."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            # Flower starts processes for its apps, some in sessions of their own.
            self.child = ChildProcess(
                command, family=True, patience_s=_STOP_S, stdout=output, stderr=output, env=environment
            )

    def check(self) -> None:
        """Raises EdgebenchError where it has ended."""
        if self.child.has_ended:
            how = describe_end(self.child.end())
            raise EdgebenchError(f"engine superlink: {self.name} has ended ({how}): {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log."""
        lines = [line for line in self._log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "no output"


def run_on_superlink(job: EngineJob, listener: Listener, *, log_dir: Path) -> None:
    """Run a job to its end, on a SuperLink and SuperNodes that live as long as it does; their logs stay in `log_dir`.

    Call it from a thread that lasts: on Linux the processes die with it. Raises EdgebenchError.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Short, since the address of a socket may have 107 bytes.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgebench-")))
        hearing = stack.enter_context(ListenerServer(directory / "s"))
        ports = stack.enter_context(_held_ports(job.clients + 1))
        deployment = stack.enter_context(_deployed(directory, ports, log_dir))
        project = _write_project(directory, job, log_dir)
        deployment.command("run", str(project), _NAME)
        until_s = now_s() + _START_S
        while not hearing.hear(listener, _POLL_S):
            deployment.check()
            if not hearing.has_begun and now_s() > until_s:
                raise EdgebenchError(f"engine superlink: the ServerApp has not begun: {deployment.last_words()}")


class _Deployment:
    """The running processes, and how to speak with them."""

    def __init__(self, environment: Mapping[str, str], log_dir: Path) -> None:
        self._environment = environment
        self._log_dir = log_dir
        self._processes: list[_Process] = []

    def start(self, name: str, command: Sequence[str], **environment: str) -> _Process:
        """Start one of Flower's programs."""
        path = self._log_dir / f"{name}.log"
        started = _Process(name, command, path, {**self._environment, **environment})
        self._processes.append(started)
        return started

    def check(self) -> None:
        """Raises EdgebenchError where one has ended."""
        for process in self._processes:
            process.check()

    def last_words(self) -> str:
        """Of the SuperLink."""
        return self._processes[0].last_words()

    def command(self, *arguments: str) -> None:
        """Call `flwr`. Raises EdgebenchError where it fails."""
        with tempfile.TemporaryFile() as output:
            # Not a pipe: whatever it leaves running would hold that open.
            command = [_program("flwr"), *arguments]
            child = ChildProcess(
                command, family=True, patience_s=_STOP_S, stdout=output, stderr=output, env=self._environment
            )
            ended = child.wait(_START_S)
            status = child.end()
            output.seek(0)
            said = output.read().decode(errors="replace")
        if not ended:
            raise EdgebenchError(f"engine superlink: flwr {arguments[0]} takes longer than {_START_S:.0f} s")
        if status != 0:
            lines = [line for line in said.splitlines() if line.strip(" ╭╮╰╯─│")]
            last_words = " ".join(line.strip(" │") for line in lines[-3:])
            raise EdgebenchError(f"engine superlink: flwr {arguments[0]} fails: {last_words}")

    def stop(self) -> None:
        """End all, and all that they have started."""
        end_children([process.child for process in self._processes])


@contextmanager
def _deployed(directory: Path, ports: Sequence[int], log_dir: Path) -> Iterator[_Deployment]:
    """A SuperLink at the first port, and a SuperNode at each other, by their places; SuperNodes may not be up yet."""
    # An authority that signs nothing else.
    authority = Authority.create(directory / "authority")
    tls = authority.issue(directory / "server", _HOST, [_ADDRESS], host_names=[_HOST])
    home = directory / "home"
    home.mkdir()
    port, *node_ports = ports
    (home / "config.toml").write_text(
        _CONNECTIONS.format(name=_NAME, address=_ADDRESS, port=port, authority=_quoted(tls.ca_file)), "utf-8"
    )
    deployment = _Deployment(_environment(home), log_dir)
    try:
        link = deployment.start("superlink", _link_command(port, tls))
        _wait_for(link, port)
        for place, node_port in enumerate(node_ports):
            name = f"supernode-{place}"
            private, public = make_node_key(directory, name)
            deployment.command("supernode", "register", str(public), _NAME)
            # A home of its own: SuperNodes that unpack one app into one folder at a time get into each other's way.
            node_home = directory / name
            node_home.mkdir()
            command = _node_command(port, node_port, place, len(node_ports), private, tls)
            deployment.start(name, command, FLWR_HOME=str(node_home), **environment_for(Learners(), None))
        yield deployment
    finally:
        deployment.stop()


def _link_command(port: int, tls: Trust) -> list[str]:
    return [
        _program("flower-superlink"),
        *("--host", _ADDRESS, "--port", str(port)),
        *_tls_arguments(tls),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def _node_command(port: int, own_port: int, place: int, clients: int, key: Path, tls: Trust) -> list[str]:
    return [
        _program("flower-supernode"),
        *("--superlink", f"{_ADDRESS}:{port}", "--root-certificates", str(tls.ca_file)),
        *("--auth-supernode-private-key", str(key)),
        *("--host", _ADDRESS, "--port", str(own_port)),
        *_tls_arguments(tls),
        *("--node-config", f"partition-id={place} num-partitions={clients}"),
    ]


def _tls_arguments(tls: Trust) -> list[str]:
    return [
        *("--ssl-ca-certfile", str(tls.ca_file)),
        *("--ssl-certfile", str(tls.certificate_file)),
        *("--ssl-keyfile", str(tls.key_file)),
    ]


def _write_project(directory: Path, job: EngineJob, log_dir: Path) -> Path:
    """A Flower project that has nothing in it but the way to ours."""
    path = directory / "job.json"
    path.write_bytes(msgspec.json.encode(job))
    project = directory / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        _PROJECT.format(
            job_key=JOB,
            job=_quoted(path),
            socket_key=SOCKET,
            socket=_quoted(directory / "s"),
            logs_key=LOGS,
            logs=_quoted(log_dir.absolute()),
        ),
        "utf-8",
    )
    (project / "edgebench_job.py").write_text(_MODULE, "utf-8")
    return project


def _environment(home: Path) -> dict[str, str]:
    scripts = sysconfig.get_path("scripts")
    here = f"{_ADDRESS},localhost"
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "NO_PROXY": here,
        "no_proxy": here,
    }


def _program(name: str) -> str:
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        raise EdgebenchError(f"engine superlink: no {name} in {sysconfig.get_path('scripts')} (pip install flwr)")
    return found


def _wait_for(link: _Process, port: int) -> None:
    until_s = now_s() + _START_S
    while True:
        link.check()
        try:
            socket.create_connection((_ADDRESS, port), _POLL_S).close()
        except OSError:
            if now_s() > until_s:
                raise EdgebenchError(f"engine superlink: it does not come up: {link.last_words()}") from None
            sleep_s(_POLL_S)
        else:
            return


@contextmanager
def _held_ports(count: int) -> Iterator[list[int]]:
    """Ports that the system gives to nobody else meanwhile: a SuperNode may bind to its own a minute later."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            held = Reservation(_ADDRESS)
            stack.callback(held.release)
            ports.append(held.port)
        yield ports


def _quoted(path: Path) -> str:
    return msgspec.json.encode(str(path)).decode()
