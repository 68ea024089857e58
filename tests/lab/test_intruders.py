"""Who has no business in a lab is refused, counted, and named once in the log; the others notice nothing."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgebench.core.clocks import Exchange
from edgebench.fabric.authority import Authority, make_key, make_request
from edgebench.fabric.tls import HttpsConnection, Trust, client_context, tls_name, trust_in
from edgebench.lab import doorkeeper, joining, server
from edgebench.lab.clock_exchange import ClockAsker
from edgebench.lab.devices import write_credential
from edgebench.lab.facts import facts_of_this_machine
from edgebench.lab.messages import Hello, JoinRequest, LabError, RemovedError, Told
from edgebench.lab.tokens import new_token, parse_token
from tests.lab.labs import Lab, eventually


def asked(lab: Lab, context: ssl.SSLContext, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    url = lab.served.url
    connection = HttpsConnection(url.host, url.port, context=context, server_name=tls_name("here"), timeout_s=10.0)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")


@pytest.fixture
def stranger(lab: Lab) -> ssl.SSLContext:
    """Trusts the lab, and shows no certificate."""
    return client_context(lab.client.here, mutual=False)


@pytest.fixture
def pi(lab: Lab, tmp_path: Path) -> Trust:
    lab.joined(tmp_path / "pi", "pi")
    return trust_in(tmp_path / "pi" / "machine")


HELLO = msgspec.msgpack.encode(Hello("s", facts_of_this_machine()))


@pytest.mark.parametrize("path", ["/v1/machine/orders", "/v1/operator/machines", "/v1/operator/../machine/orders"])
def test_without_a_certificate_nothing_is_told(lab: Lab, stranger: ssl.SSLContext, path: str) -> None:
    status, _ = asked(lab, stranger, "GET", path)
    assert status in (403, 404)


def test_who_shows_no_certificate_is_counted(lab: Lab, stranger: ssl.SSLContext) -> None:
    for _ in range(3):
        status, said = asked(lab, stranger, "POST", "/v1/machine/hello", HELLO)
        assert (status, said.partition(" (")[0]) == (403, "a machine has to show its certificate")
    assert lab.client.refusals() == {"no certificate": 3}


def test_a_refusal_is_told_once_and_counted_each_time(
    lab: Lab, stranger: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "edgebench.lab"):
        for _ in range(5):
            asked(lab, stranger, "GET", "/v1/operator/machines")
    assert [record.getMessage() for record in caplog.records] == ["refused: not the operator, from 127.0.0.1"]
    assert lab.client.refusals() == {"not the operator": 5}


def test_a_machine_is_no_operator(lab: Lab, pi: Trust) -> None:
    context = client_context(pi, mutual=True)
    for method, path in (("GET", "/v1/operator/machines"), ("DELETE", "/v1/operator/machines/pi")):
        assert asked(lab, context, method, path)[0] == 403
    assert [info.name for info in lab.client.machines()] == ["pi"]


def test_certificates_of_another_lab_and_expired_ones_fail_at_the_handshake(
    lab: Lab, pi: Trust, tmp_path: Path
) -> None:
    own = Authority.load(lab.home / "lab" / "authority")
    for kind, authority, days in (("another", Authority.create(tmp_path / "another"), 1.0), ("expired", own, -0.5)):
        theirs = authority.issue(tmp_path / kind, "pi", days=days)
        trusting = Trust(pi.ca_file, theirs.certificate_file, theirs.key_file)
        with pytest.raises((OSError, http.client.HTTPException)):
            asked(lab, client_context(trusting, mutual=True), "POST", "/v1/machine/hello", HELLO)
    assert lab.client.refusals() == {
        "a certificate: unable to get local issuer certificate": 1,
        "a certificate: certificate has expired": 1,
    }


def test_an_older_tls_fails_at_the_handshake(lab: Lab) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(lab.client.here.ca_file)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        asked(lab, old, "GET", "/v1/introduction")
    assert lab.client.refusals() == {"a handshake: unsupported protocol": 1}


def test_a_certificate_that_the_lab_has_not_issued_to_a_member_is_refused(lab: Lab, tmp_path: Path) -> None:
    """As that of a machine that was removed."""
    forged = Authority.load(lab.home / "lab" / "authority").issue(tmp_path / "forged", "pi")
    status, said = asked(lab, client_context(forged, mutual=True), "POST", "/v1/machine/hello", HELLO)
    assert status == 410
    assert said.startswith("this machine is not in the lab any more: join with --token")
    assert lab.client.refusals() == {"a machine that was removed": 1}


def test_a_replayed_token_is_refused_and_counted(lab: Lab, tmp_path: Path) -> None:
    token = lab.token()
    with lab.at(tmp_path / "one"):
        joining.join(lab.url, token, "one")
    with lab.at(tmp_path / "two"), pytest.raises(LabError, match=r"the token was used at .* by 'one' \(another: "):
        joining.join(lab.url, token, "two")
    assert lab.client.refusals() == {"a token: used": 1}


def test_a_token_of_another_lab_is_not_even_sent_there(lab: Lab, tmp_path: Path) -> None:
    other = str(new_token(Authority.create(tmp_path / "another").fingerprint))
    with (
        lab.at(tmp_path / "pi"),
        pytest.raises(LabError, match=r"the token is of another lab than the one there \(get"),
    ):
        joining.join(lab.url, other, None)
    assert lab.client.refusals() == {}
    assert not (tmp_path / "pi" / "machine" / "identity.json").exists()


def test_an_expired_token_says_how_to_get_another(lab: Lab, tmp_path: Path) -> None:
    members = lab.home / "lab" / "lab.db"
    token = lab.token()
    import sqlite3

    with contextlib.closing(sqlite3.connect(members)) as database, database:
        database.execute("UPDATE invitations SET until_s = 0")
    with (
        lab.at(tmp_path / "pi"),
        pytest.raises(LabError, match=r"the token expired at 1970-01-01 00:00 UTC \(another: "),
    ):
        joining.join(lab.url, token, None)
    assert lab.client.refusals() == {"a token: expired": 1}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/wheel/..%2f..%2fauthority%2fca.key",
        "/v1/wheel/../authority/ca.key",
        "/v1/wheel/edgebench-9.9-py3-none-any.whl",
        "/",
        "/v1/introduction/..",
        "/%00",
    ],
)
def test_paths_that_lead_astray_lead_nowhere(lab: Lab, stranger: ssl.SSLContext, path: str) -> None:
    status, said = asked(lab, stranger, "GET", path)
    assert status in (400, 403, 404)
    assert "PRIVATE" not in said


def test_a_stranger_cannot_send_much(lab: Lab, stranger: ssl.SSLContext) -> None:
    status, said = asked(lab, stranger, "POST", "/v1/join", bytes(100_000))
    assert (status, said) == (403, "at most 65,536 bytes, of a length that is told")
    assert lab.client.refusals() == {"a request of a stranger that is too large": 1}


def test_a_machine_cannot_send_without_limit(lab: Lab, pi: Trust) -> None:
    context = client_context(pi, mutual=True)
    url = lab.served.url
    connection = HttpsConnection(url.host, url.port, context=context, server_name=tls_name("here"), timeout_s=10.0)
    with contextlib.closing(connection):
        try:
            connection.request("POST", "/v1/machine/reports", bytes(16 << 20))
            status = connection.getresponse().status
        except OSError:  # it has hung up before all of it was sent
            status = 413
        assert status == 413
    assert [info.name for info in lab.client.machines()] == ["pi"]


def test_what_is_no_http_is_counted_and_no_traceback_fills_the_log(
    lab: Lab, stranger: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    url = lab.served.url
    for _ in range(2):
        with (
            socket.create_connection((url.host, url.port)) as plain,
            stranger.wrap_socket(plain, server_hostname=tls_name("here")) as odd,
        ):
            odd.sendall(b"\x16\x03 what is this\r\n\r\n")
            assert odd.recv(12) == b"HTTP/1.0 400"
    assert lab.client.refusals() == {"what is no HTTP": 2}
    assert [record.getMessage() for record in caplog.records] == ["refused: what is no HTTP"]


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"\xc1", b"\x93\x01\x02\x03", pytest.param(b"\x81\xa1x" + b"\x91" * 3000, id="deep")],
)
@pytest.mark.parametrize("path", ["hello", "goodbye", "reports", "renew"])
def test_what_is_not_understood_is_refused(lab: Lab, pi: Trust, path: str, body: bytes) -> None:
    status, _ = asked(lab, client_context(pi, mutual=True), "POST", f"/v1/machine/{path}", body)
    assert status in (400, 403, 409)


def test_what_another_session_says_is_refused(lab: Lab, pi: Trust) -> None:
    context = client_context(pi, mutual=True)
    assert asked(lab, context, "POST", "/v1/machine/hello", HELLO)[0] == 200
    for path, body in (("reports", Told("t", 1, (b"",))), ("goodbye", "t")):
        status, said = asked(lab, context, "POST", f"/v1/machine/{path}", msgspec.msgpack.encode(body))
        assert (status, said) == (409, "pi: another process has joined as this machine, from 127.0.0.1")
    assert asked(lab, context, "GET", "/v1/machine/orders?session=t&after=0&wait_ms=0")[0] == 409


def test_clocks_are_compared_with_members_only_and_a_clock_that_went_back_is_cut_off(lab: Lab, pi: Trust) -> None:
    assert asked(lab, client_context(pi, mutual=True), "POST", "/v1/machine/hello", HELLO)[0] == 200
    clock = ClockAsker(lab.served.url, pi)
    first = clock.ask("s", None)
    assert first.t0_ns <= first.t1_ns <= first.t2_ns <= first.t3_ns
    clock.ask("s", first)
    eventually(lambda: lab.client.exchanges("pi") == [first])
    for session, last in (("t", None), ("s", Exchange(9, 5, 6, 2)), ("s" * 300, None)):
        assert is_cut_off(clock, session, last)
    assert lab.client.exchanges("pi") == [first]
    lab.client.remove("pi")
    assert is_cut_off(clock, "s", None)
    clock.close()


def is_cut_off(clock: ClockAsker, session: str, last: Exchange | None) -> bool:
    """After the answer to this question, and before that to the next but one."""
    try:
        for _ in range(3):
            clock.ask(session, last)
    except OSError:
        return True
    return False


@pytest.fixture
def esp(lab: Lab, tmp_path: Path) -> Trust:
    """The credential of a device without Python."""
    write_credential(lab.client.invite_device("esp-1"), tmp_path / "esp-1")
    return Trust(*(tmp_path / "esp-1" / name for name in ("ca.pem", "device.pem", "device.key")))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/machine/hello"),
        ("POST", "/v1/machine/goodbye"),
        ("GET", "/v1/machine/orders?session=s&after=0&wait_ms=0"),
        ("POST", "/v1/machine/reports"),
        ("POST", "/v1/machine/renew"),
        ("GET", f"/v1/uploads/files/run-1%2Frecords?sha256={'0' * 64}&size=1"),
    ],
)
def test_a_device_without_python_is_no_machine(lab: Lab, esp: Trust, method: str, path: str) -> None:
    lab.client.hold("run-1", ["esp-1"], "a test")
    status, said = asked(lab, client_context(esp, mutual=True), method, path, HELLO if method == "POST" else b"")
    assert (status, said) == (403, "esp-1: is a device without Python, which talks to the broker of its site alone")
    assert lab.client.refusals() == {"a device without Python": 1}
    assert lab.info("esp-1").last_seen_s is None
    assert not lab.client.files("run-1").exists()


def test_the_clock_of_a_device_without_python_is_not_compared(lab: Lab, esp: Trust) -> None:
    clock = ClockAsker(lab.served.url, esp)
    assert is_cut_off(clock, "s", None)
    assert lab.client.refusals() == {"a device without Python": 1}
    clock.close()


def test_who_connects_and_says_nothing_is_hung_up_on(
    lab: Lab, stranger: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "_FIRST_WORD_S", 0.3)
    url = lab.served.url
    with (
        socket.create_connection((url.host, url.port)) as plain,
        stranger.wrap_socket(plain, server_hostname=tls_name("here")) as silent,
    ):
        silent.settimeout(5.0)
        silent.sendall(b"GET /v1/introduction HTTP/1.1\r\n")
        assert silent.recv(1) == b""


def test_a_stranger_that_does_not_come_to_an_end_is_not_waited_for(
    lab: Lab, stranger: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_STRANGERS_S", 0.3)
    url = lab.served.url
    with (
        socket.create_connection((url.host, url.port)) as plain,
        stranger.wrap_socket(plain, server_hostname=tls_name("here")) as slow,
    ):
        slow.settimeout(5.0)
        slow.sendall(b"POST /v1/join HTTP/1.1\r\nHost: lab\r\nContent-Length: 1000\r\n\r\nthe first of")
        said = b""
        while not said.endswith(b"a request to join has to come within 0 s"):
            more = slow.recv(4096)
            assert more, said
            said += more
    assert said.startswith(b"HTTP/1.1 403 ")
    assert lab.client.refusals() == {"a request of a stranger that does not end": 1}


@pytest.fixture
def proxy() -> Iterator[list[int]]:
    """An environment that names a proxy; how often that one was asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.MonkeyPatch.context() as patch:
        listening.setblocking(False)
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            patch.setenv(name, f"http://127.0.0.1:{listening.getsockname()[1]}")
        patch.delenv("no_proxy", raising=False)
        patch.delenv("NO_PROXY", raising=False)
        asked: list[int] = []
        yield asked
        with contextlib.suppress(BlockingIOError):
            listening.accept()[0].close()
            asked.append(1)
        assert asked == []


def test_a_proxy_in_the_environment_sees_nothing(lab: Lab, tmp_path: Path, proxy: list[int]) -> None:
    assert os.environ["https_proxy"]
    with lab.link(tmp_path / "pi", "pi"):
        eventually(lambda: lab.info("pi").present)


def test_a_server_that_is_not_the_labs_is_told_apart(lab: Lab, tmp_path: Path) -> None:
    lab.joined(tmp_path / "pi", "pi")
    false = Authority.create(tmp_path / "false").issue(tmp_path / "false-here", "here")
    from edgebench.fabric.tls import server_context

    with socket.create_server(("127.0.0.1", 0)) as listening:
        import threading

        def answer() -> None:
            with contextlib.suppress(OSError):
                server_context(false, require_client_certificate=False).wrap_socket(
                    listening.accept()[0], server_side=True
                )

        thread = threading.Thread(target=answer)
        thread.start()
        with lab.at(tmp_path / "pi"):
            identity = joining.known_in(f"https://127.0.0.1:{listening.getsockname()[1]}")
            with pytest.raises(LabError, match="is not the server of this lab"):
                joining.is_accepted(identity)
        thread.join()


def test_a_member_that_is_removed_while_it_asks_is_cut_off(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        eventually(lambda: lab.info("pi").present)
        lab.client.remove("pi")
        eventually(lambda: pi.errors)
        assert isinstance(pi.errors[0], RemovedError)
    assert lab.client.refusals().keys() <= {"a machine that was removed"}


def test_a_request_for_a_name_of_another_is_not_heard(lab: Lab) -> None:
    parsed = parse_token(lab.token())
    request = JoinRequest(parsed.secret, make_request(make_key()), "operator", True, facts_of_this_machine())
    stranger = client_context(lab.client.here, mutual=False)
    status, said = asked(lab, stranger, "POST", "/v1/join", msgspec.msgpack.encode(request))
    assert (status, said.partition(":")[0]) == (403, "'operator'")
