"""The layout of the MIMIC-III benchmark, on a small made-up copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgebench.errors import DataError
from edgebench.tasks.icu import mimic3
from edgebench.tasks.icu.published import VARIABLES
from edgebench.tasks.task import Dataset
from tests.tasks.leftovers import strew

PHENOTYPE = "Congestive heart failure; nonhypertensive"
Maker = Callable[[str, list[str], list[str]], Path]


def _series(*rows: dict[str, str]) -> str:
    columns = ["Hours", *(v.name for v in VARIABLES)]
    return "\n".join([",".join(columns), *(",".join(row.get(c, "") for c in columns) for row in rows)]) + "\n"


COURSE = _series(
    {"Hours": "0.4", "Heart Rate": "80", "Glascow coma scale total": "15.0"},
    {"Hours": "0.9", "Heart Rate": "90", "Glascow coma scale eye opening": "To Pain"},
    {"Hours": "3.1", "pH": "735", "Temperature": "warm", "Heart Rate": "100"},
    {"Hours": "60.5", "Heart Rate": "120"},
)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))

    def made(header: str, train: list[str], test: list[str]) -> Path:
        for part, rows in (("train", train), ("test", test)):
            (tmp_path / part).mkdir()
            (tmp_path / part / "listfile.csv").write_text("\n".join([header, *rows]) + "\n")
            for row in rows:
                (tmp_path / part / row.split(",")[0]).write_text(COURSE)
        return strew(tmp_path)

    return made


def _names(subjects: range, rest: str) -> list[str]:
    return [f"{s}_episode1_timeseries.csv,{rest.format(label=s % 2)}" for s in subjects]


def _death(make: Maker) -> Path:
    return make("stay,y_true", _names(range(1, 41), "{label}"), _names(range(51, 61), "{label}"))


def _course(data: Dataset, name: str, sample: int = 0) -> list[float]:
    return [float(value) for value in data.test.x[sample, :, data.features.index(name)]]


def test_death_is_asked_of_the_first_48_hours(make: Maker) -> None:
    data = mimic3.load(_death(make), "death")
    assert (data.source, data.real, data.spec.shape) == ("MIMIC-III benchmark", True, (48, 76))
    assert data.natural_key is None
    assert data.test.key is None
    assert _course(data, "Heart Rate") == [90] * 3 + [100] * 45
    assert _course(data, "mask->Heart Rate") == [1, 0, 0, 1] + [0] * 44
    assert _course(data, "Glascow coma scale total->15") == [1] * 48
    assert _course(data, "mask->Glascow coma scale total") == [1] + [0] * 47
    assert _course(data, "Glascow coma scale eye opening->To Pain") == [1] * 48
    assert len(data.test) == 10
    assert data.test.y.sum() == 5


def test_what_is_no_sound_value_is_not_measured(make: Maker) -> None:
    data = mimic3.load(_death(make), "death")
    assert _course(data, "mask->pH") == _course(data, "mask->Temperature") == [0] * 48
    assert _course(data, "pH") == pytest.approx([7.4] * 48)


def test_decompensation_looks_back_from_each_listed_period(make: Maker) -> None:
    rows = [f"{s}_episode1_timeseries.csv,{p},0" for s in (51, 52) for p in ("5.0", "62.0")]
    folder = make("stay,period_length,y_true", _names(range(1, 41), "5.0,{label}"), rows)
    data = mimic3.load(folder, "decompensation")
    assert len(data.test) == 4
    assert (data.test.group[::2] == data.test.group[1::2]).all()
    # After 5 h there are 43 steps before admission; after 62 h the first 14 hours are past, but not forgotten.
    assert _course(data, "Heart Rate", 0) == [86] * 43 + [90, 90, 90, 100, 100]
    assert _course(data, "mask->Heart Rate", 0) == [0] * 43 + [1, 0, 0, 1, 0]
    assert _course(data, "Heart Rate", 1) == [100] * 46 + [120] * 2


@pytest.mark.parametrize("period", ["nan", "-3", "0.5", "1e9"])
def test_a_period_that_is_no_number_of_hours_is_refused(make: Maker, period: str) -> None:
    folder = make(
        "stay,period_length,y_true", _names(range(1, 41), "5.0,{label}"), _names(range(51, 53), f"{period},0")
    )
    with pytest.raises(DataError, match=f"test/listfile.csv, line 2: period_length is '{period}', no "):
        mimic3.load(folder, "decompensation")


def test_heart_failure_is_one_of_the_phenotypes(make: Maker) -> None:
    header = f"stay,period_length,Shock,{PHENOTYPE}"
    folder = make(header, _names(range(1, 41), "60.5,1,{label}"), _names(range(51, 61), "60.5,1,{label}"))
    assert mimic3.load(folder, "heart-failure").test.y.mean() == 0.5


def test_splits_share_no_patient_and_a_listed_validation_split_is_kept(make: Maker) -> None:
    folder = _death(make)
    data = mimic3.load(folder, "death")
    assert len(data.train) + len(data.valid) == 40
    assert not set(data.train.group) & set(data.valid.group)
    (folder / "val_listfile.csv").write_text("stay,y_true\n3_episode1_timeseries.csv,1\n")
    data = mimic3.load(folder, "death")
    assert (len(data.valid), len(data.train)) == (1, 39)
    assert data.valid.y.tolist() == [[1]]


def test_more_samples_than_memory_should_hold_are_a_fixed_choice(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _death(make)
    monkeypatch.setattr(mimic3, "LIMIT", 6)
    first, second = mimic3.load(folder, "death"), mimic3.load(folder, "death")
    assert len(first.train) == len(first.test) == 6
    assert np.array_equal(first.test.group, second.test.group)


def test_a_patient_in_train_and_test_is_refused(make: Maker) -> None:
    folder = make("stay,y_true", _names(range(1, 41), "{label}"), _names(range(40, 44), "{label}"))
    with pytest.raises(DataError, match="patient 40 is listed in train and in test"):
        mimic3.load(folder, "death")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("test/listfile.csv", None, "missing; it belongs to"),
        ("test/listfile.csv", "stay,label\n", "no column 'y_true', so not the listfile of in-hospital-mortality"),
        ("test/listfile.csv", "stay,y_true\n9_episode1_timeseries.csv,?\n", "line 2: y_true is '?', no finite number"),
        ("test/listfile.csv", "stay,y_true\n9_episode1_timeseries.csv,nan\n", "line 2: y_true is 'nan', no finite"),
        ("test/listfile.csv", "stay,y_true\n9_episode1_timeseries.csv\n", "line 2: y_true is None, no finite number"),
        ("test/listfile.csv", "y_true,stay\n1\n", "line 2: no stay is named"),
        ("test/listfile.csv", "stay,y_true\n", "no test patients"),
        ("test/52_episode1_timeseries.csv", None, "missing, though listed"),
        ("test/52_episode1_timeseries.csv", "Hours,pH\n1,7\n", "no column 'Capillary refill rate'"),
        ("test/52_episode1_timeseries.csv", _series({"Hours": "soon"}), "line 2: Hours is 'soon'"),
        ("test/52_episode1_timeseries.csv", _series({"Hours": "1"}, {"Hours": "nan"}), "line 3: Hours is 'nan'"),
        ("test/52_episode1_timeseries.csv", _series({"Hours": "1e12"}), "line 2: Hours is '1e12'"),
        ("test/52_episode1_timeseries.csv", b"Hours\n1\n\xe9\n", "line 3: a byte that is no UTF-8"),
        ("test/listfile.csv", b"stay,y_true\n\xff", "line 2: a byte that is no UTF-8"),
    ],
)
def test_a_broken_file_is_named_with_the_mend(make: Maker, file: str, text: str | bytes | None, message: str) -> None:
    folder = _death(make)
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError) as caught:
        mimic3.load(folder, "death")
    assert str(folder) in str(caught.value)
    assert message in str(caught.value)
    assert "mimic3-benchmarks" in str(caught.value)
    assert "\n" not in str(caught.value)
