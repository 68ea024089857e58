"""Who connects to what: the ways across shaped links, and where each node then finds its brokers and its models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from edgebench.fabric.endpoints import BrokerUrl, HttpUrl
from edgebench.fabric.relay import Route
from edgebench.fabric.slices import Endpoints
from edgebench.topology.deployment import HERE, Deployment, Frozen, LinkPlan


class Crossing(Frozen, frozen=True):
    """A way across shaped links, the links `via` from the child upwards.

    name, to: addresses, at which a relay listens and to which it goes on (see `broker_address`, `control_address`);
    `to` may be another crossing. machine: where the relay stands, which is where all who share these links meet: at
    the parents' end of them.
    """

    name: str
    via: tuple[str, ...]
    to: str
    machine: str = HERE


def crossings(deployment: Deployment) -> tuple[Crossing, ...]:
    """What has to cross shaped links: every node's MQTT connections upwards, and model downloads."""
    found: list[Crossing] = []
    for node in deployment.nodes.values():
        for parent in node.sites:
            link = deployment.links[f"{node.name} -> {parent}"]
            found += _across(deployment, uplink_address(node.name, parent), [link], broker_address(parent))
        if node.tier == "edge" or _loads_models(deployment, node.name):
            links = list(_links_above(deployment, node.name))
            found += _across(deployment, models_address(node.name), links, control_address(deployment.cloud))
    return tuple(found)


def broker_address(site: str) -> str:
    """The broker of an edge's site, or of the cloud."""
    return f"mqtt:{site}"


def control_address(cloud: str) -> str:
    """The control plane."""
    return f"http:{cloud}"


def uplink_address(node: str, parent: str) -> str:
    """Where a node reaches the broker of a parent across shaped links."""
    return f"mqtt:{node}:{parent}"


def models_address(node: str) -> str:
    """Where a node reaches the registry across shaped links."""
    return f"http:{node}"


class Sited(NamedTuple):
    """Where an address is: on a machine, at a port."""

    machine: str
    port: int


class Wiring(NamedTuple):
    """crossings: of the plan. sited: address -> where it is, of all that listen. host: where a machine (the first) is
    reached from another, or from itself. external: the user's own broker, which serves all."""

    deployment: Deployment
    crossings: tuple[Crossing, ...]
    sited: Mapping[str, Sited]
    host: Callable[[str, str], str]
    external: BrokerUrl | None = None

    def routes(self, machine: str) -> list[Route]:
        """What the relay of a machine has to be told of each crossing there."""
        routes = []
        for crossing in self.crossings:
            if crossing.machine == machine:
                host, port = self._reached(crossing.to, machine)
                routes.append(Route(crossing.name, crossing.via, host, port, self._protocol(crossing)))
        return routes

    def control_url(self, seen_from: str) -> HttpUrl:
        """Where the control plane is reached directly."""
        return HttpUrl(*self._reached(control_address(self.deployment.cloud), seen_from))

    def endpoints(self) -> dict[str, Endpoints]:
        """Where each node finds things."""
        endpoints = {}
        for node in self.deployment.nodes.values():
            if node.tier == "device" and node.parent is not None:
                broker, uplink = self._mqtt(node.name, node.parent), None
            elif node.parent is not None:
                broker, uplink = self._mqtt(node.name, node.name), self._mqtt(node.name, node.parent)
            else:
                broker, uplink = self._mqtt(node.name, node.name), None
            elsewhere = {edge: self._mqtt(node.name, edge) for edge in node.elsewhere if node.tier == "device"}
            models, one_broker = self._models(node.name), self.external is not None
            endpoints[node.name] = Endpoints(broker, models, uplink, one_broker, elsewhere)
        return endpoints

    def _mqtt(self, node: str, site: str) -> str:
        """Where a node finds the broker of a site, be it its own."""
        way = uplink_address(node, site)
        external = self.external
        if external is None:
            return BrokerUrl(*self._reached(way if way in self.sited else broker_address(site), self._home(node))).url
        if way not in self.sited:
            return external.url
        host, port = self._reached(way, self._home(node))
        name = external.host if external.tls else None
        return BrokerUrl(host, port, external.username, external.password, external.tls, name).url

    def _models(self, node: str) -> str:
        way = models_address(node)
        if way not in self.sited:
            return self.control_url(self._home(node)).url
        return HttpUrl(*self._reached(way, self._home(node))).url

    def _reached(self, address: str, seen_from: str) -> tuple[str, int]:
        if address not in self.sited:
            assert self.external is not None
            return self.external.host, self.external.port
        machine, port = self.sited[address]
        return self.host(machine, seen_from), port

    def _protocol(self, crossing: Crossing) -> Literal["mqtt", "http", "opaque"]:
        if crossing.name.startswith("http:"):
            return "http"
        return "opaque" if self.external is not None and self.external.tls else "mqtt"

    def _home(self, node: str) -> str:
        return self.deployment.nodes[node].machine


def _across(deployment: Deployment, name: str, links: Sequence[LinkPlan], to: str) -> Iterator[Crossing]:
    """A way across those of the links that are shaped: one crossing for each machine where some of them end."""
    ends = [
        (machine, tuple(link.name for link in these))
        for machine, these in itertools.groupby(
            (link for link in links if link.shaped), key=lambda link: deployment.nodes[link.parent].machine
        )
    ]
    for place, (machine, via) in enumerate(ends):
        onward = to if place + 1 == len(ends) else f"{name}@{ends[place + 1][0]}"
        yield Crossing(f"{name}@{machine}" if place else name, via, onward, machine)


def _links_above(deployment: Deployment, node: str) -> Iterator[LinkPlan]:
    """The links from a node up to the cloud."""
    while (parent := deployment.nodes[node].parent) is not None:
        yield deployment.links[f"{node} -> {parent}"]
        node = parent


def _loads_models(deployment: Deployment, device: str) -> bool:
    return any(plan.deciders.get(device) == device for plan in deployment.workloads.values())
