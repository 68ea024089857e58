"""eICU tables and their hourly cohort, made up and real."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.icu import eicu
from edgebench.tasks.splits import group_of
from edgebench.tasks.task import Dataset, Split
from tests.tasks.closed import as_root, nobody
from tests.tasks.leftovers import strew

HOURS = 30
PEOPLE = 60


def _status(person: int) -> tuple[str, str, int]:
    """Every third person dies in hospital 30 hours after admission."""
    return ("Expired", "Expired", HOURS * 60) if person % 3 == 0 else ("Alive", "Alive", 90 * 60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    header = ("patientunitstayid", "hospitalid", "unitdischargestatus", "unitdischargeoffset")
    patients = [",".join([*header, "hospitaldischargestatus", "hospitaldischargeoffset", "uniquepid"])]
    diagnoses = ["diagnosisid,patientunitstayid,diagnosisstring,icd9code"]
    stays = [(1_000 + person, person) for person in range(PEOPLE)] + [(2_000 + person, person) for person in range(9)]
    for stay, person in stays:
        unit, hospital, end = _status(person)
        # The second stay of who has two was in another hospital; of person 1 no hospital is told.
        place = "" if person == 1 else 60 + person % 5 + stay // 2_000
        patients.append(f"{stay},{place},{unit},{end},{hospital},{end},00{person}-1")
        code = ('"428.0, I50.9"', '"401.9, I10"', '"584.28, N17"')[person % 3]
        diagnoses.append(f"{stay},{stay},x,{code}")
    for name, rows in (("patient", patients), ("diagnosis", diagnoses)):
        with gzip.open(tmp_path / f"{name}.csv.gz", "wt") as file:
            file.write("\n".join(rows) + "\n")
    cohort = tmp_path / "hourly"
    cohort.mkdir()
    rows_by_column: dict[str, list[float | None]] = {"stay_id": [], "time": []}
    rows_by_column |= {channel.name: [] for channel in eicu.CHANNELS}
    for stay, _ in stays:
        for hour in range(HOURS):
            for name, column in rows_by_column.items():
                column.append({"stay_id": stay, "time": hour * 3_600, "hr": 60 + hour}.get(name))
    integers = {name: pa.array(rows_by_column.pop(name), pa.int64()) for name in ("stay_id", "time")}
    numbers = {name: pa.array(column, pa.float64()) for name, column in rows_by_column.items()}
    pq.write_table(pa.table(integers | numbers), cohort / "dyn.parquet")
    static = {
        "stay_id": [stay for stay, _ in stays],
        "age": [60.0] * len(stays),
        "sex": ["Male", None, "Female"] * (len(stays) // 3),
        "height": [170.0] * len(stays),
        "weight": [None, 80.0, 90.0] * (len(stays) // 3),
    }
    pq.write_table(pa.table(static), cohort / "sta.parquet")
    return strew(tmp_path)


def _splits(data: Dataset) -> list[Split]:
    return [data.train, data.valid, data.test]


def _labels(data: Dataset) -> dict[int, set[float]]:
    found: dict[int, set[float]] = {}
    for split in _splits(data):
        for group, label in zip(split.group.tolist(), split.y[:, 0].tolist(), strict=True):
            found.setdefault(group, set()).add(label)
    return found


def test_no_person_stands_in_two_splits_though_some_have_two_stays(folder: Path) -> None:
    data = eicu.load(folder, "heart-failure")
    groups = [set(split.group.tolist()) for split in _splits(data)]
    assert sum(len(g) for g in groups) == len(groups[0] | groups[1] | groups[2]) == PEOPLE
    assert sum(len(split) for split in _splits(data)) == PEOPLE + 9
    assert all(len(g) > 0 for g in groups)


def test_heart_failure_is_told_by_its_diagnosis_code(folder: Path) -> None:
    labels = _labels(eicu.load(folder, "heart-failure"))
    # 428 and I50, but neither 584.28 nor hypertension.
    assert all(labels[group_of(f"00{person}-1")] == {float(person % 3 == 0)} for person in range(PEOPLE))


def test_death_is_told_by_the_end_of_the_stay(folder: Path) -> None:
    labels = _labels(eicu.load(folder, "death"))
    assert all(labels[group_of(f"00{person}-1")] == {float(person % 3 == 0)} for person in range(PEOPLE))


def test_the_natural_key_is_the_hospital_of_the_stay(folder: Path) -> None:
    data = eicu.load(folder, "decompensation")
    assert data.natural_key == "hospital"
    found: dict[int, set[int]] = {}
    for split in _splits(data):
        assert split.key is not None
        for group, key in zip(split.group.tolist(), split.key.tolist(), strict=True):
            found.setdefault(group, set()).add(key)
    assert found[group_of("0059-1")] == {64}
    assert found[group_of("004-1")] == {64, 65}
    assert found[group_of("001-1")] == {0}


def test_decompensation_is_asked_every_sixth_hour_and_is_death_within_24_hours(folder: Path) -> None:
    data = eicu.load(folder, "decompensation")
    hour = data.features.index("hours since admission")
    for split in _splits(data):
        dying = group_of("003-1")
        rows = np.flatnonzero(split.group == dying)
        if len(rows):
            # Stays of 30 h, two of person 3; death at 30 h: within 24 h of the 11th hour, not of the 5th.
            assert split.x[rows, -1, hour].tolist() == [5, 11, 17, 23, 29] * 2
            assert split.y[rows, 0].tolist() == [0, 1, 1, 1, 1] * 2


def test_hours_before_admission_are_typical_and_not_measured(folder: Path) -> None:
    split = eicu.load(folder, "decompensation").test
    names = eicu.load(folder, "decompensation").features
    first = split.x[0]
    assert first[:, names.index("hours since admission")].tolist() == [0] * 43 + [1, 2, 3, 4, 5]
    assert first[:, names.index("hr mask")].tolist() == [0] * 43 + [1] * 5
    assert first[43:, names.index("hr")].tolist() == [60, 61, 62, 63, 64]
    # The median heart rate of the training stays.
    assert first[:43, names.index("hr")].tolist() == [74.5] * 43
    assert np.isfinite(split.x).all()
    assert split.x.shape[1:] == (48, 149)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("patient.csv.gz", "patient.csv.gz: missing; it belongs to the eICU demo"),
        ("hourly/dyn.parquet", "no dyn.parquet in it or in a folder of it"),
    ],
)
def test_a_missing_file_is_named_with_the_mend(folder: Path, file: str, message: str) -> None:
    (folder / file).unlink()
    with pytest.raises(DataError, match=message):
        eicu.load(folder, "death")


@as_root
def test_a_closed_folder_beside_the_cohort_is_not_looked_into(tmp_path: Path, folder: Path) -> None:
    for file in (folder / "hourly").iterdir():
        file.rename(folder / file.name)
    (folder / "hourly").chmod(0o700)
    whole = eicu.load(folder, "death")  # what it imports belongs to root
    with nobody(tmp_path):
        found = eicu.load(folder, "death")
    assert np.array_equal(found.train.group, whole.train.group)


def test_who_died_at_no_known_time_is_named_with_the_stay(folder: Path) -> None:
    with gzip.open(folder / "patient.csv.gz", "rt") as file:
        told = file.read()
    assert told.count("1000,60,Expired,1800,") == 1
    with gzip.open(folder / "patient.csv.gz", "wt") as file:
        file.write(told.replace("1000,60,Expired,1800,", "1000,60,Expired,,"))
    with pytest.raises(
        DataError, match=r"patient\.csv\.gz, stay 1000: unitdischargestatus is Expired, and unitdischarge"
    ):
        eicu.load(folder, "death")


@pytest.mark.parametrize("hour", [10**12, 24 * 367])
def test_an_hour_that_no_stay_reaches_is_named_with_the_stay(folder: Path, hour: int) -> None:
    _at_hour(folder, hour)
    with pytest.raises(DataError, match=rf"dyn\.parquet, stay 1000: hour {hour:,} of a stay; fetch"):
        eicu.load(folder, "death")


def test_a_stay_with_hours_before_its_admission_alone_is_none(folder: Path) -> None:
    before = sum(len(split.x) for split in _splits(eicu.load(folder, "death")))
    _at_hour(folder, -40)
    assert sum(len(split.x) for split in _splits(eicu.load(folder, "death"))) == before - 1


def _at_hour(folder: Path, hour: int) -> None:
    """All that is known of stay 1000 was at this hour."""
    file = folder / "hourly" / "dyn.parquet"
    rows = pq.read_table(file).to_pydict()
    rows["time"] = [
        3_600 * hour if stay == 1_000 else at for stay, at in zip(rows["stay_id"], rows["time"], strict=True)
    ]
    pq.write_table(pa.table(rows, schema=pq.read_schema(file)), file)


def test_a_broken_file_is_named_with_the_mend(folder: Path) -> None:
    with gzip.open(folder / "patient.csv.gz", "wt") as file:
        file.write("a,b\n1,2\n")
    with pytest.raises(DataError) as caught:
        eicu.load(folder, "death")
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)


def test_the_real_demo_is_split_by_person_and_finite(real_data: Path) -> None:
    failure = task_named("icu-heart-failure").load(real_data, seed=1)
    assert (failure.source, failure.real) == ("eICU", True)
    assert sum(len(split) for split in _splits(failure)) == 2_267
    assert sum(float(split.y.sum()) for split in _splits(failure)) == 211
    groups = [set(split.group.tolist()) for split in _splits(failure)]
    assert len(groups[0] | groups[1] | groups[2]) == sum(len(group) for group in groups)
    assert all(np.isfinite(split.x).all() for split in _splits(failure))
    hospitals = [split.key for split in _splits(failure) if split.key is not None]
    assert len(np.unique(np.concatenate(hospitals))) == 185
    again = task_named("icu-heart-failure").load(real_data / "eicu-demo", seed=2)
    assert np.array_equal(failure.test.group, again.test.group)
