"""`edgebench export`: a topology with all that it takes to run it elsewhere, in a folder."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgebench.containers import compose, k8s
from edgebench.containers.base import Tell, official
from edgebench.containers.exported import DATA_FOLDER, TOPOLOGY_FOLDER, Exported
from edgebench.containers.images import ImageKind, exported_dockerfile, tag_of, write_context
from edgebench.containers.plan import containers_of
from edgebench.containers.wheels import gathered
from edgebench.errors import EdgebenchError, TopologyError
from edgebench.executors.container_fleet import packages_for, placed_in_containers
from edgebench.experiments.deployment_checks import checked_deployment
from edgebench.experiments.given import TopologyFile, write_alone
from edgebench.experiments.places import check_folder
from edgebench.fabric.digests import digest_of
from edgebench.tasks.cache import cache_dir
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Topology
from edgebench.topology.strict_yaml import dump
from edgebench.topology.wording import one_line

ExportTarget = Literal["compose", "k8s"]

_TOPOLOGY = Path(TOPOLOGY_FOLDER).name


def export_topology(target: ExportTarget, given: TopologyFile, out: Path, base_image: str | None, tell: Tell) -> None:
    """Write the folder, whole or not at all. See `edgebench.export`. Raises EdgebenchError."""
    if out.exists():
        raise EdgebenchError(f"--out {out}: is there already (name another)")
    check_folder("--out", out)
    deployment = placed_in_containers(checked_deployment(given.topology, given.path, "containers"), given.path)
    problems = _problems(target, given.topology, base_image)
    found = [one_line(f"{given.path}: {path}: {problem}") for path, problem in problems]
    if found:
        raise TopologyError(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".edgebench-export-") as made:
        folder = Path(made) / "folder"
        # A pod has no folder of this computer: there it is in the image.
        topology_folder = folder / ("images/server" if target == "k8s" else "") / _TOPOLOGY
        topology_folder.mkdir(parents=True)
        topology = given.topology
        if topology.data is not None:
            topology = msgspec.structs.replace(topology, data=DATA_FOLDER)
        write_alone(topology_folder, given, topology)
        exported = _with_images(folder / "images", topology_folder, deployment, base_image or official(), tell)
        if target == "compose":
            _write_compose(folder, exported)
        else:
            _write_k8s(folder, exported)
        folder.replace(out)


def _problems(target: ExportTarget, topology: Topology, base_image: str | None) -> Iterator[tuple[str, str]]:
    """What stands on this computer and would not be in the folder."""
    for name, workload in topology.workloads.items():
        if ":" in workload.task:
            yield f"$.workloads.{name}.task", "code of your own is not in the images (name a built-in task)"
        if workload.model.source.startswith("sha256:"):
            yield f"$.workloads.{name}.model.source", "the registry is not in the folder (name the model's file)"
    if topology.broker.kind == "mosquitto" and base_image is None:
        yield (
            "$.broker.kind",
            f"Mosquitto is not in {official()} (name an image with it by --base-image, or write auto)",
        )
    if target == "k8s" and topology.data is not None:
        yield "$.data", "real data is not in the images (give --set data= to generate the streams)"


def _with_images(folder: Path, topology_folder: Path, deployment: Deployment, base_image: str, tell: Tell) -> Exported:
    """Write what the images are built from, a folder each, and say what they are called."""
    parts = containers_of(deployment)
    images: dict[ImageKind, str] = {}
    kinds: set[ImageKind] = {"server", *(part.kind for part in parts)}
    for kind in sorted(kinds):
        tell(f"gathering the wheels of the image {kind}")
        packages, extras = ((), _extras(deployment)) if kind == "server" else (packages_for(deployment, kind), ())
        wheels = gathered(packages, cache_dir() / "containers", extras)
        within = topology_folder.is_relative_to(folder / kind)
        more = f"LABEL edgebench.topology={_digest(topology_folder)}\nCOPY {_TOPOLOGY} {TOPOLOGY_FOLDER}\n"
        dockerfile = exported_dockerfile(kind, base_image, wheels, more if within else "")
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_context(folder / kind, dockerfile, wheels)
        images[kind] = f"edgebench-{kind}:{tag_of(dockerfile, base_image, wheels)}"
    return Exported(
        name=deployment.name,
        parts=parts,
        images=images,
        base_image=base_image,
        python=".".join(platform.python_version_tuple()[:2]),
        arch=platform.machine(),
        with_data=deployment.data is not None,
    )


def _extras(deployment: Deployment) -> tuple[str, ...]:
    """What the server needs: all that a testbed does, and the runtimes of models that not every one has."""
    runtimes: set[str] = {plan.model.runtime for plan in deployment.workloads.values()}
    runtimes |= {plan.cascade.runtime for plan in deployment.workloads.values() if plan.cascade is not None}
    runtimes |= {plan.head.runtime for plan in deployment.workloads.values() if plan.head is not None}
    runtimes |= {plan.how.fit.runtime for plan in deployment.federated.values()}
    return ("lab", *(extra for extra in ("onnx", "torch") if extra in runtimes))


def _digest(folder: Path) -> str:
    """SHA-256 over the files in it, hexadecimal."""
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(folder)}\0{digest_of(file)}\n".encode())
    return digest.hexdigest()


def _write_compose(folder: Path, exported: Exported) -> None:
    (folder / "compose.yaml").write_text(dump(compose.compose_file(exported)), "utf-8")
    (folder / "README.md").write_text(compose.readme(exported), "utf-8")
    (folder / "runs").mkdir()


def _write_k8s(folder: Path, exported: Exported) -> None:
    for name, objects in k8s.manifests(exported).items():
        _write_yaml(folder / name, *objects)
    _write_yaml(folder / "kustomization.yaml", k8s.kustomization(exported))
    (folder / "enrol.sh").write_text(k8s.enrolment(exported), "utf-8")
    (folder / "README.md").write_text(k8s.readme(exported), "utf-8")


def _write_yaml(file: Path, *documents: dict[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("---\n".join(map(dump, documents)), "utf-8")
