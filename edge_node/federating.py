"""An edge's part in federations: it passes notices on between the cloud and its devices, or runs rounds of its own.

What messages carry goes by HTTP, past an edge that passes notices on; one that aggregates serves it to its site.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgebench.errors import FabricError
from edgebench.fabric import topics
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.records import Rounded
from edgebench.fabric.transfer_threads import TransferThreads

if TYPE_CHECKING:
    from edge_node.site_files import SiteFiles
    from edge_node.site_server import SiteServer


class FromCloud(Protocol):
    """Who takes the notices of the cloud to clients here."""

    def from_cloud(self, payload: bytes) -> None:
        """A notice of the cloud has arrived."""
        ...


class FromDevice(Protocol):
    """Who takes the notices of one device, as a client of a federation."""

    def from_device(self, payload: bytes) -> None:
        """A notice of the device has arrived."""
        ...

    def device_status(self, payload: bytes) -> None:
        """The device is there, or gone."""
        ...


class _Passage:
    """Between the cloud and a device, without looking into it: what gets lost is asked again by who began it."""

    def __init__(self, run_id: str, hop: tuple[str, str, str], site: Connection, uplink: Connection) -> None:
        """hop: workload, edge, device."""
        workload, _, device = hop
        self._site = site
        self._uplink = uplink
        self._up = topics.fl_up(run_id, *hop)
        self._down = topics.fl_site_down(run_id, workload, device)
        self._status = topics.fl_status(run_id, *hop)

    def from_cloud(self, payload: bytes) -> None:
        self._site.publish(self._down, payload, qos=0)

    def from_device(self, payload: bytes) -> None:
        self._uplink.publish(self._up, payload, qos=0)

    def device_status(self, payload: bytes) -> None:
        self._uplink.publish(self._status, payload, qos=1, retain=True)


class _Served:
    """A device that this edge's own server asks."""

    def __init__(self, server: SiteServer, device: str) -> None:
        self._server = server
        self._device = device

    def from_device(self, payload: bytes) -> None:
        self._server.from_device(self._device, payload)

    def device_status(self, payload: bytes) -> None:
        self._server.device_status(self._device, payload)


class SiteFederations:
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
        self._from_device: dict[str, FromDevice] = {}
        self._from_cloud: dict[str, FromCloud] = {}
        self._status: dict[str, list[FromDevice]] = {}
        self._servers: list[SiteServer] = []
        self._files: SiteFiles | None = None
        self._transfers = TransferThreads(process.token)
        for workload, plan in process.plan.federated.items():
            devices = plan.edges.get(edge, ())
            if not devices or not plan.over_mqtt:
                continue
            if plan.edges_aggregate:
                self._serve(workload, devices)
            else:
                self._pass_on(workload, devices)
            heard = devices if one_broker else [topics.ANY]
            site.subscribe([topics.fl_site_up(self._run_id, workload, device) for device in heard], 0)
        late = [device for device, spans in process.plan.presence.items() if spans[0].joins is not None]
        for device in late:
            for taker in self._status.get(topics.status(self._run_id, device), ()):
                taker.device_status(b"offline")  # it says nothing itself yet
        if self._status:
            site.subscribe([topics.status(self._run_id, topics.ANY)], 1)

    def takes_from_site(self, topic: str, payload: bytes) -> bool:
        """Take a message of a device, if it is of a federation."""
        known = self._from_device.get(topic)
        if known is not None:
            known.from_device(payload)
            return True
        for each in self._status.get(topic, ()):
            each.device_status(payload)
        return topic in self._status

    def takes_from_cloud(self, topic: str, payload: bytes) -> bool:
        """Take a message of the cloud, if it is of a federation."""
        known = self._from_cloud.get(topic)
        if known is not None:
            known.from_cloud(payload)
        return known is not None

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
        self._transfers.close()
        if self._files is not None:
            self._files.close()

    def _pass_on(self, workload: str, devices: tuple[str, ...]) -> None:
        for device in devices:
            hop = (workload, self._edge, device)
            passage = _Passage(self._run_id, hop, self._site, self._uplink)
            self._from_cloud[topics.fl_down(self._run_id, *hop)] = passage
            self._hear(workload, device, passage)
        self._uplink.subscribe([topics.fl_down(self._run_id, workload, self._edge, topics.ANY)], 0)

    def _hear(self, workload: str, device: str, taker: FromDevice) -> None:
        self._from_device[topics.fl_site_up(self._run_id, workload, device)] = taker
        self._status.setdefault(topics.status(self._run_id, device), []).append(taker)

    def _serve(self, workload: str, devices: tuple[str, ...]) -> None:
        plan = self._process.plan
        hop = (self._run_id, workload, self._edge, self._edge)
        # Only here: an edge that aggregates nothing has no need of their memory.
        from edge_node.site_files import SiteFiles
        from edge_node.site_rounds import Site
        from edge_node.site_server import SiteServer

        directory = self._work_dir / "federations" / workload
        directory.mkdir(parents=True, exist_ok=True)
        if self._files is None:
            listening = self._process.listening
            if listening is None:
                raise FabricError(f"{self._edge} aggregates, and has no socket for its devices (give it --listen-fd)")
            self._files = SiteFiles(listening, plan.callers, self._work_dir / "messages", self._process.refusals)
        server = SiteServer(
            self._process.reactor,
            Site(self._edge, plan.federated[workload], plan.seed, self._samples.get(workload, {})),
            directory,
            to_device=lambda device, notice: self._site.publish(
                topics.fl_site_down(self._run_id, workload, device), notice, qos=0
            ),
            to_cloud=partial(self._uplink.publish, topics.fl_up(*hop), qos=0),
            files=self._files.messages,
            transfers=self._transfers,
            cloud_files=plan.endpoints[self._edge].models,
            on_round=lambda record: self._process.write(Rounded(record)),
            by_turns=self._edge in plan.by_turns,
        )
        self._servers.append(server)
        self._from_cloud[topics.fl_down(*hop)] = server
        self._uplink.subscribe([topics.fl_down(*hop)], 0)
        for device in devices:
            self._hear(workload, device, _Served(server, device))
