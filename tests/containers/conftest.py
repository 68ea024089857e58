"""Container engines for tests: Docker, the one that answers on this machine, else one that is started for them; and
podman, on a machine of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.containers.base import bases
from edgebench.containers.engine import Engine, EngineError, engine
from edgebench.containers.wheels import gathered
from edgebench.tasks.cache import cache_dir
from tests.containers.hosts import Host
from tests.lab_kit.machines import network
from tests.lab_kit.needs import SYSTEM_PATH, need_root_and

_STARTS_WITHIN_S = 60.0
_ENDS_WITHIN_S = 60.0
_ANSWERS_WITHIN_S = 120.0


@pytest.fixture(scope="session")
def docker_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker.DockerClient]:
    """Of an engine that `edgebench` finds, too."""
    with pytest.MonkeyPatch.context() as patch:
        if not _answers():
            need_root_and("dockerd", "iptables", "debootstrap", packages="docker.io iptables debootstrap")
            folder = tmp_path_factory.mktemp("docker")
            patch.setenv("DOCKER_HOST", f"unix://{folder}/socket")
            rules = _iptables("iptables-save")
            process = _started(folder)
            try:
                # It forbids to forward anything but its own, and other tests have bridges, too.
                _iptables("iptables", "-P", "FORWARD", "ACCEPT")
                yield from _client()
            finally:
                process.terminate()
                process.wait(_ENDS_WITHIN_S)
                _iptables("iptables-restore", said=rules)
        else:
            yield from _client()


@pytest.fixture(scope="session")
def podman_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A machine with podman's service, whose network is its own, so that no rule of Docker's is in the way."""
    packages = "podman catatonit netavark iptables debootstrap"
    need_root_and("podman", "catatonit", "iptables", "debootstrap", packages=packages)
    folder = tmp_path_factory.mktemp("podman")
    url = f"unix://{folder}/socket"
    own = {"root": "data", "runroot": "run", "tmpdir": "tmp", "network-config-dir": "networks"}
    options = [word for option, place in own.items() for word in (f"--{option}", str(folder / place))]
    options += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
    # Podman mounts it on itself, and leaves it so: nobody could remove the folder.
    mounted = folder / own["root"] / "overlay"
    with _unmounted(mounted), network() as net:
        # Health checks are timers of systemd, which does not run there.
        machine = net.machine("podman", environment={"DOCKER_HOST": url, "DISABLE_HC_SYSTEMD": "true"})
        service = machine.start("podman", *options, "system", "service", "--time", "0", url, log=folder / "log")
        until_s = now_s() + _STARTS_WITHIN_S
        while not (folder / "socket").is_socket():
            assert service.popen.poll() is None, service.said()
            assert now_s() < until_s, service.said()
            sleep_s(0.1)
        with contextlib.closing(docker.DockerClient(base_url=url, timeout=_ANSWERS_WITHIN_S, version="auto")) as client:
            # From that machine nothing can be fetched.
            bases(Engine(client), None, print)
            gathered((), cache_dir() / "containers")
            yield Host(client, machine)


@contextlib.contextmanager
def _unmounted(folder: Path) -> Iterator[None]:
    """It is mounted no more at the end."""
    try:
        yield
    finally:
        while f" {folder} " in Path("/proc/mounts").read_text("utf-8"):
            subprocess.run(["umount", str(folder)], check=True)


def _client() -> Iterator[docker.DockerClient]:
    with engine() as found:
        yield found._client


def _iptables(*command: str, said: str = "") -> str:
    environment = {**os.environ, "PATH": SYSTEM_PATH}
    return subprocess.run(command, input=said, capture_output=True, text=True, check=True, env=environment).stdout


def _answers() -> bool:
    try:
        with engine():
            return True
    except EngineError:
        return False


def _started(folder: Path) -> subprocess.Popen[bytes]:
    command = ["dockerd", "--bridge=none", "--host", f"unix://{folder}/socket", "--pidfile", str(folder / "pid")]
    command += ["--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": SYSTEM_PATH})
    until_s = now_s() + _STARTS_WITHIN_S
    while not _answers():
        assert process.poll() is None, (folder / "log").read_text()
        assert now_s() < until_s, (folder / "log").read_text()
        sleep_s(0.1)
    return process
