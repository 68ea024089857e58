"""Where a task's data comes from: layouts of folders, told apart by the files in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.errors import DataError

if TYPE_CHECKING:
    from edgebench.tasks.task import Dataset


@dataclass(frozen=True)
class DataSource:
    """A layout in which people download a data set.

    name: what the set is called. folder: its usual name. markers: any one of these (files or folders, as glob patterns)
    tells it. how_to_get: what to download, from whom, under which terms, and where to put it, in a line. never_in:
    names of folders that look like this one and hold another set.
    """

    name: str
    folder: str
    markers: Sequence[str]
    how_to_get: str
    load: Callable[[Path], Dataset]
    never_in: Sequence[str] = ()

    def find(self, data: Path) -> Path | None:
        """The folder of the set: `data` itself, its usual place in it, or a folder of `data` that looks like it."""
        return next((folder for folder in self._places(data) if self._tells(folder)), None)

    def _places(self, data: Path) -> Iterator[Path]:
        yield data
        yield data / self.folder
        for child in sorted(path for path in data.iterdir() if path.is_dir()):
            yield child / self.folder
            if child.name not in self.never_in:
                yield child

    def _tells(self, folder: Path) -> bool:
        return any(next(folder.glob(marker), None) is not None for marker in self.markers)


def load(task: str, sources: Sequence[DataSource], data: Path) -> Dataset:
    """The data set in `data` of the first source that finds its folder there.

    Raises DataError with what is missing, from whom it can be had, and where to put it.
    """
    choices = ", or ".join(source.how_to_get for source in sources)
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; --data names a folder with {choices}")
    for source in sources:
        folder = source.find(data)
        if folder is not None:
            return source.load(folder)
    raise DataError(f"{data}: no data for {task}; put there {choices}")
