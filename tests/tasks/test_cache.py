"""Parsed data is kept, and parsed anew when it must be."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgebench.errors import DataError
from edgebench.tasks.cache import cache_dir, cached


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "stay.txt"
    path.write_text("7")
    return path


def _parsed(file: Path, *, version: int = 1) -> int:
    def parse() -> dict[str, np.ndarray]:
        file.with_suffix(".parsed").write_text("yes")
        return {"value": np.array([int(file.read_text())])}

    file.with_suffix(".parsed").unlink(missing_ok=True)
    return int(cached("stays", version, [file], parse)["value"][0])


def _was_parsed(file: Path) -> bool:
    return file.with_suffix(".parsed").exists()


def test_files_that_have_not_changed_are_parsed_once(file: Path) -> None:
    assert _parsed(file) == 7
    assert _was_parsed(file)
    assert _parsed(file) == 7
    assert not _was_parsed(file)


@pytest.mark.parametrize("change", ["size", "time", "version"])
def test_a_change_of_size_time_or_version_is_parsed_anew(file: Path, change: str) -> None:
    _parsed(file)
    if change == "size":
        file.write_text("42")
    elif change == "time":
        file.write_text("8")
        os.utime(file, ns=(1, 1))
    assert _parsed(file, version=2 if change == "version" else 1) == int(file.read_text())
    assert _was_parsed(file)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not an archive", None])
def test_a_damaged_archive_is_parsed_anew(file: Path, damage: bytes | None) -> None:
    _parsed(file)
    (archive,) = cache_dir().glob("*.npz")
    whole = archive.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index((7).to_bytes(8, "little"))] ^= 0xFF
    archive.write_bytes(bytes(flipped) if damage is None else damage)
    assert _parsed(file) == 7
    assert _was_parsed(file)
    assert archive.read_bytes() == whole


def test_only_the_latest_archive_of_a_folder_is_kept(file: Path) -> None:
    _parsed(file)
    file.write_text("42")
    _parsed(file)
    assert len(list(cache_dir().iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(file))
    with pytest.raises(DataError, match=r"cannot keep parsed data .*; set EDGEBENCH_CACHE"):
        _parsed(file)
