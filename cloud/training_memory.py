"""What was trained before, kept in the cache: the same task, data, settings, seed and code give the same models.

An entry is a folder that is called by its key (see `cloud.training_key`): the files that a job has made, and
`entry.json`, which says what became of each and its digest. It is written beside its place and renamed into it, so
there is never half an entry; one that is damaged is told by a digest, and removed. Files are shared with runs by hard
links, so that an entry may go while a run uses it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from cloud.jobs import Trained, TrainJob
from cloud.training_key import Ingredients
from edgebench.clock import utc_now
from edgebench.decoding import from_json
from edgebench.fabric.digests import digest_of
from edgebench.fabric.records import TrainedWhen
from edgebench.tasks.cache import cache_dir

_log = logging.getLogger(__name__)
_ENTRY = "entry.json"
LIMIT_BYTES = 5_000_000_000
"""Of all entries; beyond it, those go that were used longest ago."""
_UNFINISHED = ".unfinished-"
_UNFINISHED_S = 24 * 3600.0


class KeptFile(msgspec.Struct, frozen=True):
    """place: relative to the entry; the first part says whose it is: `model`, `stream` or `bundle`."""

    place: str
    size_bytes: int
    digest: str


class KeptTraining(msgspec.Struct, frozen=True):
    """trained: what the job reported, its paths relative to the entry. made_of: for people to look at."""

    when: TrainedWhen
    trained: Trained
    files: tuple[KeptFile, ...]
    made_of: Ingredients

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


class Recalled(NamedTuple):
    """What a job would report, its files put where it would have put them; and when that was trained."""

    trained: Trained
    when: TrainedWhen


class TrainingMemory:
    """Any number of processes may use one. What cannot be kept or recalled is logged, and trained anew."""

    def __init__(self, root: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self._root = cache_dir() / "trained" if root is None else root
        self._limit_bytes = limit_bytes

    def recall(self, job: TrainJob, made_of: Ingredients) -> Recalled | None:
        """What a job gave before that was made of the same, if it is known."""
        folder = self._root / made_of.key
        entry = _read(folder)
        if entry is None:
            return None
        taken: list[Path] = []
        try:
            for file in entry.files:
                target = _place(job, file.place)
                taken.append(target)
                _take(folder / file.place, target, file)
            os.utime(folder)
        except (OSError, _DamagedError) as error:
            _log.warning("%s: trained anew, since what was remembered is damaged: %s", job.name, error)
            _remove(folder)
            # They are the very files of other runs, into which the trainer would write.
            for target in taken:
                with contextlib.suppress(OSError):
                    target.unlink()
            return None
        return Recalled(_with_paths(entry.trained, job), entry.when)

    def keep(self, job: TrainJob, made_of: Ingredients, trained: Trained, when: TrainedWhen) -> None:
        """Remember what a job gave; it takes the place of what was remembered of the same.

        made_of: as it was before the job began.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self._root, ignore_cleanup_errors=True) as work:
                self._write(Path(work) / "entry", made_of, job, trained, when)
            self._forget_the_oldest()
        except OSError as error:
            _log.warning("%s: not remembered: %s: %s", job.name, self._root, error.strerror or error)

    def _write(
        self, unfinished: Path, made_of: Ingredients, job: TrainJob, trained: Trained, when: TrainedWhen
    ) -> None:
        files, stored = _stored(job, trained)
        kept = []
        unfinished.mkdir()
        for place, source in files.items():
            (unfinished / place).parent.mkdir(parents=True, exist_ok=True)
            _link(source, unfinished / place)
            kept.append(KeptFile(place, source.stat().st_size, digest_of(unfinished / place)))
        entry = KeptTraining(when, stored, tuple(kept), made_of)
        if entry.size_bytes > self._limit_bytes:
            _log.warning("%s: not remembered: %d bytes are more than the cache may have", job.name, entry.size_bytes)
            return
        (unfinished / _ENTRY).write_bytes(msgspec.json.format(msgspec.json.encode(entry)))
        folder = self._root / made_of.key
        _remove(folder)
        try:
            unfinished.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another run has just put there what is the same
                raise

    def _forget_the_oldest(self) -> None:
        found = sorted(self._entries(), reverse=True)
        total = 0
        for _, size_bytes, folder in found:
            total += size_bytes
            if total > self._limit_bytes:
                _remove(folder)

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """When it was used last, its size and its place; what a process left behind that died goes."""
        for folder in self._root.iterdir():
            try:
                used_s = folder.stat().st_mtime
            except OSError:  # another process is as tidy
                continue
            if folder.name.startswith(_UNFINISHED):
                if utc_now().timestamp() - used_s > _UNFINISHED_S:
                    _remove(folder)
                continue
            entry = _read(folder)
            if entry is not None:
                yield used_s, entry.size_bytes, folder


class _DamagedError(Exception):
    """A file is not what it was."""


def _read(folder: Path) -> KeptTraining | None:
    """What an entry says of itself; one that cannot be read is removed."""
    try:
        return from_json((folder / _ENTRY).read_bytes(), KeptTraining)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("%s: removed: %s", folder / _ENTRY, error)
        _remove(folder)
        return None


def _stored(job: TrainJob, trained: Trained) -> tuple[dict[str, Path], Trained]:
    """Place in an entry -> file, of all that a job has made; and its report with these places."""
    files: dict[str, Path] = {}

    def put(path: str) -> str:
        # Files of one name stand in folders of their own: both models of a cascade have the same.
        place = next((place for place, known in files.items() if known == Path(path)), None)
        if place is None:
            place = f"model/{len(files)}/{Path(path).name}"
            files[place] = Path(path)
        return place

    own = _map_paths(trained, put)
    for part, folder in (("stream", job.stream_dir), ("bundle", None if job.bundle is None else job.bundle.out_dir)):
        if folder is not None:
            found = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
            files |= {f"{part}/{path.relative_to(folder)}": path for path in found}
    return files, own


def _with_paths(trained: Trained, job: TrainJob) -> Trained:
    placed = _map_paths(trained, lambda place: str(_place(job, place)))
    return msgspec.structs.replace(placed, name=job.name)


def _map_paths(trained: Trained, change: Callable[[str], str]) -> Trained:
    files = tuple(
        msgspec.structs.replace(
            file, path=change(file.path), picture=None if file.picture is None else change(file.picture)
        )
        for file in trained.files
    )
    model = None if trained.model is None else change(trained.model)
    return msgspec.structs.replace(trained, files=files, model=model)


def _place(job: TrainJob, place: str) -> Path:
    """Where a job has a file that an entry has at `place`."""
    part, _, rest = place.partition("/")
    folders = {
        "model": job.out_dir,
        "stream": job.stream_dir,
        "bundle": None if job.bundle is None else job.bundle.out_dir,
    }
    folder = folders.get(part)
    if folder is None or ".." in Path(rest).parts:
        raise _DamagedError(f"{place} is no place of this job")
    return Path(folder) / rest


def _take(source: Path, target: Path, described: KeptFile) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    _link(source, target)
    if digest_of(target) != described.digest:
        target.unlink()
        raise _DamagedError(f"{source} is not the file that it was")


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _remove(folder: Path) -> None:
    # Its description first: what is half removed is no entry.
    with contextlib.suppress(OSError):
        (folder / _ENTRY).unlink()
    shutil.rmtree(folder, ignore_errors=True)
