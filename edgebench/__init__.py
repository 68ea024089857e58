"""edgebench: an open edge-to-cloud federated AI testbed.

What a program uses of it is in `edgebench.api`, and offered here: `edgebench.run("icu-ward")`. It is imported when it
is first asked for, since every node of a run imports this package, on the smallest board too.
"""

from __future__ import annotations

import importlib
from typing import Any

from edgebench.triton_first import install

__version__ = "0.1.0"

install()
del install

_OFFERED = {
    "EdgebenchError": "edgebench.errors",
    **dict.fromkeys(
        (
            *("capacity", "compare", "fidelity", "replay", "Replayed", "sweep"),
            *("Run", "TopologyFile", "clean", "export", "join", "lab_invite", "lab_invite_device", "lab_list"),
            *("lab_refusals", "lab_remove", "lab_serve", "load", "load_run", "profile", "run", "simulate", "train"),
            *("init", "list_tasks", "list_topologies", "load_placement", "place", "schema", "validate"),
        ),
        "edgebench.api",
    ),
}
"""Name -> where it is. `__init__.pyi` says the same to type checkers."""

__all__ = list(_OFFERED)


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'edgebench' has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
