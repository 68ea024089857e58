"""Topologies: the file, its checks, and the deployment that it resolves to.

topology = load("icu-ward.yaml", ["duration_s=10"])
check(topology, "icu-ward.yaml", tasks=names())
refuse_unenforceable(topology, "icu-ward.yaml", executor="local")
deployment = resolve(topology, run_id="…", executor="local")

What reads and checks files is imported when it is first asked for: a node of a run has a deployment only.
"""

from __future__ import annotations

import importlib
from typing import Any

_OFFERED = {
    "check": "checking",
    "jobs_of": "job_trace",
    "json_schema": "schema",
    "link_traces_of": "link_traces",
    "load": "loading",
    "profiles_of": "profile_files",
    "read_trace": "trace",
    "refuse_unenforceable": "enforceable",
    "resolve": "resolving",
    "topology_file": "shipped",
}
"""Name -> the module that it is in. `__init__.pyi` says the same to type checkers."""

__all__ = list(_OFFERED)


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'edgebench.topology' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgebench.topology.{_OFFERED[name]}"), name)
