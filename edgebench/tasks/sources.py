"""Where a task's data comes from: layouts of folders, told apart by the files in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgebench.errors import DataError
from edgebench.tasks.task import Dataset, DataSource


def load(task: str, sources: Sequence[DataSource], data: Path) -> Dataset:
    """The data set in `data` of the first source that finds its folder there.

    Raises DataError with what is missing, from whom it can be had, and where to put it, or with a folder that may hold
    it and may not be read.
    """
    closed: list[DataError] = []
    choices = ", or ".join(source.how_to_get for source in sources)
    try:
        if not data.is_dir():
            raise DataError(f"{data}: no such folder; --data names a folder with {choices}")
        for source in sources:
            folder = source.find(data, closed)
            if folder is not None:
                return source.load(folder)
    except PermissionError as error:
        raise DataError(f"{error.filename}: may not be read ({error.strerror}); make it readable for you") from error
    if closed:
        raise DataError(f"{data}: no data for {task} in what may be read there; {closed[0]}, or put there {choices}")
    raise DataError(f"{data}: no data for {task}; put there {choices}")
