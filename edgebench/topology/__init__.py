"""Topologies: the file, its checks, and the deployment that it resolves to.

topology = load("icu-ward.yaml", ["duration_s=10"])
check(topology, "icu-ward.yaml", tasks=names())
refuse_unenforceable(topology, "icu-ward.yaml", executor="local")
deployment = resolve(topology, run_id="…", executor="local")
"""

from __future__ import annotations

from edgebench.topology.checking import check
from edgebench.topology.enforceable import refuse_unenforceable
from edgebench.topology.link_traces import link_traces_of
from edgebench.topology.loading import load
from edgebench.topology.profile_files import profiles_of
from edgebench.topology.resolving import resolve
from edgebench.topology.schema import json_schema
from edgebench.topology.shipped import topology_file
from edgebench.topology.trace import read_trace

__all__ = [
    "check",
    "json_schema",
    "link_traces_of",
    "load",
    "profiles_of",
    "read_trace",
    "refuse_unenforceable",
    "resolve",
    "topology_file",
]
