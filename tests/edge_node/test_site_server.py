"""An edge that runs rounds of its own: with the cloud above it and two beds below, all at one reactor and over real
HTTP.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge_node.site_files import SiteFiles
from edge_node.site_rounds import Asking, Site, SiteError, run_rounds
from edge_node.site_server import SiteServer
from edgebench.clock import NS_PER_S, now_ns, now_s, sleep_s
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import RoundRecord
from edgebench.fabric.refusals import Refusals
from edgebench.fabric.shelves import Caller, digest_of_token
from edgebench.fabric.transfer_threads import TransferThreads
from edgebench.federated.cohort import cohort_size
from edgebench.federated.content import (
    Array,
    Arrays,
    Bytes,
    Config,
    Head,
    Metrics,
    Parcel,
    arrays_in,
    metrics_in,
    pack,
    reply_head,
    write_parcel,
)
from edgebench.federated.message_client import ContentFiles, MessageClient, Received
from edgebench.federated.message_files import MessageFiles
from edgebench.federated.message_server import MessageServer
from edgebench.federated.requests import Reply, Request
from edgebench.topology.deployment import FederatedPlan
from edgebench.topology.model import Federated
from tests.fabric.served_folder import serving

WAIT_S = 30.0
BEDS = ("bed-0", "bed-1")
LONG_S = 6000.0
"""A deadline that no test waits for."""


def plan(deadline_s: float, edge_rounds: int = 2) -> FederatedPlan:
    how = Federated(workload="w", aggregate=("edge", "cloud"), edge_rounds=edge_rounds, deadline_s=deadline_s)
    return FederatedPlan(how, BEDS, {"ward": BEDS})


def question(message_id: str, kind: str = "train") -> Parcel:
    """Weights that are all 0, in round 1 of the cloud."""
    weights = Arrays({"w": Array.of(np.zeros(4, np.float32))})
    head = Head(message_id=message_id, kind=kind, group="1")
    return Parcel(head, {"arrays": weights, "config": Config({"server-round": 1})})


class Bed:
    """Adds its number (1, 2) to every weight, and has as many examples; unless it is silent, or adds what it likes."""

    def __init__(self, number: int, directory: Path) -> None:
        self.adds = self.number = float(number)
        self.claims = number
        self.stamps: dict[str, int] = {}
        self.silent = False
        self.groups: list[str] = []
        self.cancelled = 0
        self.messages: MessageClient
        self._directory = directory

    def asked(self, received: Received) -> None:
        request = received.parcel()
        self.groups.append(request.head.group)
        if not self.silent:
            reply = self._directory / f"{len(self.groups)}-{self.number:.0f}.reply"
            write_parcel(reply, self._reply(request))
            self.messages.answer(received, reply)

    def count_cancelled(self, _received: Received) -> None:
        self.cancelled += 1

    def _reply(self, request: Parcel) -> list[Bytes]:
        weights = arrays_in(request.content)["w"].numpy() + np.float32(self.adds)
        metrics = Metrics({"num-examples": self.claims, "train-loss": self.number})
        return pack(
            reply_head(request.head, None, self.stamps),
            {"arrays": Arrays({"w": Array.of(weights)}), "metrics": metrics},
        )


class Ward:
    """The edge, which serves its beds by HTTP, and the cloud above it, which serves the edge."""

    def __init__(self, tmp_path: Path, deadline_s: float, cloud_url: str, cloud_files: MessageFiles) -> None:
        self.reactor = Reactor()
        self.rounds: list[RoundRecord] = []
        self.beds = {name: Bed(number, tmp_path) for number, name in enumerate(BEDS, start=1)}
        self.site_socket = socket.create_server(("127.0.0.1", 0))
        host, port = self.site_socket.getsockname()
        callers = {digest_of_token(f"of-{name}"): Caller(frozenset({name})) for name in BEDS}
        self.files = SiteFiles(self.site_socket, callers, tmp_path / "messages", Refusals(logging.getLogger("site")))
        self.transfers = {name: TransferThreads(f"of-{name}") for name in (*BEDS, "ward")}
        for name, bed in self.beds.items():
            bed.messages = MessageClient(
                self.reactor,
                partial(self._up, name),
                self.transfers[name],
                f"http://{host}:{port}",
                ContentFiles(tmp_path / name),
                on_request=bed.asked,
                on_cancelled=bed.count_cancelled,
            )
        self.cloud = MessageServer(
            self.reactor,
            lambda _edge, notice: self._soon(partial(self.server.from_cloud, notice)),
            cloud_files,
            tmp_path / "cloud",
        )
        (tmp_path / "ward").mkdir()
        self.server = SiteServer(
            self.reactor,
            Site("ward", plan(deadline_s), 7, {"bed-0": 1, "bed-1": 2}),
            tmp_path / "ward",
            to_device=self._down,
            to_cloud=lambda notice: self._soon(partial(self.cloud.feed, "ward", notice)),
            files=self.files.messages,
            transfers=self.transfers["ward"],
            cloud_files=cloud_url,
            on_round=self.rounds.append,
        )
        self.thread = threading.Thread(target=self.reactor.run, name="reactor")
        self.thread.start()

    def ask(self, message_id: str) -> list[str]:
        request = question(message_id)
        return self.cloud.submit([Request("ward", request.head, pack(request.head, request.content))])

    def reply(self, message_ids: Sequence[str]) -> Reply:
        self.cloud.wait(message_ids, WAIT_S)
        (reply,) = self.cloud.take(message_ids)
        return reply

    def close(self) -> None:
        if not self.thread.is_alive():
            return
        self.reactor.stop()
        self.thread.join()
        closing = threading.Thread(target=self._close, name="closing", daemon=True)
        closing.start()
        closing.join(WAIT_S)
        assert not closing.is_alive()
        self.reactor.close()

    def _close(self) -> None:
        self.server.close()
        for transfers in self.transfers.values():
            transfers.close()
        self.files.close()

    def _up(self, bed: str, notice: bytes) -> bool:
        return self._soon(partial(self.server.from_device, bed, notice))

    def _down(self, bed: str, notice: bytes) -> bool:
        return self._soon(partial(self.beds[bed].messages.feed, notice))

    def _soon(self, call: Callable[[], None]) -> bool:
        self.reactor.call_soon_threadsafe(call)
        return True


def until(happened: Callable[[], bool], what: str) -> None:
    limit_s = now_s() + WAIT_S
    while not happened():
        assert now_s() < limit_s, what
        sleep_s(0.005)


@pytest.fixture
def ward(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ward]:
    """The deadline in s by an indirect parameter."""
    files = MessageFiles(tmp_path / "at-cloud")
    with serving({"requests": files}, {"replies": files}, {"of-ward": ["ward"]}) as url:
        made = Ward(tmp_path, getattr(request, "param", LONG_S), url, files)
        yield made
        made.close()


def test_two_rounds_of_a_site_are_one_reply_to_the_cloud(ward: Ward) -> None:
    reply = ward.reply(ward.ask("m"))
    assert reply.parcel is not None
    # Each round adds (1·1 + 2·2) / 3.
    assert arrays_in(reply.parcel.content)["w"].numpy().tolist() == pytest.approx([10 / 3] * 4)
    assert metrics_in(reply.parcel.content) == {"num-examples": 3, "one": 1, "train-loss": pytest.approx(5 / 3)}
    assert reply.parcel.head.reply_to == "m"
    assert ward.beds["bed-1"].groups == ["1", "1.2"]
    assert [(each.server, each.number, each.inner, each.skipped) for each in ward.rounds] == [
        ("ward", 1, 1, None),
        ("ward", 1, 2, None),
    ]
    assert [(each.node, each.examples, each.error) for each in ward.rounds[0].replies] == [
        ("bed-0", 1, None),
        ("bed-1", 2, None),
    ]


def test_a_bed_that_claims_more_examples_than_it_has_is_refused(ward: Ward) -> None:
    ward.beds["bed-1"].claims = 10**15
    reply = ward.reply(ward.ask("m"))
    assert reply.parcel is not None
    assert arrays_in(reply.parcel.content)["w"].numpy().tolist() == [2.0] * 4
    assert metrics_in(reply.parcel.content)["num-examples"] == 1
    assert [each.error for each in ward.rounds[0].replies] == [
        None,
        f"metric 'num-examples' is {10**15}, but its client has 2",
    ]


def test_times_that_no_clock_tells_are_not_recorded(ward: Ward) -> None:
    ward.beds["bed-1"].stamps = {"received_ns": 1 << 63, "started_ns": -1, "finished_ns": 5}
    assert ward.reply(ward.ask("m")).error is None
    record = ward.rounds[0].replies[1]
    assert (record.started_ns, record.finished_ns) == (None, 5)
    assert record.delivered_ns is not None
    assert record.delivered_ns < 1 << 63


def test_a_share_of_the_devices_is_asked_as_the_cloud_counts_it() -> None:
    beds = tuple(f"bed-{number}" for number in range(5))
    how = Federated(workload="w", aggregate=("edge", "cloud"), fraction=0.3)
    site = Site("ward", FederatedPlan(how, beds, {"ward": beds}), 7, {})
    assert len(site.cohort("1")) == cohort_size(5, 0.3) == 1


def test_what_the_cloud_gives_up_is_over_at_once_and_the_next_request_is_answered(ward: Ward) -> None:
    for bed in ward.beds.values():
        bed.silent = True
    asked = ward.ask("m-1")
    waiting = ward.ask("m-2")
    until(lambda: all(bed.groups for bed in ward.beds.values()), "the beds are asked")
    ward.cloud.give_up(waiting, "late")
    ward.cloud.give_up(asked, "late")
    until(lambda: all(bed.cancelled for bed in ward.beds.values()), "the beds are told")
    for bed in ward.beds.values():
        bed.silent = False
    assert ward.reply(ward.ask("m-3")).error is None
    # One round of the first request, none of the second, two of the third.
    assert ward.beds["bed-0"].groups == ["1", "1", "1.2"]
    assert [each.skipped is None for each in ward.rounds] == [False, True, True]
    assert [each.error for each in ward.rounds[0].replies] == ["the cloud has given it up"] * 2
    assert all(each.bytes_down for each in ward.rounds[0].replies)


def test_closing_waits_for_no_bed(ward: Ward) -> None:
    for bed in ward.beds.values():
        bed.silent = True
    ward.ask("m-1")
    ward.ask("m-2")
    until(lambda: all(bed.groups for bed in ward.beds.values()), "the beds are asked")
    ward.close()
    assert [each.error for record in ward.rounds for each in record.replies] == ["the edge ends"] * 2


@pytest.mark.parametrize("ward", [3.0], indirect=True)
def test_a_bed_that_does_not_answer_in_its_share_of_the_deadline_is_late(ward: Ward) -> None:
    ward.beds["bed-0"].silent = True
    reply = ward.reply(ward.ask("m"))
    assert reply.parcel is not None
    assert arrays_in(reply.parcel.content)["w"].numpy().tolist() == [4.0] * 4
    late, good = ward.rounds[0].replies
    assert (late.error or "").startswith("no reply within 1.")  # 1.35 s, less what went before
    assert (late.examples, good.examples) == (None, 2)
    assert late.bytes_down == good.bytes_down
    assert late.bytes_up == 0


def test_a_reply_that_the_guard_refuses_does_not_count(ward: Ward) -> None:
    ward.beds["bed-0"].adds = float("nan")
    reply = ward.reply(ward.ask("m"))
    assert reply.parcel is not None
    assert arrays_in(reply.parcel.content)["w"].numpy().tolist() == [4.0] * 4
    assert ward.rounds[0].replies[0].error == "array 'w' holds values that are not finite"


class Unanswered(Asking):
    """Nobody answers, and no time passes."""

    def __init__(self) -> None:
        self.called_off = None
        self.timeouts_s: list[float] = []

    def replies(self, requests: Sequence[Request], timeout_s: float) -> dict[str, Reply]:
        self.timeouts_s.append(timeout_s)
        return {request.client: unanswered(request) for request in requests}


def unanswered(request: Request) -> Reply:
    return Reply(
        client=request.client,
        message_id=request.head.message_id,
        parcel=None,
        error="late",
        submitted_ns=0,
        delivered_ns=None,
        received_ns=None,
        down_bytes=0,
        up_bytes=0,
    )


def test_each_round_has_its_share_of_the_time_that_is_left() -> None:
    asking, records = Unanswered(), list[RoundRecord]()
    site = Site("ward", plan(LONG_S, edge_rounds=3), 7, {})
    until_ns = now_ns() + 3000 * NS_PER_S
    with pytest.raises(SiteError, match="0 of 2 replies of the site are good, 1 must be"):
        run_rounds(question("m"), site, asking, until_ns, records.append)
    assert asking.timeouts_s == pytest.approx([1000, 1500, 3000], rel=0.02)
    assert [record.skipped is not None for record in records] == [True] * 3


def test_no_round_begins_after_the_deadline() -> None:
    asking, records = Unanswered(), list[RoundRecord]()
    with pytest.raises(SiteError, match="leaves no time for a round"):
        run_rounds(question("m"), Site("ward", plan(LONG_S), 7, {}), asking, now_ns(), records.append)
    assert (asking.timeouts_s, records) == ([], [])


def test_an_edge_answers_no_evaluation() -> None:
    with pytest.raises(SiteError, match="does not answer 'evaluate'"):
        run_rounds(
            question("m", "evaluate"), Site("ward", plan(LONG_S), 7, {}), Unanswered(), now_ns(), lambda _record: None
        )
