"""A case: an input that goes wrong, the command that is given it, and what that is to say. `cases.py` tries them."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.patience import ended_behind, waited_for
from edgebench.clock import now_s, sleep_s

_OF_THE_MACHINE = {"load", "host", "emulation", "disturbance", "link"}
"""Kinds of reasons for an invalid run that a busy machine alone can give."""
_MARK = "EDGEBENCH_CASE"
_ROOTS_WAY = "-dac_override,-dac_read_search"
"""What lets root read what may not be read."""
_LEFT_PATIENCE_S = 20.0
"""What closes a run whose command is gone waits 15 s for its nodes."""
_LOOK_S = 0.25
_MOST_TOLD = 400
_LONGEST_WORD = 120


@dataclass
class Place:
    """Where a case is tried: a folder of its own, with what the case is given in it. Changed by `Case.prepare`.

    stands: where the command is given. words: that it is given besides. called: what stands in words for a text, and
    for which it is told of what was said. stack: what is to be undone. by_modes: modes of files hold for root, too.
    """

    folder: Path
    stack: contextlib.ExitStack
    stands: Path
    words: list[str] = field(default_factory=list)
    called: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    by_modes: bool = False

    def command(self, words: Sequence[str]) -> list[str]:
        """`edgebench WORD…`, with what words stand for."""
        return [sys.executable, "-m", "edgebench.cli", *map(self._meant, words)]

    def _meant(self, word: str) -> str:
        for name, text in self.called.items():
            word = word.replace(name, text)
        return word

    def ran(self, *words: str) -> None:
        """Give another command before. Raises RuntimeError where it fails."""
        done = subprocess.run(
            self.command(words),
            check=False,
            env=self.variables(),
            cwd=self.stands,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"edgebench {shlex.join(words)}: {done.stderr.strip()}")

    def variables(self) -> dict[str, str]:
        """The environment of commands."""
        kept = {"EDGEBENCH_CACHE": str(self.folder / ".cache"), "EDGEBENCH_HOME": str(self.folder / ".home")}
        return {**os.environ, **kept, **self.environment}


def lacks_modes() -> str | None:
    """Why nothing can be kept from being read here."""
    return "no setpriv on this machine" if os.geteuid() == 0 and shutil.which("setpriv") is None else None


def nothing(_: Place) -> None:
    """All is there."""


def never() -> None:
    """Nothing is lacking."""


Result = Mapping[str, Any]


def reasons_of(_: Result) -> Iterator[str]:
    """Its verdict says it all."""
    yield from ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """inputs: what the folder has to have of it. gave: what it gave before. words: of the command. status, says: what
    is right: the exit status (of a run, without what a busy machine alone adds), and a regular expression of what is
    said. tells: what is said of a run beside its verdict. shell: what a shell does before the command. needs: why the
    case cannot be tried here. right: in words."""

    name: str
    words: tuple[str, ...]
    says: str
    right: str
    gave: str = ""
    inputs: tuple[str, ...] = ()
    status: int = 2
    prepare: Callable[[Place], None] = nothing
    tells: Callable[[Result], Iterator[str]] = reasons_of
    during: Callable[[Place], None] | None = None
    shell: str = ""
    needs: Callable[[], str | None] = never
    within_s: float = 180.0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a case. status: its exit status; None of one that was not tried, or took too long. said: the last
    lines. left: command lines of processes that outlived it. is_right: None where it was not tried."""

    case: str
    command: str
    gave: str
    right: str
    said: str
    status: int | None = None
    seconds: float | None = None
    left: list[str] = []
    is_right: bool | None = None


def tried(case: Case, folder: Path | None) -> Found:
    """Try a case on a copy of what is in a folder; None: it makes its inputs itself."""
    command = _shown(case.words)
    shown = f"({case.shell}; {command})" if case.shell else command
    base = Found(case=case.name, command=shown, gave=case.gave, right=case.right, said="")
    if (lacking := case.needs()) is not None:
        return msgspec.structs.replace(base, said=f"not tried: {lacking}")
    absent = [each for each in case.inputs if folder is None or not (folder / each).exists()]
    if absent:
        return msgspec.structs.replace(base, said=f"not tried: no {absent[0]} in the folder")
    with tempfile.TemporaryDirectory(prefix="edgebench-case-") as made, contextlib.ExitStack() as stack:
        place = Place(Path(made).resolve(), stack, Path(made).resolve())
        place.folder.chmod(0o755)
        if folder is not None:
            _copy(folder, place.folder)
        try:
            case.prepare(place)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            return msgspec.structs.replace(base, said=_short(f"could not be prepared: {error}"), is_right=False)
        mark = secrets.token_hex(8)
        began_s = now_s()
        status, printed = _given(case, place, mark)
        seconds = round(now_s() - began_s, 1)
        left = _ended(mark)
        said, judged = _said(case, place, status, printed)
    right = judged == case.status and re.search(case.says, said) is not None
    right = right and not left and "Traceback (most recent call last)" not in printed
    return msgspec.structs.replace(base, said=_short(said), status=status, seconds=seconds, left=left, is_right=right)


def _shown(words: Sequence[str]) -> str:
    """A command, with what is long cut short."""
    short = [word if len(word) <= _LONGEST_WORD else f"{word[:20]}…" for word in words]
    return f"edgebench {shlex.join(short)}".encode("utf-8", "backslashreplace").decode()


def _copy(folder: Path, to: Path) -> None:
    """Its files, which may be changed there."""
    for file in folder.rglob("*"):
        if file.is_file():
            copy = to / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _given(case: Case, place: Place, mark: str) -> tuple[int | None, str]:
    """Give the command: its exit status (None: it took too long), and what it printed."""
    command = place.command([*case.words, *place.words])
    if case.shell:
        command = ["sh", "-c", f'{case.shell}; exec "$@"', "sh", *command]
    if place.by_modes and os.geteuid() == 0:
        command = ["setpriv", "--bounding-set", _ROOTS_WAY, "--inh-caps", _ROOTS_WAY, *command]
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            command,
            env={**place.variables(), _MARK: mark},
            cwd=place.stands,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        with ended_behind(process):
            if case.during is not None:
                case.during(place)
            status = waited_for(process, case.within_s)
        printed.seek(0)
        return status, printed.read().decode(errors="backslashreplace")


def _ended(mark: str) -> list[str]:
    """Wait for what a command has started, and end what does not end: their command lines."""
    until_s = now_s() + _LEFT_PATIENCE_S
    while (alive := list(_marked(mark))) and now_s() < until_s:
        sleep_s(_LOOK_S)
    lines = []
    for process in alive:
        with contextlib.suppress(psutil.Error):
            lines.append(shlex.join(process.cmdline()))
            process.kill()
    return lines


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _said(case: Case, place: Place, status: int | None, printed: str) -> tuple[str, int | None]:
    """What a command said in the end, and the exit status that a machine with nothing else to do would give it."""
    if status is None:
        return f"not over after {case.within_s:.0f} s", None
    # Without the frames of tables.
    lines = [line.strip("│ ") for line in printed.splitlines() if any(map(str.isalnum, line))]
    said = lines[-1] if lines else "nothing was said"
    if "Traceback (most recent call last)" in printed:
        said = f"a traceback: {said}"
    judged = status
    results = sorted(place.stands.glob("runs/*/result.json"))
    if case.words[0] in ("run", "report") and status in (0, 1) and results:
        result = msgspec.json.decode(results[-1].read_bytes())
        verdict = result["verdict"]
        faults = [
            why for why, kind in zip(verdict["reasons"], verdict["kinds"], strict=True) if kind not in _OF_THE_MACHINE
        ]
        judged = 1 if faults else 0
        if case.words[0] == "run":
            busy = " (but for a busy machine)" if status and not faults else ""
            said = "; ".join([*case.tells(result), *(faults or [f"valid{busy}"])])
    return _without_places(said, place), judged


def _without_places(said: str, place: Place) -> str:
    """With no path of this machine."""
    for name, text in place.called.items():
        said = said.replace(text, name)
    said = said.replace(f"{place.folder}/", "").replace(str(place.folder), ".")
    return re.sub(r"\d{8}T\d{6}Z", "TIME", re.sub(r"[^\s(]*/site-packages/", "", said))


def _short(said: str) -> str:
    said = " ".join(said.split())
    return said if len(said) <= _MOST_TOLD else f"{said[:_MOST_TOLD]} …"


# The table.

_HEAD = ("input", "command", "gave", "gives", "is right")


def table(found: Sequence[Found]) -> str:
    """In Markdown; what gave nothing before, since nobody had tried it, stands in a table without that column."""
    columns = [n for n, name in enumerate(_HEAD) if name != "gave" or any(each.gave for each in found)]
    lines = [_HEAD, tuple("---" for _ in _HEAD), *map(_cells, found)]
    return "\n".join(f"| {' | '.join(line[n].replace('|', '/') for n in columns)} |" for line in lines)


def _cells(each: Found) -> tuple[str, ...]:
    if each.is_right is None:
        return each.case, f"`{each.command}`", each.gave, each.said, each.right
    ended = "" if each.status is None else f"{each.status}: "
    left = f" left running: {'; '.join(each.left)}" if each.left else ""
    verdict = each.right if each.is_right else f"**no**: {each.right}"
    return each.case, f"`{each.command}`", each.gave, f"{ended}{each.said}{left}", verdict
