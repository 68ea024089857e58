"""A workload that an edge decides, or has the cloud decide: what goes where, with connections that only note it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from edge_node.online import EitherPlace
from edgebench.clock import NS_PER_MS, now_s, sleep_s
from edgebench.core.deciding import Origin
from edgebench.core.replacing import OnlinePlacement, Replaced
from edgebench.core.routing import Roles
from edgebench.core.samples import Decision, SampleKey, Stamps
from edgebench.fabric import topics, wire
from edgebench.inference.fake import FakeRuntime
from edgebench.seeds import rng_for
from edgebench.topology.deployment import OnlinePlan
from edgebench.topology.model import Tier
from tests.edge_node.test_workload import ANNOUNCED, MANIFEST, Ward
from tests.manifests import manifest
from tests.profiles import inference, profile

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
    sleep_s(0.3)  # meanwhile the trial is done
    assert [wire.parse_forward(body).origin for body in sent_to_cloud(ward, FORWARD)] == ["bed-0"] * 4
    assert not sent_to_cloud(ward, TRIAL)
    assert not ward.site.sent
    assert (ward.counts.decided, ward.counts.forwarded, ward.counts.dropped) == (0, 4, {})


@pytest.mark.parametrize("ward", ["cloud"], indirect=True)
def test_it_moves_here_when_the_cloud_takes_longer_and_each_sample_is_decided_once(ward: Ward) -> None:
    sleep_s(0.45)  # so that its samples may have come 400 ms ago
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
    take(ward, seq)
    take(ward, 0)  # again, though that went to the cloud
    until_decided(ward, seq + 1)
    forwarded = [wire.parse_forward(body).forward_in_ns for body in sent_to_cloud(ward, FORWARD)]
    assert max(forwarded) <= replaced.at_ns
    assert ward.counts.duplicated == 1
    decisions = [wire.parse_decision(body) for _, body, _ in ward.site.sent]
    here = [each.stamps.received_ns for each in decisions if each.decider == "ward"]
    # The trial that decides it ends at some time after a sample was taken in.
    assert min(here) >= replaced.at_ns
    assert [each.decider for each in decisions] == ["cloud"] * len(forwarded) + ["ward"] * len(here)
    assert sorted(each.seq for each in decisions) == list(range(seq + 1))


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


@pytest.mark.parametrize("ward", ["edge"], indirect=True)
def test_a_trial_that_the_cloud_lets_go_is_followed_by_the_next_one_at_its_time(ward: Ward) -> None:
    for seq in range(4):
        take(ward, seq)
    began_ns = wire.parse_trial_request(sent_to_cloud(ward, TRIAL)[0]).began_ns
    in_reactor(ward, partial(answer_trial, ward, began_ns, let_go=True))
    sleep_s(0.05)
    for seq in range(4, 8):
        take(ward, seq)
    assert len(sent_to_cloud(ward, TRIAL)) == 4


@pytest.mark.parametrize("ward", ["edge"], indirect=True)
def test_nothing_is_tried_that_would_overtake_what_waits_for_the_cloud(ward: Ward) -> None:
    ward.uplink.connected = False
    late = partial(ward.workload.pass_on, "bed-0", 1, ward.sample(99), SampleKey("bed-0", 0, 99, ""))
    in_reactor(ward, late)
    in_reactor(ward, lambda: None)
    ward.uplink.connected = True
    for seq in range(4):
        take(ward, seq)
    assert not ward.uplink.sent
    in_reactor(ward, ward.workload.uplink_is_up)
    assert len(sent_to_cloud(ward, FORWARD)) == 1
    sleep_s(0.05)
    for seq in range(4, 8):
        take(ward, seq)
    assert len(sent_to_cloud(ward, TRIAL)) == 2


@pytest.mark.parametrize("ward", ["edge"], indirect=True)
def test_what_single_trials_take_longer_by_chance_does_not_fill_the_link(ward: Ward) -> None:
    ward.workload.use(FakeRuntime(latency_s=0.1), MANIFEST)
    seq = trials = 0
    while not ward.entries and seq < 500:
        take(ward, seq)
        seq += 1
        sleep_s(0.01)
        asked = sent_to_cloud(ward, TRIAL)
        if len(asked) == 2 * trials + 2:
            trials += 1
            began_ns = wire.parse_trial_request(asked[-1]).began_ns
            in_reactor(ward, partial(answer_trial, ward, began_ns))
            sleep_s(0.03 * (trials % 2))  # which, for each sample, would be more than there is
            in_reactor(ward, partial(answer_trial, ward, began_ns, held_ns=0, single_ns=1e3, each_ns=1e3))
    (replaced,) = ward.entries
    assert isinstance(replaced, Replaced)
    assert (replaced.to, replaced.measured_ms > 100.0) == ("cloud", True)


def answer_trial(ward: Ward, began_ns: int, **more: Any) -> None:
    ward.workload.trial_answered(wire.encode(wire.TrialAnswer(wire.VERSION, began_ns, **more)))


@pytest.mark.parametrize("ward", ["cloud"], indirect=True)
def test_a_sample_goes_to_where_the_workload_is_once_the_node_has_taken_it_in(ward: Ward) -> None:
    waiting: list[Callable[[int], None]] = []

    class Slow:
        def takes_in(self, _came_ns: int, size_bytes: int, then: Callable[[int], None]) -> None:
            assert size_bytes == len(ward.sample(0))
            waiting.append(then)

        def ask(self, _request: bytes) -> bool:
            return False

    workload = ward.workload
    assert workload.decider is not None
    assert workload.forwarder is not None
    placement = OnlinePlacement("w", "ward", OnlinePlan("cloud", 0.2, 0.1), rng_for(7), 0)
    either = EitherPlace(workload.decider, workload.forwarder, placement, Slow(), ward.reactor, ward.write)
    for seq in range(2):
        in_reactor(ward, partial(either.take, Origin("bed-0"), ward.sample(seq)))
    in_reactor(ward, partial(waiting[0], 5))
    assert [wire.parse_forward(body).forward_in_ns for body in sent_to_cloud(ward, FORWARD)] == [5]
    placement.tier = "edge"
    in_reactor(ward, partial(waiting[1], 6))
    until_decided(ward, 1)
    ((_, body, _),) = ward.site.sent
    assert (wire.parse_decision(body).seq, wire.parse_decision(body).stamps.received_ns) == (1, 6)
    assert len(sent_to_cloud(ward, FORWARD)) == 1


def test_an_emulated_edge_moves_by_what_its_machine_takes(tmp_path: Path) -> None:
    slow = profile(inference=tuple(inference(batch, 100.0) for batch in (1, 8, 32)))
    ward = Ward(Roles(("bed-0",), (), ()), tmp_path, online=OnlinePlan("edge", 0.2, 0.1), profile=slow)
    ward.workload.use(FakeRuntime(), manifest(task="icu-death", batches=(1, 8, 32)))
    running = threading.Thread(target=ward.reactor.run)
    running.start()
    seq = answered = 0
    while not ward.entries and seq < 500:
        take(ward, seq)
        seq += 1
        sleep_s(0.02)
        for body in sent_to_cloud(ward, TRIAL)[answered:]:
            answered += 1
            request = wire.parse_trial_request(body)
            more = {} if request.envelope is None else {"held_ns": 0, "single_ns": 1e3, "each_ns": 1e3}
            in_reactor(ward, partial(answer_trial, ward, request.began_ns, **more))
    (replaced,) = ward.entries
    assert isinstance(replaced, Replaced)
    assert (replaced.to, replaced.measured_ms >= 100.0) == ("cloud", True)
    # There, and back: a message takes 3 ms to be sent and 2 to be heard.
    assert 5.0 <= replaced.predicted_ms < 80.0
    take(ward, seq)
    until_s, brought = now_s() + 10.0, 0
    while len(ward.site.sent) <= seq and now_s() < until_s:
        for body in sent_to_cloud(ward, FORWARD)[brought:]:
            brought += 1
            in_reactor(ward, partial(ward.workload.bring_back, answer_after(body, 0.0)))
        sleep_s(0.01)
    decisions = [wire.parse_decision(body) for _, body, _ in ward.site.sent]
    assert sorted(each.seq for each in decisions) == list(range(seq + 1))
    assert sum(each.decider == "cloud" for each in decisions) == brought > 0
    ward.reactor.call_soon_threadsafe(ward.reactor.stop)
    running.join()
    ward.workload.close()
    ward.reactor.close()


def test_an_answer_that_comes_again_is_neither_sent_nor_measured_again(tmp_path: Path) -> None:
    ward = Ward(Roles(("bed-0",), (), ()), tmp_path, online=OnlinePlan("cloud", 0.2, 0.1), durability="process")

    class Noted:
        def __init__(self) -> None:
            self.done_ns: list[tuple[int, int]] = []

        def done(self, began_ns: int, ended_ns: int) -> None:
            self.done_ns.append((began_ns, ended_ns))

    noted = Noted()
    ward.workload.either = cast("EitherPlace", noted)
    forward = wire.encode(wire.Forward(wire.VERSION, "bed-0", 5, 6, memoryview(ward.sample(0))))
    for _ in range(2):
        ward.workload.bring_back(answer_after(forward, 0.0))
    decision = Decision(wire.VERSION, 1, 0, "ward", "d" * 64, b"", 1, Stamps(7, 7, 8, 9, 10))
    for _ in range(2):
        ward.workload.answer(Origin("bed-0"), decision)
    assert len(ward.site.sent) == 2
    assert [began_ns for began_ns, _ in noted.done_ns] == [5, 7]
    assert noted.done_ns[1] == (7, 10)
    ward.workload.close()
    ward.reactor.close()


def answer_after(forward: bytes, took_ms: float) -> bytes:
    """The cloud's, as if the sample had come so long ago."""
    of = wire.parse_forward(forward)
    sample = msgspec.msgpack.decode(of.envelope)
    came_ns = of.forward_in_ns - round(took_ms * NS_PER_MS)
    stamps = Stamps(1, 2, 3, 4, 5, came_ns, came_ns)
    body = wire.encode(Decision(wire.VERSION, sample[1], 0, "cloud", "d" * 64, b"\0\0\0\0", 1, stamps))
    return wire.encode(wire.Answer(wire.VERSION, of.origin, memoryview(body)))
