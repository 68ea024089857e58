"""Anyone's recordings: a folder with WAV files and `transcripts.csv`.

Its columns: `file` (beneath the folder), `transcript` and, where they are known, `speaker` and `split` (train, valid
or test). Without `speaker` every file is taken for a speaker of its own; without `split` the speaker's name decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from edgebench.errors import DataError
from edgebench.tasks.cache import cached
from edgebench.tasks.files import read_table
from edgebench.tasks.speech.utterances import SPLITS, Utterance, dataset, parsed
from edgebench.tasks.splits import SplitName, place_of
from edgebench.tasks.task import Dataset

NAME = "recordings"
FOLDER = "speech"
MARKERS = ("transcripts.csv",)
HOW_TO_GET = (
    "WAV files of your own and a transcripts.csv (columns file, transcript and, if known, speaker and split) in speech/"
)

_VERSION = 1
_TEST, _VALID = 0.15, 0.3


def load(folder: Path) -> Dataset:
    """The data set in `folder`. Raises DataError with the file and the mend."""
    table = folder / "transcripts.csv"
    utterances = list(_read(table))
    if not utterances:
        raise DataError(f"{table}: no rows; give {HOW_TO_GET}")
    _check_speakers(utterances)
    files = [table, *(utterance.path for utterance in utterances)]
    arrays = cached("speech-folder", _VERSION, files, lambda: parsed(utterances))
    return dataset(NAME, arrays, folder, lambda split: f"give more recordings, or name {split} in a column 'split'")


def _read(table: Path) -> Iterator[Utterance]:
    with read_table(table, HOW_TO_GET) as rows:
        for column in ("file", "transcript"):
            if column not in (rows.fieldnames or ()):
                raise DataError(f"{table}: no column '{column}'; give {HOW_TO_GET}")
        for row in rows:
            where = f"{table}, line {rows.line_num}"
            path = table.parent / (row["file"] or "")
            if not path.is_file():
                raise DataError(f"{where}: no file {row['file']!r} in the folder; correct its name")
            speaker = row.get("speaker") or row["file"]
            split = row.get("split") or _split_of(speaker)
            if split not in SPLITS:
                raise DataError(f"{where}: split '{split}'; there are {', '.join(SPLITS)}")
            text = " ".join((row["transcript"] or "").lower().split())
            yield Utterance(path, text, speaker, cast("SplitName", split), where)


def _split_of(speaker: str) -> SplitName:
    place = place_of(speaker)
    return "test" if place < _TEST else "valid" if place < _VALID else "train"


def _check_speakers(utterances: list[Utterance]) -> None:
    split_of: dict[str, SplitName] = {}
    for utterance in utterances:
        if split_of.setdefault(utterance.speaker, utterance.split) != utterance.split:
            raise DataError(
                f"{utterance.where}: speaker '{utterance.speaker}' stands in {split_of[utterance.speaker]} and "
                f"{utterance.split}; keep a speaker in one split"
            )
