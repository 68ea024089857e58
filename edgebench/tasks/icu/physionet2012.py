"""PhysioNet / Computing in Cardiology Challenge 2012: 48 h of text files, in-hospital death.

Source: https://physionet.org/content/challenge-2012/1.0.0/ (open). Trained on set a, tested on set b.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.tasks.cache import Arrays, cached
from edgebench.tasks.files import finite, listed, read_lines
from edgebench.tasks.icu.features import Channel, cleaned, encode, feature_names, filled, typical
from edgebench.tasks.icu.published import STEPS
from edgebench.tasks.splits import share_of
from edgebench.tasks.task import Dataset, Split

NAME = "PhysioNet Challenge 2012"
FOLDER = "physionet2012"
MARKERS = ("set-a", "set-b")
HOW_TO_GET = (
    "the PhysioNet Challenge 2012 (open access, https://physionet.org/content/challenge-2012/): "
    f"set-a/, set-b/, Outcomes-a.txt and Outcomes-b.txt in {FOLDER}/"
)

_VERSION = 1
_VALID_SHARE = 0.15
_ROWS = "rows of Time,Parameter,Value"
_TIME = re.compile(r"\d\d:\d\d")
_RECORD = b",RecordID,"
_ANSWERS = {"0": 0, "1": 1}

CHANNELS = (
    Channel("Albumin", 0.5, 7),
    Channel("ALP", 5, 3_000, log=True),
    Channel("ALT", 1, 20_000, log=True),
    Channel("AST", 1, 30_000, log=True),
    Channel("Bilirubin", 0.05, 80, log=True),
    Channel("BUN", 1, 250, log=True),
    Channel("Cholesterol", 20, 600),
    Channel("Creatinine", 0.05, 30, log=True),
    Channel("DiasABP", 10, 200),
    Channel("FiO2", 0.2, 1),
    Channel("GCS", 3, 15),
    Channel("Glucose", 10, 2_000, log=True),
    Channel("HCO3", 3, 60),
    Channel("HCT", 8, 70),
    Channel("HR", 10, 300),
    Channel("K", 1, 12),
    Channel("Lactate", 0.1, 40, log=True),
    Channel("Mg", 0.3, 10),
    Channel("MAP", 15, 250),
    Channel("MechVent", 0, 1),
    Channel("Na", 95, 185),
    Channel("NIDiasABP", 10, 200),
    Channel("NIMAP", 15, 250),
    Channel("NISysABP", 30, 300),
    Channel("PaCO2", 5, 150),
    Channel("PaO2", 15, 650),
    Channel("pH", 6.5, 8),
    Channel("Platelets", 2, 2_500, log=True),
    Channel("RespRate", 2, 80),
    Channel("SaO2", 30, 100),
    Channel("SysABP", 30, 300),
    Channel("Temp", 25, 43),
    Channel("TroponinI", 0, 100, log=True),
    Channel("TroponinT", 0, 50, log=True),
    Channel("Urine", 0, 5_000, log=True),
    Channel("WBC", 0.05, 500, log=True),
    Channel("Weight", 20, 350),
)
# Charted at intervals too short to be two states of the patient: an hour's amount is their sum.
_SUMMED = ("Urine",)
_UNITS = ("coronary care", "cardiac surgery", "medical", "surgical")
_DESCRIPTORS = ("Age", "Gender", "Height", "Weight", "ICUType")
_UNIT_PLACE = _DESCRIPTORS.index("ICUType")
_CONSTANTS = ("Age", "Gender", "Height", "admission Weight", *(f"unit {unit}" for unit in _UNITS))


def load(folder: Path) -> Dataset:
    """Death in hospital from the first 48 hours; set a is split into train and valid, set b is the test split.

    x: float32 [stay, 48, 119]: 37 variables and 8 constants; a group is a RecordID, and its natural key the type of
    the unit, 1 to 4 as the files number them, 0 where they do not say.

    Raises DataError for an absent or broken file.
    """
    read = {name: _read_set(folder, name) for name in ("a", "b")}
    identifiers = [str(identifier) for identifier in read["a"]["record"]]
    held_out = share_of(identifiers, 0.0, _VALID_SHARE)
    grids = {name: cleaned(_grid(arrays), CHANNELS) for name, arrays in read.items()}
    normal = typical(grids["a"][~held_out])
    constants_a = _constants(read["a"])
    everybody = np.concatenate([constants_a, _constants(read["b"])])
    known = np.concatenate([~held_out, np.zeros(len(read["b"]["record"]), bool)])
    whole = filled(everybody, known)
    a = _split(read["a"], encode(grids["a"], whole[: len(constants_a)], normal))
    b = _split(read["b"], encode(grids["b"], whole[len(constants_a) :], normal))
    return Dataset(
        source=NAME,
        real=True,
        features=feature_names(CHANNELS, _CONSTANTS),
        train=a.rows(np.flatnonzero(~held_out)),
        valid=a.rows(np.flatnonzero(held_out)),
        test=b,
        natural_key="ICU type",
    )


def _split(arrays: Arrays, x: NDArray[np.float32]) -> Split:
    return Split(
        x=x,
        y=arrays["died"].astype(np.float32)[:, None],
        group=arrays["record"].astype(np.int64),
        key=np.nan_to_num(arrays["constant"][:, _UNIT_PLACE], nan=0.0).astype(np.int64),
    )


def _read_set(folder: Path, name: str) -> Arrays:
    outcomes = folder / f"Outcomes-{name}.txt"
    for path in (folder / f"set-{name}", outcomes):
        if not path.exists():
            raise DataError(f"{path}: missing; it belongs to {HOW_TO_GET}")
    files = listed(folder / f"set-{name}", "*.txt")
    if not files:
        raise DataError(f"{folder / f'set-{name}'}: no .txt files; unpack {HOW_TO_GET}")
    return cached(f"physionet2012-{name}", _VERSION, [*files, outcomes], lambda: _parse(files, outcomes))


def _parse(files: list[Path], outcomes: Path) -> dict[str, NDArray[Any]]:
    """Sparse measurements: `stay`, `hour`, `channel`, `value` of each, and by stay `record`, `died`, `constant`."""
    columns = _columns(files)
    starts = np.flatnonzero(columns["parameter"] == "RecordID")
    stay = np.cumsum(columns["parameter"] == "RecordID") - 1
    record = columns["value"][starts].astype(np.int64)
    died_by_record = _deaths(outcomes)
    lacking = [r for r in record.tolist() if r not in died_by_record]
    if lacking:
        raise DataError(f"{outcomes}: no outcome for record {lacking[0]}; fetch {HOW_TO_GET} again")
    index = {channel.name: i for i, channel in enumerate(CHANNELS)}
    channel = np.array([index.get(name, -1) for name in columns["names"]])[columns["code"]]
    at_admission = columns["minute"] == 0
    kept = (channel >= 0) & (columns["hour"] < STEPS)
    return {
        "record": record,
        "died": np.array([died_by_record[r] for r in record.tolist()], np.int8),
        "constant": _descriptors(columns, stay, at_admission, len(record)),
        "stay": stay[kept].astype(np.int32),
        "hour": columns["hour"][kept].astype(np.int8),
        "channel": channel[kept].astype(np.int8),
        "value": columns["value"][kept].astype(np.float32),
    }


def _columns(files: list[Path]) -> dict[str, NDArray[Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    # One buffer for all files: a reader started 4,000 times takes ten times as long.
    joined = b"".join(_body(file) + b"\n" for file in files)
    types = {"time": pa.string(), "parameter": pa.dictionary(pa.int32(), pa.string()), "value": pa.float64()}
    try:
        table = csv.read_csv(
            io.BytesIO(joined),
            read_options=csv.ReadOptions(column_names=list(types)),
            convert_options=csv.ConvertOptions(column_types=types, null_values=[]),
        )
        hour = pc.cast(pc.utf8_slice_codeunits(table["time"], 0, 2), pa.int32()).to_numpy()
        minute = pc.cast(pc.utf8_slice_codeunits(table["time"], 3, 5), pa.int32()).to_numpy()
    except pa.ArrowInvalid as error:
        for file in files:
            _check_rows(file)
        reason = str(error).splitlines()[0]
        raise DataError(f"{files[0].parent}: not {_ROWS} ({reason}); fetch {HOW_TO_GET} again") from error
    value = table["value"].to_numpy()
    if not np.isfinite(value).all() or (hour < 0).any():
        for file in files:
            _check_rows(file)
    coded = table["parameter"].unify_dictionaries().combine_chunks()
    names = np.array(coded.dictionary.to_pylist(), dtype=object)
    code = coded.indices.to_numpy(zero_copy_only=False)
    return {
        "names": names,
        "code": code,
        "parameter": names[code],
        "hour": hour,
        "minute": hour * 60 + minute,
        "value": value,
    }


def _body(file: Path) -> bytes:
    """The rows of a file, below its header. Raises DataError where they are not those of one stay."""
    content = file.read_bytes()
    body = content[content.find(b"\n") + 1 :].strip()
    if body.count(_RECORD) != 1 or _RECORD not in body.partition(b"\n")[0]:
        _check_rows(file)
        raise DataError(f"{file}: {body.count(_RECORD)} RecordIDs, not one, first; unpack {HOW_TO_GET} again")
    return body


def _check_rows(file: Path) -> None:
    """Raises DataError for a row that is none, with its line."""
    for number, line in read_lines(file, HOW_TO_GET)[1:]:
        where, mend = f"{file}, line {number}", f"fetch {HOW_TO_GET} again"
        cells = line.split(",")
        if len(cells) != 3 or _TIME.match(cells[0]) is None:
            raise DataError(f"{where}: not {_ROWS}; {mend}")
        finite(cells[2], "Value", where, mend)


def _descriptors(
    columns: Mapping[str, NDArray[Any]], stay: NDArray[np.int64], at_admission: NDArray[np.bool_], stays: int
) -> NDArray[np.float32]:
    """Age, gender, height, weight and unit of each stay; NaN where unknown, which the files write as -1."""
    found = np.full((stays, len(_DESCRIPTORS)), np.nan, np.float32)
    for place, name in enumerate(_DESCRIPTORS):
        rows = np.flatnonzero(at_admission & (columns["parameter"] == name) & (columns["value"] >= 0))
        # Backwards, so that of two rows the first one, which is the descriptor, is kept.
        found[stay[rows[::-1]], place] = columns["value"][rows[::-1]]
    return found


def _deaths(outcomes: Path) -> dict[int, int]:
    rows = read_lines(outcomes, HOW_TO_GET)
    header = rows[0][1].split(",") if rows else []
    if "RecordID" not in header or "In-hospital_death" not in header:
        raise DataError(f"{outcomes}: no columns RecordID and In-hospital_death; fetch {HOW_TO_GET} again")
    record, died = header.index("RecordID"), header.index("In-hospital_death")
    found: dict[int, int] = {}
    for number, row in rows[1:]:
        cells = row.split(",")
        try:
            found[int(cells[record])] = _ANSWERS[cells[died].strip()]
        except (ValueError, IndexError, KeyError) as error:
            where = f"{outcomes}, line {number}"
            raise DataError(f"{where}: a row without its numbers; fetch {HOW_TO_GET} again") from error
    return found


def _grid(arrays: Arrays) -> NDArray[np.float32]:
    """Hourly means (sums of what is collected) as measured, [stay, 48, channel], NaN where there is none."""
    shape = (len(arrays["record"]), STEPS, len(CHANNELS))
    value = arrays["value"].astype(np.float64)
    low, high = (np.array([getattr(c, side) for c in CHANNELS])[arrays["channel"]] for side in ("low", "high"))
    sound = (value >= low) & (value <= high)
    flat = np.ravel_multi_index((arrays["stay"], arrays["hour"], arrays["channel"]), shape)[sound]
    total = np.bincount(flat, value[sound], minlength=int(np.prod(shape)))
    count = np.bincount(flat, minlength=int(np.prod(shape)))
    summed = np.array([c.name in _SUMMED for c in CHANNELS])
    with np.errstate(invalid="ignore"):
        grid = np.where(summed, total.reshape(shape), (total / count).reshape(shape))
    return np.where(count.reshape(shape) > 0, grid, np.nan).astype(np.float32)


def _constants(arrays: Arrays) -> NDArray[np.float32]:
    described = arrays["constant"]
    sound = described[:, :_UNIT_PLACE].copy()
    sound[:, 2][(sound[:, 2] < 120) | (sound[:, 2] > 230)] = np.nan
    sound[:, 3][(sound[:, 3] < 20) | (sound[:, 3] > 350)] = np.nan
    unit = (described[:, _UNIT_PLACE, None] == np.arange(1, len(_UNITS) + 1)).astype(np.float32)
    return np.concatenate([sound, unit], axis=1)
