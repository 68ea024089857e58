"""Who is let in where files are served: by a certificate and a token of its machine, until its access is ended."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from edgebench.errors import FabricError
from edgebench.fabric.authority import Authority
from edgebench.fabric.control import ControlClient, HttpClient, RefusedError
from edgebench.fabric.endpoints import parse_http_url
from edgebench.fabric.shelves import Caller, Callers
from edgebench.fabric.slices import WATCHER
from edgebench.fabric.tls import TRUST_VARIABLE, Trust, client_context
from edgebench.fabric.transfer_routes import TransferRoutes, serve
from tests.fabric.served_folder import WAIT_S, Folder

TOKENS = {
    "of-bed": Caller(frozenset({"bed"}), "pi"),
    "of-far": Caller(frozenset({"far"}), "another-pi"),
    "of-watcher": Caller(frozenset({WATCHER})),
}


LARGE_BYTES = 2 << 30


class Machines:
    """By name: certificates of one lab."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = Authority.create(folder / "authority")

    def __getitem__(self, name: str) -> Trust:
        folder = self._folder / name
        return self.authority.issue(folder, name, ["127.0.0.1"])


@contextmanager
def served_by_tls(routes: TransferRoutes) -> Iterator[str]:
    """As the cloud and edges do, in a thread."""
    loop = asyncio.new_event_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    runner = loop.run_until_complete(serve(routes.application(), listening, routes.refusals))
    thread = threading.Thread(target=loop.run_forever, name="served")
    thread.start()
    try:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}?name=here.edgebench.internal"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


@pytest.fixture
def routes(tmp_path: Path) -> TransferRoutes:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model").write_bytes(b"weights")
    files = Folder(tmp_path / "files")
    return TransferRoutes(Callers.of_tokens(TOKENS), {"files": files}, {"files": files})


@pytest.fixture
def url(machines: Machines, routes: TransferRoutes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(TRUST_VARIABLE, str(machines["here"].folder))
    with served_by_tls(routes) as served:
        yield served


def fetched(client: HttpClient) -> bytes:
    response = client.request("GET", "/v1/files/model")
    body = client.whole(response)
    if response.status != 200:
        raise client.error("/v1/files/model", response.status, body)
    return body


def test_a_token_alone_is_of_no_use_from_another_machine_of_the_lab(url: str, machines: Machines) -> None:
    with HttpClient(url, "of-bed", trust=machines["pi"]) as bed:
        assert fetched(bed) == b"weights"
    with (
        HttpClient(url, "of-bed", trust=machines["another-pi"]) as thief,
        pytest.raises(RefusedError, match="401: this token is not of another-pi"),
    ):
        fetched(thief)


def test_who_is_revoked_is_cut_off_and_refused_from_then_on_and_the_others_are_not(
    url: str, machines: Machines
) -> None:
    trust = machines["pi"]
    with (
        HttpClient(url, "of-bed", trust=trust) as bed,
        HttpClient(url, "of-far", trust=machines["another-pi"]) as far,
        ControlClient(url, "of-watcher", trust=machines["here"]) as watcher,
    ):
        assert fetched(bed) == fetched(far) == b"weights"
        cut, kept = bed._connection, far._connection
        assert cut is not None
        assert kept is not None
        with closing(cut):
            watcher.revoke("pi")
            cut.sock.settimeout(WAIT_S)
            with suppress(ConnectionError):
                assert cut.sock.recv(1) == b""
        with pytest.raises(RefusedError, match="401: no such token"):
            fetched(bed)
        assert fetched(far) == b"weights"
        assert far._connection is kept


@pytest.mark.parametrize(("token", "name"), [("of-bed", "pi"), ("of-far", "another-pi")])
def test_nobody_but_who_carries_the_run_out_ends_an_access(url: str, machines: Machines, token: str, name: str) -> None:
    with ControlClient(url, token, trust=machines[name]) as member, pytest.raises(FabricError, match="403: only who"):
        member.revoke("pi")


def answer_to(url: str, context: ssl.SSLContext | None, said: bytes = b"GET /v1/files/model HTTP/1.1\r\n\r\n") -> bytes:
    """What comes back; nothing where the connection is closed."""
    at = parse_http_url(url)
    with suppress(OSError), socket.create_connection((at.host, at.port), WAIT_S) as plain:
        if context is None:
            plain.sendall(said)
            return plain.recv(64)
        with context.wrap_socket(plain, server_hostname="here.edgebench.internal") as secured:
            secured.sendall(said)
            return secured.recv(64)
    return b""


def test_who_shows_no_certificate_of_the_lab_is_refused_counted_and_told_of_once(
    url: str, machines: Machines, routes: TransferRoutes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pi = machines["pi"]
    another = Authority.create(tmp_path / "another").issue(tmp_path / "another-pi-of", "pi")
    expired = machines.authority.issue(tmp_path / "expired", "pi", days=-0.5)
    old = client_context(pi, mutual=True)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    contexts = [
        client_context(pi, mutual=False),
        *(
            client_context(Trust(pi.ca_file, theirs.certificate_file, theirs.key_file), mutual=True)
            for theirs in (another, expired)
        ),
        old,
    ]
    for _ in range(2):
        for context in contexts:
            assert answer_to(url, context) == b""
        assert not answer_to(url, None).startswith(b"HTTP")
    assert routes.refusals.by_reason == {
        "a handshake: peer did not return a certificate": 2,
        "a certificate: unable to get local issuer certificate": 2,
        "a certificate: certificate has expired": 2,
        "a handshake: unsupported protocol": 2,
        "a handshake: http request": 2,
    }
    assert routes.refusals.news() == {"connections": 10}
    assert routes.refusals.news() is None
    assert len([record for record in caplog.records if record.message.startswith("refused: ")]) == 5


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/v1/uploads/files/model?sha256=../../x&size=1", 400, "a request that nobody of ours sends"),
        ("GET", f"/v1/uploads/files/x?sha256={'0' * 64}&size={LARGE_BYTES}", 413, "a request that is too large"),
        ("POST", "/v1/revoked", 403, "what its sender may not do"),
    ],
)
def test_who_asks_for_what_it_may_not_is_refused_and_counted(
    url: str, machines: Machines, routes: TransferRoutes, method: str, path: str, status: int, reason: str
) -> None:
    with HttpClient(url, "of-bed", trust=machines["pi"]) as bed:
        response = bed.request(method, path)
        bed.whole(response)
    assert response.status == status
    assert routes.refusals.by_reason == {reason: 1}


def test_what_is_no_http_is_counted_and_fills_no_log(
    url: str, machines: Machines, routes: TransferRoutes, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        answer_to(url, client_context(machines["pi"], mutual=True), b"\x16\x03 what is this\r\n\r\n")
    assert routes.refusals.by_reason == {"what is no HTTP": 2}
    assert [record.message for record in caplog.records] == ["refused: what is no HTTP"]
