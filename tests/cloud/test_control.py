"""The control plane over real HTTP: tokens, slices, heartbeats, models, streams, records."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from cloud.board import Board
from cloud.control import ControlPlane
from cloud.registry import Registry
from edgebench.errors import FabricError, ModelError
from edgebench.fabric.control import ControlClient, fetch_model
from edgebench.fabric.slices import Endpoints, Heartbeat
from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.topology import resolve
from edgebench.topology.model import NodeGroup, Poisson, Topology, Workload

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
    board: Board
    plane: ControlPlane
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
    registry.put(
        tmp_path / "model",
        Manifest(
            digest=digest, size_bytes=len(MODEL), task="t", model_size="light", runtime="fake", quantisation="float32",
            input=TensorSpec("float32", (1,)), outputs=1, batches=(1,), parameters=0, data_source="generated",
            real=False, examples=0, epochs=0, seed=0, evaluated_on="valid", metrics={}, train_s=0.0,
        ),
    )  # fmt: skip
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    made: list[Served] = []

    async def serve() -> web.AppRunner:
        board = Board(["bed-0", "bed-1"], ["ward"])
        tokens = {"ward-token": ["ward"], "bed-token": ["bed-0", "bed-1"]}
        endpoints = {name: Endpoints("mqtt://h:1", "http://h:2") for name in deployment.nodes}
        plane = ControlPlane(deployment, endpoints, tokens, {}, board, registry, tmp_path)
        runner = web.AppRunner(plane.application(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        made.append(Served(f"http://{host}:{port}", board, plane, tmp_path, digest))
        ready.set()
        return runner

    runner = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever, name="control-plane")
    thread.start()
    yield made[0]
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10.0)
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
        assert client.beat(Heartbeat(["bed-0", "bed-1"], ready=True, drained=False)).phase == "preparing"
        assert client.state().ready == ["bed-0", "bed-1"]
        with pytest.raises(FabricError, match="403"):
            client.beat(Heartbeat(["ward"], ready=True, drained=True))


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
