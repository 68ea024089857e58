"""How many files and sockets each process of a run will have open, and whether this machine lets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError
from edgebench.executors.plan import plan_of
from edgebench.fabric.descriptors import allow_descriptors, most_descriptors
from edgebench.topology.deployment import Deployment

_OF_ITS_OWN = 64
"""What a process has open besides its connections: logs, libraries, records, models, a broker's store."""
_PER_LEARNER = 2
"""A message in the making, and one that is read from its file."""
_PER_PART = 2

Need = tuple[str, int]
"""Whose, with a verb in the plural after it, and how many."""


def allow_open_files(deployment: Deployment, file: str | Path) -> None:
    """Raise the soft limit of open files of this process, and so of those that it starts, as far as it may be.

    Raises EdgebenchError where a process of the run will need more than the hard limit.
    """
    allow_descriptors()
    most = most_descriptors()
    whose, needed = max(open_files(deployment), key=lambda need: need[1])
    if needed > most:
        raise EdgebenchError(
            f"{file}: {whose} need {needed:,} open files in one process, and the hard limit is {most:,} "
            f"(raise it, as root: ulimit -Hn {needed}; or take fewer devices)"
        )


def open_files(deployment: Deployment) -> Iterator[Need]:
    """What each process of a local run needs, at most."""
    plan = plan_of(deployment)
    learners = {device for federated in deployment.federated.values() for device in federated.clients}
    for part in plan.parts:
        connections = part.accepts + sum(part.connects.values())
        if part.kind == "agent":
            first = deployment.nodes[part.nodes[0]]
            learning = sum(device in learners for device in part.nodes) * _PER_LEARNER
            whose = f"the {len(part.nodes):,} devices of {first.group} at {first.parent}"
            yield whose, connections + learning + _OF_ITS_OWN
        elif part.kind == "broker":
            yield f"the {part.accepts:,} connections to the {part.name}", connections + _OF_ITS_OWN
        elif part.kind == "cloud":
            yield f"the {part.accepts:,} connections to {part.name}", connections + _OF_ITS_OWN
        elif part.kind == "relay":
            listening = len(part.offers)
            yield f"the {part.accepts:,} connections across emulated links", listening + connections + _OF_ITS_OWN
    for federated in deployment.federated.values():
        asked = federated.edges if federated.edges_aggregate else {deployment.cloud: federated.clients}
        for server, clients in asked.items():
            yield f"the {len(clients):,} clients of {server}", len(clients) * _PER_LEARNER + _OF_ITS_OWN
    started = sum(map(len, plan.stages()))
    yield f"the {started:,} processes of the run", started * _PER_PART + _OF_ITS_OWN
