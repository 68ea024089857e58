"""Listing and reading the files of data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.files import finite, folders, holds, listed, read_lines, read_table, read_text
from tests.tasks.closed import as_root, nobody
from tests.tasks.leftovers import strew


def test_what_systems_leave_behind_is_neither_listed_nor_found(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a/1.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    strew(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in listed(tmp_path, "*/*")] == ["a/1.txt", "b/2.txt"]
    assert [path.name for path in folders(tmp_path)] == ["a", "b"]
    assert holds(tmp_path, "*/1.txt")
    assert not holds(tmp_path, "*/*.ini")


def test_a_link_to_a_folder_is_one_and_one_that_leads_nowhere_or_in_circles_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, target in (("b", "a"), ("nowhere", "none"), ("circle", "circle")):
        (tmp_path / name).symlink_to(target)
    assert [path.name for path in folders(tmp_path)] == ["a", "b"]


def test_nothing_is_listed_where_there_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert (listed(tmp_path / "none", "*"), listed(tmp_path / "file", "*")) == ([], [])


def test_a_folder_within_a_hidden_one_is_as_any(tmp_path: Path) -> None:
    (tmp_path / ".cache/data").mkdir(parents=True)
    (tmp_path / ".cache/data/a.txt").write_text("x")
    assert [path.name for path in listed(tmp_path / ".cache/data", "*.txt")] == ["a.txt"]


def test_a_byte_that_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfone\ntwo\n\xe9e\n")
    with pytest.raises(DataError, match=r"a\.csv, line 3: a byte that is no UTF-8; convert the file, or take it as it"):
        read_text(tmp_path / "a.csv", "a set")
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfone\n")
    assert read_text(tmp_path / "a.csv", "a set") == "one\n"


def test_lines_are_numbered_as_editors_do_and_blank_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\r\ntwo\u2028still two\n \nthree".encode())
    assert read_lines(tmp_path / "a.txt", "a set") == [(1, "one"), (3, "two\u2028still two"), (5, "three")]


def test_a_quotation_mark_that_is_never_closed_is_told_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1,2\n3,"' + "4\n" * 100_000)
    with pytest.raises(DataError, match=r"a\.csv, line \d+: no row of a table \(field larger than"):  # noqa: SIM117
        with read_table(tmp_path / "a.csv", "a set") as rows:
            list(rows)


@pytest.mark.parametrize("cell", ["", None, "much", "nan", "inf", "-inf", "1e39"])
def test_what_is_no_finite_number_is_told_with_its_place(cell: str | None) -> None:
    with pytest.raises(DataError) as caught:
        finite(cell, "Light", "a.csv, line 3", "fetch it again")
    assert str(caught.value) == f"a.csv, line 3: Light is {cell!r}, no finite number; fetch it again"
    assert finite("-1.5e3", "Light", "a.csv, line 3", "fetch it again") == -1500


@as_root
@pytest.mark.parametrize("closed", ["data", "data/speech", "data/speech/transcripts.csv"])
def test_a_place_that_may_not_be_read_is_a_line(tmp_path: Path, closed: str) -> None:
    (tmp_path / "data/speech").mkdir(parents=True)
    (tmp_path / "data/speech/transcripts.csv").write_text("file,transcript\n")
    (tmp_path / closed).chmod(0)
    task = task_named("speech-recognition")
    task.sources()  # what it imports belongs to root
    with nobody(tmp_path), pytest.raises(DataError) as caught:
        task.load(tmp_path / "data", seed=0)
    assert str(tmp_path / closed) in str(caught.value)
    assert "Permission denied" in str(caught.value)
    assert "\n" not in str(caught.value)


@as_root
def test_a_closed_folder_of_others_beside_a_data_set_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    for person in range(20):
        (tmp_path / f"data/orl-faces/s{person}").mkdir(parents=True)
        Image.new("L", (48, 56), person).save(tmp_path / f"data/orl-faces/s{person}/1.png")
    for name in ("lost+found", "private"):
        (tmp_path / "data" / name).mkdir(mode=0o700)
    (tmp_path / "data/private/faces").mkdir()
    (tmp_path / "data/faces-of-others").symlink_to(tmp_path / "data/private/faces")
    task = task_named("face-recognition")
    for _ in range(2):  # from the files, and as parsed before: what either imports belongs to root
        whole = task.load(tmp_path / "data", seed=0)
    with nobody(tmp_path):
        found = task.load(tmp_path / "data", seed=0)
    assert np.array_equal(found.train.x, whole.train.x)


@as_root
def test_a_closed_folder_that_may_hold_the_data_set_is_named_where_no_other_does(tmp_path: Path) -> None:
    (tmp_path / "data/private/faces").mkdir(parents=True)
    (tmp_path / "data/private").chmod(0o700)
    task = task_named("face-recognition")
    task.sources()
    with nobody(tmp_path), pytest.raises(DataError) as caught:
        task.load(tmp_path / "data", seed=0)
    private = f"{tmp_path / 'data/private'}: cannot be read (Permission denied); make it readable for you"
    assert str(caught.value).startswith(
        f"{tmp_path / 'data'}: no data for face-recognition in what may be read there; {private}, or put there Labeled"
    )


@as_root
def test_a_link_into_a_closed_folder_is_named_as_the_folder_itself_is(tmp_path: Path) -> None:
    (tmp_path / "private/faces").mkdir(parents=True)
    (tmp_path / "private").chmod(0o700)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/linked").symlink_to(tmp_path / "private/faces")
    task = task_named("face-recognition")
    task.sources()
    with nobody(tmp_path), pytest.raises(DataError) as caught:
        task.load(tmp_path / "data", seed=0)
    linked = f"{tmp_path / 'data/linked'}: cannot be read (Permission denied); make it readable for you"
    assert linked in str(caught.value)
    assert "put there Labeled" in str(caught.value)


@as_root
def test_a_closed_folder_within_a_data_set_is_named_and_not_left_out(tmp_path: Path) -> None:
    training = tmp_path / "GTSRB/Training"
    for name in ("00000", "00001"):
        (training / name).mkdir(parents=True)
        (training / name / f"GT-{name}.csv").write_text("")
    (training / "00001").chmod(0o700)
    task = task_named("sign-recognition")
    task.sources()
    with nobody(tmp_path):
        assert holds(training, "*/GT-*.csv")
        with pytest.raises(DataError) as caught:
            task.load(tmp_path, seed=0)
    assert str(caught.value) == f"{training / '00001'}: cannot be read (Permission denied); make it readable for you"
