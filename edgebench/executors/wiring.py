"""Who connects to what: the ways across shaped links, and where each node then finds its brokers and its files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol

from edgebench.fabric.endpoints import BrokerUrl, HttpUrl
from edgebench.fabric.listening import LOOPBACK
from edgebench.fabric.relay import Route
from edgebench.fabric.slices import Endpoints
from edgebench.fabric.tls import Trust, tls_name
from edgebench.topology.deployment import HERE, Deployment, Frozen, LinkPlan, NodePlan


class Crossing(Frozen, frozen=True):
    """A way across shaped links, the links `via` from the child upwards.

    name, to: addresses, at which a relay listens and to which it goes on (see `broker_address`, `server_address`);
    `to` may be another crossing. machine: where the relay stands, which is where all who share these links meet: at
    the parents' end of them.
    """

    name: str
    via: tuple[str, ...]
    to: str
    machine: str = HERE


def crossings(deployment: Deployment) -> tuple[Crossing, ...]:
    """What has to cross shaped links: every node's MQTT connections upwards, and files that it fetches and hands in."""
    found: list[Crossing] = []
    for node in deployment.nodes.values():
        if node.board is not None:  # it goes straight to its broker
            continue
        for parent in node.sites:
            link = deployment.links[f"{node.name} -> {parent}"]
            found += _across(deployment, uplink_address(node.name, parent), [link], broker_address(parent))
        for server in sorted(_served_by(deployment, node)):
            links = list(_links_below(deployment, node.name, server))
            found += _across(deployment, files_address(node.name, server), links, server_address(server))
    return tuple(found)


def aggregates(deployment: Deployment, node: str) -> bool:
    """Whether a node is an edge that serves what the federated messages of its site carry."""
    return any(plan.edges_aggregate and node in plan.edges for plan in deployment.federated.values())


def fetches_models(deployment: Deployment, node: NodePlan) -> bool:
    """Whether it takes models from the cloud, to decide with or to pass on."""
    decides = any(plan.has_model(node.name) for plan in deployment.workloads.values())
    return node.tier == "edge" or decides


def broker_address(site: str) -> str:
    """The broker of an edge's site, or of the cloud."""
    return f"mqtt:{site}"


def server_address(server: str) -> str:
    """The cloud's control plane, or what an edge that aggregates serves by HTTP."""
    return f"http:{server}"


def uplink_address(node: str, parent: str) -> str:
    """Where a node reaches the broker of a parent across shaped links."""
    return f"mqtt:{node}:{parent}"


def files_address(node: str, server: str) -> str:
    """Where a node reaches the files of the cloud, or of its edge, across shaped links."""
    return f"http:{node}:{server}"


class Sited(NamedTuple):
    """Where an address is: on a machine, at a port."""

    machine: str
    port: int


class Network(Protocol):
    """How the machines of a run reach each other.

    passwords: by node, and by device that plays one, what it shows brokers of the run; empty where nobody is asked,
    since all is on loopback and plain. Else all speak TLS, by the names of machines, and `trust` is this one's.
    """

    passwords: Mapping[str, str]
    trust: Trust | None

    def host(self, machine: str, seen_from: str) -> str:
        """Where what listens on a machine is reached from another, or from itself."""


class Loopback:
    """Of the one machine where all of a run is."""

    passwords: Mapping[str, str] = {}
    trust: Trust | None = None

    def host(self, machine: str, seen_from: str) -> str:
        """See `Network`."""
        return LOOPBACK


class Wiring(NamedTuple):
    """crossings: of the plan. sited: address -> where it is, of all that listen. external: the user's own broker, which
    serves all."""

    deployment: Deployment
    crossings: tuple[Crossing, ...]
    sited: Mapping[str, Sited]
    network: Network
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
        return self.server_url(self.deployment.cloud, seen_from)

    def server_url(self, server: str, seen_from: str) -> HttpUrl:
        """Where what the cloud, or an edge that aggregates, serves is reached directly."""
        return self._http(server_address(server), server, seen_from)

    def endpoints(self) -> dict[str, Endpoints]:
        """Where each node finds things."""
        endpoints = {}
        for node in self.deployment.nodes.values():
            if node.board is not None:
                continue
            if node.tier == "device" and node.parent is not None:
                broker, uplink = self._mqtt(node.name, node.parent), None
            elif node.parent is not None:
                broker, uplink = self._mqtt(node.name, node.name), self._mqtt(node.name, node.parent)
            else:
                broker, uplink = self._mqtt(node.name, node.name), None
            elsewhere = {edge: self._mqtt(node.name, edge) for edge in node.elsewhere if node.tier == "device"}
            site = None
            if node.parent is not None and aggregates(self.deployment, node.parent):
                site = self._files(node.name, node.parent)
            models, one_broker = self._files(node.name, self.deployment.cloud), self.external is not None
            with_cloud = node.machine == self._home(self.deployment.cloud)
            endpoints[node.name] = Endpoints(broker, models, uplink, one_broker, elsewhere, with_cloud, site)
        return endpoints

    def _mqtt(self, node: str, site: str) -> str:
        """Where a node finds the broker of a site, be it its own."""
        way = uplink_address(node, site)
        address = way if way in self.sited else broker_address(site)
        host, port = self._reached(address, self._home(node))
        if self.external is not None:
            # Whoever stands between, the certificate is the broker's.
            name = self.external.host if self.external.tls and host != self.external.host else None
            return replace(self.external, host=host, port=port, server_name=name).url
        if not self.network.passwords:
            return BrokerUrl(host, port).url
        return BrokerUrl(host, port, node, self.network.passwords[node], True, tls_name(self._home(site))).url

    def _files(self, node: str, server: str) -> str:
        way = files_address(node, server)
        return self._http(way if way in self.sited else server_address(server), server, self._home(node)).url

    def _http(self, address: str, server: str, seen_from: str) -> HttpUrl:
        """Where a server is reached by an address."""
        secured = bool(self.network.passwords)
        name = tls_name(self._home(server)) if secured else None
        return HttpUrl(*self._reached(address, seen_from), secured, name)

    def _reached(self, address: str, seen_from: str) -> tuple[str, int]:
        if address not in self.sited:
            assert self.external is not None
            return self.external.host, self.external.port
        machine, port = self.sited[address]
        return self.network.host(machine, seen_from), port

    def _protocol(self, crossing: Crossing) -> Literal["mqtt", "http", "opaque"]:
        is_http = crossing.name.startswith("http:")
        if self.network.passwords or (self.external is not None and self.external.tls and not is_http):
            return "opaque"
        return "http" if is_http else "mqtt"

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


def _served_by(deployment: Deployment, node: NodePlan) -> set[str]:
    """Whose files a node fetches across links: the cloud's for models, and those of whoever asks it to learn."""
    served = {deployment.cloud} if fetches_models(deployment, node) else set()
    for plan in deployment.federated.values():
        if plan.over_mqtt and node.name in plan.asked:
            served.add(deployment.cloud)
        elif plan.edges_aggregate and node.name in plan.clients:
            served.add(str(node.parent))
    return served


def _links_below(deployment: Deployment, node: str, server: str) -> Iterator[LinkPlan]:
    """The links from a node up to one above it."""
    while node != server:
        parent = str(deployment.nodes[node].parent)
        yield deployment.links[f"{node} -> {parent}"]
        node = parent
