"""An edge that answers the cloud as one client, by rounds of its own with the devices of its site."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_node.site_rounds import Asking, Site, SiteError, run_rounds
from edgebench.clock import NS_PER_S, now_ns
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import RoundRecord
from edgebench.fabric.transfer_threads import TransferThreads
from edgebench.federated.cohort import OF_DEADLINE
from edgebench.federated.content import Bytes, Content, ContentError, pack, reply_head, write_parcel
from edgebench.federated.message_client import ContentFiles, MessageClient, Received
from edgebench.federated.message_files import MessageFiles
from edgebench.federated.message_server import MessageServer

_log = logging.getLogger(__name__)


class SiteServer:
    """One federation at one edge. The rounds run in a thread of their own, all else in the reactor's."""

    def __init__(
        self,
        reactor: Reactor,
        site: Site,
        directory: Path,
        *,
        to_device: Callable[[str, bytes], bool],
        to_cloud: Callable[[bytes], bool],
        files: MessageFiles,
        transfers: TransferThreads,
        cloud_files: str,
        on_round: Callable[[RoundRecord], None],
        by_turns: bool = False,
    ) -> None:
        """to_device(device, notice), to_cloud(notice). files: what the site is served. transfers, cloud_files: how, and
        at which URL, the cloud's are fetched. on_round: called from the rounds' thread. by_turns: see
        `MessageClient`."""
        self._reactor = reactor
        self._site = site
        self._dir = directory
        self._on_round = on_round
        self._devices = MessageServer(reactor, to_device, files, directory)
        self._contents = ContentFiles(directory)
        self._cloud = MessageClient(
            reactor,
            to_cloud,
            transfers,
            cloud_files,
            self._contents,
            on_request=self._asked,
            on_cancelled=self._cancelled,
            by_turns=by_turns,
        )
        self._open: dict[str, Asking] = {}
        self._requests: queue.SimpleQueue[tuple[Received, Asking] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"rounds of {site.plan.how.workload}", daemon=True)
        self._thread.start()

    def from_cloud(self, payload: bytes) -> None:
        """Take a notice of the cloud."""
        self._cloud.feed(payload)

    def from_device(self, device: str, payload: bytes) -> None:
        """Take a notice of a device."""
        self._devices.feed(device, payload)

    def device_status(self, device: str, payload: bytes) -> None:
        """A device has come or gone."""
        self._devices.client_status(device, online=payload == b"online")

    def site_is_up(self) -> None:
        """The site's connection is there, perhaps again."""
        self._devices.reconnected()

    def uplink_is_up(self) -> None:
        """The uplink is there, perhaps again."""
        self._cloud.reconnected()

    def close(self) -> None:
        """End the round that goes on, and the thread."""
        for asking in self._open.values():
            asking.call_off("the edge ends")
        self._requests.put(None)
        self._thread.join()
        self._devices.close()
        self._cloud.close()
        self._contents.close()

    def _asked(self, received: Received) -> None:
        asking = self._open[received.message_id] = Asking(self._devices)
        self._requests.put((received, asking))

    def _cancelled(self, received: Received) -> None:
        self._open.pop(received.message_id).call_off("the cloud has given it up")

    def _answered(self, received: Received, reply: Path) -> None:
        self._open.pop(received.message_id, None)
        self._cloud.answer(received, reply)

    def _run(self) -> None:
        number = 0
        while (request := self._requests.get()) is not None:
            received, asking = request
            number += 1
            path = self._dir / f"{number}.reply"
            write_parcel(path, self._reply_to(received, asking))
            self._reactor.call_soon_threadsafe(partial(self._answered, received, path))

    def _reply_to(self, received: Received, asking: Asking) -> list[Bytes]:
        started_ns = now_ns()
        content, error = Content(), None
        until_ns = received.received_ns + int(OF_DEADLINE * self._site.plan.how.deadline_s * NS_PER_S)
        try:
            content = run_rounds(received.parcel(), self._site, asking, until_ns, self._on_round)
        except (ContentError, SiteError, FileNotFoundError) as wrong:  # no file: called off meanwhile
            error = str(wrong)
            _log.warning("the site's rounds for '%s': %s", received.message_id, error)
        stamps = {"received_ns": received.received_ns, "started_ns": started_ns, "finished_ns": now_ns()}
        return pack(reply_head(received.head, error, stamps), content)
