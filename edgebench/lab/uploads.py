"""What machines hand in for the runs that hold them: a file by name, for each run and machine."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from edgebench.fabric.shelves import Callers, Refusal, Staged, Upload, arriving
from edgebench.fabric.tls import private_folder
from edgebench.fabric.transfer_routes import TransferRoutes, peer_behind
from edgebench.lab.mail import Mail
from edgebench.lab.messages import FILES, check_file_name, check_run_id

UPLOADS = "/v1/uploads/"

_LARGEST_BYTES = 1 << 32


class RunFiles:
    """See `Uploads`. A name is that of the run, a slash, and the file's; the caller is a machine."""

    def __init__(self, folder: Path, mail: Mail) -> None:
        self._folder = folder
        self._mail = mail
        self._coming: dict[str, Upload] = {}
        self._kept: dict[str, str] = {}

    async def expect(self, nodes: frozenset[str], name: str, digest: str, size_bytes: int) -> Upload | Staged:
        """See `Uploads`. Raises LabError for a name that cannot be, and Refusal."""
        key, place = self._place_of(nodes, name)
        if size_bytes > _LARGEST_BYTES:
            raise Refusal(413, f"a file has {_LARGEST_BYTES:,} bytes at most")
        if self._kept.get(key) == digest:
            return Staged(size_bytes, kept=True)
        private_folder(place.parent)
        return arriving(self._coming, key, place.with_name(f"{place.name}.part"), digest, size_bytes)

    def keep(self, nodes: frozenset[str], name: str, upload: Upload) -> None:
        """See `Uploads`."""
        key, place = self._place_of(nodes, name)
        upload.pause()
        upload.partial.replace(place)
        self._kept[key] = upload.digest
        self._coming.pop(key, None)

    def forget(self, run_id: str) -> None:
        """Nothing of that run is waited for any more."""
        for key in [key for key in (*self._coming, *self._kept) if key.startswith(f"{run_id}/")]:
            upload = self._coming.pop(key, None)
            if upload is not None:
                upload.discard()
            self._kept.pop(key, None)

    def _place_of(self, nodes: frozenset[str], name: str) -> tuple[str, Path]:
        (machine,) = nodes
        run_id, _, file = name.partition("/")
        check_run_id(run_id)
        check_file_name(file)
        holder = self._mail.holder(machine)
        if holder is None or holder.run_id != run_id or self._mail.lets_go(machine):
            raise Refusal(403, f"{machine}: is not held by the run {run_id}")
        return f"{run_id}/{machine}/{file}", self._folder / run_id / machine / file


class UploadRoutes(TransferRoutes):
    """For machines, which are known by their certificates."""

    def __init__(self, files: RunFiles) -> None:
        super().__init__(Callers({}), {}, {FILES: files})

    def nodes_behind(self, request: web.Request) -> frozenset[str]:
        """The machine."""
        peer = peer_behind(request)
        assert peer is not None
        return frozenset((peer.machine,))
