"""LibriSpeech: sentences read from books, 16 kHz, here at 8 kHz.

Source: Panayotov et al. 2015, "LibriSpeech: an ASR corpus based on public domain audio books". Splits are as
published: train-clean-*, dev-clean and test-clean, which have no speaker in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import DataError
from edgebench.tasks.cache import cached
from edgebench.tasks.files import listed, read_lines
from edgebench.tasks.speech.utterances import Utterance, dataset, parsed
from edgebench.tasks.splits import SplitName
from edgebench.tasks.task import Dataset

NAME = "LibriSpeech"
FOLDER = "LibriSpeech"
MARKERS = ("train-clean-*/*/*/*.trans.txt",)
HOW_TO_GET = (
    "train-clean-100, dev-clean and test-clean of LibriSpeech from openslr.org/12 (CC BY 4.0), unpacked in LibriSpeech/"
)

_VERSION = 1
_PARTS: dict[SplitName, str] = {"train": "train-clean-*", "valid": "dev-clean", "test": "test-clean"}


def load(folder: Path) -> Dataset:
    """The data set in `folder`. Raises DataError with the file and the mend."""
    tables: dict[SplitName, list[Path]] = {
        split: listed(folder, f"{part}/*/*/*.trans.txt") for split, part in _PARTS.items()
    }
    files = [path for paths in tables.values() for path in paths]
    sounds = sorted(sound for path in files for sound in listed(path.parent, "*.flac"))
    arrays = cached(
        "librispeech",
        _VERSION,
        [*files, *sounds],
        lambda: parsed([each for split, paths in tables.items() for path in paths for each in _read(path, split)]),
    )
    return dataset(NAME, arrays, folder, lambda split: f"unpack {_PARTS[split]} there: {HOW_TO_GET}")


def _read(path: Path, split: SplitName) -> Iterator[Utterance]:
    for number, line in read_lines(path, HOW_TO_GET):
        where = f"{path}, line {number}"
        name, _, text = line.partition(" ")
        sound = path.parent / f"{name}.flac"
        if not sound.is_file():
            raise DataError(f"{where}: no recording {sound.name} beside it; unpack all of {HOW_TO_GET}")
        yield Utterance(sound, text.strip().lower(), path.parent.parent.name, split, where)
