"""The rounds that an edge holds with the devices of its site, to answer the cloud as one client.

Source: Liu et al. 2020, "Client-edge-cloud hierarchical federated learning" (HierFAVG): `edge_rounds` is its κ₂, and an
edge's model counts for all the examples below it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from edgebench.clock import NS_PER_S, now_ns
from edgebench.fabric.records import ReplyRecord, RoundRecord
from edgebench.federated.aggregate import weighted_mean
from edgebench.federated.cohort import inner_group, site_cohort
from edgebench.federated.content import (
    Array,
    Arrays,
    Config,
    Content,
    Head,
    Metrics,
    Parcel,
    arrays_in,
    configs_in,
    metrics_in,
    pack,
    stamps_in,
)
from edgebench.federated.message_server import MessageServer
from edgebench.federated.reply_checks import EXAMPLES, check_round
from edgebench.federated.requests import Reply, Request
from edgebench.topology.deployment import FederatedPlan

LOSS = "train-loss"


class SiteError(Exception):
    """A site cannot answer; the message says why."""


class Site(NamedTuple):
    """The devices below an edge, and how their rounds are run.

    samples: how many examples each device has, where that is known; who claims more is refused.
    """

    edge: str
    plan: FederatedPlan
    seed: int
    samples: Mapping[str, int]

    @property
    def devices(self) -> tuple[str, ...]:
        """In the order of their node ids."""
        return self.plan.edges[self.edge]

    def cohort(self, group: str) -> tuple[str, ...]:
        """The devices of a round, drawn by its name."""
        return site_cohort(self.devices, self.plan.how.fraction, self.seed, self.edge, group)


class Asking:
    """What the devices are asked on behalf of one request of the cloud, until that is called off (from any thread)."""

    def __init__(self, devices: MessageServer) -> None:
        self.called_off: str | None = None
        self._devices = devices
        self._lock = threading.Lock()
        self._open: list[str] = []
        self._given_up: list[Reply] = []

    def replies(self, requests: Sequence[Request], timeout_s: float) -> dict[str, Reply]:
        """What has become of each request when all have ended, time is up, or it is called off; by device."""
        message_ids = self._devices.submit(requests)
        with self._lock:
            self._open = message_ids
            is_over = self.called_off is not None
        self._devices.wait(message_ids, 0.0 if is_over else timeout_s)
        with self._lock:
            self._open = []
            ended, self._given_up = self._given_up, []
        ended += self._devices.take(message_ids)
        late = set(message_ids).difference(reply.message_id for reply in ended)
        ended += self._devices.give_up(late, self.called_off or f"no reply within {timeout_s:.3g} s")
        return {reply.client: reply for reply in ended}

    def call_off(self, reason: str) -> None:
        """Ask no more, and wait no more for what was asked."""
        with self._lock:
            self.called_off = reason
            self._given_up += self._devices.give_up(self._open, reason)


def run_rounds(
    request: Parcel, site: Site, asking: Asking, until_ns: int, on_round: Callable[[RoundRecord], None]
) -> Content:
    """Learn at a site, for as many rounds as the plan says, and return what the cloud is answered.

    Each round has its share of the time that is left until `until_ns`. Raises SiteError where the request is none for
    an edge, no round has had enough good replies, or it is called off meanwhile.
    """
    if request.head.kind != "train":
        raise SiteError(f"an edge does not answer '{request.head.kind}'")
    how = site.plan.how
    arrays = dict(arrays_in(request.content))
    learned: list[Parcel] = []
    why = "the cloud's deadline leaves no time for a round"
    for inner in range(1, how.edge_rounds + 1):
        if asking.called_off is not None:
            raise SiteError(asking.called_off)
        left_s = (until_ns - now_ns()) / NS_PER_S
        if left_s <= 0:
            break
        good, record = _held(request, arrays, site, inner, asking, left_s / (how.edge_rounds - inner + 1))
        skipped = None
        if len(good) >= how.min_replies:
            weights = [float(_examples(reply)) for reply in good]
            arrays = weighted_mean((arrays_in(reply.content) for reply in good), weights)
            learned = good
        else:
            asked = len(record.replies)
            skipped = why = f"{len(good)} of {asked} replies of the site are good, {how.min_replies} must be"
        on_round(msgspec.structs.replace(record, ended_ns=now_ns(), skipped=skipped))
    if not learned:
        raise SiteError(why)
    return {"arrays": Arrays(arrays), "metrics": Metrics(_metrics(learned))}


def _held(
    request: Parcel, arrays: Mapping[str, Array], site: Site, inner: int, asking: Asking, timeout_s: float
) -> tuple[list[Parcel], RoundRecord]:
    """Hold a round; its good replies, by node id, and the record of all."""
    started_ns = now_ns()
    group = inner_group(request.head.group, inner)
    cohort = site.cohort(group)
    config = configs_in(request.content)
    content: Content = {"arrays": Arrays(dict(arrays)), "config": Config(config)}
    packed = pack(request.head, content)
    requests = []
    for device in cohort:
        node = site.plan.clients.index(device) + 1
        message_id = f"{request.head.message_id}.{inner}.{node}"
        head = Head(message_id=message_id, kind="train", group=group, meta={**request.head.meta, "node": node})
        requests.append(Request(device, head, packed))
    replies = asking.replies(requests, timeout_s)
    gathered_ns = now_ns()
    errors = _errors(replies, arrays, site)
    good = [parcel for device in cohort if device not in errors and (parcel := replies[device].parcel) is not None]
    number = config.get("server-round")
    record = RoundRecord(
        workload=site.plan.how.workload,
        server=site.edge,
        kind="train",
        number=number if isinstance(number, int) else 0,
        inner=inner,
        started_ns=started_ns,
        gathered_ns=gathered_ns,
        ended_ns=gathered_ns,
        replies=tuple(_record(replies[device], errors.get(device)) for device in cohort),
    )
    return good, record


def _errors(replies: Mapping[str, Reply], sent: Mapping[str, Array], site: Site) -> dict[str, str]:
    """Why replies do not count, by device."""
    errors: dict[str, str] = {}
    fit: dict[str, Parcel] = {}
    for device, reply in replies.items():
        if reply.error is not None or reply.parcel is None:
            errors[device] = reply.error or "no reply"
        else:
            fit[device] = reply.parcel
    devices = list(fit)
    wrong = check_round(
        sent,
        list(fit.values()),
        site.plan.how.max_update_ratio,
        most_examples=[site.samples.get(device) for device in devices],
    )
    return errors | {devices[index]: reason for index, reason in wrong.items()}


def _metrics(learned: Sequence[Parcel]) -> dict[str, int | float | list[int | float]]:
    """What an edge says of its model: the examples below it, and their mean loss where it is known."""
    metrics: dict[str, int | float | list[int | float]] = {EXAMPLES: sum(map(_examples, learned)), "one": 1}
    losses = [(_examples(reply), metrics_in(reply.content).get(LOSS)) for reply in learned]
    known = [(examples, loss) for examples, loss in losses if isinstance(loss, int | float)]
    if known:
        metrics[LOSS] = sum(examples * loss for examples, loss in known) / sum(examples for examples, _ in known)
    return metrics


def _examples(reply: Parcel) -> int:
    examples = metrics_in(reply.content)[EXAMPLES]
    assert isinstance(examples, int)
    return examples


def _record(reply: Reply, error: str | None) -> ReplyRecord:
    stamps = {} if reply.parcel is None else stamps_in(reply.parcel.head.meta)
    return ReplyRecord(
        node=reply.client,
        asked_ns=reply.submitted_ns,
        delivered_ns=stamps.get("received_ns", reply.delivered_ns),
        started_ns=stamps.get("started_ns"),
        finished_ns=stamps.get("finished_ns"),
        arrived_ns=reply.received_ns,
        bytes_down=reply.down_bytes,
        bytes_up=reply.up_bytes,
        examples=None if error is not None or reply.parcel is None else _examples(reply.parcel),
        error=error,
    )
