"""Who connects to what: the routes across shaped links, and where each node then finds its brokers and its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from edgebench.fabric.endpoints import BrokerUrl, parse_broker_url
from edgebench.fabric.relay import Route
from edgebench.fabric.slices import Endpoints
from edgebench.topology.deployment import Deployment, Frozen

Address = tuple[str, int]


class Crossing(Frozen, frozen=True):
    """A way across shaped links, the links `via` from the child upwards. name, to: addresses, at which the relay
    listens and to which it goes on (see `broker_address`, `control_address`)."""

    name: str
    via: tuple[str, ...]
    to: str


def crossings(deployment: Deployment) -> tuple[Crossing, ...]:
    """What has to cross shaped links: every node's MQTT connections upwards, and model downloads."""
    found = []
    for node in deployment.nodes.values():
        for parent in node.sites:
            link = deployment.links[f"{node.name} -> {parent}"]
            if link.shaped:
                found.append(Crossing(uplink_address(node.name, parent), (link.name,), broker_address(parent)))
        via = (
            _shaped_above(deployment, node.name) if node.tier == "edge" or _loads_models(deployment, node.name) else ()
        )
        if via:
            found.append(Crossing(models_address(node.name), via, control_address(deployment.cloud)))
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


class Wiring(NamedTuple):
    """crossings: of the plan. brokers: edge or cloud -> the URL of its broker. one_broker: they are all the same.
    control_url: of the cloud."""

    deployment: Deployment
    crossings: tuple[Crossing, ...]
    brokers: Mapping[str, str]
    one_broker: bool
    control_url: str

    def routes(self) -> list[Route]:
        """What the relay has to be told of each crossing."""
        brokers = {broker_address(site): parse_broker_url(url) for site, url in self.brokers.items()}
        control = urlsplit(self.control_url)
        routes = []
        for crossing in self.crossings:
            if crossing.to in brokers:
                broker = brokers[crossing.to]
                protocol: Literal["opaque", "mqtt"] = "opaque" if broker.tls else "mqtt"
                routes.append(Route(crossing.name, crossing.via, broker.host, broker.port, protocol))
            else:
                routes.append(Route(crossing.name, crossing.via, control.hostname or "", control.port or 0, "http"))
        return routes

    def endpoints(self, address: Callable[[str], Address]) -> dict[str, Endpoints]:
        """Where each node finds things. address: where a crossing begins."""
        routed = {crossing.name for crossing in self.crossings}

        def mqtt(node: str, parent: str) -> str:
            broker = parse_broker_url(self.brokers[parent])
            if uplink_address(node, parent) not in routed:
                return broker.url
            host, port = address(uplink_address(node, parent))
            return BrokerUrl(host, port, broker.username, broker.password, broker.tls).url

        def models(node: str) -> str:
            if models_address(node) not in routed:
                return self.control_url
            host, port = address(models_address(node))
            return f"http://{host}:{port}"

        endpoints = {}
        for node in self.deployment.nodes.values():
            if node.tier == "device" and node.parent is not None:
                broker, uplink = mqtt(node.name, node.parent), None
            elif node.parent is not None:
                broker, uplink = self.brokers[node.name], mqtt(node.name, node.parent)
            else:
                broker, uplink = self.brokers[node.name], None
            elsewhere = {edge: mqtt(node.name, edge) for edge in node.elsewhere} if node.tier == "device" else {}
            endpoints[node.name] = Endpoints(broker, models(node.name), uplink, self.one_broker, elsewhere)
        return endpoints


def _shaped_above(deployment: Deployment, node: str) -> tuple[str, ...]:
    """The shaped links from a node up to the cloud."""
    names = []
    while (parent := deployment.nodes[node].parent) is not None:
        link = deployment.links[f"{node} -> {parent}"]
        if link.shaped:
            names.append(link.name)
        node = parent
    return tuple(names)


def _loads_models(deployment: Deployment, device: str) -> bool:
    return any(plan.deciders.get(device) == device for plan in deployment.workloads.values())
