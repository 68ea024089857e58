"""One workload at an edge: who of its devices gets what, with connections that only note what is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest

from edge_node.emulated_workload import EmulatedWorkload
from edge_node.workload import EdgeWorkload
from edgebench.clock import now_s, sleep_s
from edgebench.core.deciding import Origin
from edgebench.core.emulation import Machine
from edgebench.core.routing import Roles
from edgebench.core.samples import SampleKey
from edgebench.core.tallies import Tally
from edgebench.fabric import ledger, topics, wire
from edgebench.fabric.in_flight import Delivery
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import Entry
from edgebench.fabric.slices import Slice
from edgebench.inference.fake import FakeRuntime
from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.topology.deployment import NodePlan, OnlinePlan
from edgebench.topology.model import Durability
from edgebench.topology.profiles import Profile
from tests.core.ward import plan
from tests.manifests import manifest
from tests.profiles import inference, message, profile

MANIFEST = manifest(digest="d" * 64)
ANNOUNCED = msgspec.json.encode(MANIFEST)


class Noting:
    """Instead of a connection."""

    is_full = False

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bool]] = []
        self.connected = True

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False, waits: bool = False) -> bool:
        self.sent.append((topic, payload, retain))
        return True

    def publish_followed(self, topic: str, payload: bytes) -> Delivery:
        self.publish(topic, payload, qos=1)
        delivery = Delivery()
        delivery.acknowledged = True
        return delivery

    def flush(self) -> None:
        return

    def announce(self, topic: str, payload: bytes) -> None:
        self.publish(topic, payload, qos=1, retain=True)


class Ward:
    """An edge with one workload, in these roles."""

    incarnation = 0

    def __init__(
        self,
        roles: Roles,
        work_dir: Path,
        split: int | None = None,
        online: OnlinePlan | None = None,
        durability: Durability = "none",
        profile: Profile | None = None,
    ) -> None:
        self.store_dir = work_dir
        self.reactor = Reactor()
        ward = NodePlan("ward", "ward", "edge", "host", "cloud", (*roles.decided, *roles.forwarded, *roles.on_device))
        workload = plan(deciders=dict.fromkeys(ward.children, "ward"), split=split, online=online)
        part = Slice("r", 1, 1.0, {"ward": ward}, {}, {"w": workload}, {}, durability=durability)
        self.counts = Tally()
        self.fetches: list[bytes] = []
        self.entries: list[Entry] = []
        self.site, self.uplink = Noting(), Noting()
        connections = cast("Connection", self.site), cast("Connection", self.uplink)
        self.workload = EdgeWorkload(self, part, workload, roles, *connections)
        if profile is not None:
            self.workload.close()
            machine = Machine("ward", profile, self.reactor, 1, has_broker=True)
            self.workload = EmulatedWorkload(self, part, workload, roles, *connections, machine, self.reactor)

    def tally(self, node: str, workload: str) -> Tally:
        return self.counts

    def announced(self, node: str, workload: str, manifest: bytes) -> None:
        self.fetches.append(manifest)

    def swapped(self, node: str, workload: str, manifest: Manifest) -> None:
        pass

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)

    def sample(self, seq: int = 0, values: int = 2) -> bytes:
        payload = np.zeros(values, np.float32).data.cast("B")
        return wire.encode(wire.Sample(wire.VERSION, seq, 0, 1, 2, 3, "float32", (values,), None, payload))


Wards = Callable[..., Ward]


@pytest.fixture
def ward_in(tmp_path: Path) -> Iterator[Wards]:
    wards: list[Ward] = []

    def make(roles: Roles, split: int | None = None) -> Ward:
        folder = tmp_path / str(len(wards))
        folder.mkdir()
        wards.append(Ward(roles, folder, split))
        return wards[-1]

    yield make
    for ward in wards:
        ward.workload.close()
        ward.reactor.close()


def test_a_model_is_brought_to_the_devices_only_where_one_decides_itself(ward_in: Wards) -> None:
    for on_device in ((), ("bed-2",)):
        ward = ward_in(Roles((), ("bed-1",), on_device))
        assert ward.workload.announced(ANNOUNCED)  # what travels is forwarded: nothing to load
        expected = [(topics.site_models("r", "ward", "w"), ANNOUNCED, True)] if on_device else []
        assert ward.site.sent == expected
        assert not ward.fetches


def test_of_a_chain_that_begins_on_devices_they_get_the_first_stage_and_their_edge_has_the_second(
    ward_in: Wards,
) -> None:
    head = manifest(digest="a" * 64)
    tail = manifest(digest="b" * 64, input=TensorSpec("float32", (5,)), head=head)
    announced = msgspec.json.encode(tail)
    for roles, is_fetched in ((Roles(("bed-0",), (), ()), True), (Roles((), ("bed-1",), ()), False)):
        ward = ward_in(roles)
        assert ward.workload.announced(announced) is not is_fetched  # what goes on to the cloud needs no model here
        ((topic, told, is_retained),) = ward.site.sent
        assert (topic, is_retained) == (topics.site_models("r", "ward", "w"), True)
        assert wire.parse_manifest(told) == head
        assert ward.fetches == ([announced] if is_fetched else [])
    # What such an edge passes on is what devices make of samples.
    forwarder = ward.workload.forwarder
    assert forwarder is not None
    for count, values in ((0, 2), (1, 5)):
        forwarder.take(Origin("bed-1"), ward.sample(0, values))
        assert ward.counts.rejected == {"wrong-shape": 1}
        assert len(ward.uplink.sent) == count


def test_what_is_no_model_is_told_to_nobody(ward_in: Wards) -> None:
    ward = ward_in(Roles(("bed-0",), (), ("bed-2",)))
    assert not ward.workload.announced(b"{}")
    assert (ward.site.sent, ward.fetches) == ([], [])


def test_an_edge_that_decides_for_some_is_ready_only_when_it_has_the_model(ward_in: Wards) -> None:
    ward = ward_in(Roles(("bed-0",), ("bed-1",), ("bed-2",)))
    assert not ward.workload.announced(ANNOUNCED)
    assert ward.fetches == [ANNOUNCED]


def test_each_device_of_a_mixed_site_has_its_samples_decided_where_it_was_said(ward_in: Wards) -> None:
    ward = ward_in(Roles(("bed-0",), ("bed-1",), ("bed-2",)))
    ward.workload.announced(ANNOUNCED)
    ward.workload.use(FakeRuntime(), MANIFEST)
    assert ward.workload.decider is not None
    assert ward.workload.forwarder is not None
    ward.workload.decider.take(Origin("bed-0"), ward.sample())
    ward.workload.forwarder.take(Origin("bed-1"), ward.sample())
    until_s = now_s() + 10.0
    while len(ward.site.sent) < 2 and now_s() < until_s:
        sleep_s(0.01)
    topic, body, _ = ward.site.sent[1]
    assert topic == topics.decision("r", "bed-0", "w")
    assert wire.parse_decision(body).decider == "ward"
    ((topic, body, _),) = ward.uplink.sent
    assert topic == topics.forward("r", "ward", "w")
    assert wire.parse_forward(body).origin == "bed-1"


def test_the_first_stage_of_a_chain_sends_on_what_it_gives_as_a_sample_for_the_second(ward_in: Wards) -> None:
    ward = ward_in(Roles(("bed-0",), (), ()), split=1)
    ward.workload.use(FakeRuntime(outputs=3), msgspec.structs.replace(MANIFEST, outputs=3))
    assert ward.workload.decider is not None
    ward.workload.decider.take(Origin("bed-0"), ward.sample())
    ward.workload.decider.take(Origin("bed-0"), wire.encode_json({"values": [0.0, 0.0], "id": "a"}))
    until_s = now_s() + 10.0
    while len(ward.uplink.sent) < 2 and now_s() < until_s:
        sleep_s(0.01)
    assert not ward.site.sent
    forwards = [wire.parse_forward(body) for _, body, _ in ward.uplink.sent]
    assert [topic for topic, _, _ in ward.uplink.sent] == [topics.forward("r", "ward", "w")] * 2
    reader = wire.SampleReader(TensorSpec("float32", (3,)))
    framed, plain = (reader.read(forward.envelope) for forward in forwards)
    assert ((framed.seq, framed.id), (plain.seq, plain.id)) == ((0, None), (None, "a"))
    np.testing.assert_allclose(framed.x, FakeRuntime(outputs=3).infer(np.zeros((1, 2), np.float32))[0])
    np.testing.assert_allclose(plain.x, framed.x)
    for forward in forwards:
        head = forward.head
        assert head is not None
        assert forward.forward_in_ns <= head.ready_ns <= head.started_ns <= head.finished_ns <= forward.forward_out_ns
    assert (ward.counts.forwarded, ward.counts.decided) == (2, 0)


def test_a_sample_that_comes_again_when_its_answer_is_forgotten_is_counted_and_not_decided_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_BYTES", 1_000)
    monkeypatch.setattr(ledger, "_AT_ONCE_BYTES", 500)
    ward = Ward(Roles(("bed-0",), (), ()), tmp_path, durability="process")
    ward.workload.use(FakeRuntime(), MANIFEST)
    assert ward.workload.decider is not None
    for seq in range(20):
        ward.workload.decider.take(Origin("bed-0"), ward.sample(seq))
    until_sent(ward.site, 20)
    for seq in (0, 0, 19):
        ward.workload.decider.take(Origin("bed-0"), ward.sample(seq))
    until_sent(ward.site, 21)
    assert [wire.parse_decision(body).seq for _, body, _ in ward.site.sent] == [*range(20), 19]
    assert ward.counts == Tally(decided=20, duplicated=3, dropped={"answer-gone": 1})
    ward.workload.close()
    ward.reactor.close()


def test_what_the_cloud_no_longer_has_the_answer_of_is_kept_no_longer_and_no_device_hears_of_it(tmp_path: Path) -> None:
    ward = Ward(Roles((), ("bed-0",), ()), tmp_path, durability="process")
    assert ward.workload.announced(ANNOUNCED)
    assert ward.workload.forwarder is not None
    assert ward.workload._cloud_bound is not None
    for seq in range(2):
        ward.workload.forwarder.take(Origin("bed-0"), ward.sample(seq))
    turn(ward, 3)
    assert [key.seq for key in ward.workload._cloud_bound.undecided()] == [0, 1]
    gone = wire.encode(wire.Gone(wire.VERSION, 0, 0))
    ward.workload.bring_back(wire.encode(wire.Answer(wire.VERSION, "bed-0", memoryview(gone))))
    turn(ward, 3)
    assert [key.seq for key in ward.workload._cloud_bound.undecided()] == [1]
    assert ward.counts.rejected == {}
    beyond = wire.encode(wire.Gone(wire.VERSION, 0, 1 << 41 | 1))
    ward.workload.bring_back(wire.encode(wire.Answer(wire.VERSION, "bed-0", memoryview(beyond))))
    turn(ward, 3)
    assert [key.seq for key in ward.workload._cloud_bound.undecided()] == [1]
    assert sum(ward.counts.rejected.values()) == 1, "no sample has such a number"
    assert ward.site.sent == []
    ward.workload.close()
    ward.reactor.close()


def turn(ward: Ward, count: int) -> None:
    for _ in range(count):
        ward.reactor.call_later(0.01, lambda: None)
        ward.reactor.turn()


def until_sent(connection: Noting, count: int) -> None:
    until_s = now_s() + 10.0
    while len(connection.sent) < count and now_s() < until_s:
        sleep_s(0.01)
    assert len(connection.sent) == count


SLOW = profile(
    inference=tuple(inference(batch, 10.0) for batch in (1, 8, 32)),
    messages=tuple(message(size_bytes, 20.0, 40.0, 60.0) for size_bytes in (100, 100_000)),
)
"""A message takes 20 ms at its broker, 40 ms to be taken in, and 60 ms to be sent."""


def turned_until_sent(ward: Ward, connection: Noting, count: int) -> float:
    """How long that takes, s."""
    began_s = now_s()
    while len(connection.sent) < count and now_s() < began_s + 10.0:
        ward.reactor.call_later(0.01, lambda: None)
        ward.reactor.turn()
    assert len(connection.sent) == count
    return now_s() - began_s


def test_an_emulated_edge_takes_its_time_to_take_in_and_to_answer_what_comes_again(tmp_path: Path) -> None:
    ward = Ward(Roles(("bed-0",), (), ()), tmp_path, durability="process", profile=SLOW)
    ward.workload.use(FakeRuntime(), manifest(task="icu-death", batches=(1, 8, 32)))
    assert ward.workload.decider is not None
    for count in (1, 2):
        ward.workload.decider.take(Origin("bed-0"), ward.sample())
        took_s = turned_until_sent(ward, ward.site, count)
    assert ward.site.sent[0] == ward.site.sent[1]
    assert took_s >= 0.135  # to its broker, in, out, and by its broker: 140 ms
    assert (ward.counts.decided, ward.counts.duplicated) == (1, 1)
    ward.workload.close()
    ward.reactor.close()


def test_an_emulated_edge_takes_its_time_for_what_it_sends_the_cloud_again_also_in_its_next_life(
    tmp_path: Path,
) -> None:
    sent: list[list[int]] = []
    for life in range(2):
        ward = Ward(Roles((), ("bed-0",), ()), tmp_path, durability="process", profile=SLOW)
        ward.workload.announced(ANNOUNCED)
        if not life:
            assert ward.workload.forwarder is not None
            for seq in range(3):
                ward.workload.forwarder.take(Origin("bed-0"), ward.sample(seq))
            turned_until_sent(ward, ward.uplink, 3)
            ward.workload.asked(b"0.1")
        else:
            ward.workload.uplink_is_up()
        assert turned_until_sent(ward, ward.uplink, 3 if life else 6) >= 0.175  # 60 ms each
        forwards = [wire.parse_forward(body).envelope for _, body, _ in ward.uplink.sent]
        sent.append([msgspec.msgpack.decode(envelope)[1] for envelope in forwards])
        assert ward.counts.forwarded == 3
        ward.workload.close()
        ward.reactor.close()
    assert sent == [[0, 1, 2, 0, 1, 2], [0, 1, 2]]


def test_what_was_sent_while_the_uplink_took_nothing_is_not_overtaken(tmp_path: Path) -> None:
    ward = Ward(Roles((), ("bed-0",), ()), tmp_path)
    for seq, is_full in enumerate((True, False, False)):
        ward.uplink.is_full = is_full
        ward.workload.pass_on("bed-0", 1, ward.sample(seq), SampleKey("bed-0", 0, seq))
    assert ward.uplink.sent == []
    turned_until_sent(ward, ward.uplink, 3)
    envelopes = [wire.parse_forward(body).envelope for _, body, _ in ward.uplink.sent]
    assert [msgspec.msgpack.decode(envelope)[1] for envelope in envelopes] == [0, 1, 2]
    ward.workload.close()
    ward.reactor.close()
