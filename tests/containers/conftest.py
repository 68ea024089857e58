"""A container engine for tests: the one that answers on this machine, else one that is started for them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.containers.engine import EngineError, engine
from tests.lab_kit.needs import SYSTEM_PATH, need_root_and

_STARTS_WITHIN_S = 60.0
_ENDS_WITHIN_S = 60.0


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
