"""Requests to peers and their replies, by hand and over a real broker."""

from __future__ import annotations

import resource
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgebench.clock import now_s
from edgebench.fabric import topics
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.brokers.server import Broker
from edgebench.fabric.descriptors import most_descriptors
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.federated import datagrams
from edgebench.federated.answerer import Answerer, Asked
from edgebench.federated.content import Array, Arrays, Bytes, Head, arrays_in, pack, write_parcel
from edgebench.federated.courier import Courier, Reply, Request
from edgebench.federated.datagrams import Cancel, Chunk
from edgebench.federated.exchange import CHUNK_BYTES, WINDOW
from tests.federated.driven import Clock

SMALL, LARGE = 100, 500_000


def request(peer: str, message_id: str, n_values: int = SMALL) -> Request:
    head = Head(message_id=message_id, kind="train", group="1")
    return Request(peer, head, pack(head, {"arrays": arrays(n_values, 1.0)}))


def arrays(n_values: int, value: float) -> Arrays:
    return Arrays({"w": Array.of(np.full(n_values, value, np.float32))})


def answer_to(asked: Asked, *, value: float = 2.0, error: str | None = None) -> list[Bytes]:
    """A reply as large as the request."""
    parcel = asked.received.parcel()
    head = Head(
        message_id=f"re {parcel.head.message_id}",
        kind=parcel.head.kind,
        group=parcel.head.group,
        reply_to=parcel.head.message_id,
        error=error,
        meta={"received_ns": asked.received_ns},
    )
    if error is not None:
        return pack(head, {})
    return pack(head, {"arrays": arrays(arrays_in(parcel.content)["w"].shape[0], value)})


def value_of(reply: Reply) -> float:
    assert reply.parcel is not None
    return float(arrays_in(reply.parcel.content)["w"].numpy()[-1])


class Client:
    """A client that answers when the test says so."""

    def __init__(self, clock: Clock, spool_dir: Path) -> None:
        self.asked: list[Asked] = []
        self.cancelled: list[Asked] = []
        self.outbox: deque[bytes] = deque()
        self.spool_dir = spool_dir
        self.reachable = True
        self.answerer = Answerer(
            clock,
            self._send,
            spool_dir,
            on_request=self.asked.append,
            on_cancelled=self.cancelled.append,
            backed_up=lambda: False,
        )

    def _send(self, datagram: bytes) -> bool:
        if self.reachable:
            self.outbox.append(datagram)
        return self.reachable


class Lab:
    """A courier and two clients, and time, in the hands of a test."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = Clock()
        self.outbox: deque[tuple[str, bytes]] = deque()
        self.chunks: list[tuple[str, int]] = []
        self.courier = Courier(self.clock, self._send, tmp_path / "server", backed_up=lambda: False)
        self.spool_dir = tmp_path / "server"
        self.clients = {name: Client(self.clock, tmp_path / name) for name in ("bed", "chair")}
        self.n_let_through = 1_000_000

    def carry(self) -> None:
        """Deliver all that is on the way, and what is sent because of it."""
        while self.clock.run_due() or self.outbox or any(client.outbox for client in self.clients.values()):
            if self.outbox:
                peer, datagram = self.outbox.popleft()
                if self._passes(peer):
                    self.clients[peer].answerer.feed(datagram)
            for peer, client in self.clients.items():
                if client.outbox:
                    datagram = client.outbox.popleft()
                    if self._passes(peer):
                        self.courier.feed(peer, datagram)

    def sleep(self, s: float) -> None:
        for _ in range(round(s / 0.5)):
            self.clock.sleep(0.5)
            self.carry()

    def ask(self, peer: str, n_values: int = SMALL) -> str:
        (message_id,) = self.courier.submit([request(peer, f"to {peer}", n_values)])
        self.carry()
        return message_id

    def take(self, *message_ids: str) -> list[Reply]:
        self.courier.wait(message_ids, 0.0)
        return self.courier.take(message_ids)

    def _passes(self, peer: str) -> bool:
        self.n_let_through -= 1
        return self.clients[peer].reachable and self.n_let_through >= 0

    def _send(self, peer: str, datagram: bytes) -> bool:
        message = datagrams.decode(datagram)
        if isinstance(message, Chunk):
            self.chunks.append((peer, message.index))
        self.outbox.append((peer, datagram))
        return True


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_request_gets_its_reply_with_stamps_and_bytes_and_once(lab: Lab) -> None:
    sent = request("bed", "1")
    lab.courier.submit([sent])
    lab.carry()
    bed = lab.clients["bed"]
    (asked,) = bed.asked
    reply_bytes = answer_to(asked)
    assert lab.take("1") == []
    bed.answerer.answer(asked, reply_bytes)
    lab.carry()
    (reply,) = lab.take("1")
    assert (reply.peer, reply.message_id, reply.error) == ("bed", "1", None)
    assert value_of(reply) == 2.0
    assert reply.down_bytes == sum(map(len, sent.buffers))
    assert reply.up_bytes == sum(map(len, reply_bytes))
    assert reply.parcel is not None
    assert reply.delivered_ns is not None
    assert reply.received_ns is not None
    client_ns = reply.parcel.head.meta["received_ns"]
    assert isinstance(client_ns, int)
    assert reply.submitted_ns <= client_ns <= reply.delivered_ns <= reply.received_ns
    assert lab.take("1") == []


def test_replies_are_told_apart_whatever_their_order(lab: Lab) -> None:
    ids = lab.courier.submit([request(peer, f"{peer} {n}") for peer in ("bed", "chair") for n in range(3)])
    lab.carry()
    for value, (name, client) in enumerate(lab.clients.items()):
        for n, asked in reversed(list(enumerate(client.asked))):
            assert asked.received.parcel().head.message_id == f"{name} {n}"
            client.answerer.answer(asked, answer_to(asked, value=10.0 * value + n))
    lab.carry()
    replies = {reply.message_id: value_of(reply) for reply in lab.take(*ids)}
    assert replies == {"bed 0": 0, "bed 1": 1, "bed 2": 2, "chair 0": 10, "chair 1": 11, "chair 2": 12}


def test_large_parcels_go_by_file_and_leave_none_behind(lab: Lab, tmp_path: Path) -> None:
    message_id = lab.ask("bed", LARGE)
    bed = lab.clients["bed"]
    (asked,) = bed.asked
    assert asked.received.path is not None
    path = tmp_path / "reply"
    write_parcel(path, answer_to(asked))
    bed.answerer.answer(asked, path)
    assert not list(bed.spool_dir.iterdir())
    lab.carry()
    (reply,) = lab.take(message_id)
    assert value_of(reply) == 2.0
    assert not path.exists()
    assert not list(lab.spool_dir.iterdir())


def test_a_peer_that_is_known_to_be_offline_fails_at_once(lab: Lab) -> None:
    lab.courier.peer_status("bed", online=False)
    lab.sleep(3.0)
    message_id = lab.ask("bed")
    (reply,) = lab.take(message_id)
    assert (reply.error, reply.parcel, reply.received_ns, reply.down_bytes) == ("offline", None, None, 0)
    assert lab.courier.failed == {"offline": 1}
    assert lab.chunks == []


def test_a_peer_that_goes_away_fails_after_a_grace(lab: Lab) -> None:
    message_id = lab.ask("bed")
    lab.clients["bed"].reachable = False
    lab.courier.peer_status("bed", online=False)
    lab.sleep(2.5)
    assert lab.take(message_id) == []
    lab.sleep(0.5)
    (reply,) = lab.take(message_id)
    assert reply.error == "offline"
    assert reply.delivered_ns is not None
    assert lab.courier.failed == {"offline": 1}


def test_a_peer_that_has_just_gone_is_asked_all_the_same_and_answers_when_it_is_back(lab: Lab) -> None:
    bed = lab.clients["bed"]
    bed.reachable = False
    lab.courier.peer_status("bed", online=False)
    message_id = lab.ask("bed")
    lab.sleep(2.0)
    assert lab.take(message_id) == []
    bed.reachable = True
    lab.courier.peer_status("bed", online=True)
    lab.carry()
    bed.answerer.answer(bed.asked[0], answer_to(bed.asked[0]))
    lab.sleep(5.0)
    (reply,) = lab.take(message_id)
    assert value_of(reply) == 2.0
    assert lab.courier.failed == {}


def test_a_peer_that_has_just_gone_and_stays_away_fails_when_its_grace_ends(lab: Lab) -> None:
    lab.clients["bed"].reachable = False
    lab.courier.peer_status("bed", online=False)
    lab.sleep(2.0)
    message_id = lab.ask("bed")
    lab.sleep(0.5)
    assert lab.take(message_id) == []
    lab.sleep(0.5)
    (reply,) = lab.take(message_id)
    assert reply.error == "offline"
    # A broker may say it once more.
    lab.courier.peer_status("bed", online=False)
    assert [reply.error for reply in lab.take(lab.ask("bed"))] == ["offline"]


def test_waiting_for_peers_counts_those_that_have_not_stayed_away(lab: Lab) -> None:
    lab.courier.peer_status("bed", online=False)
    lab.courier.wait_online(["bed", "chair"], 2, 60.0)
    lab.sleep(3.0)
    began_s = now_s()
    lab.courier.wait_online(["bed", "chair"], 2, 0.01)
    assert now_s() - began_s >= 0.01
    lab.courier.wait_online(["bed", "chair"], 1, 60.0)
    lab.courier.peer_status("bed", online=True)
    lab.courier.wait_online(["bed", "chair"], 2, 60.0)


def test_a_peer_that_comes_back_in_time_goes_on_from_where_it_was(lab: Lab) -> None:
    bed = lab.clients["bed"]
    lab.n_let_through = 9
    message_id = lab.ask("bed", LARGE)
    n_chunks = -(-4 * LARGE // CHUNK_BYTES)
    bed.reachable = False
    lab.courier.peer_status("bed", online=False)
    lab.sleep(2.5)
    bed.reachable, lab.n_let_through = True, 1_000_000
    lab.courier.peer_status("bed", online=True)
    lab.carry()
    bed.answerer.answer(bed.asked[0], answer_to(bed.asked[0]))
    lab.sleep(5.0)
    (reply,) = lab.take(message_id)
    assert reply.error is None
    assert n_chunks < len(lab.chunks) <= n_chunks + WINDOW
    assert lab.courier.failed == {}


def test_giving_up_tells_the_client_which_drops_its_queued_request(lab: Lab, tmp_path: Path) -> None:
    message_id = lab.ask("bed", LARGE)
    bed = lab.clients["bed"]
    lab.courier.give_up([message_id], "the round is over")
    lab.carry()
    assert bed.cancelled == bed.asked
    assert not list(bed.spool_dir.iterdir())
    path = tmp_path / "reply"
    path.write_bytes(b"in vain")
    bed.answerer.answer(bed.asked[0], path)
    lab.carry()
    assert not path.exists()
    assert lab.take(message_id) == []
    assert (lab.courier.late, lab.courier.failed) == (0, {})


def test_giving_up_stops_a_reply_on_its_way(lab: Lab) -> None:
    message_id = lab.ask("bed", LARGE)
    bed = lab.clients["bed"]
    bed.answerer.answer(bed.asked[0], answer_to(bed.asked[0]))
    lab.n_let_through = 10
    lab.carry()
    assert len(list(lab.spool_dir.iterdir())) == 1
    size = next(lab.spool_dir.iterdir()).stat().st_size
    assert size > 0
    lab.n_let_through = 1_000_000
    (given_up,) = lab.courier.give_up([message_id], "the round is over")
    assert (given_up.error, given_up.parcel, given_up.received_ns) == ("the round is over", None, None)
    assert given_up.up_bytes == size
    lab.sleep(10.0)
    assert not list(lab.spool_dir.iterdir())
    assert lab.take(message_id) == []
    assert lab.clock.idle


def test_what_a_request_has_cost_is_told_when_it_is_given_up_or_fails(lab: Lab) -> None:
    sent = [request(peer, peer, LARGE) for peer in ("bed", "chair")]
    lab.courier.submit(sent)
    lab.carry()
    bed, chair = lab.clients["bed"], lab.clients["chair"]
    (late,) = lab.courier.give_up(["bed"], "no reply within 5 s")
    assert (late.down_bytes, late.up_bytes) == (sum(map(len, sent[0].buffers)), 0)
    assert late.delivered_ns is not None
    assert lab.courier.give_up(["bed"], "once more") == []
    chair.answerer.answer(chair.asked[0], answer_to(chair.asked[0]))
    lab.n_let_through = 10
    lab.carry()
    size = next(lab.spool_dir.iterdir()).stat().st_size
    chair.reachable = bed.reachable = False
    lab.courier.peer_status("chair", online=False)
    lab.sleep(3.0)
    (failed,) = lab.take("chair")
    assert failed.error == "offline"
    assert (failed.down_bytes, failed.up_bytes) == (sum(map(len, sent[1].buffers)), size)


def test_what_has_come_of_a_reply_that_its_client_calls_off_is_told(lab: Lab) -> None:
    message_id = lab.ask("bed", LARGE)
    bed = lab.clients["bed"]
    bed.answerer.answer(bed.asked[0], answer_to(bed.asked[0]))
    lab.n_let_through = 10
    lab.carry()
    size = next(lab.spool_dir.iterdir()).stat().st_size
    lab.courier.feed("bed", datagrams.encode(Cancel(bed.asked[0].transfer_id, "out of memory")))
    (reply,) = lab.take(message_id)
    assert (reply.error, reply.up_bytes) == ("the peer refuses it: out of memory", size)
    assert not list(lab.spool_dir.iterdir())


def test_a_late_reply_is_counted_and_refused_at_its_beginning(lab: Lab, tmp_path: Path) -> None:
    message_id = lab.ask("bed", LARGE)
    bed = lab.clients["bed"]
    bed.reachable = False  # so the client is not told
    lab.courier.give_up([message_id], "the round is over")
    lab.carry()
    bed.reachable = True
    path = tmp_path / "reply"
    write_parcel(path, answer_to(bed.asked[0]))
    bed.answerer.answer(bed.asked[0], path)
    lab.sleep(10.0)
    assert lab.courier.late == 1
    assert lab.courier.unexpected == 0
    assert not path.exists()
    assert lab.clock.idle
    assert lab.take(message_id) == []


def test_a_reply_that_was_not_taken_before_its_request_was_given_up_is_late(lab: Lab) -> None:
    message_id = lab.ask("bed", LARGE)
    bed = lab.clients["bed"]
    reply_bytes = answer_to(bed.asked[0])
    bed.answerer.answer(bed.asked[0], reply_bytes)
    lab.carry()
    (given_up,) = lab.courier.give_up([message_id], "the round is over")
    assert (given_up.error, given_up.up_bytes) == ("the round is over", sum(map(len, reply_bytes)))
    assert lab.take(message_id) == []
    assert lab.courier.late == 1
    assert not list(lab.spool_dir.iterdir())


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"EBF1\xff\xff\xff\xff", bytes(2_000_000)])
def test_a_reply_that_is_no_parcel_is_a_failure_of_its_request(lab: Lab, garbage: bytes) -> None:
    message_id, other = lab.courier.submit([request("bed", "1"), request("chair", "2")])
    lab.carry()
    bed, chair = lab.clients["bed"], lab.clients["chair"]
    bed.answerer.answer(bed.asked[0], [garbage])
    chair.answerer.answer(chair.asked[0], answer_to(chair.asked[0]))
    lab.carry()
    (bad,), (good,) = lab.take(message_id), lab.take(other)
    assert bad.parcel is None
    assert bad.error is not None
    assert bad.error.startswith(("not a federated message", "a federated message that is cut off"))
    assert bad.up_bytes == len(garbage)
    assert value_of(good) == 2.0
    assert lab.courier.failed == {"garbage": 1}
    assert not list(lab.spool_dir.iterdir())


def test_a_reply_to_another_message_is_a_failure(lab: Lab) -> None:
    message_id = lab.ask("bed")
    bed = lab.clients["bed"]
    bed.answerer.answer(bed.asked[0], pack(Head(message_id="x", kind="train", reply_to="y"), {}))
    lab.carry()
    (reply,) = lab.take(message_id)
    assert (reply.error, reply.parcel) == ("a reply to another message", None)


def test_a_clients_error_is_the_replys(lab: Lab) -> None:
    message_id = lab.ask("bed")
    bed = lab.clients["bed"]
    bed.answerer.answer(bed.asked[0], answer_to(bed.asked[0], error="no data"))
    lab.carry()
    (reply,) = lab.take(message_id)
    assert reply.error == "no data"
    assert reply.parcel is not None
    assert lab.courier.failed == {"error": 1}


def test_a_client_may_refuse_a_request(lab: Lab) -> None:
    bed = lab.clients["bed"]
    bed.spool_dir.rmdir()
    message_id = lab.ask("bed", LARGE)
    (reply,) = lab.take(message_id)
    assert reply.error == "the peer refuses it: cannot be kept: No such file or directory"
    assert lab.courier.failed == {"refused": 1}


def test_a_client_may_call_off_what_it_has_taken(lab: Lab) -> None:
    message_id = lab.ask("bed")
    transfer_id = lab.clients["bed"].asked[0].transfer_id
    lab.courier.feed("chair", datagrams.encode(Cancel(transfer_id, "not mine to say")))
    assert lab.take(message_id) == []
    lab.courier.feed("bed", datagrams.encode(Cancel(transfer_id, "out of memory")))
    (reply,) = lab.take(message_id)
    assert reply.error == "the peer refuses it: out of memory"


def test_a_payload_that_replies_to_nothing_is_counted_and_refused(lab: Lab) -> None:
    lab.courier.feed("bed", datagrams.encode(Chunk(5, 0, 0, 1, 1, b"", memoryview(b"x"))))
    assert lab.courier.unexpected == 1
    assert datagrams.decode(lab.outbox[0][1]) == Cancel(5, "not wanted")


def test_malformed_datagrams_are_counted_by_reason(lab: Lab) -> None:
    lab.courier.feed("bed", b"not a datagram")
    lab.clients["bed"].answerer.feed(b"not a datagram")
    assert lab.courier.rejected == lab.clients["bed"].answerer.rejected == {"not-a-datagram": 1}


def test_two_requests_cannot_have_one_message_id(lab: Lab) -> None:
    lab.courier.submit([request("bed", "1")])
    with pytest.raises(ValueError, match="one message id"):
        lab.courier.submit([request("chair", "1")])


def test_closing_ends_what_is_open(lab: Lab) -> None:
    message_id = lab.ask("bed")
    lab.courier.peer_status("chair", online=False)
    lab.courier.close()
    lab.carry()
    (reply,) = lab.take(message_id)
    assert reply.error == "closed"
    assert lab.clients["bed"].cancelled == lab.clients["bed"].asked
    assert lab.clock.idle


def test_a_request_after_closing_or_just_before_it_ends_at_once(lab: Lab) -> None:
    before = lab.courier.submit([request("bed", "1")])
    lab.courier.close()
    after = lab.courier.submit([request("bed", "2")])
    lab.courier.wait([*before, *after], 60.0)
    assert [reply.error for reply in lab.courier.take([*before, *after])] == ["closed", "closed"]
    lab.carry()
    assert lab.chunks == []
    assert lab.courier.failed == {"closed": 2}
    assert lab.courier.take([*before, *after]) == []
    lab.courier.wait_online(["bed"], 2, 60.0)
    assert lab.courier.give_up(after, "no need") == []
    assert lab.clock.idle


@contextmanager
def descriptors(soft: int) -> Iterator[None]:
    """No more than these."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_courier_may_have_as_many_replies_in_files_as_the_system_allows(tmp_path: Path) -> None:
    with descriptors(512):
        Lab(tmp_path)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most_descriptors()


def test_a_reply_that_cannot_be_mapped_is_an_error_and_leaves_no_file(lab: Lab) -> None:
    message_id = lab.ask("bed", LARGE)
    bed = lab.clients["bed"]
    bed.answerer.answer(bed.asked[0], answer_to(bed.asked[0]))
    lab.carry()
    with descriptors(0):
        (reply,) = lab.take(message_id)
    assert reply.error == "its reply cannot be read: Too many open files"
    assert (reply.parcel, lab.courier.failed) == (None, {"unreadable": 1})
    assert reply.up_bytes > 4 * LARGE
    assert not list(lab.spool_dir.iterdir())


def test_a_client_that_closes_leaves_no_files(lab: Lab, tmp_path: Path) -> None:
    lab.courier.submit([request("bed", "1", LARGE), request("bed", "2", LARGE)])
    lab.carry()
    bed = lab.clients["bed"]
    path = tmp_path / "reply"
    write_parcel(path, answer_to(bed.asked[0]))
    bed.answerer.answer(bed.asked[0], path)
    assert len(list(bed.spool_dir.iterdir())) == 1
    bed.answerer.close()
    assert not list(bed.spool_dir.iterdir())
    assert not path.exists()


class Live:
    """A courier and clients at a real broker, each with a connection; the clients share a thread, as in an agent."""

    def __init__(self, broker: Broker, directory: Path, n_clients: int) -> None:
        self.server, self.agent = Reactor(), Reactor()
        self.peers = [f"bed-{n}" for n in range(n_clients)]
        self.silent: set[str] = set()
        self.garbling: set[str] = set()
        self._url = parse_broker_url(broker.url)
        self._connections: list[Connection] = []
        self._down = {topics.fl_site_down("run", "work", peer): peer for peer in self.peers}
        self._up = {topics.fl_site_up("run", "work", peer): peer for peer in self.peers}
        connection = self._connect(self.server, "server", list(self._up), self._from_client)
        self.courier = Courier(
            self.server,
            lambda peer, datagram: connection.publish(topics.fl_site_down("run", "work", peer), datagram, qos=0),
            directory / "server",
            backed_up=lambda: connection.backed_up,
        )
        self.answerers = {peer: self._answerer(peer, directory / "agent") for peer in self.peers}
        self._threads = [threading.Thread(target=reactor.run) for reactor in (self.server, self.agent)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for reactor in (self.server, self.agent):
            reactor.stop()
        for thread in self._threads:
            thread.join()
        self.courier.close()
        for connection in self._connections:
            connection.close()
        for reactor in (self.server, self.agent):
            reactor.close()

    def _answerer(self, peer: str, directory: Path) -> Answerer:
        connection = self._connect(self.agent, peer, [topics.fl_site_down("run", "work", peer)], self._from_server)
        topic = topics.fl_site_up("run", "work", peer)
        return Answerer(
            self.agent,
            lambda datagram: connection.publish(topic, datagram, qos=0),
            directory,
            on_request=partial(self._answer, peer),
            on_cancelled=lambda _asked: None,
            backed_up=lambda: connection.backed_up,
        )

    def _answer(self, peer: str, asked: Asked) -> None:
        if peer in self.garbling:
            self.answerers[peer].answer(asked, [b"garbage"])
        elif peer not in self.silent:
            self.answerers[peer].answer(asked, answer_to(asked, value=float(peer.removeprefix("bed-"))))

    def _connect(
        self, reactor: Reactor, name: str, heard: list[str], on_message: Callable[[str, bytes], None]
    ) -> Connection:
        up = threading.Event()
        connection = Connection(reactor, self._url, name, on_message=on_message, on_up=up.set)
        connection.subscribe(heard, 0)
        connection.start()
        while not up.is_set():
            reactor.turn()
        self._connections.append(connection)
        return connection

    def _from_client(self, topic: str, datagram: bytes) -> None:
        self.courier.feed(self._up[topic], datagram)

    def _from_server(self, topic: str, datagram: bytes) -> None:
        self.answerers[self._down[topic]].feed(datagram)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with make_broker(BrokerSettings("broker", tmp_path / "broker")) as broker:
        made = Live(broker, tmp_path, 50)
        yield made
        made.close()


def test_many_peers_answer_at_once_and_the_rest_is_given_up_at_the_deadline(live: Live) -> None:
    live.silent, live.garbling = {"bed-7"}, {"bed-8", "bed-9"}
    ids = live.courier.submit([request(peer, f"to {peer}", 100_000) for peer in live.peers])
    live.courier.wait(ids, 60.0, enough=49)
    replies = live.courier.take(ids)
    assert {value_of(reply) for reply in replies if reply.error is None} == set(range(50)) - {7, 8, 9}
    assert sorted(reply.peer for reply in replies if reply.error is not None) == ["bed-8", "bed-9"]
    live.courier.give_up(["to bed-7"], "the round is over")
    live.silent.clear()
    (again,) = live.courier.submit([request("bed-7", "once more")])
    live.courier.wait([again], 60.0)
    (reply,) = live.courier.take([again])
    assert value_of(reply) == 7.0
    assert live.courier.failed == {"garbage": 2}


def test_waiting_ends_when_the_rest_is_given_up_by_another_thread(live: Live) -> None:
    live.silent = {"bed-0", "bed-1"}
    ids = live.courier.submit([request(peer, f"to {peer}") for peer in live.peers[:3]])
    live.courier.wait(ids, 60.0, enough=1)
    giver = threading.Thread(target=live.courier.give_up, args=(["to bed-0", "to bed-1"], "enough"))
    giver.start()
    live.courier.wait(ids, 60.0)
    giver.join()
    assert [reply.peer for reply in live.courier.take(ids)] == ["bed-2"]


def test_waiting_ends_when_time_is_up(live: Live) -> None:
    live.silent = {"bed-0"}
    ids = live.courier.submit([request("bed-0", "1")])
    live.courier.wait(ids, 0.01)
    assert live.courier.take(ids) == []
