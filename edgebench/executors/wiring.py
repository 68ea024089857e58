"""Who connects to what: the routes across shaped links, and where each node then finds its brokers and its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from edgebench.fabric.endpoints import BrokerUrl, parse_broker_url
from edgebench.fabric.relay import Route
from edgebench.fabric.slices import Endpoints
from edgebench.topology.deployment import Deployment, NodePlan

Address = tuple[str, int]


class Wiring(NamedTuple):
    """brokers: edge or cloud -> the URL of its broker. one_broker: they are all the same. control_url: of the cloud."""

    deployment: Deployment
    brokers: Mapping[str, str]
    one_broker: bool
    control_url: str

    def routes(self) -> list[Route]:
        """What has to cross shaped links: every node's MQTT connection upwards, and model downloads."""
        routes = []
        for node in self.deployment.nodes.values():
            if node.parent is None:
                continue
            for parent in _sites(node):
                if self.deployment.links[f"{node.name} -> {parent}"].shaped:
                    broker = parse_broker_url(self.brokers[parent])
                    name, link = _mqtt_route(node.name, parent), f"{node.name} -> {parent}"
                    routes.append(Route(name, (link,), broker.host, broker.port, "opaque" if broker.tls else "mqtt"))
            via = self._shaped(node.name, hops=2) if node.tier == "edge" or self._loads_models(node.name) else ()
            if via:
                control = urlsplit(self.control_url)
                routes.append(Route(_http_route(node.name), via, control.hostname or "", control.port or 0, "http"))
        return routes

    def endpoints(self, address: Callable[[str], Address]) -> dict[str, Endpoints]:
        """Where each node finds things. address: where a route of `routes` listens."""
        routed = {route.name for route in self.routes()}

        def mqtt(node: str, parent: str) -> str:
            broker = parse_broker_url(self.brokers[parent])
            if _mqtt_route(node, parent) not in routed:
                return broker.url
            host, port = address(_mqtt_route(node, parent))
            return BrokerUrl(host, port, broker.username, broker.password, broker.tls).url

        def models(node: str) -> str:
            if _http_route(node) not in routed:
                return self.control_url
            host, port = address(_http_route(node))
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

    def _shaped(self, node: str, hops: int) -> tuple[str, ...]:
        """The shaped ones among the first `hops` links from a node upwards."""
        names = []
        for _ in range(hops):
            parent = self.deployment.nodes[node].parent
            if parent is None:
                break
            link = self.deployment.links[f"{node} -> {parent}"]
            if link.shaped:
                names.append(link.name)
            node = parent
        return tuple(names)

    def _loads_models(self, device: str) -> bool:
        return any(plan.deciders.get(device) == device for plan in self.deployment.workloads.values())


def _sites(node: NodePlan) -> tuple[str, ...]:
    """The nodes above whose brokers it connects to, at one time or another."""
    assert node.parent is not None
    return (node.parent, *node.elsewhere) if node.tier == "device" else (node.parent,)


def _mqtt_route(node: str, parent: str) -> str:
    return f"mqtt:{node}:{parent}"


def _http_route(node: str) -> str:
    return f"http:{node}"
