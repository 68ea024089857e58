"""PhysioNet 2012 text files, made up and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.icu import physionet2012
from edgebench.tasks.task import Dataset
from tests.tasks.leftovers import strew

STAY = """Time,Parameter,Value
00:00,RecordID,{record}
00:00,Age,60
00:00,Gender,1
00:00,Height,-1
00:00,ICUType,3
00:00,Weight,70
00:10,HR,80
00:50,HR,90
01:00,pH,735
01:05,Urine,40
01:35,Urine,60
47:59,HR,100
48:00,HR,200
"""

HEAD = "Time,Parameter,Value\n00:00,RecordID,103\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    for name, first in (("a", 100), ("b", 900)):
        (tmp_path / f"set-{name}").mkdir()
        rows = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
        for record in range(first, first + 40):
            (tmp_path / f"set-{name}" / f"{record}.txt").write_text(STAY.format(record=record))
            rows.append(f"{record},6,1,5,-1,{record % 2}")
        (tmp_path / f"Outcomes-{name}.txt").write_text("\n".join(rows) + "\n")
    return strew(tmp_path)


def _course(data: Dataset, name: str) -> list[float]:
    return [float(value) for value in data.test.x[0, :, data.features.index(name)]]


def test_an_hour_holds_the_mean_of_its_measurements_and_the_sum_of_what_was_collected(folder: Path) -> None:
    data = physionet2012.load(folder)
    assert data.spec.shape == (48, 119)
    assert _course(data, "HR") == [85] * 47 + [100]
    assert _course(data, "HR mask") == [1] + [0] * 46 + [1]
    assert _course(data, "HR gap")[:3] == [0, 1, 2]
    assert _course(data, "log(1 + Urine)")[1] == pytest.approx(np.log(101))


def test_mistyped_and_unknown_values_are_not_measured(folder: Path) -> None:
    data = physionet2012.load(folder)
    assert _course(data, "pH mask") == [0] * 48
    assert _course(data, "Height") == [0] * 48
    assert _course(data, "Age") == [60] * 48
    assert _course(data, "unit medical") == [1] * 48
    assert _course(data, "unit surgical") == [0] * 48


def test_set_b_is_the_test_split_and_set_a_the_others(folder: Path) -> None:
    data = physionet2012.load(folder)
    assert data.test.group.tolist() == list(range(900, 940))
    assert data.test.y[:, 0].tolist() == [record % 2 for record in range(900, 940)]
    assert sorted([*data.train.group, *data.valid.group]) == list(range(100, 140))
    assert len(data.valid) > 0


def test_the_natural_key_is_the_type_of_the_unit_and_goes_with_its_patient(folder: Path) -> None:
    for record, unit in ((901, "1"), (902, "-1")):
        text = STAY.format(record=record).replace("ICUType,3", f"ICUType,{unit}")
        (folder / "set-b" / f"{record}.txt").write_text(text)
    held_out = folder / "set-a" / "107.txt"
    held_out.write_text(held_out.read_text().replace("ICUType,3", "ICUType,4"))
    data = physionet2012.load(folder)
    assert data.natural_key == "ICU type"
    assert data.test.key is not None
    assert data.test.key.tolist() == [3, 1, 0] + [3] * 37
    by_record: dict[int, int] = {}
    for split in (data.train, data.valid):
        assert split.key is not None
        by_record |= dict(zip(split.group.tolist(), split.key.tolist(), strict=True))
    assert by_record == dict.fromkeys(range(100, 140), 3) | {107: 4}


def test_the_second_load_comes_from_the_cache_and_is_equal(folder: Path) -> None:
    first, second = physionet2012.load(folder), physionet2012.load(folder)
    assert len(list((folder / "cache").glob("physionet2012-*.npz"))) == 2
    assert np.array_equal(first.train.x, second.train.x)
    assert np.array_equal(first.train.y, second.train.y)
    assert first.train.key is not None
    assert second.train.key is not None
    assert np.array_equal(first.train.key, second.train.key)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Outcomes-b.txt", None, "Outcomes-b.txt: missing; it belongs to the PhysioNet Challenge 2012"),
        ("Outcomes-a.txt", "RecordID,Death\n1,0\n", "no columns RecordID and In-hospital_death"),
        ("Outcomes-a.txt", "RecordID,In-hospital_death\n100,0\n", "no outcome for record 101"),
        ("Outcomes-a.txt", "RecordID,In-hospital_death\n100,\n", "Outcomes-a.txt, line 2: a row without its numbers"),
        (
            "Outcomes-a.txt",
            "RecordID,In-hospital_death\n100,nan\n",
            "Outcomes-a.txt, line 2: a row without its numbers",
        ),
        ("set-a/103.txt", "Time,Parameter,Value\n00:00,Age,60\n", "103.txt: 0 RecordIDs, not one, first"),
        ("set-a/103.txt", HEAD + "00:00,RecordID,104\n", "103.txt: 2 RecordIDs, not one, first"),
        (
            "set-a/103.txt",
            "Time,Parameter,Value\n00:00,RecordID\n",
            "103.txt, line 2: not rows of Time,Parameter,Value",
        ),
        ("set-a/103.txt", HEAD + "0,HR,80\n", "103.txt, line 3: not rows of Time,Parameter,Value"),
        ("set-a/103.txt", HEAD + "-1:30,HR,80\n", "103.txt, line 3: not rows of Time,Parameter,Value"),
        ("set-a/103.txt", HEAD + "00:10,HR,eighty\n", "103.txt, line 3: Value is 'eighty', no finite number"),
        ("set-a/103.txt", HEAD + "00:10,HR,nan\n", "103.txt, line 3: Value is 'nan', no finite number"),
        ("set-a/103.txt", HEAD + "00:10,HR,\n", "103.txt, line 3: Value is '', no finite number"),
        ("set-a/103.txt", HEAD.encode() + b"00:10,HR\xe9,80\n", "103.txt, line 3: a byte that is no UTF-8"),
    ],
)
def test_a_broken_file_is_named_with_the_mend(folder: Path, file: str, text: str | bytes | None, message: str) -> None:
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError) as caught:
        physionet2012.load(folder)
    assert message in str(caught.value)
    assert "physionet.org" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_real_set_has_8000_stays_and_the_published_share_of_deaths(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path))
    data = task_named("icu-death").load(real_data, seed=1)
    assert (data.source, data.real) == ("PhysioNet Challenge 2012", True)
    assert len(data.train) + len(data.valid) == len(data.test) == 4_000
    assert (data.train.y.sum() + data.valid.y.sum(), data.test.y.sum()) == (554, 568)
    assert all(np.isfinite(split.x).all() for split in (data.train, data.valid, data.test))
    assert not set(data.train.group) & set(data.valid.group)
    assert (np.diff(data.test.group) > 0).all()
    assert data.test.key is not None
    assert np.bincount(data.test.key).tolist() == [0, 590, 782, 1_436, 1_192]
