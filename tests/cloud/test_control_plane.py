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

from cloud import control_plane
from cloud.control_plane import ControlPlane
from cloud.registry import Registry
from cloud.run_status import RunStatus
from edgebench.clock import NS_PER_MS, NS_PER_S, OTHER_CLOCK
from edgebench.errors import FabricError, ModelError
from edgebench.fabric.control import ControlClient, RefusedError
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.shelves import Caller
from edgebench.fabric.slices import Endpoints, Heartbeat
from edgebench.fabric.transfers import fetch, hand_in, upload_model
from edgebench.topology import resolve
from edgebench.topology.model import NodeGroup, Poisson, Topology, Workload
from tests.fabric.cutting import Cutting
from tests.fabric.served_folder import served as serving
from tests.fabric.served_folder import until
from tests.lab_kit.needs import need_root_and
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
    loop: asyncio.AbstractEventLoop

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
    made: list[tuple[RunStatus, ControlPlane, asyncio.AbstractEventLoop]] = []

    def application() -> web.Application:
        status = RunStatus(["bed-0", "bed-1"], ["ward"])
        tokens = {"ward-token": Caller(frozenset({"ward"})), "bed-token": Caller(frozenset({"bed-0", "bed-1"}))}
        endpoints = {name: Endpoints("mqtt://h:1", "http://h:2") for name in deployment.nodes}
        plane = ControlPlane(deployment, endpoints, tokens, {}, status, registry, tmp_path, tmp_path / "work")
        made.append((status, plane, asyncio.get_running_loop()))
        return plane.application()

    with serving(application) as url:
        ((status, plane, loop),) = made
        yield Served(url, status, plane, registry, tmp_path, digest, loop)


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
    if command:
        need_root_and("unshare")
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


def test_a_model_is_fetched_by_its_digest(served: Served, tmp_path: Path) -> None:
    with served.client("bed-token") as client:
        fetch(client, f"/v1/models/{served.digest}", tmp_path / "copy", digest=served.digest)
        with pytest.raises(RefusedError, match=r"404: .*no model"):
            fetch(client, f"/v1/models/{'0' * 64}", tmp_path / "other", digest="0" * 64)
        with pytest.raises(RefusedError, match="400: a model is named by its digest"):
            fetch(client, "/v1/models/..%2Fx", tmp_path / "other")
    assert (tmp_path / "copy").read_bytes() == MODEL


def test_a_stream_file_is_served_once_it_is_made(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / "x.npy").write_bytes(b"numbers")
    timer = threading.Timer(0.5, lambda: served.plane.streams.update(w=folder))
    timer.start()
    with served.client("bed-token") as client:
        fetch(client, "/v1/streams/w/x.npy", tmp_path / "x.npy")
        assert (tmp_path / "x.npy").read_bytes() == b"numbers"
        with pytest.raises(FabricError, match="404"):
            fetch(client, "/v1/streams/w/..%2Fmodel", tmp_path / "stolen")


def test_records_are_kept_under_the_name_that_the_token_speaks_for(served: Served, tmp_path: Path) -> None:
    spool = tmp_path / "records.spool"
    spool.write_bytes(b"rows" * 1_000_000)
    with served.client("ward-token") as client:
        hand_in(client, "records/ward", spool)
        with pytest.raises(RefusedError, match="403: this token does not speak for bed-0"):
            hand_in(client, "records/bed-0", spool)
        with pytest.raises(RefusedError, match="403"):
            hand_in(client, "records/..%2Fward", spool)
    assert (tmp_path / "uploads" / "ward.spool").read_bytes() == spool.read_bytes()


def test_who_waits_for_the_start_has_heard_of_the_abort_once_it_is_answered(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_plane, "_HELD_S", 30.0)  # it is answered for the abort, and for nothing else

    def wait_for_start() -> None:
        with served.client("bed-token") as client:
            heard.append(client.beat(Heartbeat(["bed-0", "bed-1"], ready=True, drained=False, may_wait=True))[0].phase)

    heard: list[str] = []
    waiting = threading.Thread(target=wait_for_start)
    waiting.start()
    until(lambda: served.status.live().ready)
    served.loop.call_soon_threadsafe(served.status.abort, "no data")
    waiting.join()
    served.status.died(["ward"])
    assert heard == ["aborted"]
    asyncio.run(asyncio.wait_for(served.status.all_notified(), 0.1))


def test_what_the_trainer_makes_is_told_to_be_gone_where_the_run_is_aborted(served: Served, tmp_path: Path) -> None:
    served.status.abort("no data")
    with served.client("bed-token") as client, pytest.raises(RefusedError, match="410: the run is aborted: no data"):
        fetch(client, "/v1/streams/w/x.npy", tmp_path / "copy")


def test_records_that_are_handed_in_twice_are_kept_and_counted(served: Served, tmp_path: Path) -> None:
    spool = tmp_path / "records.spool"
    spool.write_bytes(b"rows" * 500_000)
    with served.client("ward-token") as client:
        for content in (b"rows" * 500_000, b"more" * 500_000, b"more" * 500_000):
            spool.write_bytes(content)
            hand_in(client, "records/ward", spool)
    assert (tmp_path / "uploads" / "ward.spool").read_bytes() == b"more" * 500_000
    assert served.status._uploaded == {"ward"}


NEW = bytes(reversed(range(256))) * 8000


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A model that the registry does not have."""
    path = tmp_path / "new.model"
    path.write_bytes(NEW)
    return path


def test_a_model_is_put_into_the_registry_once(served: Served, new: Path) -> None:
    described = manifest_of(NEW, metrics={"auroc": 0.5})
    with Cutting(served.url) as wire, ControlClient(wire.url, "ward-token") as client:
        upload_model(client, new, described)
        sent = wire.up_bytes
        upload_model(client, new, described)
    path, kept = served.registry.open(described.digest)
    assert (path.read_bytes(), kept) == (NEW, described)
    assert len(NEW) < sent <= wire.up_bytes < len(NEW) + 10_000


def test_a_damaged_model_is_mended_by_an_upload(served: Served, new: Path) -> None:
    described = manifest_of(NEW)
    served.registry.put(new, described)
    served.registry.path_of(described.digest).write_bytes(bytes(len(NEW)))
    with served.client("ward-token") as client:
        upload_model(client, new, described)
    assert served.registry.open(described.digest)[0].read_bytes() == NEW


def test_what_another_cloud_has_taken_of_a_model_is_not_sent_again(served: Served, new: Path) -> None:
    described = manifest_of(NEW)
    served.registry.staged(described.digest).write_bytes(NEW[:1_500_000])
    with Cutting(served.url) as wire, ControlClient(wire.url, "ward-token") as client:
        upload_model(client, new, described)
    assert served.registry.open(described.digest)[0].read_bytes() == NEW
    assert wire.up_bytes < len(NEW) - 1_500_000 + 10_000


def test_a_file_that_is_not_the_one_described_is_not_sent(served: Served, new: Path) -> None:
    with (
        served.client("ward-token") as client,
        pytest.raises(RefusedError, match="400: a model is named by its digest"),
    ):
        upload_model(client, new, manifest_of(b"other"))


def test_a_model_that_was_never_sent_cannot_be_described(served: Served) -> None:
    with served.client("ward-token") as client, pytest.raises(RefusedError, match=r"422: .*no model"):
        client.ask("POST", f"/v1/models/{manifest_of(NEW).digest}", str, msgspec.json.encode(manifest_of(NEW)))


@pytest.mark.parametrize("token", ["guess", "bed-token"])
def test_a_stranger_and_a_device_put_no_model_into_the_registry(served: Served, new: Path, token: str) -> None:
    described = manifest_of(NEW)
    with served.client(token) as client:
        with pytest.raises(RefusedError, match=r"401|403: a device brings no model"):
            upload_model(client, new, described)
        with pytest.raises(RefusedError, match=r"401|403: a device brings no model"):
            client.ask("POST", f"/v1/models/{described.digest}", str, msgspec.json.encode(described))
    assert not served.registry.staged(described.digest).exists()


@pytest.mark.parametrize("trick", ["..%2F..%2Fetc%2Fpasswd", "a" * 63, "A" * 64, "%00" * 64])
def test_no_name_but_a_digest_is_uploaded_to(served: Served, trick: str) -> None:
    before = sorted(served.run_dir.rglob("*"))
    assert _asked(served, "GET", f"/v1/uploads/models/{trick}?sha256={trick}&size=1")[0] == 400
    assert _asked(served, "PUT", f"/v1/uploads/models/{trick}?sha256={'a' * 64}&size=1&offset=0", b"x")[0] == 400
    assert _asked(served, "POST", f"/v1/models/{trick}", msgspec.json.encode(manifest(digest="../x")))[0] == 400
    assert sorted(served.run_dir.rglob("*")) == before


@pytest.mark.parametrize(("kind", "limit"), [("models", 1 << 30), ("records", 1 << 32), ("replies", 1 << 30)])
def test_what_is_too_large_is_refused_before_a_byte_of_it_is_taken(served: Served, kind: str, limit: int) -> None:
    name = "ward" if kind == "records" else "a" * 64
    place = f"/v1/uploads/{kind}/{name}?sha256={'a' * 64}&size={limit + 1}&offset=0"
    assert _asked(served, "PUT", place, b"x")[0] == 413


def _asked(served: Served, method: str, place: str, body: bytes | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=10.0)
    try:
        connection.request(method, place, body, {"Authorization": "Bearer ward-token"})
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
