"""Transfers over datagrams that get lost, by hand and over real brokers, links and broken connections."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.brokers.server import Broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.links import Relay
from edgebench.fabric.relay import Route
from edgebench.federated import datagrams
from edgebench.federated.datagrams import Ack, Cancel, Chunk, Offer
from edgebench.federated.exchange import CHUNK_BYTES, LARGEST_BYTES, Exchange
from edgebench.federated.payload import IN_MEMORY_BYTES
from edgebench.seeds import rng_for
from edgebench.topology.deployment import LinkPlan
from tests.conftest import ROOT
from tests.federated.driven import WINDOW, Pair
from tests.federated.wired import Cuttable, turn_until, wired

TEXT = bytes(range(95))
"""Ten chunks, the last of them half full."""


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 40, 95])
def test_buffers_arrive_as_one(pair: Pair, size: int) -> None:
    data = TEXT[:size]
    transfer = pair.a.send([data[:3], b"", data[3:17], data[17:]])
    pair.carry()
    assert pair.b.payloads == [data]
    assert pair.a.done == [transfer]
    assert transfer.error is None
    assert transfer.sent_bytes == pair.b.received[0][1].carried_bytes == size


def test_a_small_payload_takes_two_datagrams(pair: Pair) -> None:
    pair.a.send([b"hello"])
    pair.carry()
    (chunk,), (ack,) = pair.a.sent, pair.b.sent
    assert isinstance(chunk, Chunk)
    assert ack == Ack(chunk.transfer_id, 0, 1, 1)


def test_every_other_chunk_is_acknowledged(pair: Pair) -> None:
    pair.a.send([TEXT])
    pair.carry()
    assert pair.a.chunks == list(range(10))
    assert [ack.next for ack in pair.b.sent if isinstance(ack, Ack)] == [2, 4, 6, 8, 10]


def test_the_digest_of_the_last_chunk_is_that_of_the_whole(pair: Pair) -> None:
    pair.a.send([TEXT])
    pair.carry()
    first, *_, last = pair.a.sent
    assert isinstance(first, Chunk)
    assert isinstance(last, Chunk)
    assert first.digest == hashlib.sha256(TEXT[:10]).digest()
    assert last.digest == hashlib.sha256(TEXT).digest()


def test_no_more_than_a_window_is_under_way(pair: Pair) -> None:
    pair.a.send([TEXT])
    pair.clock.run_due()
    assert pair.a.chunks == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [IN_MEMORY_BYTES, IN_MEMORY_BYTES + 1])
def test_what_is_larger_than_a_mebibyte_comes_in_as_a_file(tmp_path: Path, size: int) -> None:
    pair = Pair(tmp_path, chunk_bytes=64 * 1024)
    data = os.urandom(size)
    pair.a.send([data])
    pair.carry()
    received = pair.b.received[0][1]
    assert pair.b.payloads == [data]
    assert (received.path is None) == (size == IN_MEMORY_BYTES)
    received.discard()
    assert not list(pair.b.spool_dir.iterdir())


def test_a_file_can_be_sent(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(TEXT)
    pair.a.send(path)
    pair.carry()
    assert pair.b.payloads == [TEXT]
    assert path.exists()


def test_payloads_to_one_peer_go_one_after_the_other(pair: Pair) -> None:
    payloads = [TEXT[n:] + TEXT[:n] for n in range(8)]
    sent = [pair.a.send([payload]) for payload in payloads]
    pair.a.exchange.cancel(sent[3], "not this one")
    pair.carry()
    assert pair.b.payloads == payloads[:3] + payloads[4:]
    assert pair.a.chunks == list(range(10)) * 7


def test_payloads_to_several_peers_go_side_by_side_a_window_at_a_time(pair: Pair) -> None:
    first, second = pair.a.send([TEXT], peer="b"), pair.a.send([TEXT], peer="c")
    pair.clock.run_due()
    order = [chunk.transfer_id for chunk in pair.a.sent if isinstance(chunk, Chunk)]
    assert order == [first.transfer_id] * WINDOW + [second.transfer_id] * WINDOW


@pytest.mark.parametrize("lost", range(15))
def test_any_one_datagram_may_be_lost(pair: Pair, lost: int) -> None:
    pair.fate = lambda number, datagram: [] if number == lost else [datagram]
    pair.a.send([TEXT])
    pair.carry_until_done()
    assert pair.b.payloads == [TEXT]
    assert len(pair.a.done) == 1
    assert len(pair.a.chunks) <= 10 + WINDOW


@pytest.mark.parametrize("twice", range(15))
def test_any_datagram_may_come_twice(pair: Pair, twice: int) -> None:
    pair.fate = lambda number, datagram: [datagram] * (1 + (number == twice))
    pair.a.send([TEXT])
    pair.carry_until_done()
    assert pair.b.payloads == [TEXT]
    assert pair.a.chunks == list(range(10))


@pytest.mark.parametrize("seed", range(40))
def test_many_may_be_lost_repeated_or_late(pair: Pair, seed: int) -> None:
    def fate(number: int, datagram: bytes) -> list[bytes]:
        if (number * 7 + seed) % 11 == 0:
            kept[pair.source].append(datagram)
            return []
        if (number + seed) % 5 == 0:
            return []
        if (number + seed) % 13 == 0 and kept[pair.source]:  # one from before comes late
            return [datagram, kept[pair.source].pop()]
        return [datagram]

    kept: dict[str, list[bytes]] = {"a": [], "b": []}
    pair.fate = fate
    pair.a.send([TEXT])
    pair.b.send([TEXT[::-1]], peer="a")
    pair.carry_until_done(600.0)
    assert pair.b.payloads == [TEXT]
    assert pair.a.payloads == [TEXT[::-1]]


def test_what_an_old_connection_brings_late_does_no_harm(pair: Pair) -> None:
    pair.a.send([TEXT])
    pair.clock.run_due()
    old = [datagram for _, datagram in pair.a.outbox]
    pair.lose()
    pair.a.exchange.reconnected()
    _, offer = pair.a.outbox.popleft()
    pair.b.exchange.feed("a", offer)
    for datagram in reversed(old):
        pair.b.exchange.feed("a", datagram)
    pair.carry_until_done()
    assert pair.b.payloads == [TEXT]
    assert pair.b.exchange.rejected == {}


def flipped(datagram: bytes) -> bytes:
    return datagram[:-1] + bytes([datagram[-1] ^ 1])


def test_a_corrupted_chunk_is_counted_and_sent_again(pair: Pair) -> None:
    pair.fate = lambda number, datagram: [flipped(datagram) if number == 0 else datagram]
    pair.a.send([TEXT])
    pair.carry()
    assert pair.b.payloads == [TEXT]
    assert pair.b.exchange.rejected == {"wrong-digest": 1}
    assert pair.a.chunks == [0, 1, 2, 3, *range(10)]


def test_a_payload_whose_digests_are_always_wrong_is_refused(pair: Pair) -> None:
    def fate(_number: int, datagram: bytes) -> list[bytes]:
        return [flipped(datagram) if isinstance(datagrams.decode(datagram), Chunk) else datagram]

    pair.fate = fate
    transfer = pair.a.send([TEXT])
    pair.carry_until_done()
    assert transfer.error == "its digests are wrong"
    assert pair.b.exchange.rejected == {"wrong-digest": 8}
    assert pair.b.received == []


def chunk(**changes: object) -> bytes:
    sound = Chunk(7, 0, 0, 10, 10, hashlib.sha256(TEXT[:10]).digest(), memoryview(TEXT[:10]))
    return datagrams.encode(msgspec.structs.replace(sound, **changes))


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "not-a-datagram"),
        (b"\xff" * 100, "not-a-datagram"),
        (b"\x91" * 100_000, "not-a-datagram"),
        (msgspec.msgpack.encode({"transfer": 1}), "not-a-datagram"),
        (msgspec.msgpack.encode([9, 1, 2, 3]), "not-a-datagram"),
        (msgspec.msgpack.encode([1, 1, 2]), "not-a-datagram"),
        (chunk(index=-1), "not-a-datagram"),
        (chunk(chunk_bytes=0), "not-a-datagram"),
        (chunk()[:-1], "not-a-datagram"),
        (chunk(data=memoryview(b"short")), "wrong-length"),
        (chunk(index=5), "wrong-length"),
        (chunk(size_bytes=LARGEST_BYTES + 1), "too-large"),
        (datagrams.encode(Offer(8, 0, 1, LARGEST_BYTES + 1, 10)), "too-large"),
        (chunk(digest=b""), "wrong-digest"),
    ],
)
def test_what_is_malformed_is_counted_and_harms_nobody(pair: Pair, datagram: bytes, reason: str) -> None:
    pair.a.send([TEXT])
    pair.clock.run_due()
    pair.b.exchange.feed("a", datagram)
    pair.carry()
    assert pair.b.exchange.rejected == {reason: 1}
    assert pair.b.payloads == [TEXT]


def test_a_transfer_that_changes_its_size_is_rejected(pair: Pair) -> None:
    pair.b.exchange.feed("a", chunk(size_bytes=20))
    pair.b.exchange.feed("a", chunk(size_bytes=30, index=1))
    assert pair.b.exchange.rejected == {"inconsistent": 1}


def test_an_acknowledgement_of_what_was_never_sent_is_rejected(pair: Pair) -> None:
    transfer = pair.a.send([TEXT])
    pair.clock.run_due()
    pair.a.exchange.feed("b", datagrams.encode(Ack(transfer.transfer_id, 0, 10, 10)))
    assert pair.a.exchange.rejected == {"impossible-ack": 1}
    assert pair.a.done == []
    pair.carry()
    assert pair.b.payloads == [TEXT]


@pytest.mark.parametrize("who", ["sender", "receiver", "both"])
def test_a_transfer_goes_on_from_where_it_was_when_the_connection_is_back(pair: Pair, who: str) -> None:
    pair.fate = lambda number, datagram: [datagram] if number < 9 else []
    pair.a.send([TEXT])
    pair.carry()
    # Six chunks have crossed, and three acknowledgements: 6, 7, 8 and 9 are under way, and lost.
    assert pair.a.chunks == list(range(10))
    pair.fate = lambda _number, datagram: [datagram]
    if who != "receiver":
        pair.a.exchange.reconnected()
    if who != "sender":
        pair.b.exchange.reconnected()
    pair.carry()
    assert pair.b.payloads == [TEXT]
    assert pair.a.chunks == [*range(10), *range(6, 10)]
    assert pair.clock.now_s == 0.0


def test_a_receiver_that_has_forgotten_everything_gets_all_again(pair: Pair, tmp_path: Path) -> None:
    pair.fate = lambda number, datagram: [datagram] if number < 9 else []
    pair.a.send([TEXT])
    pair.carry()
    pair.b = type(pair.b)(pair.clock, tmp_path / "new")
    pair.fate = lambda _number, datagram: [datagram]
    pair.a.exchange.reconnected("b")
    pair.carry()
    assert pair.b.payloads == [TEXT]
    assert pair.a.chunks == [*range(10), *range(10)]


def test_without_a_connection_nothing_is_sent_until_it_is_there(pair: Pair) -> None:
    pair.a.connected = False
    transfer = pair.a.send([TEXT])
    pair.carry()
    pair.clock.sleep(0.5)
    assert transfer.sent_bytes == 0
    pair.a.connected = True
    pair.a.exchange.reconnected()
    pair.carry()
    assert pair.b.payloads == [TEXT]
    assert pair.a.chunks == list(range(10))


def test_a_silent_peer_is_asked_less_and_less_often_and_nothing_is_sent_again(pair: Pair) -> None:
    pair.fate = lambda _number, _datagram: []
    pair.a.send([TEXT])
    asked_at_s = []
    for _ in range(40):
        n_offers = pair.a.n_offers
        pair.carry()
        pair.clock.sleep(0.5)
        if pair.a.n_offers > n_offers:
            asked_at_s.append(pair.clock.now_s)
    assert asked_at_s == [1.0, 3.0, 7.0, 11.0, 15.0, 19.0]
    assert pair.a.chunks == [0, 1, 2, 3]


def test_answers_that_take_long_do_not_make_the_sender_repeat_itself(pair: Pair) -> None:
    """Thirty seconds to and fro: a slow link shared by many."""
    pair.a.send([TEXT])
    while not pair.a.done:
        pair.clock.run_due()
        there = list(pair.a.outbox)
        back = list(pair.b.outbox)
        pair.lose()
        for _ in range(30):
            pair.clock.sleep(0.5)
        for _, datagram in there:
            pair.b.exchange.feed("a", datagram)
        for _, datagram in back:
            pair.a.exchange.feed("b", datagram)
        assert pair.clock.now_s < 600
    assert pair.b.payloads == [TEXT]
    assert pair.a.chunks == list(range(10))


def test_what_is_finished_is_acknowledged_again_and_delivered_once(pair: Pair) -> None:
    transfer = pair.a.send([b"hello"])
    pair.clock.run_due()
    (_, datagram), *_ = pair.a.outbox
    pair.b.exchange.feed("a", datagram)
    pair.lose()  # the acknowledgement
    pair.a.exchange.reconnected()
    pair.b.exchange.feed("a", datagram)
    pair.carry()
    assert pair.b.payloads == [b"hello"]
    assert pair.a.done == [transfer]
    assert pair.a.chunks == [0]


def test_a_sender_calls_off_what_is_half_done(tmp_path: Path) -> None:
    pair = Pair(tmp_path, chunk_bytes=64 * 1024)
    transfer = pair.a.send([bytes(2 * IN_MEMORY_BYTES)])
    pair.fate = lambda number, datagram: [datagram] if number < 10 else []
    pair.carry()
    assert len(list(pair.b.spool_dir.iterdir())) == 1
    pair.fate = lambda _number, datagram: [datagram]
    pair.a.exchange.cancel(transfer, "the round is over")
    pair.carry()
    assert pair.b.cancelled == [("a", transfer.transfer_id, "the round is over")]
    assert not list(pair.b.spool_dir.iterdir())
    pair.clock.sleep(0.5)
    assert pair.clock.idle
    assert (pair.a.done, pair.b.received) == ([], [])


def test_a_sender_calls_off_what_was_delivered(pair: Pair) -> None:
    transfer = pair.a.send([TEXT])
    pair.carry()
    pair.a.exchange.cancel(transfer, "x" * 1000)
    pair.carry()
    assert pair.b.cancelled == [("a", transfer.transfer_id, "x" * 300)]


def test_what_is_not_wanted_is_refused_at_its_first_datagram(pair: Pair) -> None:
    pair.b.wanted = False
    transfer = pair.a.send([TEXT])
    pair.carry()
    assert transfer.error == "not wanted"
    assert pair.a.chunks == [0, 1, 2, 3]
    assert pair.b.sent == [Cancel(transfer.transfer_id, "not wanted")] * 4


def test_a_payload_that_is_too_large_is_refused(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    transfer = pair.a.send(path)
    pair.carry()
    assert transfer.error == f"larger than {LARGEST_BYTES} bytes"


def test_a_fifth_payload_that_is_half_done_pushes_the_oldest_out(pair: Pair) -> None:
    for transfer_id in range(5):
        pair.b.exchange.feed("a", chunk(transfer_id=transfer_id, size_bytes=100))
    pair.b.exchange.feed("c", chunk(transfer_id=9, size_bytes=100))
    assert pair.b.sent == [Cancel(0, "too many at once")]
    assert pair.b.exchange.rejected == {"too-many": 1}


def test_a_file_that_is_cut_short_while_it_is_sent_fails(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(TEXT)
    transfer = pair.a.send(path)
    path.write_bytes(TEXT[:25])
    pair.carry()
    assert transfer.error == f"{path} has become shorter"
    assert pair.b.cancelled == [("a", transfer.transfer_id, "the sender cannot read it any more")]


def test_a_payload_that_finds_no_room_is_refused(tmp_path: Path) -> None:
    pair = Pair(tmp_path, chunk_bytes=64 * 1024)
    pair.b.spool_dir.rmdir()
    transfer = pair.a.send([bytes(2 * IN_MEMORY_BYTES)])
    pair.carry()
    assert transfer.error == "cannot be kept: No such file or directory"
    assert pair.b.exchange.rejected == {"no-room": 1}


def test_a_reply_shows_that_its_request_has_arrived(pair: Pair) -> None:
    request = pair.a.send([b"request"])
    pair.clock.run_due()
    pair.b.exchange.feed("a", pair.a.outbox.popleft()[1])
    pair.lose()  # the acknowledgement
    pair.b.send([b"reply"], peer="a", reply_to=pair.b.received[0][1].transfer_id)
    pair.carry()
    assert pair.a.done == [request]
    assert pair.a.payloads == [b"reply"]


def test_calling_off_a_request_calls_off_its_reply(pair: Pair) -> None:
    request = pair.a.send([b"request"])
    pair.carry()
    reply = pair.b.send([TEXT], peer="a", reply_to=request.transfer_id)
    pair.fate = lambda number, datagram: [datagram] if number < 4 else []
    pair.carry()
    pair.fate = lambda _number, datagram: [datagram]
    pair.a.exchange.cancel(request, "too late")
    pair.a.wanted = False
    pair.carry_until_done()
    assert reply.error == "too late"
    assert pair.a.received == []


def test_no_more_than_a_burst_is_handed_to_a_connection_that_does_not_take_it(tmp_path: Path) -> None:
    pair = Pair(tmp_path, chunk_bytes=64 * 1024)
    for n in range(100):
        pair.a.send([bytes(100_000)], peer=f"peer-{n}")
    pair.a.fills_up = True
    pair.clock.run_due()
    assert len(pair.a.chunks) == 4
    pair.clock.sleep(5.0)
    assert len(pair.a.chunks) == 4
    pair.a.backed_up = False
    pair.clock.sleep(0.032)
    assert len(pair.a.chunks) == 8


def test_a_file_that_fails_in_a_burst_does_not_make_the_bursts_twice_as_many(tmp_path: Path) -> None:
    pair = Pair(tmp_path, chunk_bytes=64 * 1024)
    n_bursts = 0

    def backed_up() -> bool:
        nonlocal n_bursts
        n_bursts += 1
        return False

    exchange = Exchange(
        pair.clock,
        lambda _peer, _datagram: True,
        tmp_path / "spool",
        on_received=lambda _peer, _received: None,
        on_cancelled=lambda _peer, _transfer_id, _reason: None,
        backed_up=backed_up,
    )
    path = tmp_path / "model"
    path.write_bytes(bytes(100))
    exchange.send("b", path, lambda _transfer: None)
    path.write_bytes(b"")
    whole = [bytes(4 * CHUNK_BYTES)]
    chunks = [exchange.send(peer, whole, lambda _transfer: None) for peer in ("b", "c", "d")]
    pair.clock.run_due()
    assert [transfer.sent_bytes for transfer in chunks] == [4 * CHUNK_BYTES] * 3
    # The first of a burst of four fails, so twelve chunks take 3 + 4 + 4 + 1.
    assert n_bursts == 4


def test_an_exchange_with_nothing_under_way_has_no_timer(pair: Pair) -> None:
    pair.a.send([TEXT])
    pair.carry()
    pair.clock.sleep(0.5)
    assert pair.clock.idle


def test_a_closed_exchange_leaves_no_files(tmp_path: Path) -> None:
    pair = Pair(tmp_path, chunk_bytes=64 * 1024)
    pair.a.send([bytes(2 * IN_MEMORY_BYTES)])
    pair.fate = lambda number, datagram: [datagram] if number < 10 else []
    pair.carry()
    pair.a.exchange.close()
    pair.b.exchange.close()
    assert pair.clock.idle
    assert not list(pair.b.spool_dir.iterdir())


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with make_broker(BrokerSettings("broker", tmp_path / "broker")) as running:
        yield running


def test_twenty_megabytes_cross_a_slow_link_that_breaks_off_again_and_again(broker: Broker, tmp_path: Path) -> None:
    n_cuts, data = 4, rng_for(1, "payload").bytes(20_000_000)
    url = parse_broker_url(broker.url)
    link = LinkPlan("device", "site", 10.0, 0.0, 50.0, 50.0, "pipe")
    route = Route("device", (link.name,), url.host, url.port, "mqtt")
    with (
        Relay.start([link], [route], seed=1, log_dir=tmp_path) as relay,
        closing(Cuttable(*relay.address("device"))) as cuttable,
        wired(url, cuttable.broker, tmp_path) as (reactor, server, device),
    ):

        def cut_now_and_then(n_datagrams: int) -> None:
            if n_datagrams % 60 == 0 and n_datagrams <= 60 * n_cuts:
                cuttable.cut()

        device.after = cut_now_and_then
        transfer = server.send([data])
        turn_until(reactor, lambda: len(server.done) == 1)
        received = device.received[0]
        assert transfer.error is None
        assert received.path is not None
        assert received.path.read_bytes() == data
        assert cuttable.n_connections == 1 + n_cuts
        assert transfer.sent_bytes - len(data) <= 2 * n_cuts * WINDOW * CHUNK_BYTES
        assert received.carried_bytes - len(data) <= n_cuts * WINDOW * CHUNK_BYTES


def test_a_payload_goes_up_while_the_senders_own_connection_breaks_off(broker: Broker, tmp_path: Path) -> None:
    n_cuts, data = 3, rng_for(2, "payload").bytes(8_000_000)
    url = parse_broker_url(broker.url)
    with (
        closing(Cuttable(url.host, url.port)) as cuttable,
        wired(url, cuttable.broker, tmp_path) as (reactor, server, device),
    ):

        def cut_now_and_then(n_datagrams: int) -> None:
            if n_datagrams % 25 == 0 and n_datagrams <= 25 * n_cuts:
                cuttable.cut()

        server.after = cut_now_and_then
        transfer = device.send([data])
        turn_until(reactor, lambda: len(device.done) == 1)
        received = server.received[0]
        assert received.path is not None
        assert received.path.read_bytes() == data
        assert transfer.sent_bytes - len(data) <= 2 * n_cuts * WINDOW * CHUNK_BYTES


def test_a_hundred_megabytes_cross_in_little_memory(broker: Broker, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.federated.large", broker.url, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    growth_bytes, same = done.stdout.split()
    assert same == "True"
    assert int(growth_bytes) < 40_000_000


def test_a_payload_for_many_peers_exists_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path, chunk_bytes=CHUNK_BYTES)
    data = bytes(20_000_000)
    tracemalloc.start()
    try:
        for n in range(4):
            pair.a.send([data], peer=f"peer-{n}")
        pair.clock.run_due()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(pair.a.chunks) == 4 * WINDOW
    # The windows, each in a datagram that the test keeps decoded as well.
    assert peak_bytes < 3 * 4 * WINDOW * CHUNK_BYTES
