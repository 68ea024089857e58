"""The cloud's process: it answers while it works, and ends with whatever of it has died."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from cloud.announcing import Announcer
from cloud.cloud_spec import CloudSpec
from cloud.control_plane import ControlPlane
from cloud.director import note_failures
from cloud.federation import FederationEvent, GlobalModel
from cloud.jobs import EvaluateJob, TrainJob
from cloud.node import CloudNode
from cloud.preparation import Preparation
from cloud.registry import Registry
from cloud.rounds import Federations
from cloud.run_status import RunStatus
from cloud.trainer import Trainer as RealTrainer
from edgebench.clock import now_s, sleep_s
from edgebench.errors import FabricError, ModelError
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.brokers.server import Broker
from edgebench.fabric.control import ControlClient
from edgebench.fabric.records import Entry, Invalidated, ReplyRecord, Rounded, RoundRecord
from edgebench.fabric.shelves import Caller
from edgebench.fabric.slices import WATCHER, Endpoints, Heartbeat
from edgebench.inference.spec import TensorSpec
from edgebench.topology import resolve
from edgebench.topology.model import Federated, Fixed, ModelChoice, NodeGroup, Place, Topology, Workload
from edgebench.topology.profiles import Profile
from tests.manifests import manifest_of
from tests.profiles import SLOW

WAIT_S = 60.0
SLOW_MODEL = b'{"latency_s": 1.5}'
"""Takes twice as long to warm up: one sample, and a batch of them."""
ANSWER_S = 2.5
"""Less than that takes. On a busy machine an answer may take long, too."""


@dataclass
class Cloud:
    process: subprocess.Popen[str]
    url: str

    def end(self) -> tuple[int, str]:
        """Exit status and standard error."""
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        self.process.communicate(timeout=WAIT_S)  # closes its lifeline, too, so not before it has ended
        return self.process.returncode, said


def spec_of(tmp_path: Path, broker: str, *, outputs: int = 1, profile: Profile | None = None) -> CloudSpec:
    """A cloud that decides by a model that it has from a file. profile: by which its one device is emulated."""
    model = tmp_path / "slow.json"
    model.write_bytes(SLOW_MODEL)
    described = manifest_of(SLOW_MODEL, task="occupancy", input=TensorSpec("float32", (10, 5)), outputs=outputs)
    (tmp_path / "slow.json.json").write_bytes(msgspec.json.encode(described))
    workload = Workload(
        task="occupancy",
        source="room",
        load=Fixed(rate_hz=1.0),
        place=Place(infer="cloud"),
        model=ModelChoice(source=str(model)),
    )
    nodes = {
        "cloud": NodeGroup(tier="cloud"),
        "hub": NodeGroup(tier="edge", parent="cloud"),
        "room": NodeGroup(tier="device", parent="hub", profile="host" if profile is None else "slow.json"),
    }
    topology = Topology(schema=1, name="t", nodes=nodes, workloads={"w": workload})
    profiles = {} if profile is None else {"slow.json": profile}
    deployment = resolve(topology, run_id="r", executor="local", profiles=profiles)
    return CloudSpec(
        deployment=deployment,
        endpoints=dict.fromkeys(deployment.nodes, Endpoints(broker, "http://127.0.0.1:1")),
        tokens={"of-hub": Caller(frozenset({"hub"})), "of-watcher": Caller(frozenset({WATCHER}))},
        traces={},
        run_dir=str(tmp_path),
        registry_dir=str(tmp_path / "registry"),
        data=None,
    )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with make_broker(BrokerSettings("b", tmp_path / "broker")) as running:
        yield running


def started(tmp_path: Path, spec: CloudSpec, program: str = "from cloud.__main__ import main") -> Cloud:
    """The cloud's process, whose records go to `work`."""
    (tmp_path / "work").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        arguments = ["--listen-fd", str(listening.fileno()), "--work-dir", str(tmp_path / "work"), "--lifeline"]
        process = subprocess.Popen(
            [sys.executable, "-c", f"import sys\n{program}\nsys.exit(main(sys.argv[1:]))", *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[listening.fileno()],
        )
        host, port = listening.getsockname()
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(spec).decode() + "\n")
    process.stdin.flush()
    return Cloud(process, f"http://{host}:{port}")


def answers(watcher: ControlClient) -> bool:
    """Whether the cloud has come up."""
    try:
        watcher.state()
    except FabricError:
        return False
    return True


def test_heartbeats_are_answered_while_a_first_model_is_warmed_up(tmp_path: Path, broker: Broker) -> None:
    cloud = started(tmp_path, spec_of(tmp_path, broker.url))
    longest_s = 0.0
    until_s = now_s() + WAIT_S
    with (
        contextlib.closing(ControlClient(cloud.url, "of-hub")) as hub,
        contextlib.closing(ControlClient(cloud.url, "of-watcher")) as watcher,
    ):
        while not answers(watcher):
            assert now_s() < until_s
        preparing = ""
        while preparing != "the nodes load their models":
            assert now_s() < until_s
            began_s = now_s()
            preparing = watcher.state().preparing
            hub.beat(Heartbeat(["hub"], ready=False, drained=False))
            longest_s = max(longest_s, now_s() - began_s)
            sleep_s(0.02)
    cloud.process.terminate()
    cloud.end()
    assert longest_s < ANSWER_S


def test_a_thread_that_dies_takes_the_cloud_along(tmp_path: Path, broker: Broker) -> None:
    dying = "from cloud.__main__ import CloudNode, main\nCloudNode._run = lambda self: 1 / 0\n"
    status, said = started(tmp_path, spec_of(tmp_path, broker.url), dying).end()
    assert status == 3
    assert "thread cloud-mqtt died" in said
    assert said.strip().endswith("ZeroDivisionError: division by zero")


def test_decisions_larger_than_any_message_of_an_emulated_nodes_profile_end_the_run_before_its_streams(
    tmp_path: Path, broker: Broker
) -> None:
    spec = spec_of(tmp_path, broker.url, outputs=30_000, profile=SLOW)  # which knows messages of up to 100,000 bytes
    _, said = started(tmp_path, spec).end()
    assert "$.nodes.room.profile: 'slow-board' has no times of messages of 120," in said
    assert "(measure them: edgebench profile --task occupancy --message-bytes 120" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_a_cloud_that_can_record_no_more_ends_and_says_so(tmp_path: Path, broker: Broker) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "records.spool").symlink_to("/dev/full")
    status, said = started(tmp_path, spec_of(tmp_path, broker.url)).end()
    assert status == 2
    spool = tmp_path / "work" / "records.spool"
    assert said.strip().splitlines()[-1] == f"edge-cloud: {spool}: no more can be recorded: No space left on device"


class Failing:
    """A federation that fails of what its clients have failed of, as most do."""

    def go(self, start_ns: int) -> None:
        """Begin."""

    async def events(self) -> AsyncIterator[FederationEvent]:
        for number, errors in enumerate(((None, None), (None, "ValueError: no data"), ("offline", "offline")), 1):
            replies = tuple(ReplyRecord(f"room-{n}", 1, 1, 1, 1, 1, 1, 1, 1, error) for n, error in enumerate(errors))
            yield Rounded(RoundRecord("w", "edge-cloud", "train", number, 0, 1, 1, 1, replies))
        raise ModelError("IndexError: list index out of range")


class OneRound:
    """A federation that has one model to tell of, and then goes on for ever."""

    def go(self, start_ns: int) -> None:
        """Begin."""

    async def events(self) -> AsyncIterator[FederationEvent]:
        yield GlobalModel(1, "/no/weights")
        await asyncio.Event().wait()


class Trainer:
    """One that never comes to an end, or fails unforeseen."""

    def __init__(self, failure: Exception | None) -> None:
        self.asked = asyncio.Event()
        self._failure = failure

    async def train(self, jobs: list[EvaluateJob], *, nice: int) -> None:
        self.asked.set()
        if self._failure is not None:
            raise self._failure
        await asyncio.Event().wait()


def federations(tmp_path: Path, trainer: Trainer, entries: list[Entry]) -> Federations:
    spec = spec_of(tmp_path, "mqtt://127.0.0.1:1")
    how = Federated(workload="w")
    plan = msgspec.structs.replace(spec.deployment.workloads["w"], model=ModelChoice())
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "hub": NodeGroup(tier="edge", parent="cloud"),
            "room": NodeGroup(tier="device", parent="hub"),
        },
        workloads={"w": Workload(task=plan.task, source="room", load=Fixed(rate_hz=1.0))},
        federated=(how,),
    )
    spec = msgspec.structs.replace(spec, deployment=resolve(topology, run_id="r", executor="local"))
    status = RunStatus(["room"], ["hub"])
    registry = Registry(tmp_path / "registry")
    plane = ControlPlane(spec.deployment, spec.endpoints, {}, {}, status, registry, tmp_path, tmp_path)
    no_node: CloudNode = None  # type: ignore[assignment]  # the streams have no part in it
    announcer = Announcer(registry, no_node, status, tmp_path, entries.append)
    preparation = Preparation(spec, plane, registry, announcer, tmp_path, entries.append)
    trains: RealTrainer = trainer  # type: ignore[assignment]
    made = Federations(spec, status, preparation, announcer, trains, plane.messages, tmp_path, entries.append)
    made._federations["w"] = OneRound()  # type: ignore[assignment]
    preparation.learned_on["w"] = "model.keras"
    preparation.first_jobs["w"] = TrainJob(
        name="w", task=plan.task, data=None, size="light", seed=0, out_dir=str(tmp_path), targets=()
    )
    return made


def test_a_federation_that_is_broken_off_leaves_no_scoring_behind(tmp_path: Path) -> None:
    async def course() -> list[str]:
        trainer = Trainer(None)
        federating = asyncio.create_task(federations(tmp_path, trainer, [])._federate("w", 0))
        await asyncio.wait_for(trainer.asked.wait(), WAIT_S)
        federating.cancel()
        await asyncio.wait({federating})
        return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(course()) == []


def test_a_federation_that_fails_names_its_first_client_that_failed(tmp_path: Path) -> None:
    entries: list[Entry] = []
    made = federations(tmp_path, Trainer(None), entries)
    made._federations["w"] = Failing()  # type: ignore[assignment]
    asyncio.run(asyncio.wait_for(made._federate("w", 0), WAIT_S))
    why = "IndexError: list index out of range; the first failure of a client was that of room-1: ValueError: no data"
    assert [each.reason for each in entries if isinstance(each, Invalidated)] == [f"the federation of w failed: {why}"]


def test_scoring_that_fails_unforeseen_ends_its_federation_with_the_reason(tmp_path: Path) -> None:
    entries: list[Entry] = []

    async def course() -> None:
        made = federations(tmp_path, Trainer(KeyError("w")), entries)
        federating = asyncio.create_task(made._federate("w", 0), name="federation of w")
        outcomes = await asyncio.wait_for(asyncio.gather(federating, return_exceptions=True), WAIT_S)
        note_failures(entries.append, [federating], list(outcomes))

    asyncio.run(course())
    assert [getattr(entry, "reason", None) for entry in entries] == ["the federation of w failed: KeyError: 'w'"]
