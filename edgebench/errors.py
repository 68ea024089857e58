"""Errors that a user can mend, and the process exit status that each one ends with."""

from __future__ import annotations

import traceback

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


def told(error: Exception) -> str:
    """An exception in one line, with the place in a file where it was raised."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {text}"  # which tells the place itself
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"
