"""A workload that an edge decides, or has the cloud decide: what goes where, with connections that only note it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from edgebench.clock import NS_PER_MS, now_s, sleep_s
from edgebench.core.deciding import Origin
from edgebench.core.replacing import Replaced
from edgebench.core.routing import Roles
from edgebench.core.samples import Decision, Stamps
from edgebench.fabric import topics, wire
from edgebench.inference.fake import FakeRuntime
from edgebench.topology.deployment import OnlinePlan
from edgebench.topology.model import Tier
from tests.edge_node.test_workload import ANNOUNCED, MANIFEST, Ward

FORWARD, TRIAL = topics.forward("r", "ward", "w"), topics.trial("r", "ward", "w")


@pytest.fixture
def ward(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ward]:
    begins: Tier = request.param
    found = Ward(Roles(("bed-0",), (), ()), tmp_path, online=OnlinePlan(begins, 0.2, 0.1))
    assert not found.workload.announced(ANNOUNCED)  # it is ready once it has the model, wherever samples go
    found.workload.use(FakeRuntime(), MANIFEST)
    running = threading.Thread(target=found.reactor.run)
    running.start()
    yield found
    found.reactor.call_soon_threadsafe(found.reactor.stop)
    running.join()
    found.workload.close()
    found.reactor.close()


def in_reactor(ward: Ward, call: Callable[[], None]) -> None:
    done = threading.Event()
    ward.reactor.call_soon_threadsafe(call)
    ward.reactor.call_soon_threadsafe(done.set)
    assert done.wait(10.0)


def take(ward: Ward, seq: int) -> None:
    assert ward.workload.either is not None
    in_reactor(ward, partial(ward.workload.either.take, Origin("bed-0"), ward.sample(seq)))


def until_decided(ward: Ward, count: int) -> None:
    until_s = now_s() + 10.0
    while len(ward.site.sent) < count and now_s() < until_s:
        sleep_s(0.01)
    assert len(ward.site.sent) == count


def sent_to_cloud(ward: Ward, topic: str) -> list[bytes]:
    return [body for at, body, _ in ward.uplink.sent if at == topic]


@pytest.mark.parametrize("ward", ["edge"], indirect=True)
def test_samples_that_are_decided_here_go_nowhere_else_but_every_fourth_as_a_trial(ward: Ward) -> None:
    for seq in range(4):
        take(ward, seq)
    until_decided(ward, 4)
    assert not sent_to_cloud(ward, FORWARD)
    ping, trial = map(wire.parse_trial_request, sent_to_cloud(ward, TRIAL))
    assert (ping.envelope, ping.began_ns) == (None, trial.began_ns)
    assert trial.envelope is not None
    assert bytes(trial.envelope) == ward.sample(3)
    assert (ward.counts.decided, ward.counts.forwarded, ward.counts.duplicated) == (4, 0, 0)


@pytest.mark.parametrize("ward", ["cloud"], indirect=True)
def test_samples_that_the_cloud_decides_are_tried_here_without_an_answer_to_their_device(ward: Ward) -> None:
    for seq in range(4):
        take(ward, seq)
    sleep_s(0.3)
    assert [wire.parse_forward(body).origin for body in sent_to_cloud(ward, FORWARD)] == ["bed-0"] * 4
    assert not sent_to_cloud(ward, TRIAL)
    assert not ward.site.sent
    assert (ward.counts.decided, ward.counts.forwarded, ward.counts.dropped) == (0, 4, {})


@pytest.mark.parametrize("ward", ["cloud"], indirect=True)
def test_it_moves_here_when_the_cloud_takes_longer_and_each_sample_is_decided_once(ward: Ward) -> None:
    seq = moved_at = 0
    while not ward.entries and seq < 600:
        take(ward, seq)
        seq += 1
        sleep_s(0.01)
        for body in sent_to_cloud(ward, FORWARD)[moved_at:]:
            in_reactor(ward, partial(ward.workload.bring_back, answer_after(body, 400.0)))
            moved_at += 1
    (replaced,) = ward.entries
    assert isinstance(replaced, Replaced)
    assert (replaced.left, replaced.to) == ("cloud", "edge")
    assert replaced.measured_ms >= 400.0
    forwarded = len(sent_to_cloud(ward, FORWARD))
    assert forwarded == seq
    take(ward, seq)
    take(ward, 0)  # again, though that went to the cloud
    until_decided(ward, forwarded + 1)
    assert len(sent_to_cloud(ward, FORWARD)) == forwarded
    assert ward.counts.duplicated == 1
    deciders = [wire.parse_decision(body).decider for _, body, _ in ward.site.sent]
    assert deciders == ["cloud"] * forwarded + ["ward"]


@pytest.mark.parametrize("ward", ["edge"], indirect=True)
def test_without_an_uplink_nothing_is_tried_and_the_next_one_is_once_it_is_back(ward: Ward) -> None:
    ward.uplink.connected = False
    for seq in range(4):
        take(ward, seq)
    assert not ward.uplink.sent
    ward.uplink.connected = True
    sleep_s(0.05)
    for seq in range(4, 8):
        take(ward, seq)
    assert len(sent_to_cloud(ward, TRIAL)) == 2


@pytest.mark.parametrize("ward", ["edge"], indirect=True)
def test_what_claims_to_answer_a_trial_and_does_not_is_counted(ward: Ward) -> None:
    ward.workload.trial_answered(b"no")
    ward.workload.trial_answered(wire.encode(wire.TrialAnswer(wire.VERSION - 1, 1)))
    ward.workload.trial_answered(wire.encode(wire.TrialAnswer(wire.VERSION, 1)))  # of no trial of ours
    assert ward.counts.rejected == {"not-a-trial": 1, "wrong-version": 1}


def answer_after(forward: bytes, took_ms: float) -> bytes:
    """The cloud's, as if the sample had come so long ago."""
    of = wire.parse_forward(forward)
    sample = msgspec.msgpack.decode(of.envelope)
    came_ns = of.forward_in_ns - round(took_ms * NS_PER_MS)
    stamps = Stamps(1, 2, 3, 4, 5, came_ns, came_ns)
    body = wire.encode(Decision(wire.VERSION, sample[1], 0, "cloud", "d" * 64, b"\0\0\0\0", 1, stamps))
    return wire.encode(wire.Answer(wire.VERSION, of.origin, memoryview(body)))
