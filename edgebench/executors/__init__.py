"""The executors: a plan of a run's parts, and what carries it out."""

from __future__ import annotations

from edgebench.executors import local
from edgebench.executors.protocol import Executor

EXECUTORS: dict[str, Executor] = {"local": local}
"""By the name that topologies and results call them. What each enforces: `edgebench.topology.enforceable`."""
