"""Brokers that take a login and do not carry a run, found out before it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edgebench.clock import now_s
from edgebench.errors import FabricError
from edgebench.fabric.broker_probe import Traffic, probe_access, probe_connections, probe_sizes
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.endpoints import BrokerUrl, parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from tests.fabric.mosquittos import mosquitto_with, password_of
from tests.fabric.swallowing import refusing, swallowing

SAMPLES = Traffic("samples (eb/+/+/+/sample)", "eb/r/bed/w/sample", "eb/r/bed/w/sample", 1, 3000)
DECISIONS = Traffic("decisions (eb/+/+/+/decision)", "eb/r/bed/w/decision", "eb/r/bed/+/decision", 0, 500)
MODELS = Traffic("models (eb/+/models/+)", "eb/r/models/w", "eb/r/models/w", 1, 1000, retained=True)
STATES = Traffic("states of nodes (eb/+/+/status)", "eb/r/bed/status", "eb/r/+/status", 1, 7, retained=True)
ALL = [SAMPLES, DECISIONS, MODELS, STATES]
SOON_S = 20.0


def at(port: int, login: str = "") -> BrokerUrl:
    return parse_broker_url(f"mqtt://{login}127.0.0.1:{port}")


def retained_at(broker: BrokerUrl) -> list[str]:
    """The topics on which a broker hands something out to who subscribes now."""
    reactor = Reactor()
    found: list[str] = []
    connection = Connection(
        reactor, broker, "look", on_message=lambda topic, _body: found.append(topic), clean_session=True
    )
    connection.subscribe(["#"], 1)
    connection.start()
    reactor.call_later(0.5, reactor.stop)
    reactor.run()
    connection.close()
    reactor.close()
    return found


def test_a_broker_that_passes_all_of_it_on_is_let_be_and_keeps_nothing(mosquitto: Path, tmp_path: Path) -> None:
    with mosquitto_with(mosquitto, tmp_path, "allow_anonymous true") as port:
        probe_access(at(port), ALL)
        probe_sizes(at(port), ALL)
        assert retained_at(at(port)) == []


def test_the_embedded_broker_would_pass_too(tmp_path: Path) -> None:
    with make_broker(BrokerSettings("site", tmp_path)) as broker:
        probe_access(parse_broker_url(broker.url), ALL)
        probe_sizes(parse_broker_url(broker.url), ALL)
        assert retained_at(parse_broker_url(broker.url)) == []


def test_an_access_list_that_allows_nothing_of_a_run_is_named(mosquitto: Path, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("user lab\ntopic readwrite sensors/#\n")
    lines = (password_of(tmp_path, "lab", "s3cret"), f"acl_file {tmp_path / 'acl'}")
    began_s = now_s()
    with mosquitto_with(mosquitto, tmp_path, *lines) as port, pytest.raises(FabricError) as refused:
        probe_access(at(port, "lab:s3cret@"), ALL)
    assert str(refused.value) == (
        f"mqtt://lab:***@127.0.0.1:{port}: it takes the connection of 'lab', and does not pass on anything of a run: "
        "its access list forbids it (allow it to write and read eb/#; in Mosquitto's acl_file: topic readwrite eb/#)"
    )
    assert now_s() - began_s < SOON_S


def test_of_an_access_list_that_lacks_one_kind_of_topic_that_kind_is_named(mosquitto: Path, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic readwrite eb/+/+/+/sample\ntopic readwrite eb/+/+/status\ntopic write eb/#\n")
    lines = ("allow_anonymous true", f"acl_file {tmp_path / 'acl'}")
    with mosquitto_with(mosquitto, tmp_path, *lines) as port, pytest.raises(FabricError) as refused:
        probe_access(at(port), ALL)
    said = str(refused.value)
    assert "does not pass on decisions (eb/+/+/+/decision) at QoS 0, models (eb/+/models/+) at QoS 1: " in said
    assert "samples" not in said


@pytest.mark.parametrize("limit", ["message_size_limit 2048", "max_packet_size 2048"])
def test_a_limit_of_size_is_named_with_the_size_that_is_needed(mosquitto: Path, tmp_path: Path, limit: str) -> None:
    began_s = now_s()
    with mosquitto_with(mosquitto, tmp_path, "allow_anonymous true", limit) as port:
        probe_access(at(port), ALL)
        with pytest.raises(FabricError) as refused:
            probe_sizes(at(port), ALL)
    assert str(refused.value) == (
        f"mqtt://127.0.0.1:{port}: messages of 16 bytes come back, of 3,000, the largest on samples (eb/+/+/+/sample) "
        "at QoS 1, do not: the broker has a limit of size (raise it; in Mosquitto: message_size_limit, max_packet_size)"
    )
    assert now_s() - began_s < SOON_S


def test_a_broker_that_keeps_nothing_retained_is_told(mosquitto: Path, tmp_path: Path) -> None:
    lines = ("allow_anonymous true", "retain_available false")
    kinds = r"models \(eb/\+/models/\+\) at QoS 1, states of nodes \(eb/\+/\+/status\) at QoS 1"
    with (
        mosquitto_with(mosquitto, tmp_path, *lines) as port,
        pytest.raises(FabricError, match=f"it keeps no retained messages on {kinds}"),
    ):
        probe_access(at(port), ALL)


def test_a_login_that_is_refused_and_a_port_without_a_broker_are_told(mosquitto: Path, tmp_path: Path) -> None:
    login = password_of(tmp_path, "lab", "s3cret")
    with (
        mosquitto_with(mosquitto, tmp_path, login) as port,
        pytest.raises(FabricError, match="refuses the connection: Not authorized"),
    ):
        probe_access(at(port, "lab:guess@"), ALL)
    with refusing() as port, pytest.raises(FabricError, match="no broker answers there: Connection refused"):
        probe_access(at(port), ALL)
    with swallowing() as port, pytest.raises(FabricError, match="no broker answers there: timed out"):
        probe_access(at(port), ALL)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FabricError, match="no MQTT broker"):
        probe_access(at(silent.getsockname()[1]), ALL)


def test_a_limit_of_connections_is_named_with_what_the_run_needs(mosquitto: Path, tmp_path: Path) -> None:
    with mosquitto_with(mosquitto, tmp_path, "max_connections 5", "allow_anonymous true") as port:
        probe_connections(at(port), 5)
        begun_s = now_s()
        # Mosquitto 2.0.11 takes one more, and another one for each that has gone.
        with pytest.raises(FabricError, match=r"takes (6|11) connections at once and no more .*needs 40 \(raise"):
            probe_connections(at(port), 40)
        assert now_s() - begun_s < SOON_S
        probe_connections(at(port), 5)  # none is left
