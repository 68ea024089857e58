"""The relay process: real sockets through it, and real MQTT."""

from __future__ import annotations

import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.links import Relay
from edgebench.fabric.relay import Route
from edgebench.topology.deployment import LinkPlan
from edgebench.topology.link_model import LinkChange
from edgebench.topology.link_traces import OPPORTUNITY_BYTES, LinkTraces, RateTrace
from tests.fabric.ended import check_gone
from tests.fabric.relaying import BED, WAIT_S, WARD, Server, connect, is_over, link, read_all


@pytest.fixture
def relay(server: Server, tmp_path: Path) -> Iterator[Relay]:
    links = [link(BED, 1.0, 400.0), link(WARD, 5.0, 80.0)]
    with Relay.start(links, [server.route(BED, WARD)], seed=1, log_dir=tmp_path) as running:
        yield running


def wait_until(happened: Callable[[], bool]) -> None:
    until_s = now_s() + WAIT_S
    while not happened():
        assert now_s() < until_s, "did not happen"
        sleep_s(0.02)


def test_bytes_cross_two_links_unchanged_both_ways_at_once_and_are_counted_on_each(
    relay: Relay, server: Server
) -> None:
    up, down = os.urandom(1_500_000), os.urandom(1_000_000)
    with connect(relay) as client, server.accept() as target:

        def client_sends() -> None:
            client.sendall(up)
            client.shutdown(socket.SHUT_WR)

        def target_sends() -> None:
            target.sendall(down)
            target.shutdown(socket.SHUT_WR)

        senders = [threading.Thread(target=client_sends), threading.Thread(target=target_sends)]
        for sender in senders:
            sender.start()
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(read_all(client)))
        reader.start()
        assert read_all(target) == up
        for thread in [*senders, reader]:
            thread.join()
        assert got == [down]
    counters = relay.counters()
    for name in (BED, WARD):
        assert (counters[name].up_bytes, counters[name].down_bytes) == (1_500_000, 1_000_000)
        assert (counters[name].up_messages, counters[name].connections) == (0, 1)


def test_one_end_may_close_its_half_and_still_receive(relay: Relay, server: Server) -> None:
    with connect(relay) as client, server.accept() as target:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(target) == b"question"
        target.sendall(b"answer")
        target.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"answer"


def test_nothing_arrives_before_latency_and_rate_allow(relay: Relay, server: Server) -> None:
    with connect(relay) as client, server.accept() as target:
        client.sendall(b"first")  # after this, TCP's handshake is over
        target.recv(16)
        sent_ns = now_ns()
        client.sendall(bytes(100_000))
        left = 100_000
        while left:
            left -= len(target.recv(1 << 16))
        # 100,000 bytes at 80 Mbit/s take 10 ms; 6 ms of latency.
        assert now_ns() - sent_ns >= 16_000_000


def test_a_new_connection_waits_a_round_trip_before_its_first_byte(relay: Relay, server: Server) -> None:
    start_ns = now_ns()
    with connect(relay) as client, server.accept() as target:
        client.sendall(b"x")
        target.recv(1)
        assert now_ns() - start_ns >= 18_000_000  # 2 · 6 ms, and 6 ms more for the byte


def test_two_routes_over_links_of_one_pipe_share_its_rate(server: Server, tmp_path: Path) -> None:
    links = [link("a -> cloud", rate=8.0, pipe="air"), link("b -> cloud", rate=8.0, pipe="air")]
    routes = [server.route("a -> cloud", name="a"), server.route("b -> cloud", name="b")]
    with Relay.start(links, routes, seed=1, log_dir=tmp_path) as relay:
        start_ns = now_ns()
        clients = [connect(relay, name) for name in "ab"]
        targets = [server.accept() for _ in clients]
        for client in clients:
            client.sendall(bytes(100_000))
            client.close()
        assert [len(read_all(target)) for target in targets] == [100_000, 100_000]
        # 200,000 bytes at 8 Mbit/s; apart they would take 100 ms.
        assert now_ns() - start_ns >= 200_000_000
        for target in targets:
            target.close()


def test_a_fast_sender_is_held_back(server: Server, tmp_path: Path) -> None:
    with Relay.start([link(BED, rate=1.0)], [server.route(BED)], seed=1, log_dir=tmp_path) as relay:
        with connect(relay) as client, server.accept():
            client.setblocking(False)
            taken = 0
            start_s = now_s()
            until_s = now_s() + 0.5
            while now_s() < until_s:
                try:
                    taken += client.send(bytes(1 << 16))
                except BlockingIOError:
                    sleep_s(0.01)
        # 1 Mbit/s are 125,000 bytes/s; the rest waits with the kernel and the sender.
        assert relay.counters()[BED].up_bytes <= 125_000 * (now_s() - start_s)
        assert taken < 32_000_000
        assert psutil.Process(relay.process.pid).memory_info().rss < 200_000_000


def test_a_reset_goes_through_at_once(relay: Relay, server: Server) -> None:
    with closing(connect(relay)) as client, server.accept() as target:
        client.sendall(b"x")
        target.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(ConnectionResetError):
            target.recv(1)


def test_a_target_that_refuses_closes_the_client(relay: Relay, server: Server) -> None:
    server.listener.close()
    # It may be closed before `connect` has returned.
    with pytest.raises(ConnectionResetError), connect(relay) as client:
        client.recv(1)


def test_routes_can_be_added_while_it_runs_and_probes_are_not_counted(relay: Relay, server: Server) -> None:
    port = server.listener.getsockname()[1]
    relay.open([Route("p", (BED,), "localhost", port, "opaque", probe=True)])
    with connect(relay, "p") as client, server.accept() as target:
        client.sendall(b"unseen")
        assert target.recv(16) == b"unseen"
    counters = relay.counters()[BED]
    assert (counters.up_bytes, counters.up_messages, counters.connections) == (0, 0, 0)


def test_links_with_opaque_connections_have_no_message_count(relay: Relay, server: Server) -> None:
    relay.open([server.route(WARD, name="tls", protocol="opaque")])
    counters = relay.counters()
    assert counters[WARD].up_messages is None
    assert counters[BED].up_messages == 0


def test_mqtt_crosses_it_and_its_messages_are_counted(tmp_path: Path) -> None:
    with make_broker(BrokerSettings("b", tmp_path / "broker")) as broker:
        where = parse_broker_url(broker.url)
        route = Route("broker", (BED,), where.host, where.port, "mqtt")
        with Relay.start([link(BED, 1.0, 400.0)], [route], seed=1, log_dir=tmp_path) as relay:
            got: queue.Queue[bytes] = queue.Queue()
            subscribed = threading.Event()
            client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bed")
            client.on_message = lambda _client, _data, message: got.put(bytes(message.payload))
            client.on_subscribe = lambda *_: subscribed.set()
            client.connect(*relay.address("broker"))
            client.loop_start()
            client.subscribe("t", 1)
            assert subscribed.wait(WAIT_S)
            for number in range(20):
                client.publish("t", number.to_bytes(2, "big") * 7300, qos=number % 2)
            assert {got.get(timeout=WAIT_S) for _ in range(20)} == {n.to_bytes(2, "big") * 7300 for n in range(20)}
            client.disconnect()
            client.loop_stop()
            final = relay.stop()
            assert final is not None
            assert (final[BED].up_messages, final[BED].down_messages) == (20, 20)
            assert final[BED].up_bytes > 20 * 14_600


def test_stop_answers_with_the_last_counters_and_leaves_no_process(relay: Relay) -> None:
    assert relay.stop() is not None
    assert relay.process.status == 0
    assert relay.stop() is None


def test_sigterm_ends_it_in_good_order(relay: Relay) -> None:
    relay.process.ask_to_end()
    assert relay.process.wait(WAIT_S)
    assert relay.process.status == 0


def test_a_relay_that_is_gone_is_an_error_and_not_a_wrong_number(relay: Relay) -> None:
    relay.process.kill()
    relay.process.wait(WAIT_S)
    with pytest.raises(FabricError, match="link relay: gone"):
        relay.counters()


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from edgebench.fabric.links import Relay\n"
        "r = Relay.start([], [], seed=1, log_dir=pathlib.Path(sys.argv[1])); print(r.process.pid, flush=True)\n"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    relay_pid = int(parent.stdout.readline())
    assert psutil.pid_exists(relay_pid)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    check_gone(relay_pid)


@pytest.mark.parametrize(
    ("links", "route", "complaint"),
    [
        ([link(BED)], Route("r", ("bed -> wrad",), "127.0.0.1", 1, "mqtt"), "no link 'bed -> wrad'"),
        ([link(BED)], Route("r", (), "127.0.0.1", 1, "mqtt"), "needs no relay"),
        ([link(BED)], Route("r", (BED,), "no-such-host.invalid", 1, "mqtt"), "cannot be resolved"),
        (
            [link(BED, rate=1.0, pipe="air"), link(WARD, rate=2.0, pipe="air")],
            Route("r", (BED,), "127.0.0.1", 1, "mqtt"),
            "share pipe 'air' but differ in their rates",
        ),
    ],
)
def test_a_broken_specification_is_refused_by_name(
    links: list[LinkPlan], route: Route, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(FabricError, match=complaint):
        Relay.start(links, [route], seed=1, log_dir=tmp_path)


def test_a_link_that_is_cut_breaks_its_connections_and_takes_none_until_it_is_mended(
    server: Server, tmp_path: Path
) -> None:
    routes = [server.route(BED, name="near"), server.route(BED, WARD, name="far")]
    with Relay.start([link(BED), link(WARD)], routes, seed=1, log_dir=tmp_path) as relay:
        far, near = (socket.create_connection(relay.address(name), timeout=WAIT_S) for name in ("far", "near"))
        with far, near, closing(server.accept()) as one, closing(server.accept()) as other:
            relay.cut(WARD)
            assert is_over(far)
            near.sendall(b"still here")
            ended, alive = (one, other) if is_over(one, 0.2) else (other, one)
            assert is_over(ended)
            assert alive.recv(10) == b"still here"
            with socket.create_connection(relay.address("far"), timeout=WAIT_S) as refused:
                assert is_over(refused)
            relay.mend(WARD)
            again = socket.create_connection(relay.address("far"), timeout=WAIT_S)
            with again, closing(server.accept()) as end:
                again.sendall(b"back")
                assert end.recv(4) == b"back"


def test_the_relay_tells_its_hiccups_up_to_its_end(relay: Relay) -> None:
    told: list[int] = []
    relay.on_counters = lambda counters: told.append(sum(each.count for each in counters.hiccups))

    def asked() -> bool:
        relay.counters()
        return sum(told) > 0

    wait_until(asked)
    sleep_s(0.5)  # in which it wakes 25 times, if others leave it the processor
    relay.stop()
    assert told[-1] > 0


def _takes_ns(sender: socket.socket, receiver: socket.socket, size_bytes: int) -> int:
    sent_ns = now_ns()
    sender.sendall(bytes(size_bytes))
    while size_bytes:
        size_bytes -= len(receiver.recv(1 << 16))
    return now_ns() - sent_ns


def test_a_link_that_is_degraded_is_slower_for_the_connections_across_it_until_it_is_mended(
    server: Server, tmp_path: Path
) -> None:
    with (
        Relay.start([link(BED)], [server.route(BED)], seed=1, log_dir=tmp_path) as relay,
        connect(relay) as client,
        server.accept() as target,
    ):
        _takes_ns(client, target, 1)
        relay.degrade(BED, LinkChange(latency_ms=60.0, up_mbit_s=8.0))
        assert _takes_ns(client, target, 100_000) >= 160_000_000  # 100 ms at 1,000 bytes a ms, and 60 ms
        assert _takes_ns(target, client, 100_000) >= 60_000_000  # the way down has kept its rate
        relay.mend(BED)
        assert min(_takes_ns(client, target, 100_000) for _ in range(10)) < 60_000_000


def test_what_was_held_up_behind_something_late_arrives_together_with_it(server: Server, tmp_path: Path) -> None:
    with (
        Relay.start([link(BED)], [server.route(BED)], seed=1, log_dir=tmp_path) as relay,
        connect(relay) as client,
        server.accept() as target,
    ):
        _takes_ns(client, target, 1)
        relay.degrade(BED, LinkChange(latency_ms=1500.0))  # in which the words come, however busy the machine
        client.sendall(b"late")
        sleep_s(0.1)
        relay.mend(BED)
        for word in (b" and", b" the", b" rest"):
            client.sendall(word)
            sleep_s(0.01)
        assert target.recv(100) == b"late and the rest"


def test_a_rate_that_is_degraded_is_that_of_all_who_share_the_pipe(server: Server, tmp_path: Path) -> None:
    links = [link("a -> cloud", rate=80.0, pipe="air"), link("b -> cloud", rate=80.0, pipe="air")]
    with (
        Relay.start(links, [server.route("b -> cloud")], seed=1, log_dir=tmp_path) as relay,
        connect(relay) as client,
        server.accept() as target,
    ):
        _takes_ns(client, target, 1)
        relay.degrade("a -> cloud", LinkChange(up_mbit_s=8.0))
        assert _takes_ns(client, target, 100_000) >= 100_000_000


def test_a_pipe_keeps_the_rate_of_a_link_that_is_degraded_when_another_that_shares_it_is_mended(
    server: Server, tmp_path: Path
) -> None:
    links = [link(f"{each} -> cloud", rate=80.0, pipe="air") for each in "abc"]
    with (
        Relay.start(links, [server.route("c -> cloud")], seed=1, log_dir=tmp_path) as relay,
        connect(relay) as client,
        server.accept() as target,
    ):
        _takes_ns(client, target, 1)
        relay.degrade("a -> cloud", LinkChange(up_mbit_s=8.0))
        relay.cut("b -> cloud")
        relay.mend("b -> cloud")
        assert _takes_ns(client, target, 100_000) >= 100_000_000
        relay.degrade("b -> cloud", LinkChange(up_mbit_s=4.0))
        relay.mend("b -> cloud")
        assert 100_000_000 <= min(_takes_ns(client, target, 100_000) for _ in range(5)) < 200_000_000
        relay.mend("a -> cloud")
        assert min(_takes_ns(client, target, 100_000) for _ in range(10)) < 100_000_000


def test_a_traced_way_that_is_kept_full_keeps_its_pace_while_the_other_is_degraded_and_mended(
    server: Server, tmp_path: Path
) -> None:
    traces = LinkTraces(rates={"r": RateTrace(gaps_ms=(100,), packets=(10,))})
    plan = msgspec.structs.replace(link(BED), up_trace="r", up_mbit_s=traces.rates["r"].mean_mbit_s)
    with (
        Relay.start([plan], [server.route(BED)], seed=1, log_dir=tmp_path, traces=traces) as relay,
        connect(relay) as client,
        server.accept() as target,
    ):
        _takes_ns(client, target, 1)
        began_ns = now_ns()
        relay.begin(began_ns)
        left_bytes = 120 * OPPORTUNITY_BYTES
        client.sendall(bytes(left_bytes))
        while left_bytes:
            relay.degrade(BED, LinkChange(down_mbit_s=8.0))
            relay.mend(BED)
            left_bytes -= len(target.recv(1 << 16))
        assert now_ns() - began_ns >= 1_200_000_000  # ten packets every 100 ms


def test_delays_by_a_trace_go_on_in_their_order_when_a_rate_is_degraded(server: Server, tmp_path: Path) -> None:
    plan = msgspec.structs.replace(link(BED), latency_ms=100.0, delay_trace="d")
    traces = LinkTraces(delays={"d": [0.0, 200.0]})
    with (
        Relay.start([plan], [server.route(BED)], seed=1, log_dir=tmp_path, traces=traces) as relay,
        connect(relay) as client,
        server.accept() as target,
    ):
        took_ns = []
        for _ in range(8):
            relay.degrade(BED, LinkChange(up_mbit_s=80.0))
            took_ns.append(_takes_ns(client, target, 1))
            relay.mend(BED)
        assert max(min(took_ns[::2]), min(took_ns[1::2])) >= 200_000_000
