"""Tokens are good from the machine that they were given to, and until its access is ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from edgebench.errors import FabricError
from edgebench.fabric.authority import Authority
from edgebench.fabric.control import ControlClient, HttpClient, RefusedError
from edgebench.fabric.shelves import Caller, Callers
from edgebench.fabric.slices import WATCHER
from edgebench.fabric.tls import Trust, server_context
from edgebench.fabric.transfer_routes import TransferRoutes
from tests.fabric.served_folder import WAIT_S, Folder

TOKENS = {
    "of-bed": Caller(frozenset({"bed"}), "pi"),
    "of-far": Caller(frozenset({"far"}), "another-pi"),
    "of-watcher": Caller(frozenset({WATCHER})),
}


class Machines:
    """By name: certificates of one lab."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = Authority.create(folder / "authority")

    def __getitem__(self, name: str) -> Trust:
        folder = self._folder / name
        return self._authority.issue(folder, name, ["127.0.0.1"])


@contextmanager
def served_by_tls(routes: TransferRoutes, trust: Trust) -> Iterator[str]:
    """As the cloud and edges serve: who connects shows a certificate."""
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(routes.application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        secured = server_context(trust, require_client_certificate=True)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=secured).start()
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, name="served")
    thread.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}?name=here.edgebench.internal"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


@pytest.fixture
def url(machines: Machines, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model").write_bytes(b"weights")
    files = Folder(tmp_path / "files")
    with served_by_tls(TransferRoutes(Callers.of_tokens(TOKENS), {"files": files}, {}), machines["here"]) as served:
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
