"""A device that has the first stage of a chain: what it makes of samples, and when, over a real broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.head_ways import FirstStage, Heads, HeadWay
from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.core.samples import VERSION, Decision, SampleRecord, Stamps
from edgebench.core.stream import Stream
from edgebench.fabric import topics
from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.topology.model import Load, Offline, Queue, Trace
from tests.core.ward import plan
from tests.device_agent.beds import WAIT_S, Bed, Zeros
from tests.manifests import manifest

TAKES_S = 0.01
AT_ONCE = Trace(file="")
HEAD = manifest(digest="a" * 64, input=TensorSpec("uint8", (4,)), outputs=3)


class Slowly:
    """A first stage that gives three values a sample once it may, and fails where it is told to."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.fails = False

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        assert self.may.wait(WAIT_S)
        sleep_s(TAKES_S)
        if self.fails:
            raise ValueError("out of order")
        return np.tile(np.array([1.0, 2.0, 3.0], np.float32), (len(x), 1))

    def close(self) -> None:
        return


class Car:
    """A bed whose samples pass a first stage."""

    def __init__(self, bed: Bed, samples: int, *, moves: bool = False, bound: int = 100, load: Load = AT_ONCE) -> None:
        self.bed = bed
        self.model = Slowly()
        self.swapped: list[Manifest] = []
        self.rows: list[SampleRecord] = []
        self.plan = plan(load=load, queue=Queue(max_samples=bound), split=1, head_tier="device")
        self.heads: FirstStage = Heads(self.plan, bed.reactor, self.swapped.append)
        self.way = HeadWay("bed", bed.way(self.plan, Zeros(4), moves=moves), self.heads)
        self.stream = Stream("bed", self.plan, Zeros(4), self.way, bed.tally, bed.reactor, self.rows)
        self._samples = samples

    def begin(self) -> None:
        """All at once, none of which is done before the model may."""
        self.heads.use(self.model, HEAD)
        self.stream.begin(now_ns(), seed=1, duration_s=60.0, trace_s=[0.0] * self._samples)
        self.bed.turn_until(lambda: self.bed.tally.scheduled >= self._samples)

    def decide(self, seq: int) -> None:
        """As whoever has the second stage."""
        at_ns = now_ns()
        decision = Decision(VERSION, seq, 0, "ward", "b" * 64, b"", 1, Stamps(*(at_ns,) * 5))
        self.stream.decided(decision, at_ns, 100)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    made.connection.subscribe([topics.sample("run", "bed", "w")], 1)
    made.turn_until(lambda: made.ups == 2)
    yield made
    made.close()


def test_what_the_first_stage_gives_is_sent_and_a_record_tells_when_it_did_it(bed: Bed) -> None:
    car = Car(bed, samples=3)
    car.begin()
    assert [pending.sent_ns for pending in car.stream.pending.values()] == [None] * 3
    car.model.may.set()
    bed.turn_until(lambda: len(bed.heard) == 3)
    for sample in bed.heard:
        assert (sample.dtype, sample.shape) == ("float32", (3,))
        assert np.frombuffer(sample.payload, np.float32).tolist() == [1.0, 2.0, 3.0]
    assert [swapped.digest for swapped in car.swapped] == [HEAD.digest]
    for seq in range(3):
        car.decide(seq)
    assert (bed.tally.sent, bed.tally.decided, bed.tally.dropped) == (3, 3, {})
    before_ns = 0
    for record in car.rows:
        assert record.decision is not None
        head = record.decision.stamps.head
        assert head is not None
        assert record.sent_ns is not None
        assert record.captured_ns == head.ready_ns <= head.started_ns
        assert head.started_ns >= before_ns
        assert head.finished_ns - head.started_ns >= TAKES_S * 1e9
        assert record.sent_ns >= head.finished_ns
        assert record.size_bytes > 3 * 4
        before_ns = head.finished_ns


def test_a_sample_that_its_first_stage_has_no_room_for_or_fails_on_is_told_as_any_that_is_dropped(bed: Bed) -> None:
    car = Car(bed, samples=6, bound=2)
    car.begin()
    car.model.may.set()
    bed.turn_until(lambda: sum(bed.tally.dropped.values()) + len(bed.heard) == 6)
    assert bed.tally.dropped["queue-full"] >= 3
    assert len(bed.heard) == bed.tally.sent == 6 - bed.tally.dropped["queue-full"]
    failing = Car(bed, samples=2)
    failing.model.fails = True
    failing.begin()
    failing.model.may.set()
    bed.turn_until(lambda: bed.tally.dropped.get("inference-failed") == 2)
    assert not failing.stream.pending


def test_an_offline_load_waits_for_the_first_stage_as_it_does_for_the_network(bed: Bed) -> None:
    car = Car(bed, samples=100, load=Offline(samples=100), bound=100)
    car.heads.use(car.model, HEAD)
    car.stream.begin(now_ns(), seed=1, duration_s=60.0, trace_s=[])
    since_s = now_s()
    bed.turn_until(lambda: now_s() > since_s + 0.1)
    held = bed.tally.scheduled
    assert 0 < held < 100
    car.model.may.set()
    bed.turn_until(lambda: len(bed.heard) == 100)
    assert (bed.tally.sent, bed.tally.dropped) == (100, {})


def test_what_was_given_up_meanwhile_does_not_set_out(bed: Bed) -> None:
    car = Car(bed, samples=2)
    car.begin()
    car.stream.give_up()
    car.model.may.set()
    since_s = now_s()
    bed.turn_until(lambda: now_s() > since_s + 4 * TAKES_S)
    assert not bed.heard
    assert [record.arrived_ns for record in car.rows] == [None, None]


def test_a_device_that_moves_sends_again_what_is_done_and_nothing_else(bed: Bed) -> None:
    car = Car(bed, samples=2, moves=True)
    car.begin()
    car.stream.send_again(moved=True)  # neither is done
    car.model.may.set()
    bed.turn_until(lambda: len(bed.heard) == 2)
    car.stream.send_again(moved=True)
    bed.turn_until(lambda: len(bed.heard) == 4)
    assert sorted(sample.seq for sample in bed.heard) == [0, 0, 1, 1]
