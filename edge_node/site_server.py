"""An edge that answers the cloud as one client, by rounds of its own with the devices of its site."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from edge_node.site_rounds import Asking, Site, SiteError, run_rounds
from edgebench.clock import NS_PER_S, now_ns
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import RoundRecord
from edgebench.federated.answerer import Answerer, Asked
from edgebench.federated.content import Bytes, Content, ContentError, Head, pack, reply_head, write_parcel
from edgebench.federated.courier import Courier
from edgebench.topology.deployment import FederatedPlan

_log = logging.getLogger(__name__)
_OF_DEADLINE = 0.9
"""An edge's rounds together take at most this share of the cloud's deadline, so that its own answer is not late."""


class SiteServer:
    """One federation at one edge. The rounds run in a thread of their own, all else in the reactor's."""

    def __init__(
        self,
        reactor: Reactor,
        edge: str,
        plan: FederatedPlan,
        seed: int,
        work_dir: Path,
        samples: Mapping[str, int],
        *,
        to_device: Callable[[str, bytes], bool],
        to_cloud: Callable[[bytes], bool],
        site_backed_up: Callable[[], bool],
        uplink_backed_up: Callable[[], bool],
        on_round: Callable[[RoundRecord], None],
    ) -> None:
        """samples: see `Site`. on_round: called from the rounds' thread."""
        self._reactor = reactor
        self._site = Site(edge, plan, seed, samples)
        self._dir = work_dir
        self._on_round = on_round
        self._courier = Courier(reactor, to_device, work_dir, backed_up=site_backed_up)
        self._answerer = Answerer(
            reactor,
            to_cloud,
            work_dir,
            on_request=self._asked,
            on_cancelled=self._cancelled,
            backed_up=uplink_backed_up,
        )
        self._open: dict[int, Asking] = {}
        self._requests: queue.SimpleQueue[tuple[Asked, Asking] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"rounds of {plan.how.workload}", daemon=True)
        self._thread.start()

    def from_cloud(self, datagram: bytes) -> None:
        """Take a datagram from the cloud."""
        self._answerer.feed(datagram)

    def from_device(self, device: str, datagram: bytes) -> None:
        """Take a datagram from a device."""
        self._courier.feed(device, datagram)

    def device_status(self, device: str, payload: bytes) -> None:
        """A device has come or gone."""
        self._courier.peer_status(device, online=payload == b"online")

    def site_is_up(self) -> None:
        """The site's connection is there, perhaps again."""
        self._courier.reconnected()

    def uplink_is_up(self) -> None:
        """The uplink is there, perhaps again."""
        self._answerer.reconnected()

    def close(self) -> None:
        """End the round that goes on, and the thread."""
        for asking in self._open.values():
            asking.call_off("the edge ends")
        self._requests.put(None)
        self._thread.join()
        self._courier.close()
        self._answerer.close()

    def _asked(self, asked: Asked) -> None:
        asking = self._open[asked.transfer_id] = Asking(self._courier)
        self._requests.put((asked, asking))

    def _cancelled(self, asked: Asked) -> None:
        self._open.pop(asked.transfer_id).call_off("the cloud has given it up")

    def _answered(self, asked: Asked, reply: Path) -> None:
        self._open.pop(asked.transfer_id, None)
        self._answerer.answer(asked, reply)

    def _run(self) -> None:
        number = 0
        while (request := self._requests.get()) is not None:
            asked, asking = request
            number += 1
            path = self._dir / f"{number}.reply"
            write_parcel(path, self._reply_to(asked, asking))
            self._reactor.call_soon_threadsafe(partial(self._answered, asked, path))

    def _reply_to(self, asked: Asked, asking: Asking) -> list[Bytes]:
        started_ns = now_ns()
        head, content, error = Head(message_id="", kind="train"), Content(), None
        until_ns = asked.received_ns + int(_OF_DEADLINE * self._site.plan.how.deadline_s * NS_PER_S)
        try:
            request = asked.received.parcel()
            head = request.head
            content = run_rounds(request, self._site, asking, until_ns, self._on_round)
        except (ContentError, SiteError, FileNotFoundError) as wrong:  # no file: called off meanwhile
            error = str(wrong)
            _log.warning("the site's rounds for '%s': %s", head.message_id, error)
        stamps = {"received_ns": asked.received_ns, "started_ns": started_ns, "finished_ns": now_ns()}
        return pack(reply_head(head, error, stamps), content)
