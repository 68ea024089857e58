"""Files over real HTTP, and connections that break."""

from __future__ import annotations

import hashlib
import http.client
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edgebench.clock import now_s
from edgebench.errors import FabricError
from edgebench.fabric import patience, transfer_routes
from edgebench.fabric.control import HttpClient, RefusedError
from edgebench.fabric.endpoints import parse_http_url
from edgebench.fabric.links import Relay
from edgebench.fabric.patience import ENDLESS_S, Patience
from edgebench.fabric.relay import Route
from edgebench.fabric.transfer_threads import AT_ONCE, Transfer, TransferThreads
from edgebench.fabric.transfers import CalledOffError, fetch, fetch_extent, hand_in
from edgebench.fabric.turns import Pace, Turns
from tests.conftest import ROOT
from tests.fabric.cutting import Cutting
from tests.fabric.relaying import WARD, link
from tests.fabric.served_folder import TOKEN, Folder, serving, serving_folder, until
from tests.fabric.swallowing import refusing

WAIT_S = 30.0
MODEL = bytes(range(256)) * 8000
DIGEST = hashlib.sha256(MODEL).hexdigest()
PATH = "/v1/files/model"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "model").write_bytes(MODEL)
    return Folder(tmp_path / "served")


@pytest.fixture
def url(folder: Folder) -> Iterator[str]:
    with serving_folder(folder) as url:
        yield url


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(MODEL)
    return path


def client(url: str, patience_s: float = 30.0, timeout_s: float | None = None) -> HttpClient:
    return HttpClient(url, TOKEN, patience_s=patience_s, timeout_s=timeout_s)


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_a_file_is_fetched_and_compared_with_what_the_server_says_of_it(
    folder: Folder, url: str, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    (folder.path / "x.npy").write_bytes(content)
    with client(url) as asking:
        assert fetch(asking, "/v1/files/x.npy", tmp_path / "x.npy") == size
    assert (tmp_path / "x.npy").read_bytes() == content
    until(lambda: folder.sent_bytes == size)  # the server counts when it has sent


def test_what_comes_of_a_file_over_a_slow_link_is_kept_as_it_comes(tmp_path: Path) -> None:
    content = bytes(range(200))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def fetch_it() -> None:
            with client(url) as asking:
                fetch(asking, PATH, tmp_path / "copy", digest=hashlib.sha256(content).hexdigest())

        fetching = threading.Thread(target=fetch_it)
        fetching.start()
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + content[:100])
            until(lambda: (tmp_path / "copy.part").exists() and (tmp_path / "copy.part").stat().st_size == 100)
            connection.sendall(content[100:])
            fetching.join(WAIT_S)
    assert (tmp_path / "copy").read_bytes() == content


def test_several_files_come_over_one_connection(url: str, tmp_path: Path, model: Path) -> None:
    with Cutting(url) as wire, client(wire.url) as asking:
        for _ in range(3):
            fetch(asking, PATH, tmp_path / "copy", digest=DIGEST)
            hand_in(asking, "files/reply", model)
        assert wire.connections == 1


def test_a_server_that_falls_silent_for_as_long_as_it_may_is_asked_again(tmp_path: Path) -> None:
    content = bytes(range(200))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def be_silent_once() -> None:
            silent, _ = server.accept()
            second, _ = server.accept()
            with silent, second:
                assert second.recv(1 << 16)
                second.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + content)
                assert not second.recv(1)  # it is closed

        serving_it = threading.Thread(target=be_silent_once, daemon=True)
        serving_it.start()
        with client(f"http://127.0.0.1:{server.getsockname()[1]}", patience_s=0.1, timeout_s=0.5) as asking:
            fetch(asking, PATH, tmp_path / "copy", digest=hashlib.sha256(content).hexdigest())
        serving_it.join(WAIT_S)
    assert (tmp_path / "copy").read_bytes() == content


def test_a_broken_transfer_goes_on_where_it_was(folder: Folder, url: str, tmp_path: Path) -> None:
    with Cutting(url, down_bytes=600_000, cuts=2) as wire, client(wire.url) as asking:
        carried_bytes = fetch(asking, PATH, tmp_path / "copy", digest=DIGEST)
        assert wire.connections == 3
    assert (tmp_path / "copy").read_bytes() == MODEL
    assert carried_bytes == len(MODEL)
    # What was under way is sent again, and counted when it has been sent.
    until(lambda: folder.sent_bytes > len(MODEL))


def test_what_an_earlier_process_has_fetched_is_not_fetched_again(folder: Folder, url: str, tmp_path: Path) -> None:
    (tmp_path / "copy.part").write_bytes(MODEL[:1_500_000])
    with client(url) as asking:
        assert fetch(asking, PATH, tmp_path / "copy", digest=DIGEST) == len(MODEL) - 1_500_000
    assert (tmp_path / "copy").read_bytes() == MODEL
    until(lambda: folder.sent_bytes == len(MODEL) - 1_500_000)  # the server counts when it has sent


@pytest.mark.parametrize("left", [bytes(600_000), MODEL + b"more", MODEL])
def test_what_another_has_left_is_found_out(url: str, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "copy.part").write_bytes(left)
    with client(url) as asking:
        fetch(asking, PATH, tmp_path / "copy", digest=DIGEST)
    assert (tmp_path / "copy").read_bytes() == MODEL


def test_another_file_is_an_error_and_leaves_nothing(url: str, tmp_path: Path, folder: Folder) -> None:
    with client(url) as asking, pytest.raises(FabricError, match="its SHA-256 is another"):
        fetch(asking, PATH, tmp_path / "copy", digest="0" * 64)
    assert [each.name for each in tmp_path.iterdir()] == ["served"]
    until(lambda: folder.sent_bytes == 2 * len(MODEL))  # the server counts when it has sent


def test_a_file_may_be_compared_without_being_kept(folder: Folder, url: str, tmp_path: Path) -> None:
    with Cutting(url, down_bytes=600_000) as wire, client(wire.url) as asking:
        assert fetch(asking, PATH, tmp_path / "copy", digest=DIGEST, keep=False) == len(MODEL)
        with pytest.raises(FabricError, match="another"):
            fetch(asking, PATH, tmp_path / "copy", digest="0" * 64, keep=False)
    assert [each.name for each in tmp_path.iterdir()] == ["served"]


def make_in(delay_s: float, path: Path) -> None:
    """Nobody sees it half written."""
    being_made = path.with_name("being made")
    being_made.write_bytes(b"numbers")
    threading.Timer(delay_s, being_made.rename, [path]).start()


def test_a_file_that_is_still_being_made_is_waited_for(folder: Folder, url: str, tmp_path: Path) -> None:
    make_in(2.0, folder.path / "late")
    with client(url, patience_s=1.5) as asking:
        fetch(asking, "/v1/files/late", tmp_path / "late")
    assert (tmp_path / "late").read_bytes() == b"numbers"


def test_a_transfer_that_gains_a_little_at_each_try_is_not_given_up(url: str, tmp_path: Path) -> None:
    with Cutting(url, down_bytes=300_000, cuts=5) as wire, client(wire.url, patience_s=2.5) as asking:
        fetch(asking, PATH, tmp_path / "copy", digest=DIGEST)
        assert wire.connections == 6
    assert (tmp_path / "copy").read_bytes() == MODEL


def test_a_transfer_that_gains_nothing_more_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        refusing() as port,
        client(f"http://127.0.0.1:{port}", patience_s=0.5) as asking,
        pytest.raises(FabricError, match="refused"),
    ):
        fetch(asking, PATH, tmp_path / "copy", digest=DIGEST)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_again(url: str, tmp_path: Path) -> None:
    with Cutting(url) as wire, client(wire.url) as asking:
        fetch(asking, PATH, tmp_path / "copy", digest=DIGEST)
        kept = asking._connection
        assert kept is not None
        kept.sock.shutdown(socket.SHUT_RDWR)
        fetch(asking, PATH, tmp_path / "copy", digest=DIGEST, patience=Patience(0.0))
        assert wire.connections == 2


def test_of_a_file_only_the_extents_that_are_asked_for_are_fetched(folder: Folder, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with client(url) as asking:
        for start, end in ((0, 100), (500_000, 700_000), (len(MODEL) - 50, len(MODEL) + 100)):
            fetch_extent(asking, PATH, copy, start, end)
    expected = bytearray(len(MODEL))
    for extent in (slice(0, 100), slice(500_000, 700_000), slice(len(MODEL) - 50, len(MODEL))):
        expected[extent] = MODEL[extent]
    assert copy.read_bytes() == expected
    assert copy.stat().st_blocks * 512 < 300_000
    until(lambda: folder.sent_bytes == 200_150)  # the server counts when it has sent


def test_an_extent_that_breaks_off_is_fetched_again(url: str, tmp_path: Path) -> None:
    with Cutting(url, down_bytes=300_000) as wire, client(wire.url) as asking:
        fetch_extent(asking, PATH, tmp_path / "copy", 1, 900_000)
        assert wire.connections == 2
    assert (tmp_path / "copy").read_bytes()[1:900_000] == MODEL[1:900_000]


@pytest.mark.parametrize("content", [b"", b"small", MODEL])
def test_a_file_is_handed_in_once(folder: Folder, url: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reply"
    path.write_bytes(content)
    with client(url) as asking:
        assert hand_in(asking, "files/reply", path) == len(content)
        asked = folder.asked
        if len(content) > 1 << 20:  # a small one is sent without asking
            assert hand_in(asking, "files/reply", path) == 0
            assert folder.asked == asked + 1
    assert (folder.path / "reply").read_bytes() == content
    assert folder.kept["reply"].carried_bytes == len(content)


def test_by_turns_a_file_comes_piece_by_piece_at_the_pace_of_its_link(folder: Folder, tmp_path: Path) -> None:
    up, down = (Turns((Pace([(-math.inf, rate)]),)) for rate in (16.0, 80.0))  # 1.6 and 8 MB/s
    path = tmp_path / "reply"
    path.write_bytes(MODEL[:1_000_000])
    tokens = {TOKEN: ["bed"]}
    with (
        serving({"files": folder}, {"files": folder}, tokens, lambda _, way: up if way == "up" else down) as url,
        client(url) as asking,
    ):
        start_s = now_s()
        assert hand_in(asking, "files/reply", path, by_turns=True) == 1_000_000
        handed_in_s = now_s()
        assert fetch(asking, PATH, tmp_path / "copy", digest=DIGEST) == len(MODEL)
    assert folder.asked == 4  # it asked, brought half a second's and the rest, and fetched
    assert handed_in_s - start_s >= 0.6
    assert now_s() - handed_in_s >= 0.25
    assert (folder.path / "reply").read_bytes() == MODEL[:1_000_000]
    assert (tmp_path / "copy").read_bytes() == MODEL


def test_by_turns_an_upload_that_is_alone_on_a_long_way_has_most_of_its_link(folder: Folder, tmp_path: Path) -> None:
    turns = Turns((Pace([(-math.inf, 10.0)]),))
    path = tmp_path / "reply"
    path.write_bytes(MODEL[:1_000_000])
    with serving({"files": folder}, {"files": folder}, {TOKEN: ["bed"]}, lambda _, __: turns) as url:
        at = parse_http_url(url)
        route = Route("r", (WARD,), at.host, at.port, "http")
        with Relay.start([link(WARD, 50.0, 10.0)], [route], seed=1, log_dir=tmp_path) as relay:
            host, port = relay.address("r")
            with client(f"http://{host}:{port}") as asking:
                start_s = now_s()
                hand_in(asking, "files/reply", path, by_turns=True)
                took_s = now_s() - start_s
    assert 1.0 < took_s < 6.0  # an answer after each of the 100 pieces would be 10 s


def test_who_waits_for_its_turn_longer_than_for_an_answer_is_told_that_one_will_come(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_routes, "_HEARD_S", 0.1)
    pace = Pace([(-math.inf, 1000.0)])
    path = tmp_path / "reply"
    path.write_bytes(MODEL[:1_500_000])
    tokens = {TOKEN: ["bed"]}
    with (
        serving({"files": folder}, {"files": folder}, tokens, lambda _, __: Turns((pace,))) as url,
        client(url, timeout_s=1.0) as asking,
    ):
        pace.free_s = now_s() + 2.0
        hand_in(asking, "files/reply", path, by_turns=True)
        pace.free_s = now_s() + 2.0
        fetch(asking, PATH, tmp_path / "copy", digest=DIGEST)
    assert folder.asked == 3  # nothing was asked again
    assert (folder.path / "reply").read_bytes() == MODEL[:1_500_000]
    assert (tmp_path / "copy").read_bytes() == MODEL


def test_by_turns_what_breaks_off_on_its_way_in_goes_on_where_it_was(folder: Folder, model: Path) -> None:
    turns = Turns((Pace([(-math.inf, 1000.0)]),))
    tokens = {TOKEN: ["bed"]}
    with (
        serving({"files": folder}, {"files": folder}, tokens, lambda _, __: turns) as url,
        Cutting(url, up_bytes=700_000, cuts=2) as wire,
        client(wire.url) as asking,
    ):
        hand_in(asking, "files/reply", model, by_turns=True)
        assert wire.connections == 3
    assert (folder.path / "reply").read_bytes() == MODEL
    assert folder.kept["reply"].carried_bytes == len(MODEL)


def test_what_breaks_off_on_its_way_in_goes_on_where_it_was(folder: Folder, url: str, model: Path) -> None:
    # It takes its time, so that more is under way than has come when it breaks off.
    with Cutting(url, up_bytes=700_000, up_pause_s=0.01, cuts=2) as wire, client(wire.url) as asking:
        sent_bytes = hand_in(asking, "files/reply", model)
        assert wire.connections == 3
    assert (folder.path / "reply").read_bytes() == MODEL
    # What was under way is sent again; what came is not.
    assert sent_bytes > len(MODEL)
    assert folder.kept["reply"].carried_bytes == len(MODEL)


def test_what_goes_on_slowly_is_not_given_up_when_it_breaks_off_after_longer_than_the_patience(
    folder: Folder, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "reply"
    with path.open("wb") as file:
        file.truncate(8_000_000)
    patience_s, began_s = 3.0, now_s()  # a busy machine stands still for half of that
    with (
        Cutting(url, up_bytes=5_500_000, up_pause_s=0.05) as wire,
        client(wire.url, patience_s=patience_s) as asking,
    ):
        hand_in(asking, "files/reply", path)
        assert wire.connections >= 2
    assert now_s() - began_s > patience_s
    assert (folder.path / "reply").read_bytes() == path.read_bytes()


def test_what_is_there_is_not_handed_in_again(folder: Folder, url: str, model: Path) -> None:
    (folder.path / "reply.coming").write_bytes(MODEL[:1_500_000])
    with client(url) as asking:
        assert hand_in(asking, "files/reply", model) == len(MODEL) - 1_500_000
    assert (folder.path / "reply").read_bytes() == MODEL


def test_pieces_that_are_not_of_the_file_are_found_out_and_the_whole_is_sent_again(
    folder: Folder, url: str, model: Path
) -> None:
    (folder.path / "reply.coming").write_bytes(bytes(1_500_000))
    with client(url) as asking:
        hand_in(asking, "files/reply", model)
    assert (folder.path / "reply").read_bytes() == MODEL


@pytest.mark.parametrize("largest_bytes", [100, 1_000_000])
def test_what_is_too_large_is_refused_before_it_is_taken(
    folder: Folder, url: str, tmp_path: Path, largest_bytes: int
) -> None:
    folder.largest_bytes = largest_bytes
    path = tmp_path / "reply"
    path.write_bytes(bytes(largest_bytes + 1))
    with client(url) as asking, pytest.raises(RefusedError, match=f"413: a file has {largest_bytes} bytes at most"):
        hand_in(asking, "files/reply", path)
    assert folder.coming == {}


def test_without_room_the_server_says_so(folder: Folder, url: str, tmp_path: Path) -> None:
    (folder.path / "reply.coming").symlink_to("/dev/full")
    path = tmp_path / "reply"
    path.write_bytes(b"small")
    with client(url) as asking, pytest.raises(FabricError, match="507: it cannot be kept: "):
        hand_in(asking, "files/reply", path)


def asked(url: str, method: str, path: str, body: bytes = b"", token: str = TOKEN, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10.0)
    try:
        headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_stranger_gets_and_brings_nothing(folder: Folder, url: str, method: str) -> None:
    place = "/v1/uploads/files/reply" if method == "PUT" else PATH
    assert asked(url, method, f"{place}?sha256={DIGEST}&size=1&offset=0", b"x", token="guess") == (401, "no such token")
    assert folder.asked == 0


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "..%2F" + "a" * 61, "%00" * 64, "a" * 64 + "%0A"])
def test_what_is_no_digest_is_refused(folder: Folder, url: str, digest: str) -> None:
    for method in ("GET", "PUT"):
        status, said = asked(url, method, f"/v1/uploads/files/reply?sha256={digest}&size=1&offset=0", b"x")
        assert (status, said) == (400, "sha256 is not a SHA-256 digest (64 hex digits)")
    assert folder.asked == 0


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("size=12&offset=5", 409),
        ("size=7&offset=-1", 400),
        ("size=7&offset=" + "9" * 5000, 400),
        ("size=7", 400),
        ("offset=0", 400),
        ("size=1e3&offset=0", 400),
        ("size=3&offset=0", 400),
    ],
)
def test_numbers_that_cannot_be_are_refused(url: str, query: str, status: int) -> None:
    assert asked(url, "PUT", f"/v1/uploads/files/reply?sha256={DIGEST}&{query}", b"content")[0] == status


@pytest.mark.parametrize("extent", ["bytes=9999999-", "bytes=5-4", "bytes=-5", "items=0-4", "bytes=0-1,3-4"])
def test_an_extent_that_there_is_not_is_refused(url: str, extent: str) -> None:
    assert asked(url, "GET", PATH, Range=extent)[0] == 416


def test_what_is_called_off_ends_at_once_though_the_server_is_silent(tmp_path: Path) -> None:
    failures: list[Exception | None] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        transfers = TransferThreads(TOKEN)
        transfers.share(url)
        given: list[Patience] = []

        def do(asking: HttpClient, until: Patience) -> None:
            given.append(until)
            fetch(asking, PATH, tmp_path / "copy", digest=DIGEST, patience=until)

        transfer = Transfer(do, failures.append)
        transfers.put(url, transfer)
        with silent.accept()[0]:
            began_s = now_s()
            transfer.call_off()
            transfers.close()
            assert now_s() - began_s < 5.0
    assert given[0].patience_s == ENDLESS_S
    assert isinstance(failures[0], CalledOffError)


def test_a_connection_in_which_nothing_moves_is_replaced_once_when_there_is_reason_to_hope(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_s = [0.0]
    monkeypatch.setattr(patience, "now_s", lambda: at_s[0])
    server_port = int(url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as between:
        way = f"http://127.0.0.1:{between.getsockname()[1]}"
        transfers = TransferThreads(TOKEN)
        transfers.share(way)
        over = threading.Event()
        transfer = Transfer(
            lambda asking, until: fetch(asking, PATH, tmp_path / "copy", digest=DIGEST, patience=until),
            lambda _failure: over.set(),
        )
        transfers.put(way, transfer)
        silent, _ = between.accept()
        assert silent.recv(1 << 16)
        at_s[0] += 20.0
        transfer.hurry(stalled_s=10.0)
        second, _ = between.accept()
        transfer.hurry(stalled_s=10.0)  # by another of its clients
        with silent, second, socket.create_connection(("127.0.0.1", server_port), timeout=0.2) as server:
            server.sendall(second.recv(1 << 16))
            while not over.is_set():
                with suppress(TimeoutError):
                    second.sendall(server.recv(1 << 16))
        transfers.close()
    assert (tmp_path / "copy").read_bytes() == MODEL


def test_of_transfers_that_share_a_way_some_go_on_at_once_and_of_those_with_their_own_all(url: str) -> None:
    lock, going, most = threading.Lock(), [0], [0]
    go_on = threading.Event()

    def do(_asking: HttpClient, _until: Patience) -> None:
        with lock:
            going[0] += 1
            most[0] = max(most[0], going[0])
        go_on.wait(WAIT_S)
        with lock:
            going[0] -= 1

    def reached(number: int) -> bool:
        until_s = now_s() + WAIT_S
        while now_s() < until_s and most[0] < number:
            go_on.wait(0.01)
        return most[0] == number

    transfers = TransferThreads(TOKEN)
    ended = threading.Semaphore(0)
    for number in range(10):
        transfers.share(url)
        transfers.share(f"http://127.0.0.1:{number + 1}")
    for number in range(10):
        transfers.put(url, Transfer(do, lambda _failure: ended.release()))
        transfers.put(f"http://127.0.0.1:{number + 1}", Transfer(do, lambda _failure: ended.release()))
    assert reached(AT_ONCE + 10)
    go_on.set()
    assert all(ended.acquire(timeout=WAIT_S) for _ in range(20))
    transfers.close()
    assert most[0] == AT_ONCE + 10


def test_a_hundred_megabytes_there_and_back_take_little_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fabric.large", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    growth_bytes, same = done.stdout.split()
    assert same == "True"
    assert int(growth_bytes) < 40_000_000


def test_a_server_that_answers_again_and_again_that_a_file_is_being_made_is_asked_less_and_less_often(
    folder: Folder, url: str, tmp_path: Path
) -> None:
    make_in(2.0, folder.path / "late")
    with client(url, patience_s=1.5) as asking:
        fetch(asking, "/v1/files/late", tmp_path / "late")
    assert folder.asked <= 8  # after 0, 0.1, 0.3, 0.7, 1.2, 1.7 and 2.2 s
