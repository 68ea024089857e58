"""What the control plane has to give and to take: models, files that are made for a run, records."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from cloud.registry import Registry
from cloud.run_status import RunStatus
from edgebench.errors import ModelError
from edgebench.fabric.shelves import LARGEST_BYTES, Offered, Refusal, Staged, Upload, arriving, is_digest
from edgebench.inference.spec import Manifest
from edgebench.topology.deployment import Deployment

_LARGEST_RECORDS_BYTES = 1 << 32


class ModelFiles:
    """The models of the registry, by their digests: public to all who belong to the run."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def find(self, _nodes: frozenset[str], name: str) -> Offered:
        """See `Downloads`."""
        if not is_digest(name):
            raise Refusal(400, "a model is named by its digest")
        try:
            path = self._registry.path_of(name)
        except ModelError as error:
            raise Refusal(404, str(error)) from None
        return Offered(path, path.stat().st_size, digest=name)


class MadeFiles:
    """Files that the trainer makes of each workload. folders: workload -> where they are, once they are made."""

    def __init__(self, workloads: Collection[str], names: Collection[str], status: RunStatus) -> None:
        self.folders: dict[str, Path] = {}
        self._workloads = workloads
        self._names = names
        self._status = status

    def find(self, _nodes: frozenset[str], name: str) -> Offered:
        """See `Downloads`. The name is `WORKLOAD/FILE`; what is not there yet is a 503."""
        workload, _, file = name.partition("/")
        if workload not in self._workloads or file not in self._names:
            raise Refusal(404, f"no such file of a workload: {name}")
        if workload not in self.folders:
            if self._status.phase == "aborted":
                raise Refusal(410, f"the run is aborted: {self._status.reason}")
            raise Refusal(503, "the file is still being made")
        path = self.folders[workload] / file
        return Offered(path, path.stat().st_size)


class ModelUploads:
    """Models on their way into the registry, which whoever is no device may bring, and then describe."""

    def __init__(self, deployment: Deployment, registry: Registry) -> None:
        self._devices = frozenset(node.name for node in deployment.of_tier("device"))
        self._registry = registry
        self._coming: dict[str, Upload] = {}

    async def expect(self, nodes: frozenset[str], name: str, digest: str, size_bytes: int) -> Upload | Staged:
        """See `Uploads`. The name is the digest."""
        self._check(nodes)
        if name != digest:
            raise Refusal(400, "a model is named by its digest")
        if size_bytes > LARGEST_BYTES:
            raise Refusal(413, f"a model has {LARGEST_BYTES:,} bytes at most")
        try:
            _, manifest = await asyncio.to_thread(self._registry.open, digest)
        except ModelError:  # absent, or damaged, which an upload mends
            return arriving(self._coming, digest, self._registry.staged(digest), digest, size_bytes)
        return Staged(manifest.size_bytes, kept=True)

    def keep(self, _nodes: frozenset[str], _name: str, upload: Upload) -> None:
        """See `Uploads`: it waits for its manifest."""
        upload.pause()

    async def describe(self, nodes: frozenset[str], manifest: Manifest) -> None:
        """Keep a model that is here whole. Raises ModelError, and forgets it, where it is not what is described."""
        self._check(nodes)
        upload = self._coming.pop(manifest.digest, None)
        if upload is None and not self._registry.staged(manifest.digest).exists():
            await asyncio.to_thread(self._registry.open, manifest.digest)  # it may be kept already
        else:
            await asyncio.to_thread(self._registry.commit, manifest)

    def _check(self, nodes: frozenset[str]) -> None:
        if nodes & self._devices:
            raise Refusal(403, "a device brings no model")


class RecordUploads:
    """What each process has recorded, by the first of its nodes, into `uploads` of the run directory."""

    def __init__(self, run_dir: Path, status: RunStatus) -> None:
        self._directory = run_dir / "uploads"
        self._status = status
        self._coming: dict[str, Upload] = {}
        self._kept: dict[str, str] = {}

    async def expect(self, nodes: frozenset[str], name: str, digest: str, size_bytes: int) -> Upload | Staged:
        """See `Uploads`."""
        if name not in nodes:
            raise Refusal(403, f"this token does not speak for {name}")
        if size_bytes > _LARGEST_RECORDS_BYTES:
            raise Refusal(413, f"records have {_LARGEST_RECORDS_BYTES:,} bytes at most")
        if self._kept.get(name) == digest:
            return Staged(size_bytes, kept=True)
        self._directory.mkdir(exist_ok=True)
        return arriving(self._coming, name, self._directory / f"{name}.part", digest, size_bytes)

    def keep(self, nodes: frozenset[str], name: str, upload: Upload) -> None:
        """See `Uploads`."""
        upload.partial.replace(self._directory / f"{name}.spool")
        self._kept[name] = upload.digest
        del self._coming[name]
        self._status.uploaded(nodes)
