"""What goes wrong in a run, as a topology file says it, and as a deployment has it: one thing at one time."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgebench.topology.fields import Count, DurationS, Name, Strict, TimeS
from edgebench.topology.link_model import LinkChange

FaultKind = Literal["down", "degrade", "kill", "pause", "restart", "disk", "clock", "join", "leave"]

OutageKind = Literal["outage", "reset"]

FaultTarget = Literal["link", "node", "site", "broker", "machine"]

StepMs = Annotated[float, Meta(gt=0, le=60_000)]
Share = Annotated[float, Meta(gt=0, le=1)]


class When(Strict, frozen=True):
    """Something that comes about in a workload; exactly one of the others.

    round: this federated round of it has been held. rollout: so many of its roll-outs are with all nodes that decide.
    decided: this share of the samples that are due in the whole run is decided.
    """

    workload: Name
    round: Count | None = None
    rollout: Count | None = None
    decided: Share | None = None


class Fault(Strict, frozen=True):
    """Something that breaks `at_s` into the run, from then on every `every_s`, or `when` a condition is met, for
    `for_s`. Exactly one of `link`, `node`, `site` (an edge, its broker and its devices), `broker` (that of an edge or
    the cloud) and `machine` (all that runs on one of a lab, or in a container), or a `trace`: a text file beside the
    topology that says which node is away when. to: what a link becomes that is degraded. by_ms: how far a clock is
    stepped on.
    """

    kind: FaultKind
    at_s: TimeS | None = None
    every_s: DurationS | None = None
    when: When | None = None
    trace: str | None = None
    for_s: DurationS | None = None
    to: LinkChange | None = None
    by_ms: StepMs | None = None
    link: str | None = None
    node: Name | None = None
    site: Name | None = None
    broker: Name | None = None
    machine: str | None = None


class Chaos(Strict, frozen=True):
    """Seeded random faults of one kind: on each of the things named `rate_per_h` an hour on average, with exponential
    gaps from the end of one to the next, from `from_s` to `until_s` (none: the end of the run).

    Exactly one of `links`, `nodes`, `sites` and `brokers`: single ones, or groups of them. for_s: how long one takes,
    from the least to the most, with equal chances between.
    """

    kind: FaultKind
    rate_per_h: Annotated[float, Meta(gt=0, le=3600)]
    for_s: tuple[DurationS, DurationS] | None = None
    to: LinkChange | None = None
    from_s: TimeS = 0.0
    until_s: TimeS | None = None
    links: tuple[str, ...] = ()
    nodes: tuple[Name, ...] = ()
    sites: tuple[Name, ...] = ()
    brokers: tuple[Name, ...] = ()


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault of a deployment: at a time, or when a condition is met; for_s: None for good. It happens to the one of
    the others that is there. entry: where in the topology it comes from. An outage or a reset is what links do by
    themselves."""

    kind: FaultKind | OutageKind
    at_s: float | None = None
    when: When | None = None
    for_s: float | None = None
    to: LinkChange | None = None
    by_ms: float | None = None
    link: str | None = None
    node: str | None = None
    site: str | None = None
    broker: str | None = None
    machine: str | None = None
    entry: str = ""

    @property
    def thing(self) -> tuple[FaultTarget, str]:
        """What it happens to."""
        (thing,) = things_of(self)
        return thing


TARGETS: dict[FaultKind, tuple[FaultTarget, ...]] = {
    "down": ("link",),
    "degrade": ("link",),
    "kill": ("node", "site", "broker", "machine"),
    "pause": ("node", "site", "broker", "machine"),
    "restart": ("node", "site", "broker"),
    "disk": ("node",),
    "clock": ("machine",),
    "join": ("node",),
    "leave": ("node",),
}
"""What each kind can happen to."""

TAKES: frozenset[FaultKind | OutageKind] = frozenset({"down", "kill", "pause", "restart", "outage", "reset"})
"""Kinds by which something is not there at all."""

DEPARTURES: frozenset[FaultKind] = frozenset({"join", "leave"})
"""Kinds by which a device comes and goes in good order; nothing is broken."""

LASTING: dict[FaultKind, Literal["always", "may", "never"]] = {
    "down": "may",
    "degrade": "may",
    "kill": "never",
    "pause": "always",
    "restart": "always",
    "disk": "always",
    "clock": "never",
    "join": "never",
    "leave": "never",
}
"""Whether a kind takes a `for_s`: kinds that always have an end, may have one, and are for good."""


def things_of(fault: Fault | FaultPlan) -> list[tuple[FaultTarget, str]]:
    """What a fault names; exactly one, where the file is sound and it follows no trace."""
    found: list[tuple[FaultTarget, str | None]] = [
        ("link", fault.link),
        ("node", fault.node),
        ("site", fault.site),
        ("broker", fault.broker),
        ("machine", fault.machine),
    ]
    return [(target, name) for target, name in found if name is not None]


def shown(target: FaultTarget, name: str) -> str:
    """What a fault happens to, for people."""
    before = {"broker": "broker of ", "site": "site ", "machine": "machine "}
    return f"{before.get(target, '')}{name}"


def targets_of(chaos: Chaos) -> list[tuple[FaultTarget, tuple[str, ...]]]:
    """What an entry of chaos names; exactly one, where the file is sound."""
    found: list[tuple[FaultTarget, tuple[str, ...]]] = [
        ("link", chaos.links),
        ("node", chaos.nodes),
        ("site", chaos.sites),
        ("broker", chaos.brokers),
    ]
    return [(target, names) for target, names in found if names]
