"""The control plane over real HTTP: tokens, slices, heartbeats, models, streams, records."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from cloud.control_plane import ControlPlane
from cloud.registry import Registry
from cloud.run_status import RunStatus
from edgebench.clock import NS_PER_MS, NS_PER_S, OTHER_CLOCK
from edgebench.errors import FabricError, ModelError
from edgebench.fabric.control import ControlClient, fetch_model, upload_model
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.slices import Endpoints, Heartbeat
from edgebench.topology import resolve
from edgebench.topology.model import NodeGroup, Poisson, Topology, Workload
from tests.cloud.cutting import Cutting
from tests.manifests import manifest, manifest_of

TOPOLOGY = Topology(
    schema=1,
    name="t",
    nodes={
        "cloud": NodeGroup(tier="cloud"),
        "ward": NodeGroup(tier="edge", parent="cloud"),
        "bed": NodeGroup(tier="device", count=2, parent="ward"),
    },
    workloads={"w": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0))},
)
MODEL = bytes(range(256)) * 4000


@dataclass
class Served:
    url: str
    status: RunStatus
    plane: ControlPlane
    registry: Registry
    run_dir: Path
    digest: str

    def client(self, token: str) -> ControlClient:
        return ControlClient(self.url, token)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A control plane on loopback, in a thread; `ward-token` speaks for ward, `bed-token` for both beds."""
    deployment = resolve(TOPOLOGY, run_id="r", executor="local")
    registry = Registry(tmp_path / "registry")
    (tmp_path / "model").write_bytes(MODEL)
    digest = hashlib.sha256(MODEL).hexdigest()
    registry.put(tmp_path / "model", manifest_of(MODEL))
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    made: list[Served] = []

    async def serve() -> web.AppRunner:
        status = RunStatus(["bed-0", "bed-1"], ["ward"])
        tokens = {"ward-token": ["ward"], "bed-token": ["bed-0", "bed-1"]}
        endpoints = {name: Endpoints("mqtt://h:1", "http://h:2") for name in deployment.nodes}
        plane = ControlPlane(deployment, endpoints, tokens, {}, status, registry, tmp_path)
        runner = web.AppRunner(plane.application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        made.append(Served(f"http://{host}:{port}", status, plane, registry, tmp_path, digest))
        ready.set()
        return runner

    runner = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever, name="control-plane")
    thread.start()
    yield made[0]
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60.0)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_node_gets_its_slice_by_its_token_and_no_other(served: Served) -> None:
    with served.client("bed-token") as client:
        assert list(client.slice_of(["bed-0", "bed-1"]).nodes) == ["bed-0", "bed-1"]
        with pytest.raises(FabricError, match=r"403.*ward"):
            client.slice_of(["ward"])
    with served.client("guess") as stranger, pytest.raises(FabricError, match="401"):
        stranger.state()


def test_a_heartbeat_is_noted_and_answered(served: Served) -> None:
    with served.client("bed-token") as client:
        state, exchange = client.beat(Heartbeat(["bed-0", "bed-1"], ready=True, drained=False))
        assert state.phase == "preparing"
        # Of one clock, each of whose stamps comes after the one before.
        stamps = [exchange.t0_ns, exchange.t1_ns, exchange.t2_ns, exchange.t3_ns]
        assert stamps == sorted(stamps)
        assert client.state().ready == ["bed-0", "bed-1"]
        with pytest.raises(FabricError, match="403"):
            client.beat(Heartbeat(["ward"], ready=True, drained=True))


COMPARE = """
import sys
from edgebench.clock import now_ns
from edgebench.core.clocks import ClockComparison
from edgebench.fabric.control import ControlClient
from edgebench.fabric.slices import Heartbeat

clock, client = ClockComparison(), ControlClient(sys.argv[1], "bed-token")
for _ in range(300):
    _, exchange = client.beat(Heartbeat(["bed-0", "bed-1"], ready=False, drained=False))
    clock.add(exchange.t0_ns, exchange.t1_ns, exchange.t2_ns, exchange.t3_ns)
own_ns = now_ns()
print(own_ns, clock.at(own_ns).offset_ns, clock.at(own_ns).bound_ns)
"""
AHEAD_NS = 5_000 * NS_PER_S


@pytest.mark.parametrize(("elsewhere", "ppm"), [("seam", 0), ("seam", 200), ("namespace", 0)])
def test_another_clock_is_found_within_the_stated_bound_over_heartbeats(
    served: Served, elsewhere: str, ppm: int
) -> None:
    # A time namespace gives a process a monotonic clock of its own, which does not drift.
    command = ["unshare", "--time", "--monotonic", "5000"] if elsewhere == "namespace" else []
    clock = {OTHER_CLOCK: f"{AHEAD_NS},{ppm}"} if elsewhere == "seam" else {}
    told = subprocess.run(
        [*command, sys.executable, "-c", COMPARE, served.url],
        env={**os.environ, **clock},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    own_ns, offset_ns, bound_ns = map(int, told.stdout.split())
    here_ns = round((own_ns - AHEAD_NS) / (1 + ppm * 1e-6))
    assert abs(here_ns - own_ns - offset_ns) <= bound_ns < 5 * NS_PER_MS


def test_a_model_is_fetched_and_verified(served: Served, tmp_path: Path) -> None:
    path = fetch_model(served.url, "ward-token", served.digest, len(MODEL), tmp_path / "copy.model")
    assert path.read_bytes() == MODEL


def test_a_broken_transfer_goes_on_where_it_left_off(served: Served, tmp_path: Path) -> None:
    partial = tmp_path / "copy.part"
    partial.write_bytes(MODEL[:600_000])
    parts = []
    original = http.client.HTTPResponse.read

    class Counting(http.client.HTTPResponse):
        def read(self, amt: int | None = None) -> bytes:
            chunk = original(self, amt)
            parts.append(len(chunk))
            return chunk

    connection_class = http.client.HTTPConnection.response_class
    http.client.HTTPConnection.response_class = Counting
    try:
        path = fetch_model(served.url, "ward-token", served.digest, len(MODEL), tmp_path / "copy.model")
    finally:
        http.client.HTTPConnection.response_class = connection_class
    assert path.read_bytes() == MODEL
    assert sum(parts) == len(MODEL) - 600_000


def test_a_damaged_partial_file_is_thrown_away_and_fetched_again(served: Served, tmp_path: Path) -> None:
    (tmp_path / "copy.part").write_bytes(b"\0" * 600_000)
    path = fetch_model(served.url, "ward-token", served.digest, len(MODEL), tmp_path / "copy.model")
    assert path.read_bytes() == MODEL


def test_a_model_that_there_is_not_is_an_error(served: Served, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not to be had"):
        fetch_model(served.url, "ward-token", "0" * 64, 10, tmp_path / "copy.model")


def test_a_stream_file_is_served_once_it_is_made(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / "x.npy").write_bytes(b"numbers")
    timer = threading.Timer(0.5, lambda: served.plane.streams.update(w=folder))
    timer.start()
    with served.client("bed-token") as client:
        assert client.download("/v1/streams/w/x.npy", tmp_path / "x.npy").read_bytes() == b"numbers"
        with pytest.raises(FabricError, match="404"):
            client.download("/v1/streams/w/..%2Fmodel", tmp_path / "stolen")


def test_records_are_kept_under_the_name_that_the_token_speaks_for(served: Served, tmp_path: Path) -> None:
    spool = tmp_path / "records.spool"
    spool.write_bytes(b"rows" * 1_000_000)
    with served.client("ward-token") as client:
        client.upload_records("ward", spool)
        with pytest.raises(FabricError, match="403"):
            client.upload_records("bed-0", spool)
        with pytest.raises(FabricError, match=r"40[34]"):
            client.upload_records("../ward", spool)
    assert (tmp_path / "uploads" / "ward.spool").read_bytes() == spool.read_bytes()


def test_a_download_that_breaks_off_is_tried_again(served: Served, tmp_path: Path) -> None:
    content = b"numbers" * 100_000
    (tmp_path / "x.npy").write_bytes(content)
    served.plane.streams["w"] = tmp_path
    with Cutting(served.url, down_bytes=300_000) as cutting, ControlClient(cutting.url, "bed-token") as client:
        assert client.download("/v1/streams/w/x.npy", tmp_path / "copy.npy").read_bytes() == content
        assert cutting.connections == 2


def test_a_download_that_always_breaks_off_is_an_error_and_leaves_no_file(served: Served, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"numbers" * 100_000)
    served.plane.streams["w"] = tmp_path
    with (
        Cutting(served.url, down_bytes=300_000, cuts=100) as cutting,
        ControlClient(cutting.url, "bed-token", patience_s=1.0) as client,
        pytest.raises(FabricError, match="breaks off"),
    ):
        client.download("/v1/streams/w/x.npy", tmp_path / "copy.npy")
    assert not (tmp_path / "copy.npy").exists()


def test_records_whose_upload_breaks_off_are_sent_again(served: Served, tmp_path: Path) -> None:
    spool = tmp_path / "records.spool"
    spool.write_bytes(b"rows" * 500_000)
    with Cutting(served.url, up_bytes=300_000) as cutting, ControlClient(cutting.url, "ward-token") as client:
        client.upload_records("ward", spool)
        assert cutting.connections == 2
    assert (tmp_path / "uploads" / "ward.spool").read_bytes() == spool.read_bytes()


def test_a_transfer_that_gains_a_little_at_each_try_is_not_given_up(served: Served, tmp_path: Path) -> None:
    with Cutting(served.url, down_bytes=90_000, cuts=10) as cutting:
        path = fetch_model(cutting.url, "ward-token", served.digest, len(MODEL), tmp_path / "copy.model")
        assert cutting.connections == 11
    assert path.read_bytes() == MODEL


def test_of_a_file_only_the_ranges_that_are_asked_for_are_fetched(served: Served, tmp_path: Path) -> None:
    content = bytes(range(1, 251)) * 4000
    (tmp_path / "x.npy").write_bytes(content)
    served.plane.bundles["w"] = tmp_path
    copy = tmp_path / "copy.npy"
    with served.client("bed-token") as client:
        client.download_range("/v1/bundles/w/x.npy", copy, 0, 100)
        client.download_range("/v1/bundles/w/x.npy", copy, 500_000, 700_000)
        client.download_range("/v1/bundles/w/x.npy", copy, 999_950, 1_000_100)
    expected = bytearray(1_000_000)
    for extent in (slice(0, 100), slice(500_000, 700_000), slice(999_950, 1_000_000)):
        expected[extent] = content[extent]
    assert copy.read_bytes() == expected
    assert copy.stat().st_blocks * 512 < 300_000


def test_a_range_that_breaks_off_is_fetched_again(served: Served, tmp_path: Path) -> None:
    content = bytes(range(1, 251)) * 4000
    (tmp_path / "x.npy").write_bytes(content)
    served.plane.bundles["w"] = tmp_path
    with Cutting(served.url, down_bytes=300_000) as cutting, ControlClient(cutting.url, "bed-token") as client:
        client.download_range("/v1/bundles/w/x.npy", tmp_path / "copy.npy", 1, 900_000)
        assert cutting.connections == 2
    assert (tmp_path / "copy.npy").read_bytes()[1:900_000] == content[1:900_000]


NEW = bytes(reversed(range(256))) * 8000


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A model that the registry does not have."""
    path = tmp_path / "new.model"
    path.write_bytes(NEW)
    return path


def test_a_model_is_put_into_the_registry_once(served: Served, new: Path) -> None:
    described = manifest_of(NEW, metrics={"auroc": 0.5})
    with Cutting(served.url) as wire:
        upload_model(wire.url, "ward-token", new, described)
        sent = wire.up_bytes
        upload_model(wire.url, "ward-token", new, described)
    path, kept = served.registry.open(described.digest)
    assert (path.read_bytes(), kept) == (NEW, described)
    assert len(NEW) < sent <= wire.up_bytes < len(NEW) + 10_000


def test_an_upload_that_breaks_off_goes_on_where_it_left_off(served: Served, new: Path) -> None:
    described = manifest_of(NEW)
    with Cutting(served.url, up_bytes=1_200_000) as cutting:
        upload_model(cutting.url, "ward-token", new, described)
        assert cutting.connections == 2
    assert served.registry.open(described.digest)[0].read_bytes() == NEW


def test_what_is_there_is_not_sent_again(served: Served, new: Path) -> None:
    described = manifest_of(NEW)
    served.registry.stage(described.digest, 0, NEW[:1_500_000])
    with Cutting(served.url) as wire:
        upload_model(wire.url, "ward-token", new, described)
    assert served.registry.open(described.digest)[0].read_bytes() == NEW
    assert wire.up_bytes < len(NEW) - 1_500_000 + 10_000


def test_a_file_that_is_not_the_one_described_is_not_sent(served: Served, new: Path) -> None:
    with pytest.raises(ModelError, match="is not the model"):
        upload_model(served.url, "ward-token", new, manifest_of(b"other"))


def test_pieces_that_are_not_the_model_are_found_out_and_the_whole_is_sent_again(served: Served, new: Path) -> None:
    described = manifest_of(NEW)
    served.registry.stage(described.digest, 0, bytes(len(NEW)))
    status, body = _asked(served, "POST", described.digest, msgspec.json.encode(described))
    assert status == 422
    assert "its SHA-256 is" in body
    served.registry.stage(described.digest, 0, bytes(len(NEW)))
    upload_model(served.url, "ward-token", new, described)
    assert served.registry.open(described.digest)[0].read_bytes() == NEW


def test_a_stranger_puts_no_model_into_the_registry(served: Served, new: Path) -> None:
    with pytest.raises(ModelError, match="401"):
        upload_model(served.url, "guess", new, manifest_of(NEW))


@pytest.mark.parametrize("trick", ["..%2F..%2Fetc%2Fpasswd", "a" * 63, "A" * 64, "%00" * 64])
def test_no_name_but_a_digest_is_uploaded_to(served: Served, trick: str) -> None:
    before = sorted(served.run_dir.rglob("*"))
    assert _asked(served, "GET", f"{trick}/upload")[0] == 409
    assert _asked(served, "PUT", f"{trick}?offset=0", b"content")[0] == 409
    assert _asked(served, "POST", trick, msgspec.json.encode(manifest(digest="../x")))[0] == 400
    assert sorted(served.run_dir.rglob("*")) == before


@pytest.mark.parametrize(
    ("query", "status"), [("offset=5", 409), ("offset=-1", 400), ("offset=" + "9" * 5000, 400), ("", 400)]
)
def test_an_offset_that_cannot_be_is_refused(served: Served, query: str, status: int) -> None:
    assert _asked(served, "PUT", f"{'a' * 64}?{query}", b"content")[0] == status


def test_a_model_that_is_too_large_is_refused_by_the_byte_that_is_too_many(
    served: Served, monkeypatch: pytest.MonkeyPatch, new: Path
) -> None:
    monkeypatch.setattr("cloud.control_plane._LARGEST_MODEL_BYTES", 1000)
    assert _asked(served, "PUT", f"{'a' * 64}?offset=0", bytes(1000))[0] == 200
    assert _asked(served, "PUT", f"{'a' * 64}?offset=1000", b"x")[0] == 413


def _asked(served: Served, method: str, place: str, body: bytes | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=10.0)
    try:
        connection.request(method, f"/v1/models/{place}", body, {"Authorization": "Bearer ward-token"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_first_model_that_a_node_cannot_use_is_told_by_its_heartbeat(served: Served, tmp_path: Path) -> None:
    with served.client("ward-token") as client:
        plan = client.slice_of(["ward"])
        ward = msgspec.structs.replace(plan.endpoints["ward"], models=served.url)
        plan = msgspec.structs.replace(plan, endpoints={"ward": ward})
        process = NodeProcess(plan, client, "ward-token", tmp_path)
        told = msgspec.json.encode(manifest_of(MODEL, task="icu-death"))
        process.announced("ward", "w", told)
        process._announced.put(None)
        process._fetch()
        status = served.status.beat(process._heartbeat())
        process.reactor.close()
        process._spool.close()
    assert status.phase == "preparing"
    waiting = served.status.all_ready({served.digest})
    with pytest.raises(ModelError, match=rf"^ward: w: the announced model {served.digest[:12]} is not used: .*fake"):
        asyncio.run(asyncio.wait_for(waiting, 5.0))
