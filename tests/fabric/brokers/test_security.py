"""Brokers that ask who is there: TLS, users, what each may do, and the end of that. Each kind, with plain clients."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgebench.clock import now_s
from edgebench.errors import FabricError
from edgebench.fabric.authority import Authority
from edgebench.fabric.brokers import BrokerSettings, BrokerUser, make_broker
from edgebench.fabric.brokers.server import Broker, Kind
from edgebench.fabric.brokers.settings import Permission
from edgebench.fabric.brokers.trial import Trial
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.tls import Trust, client_context
from tests.fabric.brokers.clients import Client, RefusedError

QUIET_S = 0.5
EDGE = Permission(publish=("eb/r/+/w/decision",), subscribe=("eb/r/+/+/sample", "eb/r/+/status"))
KINDS: list[Kind] = ["mosquitto", "nats"]


def device(name: str) -> Permission:
    return Permission((f"eb/r/{name}/w/sample", f"eb/r/{name}/status"), (f"eb/r/{name}/+/decision",))


USERS = (
    BrokerUser("ward", "w" * 40, EDGE),
    BrokerUser("bed-0", "0" * 40, device("bed-0")),
    BrokerUser("bed-1", "1" * 40, device("bed-1")),
)
LOGIN = {user.name: (user.name, user.password) for user in USERS}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, mosquitto: Path) -> Kind:
    asked: Kind = request.param
    return asked


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    folder = tmp_path_factory.mktemp("lab")
    return Authority.create(folder / "authority").issue(folder / "server", "server", ["127.0.0.1"])


@pytest.fixture(scope="module")
def broker(kind: Kind, trust: Trust, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    settings = BrokerSettings("site", tmp_path_factory.mktemp("broker"), tls=trust, users=USERS)
    with make_broker(settings, kind) as running:
        yield running


@pytest.fixture
def context(trust: Trust) -> ssl.SSLContext:
    return client_context(trust, mutual=False)


class Room:
    """Who is connected in a test."""

    def __init__(self, broker: Broker, context: ssl.SSLContext) -> None:
        self._broker = broker
        self._context = context
        self._clients: list[Client] = []

    def enter(self, user: str, suffix: str = "", **more: object) -> Client:
        name = f"{user}{suffix}"
        client = Client(self._broker.url, name, login=LOGIN[user], tls=self._context, **more)  # type: ignore[arg-type]
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def room(broker: Broker, context: ssl.SSLContext) -> Iterator[Room]:
    made = Room(broker, context)
    yield made
    made.close()


@pytest.mark.parametrize("qos", [0, 1])
def test_samples_and_decisions_pass_between_users(room: Room, qos: int) -> None:
    ward, bed = room.enter("ward"), room.enter("bed-0")
    assert ward.subscribe("eb/r/+/w/sample", qos)
    assert bed.subscribe("eb/r/bed-0/+/decision", qos)
    for number in range(200):
        bed.client.publish("eb/r/bed-0/w/sample", f"{number}", qos)
        assert ward.hears() == b"%d" % number
        ward.client.publish("eb/r/bed-0/w/decision", f"{number}!", qos)
        assert bed.hears() == b"%d!" % number


def test_what_one_says_for_another_reaches_nobody(room: Room) -> None:
    ward, bed, intruder = room.enter("ward"), room.enter("bed-0"), room.enter("bed-1")
    assert ward.subscribe("eb/r/+/w/sample", 1)
    assert bed.subscribe("eb/r/bed-0/+/decision", 1)
    for qos in (0, 1):
        intruder.client.publish("eb/r/bed-0/w/sample", "spoofed", qos)
        intruder.client.publish("eb/r/bed-0/w/decision", "spoofed", qos)
        intruder.client.publish("eb/r/bed-0/status", "offline", qos, retain=True)
    assert ward.hears(QUIET_S) is None
    assert bed.hears(QUIET_S) is None
    # Nor does the broker mind otherwise.
    bed.client.publish("eb/r/bed-0/w/sample", "own", 1)
    assert ward.hears() == b"own"


@pytest.mark.parametrize(
    "wanted",
    ["#", "eb/#", "+/+/+/+/+", "eb/r/bed-0/w/sample", "eb/r/bed-0/+/decision", "$SYS/#", "$SYS/broker/version"],
)
def test_a_filter_that_reaches_further_than_what_is_allowed_hears_nothing_more(room: Room, wanted: str) -> None:
    ward, bed, intruder = room.enter("ward"), room.enter("bed-0"), room.enter("bed-1")
    assert ward.subscribe("eb/r/+/w/sample", 1)
    intruder.subscribe(wanted, 1)
    bed.client.publish("eb/r/bed-0/w/sample", "private", 1)
    assert ward.hears() == b"private"
    ward.client.publish("eb/r/bed-0/w/decision", "private", 1)
    assert intruder.hears(QUIET_S) is None


def test_a_subscription_that_is_not_allowed_is_refused_where_the_kind_can(kind: Kind, room: Room) -> None:
    assert room.enter("bed-1").subscribe("#", 1) is (kind == "mosquitto")


@pytest.mark.parametrize("login", [None, ("bed-0", "guess"), ("bed-0", ""), ("bed-9", "0" * 40), ("bed-1", "0" * 40)])
def test_who_does_not_know_a_password_is_refused(
    broker: Broker, context: ssl.SSLContext, login: tuple[str, str] | None
) -> None:
    with pytest.raises(RefusedError, match=r"(?i)not authorized|bad user name"):
        Client(broker.url, "intruder", login=login, tls=context)


def answer_to_connect(broker: Broker, context: ssl.SSLContext | None) -> bytes:
    """What a broker says to an MQTT CONNECT without a login. Raises OSError."""
    where = parse_broker_url(broker.url)
    with contextlib.ExitStack() as opened:
        connection = opened.enter_context(socket.create_connection((where.host, where.port), 10.0))
        if context is not None:
            connection = opened.enter_context(context.wrap_socket(connection, server_hostname=where.host))
        connection.sendall(bytes.fromhex("101000044d5154540402003c0004") + b"eb-0")
        return connection.recv(64)


def older_than_1_3(trust: Trust) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trust.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_tls_1_3_gets_an_answer_and_older_or_plain_text_does_not(
    broker: Broker, trust: Trust, context: ssl.SSLContext
) -> None:
    assert answer_to_connect(broker, context) == b"\x20\x02\x00\x05"
    with pytest.raises(ssl.SSLError, match=r"(?i)version"):
        answer_to_connect(broker, older_than_1_3(trust))
    with contextlib.suppress(ConnectionError):
        assert not answer_to_connect(broker, None).startswith(b"\x20\x02")


def test_a_broker_of_another_lab_is_not_trusted(broker: Broker, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "authority").issue(tmp_path / "other", "other", ["127.0.0.1"])
    with pytest.raises(ssl.SSLCertVerificationError):
        answer_to_connect(broker, client_context(other, mutual=False))


def test_where_certificates_are_asked_for_a_password_is_not_enough(kind: Kind, trust: Trust, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "authority").issue(tmp_path / "other", "other", ["127.0.0.1"])
    foreign = ssl.create_default_context(cafile=trust.ca_file)
    foreign.load_cert_chain(other.certificate_file, other.key_file)
    settings = BrokerSettings("b", tmp_path / "broker", tls=trust, users=USERS, mutual=True)
    with make_broker(settings, kind) as broker:
        for context in (client_context(trust, mutual=False), foreign):
            with pytest.raises((ssl.SSLError, ConnectionError)):  # by an alert, after its own part of the handshake
                raise ConnectionError if answer_to_connect(broker, context) == b"" else AssertionError
        shown = client_context(trust, mutual=True)
        assert answer_to_connect(broker, shown) == b"\x20\x02\x00\x05"
        Client(broker.url, "bed-0", login=LOGIN["bed-0"], tls=shown).close()


def test_a_user_that_is_revoked_is_cut_off_at_once_and_the_others_are_not(
    kind: Kind, trust: Trust, context: ssl.SSLContext, tmp_path: Path
) -> None:
    with make_broker(BrokerSettings("b", tmp_path, tls=trust, users=USERS), kind) as broker:
        ward, bed, gone = (
            Client(broker.url, name, login=LOGIN[name], tls=context, clean_session=False)
            for name in ("ward", "bed-0", "bed-1")
        )
        assert ward.subscribe("eb/r/+/w/sample", 1)
        began_s = now_s()
        broker.revoke("bed-1")
        assert gone.lost.get(timeout=10.0)
        assert now_s() - began_s < 5.0
        gone.client.loop_stop()
        with pytest.raises(RefusedError):
            Client(broker.url, "bed-1", login=LOGIN["bed-1"], tls=context)
        for number in range(50):
            bed.client.publish("eb/r/bed-0/w/sample", f"{number}", 1)
        assert [ward.hears() for _ in range(50)] == [b"%d" % number for number in range(50)]
        assert ward.lost.empty()
        assert bed.lost.empty()
        for client in (ward, bed):
            client.close()


def test_what_is_refused_is_counted(kind: Kind, trust: Trust, context: ssl.SSLContext, tmp_path: Path) -> None:
    with make_broker(BrokerSettings("b", tmp_path, tls=trust, users=USERS), kind) as broker:
        ward = Client(broker.url, "ward", login=LOGIN["ward"], tls=context)
        assert ward.subscribe("eb/r/+/w/sample", 1)
        assert broker.refused() == {}
        with pytest.raises(ssl.SSLError):
            answer_to_connect(broker, older_than_1_3(trust))
        for login in (None, ("bed-0", "guess"), ("bed-9", "guess")):
            with pytest.raises(RefusedError):
                Client(broker.url, "intruder", login=login, tls=context)
        ward.subscribe("#", 1)
        ward.subscribe("eb/r/+/+/decision", 1)
        bed = Client(broker.url, "bed-0", login=LOGIN["bed-0"], tls=context)
        bed.client.publish("eb/r/bed-1/w/sample", "spoofed", 0)
        bed.client.publish("eb/r/bed-0/w/sample", "own", 1)
        assert ward.hears() == b"own"
        for client in (ward, bed):
            client.close()
    refused = broker.refused()
    # Mosquitto tells of a publication in some versions only.
    assert refused.pop("publications", None) == 1 or kind == "mosquitto"
    assert refused == {"connections": 4, "subscriptions": 2}


def test_a_will_and_what_is_retained_pass_between_users(room: Room) -> None:
    ward, bed = room.enter("ward"), room.enter("bed-0", will="eb/r/bed-0/status")
    bed.client.publish("eb/r/bed-0/status", "online", 1, retain=True).wait_for_publish(10.0)
    assert ward.hears_retained("eb/r/+/status", 1) == b"online"
    bed.vanish()
    assert next(heard for heard in iter(ward.hears, None) if heard != b"online") == b"gone"


def test_a_session_is_kept_while_its_user_is_away(room: Room) -> None:
    ward, bed = room.enter("ward", "-s", clean_session=False), room.enter("bed-0")
    assert ward.subscribe("eb/r/+/w/sample", 1)
    ward.close()
    for number in range(100):
        sent = bed.client.publish("eb/r/bed-0/w/sample", f"{number}", 1)
    sent.wait_for_publish(10.0)
    back = room.enter("ward", "-s", clean_session=False)
    assert [back.hears() for _ in range(100)] == [b"%d" % number for number in range(100)]


def test_no_password_is_in_arguments_logs_or_files_of_others_and_none_is_left(
    kind: Kind, trust: Trust, context: ssl.SSLContext, tmp_path: Path
) -> None:
    with make_broker(BrokerSettings("b", tmp_path, tls=trust, users=USERS), kind) as broker:
        Client(broker.url, "bed-0", login=LOGIN["bed-0"], tls=context).close()
        with pytest.raises(RefusedError):
            Client(broker.url, "bed-0", login=("bed-0", "x" * 40), tls=context)
        secret = [user.password for user in USERS] + ["x" * 40]
        arguments = " ".join(psutil.Process(broker.process.pid).cmdline())
        assert not any(each in arguments + repr(broker.settings) for each in secret)
        for path in tmp_path.iterdir():
            if path.is_file() and path != broker.log:
                assert path.stat().st_mode & 0o777 == 0o600
        if kind == "mosquitto":  # which is told hashes
            assert not any(each in path.read_text() for each in secret for path in tmp_path.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["b.log"]
    assert not any(each in broker.log.read_text() for each in secret)


def test_beyond_loopback_it_is_not_started_without_tls_and_users(kind: Kind, trust: Trust, tmp_path: Path) -> None:
    for tls, users in ((None, USERS), (trust, ()), (None, ())):
        with pytest.raises(FabricError, match="beyond loopback with TLS and users only"):
            make_broker(BrokerSettings("b", tmp_path, host="0.0.0.0", tls=tls, users=users), kind)


def test_a_broker_that_does_not_keep_its_users_apart_is_found_out(kind: Kind, tmp_path: Path) -> None:
    trial = Trial()
    anything = Permission(("#",), ("#",))
    for index, told in enumerate(("a user can publish what it may not", "a user hears what it may not")):
        sender, hearer = trial.users
        users = (
            BrokerUser(sender.name, sender.password, anything if index == 0 else sender.may),
            BrokerUser(hearer.name, hearer.password, anything if index == 1 else hearer.may),
        )
        with (
            make_broker(BrokerSettings(f"b-{index}", tmp_path, users=users), kind) as broker,
            pytest.raises(FabricError, match=told),
        ):
            trial.run(parse_broker_url(broker.url), None, lambda: None)


def test_a_broker_that_does_not_cut_off_whom_it_no_longer_knows_is_found_out(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgebench.fabric.brokers import trial as trials

    def revoke_nothing() -> None:
        monkeypatch.setattr(trials, "_PATIENCE_S", 1.0)  # to wait for what does not come

    trial = Trial()
    with (
        make_broker(BrokerSettings("b", tmp_path, users=trial.users), kind) as broker,
        pytest.raises(FabricError, match="stays connected"),
    ):
        trial.run(parse_broker_url(broker.url), None, revoke_nothing)
