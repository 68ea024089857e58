"""The file system that loses power: what was synced is there again, and what was not is gone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.unsynced import Unsynced

WRITABLE = 0o600


def written(files: Unsynced, path: str, content: bytes, *, sync: bool) -> None:
    files.create(path, WRITABLE)
    files.write(path, content, 0, 0)
    if sync:
        files.fsync(path, True, 0)


def test_what_was_not_synced_is_gone_and_its_name_stays(tmp_path: Path) -> None:
    files = Unsynced(tmp_path)
    written(files, "/a", b"synced", sync=True)
    files.write("/a", b", and more", 6, 0)
    written(files, "/b", b"never", sync=False)
    assert (files.read("/a", 99, 0, 0), files.getattr("/a")["st_size"]) == (b"synced, and more", 16)
    after = Unsynced(tmp_path)  # what a cut leaves
    assert (after.read("/a", 99, 0, 0), after.getattr("/a")["st_size"]) == (b"synced", 6)
    assert after.read("/b", 99, 0, 0) == b""


def test_a_file_that_was_renamed_before_it_was_synced_is_there_and_empty(tmp_path: Path) -> None:
    files = Unsynced(tmp_path)
    written(files, "/a", b"old", sync=True)
    written(files, "/a.part", b"new", sync=False)
    files.rename("/a.part", "/a")
    assert files.read("/a", 99, 0, 0) == b"new"
    assert (tmp_path / "a").read_bytes() == b""


def test_a_folder_that_is_renamed_takes_along_what_is_not_synced(tmp_path: Path) -> None:
    files = Unsynced(tmp_path)
    files.mkdir("/store", 0o700)
    written(files, "/store/a", b"old", sync=False)
    files.rename("/store", "/gone")
    files.mkdir("/store", 0o700)
    written(files, "/store/a", b"new", sync=True)
    assert (files.read("/gone/a", 99, 0, 0), files.read("/store/a", 99, 0, 0)) == (b"old", b"new")


def test_a_file_is_cut_shorter_on_the_disk_once_that_is_synced(tmp_path: Path) -> None:
    files = Unsynced(tmp_path)
    written(files, "/a", b"0123456789", sync=True)
    files.truncate("/a", 4)
    assert (tmp_path / "a").read_bytes() == b"0123456789"
    files.fsync("/a", True, 0)
    assert (tmp_path / "a").read_bytes() == b"0123"
