"""The model registry: a directory of model files, named by what is in them.

`<sha256>.model` is the file and `<sha256>.json` its manifest, written last: a model is there when its manifest is.
Files are written beside their place and renamed into it, so that readers and other writers never see half a file.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import msgspec

from edgebench.decoding import from_json
from edgebench.errors import ModelError
from edgebench.fabric.digests import digest_of
from edgebench.inference.spec import Manifest

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Registry:
    """A content-addressed store of model files. Any number of processes may use one directory."""

    def __init__(self, root: Path) -> None:
        """Makes the directory if there is none."""
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def put(self, path: Path, manifest: Manifest) -> str:
        """Keep a model file and its manifest; the digest. Putting it again mends a damaged copy.

        Raises ModelError where the file is not the one that the manifest describes.
        """
        with tempfile.TemporaryDirectory(prefix=".put-", dir=self._root) as folder:
            copy = Path(folder) / "model"
            shutil.copyfile(path, copy)
            self._keep(copy, manifest, path)
        return manifest.digest

    def open(self, digest: str) -> tuple[Path, Manifest]:
        """The file of a model, checked byte for byte, and its manifest. Raises ModelError where absent or damaged."""
        manifest = self.manifest(digest)
        path = self.path_of(digest)
        _check(path, manifest, path)
        return path, manifest

    def path_of(self, digest: str) -> Path:
        """Where the file of a model is, unread. Raises ModelError where there is none."""
        path = self._file(digest, "model")
        if not self._file(digest, "json").is_file() or not path.is_file():
            raise ModelError(f"{self._root}: no model {digest}")
        return path

    def manifest(self, digest: str) -> Manifest:
        """The manifest of a model. Raises ModelError where there is none, or it is damaged."""
        path = self._file(digest, "json")
        try:
            manifest = from_json(path.read_bytes(), Manifest)
        except FileNotFoundError:
            raise ModelError(f"{self._root}: no model {digest}") from None
        except msgspec.DecodeError as error:
            raise ModelError(f"{path}: damaged manifest: {error}") from error
        if manifest.digest != digest:
            raise ModelError(f"{path}: damaged manifest: it describes {manifest.digest}")
        return manifest

    def manifests(self) -> tuple[Manifest, ...]:
        """All that is there, in the order of the digests. Raises ModelError where one is damaged."""
        digests = sorted(path.stem for path in self._root.glob("*.json") if _DIGEST.fullmatch(path.stem))
        return tuple(self.manifest(digest) for digest in digests)

    def staged(self, digest: str) -> Path:
        """Where a file comes in, to be kept by `commit`. Raises ModelError for what is no digest."""
        return self._file(digest, "part")

    def commit(self, manifest: Manifest) -> str:
        """Keep a staged file; the digest.

        Raises ModelError, and forgets the pieces, where they are not what is described.
        """
        staged = self.staged(manifest.digest)
        if not staged.is_file():
            raise ModelError(f"upload of {manifest.digest}: nothing is here")
        try:
            self._keep(staged, manifest, staged)
        finally:
            staged.unlink(missing_ok=True)
        return manifest.digest

    def _keep(self, copy: Path, manifest: Manifest, named: Path) -> None:
        """Move a file of our own into its place, then write its manifest."""
        target, description = self._file(manifest.digest, "model"), self._file(manifest.digest, "json")
        _check(copy, manifest, named)
        _flush(copy)
        copy.replace(target)
        handle, name = tempfile.mkstemp(prefix=".json-", dir=self._root)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest)))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(description)
        _flush(self._root)

    def _file(self, digest: str, suffix: str) -> Path:
        # A digest comes from the network: nothing but 64 hex digits ever becomes part of a path.
        if not _DIGEST.fullmatch(digest):
            raise ModelError(f"'{digest[:80]}' is not a SHA-256 digest (64 hex digits)")
        return self._root / f"{digest}.{suffix}"


def _check(path: Path, manifest: Manifest, named: Path) -> None:
    size_bytes = path.stat().st_size
    if size_bytes != manifest.size_bytes:
        raise ModelError(f"{named}: damaged: {size_bytes} bytes where {manifest.size_bytes} are described")
    digest = digest_of(path)
    if digest != manifest.digest:
        raise ModelError(f"{named}: damaged: its SHA-256 is {digest}, not {manifest.digest}")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
