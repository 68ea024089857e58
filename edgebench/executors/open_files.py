"""How many files and sockets each process of a run will have open, and whether its machine lets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgebench.errors import EdgebenchError
from edgebench.executors.plan import plan_of
from edgebench.fabric.descriptors import allow_descriptors, most_descriptors
from edgebench.topology.deployment import HERE, Deployment

_OF_ITS_OWN = 64
"""What a process has open besides its connections: logs, libraries, records, models, a broker's store."""
_PER_LEARNER = 2
"""A message in the making, and one that is read from its file."""
_PER_PART = 2


class Need(NamedTuple):
    """Of a process on a machine. whose: for people, with a verb in the plural after it."""

    machine: str
    whose: str
    files: int

    def problem(self, most: int, where: str = "") -> str:
        """What speaks against a hard limit of `most`. where: it is, after `limit`."""
        return (
            f"{self.whose} need {self.files:,} open files in one process, and the hard limit{where} is {most:,} "
            f"(raise it, as root: ulimit -Hn {self.files}; or take fewer devices)"
        )


def allow_open_files(deployment: Deployment, file: str | Path) -> None:
    """Raise the soft limit of open files of this process, and so of those that it starts, as far as it may be.

    Raises EdgebenchError where a process of the run that is to be on this machine will need more than the hard limit.
    """
    allow_descriptors()
    most = most_descriptors()
    largest = largest_needs(deployment)[HERE]
    if largest.files > most:
        raise EdgebenchError(f"{file}: {largest.problem(most)}")


def largest_needs(deployment: Deployment) -> dict[str, Need]:
    """Of each machine the process that needs most."""
    largest: dict[str, Need] = {}
    for need in open_files(deployment):
        if need.machine not in largest or need.files > largest[need.machine].files:
            largest[need.machine] = need
    return largest


def open_files(deployment: Deployment) -> Iterator[Need]:
    """What each process of a run needs, at most."""
    plan = plan_of(deployment)
    learners = {device for federated in deployment.federated.values() for device in federated.clients}
    for part in plan.parts:
        files = part.accepts + sum(part.connects.values()) + _OF_ITS_OWN
        match part.kind:
            case "agent":
                first = deployment.nodes[part.nodes[0]]
                learning = sum(device in learners for device in part.nodes) * _PER_LEARNER
                whose = f"the {len(part.nodes):,} devices of {first.group} at {first.parent}"
                yield Need(part.machine, whose, files + learning)
            case "broker":
                yield Need(part.machine, f"the {part.accepts:,} connections to the {part.name}", files)
            case "cloud":
                yield Need(part.machine, f"the {part.accepts:,} connections to {part.name}", files)
            case "relay":
                whose = f"the {part.accepts:,} connections across emulated links"
                yield Need(part.machine, whose, len(part.offers) + files)
    for federated in deployment.federated.values():
        asked = federated.edges if federated.edges_aggregate else {deployment.cloud: federated.clients}
        for server, clients in asked.items():
            whose = f"the {len(clients):,} clients of {server}"
            yield Need(deployment.nodes[server].machine, whose, len(clients) * _PER_LEARNER + _OF_ITS_OWN)
    for machine, started in Counter(part.machine for stage in plan.stages() for part in stage).items():
        yield Need(machine, f"the {started:,} processes of the run", started * _PER_PART + _OF_ITS_OWN)
