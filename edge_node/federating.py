"""An edge's part in federations: it passes messages on between the cloud and its devices, or runs rounds of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from edge_node.site_server import SiteServer
from edgebench.fabric import topics
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.records import Rounded

Take = Callable[[bytes], object]


class Federations:
    """All federations that have clients at this edge's site. Everything runs in the reactor's thread, unless it says
    otherwise."""

    def __init__(
        self,
        process: NodeProcess,
        edge: str,
        site: Connection,
        uplink: Connection,
        work_dir: Path,
        samples: Mapping[str, Mapping[str, int]],
        *,
        one_broker: bool,
    ) -> None:
        """Subscribes what it needs on both connections, which are not started yet.

        samples: by workload that this edge aggregates, how many examples each device has, where that is known.
        one_broker: other edges' messages pass at the same broker, so devices are named one by one.
        """
        self._process = process
        self._run_id = process.plan.run_id
        self._edge = edge
        self._site = site
        self._uplink = uplink
        self._work_dir = work_dir
        self._samples = samples
        self._one_broker = one_broker
        self._from_site: dict[str, Take] = {}
        self._from_cloud: dict[str, Take] = {}
        self._present: dict[str, list[Take]] = {}
        self._servers: list[SiteServer] = []
        for workload, plan in process.plan.federated.items():
            devices = plan.edges.get(edge, ())
            if not devices or plan.how.engine != "mqtt":
                continue
            if "edge" in plan.how.aggregate:
                self._serve(workload, devices)
            else:
                self._pass_on(workload, devices)
            heard = devices if one_broker else [topics.ANY]
            site.subscribe([topics.fl_site_up(self._run_id, workload, device) for device in heard], 0)
        if self._present:
            site.subscribe([topics.status(self._run_id, topics.ANY)], 1)

    def takes_from_site(self, topic: str, payload: bytes) -> bool:
        """Take a message of a device, if it is of a federation."""
        take = self._from_site.get(topic)
        if take is not None:
            take(payload)
            return True
        takers = self._present.get(topic)
        if takers is None:
            return False
        for each in takers:
            each(payload)
        return True

    def takes_from_cloud(self, topic: str, payload: bytes) -> bool:
        """Take a message of the cloud, if it is of a federation."""
        take = self._from_cloud.get(topic)
        if take is None:
            return False
        take(payload)
        return True

    def site_is_up(self) -> None:
        """The site's connection is there, perhaps again."""
        for server in self._servers:
            server.site_is_up()

    def uplink_is_up(self) -> None:
        """The uplink is there, perhaps again."""
        for server in self._servers:
            server.uplink_is_up()

    def close(self) -> None:
        """End what goes on."""
        for server in self._servers:
            server.close()

    def _pass_on(self, workload: str, devices: tuple[str, ...]) -> None:
        """Between the cloud and each device, without looking into it: what gets lost is sent again by who began it."""
        for device in devices:
            hop = (self._run_id, workload, self._edge, device)
            site_up = topics.fl_site_up(self._run_id, workload, device)
            site_down = topics.fl_site_down(self._run_id, workload, device)
            self._from_site[site_up] = partial(self._uplink.publish, topics.fl_up(*hop), qos=0)
            self._from_cloud[topics.fl_down(*hop)] = partial(self._site.publish, site_down, qos=0)
            status = partial(self._uplink.publish, topics.fl_status(*hop), qos=1, retain=True)
            self._present.setdefault(topics.status(self._run_id, device), []).append(status)
        self._uplink.subscribe([topics.fl_down(self._run_id, workload, self._edge, topics.ANY)], 0)

    def _serve(self, workload: str, devices: tuple[str, ...]) -> None:
        hop = (self._run_id, workload, self._edge, self._edge)
        directory = self._work_dir / "federations" / workload
        directory.mkdir(parents=True, exist_ok=True)
        server = SiteServer(
            self._process.reactor,
            self._edge,
            self._process.plan.federated[workload],
            self._process.plan.seed,
            directory,
            self._samples.get(workload, {}),
            to_device=lambda device, datagram: self._site.publish(
                topics.fl_site_down(self._run_id, workload, device), datagram, qos=0
            ),
            to_cloud=partial(self._uplink.publish, topics.fl_up(*hop), qos=0),
            site_backed_up=lambda: self._site.backed_up,
            uplink_backed_up=lambda: self._uplink.backed_up,
            on_round=lambda record: self._process.write(Rounded(record)),
        )
        self._servers.append(server)
        self._from_cloud[topics.fl_down(*hop)] = server.from_cloud
        self._uplink.subscribe([topics.fl_down(*hop)], 0)
        for device in devices:
            self._from_site[topics.fl_site_up(self._run_id, workload, device)] = partial(server.from_device, device)
            present = self._present.setdefault(topics.status(self._run_id, device), [])
            present.append(partial(server.device_status, device))
