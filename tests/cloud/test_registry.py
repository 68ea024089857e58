"""The model registry: what is put in comes out unharmed, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud.registry import Registry
from edgebench.errors import ModelError
from edgebench.fabric.digests import digest_of
from edgebench.inference.spec import Manifest
from tests.manifests import manifest_of


def described(content: bytes, **changes: Any) -> Manifest:
    return manifest_of(content, metrics={"auroc": 0.5}, **changes)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def put(registry: Registry, tmp_path: Path, content: bytes) -> Manifest:
    path = tmp_path / "model"
    path.write_bytes(content)
    manifest = described(content)
    assert registry.put(path, manifest) == manifest.digest
    return manifest


def test_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_of(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_put_comes_out_with_its_manifest(registry: Registry, tmp_path: Path) -> None:
    manifest = put(registry, tmp_path, b"weights")
    path, found = registry.open(manifest.digest)
    assert path.read_bytes() == b"weights"
    assert found == manifest
    assert registry.path_of(manifest.digest) == path
    assert registry.manifests() == (manifest,)


def test_putting_again_mends_a_damaged_file(registry: Registry, tmp_path: Path) -> None:
    manifest = put(registry, tmp_path, b"weights")
    registry.path_of(manifest.digest).write_bytes(b"Weights")
    with pytest.raises(ModelError, match=f"{manifest.digest}.model: damaged"):
        registry.open(manifest.digest)
    put(registry, tmp_path, b"weights")
    assert registry.open(manifest.digest)[0].read_bytes() == b"weights"


def test_a_truncated_file_is_an_error_that_names_it(registry: Registry, tmp_path: Path) -> None:
    manifest = put(registry, tmp_path, b"weights")
    registry.path_of(manifest.digest).write_bytes(b"weig")
    with pytest.raises(ModelError, match=r"\.model: damaged: 4 bytes where 7 are described"):
        registry.open(manifest.digest)


def test_a_file_that_is_not_the_one_described_is_refused_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"other!!")
    with pytest.raises(ModelError, match="damaged"):
        registry.put(path, described(b"weights"))
    assert registry.manifests() == ()
    assert list((tmp_path / "registry").iterdir()) == []


def test_a_damaged_manifest_is_an_error_that_names_it(registry: Registry, tmp_path: Path) -> None:
    manifest = put(registry, tmp_path, b"weights")
    (tmp_path / "registry" / f"{manifest.digest}.json").write_text("{")
    with pytest.raises(ModelError, match=f"{manifest.digest}.json: damaged manifest"):
        registry.manifests()


def test_a_model_without_a_manifest_is_not_there_yet(registry: Registry, tmp_path: Path) -> None:
    manifest = put(registry, tmp_path, b"weights")
    (tmp_path / "registry" / f"{manifest.digest}.json").unlink()
    with pytest.raises(ModelError, match="no model"):
        registry.path_of(manifest.digest)


@pytest.mark.parametrize(
    "trick", ["../../etc/passwd", "a" * 63, "A" * 64, "", "a" * 60 + "/../", "*" * 64, "\x00" * 64]
)
def test_nothing_but_a_digest_becomes_a_path(registry: Registry, tmp_path: Path, trick: str) -> None:
    for call in (registry.path_of, registry.open, registry.manifest, registry.staged):
        with pytest.raises(ModelError):
            call(trick)
    assert list((tmp_path / "registry").iterdir()) == []


def test_a_file_that_has_come_in_is_kept_once_it_is_described(registry: Registry) -> None:
    manifest = described(b"weights")
    registry.staged(manifest.digest).write_bytes(b"weights")
    assert registry.manifests() == ()
    assert registry.commit(manifest) == manifest.digest
    assert registry.open(manifest.digest)[0].read_bytes() == b"weights"
    assert not registry.staged(manifest.digest).exists()


def test_what_has_come_in_and_is_not_the_model_is_forgotten(registry: Registry) -> None:
    manifest = described(b"weights")
    registry.staged(manifest.digest).write_bytes(b"wrights")
    with pytest.raises(ModelError, match="damaged"):
        registry.commit(manifest)
    assert not registry.staged(manifest.digest).exists()
    with pytest.raises(ModelError, match="nothing is here"):
        registry.commit(manifest)


def test_many_writers_of_one_model_leave_it_whole(registry: Registry, tmp_path: Path) -> None:
    content = b"w" * 300_000
    path = tmp_path / "model"
    path.write_bytes(content)
    manifest = described(content)
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(lambda _: Registry(tmp_path / "registry").put(path, manifest), range(24)))
    assert set(digests) == {manifest.digest}
    assert registry.open(manifest.digest)[0].read_bytes() == content
    assert sorted(p.suffix for p in (tmp_path / "registry").iterdir()) == [".json", ".model"]
