"""eICU Collaborative Research Database (demo or full): its tables and an hourly cohort in Parquet.

The hourly cohort (`dyn.parquet`, `sta.parquet`) is what ricu and YAIB extract from eICU: 48 variables an
hour since admission, up to 7 days. Labels come from eICU's own `patient` and `diagnosis` tables. One person
may have several stays; a group is a person, so that no person stands in two splits.
Source: https://physionet.org/content/eicu-crd-demo/2.0.1/ (ODbL).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.tasks.files import listed
from edgebench.tasks.icu.features import Channel, cleaned, encode, feature_names, filled, last_steps, typical
from edgebench.tasks.icu.generator import Outcome
from edgebench.tasks.icu.published import STEPS
from edgebench.tasks.splits import group_of, place_of
from edgebench.tasks.task import Dataset, Split

NAME = "eICU"
FOLDER = "eicu-demo"
MARKERS = ("patient.csv.gz", "diagnosis.csv.gz")
HOW_TO_GET = (
    "the eICU demo (ODbL, https://physionet.org/content/eicu-crd-demo/): patient.csv.gz and diagnosis.csv.gz in "
    f"{FOLDER}/, and its hourly cohort by ricu or YAIB, dyn.parquet and sta.parquet, in a folder of it"
)

_FIRST_HOUR = 5
"""Decompensation is asked each hour after the 4th, as in the MIMIC-III benchmark."""
_WITHIN_H = 24.0
_EVERY_H = 6
"""Of those hours every sixth is a sample: neighbours share 47 of their 48 steps, and memory is finite."""

_LONGEST_H = 24 * 366
"""No stay is so long: a time beyond that is damaged, and would take memory without end."""

_VALID_FROM, _TEST_FROM = 0.6, 0.75

CHANNELS = (
    Channel("alb", 0.5, 7),
    Channel("alp", 5, 3_000, log=True),
    Channel("alt", 1, 20_000, log=True),
    Channel("ast", 1, 30_000, log=True),
    Channel("be", -40, 40),
    Channel("bicar", 3, 60),
    Channel("bili", 0.05, 80, log=True),
    Channel("bili_dir", 0, 60, log=True),
    Channel("bnd", 0, 100),
    Channel("bun", 1, 250, log=True),
    Channel("ca", 3, 20),
    Channel("cai", 0.3, 3),
    Channel("ck", 1, 200_000, log=True),
    Channel("ckmb", 0, 2_000, log=True),
    Channel("cl", 60, 160),
    Channel("crea", 0.05, 30, log=True),
    Channel("crp", 0, 5_000, log=True),
    Channel("dbp", 10, 200),
    Channel("fgn", 20, 2_000),
    Channel("fio2", 20, 100),
    Channel("glu", 10, 2_000, log=True),
    Channel("hgb", 2, 25),
    Channel("hr", 10, 300),
    Channel("inr_pt", 0.5, 30, log=True),
    Channel("k", 1, 12),
    Channel("lact", 0.1, 40, log=True),
    Channel("lymph", 0, 100),
    Channel("map", 15, 250),
    Channel("mch", 10, 60),
    Channel("mchc", 15, 50),
    Channel("mcv", 40, 160),
    Channel("methb", 0, 100),
    Channel("mg", 0.3, 10),
    Channel("na", 95, 185),
    Channel("neut", 0, 100),
    Channel("o2sat", 30, 100),
    Channel("pco2", 5, 150),
    Channel("ph", 6.5, 8),
    Channel("phos", 0.1, 20),
    Channel("plt", 2, 2_500, log=True),
    Channel("po2", 15, 650),
    Channel("ptt", 10, 250),
    Channel("resp", 2, 80),
    Channel("sbp", 30, 300),
    Channel("temp", 25, 43),
    Channel("tnt", 0, 50, log=True),
    Channel("urine", 0, 5_000, log=True),
    Channel("wbc", 0.05, 500, log=True),
)
_CONSTANTS = ("age", "male", "height", "weight")
_FEATURES = (*feature_names(CHANNELS, _CONSTANTS), "hours since admission")


@dataclass(frozen=True)
class _Stay:
    """One stay in intensive care; `hourly` is [hour, channel] from admission on, cleaned, NaN where not measured."""

    identifier: int
    person: str
    hospital: int
    died_at_h: float
    """Hours after admission; infinity for who left hospital alive, NaN where that is not known."""
    failing: bool
    hourly: NDArray[np.float32]
    constants: NDArray[np.float32]


def load(folder: Path, outcome: Outcome) -> Dataset:
    """A sample is 48 hours of one stay: float32 [48, 149], before admission the typical value, not measured.

    Death and heart failure are asked once a stay, of its first 48 hours; decompensation (death within 24 h)
    every sixth hour from the 5th. Heart failure is a diagnosis of it (ICD-9 428, ICD-10 I50). Splits
    are by person: 60 % train, 15 % valid, 25 % test, and the same whatever the seed. The natural key is the
    hospital's number, 0 where the table has none.

    Raises DataError for an absent or broken file.
    """
    stays = sorted(_stays(folder), key=lambda stay: (group_of(stay.person), stay.identifier))
    place = {stay.person: place_of(stay.person) for stay in stays}
    training = np.array([place[stay.person] < _VALID_FROM for stay in stays])
    normal = typical(np.concatenate([s.hourly for s, known in zip(stays, training, strict=True) if known]))
    constants = filled(np.stack([stay.constants for stay in stays]), training)
    bounds = {"train": (0.0, _VALID_FROM), "valid": (_VALID_FROM, _TEST_FROM), "test": (_TEST_FROM, 1.0)}
    splits = {}
    for name, (low, high) in bounds.items():
        chosen = [(s, c) for s, c in zip(stays, constants, strict=True) if low <= place[s.person] < high]
        splits[name] = _split(chosen, outcome, normal)
    return Dataset.of(splits, source=NAME, real=True, features=_FEATURES, natural_key="hospital")


def _split(stays: list[tuple[_Stay, NDArray[np.float32]]], outcome: Outcome, normal: NDArray[np.float32]) -> Split:
    asked = [(stay, constants, end, label) for stay, constants in stays for end, label in _asked(stay, outcome)]
    if not asked:
        raise DataError(f"eICU: no patients for {outcome} in a split; fetch {HOW_TO_GET} whole")
    x = np.empty((len(asked), STEPS, len(_FEATURES)), np.float32)
    encoded_stay: _Stay | None = None
    for index, (stay, constants, end, _) in enumerate(asked):
        if stay is not encoded_stay:
            steps, encoded_stay = _encoded(stay.hourly, constants, normal), stay
            before = _encoded(np.full((1, len(CHANNELS)), np.nan, np.float32), constants, normal)[0]
            before[-1] = 0.0
        x[index] = last_steps(steps, before, end)
    return Split(
        x=x,
        y=np.array([label for *_, label in asked], np.float32)[:, None],
        group=np.array([group_of(stay.person) for stay, *_ in asked], np.int64),
        key=np.array([stay.hospital for stay, *_ in asked], np.int64),
    )


def _asked(stay: _Stay, outcome: Outcome) -> list[tuple[int, bool]]:
    """The hours after which the question is put to a stay, with its answers."""
    if outcome == "heart-failure":
        return [(min(len(stay.hourly), STEPS), stay.failing)]
    if np.isnan(stay.died_at_h):
        return []
    if outcome == "death":
        return [(min(len(stay.hourly), STEPS), np.isfinite(stay.died_at_h))]
    hours = range(_FIRST_HOUR, len(stay.hourly) + 1, _EVERY_H)
    return [(hour, stay.died_at_h - hour <= _WITHIN_H) for hour in hours if hour < stay.died_at_h]


def _encoded(
    hourly: NDArray[np.float32], constants: NDArray[np.float32], normal: NDArray[np.float32]
) -> NDArray[np.float32]:
    steps = encode(hourly[None], constants[None], normal)[0]
    hour = np.arange(1, len(hourly) + 1, dtype=np.float32)[:, None]
    return np.concatenate([steps, hour], axis=1)


def _stays(folder: Path) -> list[_Stay]:
    import duckdb

    patient, diagnosis = (_table(folder, name) for name in ("patient", "diagnosis"))
    dynamic, static = (_cohort(folder, name) for name in ("dyn.parquet", "sta.parquet"))
    with duckdb.connect() as db:
        try:
            hours = db.execute(
                "SELECT *, time // 3600 AS hour FROM read_parquet(?) ORDER BY stay_id, hour", [str(dynamic)]
            ).fetchnumpy()
            people = db.execute(
                """
                SELECT p.patientunitstayid, uniquepid, COALESCE(CAST(hospitalid AS BIGINT), 0),
                       unitdischargestatus, unitdischargeoffset / 60.0,
                       hospitaldischargestatus, hospitaldischargeoffset / 60.0,
                       patientunitstayid IN (
                           SELECT CAST(patientunitstayid AS BIGINT) FROM read_csv(?, all_varchar = true)
                           WHERE regexp_matches(icd9code, '(^|[ ,])(428|I50)')),
                       s.age, CAST(s.sex = 'Male' AS DOUBLE), s.height, s.weight
                FROM read_csv(?, types = {'uniquepid': 'VARCHAR'}) p
                JOIN read_parquet(?) s ON s.stay_id = p.patientunitstayid
                """,
                [str(diagnosis), str(patient), str(static)],
            ).fetchall()
        except duckdb.Error as error:
            raise DataError(f"{folder}: {str(error).splitlines()[0]}; fetch {HOW_TO_GET} again") from error
    lacking = [channel.name for channel in CHANNELS if channel.name not in hours]
    if lacking:
        raise DataError(f"{dynamic}: no column '{lacking[0]}'; it belongs to {HOW_TO_GET}")
    by_stay = _by_stay(dynamic, hours)
    return [
        _Stay(
            identifier=identifier,
            person=str(person),
            hospital=hospital,
            died_at_h=_died_at_h(f"{patient}, stay {identifier}", unit_status, unit_end_h, status, end_h),
            failing=bool(failing),
            hourly=by_stay[identifier],
            constants=np.array([np.nan if value is None else value for value in constants], np.float32),
        )
        for identifier, person, hospital, unit_status, unit_end_h, status, end_h, failing, *constants in people
        if identifier in by_stay
    ]


def _died_at_h(
    where: str,
    unit_status: str | None,
    unit_end_h: float | None,
    hospital_status: str | None,
    hospital_end_h: float | None,
) -> float:
    ends = (("unit", unit_status, unit_end_h), ("hospital", hospital_status, hospital_end_h))
    for what, status, end_h in ends:
        if status == "Expired":
            if end_h is None or not np.isfinite(end_h):
                raise DataError(
                    f"{where}: {what}dischargestatus is Expired, and {what}dischargeoffset no finite number; "
                    f"fetch {HOW_TO_GET} again"
                )
            return float(end_h)
    return float("inf") if hospital_status == "Alive" else float("nan")


def _by_stay(dynamic: Path, hours: Mapping[str, NDArray[Any]]) -> dict[int, NDArray[np.float32]]:
    """Of each stay of which there is an hour since its admission, all these: float32 [hour, channel]. Raises
    DataError."""
    columns = [np.ma.filled(hours[channel.name].astype(np.float32), np.nan) for channel in CHANNELS]
    rows = cleaned(np.stack(columns, axis=1), CHANNELS)
    identifiers, starts = np.unique(hours["stay_id"], return_index=True)
    found = {}
    for identifier, start, end in zip(identifiers, starts, [*starts[1:], len(rows)], strict=True):
        hour = hours["hour"][start:end].astype(np.int64)
        if hour.max() > _LONGEST_H:
            raise DataError(f"{dynamic}, stay {identifier}: hour {hour.max():,} of a stay; fetch {HOW_TO_GET} again")
        kept = hour >= 0
        if not kept.any():
            continue
        hourly = np.full((int(hour.max()) + 1, len(CHANNELS)), np.nan, np.float32)
        hourly[hour[kept]] = rows[start:end][kept]
        found[int(identifier)] = hourly
    return found


def _table(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.csv.gz", folder / f"{name}.csv"):
        if path.exists():
            return path
    raise DataError(f"{folder / name}.csv.gz: missing; it belongs to {HOW_TO_GET}")


def _cohort(folder: Path, name: str) -> Path:
    if (folder / name).exists():
        return folder / name
    # Only then, for it stops at each folder that may not be read.
    for path in listed(folder, f"*/{name}"):
        return path
    raise DataError(f"{folder}: no {name} in it or in a folder of it; it belongs to {HOW_TO_GET}")
