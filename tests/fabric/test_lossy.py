"""The relay where packets get lost, rates vary by a trace, and links have outages: real sockets through it."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import closing
from pathlib import Path

import msgspec

from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns, sleep_s
from edgebench.fabric.links import Relay
from edgebench.fabric.relay import OutageStep
from edgebench.topology.link_model import LinkChange, Outage
from edgebench.topology.link_traces import LinkTraces, RateTrace
from tests.fabric.relaying import BED, WARD, Server, connect, is_over, link, read_all

changed = msgspec.structs.replace


def exchange(client: socket.socket, target: socket.socket, up: bytes, down: bytes) -> tuple[bytes, bytes]:
    """Send both ways at once, and end; what arrives, up and down."""

    def send(sender: socket.socket, data: bytes) -> None:
        sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)

    got: list[bytes] = []
    threads = [
        threading.Thread(target=send, args=(client, up)),
        threading.Thread(target=send, args=(target, down)),
        threading.Thread(target=lambda: got.append(read_all(client))),
    ]
    for thread in threads:
        thread.start()
    arrived_up = read_all(target)
    for thread in threads:
        thread.join()
    return arrived_up, got[0]


def test_bytes_cross_two_links_that_lose_packets_unchanged_and_what_was_lost_is_counted(
    server: Server, tmp_path: Path
) -> None:
    links = [changed(link(BED, 1.0, 400.0), loss_percent=3.0), link(WARD, 2.0)]
    up, down = os.urandom(500_000), os.urandom(400_000)
    with Relay.start(links, [server.route(BED, WARD)], seed=1, log_dir=tmp_path) as relay:
        with connect(relay) as client, server.accept() as target:
            assert exchange(client, target, up, down) == (up, down)
        counters = relay.counters()
    near, far = counters[BED], counters[WARD]
    assert (near.up_bytes, near.down_bytes) == (far.up_bytes, far.down_bytes) == (500_000, 400_000)
    # 346 and 277 packets at least, 3 % of which get lost, besides acknowledgements and what is sent again.
    assert 346 < near.up_packets < 1000
    assert 277 < near.down_packets < 1000
    assert 0.005 < near.up_lost / near.up_packets < 0.08
    assert far.up_packets == far.up_lost == 0


def test_in_an_outage_nothing_passes_and_connections_outlive_it_unless_it_resets_them(
    server: Server, tmp_path: Path
) -> None:
    links = [
        changed(link(BED, 1.0), outages=(Outage(0.0, 0.3),)),
        changed(link(WARD, 1.0), outages=(Outage(0.0, reset=True),)),
    ]
    routes = [server.route(BED, name="silent"), server.route(WARD, name="reset")]
    outages: list[OutageStep] = []
    with Relay.start(links, routes, seed=1, log_dir=tmp_path) as relay:
        relay.on_counters = lambda counters: outages.extend(counters.outages)
        silent = connect(relay, "silent")
        with silent, server.accept() as target:
            reset = connect(relay, "reset")
            with reset, closing(server.accept()) as other:
                began_ns = now_ns()
                relay.begin(began_ns)
                silent.sendall(b"late")
                assert is_over(reset)
                assert is_over(other)
            assert target.recv(4) == b"late"
            assert now_ns() - began_ns >= 300 * NS_PER_MS
            with connect(relay, "reset") as again, closing(server.accept()) as end:
                again.sendall(b"back")
                assert end.recv(4) == b"back"
        relay.counters()
        steps = [(each.link, each.step) for each in sorted(outages, key=lambda each: each.at_ns)]
        assert sorted(steps[:2]) == [(BED, "silent"), (WARD, "reset")]
        assert steps[2:] == [(BED, "again")]
        assert outages[-1].at_ns - began_ns >= 300 * NS_PER_MS


def test_a_link_that_begins_to_lose_packets_in_mid_transfer_keeps_the_bytes_in_order(
    server: Server, tmp_path: Path
) -> None:
    up, down = os.urandom(1_000_000), os.urandom(200_000)
    with Relay.start([link(BED, 2.0, 80.0)], [server.route(BED)], seed=1, log_dir=tmp_path) as relay:
        with connect(relay) as client, server.accept() as target:

            def break_and_mend() -> None:
                sleep_s(0.02)
                relay.degrade(BED, LinkChange(loss_percent=5.0))
                sleep_s(0.2)
                relay.mend(BED)

            meanwhile = threading.Thread(target=break_and_mend)
            meanwhile.start()
            assert exchange(client, target, up, down) == (up, down)
            meanwhile.join()
        assert relay.counters()[BED].up_bytes == 1_000_000


def test_rates_follow_a_trace_from_its_begin_on(server: Server, tmp_path: Path) -> None:
    # 12.032 Mbit/s for 100 ms, then nothing for 200 ms: a mean of a third.
    trace = RateTrace(gaps_ms=(*(1,) * 100, 200), packets=(*(1,) * 100, 1))
    links = [changed(link(BED), up_trace="t", up_mbit_s=trace.mean_mbit_s)]
    traces = LinkTraces(rates={"t": trace})
    with (
        Relay.start(links, [server.route(BED)], seed=1, log_dir=tmp_path, traces=traces) as relay,
        connect(relay) as client,
        server.accept() as target,
    ):
        client.sendall(b"x")
        target.recv(1)
        relay.begin(began_ns := now_ns())
        client.sendall(bytes(250 * 1504))  # of which 101 packets may leave in each 300 ms
        left = 250 * 1504
        while left:
            left -= len(target.recv(1 << 16))
        assert now_ns() - began_ns >= 0.647 * NS_PER_S


def test_delays_follow_a_trace(server: Server, tmp_path: Path) -> None:
    traces = LinkTraces(delays={"t": [5.0, 5.0, 60.0]})
    links = [changed(link(BED, 5.0), delay_trace="t")]
    with (
        Relay.start(links, [server.route(BED)], seed=1, log_dir=tmp_path, traces=traces) as relay,
        connect(relay) as client,
        server.accept() as target,
    ):
        client.sendall(b"x")
        target.recv(1)
        took_ms = []
        for _ in range(6):
            sent_ns = now_ns()
            client.sendall(b"x")
            target.recv(1)
            took_ms.append((now_ns() - sent_ns) / NS_PER_MS)
        # However busy the machine, two of six are late by the trace.
        assert min(took_ms) >= 5
        assert len([took for took in took_ms if took >= 60]) >= 2
