"""What a long benchmark has found so far, kept piece by piece, so that it can be ended and gone on with."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.quiet import Quiet
from edgebench.clock import now_s
from edgebench.lab.wheel import code_digest

UNFINISHED = 3
"""The exit status of a benchmark that is to be gone on with."""


class OutOfTimeError(Exception):
    """Another piece would have begun: this one."""


class Pieces:
    """What is kept in a folder."""

    def __init__(self, work: Path, quiet: Quiet, minutes: float | None) -> None:
        """minutes: no piece begins later."""
        self._folder = work / "found"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._quiet = quiet
        self._until_s = math.inf if minutes is None else now_s() + 60 * minutes
        self._watched: list[dict[str, Any]] = []
        self._older: list[str] = []
        self._minutes = 0.0

    def has(self, piece: str) -> bool:
        """Whether a piece is kept."""
        return self._file(piece).exists()

    def begin(self, piece: str) -> None:
        """Raise OutOfTimeError where a piece would begin too late."""
        if now_s() > self._until_s:
            raise OutOfTimeError(piece)

    def find(self, piece: str, find: Callable[[], Any]) -> None:
        """Keep what a piece comes to, unless it is kept. Raises OutOfTimeError."""
        if self.has(piece):
            return
        self.begin(piece)
        began_s = now_s()
        with self._quiet.during(piece):
            found = find()
        minutes = round((now_s() - began_s) / 60, 2)
        watched = self._quiet.told()["watched"][-1]
        kept = {"minutes": minutes, "watched": watched, "code": code_digest(), "found": found}
        unfinished = self._file(piece).with_suffix(".part")
        unfinished.write_text(json.dumps(kept, indent=1))
        unfinished.rename(self._file(piece))

    def found(self, piece: str) -> Any:
        """What a piece came to."""
        kept = json.loads(self._file(piece).read_text())
        self._watched.append(kept["watched"])
        self._minutes += kept["minutes"]
        if kept.get("code") != code_digest():
            self._older.append(piece)
        return kept["found"]

    def told(self) -> dict[str, Any]:
        """The keys for the printed object, of all that was asked for. older: what was found with another state of our
        packages, and stands."""
        return {
            "minutes": round(self._minutes, 1),
            "older": sorted(set(self._older)),
            "disturbed": any(each["disturbed"] for each in self._watched),
            "watched": self._watched,
        }

    def _file(self, piece: str) -> Path:
        return self._folder / f"{piece}.json"


def add_pieces(parser: argparse.ArgumentParser) -> None:
    """`--work` and `--minutes`."""
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep what is found here, and go on with it")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin nothing more after that (needs --work)")


@contextmanager
def work_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Iterator[Path]:
    """The folder to work in. Where the time is over, says what is next, and ends with `UNFINISHED`."""
    if args.minutes is not None and args.work is None:
        parser.error("--minutes: what is found would be lost (give --work, too)")
    with TemporaryDirectory(prefix="edgebench-benchmark-") as folder:
        try:
            yield (args.work or Path(folder)).resolve()
        except OutOfTimeError as next_piece:
            parser.exit(UNFINISHED, f"goes on with: {next_piece} (the same line again)\n")
