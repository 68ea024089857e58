"""Our images: named by the hash of what is in them, so that one that is there already is the right one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from edgebench.clock import OTHER_CLOCK
from edgebench.containers.base import Bases, Tell, check_python
from edgebench.containers.engine import Engine
from edgebench.containers.made import IMAGE, Limits
from edgebench.containers.plan import ContainerKind, ContainerPlan
from edgebench.containers.wheels import Wheels, gathered
from edgebench.tasks.cache import cache_dir

USER_ID = 10001
HOME = "/var/lib/edgebench"
"""What can be written in a container; all else but /tmp cannot."""
_HEALTH = f'test -n "$(find {HOME}/machine/heard -mmin -1)"'
"""The lab was heard in the last minute."""

ImageKind = Literal["device", "edge", "server"]
"""The server's is of exports alone: a run here has the command itself."""

PACKAGES: dict[str, tuple[str, ...]] = {
    "litert": (),
    "keras": ("keras", "tensorflow"),
    "onnx": ("onnxruntime",),
    "torch": ("torch",),
}
"""Runtime -> what its models need besides the base install."""

# Our own code is in a layer of its own: what changes most is the least.
_DOCKERFILE = """\
FROM {packages_base} AS packages
LABEL {label}=packages
COPY wheels /wheels
WORKDIR /wheels
RUN python3 {pip}/pip install --no-index --no-deps --no-cache-dir --target /opt/packages -r requirements.txt

FROM packages AS own
COPY own /own
RUN python3 {pip}/pip install --no-index --no-deps --no-cache-dir --target /opt/own /own/{own}

FROM {base}
LABEL {label}={kind}
ARG USER_ID={user}
RUN test "$USER_ID" -gt 0 && echo "edgebench:x:$USER_ID:$USER_ID::{home}:/usr/sbin/nologin" >> /etc/passwd && \
mkdir -p {home} && chmod 700 {home} && chown "$USER_ID:$USER_ID" {home}
COPY --from=packages /opt/packages /opt/packages
COPY --from=own /opt/own /opt/own
ENV PYTHONPATH=/opt/own:/opt/packages PATH=/opt/own/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
PYTHONUNBUFFERED=1 HOME={home} EDGEBENCH_HOME={home}
{more}VOLUME {home}
WORKDIR {home}
USER ${{USER_ID}}:${{USER_ID}}
ENTRYPOINT ["python3", "-m", "edgebench.cli"]
"""


def limits_of(plan: ContainerPlan) -> Limits:
    """Of a container that joins a lab."""
    memory_bytes = None if plan.memory_mb is None else plan.memory_mb * 1_000_000
    # A clock of its own, which all that runs there reads.
    environment = {OTHER_CLOCK: f"@{HOME}/clock"} if plan.steps else {}
    return Limits(plan.name, HOME, _HEALTH, memory_bytes, environment=environment)


class Image(NamedTuple):
    """name: by which the engine has it. about: for people."""

    name: str
    about: str


def image_for(kind: ContainerKind, packages: tuple[str, ...], engine: Engine, bases: Bases, tell: Tell) -> Image:
    """Found, or built. packages: besides the base install. Raises EngineError."""
    base = bases.edge if kind == "edge" else bases.device
    cache = cache_dir() / "containers"
    wheels = gathered(packages, cache)
    dockerfile = dockerfile_for(kind, bases, wheels)
    name = f"edgebench-{kind}:{tag_of(dockerfile, engine.image(base) or base, wheels)}"
    if engine.image(name) is None:
        tell(f"building {name} on {bases.told}")
        check_python(engine, base)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            write_context(Path(folder), dockerfile, wheels)
            engine.build(Path(folder), name)
    return Image(name, f"{name} on {bases.told}")


def exported_dockerfile(kind: ImageKind, base_image: str, wheels: Wheels, more: str) -> str:
    """For whoever builds it elsewhere, on another base image where need be (BASE_IMAGE)."""
    named = "${BASE_IMAGE}"
    return f"ARG BASE_IMAGE={base_image}\n{dockerfile_for(kind, Bases(named, named, ''), wheels, more)}"


def dockerfile_for(kind: ImageKind, bases: Bases, wheels: Wheels, more: str = "") -> str:
    """Of an image's three stages, of which the last one stays; those of both kinds have the first two in common.

    more: lines of the last stage.
    """
    return _DOCKERFILE.format(
        base=bases.edge if kind == "edge" else bases.device,
        packages_base=bases.device,
        label=IMAGE,
        kind=kind,
        pip=f"/wheels/{wheels.pip.name}",
        own=wheels.own.path.name,
        user=USER_ID,
        home=HOME,
        more=more,
    )


def tag_of(dockerfile: str, base_id: str, wheels: Wheels) -> str:
    """The hash of all that an image is made of."""
    return hashlib.sha256(f"{dockerfile}\0{base_id}\0{wheels.digest()}".encode()).hexdigest()[:16]


def write_context(folder: Path, dockerfile: str, wheels: Wheels) -> None:
    """What the engine is given to build from: the Dockerfile, and wheels."""
    (folder / "Dockerfile").write_text(dockerfile, "utf-8")
    for name in ("wheels", "own"):
        (folder / name).mkdir()
    for file in (*wheels.others, wheels.pip):
        _place(file, folder / "wheels" / file.name)
    listed = "".join(f"./{file.name}\n" for file in wheels.others)
    (folder / "wheels" / "requirements.txt").write_text(listed, "utf-8")
    # Its owner's alone in the cache; whoever is given the folder has to read it.
    shutil.copyfile(wheels.own.path, folder / "own" / wheels.own.path.name)


def _place(file: Path, target: Path) -> None:
    """Linked where that can be: they are large."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy(file, target)
