"""A folder tells by its layout what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.errors import DataError
from edgebench.tasks import names, task_named


def _message(name: str, data: Path) -> str:
    with pytest.raises(DataError) as caught:
        task_named(name).load(data, seed=1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("icu-")])
def test_an_empty_folder_says_what_to_put_there_and_whence(name: str, tmp_path: Path) -> None:
    message = _message(name, tmp_path)
    assert message.startswith(f"{tmp_path}: no data for {name}; put there ")
    assert "https://physionet.org/content/mimiciii/" in message
    assert "credentialed access" in message
    assert "ODbL" in message
    assert ("Challenge 2012" in message) == (name == "icu-death")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert _message("icu-death", tmp_path / "dta").startswith(f"{tmp_path / 'dta'}: no such folder; ")


@pytest.mark.parametrize(
    ("name", "inside", "file", "message"),
    [
        ("icu-death", "physionet2012", "set-a/1.txt", "physionet2012/Outcomes-a.txt: missing"),
        ("icu-death", "", "set-a/1.txt", "Outcomes-a.txt: missing"),
        ("icu-death", "challenge", "set-a/1.txt", "challenge/Outcomes-a.txt: missing"),
        ("icu-death", "eicu-demo", "patient.csv.gz", "eicu-demo/diagnosis.csv.gz: missing"),
        ("icu-decompensation", "eicu-demo", "patient.csv.gz", "eicu-demo/diagnosis.csv.gz: missing"),
        ("icu-decompensation", "decompensation", "train/listfile.csv", "no column 'stay'"),
        ("icu-decompensation", "mimic3/decompensation", "train/listfile.csv", "no column 'stay'"),
        ("icu-heart-failure", "phenotyping", "train/listfile.csv", "no column 'stay'"),
        ("icu-heart-failure", "in-hospital-mortality", "train/listfile.csv", "no data for icu-heart-failure"),
    ],
)
def test_a_set_is_found_in_the_folder_or_below_it(
    tmp_path: Path, name: str, inside: str, file: str, message: str
) -> None:
    path = tmp_path / inside / file
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert message in _message(name, tmp_path)
