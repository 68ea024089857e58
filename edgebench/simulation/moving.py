"""Devices that move: which site each is at, and what connecting at another one is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.links import Pipe
from edgebench.errors import TopologyError
from edgebench.simulation.columns import Ints
from edgebench.simulation.costs import Flow
from edgebench.simulation.fleet import Fleet
from edgebench.simulation.service_times import Cost, ServiceTimes, UntoldError, between
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.model import Move, Topology
from edgebench.topology.wording import one_line

Visits = Mapping[int, Sequence[tuple[int, int]]]
"""Device -> from when on, ns, and at which edge it is, in order, once it has left the first; by numbers."""

GREETING_BYTES = (150, 4, 80, 5)
"""What is said until a connection stands, in turns up and down: CONNECT with its will, CONNACK, SUBSCRIBE, SUBACK, each
to within some tens of bytes. TCP's own handshake, a round trip, goes before."""
_ROUND_TRIPS = 1 + len(GREETING_BYTES) // 2


def stays_of(moves: Sequence[Move], number: Callable[[str], int]) -> dict[int, list[tuple[int, int]]]:
    """As `Visits`, of all that move. moves: in their order; number: of a node, by its name."""
    found: dict[int, list[tuple[int, int]]] = {}
    for move in moves:
        found.setdefault(number(move.node), []).append((int(move.at_s * NS_PER_S), number(move.to)))
    return found


def visits_of(topology: Topology, fleet: Fleet, flows: Sequence[Flow]) -> Visits:
    """Of the devices that move, and sense something: all of these have a connection."""
    sensing = {device for flow in flows for device in flow.devices.tolist()} if topology.moves else set()
    stays = stays_of(sorted(topology.moves, key=lambda move: move.at_s), fleet.number)
    return {device: each for device, each in stays.items() if device in sensing}


def sites_at(device: Ints, at_ns: Ints, home: Ints, visits: Visits) -> Ints:
    """The edge that each of some devices was at at some time [something]. home: where each begins [device]."""
    found = home[device]
    for number, stays in visits.items():
        mine = device == number
        for since_ns, edge in stays:
            found[mine & (at_ns >= since_ns)] = edge
    return found


def greeting_ns(link: LinkPlan) -> int:
    """How long a link takes until a connection stands, where it carries nothing else and neither varies nor loses."""
    rates = link.up_mbit_s, link.down_mbit_s
    of_bytes = sum(size * Pipe(rates[place % 2]).ns_per_byte for place, size in enumerate(GREETING_BYTES))
    return round(2 * _ROUND_TRIPS * link.latency_ms * NS_PER_MS + of_bytes)


def connecting_of(visits: Visits, fleet: Fleet, times: ServiceTimes, file: str | Path) -> dict[str, list[int]]:
    """What connecting at another site takes besides the link, ns, by the group of a device that does. Raises
    TopologyError where no run tells."""
    found, problems = {}, []
    for group in fleet.of_tier("device"):
        if any(group.first <= device < group.first + group.count for device in visits):
            try:
                cost = Cost("connect", between(group.profile, fleet.parent(group).profile))
                found[group.name] = times.cost(cost).tolist()
            except UntoldError as error:
                why = f"{error} (name a run in which one of '{group.name}' moves with --calibrate)"
                problems.append(one_line(f"{file}: $.moves: {why}"))
    if problems:
        raise TopologyError(problems)
    return found
