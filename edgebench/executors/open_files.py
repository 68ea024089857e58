"""How many files and sockets each process of a run will have open, and whether this machine lets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError
from edgebench.fabric.descriptors import allow_descriptors, most_descriptors
from edgebench.topology.deployment import Deployment

_OF_ITS_OWN = 64
"""What a process has open besides its connections: logs, libraries, records, models, a broker's store."""
_PER_LEARNER = 2
"""A message in the making, and one that is read from its file."""
_PER_RELAYED = 3
"""A route listens, and has two ends."""
_PER_PART = 2

Need = tuple[str, int]
"""Whose, with a verb in the plural after it, and how many."""


def allow_open_files(deployment: Deployment, file: str | Path) -> None:
    """Raise the soft limit of open files of this process, and so of those that it starts, as far as it may be.

    Raises EdgebenchError where a process of the run will need more than the hard limit.
    """
    allow_descriptors()
    most = most_descriptors()
    beyond = [need for need in open_files(deployment) if need[1] > most]
    if beyond:
        whose, needed = beyond[0]
        enough = max(needed for _, needed in beyond)
        raise EdgebenchError(
            f"{file}: {whose} need {needed:,} open files in one process, and the hard limit is {most:,} "
            f"(raise it, as root: ulimit -Hn {enough}; or take fewer devices)"
        )


def open_files(deployment: Deployment) -> Iterator[Need]:
    """What each process of a local run needs, at most."""
    devices, edges = deployment.of_tier("device"), deployment.of_tier("edge")
    learners = {device for plan in deployment.federated.values() for device in plan.clients}
    agents: Counter[tuple[str, str | None]] = Counter()
    at_site: Counter[str] = Counter()
    for device in devices:
        agents[device.group, device.parent] += 1 + (_PER_LEARNER if device.name in learners else 0)
        at_site.update([str(device.parent), *device.elsewhere])
    hosted = Counter((device.group, device.parent) for device in devices)
    for (group, parent), needed in agents.items():
        yield f"the {hosted[group, parent]:,} devices of {group} at {parent}", needed + _OF_ITS_OWN
    for plan in deployment.federated.values():
        asked = plan.edges if "edge" in plan.how.aggregate else {deployment.cloud: plan.clients}
        for server, clients in asked.items():
            yield f"the {len(clients):,} clients of {server}", len(clients) * _PER_LEARNER + _OF_ITS_OWN
    if deployment.broker_url is None:
        for site, connected in (at_site + Counter(edge.name for edge in edges)).items():
            yield f"the {connected:,} connections to the broker of {site}", connected + _OF_ITS_OWN
        yield f"the {len(edges):,} edges at the broker of {deployment.cloud}", len(edges) + _OF_ITS_OWN
    parts = 2 * (len(edges) + 1) + len(agents)
    yield f"the {parts:,} processes of the run", parts * _PER_PART + _OF_ITS_OWN
    ways = sum(
        deployment.links[f"{node.name} -> {parent}"].shaped
        for node in (*devices, *edges)
        for parent in (node.parent, *(node.elsewhere if node.tier == "device" else ()))
    )
    # A node fetches its models over the same links, by a route of its own.
    yield f"the {ways:,} connections across emulated links", 2 * ways * _PER_RELAYED + _OF_ITS_OWN
