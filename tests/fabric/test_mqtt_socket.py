"""What comes and goes by a connection to a broker, byte by byte, over real sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgebench.fabric.authority import Authority
from edgebench.fabric.in_flight import InFlight
from edgebench.fabric.mqtt_socket import MqttSocket, once_more, publication
from edgebench.fabric.tls import client_context, server_context, tls_name

CONNACK = b"\x20\x02\x00\x00"
PINGRESP = b"\xd0\x00"


class Taken:
    """The two ends of a connection, and what was taken at this one; `others` reads as paho does."""

    def __init__(self, ends: tuple[socket.socket, socket.socket] | None = None) -> None:
        """ends: this one, and the broker's."""
        ours, self.broker = ends or socket.socketpair()
        ours.setblocking(False)
        self.happened: list[object] = []
        self.room = bytearray(4096)
        self.sock = MqttSocket(
            ours,
            on_message=lambda topic, payload: self.happened.append((topic, payload)),
            on_acknowledged=self.happened.append,
            on_others=self._read_as_paho,
        )

    def _read_as_paho(self) -> None:
        got = self.sock.recv(1)
        self.happened.append(got + self.sock.recv(1) + self.sock.recv(2) if got else got)

    def comes(self, data: bytes) -> list[object]:
        self.broker.sendall(data)
        self.sock.read(self.room)
        happened, self.happened = self.happened, []
        return happened

    def gone(self) -> bytes:
        assert self.sock.flush()
        return self.broker.recv(1 << 20)


@pytest.fixture
def taken() -> Iterator[Taken]:
    made = Taken()
    yield made
    made.sock.close()
    made.broker.close()


def tls_ends(folder: Path) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    authority = Authority.create(folder / "authority")
    (folder / "ward").mkdir()
    ward = authority.issue(folder / "ward", "ward")
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as pool:
        server = server_context(ward, require_client_certificate=False)
        shaking = pool.submit(server.wrap_socket, theirs, server_side=True)
        client = client_context(ward, mutual=False).wrap_socket(ours, server_hostname=tls_name("ward"))
        return client, shaking.result()


def test_publications_are_taken_beside_the_client_in_their_order_and_acknowledged_together(taken: Taken) -> None:
    came = [
        CONNACK,
        publication(b"a/b", b"zero", retain=False),
        publication(b"a/c", b"one", retain=True, packet_id=7),
        b"\x40\x02\x04\x01",
        publication(b"a/d", b"", retain=False, packet_id=258),
    ]
    assert taken.comes(b"".join(came)) == [CONNACK, ("a/b", b"zero"), ("a/c", b"one"), 1025, ("a/d", b"")]
    assert taken.gone() == b"\x40\x02\x00\x07\x40\x02\x01\x02"


def test_a_packet_may_come_byte_by_byte(taken: Taken) -> None:
    packet = publication(b"topic", bytes(range(200)), retain=False, packet_id=9)
    for byte in packet[:-1]:
        assert taken.comes(bytes((byte,))) == []
    assert taken.comes(packet[-1:] + PINGRESP[:1]) == [("topic", bytes(range(200)))]


@pytest.mark.parametrize("size", [0, 120, 121, 16_370, 100_000])
def test_a_message_of_any_size_passes_a_small_room(taken: Taken, size: int) -> None:
    body = bytes(range(251)) * (size // 251) + bytes(size % 251)
    packet = publication(b"large", body, retain=False)
    happened = []
    for start in range(0, len(packet), 1500):
        happened += taken.comes(packet[start : start + 1500])
    assert happened == [("large", body)]
    assert taken.comes(publication(b"next", b"x", retain=False)) == [("next", b"x")]


def test_packets_are_written_together_and_what_the_system_does_not_take_goes_later(taken: Taken) -> None:
    packets = [publication(b"t", bytes((number,)) * 20_000, retain=False) for number in range(100)]
    for packet in packets:
        taken.sock.put(packet)
    got = bytearray()
    while not taken.sock.flush():
        got += taken.broker.recv(300_000)
    while len(got) < sum(map(len, packets)):
        got += taken.broker.recv(300_000)
    assert got == b"".join(packets)
    assert not taken.sock.unsent


def test_by_tls_packets_pass_whole_however_little_is_written_and_read_at_once(tmp_path: Path) -> None:
    taken = Taken(tls_ends(tmp_path))
    packets = [publication(b"t", bytes((number,)) * 20_000, retain=False) for number in range(100)]
    for packet in packets:
        taken.sock.put(packet)
    got, waited = bytearray(), 0
    while not taken.sock.flush():
        waited += 1
        got += taken.broker.recv(300_000)
    while len(got) < sum(map(len, packets)):
        got += taken.broker.recv(300_000)
    assert got == b"".join(packets)
    assert waited > 1
    assert not taken.sock.unsent
    body = bytes(range(250)) * 200
    taken.broker.sendall(publication(b"large", body, retain=False, packet_id=3))
    while not taken.happened:
        taken.sock.read(taken.room)
    assert taken.happened == [("large", body)]
    assert taken.gone() == b"\x40\x02\x00\x03"
    taken.sock.close()
    taken.broker.close()


def test_a_length_that_is_none_and_the_end_are_left_to_the_client(taken: Taken) -> None:
    assert taken.comes(b"\x30\xff\xff\xff")[:1] == []
    assert taken.comes(b"\xff\x01\x00\x00")[0] == b"\x30\xff\xff\xff"
    taken.broker.close()
    taken.sock.read(taken.room)
    assert taken.happened == [b""]


def test_what_is_not_acknowledged_is_sent_again_by_the_next_connection_and_says_so(taken: Taken) -> None:
    in_flight = InFlight()
    assert in_flight.publish(b"t", b"before", retain=False)
    in_flight.is_up(taken.sock)
    assert in_flight.publish(b"t", b"one", retain=False)
    before, one = (
        publication(b"t", body, retain=False, packet_id=1024 + place) for place, body in enumerate((b"before", b"one"))
    )
    assert taken.gone() == before + one
    in_flight.is_down()
    in_flight.acknowledged(1024)
    in_flight.acknowledged(1024)
    assert in_flight.publish(b"t", b"two", retain=True)
    again = Taken()
    in_flight.is_up(again.sock)
    assert again.gone() == once_more(one) + publication(b"t", b"two", retain=True, packet_id=1026)
    assert once_more(one)[0] == 0x3A
    again.sock.close()
    again.broker.close()
