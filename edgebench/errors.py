"""Errors that a user can mend, and the process exit status that each one ends with."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

EXIT_INVALID_RUN = 1
EXIT_USER_ERROR = 2


class EdgebenchError(Exception):
    """A user's mistake or a broken environment.

    The message is one line that names the thing, the place and the mend; the command line prints it
    without a traceback and exits with status 2.
    """


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


def told(error: BaseException) -> str:
    """An exception in one line of at most some 600 characters, with the place in the user's own file that led to it."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    cut = text if len(text) <= _MOST_TOLD else text[:_MOST_TOLD] + " …"
    said = f"{kind}: {cut}" if text else kind
    if isinstance(error, SyntaxError):
        return said  # which tells the place itself
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not any(map(Path(frame.filename).is_relative_to, _NOT_THE_USERS))] or frames
    return f"{said} ({own[-1].filename}, line {own[-1].lineno})" if own else said


_MOST_TOLD = 500
_NOT_THE_USERS = (
    *{Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    Path(__file__).parent,
)
"""Folders whose files no user has written: Python's, the installed packages', and this package's own."""
