"""What a server was answered, kept so that it can be started again after a crash and go on where it was.

The server's app runs again from its beginning, with the same seeds, and is served the answers that it had before. That
resumes any app: whatever it made of them (momentum, a privacy budget, a schedule of its own), it makes again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from edgebench.decoding import from_msgpack
from edgebench.errors import EdgebenchError
from edgebench.federated.content import (
    Array,
    Arrays,
    Config,
    Content,
    ContentError,
    Head,
    Metrics,
    Parcel,
    Record,
    arrays_in,
    configs_in,
    pack,
    read_parcel,
    write_parcel,
)

_ANSWERS = "answers"
_encode = msgspec.msgpack.Encoder().encode


class JournalledReply(msgspec.Struct, frozen=True):
    """The reply to one message. ordinal: how many messages were sent before it. digest: of what was asked, and whom."""

    ordinal: int
    digest: str
    reply: Parcel


class _Line(msgspec.Struct, frozen=True):
    ordinal: int
    digest: str
    head: Head


class Journal:
    """Answers in the order in which they came, in one file for all that came at once.

    It grows by one model a reply: 8 clients with a model of 0.4 MB, 100 rounds: 320 MB. Whoever made the directory
    removes it. Writing goes on beside what follows, in a thread that ends with `close`: a disk may take as long for it
    as a round does. The replies of two rounds are in memory then.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for unfinished in directory.glob("*.tmp"):
            unfinished.unlink()
        self._count = len(list(directory.glob("*.ebf")))
        self._writer = ThreadPoolExecutor(1, "journal")
        self._writing: Future[None] | None = None

    def __len__(self) -> int:
        return self._count

    def append(self, answers: Sequence[JournalledReply]) -> None:
        """Keep them; those before them are on the disk when this returns. Raises OSError where they are not."""
        lines = [_Line(answer.ordinal, answer.digest, answer.reply.head) for answer in answers]
        content: Content = {_ANSWERS: Config({"lines": _encode(lines)})}
        for index, answer in enumerate(answers):
            content |= {f"{index}/{name}": record for name, record in answer.reply.content.items()}
        self._settle()
        self._writing = self._writer.submit(_write, self._path(self._count), content)
        self._count += 1

    def close(self) -> None:
        """Wait until all is on the disk; nothing is appended any more. Raises OSError where it is not."""
        try:
            self._settle()
        finally:
            self._writer.shutdown()

    def read(self, index: int) -> list[JournalledReply]:
        """What was appended as number `index`, from 0. Raises EdgebenchError where the file is damaged."""
        path = self._path(index)
        try:
            content = read_parcel(path).content
            about = content.pop(_ANSWERS)
            assert isinstance(about, Config)
            lines = from_msgpack(about.items["lines"], list[_Line])
            replies: list[Content] = [{} for _ in lines]
            for name, record in content.items():
                place, _, own_name = name.partition("/")
                replies[int(place)][own_name] = record
        except (
            OSError,
            ContentError,
            LookupError,
            ValueError,
            TypeError,
            AssertionError,
            msgspec.DecodeError,
        ) as error:
            raise EdgebenchError(
                f"{path}: not a journal of answers: {error} (remove its folder to start anew)"
            ) from None
        return [
            JournalledReply(line.ordinal, line.digest, Parcel(line.head, reply))
            for line, reply in zip(lines, replies, strict=True)
        ]

    def _settle(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _path(self, index: int) -> Path:
        return self._directory / f"{index + 1:06d}.ebf"


class Checkpoint:
    """The model after the last round, for an app whose only state it is."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "model.ebf"

    def write(self, round_number: int, arrays: Mapping[str, Array]) -> None:
        """Keep this model in the place of the one before; it is on the disk when this returns."""
        _write(self._path, {"round": Config({"round": round_number}), "arrays": Arrays(dict(arrays))})

    def read(self) -> tuple[int, dict[str, Array]] | None:
        """Round and model; None where there is none yet. Raises EdgebenchError where the file is damaged."""
        if not self._path.exists():
            return None
        try:
            content = read_parcel(self._path).content
            return int(configs_in(content)["round"]), arrays_in(content)
        except (OSError, ContentError, KeyError) as error:
            raise EdgebenchError(f"{self._path}: no checkpoint: {error} (remove its folder to start anew)") from None


def _write(path: Path, content: Content) -> None:
    unfinished = path.with_suffix(".tmp")
    write_parcel(unfinished, pack(Head(message_id=path.stem, kind="state"), content))
    _flush(unfinished)
    unfinished.replace(path)
    _flush(path.parent)


def digest_of(content: Mapping[str, Record]) -> str:
    """Of all that the content says."""
    digest = hashlib.sha256()
    for name, record in content.items():
        if isinstance(record, Arrays):
            digest.update(_encode((name, "arrays", len(record.items))))
            for key, array in record.items.items():
                _add(digest, key, array)
        else:
            kind = "metrics" if isinstance(record, Metrics) else "config"
            digest.update(_encode((name, kind, list(record.items.items()))))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, key: str, array: Array) -> None:
    digest.update(_encode((key, array.dtype, array.shape, array.kind, len(array.data))))
    digest.update(array.data)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
