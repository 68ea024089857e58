"""The container engine of this computer, by the Docker API, which podman speaks. Only here is `docker` imported."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import docker
import msgspec
import requests
from docker.errors import APIError, BuildError, DockerException, ImageNotFound, NotFound
from docker.types import Mount

from edgebench.containers.made import IMAGE, Limits, Made, Network
from edgebench.errors import EdgebenchError

_HOW_TO_START = "sudo systemctl start docker, or sudo systemctl start podman.socket; DOCKER_HOST names another"
_TIMEOUT_S = 120.0
_LOOK_S = 10.0
_LAST_LINES = 40


class EngineError(EdgebenchError):
    """A container engine that is not there, or that refuses."""


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """The one that DOCKER_HOST names, else the first that answers at a usual place. Raises EngineError."""
    tried = []
    for url in _places():
        try:
            client = _connected(url)
        except (DockerException, requests.RequestException, OSError) as error:
            tried.append(f"{url}: {_why(error)}")
            continue
        with contextlib.closing(client):
            options = client.info().get("SecurityOptions") or []
            if any("rootless" in option for option in options):
                raise EngineError(
                    f"{url}: is an engine without root's rights, whose networks are not this computer's "
                    f"(start one with them: {_HOW_TO_START})"
                )
            yield Engine(client)
        return
    raise EngineError(f"no container engine answers ({'; '.join(tried)}): start one ({_HOW_TO_START})")


class Engine:
    """What is asked of it, in this project's words. From any thread. All raise EngineError."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def image(self, name: str) -> str | None:
        """The id of an image that is here; None where it is not."""
        with _translated(name):
            try:
                return str(self._client.images.get(name).id)
            except ImageNotFound:
                return None

    def size_bytes(self, image: str) -> int:
        """Of an image that is here, all its layers."""
        with _translated(image):
            return int(self._client.images.get(image).attrs["Size"])

    def pull(self, name: str) -> None:
        """Fetch an image from where the engine gets them."""
        with _translated(f"{name}: cannot be pulled"):
            self._client.images.pull(*repository_and_tag(name))

    def take_in(self, root: IO[bytes], name: str) -> None:
        """Make an image of a root file system, a tar file. name: `REPOSITORY:TAG`."""
        repository, _, tag = name.partition(":")
        with _translated(f"{name}: cannot be made"):
            said = self._client.api.import_image_from_stream(
                root, repository=repository, tag=tag, changes=[f"LABEL {IMAGE}=base"]
            )
            made = msgspec.json.decode(said.strip().splitlines()[-1]).get("status")
            if made is not None:
                self._client.api.tag(made, repository, tag)  # of which podman takes no notice before
        if self.image(name) is None:
            raise EngineError(f"{name}: the engine has not taken it in")

    def build(self, folder: Path, name: str) -> None:
        """Build the image of a folder with a Dockerfile, without a network."""
        with _translated(f"{name}: cannot be built"):
            try:
                self._client.images.build(path=str(folder), tag=name, rm=True, forcerm=True, network_mode="none")
            except BuildError as error:
                said = [line for each in error.build_log for line in str(each.get("stream", "")).splitlines()]
                last = next((line for line in reversed(said) if line.strip()), "")
                raise EngineError(f"{name}: cannot be built: {error.msg} ({last.strip()})") from error

    def said_in(self, image: str, command: Sequence[str], labels: Mapping[str, str]) -> str:
        """What a command prints that is run in an image, without a network."""
        with _translated(f"{image}: cannot be used"):
            # The image may have an entry point of its own.
            made = self._client.containers.create(
                image, list(command[1:]), entrypoint=[command[0]], network_mode="none", labels=dict(labels)
            )
            try:
                made.start()
                made.wait()
                return str(made.logs().decode(errors="replace")).strip()
            finally:
                made.remove(force=True, v=True)

    def make_network(self, name: str, labels: Mapping[str, str]) -> Network:
        """A network that leads nowhere but to this computer, at its gateway."""
        with _translated(f"network {name}"):
            made = self._client.networks.create(
                name, driver="bridge", internal=True, check_duplicate=True, labels=dict(labels)
            )
            made.reload()
            config = made.attrs["IPAM"]["Config"][0]
            # Podman tells the gateway of a network that has one; Docker always.
            return Network(made.id, name, str(config["Gateway"]))

    def make_container(
        self,
        name: str,
        image: str,
        command: Sequence[str],
        networks: Sequence[Network],
        environment: Mapping[str, str],
        limits: Limits,
        labels: Mapping[str, str],
    ) -> str:
        """A container that is not started yet; its id. It has as few rights as there are."""
        with _translated(f"container {name}"):
            made = self._client.containers.create(
                image,
                list(command),
                name=name,
                hostname=limits.hostname,
                user=limits.user,
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                init=True,
                pids_limit=limits.processes,
                mem_limit=limits.memory_bytes,
                memswap_limit=limits.memory_bytes,
                tmpfs={"/tmp": f"rw,noexec,nosuid,nodev,size={limits.tmp_bytes}"},  # noqa: S108  (the container's)
                mounts=[Mount(limits.home, None, type="volume", labels=dict(labels))],
                network=networks[0].name,
                environment={**limits.environment, **environment},
                healthcheck={
                    "test": ["CMD-SHELL", limits.health],
                    "interval": limits.health_every_s * 10**9,
                    "timeout": 10 * 10**9,
                    "retries": 3,
                },
                labels=dict(labels),
            )
            for network in networks[1:]:
                self._client.networks.get(network.id).connect(made)
            return str(made.id)

    def start(self, container: str) -> None:
        """Start one that was made."""
        with _translated("a container cannot be started"):
            self._client.containers.get(container).start()

    def state(self, container: str) -> Mapping[str, Any]:
        """As the API tells it: `Running`, `ExitCode`, `OOMKilled`, …; empty where the container is gone."""
        with _translated("a container"):
            try:
                return dict(self._client.containers.get(container).attrs["State"])
            except NotFound:
                return {}

    def said(self, container: str) -> str:
        """What it has printed, the last lines; empty where it is gone."""
        with _translated("a container"):
            try:
                return str(self._client.containers.get(container).logs(tail=_LAST_LINES).decode(errors="replace"))
            except NotFound:
                return ""

    def containers(self, label: str) -> list[Made]:
        """Those with a label (`NAME` or `NAME=VALUE`), running or not."""
        with _translated("containers"):
            found = self._client.api.containers(all=True, filters={"label": label})
        return [Made(each["Id"], each["Names"][0].lstrip("/"), each.get("Labels") or {}) for each in found]

    def networks(self, label: str) -> list[Made]:
        """Those with a label."""
        with _translated("networks"):
            found = self._client.api.networks(filters={"label": label})
        return [Made(each["Id"], each["Name"], each.get("Labels") or {}) for each in found]

    def volumes(self, label: str) -> list[Made]:
        """Those with a label."""
        with _translated("volumes"):
            found = self._client.api.volumes(filters={"label": label}).get("Volumes") or []
        return [Made(each["Name"], each["Name"], each.get("Labels") or {}) for each in found]

    def images(self, label: str) -> list[str]:
        """The names of those with a label, and the ids of those that have none."""
        with _translated("images"):
            found = self._client.api.images(filters={"label": label})
        return [
            name
            for each in found
            for name in ([tag for tag in each.get("RepoTags") or () if "<none>" not in tag] or [each["Id"]])
        ]

    def remove_container(self, container: str) -> None:
        """End it and remove it with what it has kept; it may be gone."""
        with _translated("a container cannot be removed"), contextlib.suppress(NotFound):
            self._client.api.remove_container(container, v=True, force=True)

    def remove_network(self, network: str) -> None:
        """It may be gone."""
        with _translated("a network cannot be removed"), contextlib.suppress(NotFound):
            self._client.api.remove_network(network)

    def remove_volume(self, volume: str) -> None:
        """It may be gone."""
        with _translated("a volume cannot be removed"), contextlib.suppress(NotFound):
            self._client.api.remove_volume(volume)

    def remove_image(self, image: str) -> bool:
        """Whether it is gone now: one that a container uses stays."""
        with _translated(f"{image}: cannot be removed"):
            try:
                self._client.api.remove_image(image)
            except ImageNotFound:
                return True
            except APIError as error:
                if error.status_code == requests.codes.conflict:
                    return False
                raise
            return True


def repository_and_tag(image: str) -> tuple[str, str]:
    """Of `[HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]`; the digest, which alone says which image is meant, in place
    of the tag."""
    name, _, digest = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, "latest"
    return repository, digest or tag


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"{what}: {_why(error)}") from error


def _places() -> list[str]:
    named = os.environ.get("DOCKER_HOST")
    if named:
        return [named]
    folders = ["/run/podman", *([f"{os.environ['XDG_RUNTIME_DIR']}/podman"] if "XDG_RUNTIME_DIR" in os.environ else [])]
    sockets = [f"{folder}/podman.sock" for folder in folders]
    return ["unix:///var/run/docker.sock", *(f"unix://{path}" for path in sockets if _is_socket(path))]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False


def _connected(url: str) -> Any:
    """A client of an engine that has answered. Raises what `docker` and the system do."""
    if url.startswith("unix://"):
        # Here the system says why not.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.settimeout(_LOOK_S)
            trial.connect(url.removeprefix("unix://"))
    return docker.DockerClient(base_url=url, timeout=_TIMEOUT_S, version="auto")


def _why(error: BaseException) -> str:
    """What is behind it, in one line."""
    if isinstance(error, APIError):
        return " ".join(str(error.explanation or error).split())
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, PermissionError):
        return "is for others than you (sudo usermod -aG docker $USER, and log in again)"
    return " ".join(str(error).split())[-300:]
