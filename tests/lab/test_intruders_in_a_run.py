"""Intruders at the ports of a run that goes on: each is refused, counted, and told of once, and the run is valid."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgebench.clock import sleep_s
from edgebench.fabric.authority import Authority
from edgebench.fabric.control import ControlClient, HttpClient, RefusedError
from edgebench.fabric.endpoints import BrokerUrl, parse_http_url
from edgebench.fabric.tls import Trust, client_context, trust_in
from edgebench.lab import joining
from edgebench.lab.messages import LabError
from tests.fabric.brokers.clients import Client
from tests.fabric.brokers.clients import RefusedError as NotAuthorisedError
from tests.lab.labs import Lab
from tests.lab.runs import TOPOLOGY, Running, joined, logged_in, own_context
from tests.system.running import faults_of

DIGEST = "0" * 64
LARGE_BYTES = 2 << 30
CONNECT = bytes.fromhex("101000044d5154540402003c0004") + b"eb-0"


@dataclass(frozen=True)
class Certificates:
    """Those that an intruder may show. none: trusts the lab, and shows none."""

    none: ssl.SSLContext
    another_labs: ssl.SSLContext
    expired: ssl.SSLContext
    of_removed: Trust


@pytest.fixture
def certificates(lab: Lab, tmp_path: Path) -> Certificates:
    here = lab.client.here
    lab.joined(tmp_path / "removed", "removed")
    lab.client.remove("removed")
    shown = (
        Authority.create(tmp_path / "another").issue(tmp_path / "of-another", "pi"),
        Authority.load(lab.home / "lab" / "authority").issue(tmp_path / "expired", "pi", days=-0.5),
    )
    another_labs, expired = (own_context(Trust(here.ca_file, each.certificate_file, each.key_file)) for each in shown)
    none = client_context(here, mutual=False)
    none.check_hostname = False
    return Certificates(none, another_labs, expired, trust_in(tmp_path / "removed" / "machine"))


@pytest.fixture
def proxy() -> Iterator[tuple[dict[str, str], Callable[[], bool]]]:
    """Variables that name a proxy, and whether that was asked for anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

        def was_asked() -> bool:
            with contextlib.suppress(BlockingIOError):
                listening.accept()[0].close()
                return True
            return False

        yield {**dict.fromkeys(names, url), "no_proxy": "", "NO_PROXY": ""}, was_asked


def answer_to(host: str, port: int, context: ssl.SSLContext, said: bytes) -> bytes:
    """What comes back by TLS; nothing where the connection is closed."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), 30.0) as plain,
        context.wrap_socket(plain) as secured,
    ):
        secured.sendall(said)
        return secured.recv(64)
    return b""


def attack_broker(broker: BrokerUrl, run_id: str, shown: Certificates, pi: Trust) -> None:
    url, login = BrokerUrl(broker.host, broker.port, tls=True).url, logged_in(broker)
    for context in (shown.none, shown.another_labs, shown.expired):
        assert answer_to(broker.host, broker.port, context, CONNECT) == b""
    removed, member = own_context(shown.of_removed), own_context(pi)
    with pytest.raises(NotAuthorisedError):
        Client(url, "removed", tls=removed)
    with pytest.raises(NotAuthorisedError):
        Client(url, "another", login=("bed", login[1]), tls=member)
    eavesdropper = Client(url, "eavesdropper", login=login, tls=member)
    heard: set[str] = set()
    eavesdropper.client.on_message = lambda _client, _data, message: heard.add(message.topic)
    eavesdropper.subscribe("#", 0)
    sleep_s(1.0)
    eavesdropper.close()
    assert heard <= {f"eb/{run_id}/far/watch/decision"}
    spoofer = Client(url, "spoofer", login=login, tls=member)
    spoofer.client.publish(f"eb/{run_id}/bed/watch/sample", b'{"values": []}', 0)
    spoofer.client.publish(f"eb/{run_id}/far/status", b"online", 0)
    spoofer.close()


def attack_control_plane(running: Running, here: Trust, shown: Certificates) -> None:
    at = parse_http_url(running.control_url)
    for context in (shown.none, shown.another_labs, shown.expired):
        assert answer_to(at.host, at.port, context, b"GET /v1/state HTTP/1.1\r\n\r\n") == b""
    for trust in (shown.of_removed, here):  # here, too, is not where that token is of
        with (
            ControlClient(running.control_url, running.token, trust=trust) as thief,
            pytest.raises(RefusedError, match="401: this token is not of"),
        ):
            thief.state()
    with running.control() as far:
        with pytest.raises(RefusedError, match="403: this token does not speak for bed"):
            far.slice_of(["bed"])
        assert status_of(far, f"/v1/uploads/models/{DIGEST}?sha256={DIGEST}&size=1") == 403
        assert status_of(far, "/v1/uploads/records/far?sha256=../../x&size=1") == 400
    with HttpClient(running.control_url, running.token_of_ward, trust=here) as ward:
        assert status_of(ward, f"/v1/uploads/models/{DIGEST}?sha256={DIGEST}&size={LARGE_BYTES}") == 413
        upload = ward._connected()
        upload.putrequest("PUT", f"/v1/uploads/models/{DIGEST}?sha256={DIGEST}&size={LARGE_BYTES}&offset=0")
        upload.putheader("Authorization", f"Bearer {running.token_of_ward}")
        upload.putheader("Content-Length", str(LARGE_BYTES))
        upload.endheaders(bytes(1024))
        assert upload.getresponse().status == 413


def status_of(client: HttpClient, path: str) -> int:
    response = client.request("GET", path)
    client.whole(response)
    return response.status


@pytest.mark.long
@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_intruders_are_refused_counted_and_told_of_once_and_the_run_is_valid(
    lab: Lab,
    certificates: Certificates,
    proxy: tuple[dict[str, str], Callable[[], bool]],
    tmp_path: Path,
    mosquitto: Path,
    kind: str,
) -> None:
    token, (environment, was_asked) = lab.token(), proxy
    topology = TOPOLOGY.replace("duration_s: 60", "duration_s: 14")
    with joined(lab, tmp_path / "pi", token, **environment) as pi:
        running = Running(lab, pi, tmp_path, topology, "--set", f"broker.kind={kind}", **environment)
        try:
            running.wait_for_streams()
            attack_broker(running.broker(), running.run_dir.name, certificates, running.trust)
            attack_control_plane(running, lab.client.here, certificates)
            with lab.at(tmp_path / "replay"), pytest.raises(LabError, match=r"the token was used at .* by 'pi'"):
                joining.join(lab.url, token, "replay")
            result = running.result()
        finally:
            running.end()
    assert faults_of(result) == []
    assert not was_asked()
    watch = result["workloads"]["watch"]
    assert (watch["scheduled"], watch["lost"], watch["rejected"]) == (280, 0, 0)
    # Mosquitto tells of a publication in some versions only.
    of_ward = result["refused"]["ward"]
    assert of_ward.pop("publications", None) == 1 or kind == "mosquitto"
    assert of_ward == {"connections": 5, "subscriptions": 1}
    assert result["refused"]["cloud"] == {"connections": 3, "requests": 7}
    assert lab.client.refusals() == {"a token: used": 1}
    assert len([note for note in result["verdict"]["notes"] if "of somebody who may not" in note]) == 2
    logged = [line for line in (running.run_dir / "logs" / "cloud.log").read_text().splitlines() if "refused: " in line]
    assert sorted(line.partition("refused: ")[2] for line in logged) == [
        "a certificate: certificate has expired",
        "a certificate: unable to get local issuer certificate",
        "a handshake: peer did not return a certificate",
        "a request that is too large, from 127.0.0.1",
        "a request that nobody of ours sends, from 127.0.0.1",
        "a token, from 127.0.0.1",
        "what its sender may not do, from 127.0.0.1",
    ]
