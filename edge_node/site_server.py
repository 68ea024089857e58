"""An edge that answers the cloud as one client, by rounds of its own with the devices of its site.

Source: Liu et al. 2020, "Client-edge-cloud hierarchical federated learning" (HierFAVG): `edge_rounds` is its κ₂, and an
edge's model counts for all the examples below it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from edgebench.clock import now_ns
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import ReplyRecord, RoundRecord
from edgebench.federated.aggregate import weighted_mean
from edgebench.federated.answerer import Answerer, Asked
from edgebench.federated.content import (
    Array,
    Arrays,
    Config,
    Content,
    ContentError,
    Head,
    Metrics,
    Parcel,
    arrays_in,
    configs_in,
    metrics_in,
    pack,
    write_parcel,
)
from edgebench.federated.courier import Courier, Reply, Request
from edgebench.federated.guard import EXAMPLES, Guard
from edgebench.seeds import rng_for
from edgebench.topology.deployment import FederatedPlan

_log = logging.getLogger(__name__)
_OF_DEADLINE = 0.9
"""An edge's rounds together take at most this share of the cloud's deadline, so that its own answer is not late."""

LOSS = "train-loss"


class Site(NamedTuple):
    """The devices below an edge, and how their rounds are run."""

    edge: str
    plan: FederatedPlan
    seed: int

    @property
    def devices(self) -> tuple[str, ...]:
        """In the order of their node ids."""
        return self.plan.edges[self.edge]

    def cohort(self, group: str) -> tuple[str, ...]:
        """The devices of a round, drawn by its name."""
        count = max(1, round(self.plan.how.fraction * len(self.devices)))
        drawn = rng_for(self.seed, "site-cohort", self.edge, group).permutation(len(self.devices))[:count]
        return tuple(self.devices[index] for index in sorted(drawn))


class SiteServer:
    """One federation at one edge. The rounds run in a thread of their own, all else in the reactor's."""

    def __init__(
        self,
        reactor: Reactor,
        edge: str,
        plan: FederatedPlan,
        seed: int,
        work_dir: Path,
        *,
        to_device: Callable[[str, bytes], bool],
        to_cloud: Callable[[bytes], bool],
        site_backed_up: Callable[[], bool],
        uplink_backed_up: Callable[[], bool],
        on_round: Callable[[RoundRecord], None],
    ) -> None:
        """on_round: called from the rounds' thread."""
        self._reactor = reactor
        self._site = Site(edge, plan, seed)
        self._dir = work_dir
        self._on_round = on_round
        self._courier = Courier(reactor, to_device, work_dir, backed_up=site_backed_up)
        self._answerer = Answerer(
            reactor,
            to_cloud,
            work_dir,
            on_request=self._asked,
            on_cancelled=lambda asked: self._cancelled.add(asked.transfer_id),
            backed_up=uplink_backed_up,
        )
        self._cancelled: set[int] = set()
        self._requests: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._closing = False
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
        self._closing = True
        self._requests.put(None)
        self._courier.close()
        self._thread.join()
        self._answerer.close()

    def _asked(self, asked: Asked) -> None:
        self._requests.put(asked)

    def _run(self) -> None:
        number = 0
        while (asked := self._requests.get()) is not None and not self._closing:
            if asked.transfer_id in self._cancelled:
                self._cancelled.discard(asked.transfer_id)
                continue
            number += 1
            path = self._dir / f"{number}.reply"
            write_parcel(path, self._reply_to(asked))
            self._reactor.call_soon_threadsafe(partial(self._answerer.answer, asked, path))

    def _reply_to(self, asked: Asked) -> list[bytes | memoryview]:
        started_ns = now_ns()
        head, content, error = Head(message_id="", kind="train"), Content(), None
        try:
            request = asked.received.parcel()
            head = request.head
            content = run_rounds(request, self._site, self._courier, self._on_round)
        except (ContentError, SiteError) as wrong:
            error = str(wrong)
            _log.warning("the site's rounds for %s: %s", head.message_id, error)
        stamps: dict[str, int | float | str] = {
            "received_ns": asked.received_ns,
            "started_ns": started_ns,
            "finished_ns": now_ns(),
        }
        reply = Head(
            message_id=f"re-{head.message_id}",
            kind=head.kind,
            group=head.group,
            reply_to=head.message_id,
            error=error,
            meta=stamps,
        )
        return pack(reply, content)


class SiteError(Exception):
    """A site cannot answer; the message says why."""


def run_rounds(request: Parcel, site: Site, courier: Courier, on_round: Callable[[RoundRecord], None]) -> Content:
    """Learn at a site, for as many rounds as the plan says, and return what the cloud is answered.

    Raises SiteError where the request is none for an edge, or no round has had enough good replies.
    """
    if request.head.kind != "train":
        raise SiteError(f"an edge does not answer '{request.head.kind}'")
    arrays, config = dict(arrays_in(request.content)), configs_in(request.content)
    how = site.plan.how
    learned: list[tuple[Reply, Parcel]] = []
    why = ""
    for inner in range(1, how.edge_rounds + 1):
        round_ = _SiteRound(request.head, site, inner, arrays)
        good, record = round_.run(courier, config, how.deadline_s * _OF_DEADLINE / how.edge_rounds)
        if len(good) >= how.min_replies:
            weights = [float(_examples(parcel)) for _, parcel in good]
            arrays = weighted_mean((arrays_in(parcel.content) for _, parcel in good), weights)
            learned = good
        else:
            why = f"{len(good)} of {len(record.replies)} replies of the site are good, {how.min_replies} must be"
        on_round(_closed(record, why if len(good) < how.min_replies else None))
    if not learned:
        raise SiteError(why)
    examples = sum(_examples(parcel) for _, parcel in learned)
    losses = [(_examples(parcel), metrics_in(parcel.content).get(LOSS)) for _, parcel in learned]
    known = [(n, loss) for n, loss in losses if isinstance(loss, int | float)]
    metrics: dict[str, int | float | list[int | float]] = {EXAMPLES: examples, "one": 1}
    if known:
        metrics[LOSS] = sum(n * loss for n, loss in known) / sum(n for n, _ in known)
    return {"arrays": Arrays(arrays), "metrics": Metrics(metrics)}


class _SiteRound(NamedTuple):
    head: Head
    site: Site
    inner: int
    arrays: dict[str, Array]

    def run(
        self, courier: Courier, config: dict[str, object], deadline_s: float
    ) -> tuple[list[tuple[Reply, Parcel]], RoundRecord]:
        """The good replies, by node id, and the record of all."""
        started_ns = now_ns()
        # The first round of a site is the one that the cloud would have held itself: the same batches, the same models.
        group = self.head.group if self.inner == 1 else f"{self.head.group}.{self.inner}"
        cohort = self.site.cohort(group)
        requests = [self._request(device, group, config) for device in cohort]
        message_ids = courier.submit(requests)
        courier.wait(message_ids, deadline_s)
        replies = {reply.peer: reply for reply in courier.take(message_ids)}
        late = f"no reply within {deadline_s:g} s"
        courier.give_up([each for each in message_ids if each not in {r.message_id for r in replies.values()}], late)
        gathered_ns = now_ns()
        errors = {device: self._error(replies.get(device), late) for device in cohort}
        sound = [(replies[device], parcel) for device in cohort if (parcel := _sound(replies, errors, device))]
        guard = Guard(self.arrays, self.site.plan.how.max_update_ratio)
        for index, reason in guard.outliers([parcel for _, parcel in sound]).items():
            errors[sound[index][0].peer] = reason
        good = [(reply, parcel) for reply, parcel in sound if errors[reply.peer] is None]
        records = tuple(_record(device, replies.get(device), errors[device], started_ns) for device in cohort)
        number = config.get("server-round")
        record = RoundRecord(
            workload=self.site.plan.how.workload,
            server=self.site.edge,
            kind="train",
            number=number if isinstance(number, int) else 0,
            inner=self.inner,
            started_ns=started_ns,
            gathered_ns=gathered_ns,
            ended_ns=gathered_ns,
            replies=records,
        )
        return good, record

    def _request(self, device: str, group: str, config: dict[str, object]) -> Request:
        node = self.site.plan.clients.index(device) + 1
        head = Head(
            message_id=f"{self.head.message_id}/{self.inner}/{node}",
            kind="train",
            group=group,
            meta={**self.head.meta, "node": node},
        )
        return Request(device, head, pack(head, {"arrays": Arrays(self.arrays), "config": Config(config)}))

    def _error(self, reply: Reply | None, late: str) -> str | None:
        if reply is None:
            return late
        if reply.error is not None or reply.parcel is None:
            return reply.error or "no reply"
        return Guard(self.arrays, self.site.plan.how.max_update_ratio).check(reply.parcel)


def _sound(replies: dict[str, Reply], errors: dict[str, str | None], device: str) -> Parcel | None:
    return replies[device].parcel if errors[device] is None else None


def _examples(parcel: Parcel) -> int:
    examples = metrics_in(parcel.content)[EXAMPLES]
    assert isinstance(examples, int)
    return examples


def _closed(record: RoundRecord, skipped: str | None) -> RoundRecord:
    import msgspec

    return msgspec.structs.replace(record, ended_ns=now_ns(), skipped=skipped)


def _record(device: str, reply: Reply | None, error: str | None, started_ns: int) -> ReplyRecord:
    if reply is None:
        return ReplyRecord(device, started_ns, None, None, None, None, 0, 0, None, error)
    meta = {} if reply.parcel is None else reply.parcel.head.meta
    stamps = {
        name: value for name in ("received_ns", "started_ns", "finished_ns") if isinstance(value := meta.get(name), int)
    }
    examples = None if error is not None or reply.parcel is None else _examples(reply.parcel)
    return ReplyRecord(
        node=device,
        asked_ns=reply.submitted_ns,
        delivered_ns=stamps.get("received_ns", reply.delivered_ns),
        started_ns=stamps.get("started_ns"),
        finished_ns=stamps.get("finished_ns"),
        arrived_ns=reply.received_ns,
        bytes_down=reply.down_bytes,
        bytes_up=reply.up_bytes,
        examples=examples,
        error=error,
    )
