"""What a workload in the cloud takes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from cloud.workload import CloudWorkload, EmulatedCloudWorkload
from edgebench.clock import NS_PER_S, now_s, sleep_s
from edgebench.core.emulation import Machine
from edgebench.core.tallies import Tally
from edgebench.fabric import ledger, topics, wire
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.inference.fake import FakeRuntime
from edgebench.topology.deployment import OnlinePlan
from edgebench.topology.model import Batch, Queue
from tests.manifests import manifest
from tests.profiles import inference, message, profile
from tests.results import factory


class Unheard:
    """Instead of a connection: what is sent has been sent."""

    def publish(self, _topic: str, _payload: bytes, *, qos: int, waits: bool = False) -> bool:
        return True

    def flush(self) -> None:
        return


def forwarded(seq: int) -> bytes:
    payload = np.zeros(2, np.float32).data.cast("B")
    sample = wire.encode(wire.Sample(wire.VERSION, seq, 0, 1, 2, 3, "float32", (2,), None, payload))
    return wire.encode(wire.Forward(wire.VERSION, "bed-0", 1, 2, memoryview(sample)))


@pytest.mark.parametrize(
    ("how", "rejected"),
    [({"split": 1}, {}), ({"deciders": {"bed-0": "cloud"}, "place": "cloud"}, {"sequence-jump": 1})],
)
def test_a_first_stage_may_drop_as_many_as_it_has_to_and_a_device_has_no_such_gaps(
    how: dict[str, Any], rejected: dict[str, int], tmp_path: Path
) -> None:
    plan, tally = factory.workload(**how), Tally()
    sent = cast("Connection", Unheard())
    workload = CloudWorkload(factory.deployment(plan), plan, tally, sent, lambda _entry: None, tmp_path / "ledger")
    workload.use(FakeRuntime(), manifest())
    for seq in (0, 60_000, 180_000):
        workload.forwarded("ward-0", forwarded(seq))
    assert tally.rejected == rejected
    workload.close()


class Noting(Unheard):
    """Notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes, *, qos: int, waits: bool = False) -> bool:
        self.sent.append((topic, payload))
        return True


def test_a_trial_is_decided_and_answered_with_what_that_took_and_counts_as_nothing(tmp_path: Path) -> None:
    plan = factory.workload(online=OnlinePlan("edge", 0.2, 1.0), batch=Batch(max_batch=4))
    deployment, tally, noting = factory.deployment(plan), Tally(), Noting()
    sent = cast("Connection", noting)
    workload = CloudWorkload(deployment, plan, tally, sent, lambda _entry: None, tmp_path / "ledger")
    workload.use(FakeRuntime(latency_s=0.02), manifest())
    envelope = wire.parse_forward(forwarded(0)).envelope
    workload.trial("ward-0", wire.encode(wire.TrialRequest(wire.VERSION, 5)))
    workload.trial("ward-0", wire.encode(wire.TrialRequest(wire.VERSION, 6, envelope)))
    until_s = now_s() + 10.0
    while len(noting.sent) < 2 and now_s() < until_s:
        sleep_s(0.01)
    assert {topic for topic, _ in noting.sent} == {topics.tried(deployment.run_id, "ward-0", plan.name)}
    ping, answer = (wire.parse_trial_answer(body) for _, body in noting.sent)
    assert (ping.began_ns, ping.held_ns) == (5, None)
    assert answer.began_ns == 6
    assert answer.held_ns is not None
    assert answer.held_ns >= 0.02 * NS_PER_S
    # A batch of four takes it as long as one sample does.
    assert answer.single_ns >= 0.02 * NS_PER_S
    assert answer.each_ns == pytest.approx(answer.single_ns / 4, rel=0.5)
    workload.forwarded("ward-0", forwarded(0))  # which is no repetition of the trial
    for bad in (b"no", wire.encode(wire.TrialRequest(wire.VERSION - 1, 7)), forwarded(0)):
        workload.trial("ward-0", bad)
    workload.trial("ward-0", wire.encode(wire.TrialRequest(wire.VERSION, 8, memoryview(b"no sample"))))
    while len(noting.sent) < 4 and now_s() < until_s:
        sleep_s(0.01)
    assert tally == Tally(decided=1, rejected={"not-a-trial": 2, "wrong-version": 1, "not-a-sample": 1})
    gone = [wire.parse_trial_answer(body) for topic, body in noting.sent[2:] if topic.endswith("/tried")]
    assert [(each.began_ns, each.held_ns, each.let_go) for each in gone] == [(8, None, True)]
    workload.close()


def test_a_trial_that_finds_no_room_is_answered_at_once(tmp_path: Path) -> None:
    plan = factory.workload(online=OnlinePlan("edge", 0.2, 1.0), queue=Queue(max_samples=1))
    tally, noting = Tally(), Noting()
    sent = cast("Connection", noting)
    workload = CloudWorkload(factory.deployment(plan), plan, tally, sent, lambda _entry: None, tmp_path / "ledger")
    workload._decider.expect(manifest(), wire.SampleReader(manifest().input))  # and has no model for them yet
    workload.forwarded("ward-0", forwarded(0))
    workload.trial("ward-0", wire.encode(wire.TrialRequest(wire.VERSION, 6, wire.parse_forward(forwarded(2)).envelope)))
    (_, body), *_ = noting.sent
    assert wire.parse_trial_answer(body) == wire.TrialAnswer(wire.VERSION, 6, let_go=True)
    workload.use(FakeRuntime(), manifest())
    until_s = now_s() + 10.0
    while len(noting.sent) < 2 and now_s() < until_s:
        sleep_s(0.01)
    assert (tally.decided, tally.dropped) == (1, {})
    workload.close()


def test_a_sample_that_comes_again_when_its_answer_is_forgotten_is_counted_and_not_decided_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_BYTES", 1_000)
    monkeypatch.setattr(ledger, "_AT_ONCE_BYTES", 500)
    plan, tally, noting = factory.workload(deciders={"bed-0": "cloud"}, place="cloud"), Tally(), Noting()
    deployment = msgspec.structs.replace(factory.deployment(plan), durability="process")
    sent = cast("Connection", noting)
    workload = CloudWorkload(deployment, plan, tally, sent, lambda _entry: None, tmp_path / "w.ledger")
    workload.use(FakeRuntime(), manifest())
    for count, seqs in ((20, range(20)), (23, (0, 0, 19))):
        for seq in seqs:
            workload.forwarded("ward-0", forwarded(seq))
        until_s = now_s() + 10.0
        while len(noting.sent) < count and now_s() < until_s:
            sleep_s(0.01)
    bodies = [bytes(wire.parse_answer(body).body) for _, body in noting.sent]
    gone = [wire.parse_gone(body) for body in bodies if wire.is_gone(body)]
    assert [wire.parse_decision(body).seq for body in bodies if not wire.is_gone(body)] == [*range(20), 19]
    assert gone == [wire.Gone(wire.VERSION, 0, 0)] * 2
    assert tally == Tally(decided=20, duplicated=3, dropped={"answer-gone": 1})
    workload.close()


def test_an_emulated_cloud_takes_its_time_to_take_in_and_to_answer_what_comes_again(tmp_path: Path) -> None:
    slow = profile(
        inference=tuple(inference(batch, 10.0) for batch in (1, 8, 32)),
        messages=tuple(message(size_bytes, 20.0, 40.0, 60.0) for size_bytes in (100, 100_000)),
    )
    plan, tally, noting = factory.workload(deciders={"bed-0": "cloud"}, place="cloud"), Tally(), Noting()
    deployment = msgspec.structs.replace(factory.deployment(plan), durability="process")
    reactor, sent = Reactor(), cast("Connection", noting)
    machine = Machine("cloud", slow, reactor, 1, has_broker=True)
    common = (deployment, plan, tally, sent, lambda _entry: None, tmp_path / "w.ledger")
    workload = EmulatedCloudWorkload(*common, machine, reactor)
    workload.use(FakeRuntime(), manifest(task="icu-death", batches=(1, 8, 32)))
    for count in (1, 2):
        began_s = now_s()
        workload.forwarded("ward-0", forwarded(0))
        while len(noting.sent) < count and now_s() < began_s + 10.0:
            reactor.call_later(0.01, lambda: None)
            reactor.turn()
        took_s = now_s() - began_s
    assert noting.sent[0] == noting.sent[1]
    assert took_s >= 0.135  # by its broker, in, out, and by its broker: 140 ms
    assert (tally.decided, tally.duplicated) == (1, 1)
    workload.close()
    reactor.close()
