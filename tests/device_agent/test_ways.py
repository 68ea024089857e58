"""How a device's samples travel: to a real broker, from a stream that keeps them until they are decided."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench.clock import now_ns, now_s
from edgebench.core.emulation import Machine
from edgebench.core.samples import VERSION, Decision, Stamps
from edgebench.fabric import topics
from edgebench.topology.model import SingleStream, Trace
from tests.device_agent.beds import Bed
from tests.profiles import message, profile


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    yield made
    made.close()


def test_of_samples_that_are_decided_nothing_is_remembered_but_the_last_few(bed: Bed) -> None:
    stream, way = bed.begin(SingleStream(), [])
    bed.turn_until(lambda: bool(stream.pending))
    for seq in range(200):
        bed.turn_until(lambda: way._deliveries[0, seq].acknowledged)  # noqa: B023
        stream.decided(Decision(VERSION, seq, 0, "ward", "d" * 64, b"", 1, Stamps(1, 1, 1, 1, 1)), now_ns(), 100)
    assert bed.tally.decided == 200
    assert len(way._deliveries) <= 20


def test_what_is_still_on_its_way_does_not_set_out_again_however_much_it_is(bed: Bed) -> None:
    bed.broker.stop()
    bed.turn_until(lambda: not bed.connection.connected)
    stream, way = bed.begin(Trace(file=""), [0.0] * 100)
    bed.turn_until(lambda: len(stream.pending) == 100)
    stream.send_again(moved=False)
    assert len(way._deliveries) == len(bed.connection._in_flight._waiting) == 100


def test_a_sample_that_has_no_room_is_not_kept_in_memory_either_and_never_sent(bed: Bed) -> None:
    stream, way = bed.begin(Trace(file=""), [0.0] * 5, size_bytes=1_000_000)
    bed.turn_until(lambda: bed.tally.scheduled == 5)
    assert bed.tally.dropped == {"store-full": 3}
    assert list(stream.pending) == [0, 1]
    stream.send_again(moved=True)
    assert list(way._deliveries) == [(0, 0), (0, 1)]


def test_an_emulated_device_takes_its_time_for_each_sample_that_it_sends_again_and_sends_each_once(bed: Bed) -> None:
    bed.connection.subscribe([topics.sample("run", "bed", "w")], 1)
    bed.turn_until(lambda: bed.ups == 2)
    slow = profile(messages=tuple(message(size_bytes, 0.0, 0.0, 100.0) for size_bytes in (100, 100_000)))
    machine = Machine("bed", slow, bed.reactor, 1, has_broker=False)
    stream, way = bed.begin(Trace(file=""), [0.0] * 3, machine=machine)
    bed.turn_until(lambda: len(bed.heard_s) == 3 and all(each.acknowledged for each in way._deliveries.values()))
    asked_s = now_s()
    for _ in range(2):  # what is on its way is left alone
        stream.send_again(moved=False)
    bed.turn_until(lambda: len(bed.heard_s) == 6)
    heard_all_s = now_s()
    bed.turn_until(lambda: now_s() > heard_all_s + 0.3)  # a seventh would have come by then
    assert len(bed.heard_s) == 6
    for count, heard_s in enumerate(bed.heard_s[3:], start=1):
        assert heard_s - asked_s >= 0.1 * count - 0.005


def test_what_an_emulated_device_has_yet_to_send_as_it_comes_to_a_site_is_sent_there_once(bed: Bed) -> None:
    bed.connection.subscribe([topics.sample("run", "bed", "w")], 1)
    bed.turn_until(lambda: bed.ups == 2)
    slow = profile(messages=tuple(message(size_bytes, 0.0, 0.0, 100.0) for size_bytes in (100, 100_000)))
    machine = Machine("bed", slow, bed.reactor, 1, has_broker=False)
    stream, _ = bed.begin(Trace(file=""), [0.0] * 3, machine=machine, moves=True)
    bed.turn_until(lambda: len(stream.pending) == 3)
    stream.send_again(moved=True)  # all three still wait for their device to send them
    bed.turn_until(lambda: len(bed.heard_s) == 3)
    heard_all_s = now_s()
    bed.turn_until(lambda: now_s() > heard_all_s + 0.4)
    assert len(bed.heard_s) == 3
    for _ in range(2):
        stream.send_again(moved=True)
    bed.turn_until(lambda: len(bed.heard_s) == 6)
    heard_all_s = now_s()
    bed.turn_until(lambda: now_s() > heard_all_s + 0.4)
    assert len(bed.heard_s) == 6
