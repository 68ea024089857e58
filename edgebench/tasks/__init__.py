"""The tasks: what is decided, from which data, by which models, and how well.

`task_named("icu-death")` gives a built-in task, `task_named("my_package.ward:TASK")` a user's own.
Importing this package costs nothing: each task brings its libraries along when it is used.
"""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType
from typing import Any

from edgebench.errors import EdgebenchError, TaskError, describe_error
from edgebench.tasks.task import Task
from edgebench.tasks.user_task import user_task

_BUILT_IN = {
    "icu-death": "edgebench.tasks.icu.task:DEATH",
    "icu-decompensation": "edgebench.tasks.icu.task:DECOMPENSATION",
    "icu-heart-failure": "edgebench.tasks.icu.task:HEART_FAILURE",
    "occupancy": "edgebench.tasks.occupancy:TASK",
    "speech-recognition": "edgebench.tasks.speech.task:TASK",
    "action-recognition": "edgebench.tasks.actions.task:ACTIONS",
    "sign-recognition": "edgebench.tasks.signs.task:TASK",
    "face-recognition": "edgebench.tasks.faces.task:FACES",
    "lane-detection": "edgebench.tasks.lanes.task:TASK",
    "person-reid": "edgebench.tasks.reid.task:REID",
}


def names() -> tuple[str, ...]:
    """The built-in tasks."""
    return tuple(_BUILT_IN)


def task_named(name: str) -> Task:
    """The task of this name, or the object at `module:attribute`.

    Raises EdgebenchError for a name that is neither, and for an object that is no task or cannot be imported.
    """
    if name in _BUILT_IN:
        module_name, _, attribute = _BUILT_IN[name].partition(":")
        task: Task = getattr(importlib.import_module(module_name), attribute)
        return task
    if ":" in name:
        return user_task(name, *_imported(name))
    close = difflib.get_close_matches(name, _BUILT_IN, n=1)
    mean = f" (did you mean '{close[0]}'?)" if close else ""
    raise EdgebenchError(f"no task '{name}'{mean}; there are {', '.join(_BUILT_IN)}, or give module:attribute")


def _imported(path: str) -> tuple[ModuleType, Any]:
    """The module of `module:attribute`, and what stands there."""
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute or module_name.startswith("."):
        raise TaskError(f"task '{path}': give module:attribute")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent is not None and f"{module_name}.".startswith(f"{absent}."):
            raise TaskError(f"task '{path}': no module '{absent}' (is it installed, or on PYTHONPATH?)") from error
        if absent is not None:
            extra = _EXTRAS.get(absent.partition(".")[0])
            mend = "install it, or set PYTHONPATH" if extra is None else f"pip install 'edgebench[{extra}]'"
            raise TaskError(f"task '{path}': its module imports '{absent}', which is not there ({mend})") from error
        raise TaskError(f"task '{path}': its module cannot be imported: {describe_error(error)}") from error
    if not hasattr(module, attribute):
        raise TaskError(f"task '{path}': module '{module_name}' has no '{attribute}'")
    return module, getattr(module, attribute)


_EXTRAS = {"keras": "lab", "tensorflow": "lab", "torch": "torch"}
"""What brings the libraries that models are made with."""
