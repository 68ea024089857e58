"""Exported folders, brought to a report: by compose as the README says, and by the commands of the pods."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from edgebench.cli import main
from edgebench.clock import now_s, sleep_s
from edgebench.containers.base import bases
from edgebench.containers.engine import engine
from tests.lab_kit.needs import need_root_and
from tests.system.running import faults_of, run_dir_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

TOPOLOGY = """\
schema: 1
name: wards
seed: 3
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, count: 2, parent: cloud, memory_mb: 400}
  bed:   {tier: device, count: 4, parent: ward, memory_mb: 200}
links:
  - {between: [bed, ward], latency_ms: 2}
  - {between: [ward, cloud], latency_ms: 5}
workloads:
  watch: {task: occupancy, source: bed, load: {kind: fixed, rate_hz: 10}, model: {runtime: fake}}
"""
PARTS = ("ward-0", "ward-1", "ward-0-bed", "ward-1-bed")
USER_ID = 10_007
PATIENCE_S = 1800.0


@pytest.fixture
def export(tmp_path: Path, docker_client: docker.DockerClient) -> Callable[[str], Path]:
    """Writes a folder, on the base image that is here."""
    with engine() as found:
        base = bases(found, None, print).edge
    (tmp_path / "wards.yaml").write_text(TOPOLOGY)
    tmp_path.chmod(0o755)

    def exported(target: str) -> Path:
        out = tmp_path / target
        words = ["export", target, str(tmp_path / "wards.yaml"), "--set", "duration_s=6", "--out", str(out)]
        assert main([*words, "--base-image", base]) == 0
        assert [each for each in out.rglob("*") if each.name in ("token", "ca.key", "machine.key")] == []
        return out

    return exported


def check_report(runs: Path, said: str) -> None:
    """Of the only run there."""
    result = json.loads((run_dir_of(runs) / "result.json").read_text())
    assert faults_of(result) == [], said
    assert (result["executor"], result["workloads"]["watch"]["decided"]) == ("containers", 240)
    assert result["nodes"]["bed-0"]["machine"] == "ward-0-bed"
    assert (run_dir_of(runs) / "report.html").is_file()


class Folder:
    """A compose folder, as a stranger has it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sh(self, script: str) -> str:
        """What it says; it may be Debian's compose or Docker's own."""
        own = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        done = subprocess.run(
            ["sh", "-e", "-c", script if own else script.replace("docker compose", "docker-compose")],
            cwd=self.path,
            env={**os.environ, "COMPOSE_HTTP_TIMEOUT": "600"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def compose(export: Callable[[str], Path]) -> Iterator[Folder]:
    need_root_and("docker-compose", packages="docker-compose")
    folder = Folder(export("compose"))
    yield folder
    folder.sh("docker compose down --volumes --rmi all")


def test_by_its_readme_a_folder_comes_up_to_a_report_and_ends_by_itself_twice(
    compose: Folder, docker_client: docker.DockerClient
) -> None:
    (runs := compose.path / "runs").rmdir()
    steps = (compose.path / "README.md").read_text().split("```")[1].removeprefix("sh\n")
    for first in (True, False):
        if first:
            said = compose.sh(steps.replace("$(id -u)", f"{USER_ID} && chown {USER_ID} runs && echo USER_ID={USER_ID}"))
        else:
            run_dir_of(runs).rename(compose.path / "first")
            said = compose.sh("docker compose up")
        check_report(runs, said)
        assert (run_dir_of(runs) / "report.html").stat().st_uid == USER_ID
        found = docker_client.containers.list(all=True, filters={"label": "com.docker.compose.project=compose"})
        ended = {each.attrs["Config"]["Hostname"]: each.attrs["State"]["ExitCode"] for each in found}
        assert {name: ended[name] for name in PARTS} == dict.fromkeys(PARTS, 0), said


def test_root_runs_no_container(compose: Folder) -> None:
    (compose.path / ".env").write_text("USER_ID=0\n")
    with pytest.raises(AssertionError, match="USER_ID"):
        compose.sh("docker compose build ward-0")


class Cluster:
    """As much of one as the pods' commands need: images, a network, and folders as volumes."""

    def __init__(self, client: docker.DockerClient, manifests: Path, work: Path) -> None:
        self._client = client
        self._work = work
        self._started: list[Any] = []
        documents = [each for file in manifests.rglob("*.yaml") for each in yaml.safe_load_all(file.read_text())]
        self._pods = {
            each["metadata"]["name"]: each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
            for each in documents
            if each.get("kind") in ("Pod", "Job")
        }
        self._images = {each["containers"][0]["image"] for each in self._pods.values()}
        for image in self._images:
            kind = image.partition(":")[0].removeprefix("edgebench-")
            client.images.build(path=str(manifests / "images" / kind), tag=image, network_mode="none", rm=True)
        self._network = client.networks.create(f"edgebench-test-{work.name}", internal=True)

    def start(self, pod: str) -> Any:
        """Its first container, on the volumes that it had before, if any."""
        spec = self._pods[pod]
        context, container = spec["securityContext"], spec["containers"][0]
        tight = container["securityContext"]
        places = {each["name"]: self._folder(pod, each, context["runAsUser"]) for each in spec["volumes"]}
        started = self._client.containers.create(
            container["image"],
            container["args"],
            hostname=spec["hostname"],
            user=f"{context['runAsUser']}:{context['runAsGroup']}",
            read_only=tight["readOnlyRootFilesystem"],
            cap_drop=tight["capabilities"]["drop"],
            security_opt=["no-new-privileges"],
            init=True,
            network=self._network.name,
            mem_limit=int(container.get("resources", {}).get("limits", {}).get("memory", 0)) or None,
            volumes=[f"{places[each['name']]}:{each['mountPath']}" for each in container["volumeMounts"]],
        )
        self._started.append(started)
        self._network.disconnect(started)
        self._network.connect(started, aliases=[spec["hostname"]])
        started.start()
        return started

    def _folder(self, pod: str, volume: dict[str, Any], user: int) -> Path:
        name = volume.get("persistentVolumeClaim", {}).get("claimName") or volume.get("secret", {}).get("secretName")
        folder = self._work / (name or f"{pod}-{volume['name']}")
        folder.mkdir(exist_ok=True)
        os.chown(folder, user, user)
        return folder

    def enrol(self, server: Any) -> None:
        """What `enrol.sh` does."""
        probe = self._pods["server"]["containers"][0]["readinessProbe"]["exec"]["command"]
        eventually(lambda: server.exec_run(probe).exit_code == 0, server)
        for part in PARTS:
            code, token = server.exec_run(["cat", f"/tokens/{part}/token"])
            assert code == 0
            (self._work / f"token-{part}").mkdir(exist_ok=True)
            (self._work / f"token-{part}" / "token").write_bytes(token)

    def remove(self) -> None:
        for each in self._started:
            each.remove(force=True)
        self._network.remove()
        for image in self._images:
            self._client.images.remove(image, force=True)


@pytest.fixture
def cluster(export: Callable[[str], Path], docker_client: docker.DockerClient, tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "volumes").mkdir()
    found = Cluster(docker_client, export("k8s"), tmp_path / "volumes")
    yield found
    found.remove()


def eventually(happened: Callable[[], bool], *containers: Any) -> None:
    until_s = now_s() + PATIENCE_S
    while not happened():
        for each in containers:
            each.reload()
            assert each.status == "running", each.logs().decode()
        assert now_s() < until_s, [each.logs().decode() for each in containers]
        sleep_s(0.5)


def test_the_pods_commands_join_and_run_and_one_that_is_started_anew_is_who_it_was(
    cluster: Cluster, tmp_path: Path
) -> None:
    server = cluster.start("server")
    cluster.enrol(server)
    first = cluster.start("ward-0")
    eventually(lambda: b"is in the lab, as 'ward-0'" in first.logs(), first, server)
    first.kill()
    parts = [cluster.start(each) for each in PARTS]
    assert server.wait(timeout=PATIENCE_S)["StatusCode"] in (0, 1), server.logs().decode()
    check_report(tmp_path / "volumes" / "server-runs", server.logs().decode())
    assert b"was in the lab before" in parts[0].logs()
    assert [each.wait(timeout=60)["StatusCode"] for each in parts] == [0] * len(parts)
