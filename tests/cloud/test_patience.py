"""How long a node goes on with a cloud that does not answer, refuses, or is none."""

from __future__ import annotations

import http.server
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from cloud.slicing import slice_for
from edgebench.clock import NS_PER_MS, NS_PER_S, now_ns, now_s, sleep_s
from edgebench.core.clocks import Exchange
from edgebench.errors import FabricError, ModelError
from edgebench.fabric import node_process
from edgebench.fabric.control import ControlClient
from edgebench.fabric.node_process import NodeProcess, RunBrokenOffError, join_run
from edgebench.fabric.records import TallySnapshot
from edgebench.fabric.slices import Beaten, Endpoints, Heartbeat, RunState
from edgebench.fabric.spool import read_spool
from edgebench.fabric.transfers import fetch, hand_in
from edgebench.inference.fake import FakeRuntime
from edgebench.inference.spec import Manifest
from edgebench.topology import resolve
from edgebench.topology.model import NodeGroup, Poisson, Topology, Workload
from tests.manifests import manifest_of

DEPLOYMENT = resolve(
    Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", parent="cloud"),
            "bed": NodeGroup(tier="device", count=2, parent="ward"),
        },
        workloads={"w": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0))},
    ),
    run_id="r",
    executor="local",
)
AT_ONCE_S = 20.0


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def signals() -> Iterator[None]:
    """What a node process does with signals lasts no longer than the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def broken_off_after_s(control: ControlClient, work_dir: Path, cloud_patience_s: float) -> float:
    """How long a node runs whose run does not come to its end."""
    plan = slice_for(DEPLOYMENT, ["ward"], {"ward": Endpoints("mqtt://h:1", "http://h:2")}, {})
    process = NodeProcess(plan, control, "token", work_dir, cloud_patience_s=cloud_patience_s)
    began_s = now_s()
    with pytest.raises(RunBrokenOffError):
        process.run(
            on_phase=lambda _state: None,
            on_abort=lambda: None,
            before_flush=lambda: None,
            on_model=lambda _workload, _runtime, _manifest: None,
        )
    return now_s() - began_s


def test_a_silent_cloud_is_given_up_in_time_however_long_each_try_takes(tmp_path: Path) -> None:
    began_s = now_s()
    with silent() as url, ControlClient(url, "token", patience_s=0.5) as client:
        with pytest.raises(FabricError, match="timed out"):
            join_run(url, ["ward"], "token", patience_s=0.5)
        with pytest.raises(FabricError, match="timed out"):
            fetch(client, "/v1/streams/w/x.npy", tmp_path / "x.npy")
    assert now_s() - began_s < AT_ONCE_S


@pytest.mark.usefixtures("signals")
def test_a_node_whose_cloud_falls_silent_stops_after_so_many_seconds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with silent() as url:
        took_s = broken_off_after_s(ControlClient(url, "token", patience_s=0.6), tmp_path, 1.0)
    assert 1.0 <= took_s < AT_ONCE_S
    assert "stopping before the end of the run" in caplog.text
    assert "timed out, for 1 s" in caplog.text


def test_an_upload_that_times_out_once_is_tried_again(tmp_path: Path) -> None:
    spool = tmp_path / "records.spool"
    spool.write_bytes(b"rows")
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take_the_second() -> None:
            first, second = server.accept()[0], server.accept()[0]
            with first, second:
                asked.append(second.recv(1 << 16))
                second.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n{"have_bytes": 4, "kept": true}')

        thread = threading.Thread(target=take_the_second)
        thread.start()
        with ControlClient(f"http://127.0.0.1:{server.getsockname()[1]}", "token", patience_s=1.5) as client:
            sent_bytes = hand_in(client, "records/ward", spool)
        thread.join()
    assert asked[0].startswith(b"GET /v1/uploads/records/ward?")  # what of it is there: all
    assert sent_bytes == len(b"rows")


@pytest.mark.parametrize(("status", "said"), [(401, "no such token"), (403, "this token does not speak for ward")])
def test_a_cloud_that_refuses_a_node_is_not_asked_again(status: int, said: str) -> None:
    began_s = now_s()
    with answering(status, said.encode()) as url, pytest.raises(FabricError, match=f"{status}: {said}") as refused:
        join_run(url, ["ward"], "token", patience_s=600.0)
    assert "EDGEBENCH_TOKEN" in str(refused.value)
    assert now_s() - began_s < AT_ONCE_S


@pytest.mark.usefixtures("signals")
def test_a_node_that_the_cloud_refuses_later_stops_at_once_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(401, b"no such token") as url:
        assert broken_off_after_s(ControlClient(url, "token"), tmp_path, 600.0) < AT_ONCE_S
    assert "stopping before the end of the run" in caplog.text
    assert "it answers 401: no such token" in caplog.text


@pytest.mark.usefixtures("signals")
def test_a_node_says_for_what_reason_its_run_was_called_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with answering(200, msgspec.json.encode(Beaten(RunState("aborted", reason="no data"), 0, 0))) as url:
        assert broken_off_after_s(ControlClient(url, "token"), tmp_path, 600.0) < AT_ONCE_S
    assert "stopping before the end of the run: no data" in caplog.text


class _CallsOff(ControlClient):
    """Calls the run off as soon as the node is ready."""

    def __init__(self, slow_at_first: int = 0) -> None:
        super().__init__("http://h:1", "token")
        self.ready: list[bool] = []
        self.loading: list[bool] = []
        self._slow_at_first = slow_at_first

    def beat(self, heartbeat: Heartbeat) -> tuple[RunState, Exchange]:
        """The cloud's clock is 5 s ahead."""
        self.ready.append(heartbeat.ready)
        self.loading.append(heartbeat.loading)
        took_ns = NS_PER_S if len(self.ready) <= self._slow_at_first else NS_PER_MS
        at_ns = now_ns()
        exchange = Exchange(at_ns - took_ns, 5 * NS_PER_S + at_ns, 5 * NS_PER_S + at_ns, at_ns)
        return RunState("aborted" if heartbeat.ready else "preparing"), exchange


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("elsewhere", "beats"),
    [
        pytest.param(False, [False, True], id="on the cloud's machine"),
        # An exchange of a second tells too little; the next heartbeats are quick.
        pytest.param(True, [False, False, True], id="with a clock of its own"),
    ],
)
def test_a_node_that_has_become_ready_says_so_before_its_next_heartbeat_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool, beats: list[bool]
) -> None:
    monkeypatch.setattr(node_process, "_HEARTBEAT_S", 600.0)
    control = _CallsOff(slow_at_first=1)
    endpoints = Endpoints("mqtt://h:1", "http://h:2", shares_clock=not elsewhere)
    plan = slice_for(DEPLOYMENT, ["ward"], {"ward": endpoints}, {})
    process = NodeProcess(plan, control, "token", tmp_path)

    def get_ready() -> None:
        if control.ready:
            process.ready = True
        else:
            process.reactor.call_later(0.02, get_ready)

    process.reactor.call_later(0.0, get_ready)
    with pytest.raises(RunBrokenOffError):
        process.run(
            on_phase=lambda _state: None,
            on_abort=lambda: None,
            before_flush=lambda: None,
            on_model=lambda _workload, _runtime, _manifest: None,
        )
    assert control.ready == beats


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("fails", [False, True])
def test_a_node_that_loads_a_model_says_so_at_once_and_when_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(node_process, "_HEARTBEAT_S", 600.0)
    control, content = _CallsOff(), b"a model"
    model = manifest_of(content)
    (tmp_path / f"{model.digest}.model").write_bytes(content)
    process = NodeProcess(
        slice_for(DEPLOYMENT, ["ward"], {"ward": Endpoints("mqtt://h:1", "http://h:2")}, {}), control, "token", tmp_path
    )

    def open_slowly(_path: Path, _manifest: Manifest, *, warm_for: int) -> FakeRuntime:
        until_s = now_s() + AT_ONCE_S
        while control.loading[-1:] != [True]:  # the cloud is told while it is being loaded
            assert now_s() < until_s
            sleep_s(0.01)
        process.reactor.call_soon_threadsafe(later)
        if fails:
            raise ModelError("no such operation")
        return FakeRuntime()

    def later() -> None:
        process.reactor.call_later(0.2, get_ready)

    def get_ready() -> None:
        process.ready = True

    monkeypatch.setattr(node_process, "open_runtime", open_slowly)
    process.announced("ward", "w", msgspec.json.encode(model))
    with pytest.raises(RunBrokenOffError):
        process.run(
            on_phase=lambda _state: None,
            on_abort=lambda: None,
            before_flush=lambda: None,
            on_model=lambda _workload, _runtime, _manifest: None,
        )
    assert True in control.loading
    assert control.loading[-1] is False


@pytest.mark.usefixtures("signals")
def test_counts_that_have_not_changed_are_not_written_down_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_process, "_FLUSH_S", 0.01)
    devices = [node.name for node in DEPLOYMENT.of_tier("device")]
    assert len(devices) > 1
    endpoints = dict.fromkeys(devices, Endpoints("mqtt://h:1", "http://h:2"))
    process = NodeProcess(slice_for(DEPLOYMENT, devices, endpoints, {}), _CallsOff(slow_at_first=0), "token", tmp_path)
    tally, flushes = process.tally(devices[1], "w"), 0

    def before_flush() -> None:
        nonlocal flushes
        flushes += 1
        if flushes == 3:
            tally.scheduled += 1
        process.ready = flushes > 5

    with pytest.raises(RunBrokenOffError):
        process.run(
            on_phase=lambda _state: None,
            on_abort=lambda: None,
            before_flush=before_flush,
            on_model=lambda _workload, _runtime, _manifest: None,
        )
    counts: dict[str, list[int]] = {device: [] for device in devices}
    for entry in read_spool(process.spool_path):
        if isinstance(entry, TallySnapshot):
            counts[entry.node].append(sum(each.scheduled for each in entry.tallies.values()))
    assert counts[devices[1]] == [0, 1]
    # The first node's tell until when this process has counted.
    assert counts[devices[0]] == [0] * flushes


def test_what_answers_and_is_no_cloud_is_named_as_such() -> None:
    with (
        answering(200, b"<html>please log in</html>") as url,
        pytest.raises(FabricError, match="no cloud of edgebench"),
    ):
        join_run(url, ["ward"], "token", patience_s=600.0)
