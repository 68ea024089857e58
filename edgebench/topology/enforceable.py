"""What each executor enforces of a topology; the rest it refuses by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError, TopologyError
from edgebench.topology.model import Topology
from edgebench.topology.wording import did_you_mean, one_line

Problem = tuple[str, str]


def _machine_faults(topology: Topology) -> Iterator[Problem]:
    for index, fault in enumerate(topology.faults):
        if fault.machine is not None:
            mend = "(name a node or a site, or use --executor lab)"
            yield f"$.faults[{index}].machine", f"fault '{fault.kind}' of a machine {mend}"


def _machines(topology: Topology) -> Iterator[Problem]:
    if topology.machines:
        yield "$.machines", "other machines (remove it, or use --executor lab)"


def _memory(topology: Topology) -> Iterator[Problem]:
    for name, group in topology.nodes.items():
        if group.memory_mb is not None:
            yield f"$.nodes.{name}.memory_mb", "a limit of memory (remove it, or use --executor containers)"


def _engines(topology: Topology) -> Iterator[Problem]:
    for index, federated in enumerate(topology.federated):
        if federated.engine != "mqtt":
            only = f"engine '{federated.engine}' across machines: its clients are all on that of the command"
            yield f"$.federated[{index}].engine", f"{only} (use mqtt)"


def _plain_broker(topology: Topology) -> Iterator[Problem]:
    if topology.broker.url is not None and not topology.broker.url.startswith("mqtts:"):
        yield "$.broker.url", "a broker without TLS (write mqtts://, or leave it out)"


def _any_broker(topology: Topology) -> Iterator[Problem]:
    if topology.broker.url is not None:
        yield "$.broker.url", "a broker of your own, which containers cannot reach (leave it out)"


_FEATURES: dict[str, Callable[[Topology], Iterator[Problem]]] = {
    "machine faults": _machine_faults,
    "machines": _machines,
    "memory": _memory,
    "other engines": _engines,
    "plain broker": _plain_broker,
    "any broker": _any_broker,
}

ENFORCED: dict[str, frozenset[str]] = {
    "local": frozenset({"other engines", "plain broker", "any broker"}),
    "lab": frozenset({"machines", "machine faults", "any broker"}),
    "containers": frozenset({"memory", "plain broker"}),
}
"""Executor -> which of the features it enforces, or has refused by another. What is not among them, all enforce."""


def refuse_unenforceable(topology: Topology, file: str | Path, *, executor: str) -> None:
    """Refuse an executor that there is not, and every field that the executor would not enforce.

    Raises EdgebenchError for the executor, one TopologyError with all such fields.
    """
    if executor not in ENFORCED:
        raise EdgebenchError(f"--executor {executor}: no such executor{did_you_mean(executor, ENFORCED)}")
    problems = [
        one_line(f"{file}: {path}: the {executor} executor cannot enforce {problem}")
        for feature, find in _FEATURES.items()
        if feature not in ENFORCED[executor]
        for path, problem in find(topology)
    ]
    if problems:
        raise TopologyError(problems)
