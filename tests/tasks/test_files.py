"""Listing and reading the files of data sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.files import folders, holds, listed, read_text
from tests.tasks.leftovers import strew

NOBODY = 65534


def test_what_systems_leave_behind_is_neither_listed_nor_found(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a/1.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    strew(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in listed(tmp_path, "*/*")] == ["a/1.txt", "b/2.txt"]
    assert [path.name for path in folders(tmp_path)] == ["a", "b"]
    assert holds(tmp_path, "*/1.txt")
    assert not holds(tmp_path, "*/*.ini")


def test_nothing_is_listed_where_there_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert (listed(tmp_path / "none", "*"), listed(tmp_path / "file", "*")) == ([], [])


def test_a_folder_within_a_hidden_one_is_as_any(tmp_path: Path) -> None:
    (tmp_path / ".cache/data").mkdir(parents=True)
    (tmp_path / ".cache/data/a.txt").write_text("x")
    assert [path.name for path in listed(tmp_path / ".cache/data", "*.txt")] == ["a.txt"]


def test_a_byte_that_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfone\ntwo\nth\xe9e\n")
    with pytest.raises(DataError, match=r"a\.csv, line 3: a byte that is no UTF-8; convert the file, or take it as it"):
        read_text(tmp_path / "a.csv", "a set")
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfone\n")
    assert read_text(tmp_path / "a.csv", "a set") == "one\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, whom a folder may be closed to")
@pytest.mark.parametrize("closed", ["data", "data/speech", "data/speech/transcripts.csv"])
def test_a_place_that_may_not_be_read_is_a_line(tmp_path: Path, closed: str) -> None:
    (tmp_path / "data/speech").mkdir(parents=True)
    (tmp_path / "data/speech/transcripts.csv").write_text("file,transcript\n")
    for place in (*tmp_path.parents, tmp_path):
        if place.stat().st_uid == os.geteuid() and place.name.startswith(("pytest", "test_", "popen")):
            place.chmod(0o755)
    (tmp_path / closed).chmod(0)
    task = task_named("speech-recognition")
    task.sources()  # what it imports belongs to root
    os.seteuid(NOBODY)
    try:
        with pytest.raises(DataError) as caught:
            task.load(tmp_path / "data", seed=0)
    finally:
        os.seteuid(0)
    assert str(tmp_path / closed) in str(caught.value)
    assert "Permission denied" in str(caught.value)
    assert "\n" not in str(caught.value)
