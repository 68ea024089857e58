"""Errors that a user can mend, and the process exit status that each one ends with."""

from __future__ import annotations

import re
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType

EXIT_INVALID_RUN = 1
EXIT_USER_ERROR = 2
EXIT_TRY_AGAIN = 75
"""What was asked for is no mistake, and may go well in a while: EX_TEMPFAIL of sysexits.h."""


class EdgebenchError(Exception):
    """A user's mistake or a broken environment.

    The message is one line that names the thing, the place and the mend; the command line prints it
    without a traceback and exits with `exit_status`.
    """

    exit_status = EXIT_USER_ERROR


class TopologyError(EdgebenchError):
    """One or more mistakes in a topology; each problem is a line `file: $.path: what is wrong (mend)`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DataError(EdgebenchError):
    """Data that is absent, or not in the layout that it should have."""


class TaskError(DataError):
    """A task of the user's own that cannot be imported, or does not give what a task has to give."""


class ModelError(EdgebenchError):
    """A model that cannot be trained, exported, fetched, verified or loaded."""


class FabricError(EdgebenchError):
    """A broker, link or control plane that cannot be reached or does not answer as agreed."""


def describe_error(error: BaseException, home: Path | None = None) -> str:
    """An exception in one line of at most some 600 characters, with the place that led to it.

    home: the user's folder or file; the place is the last one there, and none where the error never was there. Without
    it, the place is the last one in a file that neither Python, nor an installed package, nor this one has.
    """
    kind, text = type(error).__name__, " ".join(_STYLE.sub("", str(error)).split())
    cut = text if len(text) <= _MOST_TOLD else text[:_MOST_TOLD] + " …"
    said = f"{kind}: {cut}" if text else kind
    if isinstance(error, SyntaxError) and error.filename is not None and Path(error.filename).is_file():
        return said  # which tells the place itself
    # What was compiled, or never was in a file, has no path of its own.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_absolute()]
    # A user's package may be installed where others are, and others may be installed in the user's folder.
    others = [folder for folder in _not_the_users() if home is None or not home.is_relative_to(folder)]
    found = [
        frame
        for frame in frames
        if not any(map(Path(frame.filename).is_relative_to, others))
        and (home is None or Path(frame.filename).is_relative_to(home))
    ]
    if home is None:
        found = found or frames
    return f"{said} ({found[-1].filename}, line {found[-1].lineno})" if found else said


def reason_of(error: BaseException) -> str:
    """In one line: what this project says, as it says it; of anything else what it is, and where (`describe_error`)."""
    return " ".join(str(error).split()) if isinstance(error, EdgebenchError) else describe_error(error)


def print_once(error: BaseException) -> None:
    """The traceback, for the log of this process; not of what was raised in the same place before."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    frames = traceback.extract_tb(first.__traceback__)
    place = (frames[-1].filename, frames[-1].lineno, type(first)) if frames else ("", None, type(first))
    if place not in _PRINTED:
        _PRINTED.add(place)
        traceback.print_exception(error)


_PRINTED: set[tuple[str, int | None, type[BaseException]]] = set()
"""Where tracebacks led that this process has printed."""
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_MOST_TOLD = 500
_OURS = Path(__file__).parent


@cache
def _not_the_users() -> tuple[Path, ...]:
    """Folders whose files no user has written: Python's, the installed packages', and this project's own."""
    import sysconfig  # half a megabyte, which a node that fails nowhere does without

    return (
        *{Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
        *(_OURS.with_name(name) for name in (_OURS.name, "cloud", "edge_node", "device_agent")),
    )


def home_of(module: ModuleType) -> Path | None:
    """The folder where the files are that belong to a user's module, or the one file of one that is installed so."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    if top.__file__ is None:  # a namespace package
        return None if module.__file__ is None else Path(module.__file__).parent
    file = Path(top.__file__)
    return file if file.parent in _not_the_users() else file.parent
