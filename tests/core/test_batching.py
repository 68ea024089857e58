"""Which of the samples that wait are decided together, and when; without a thread. Times are ns."""

from __future__ import annotations

import numpy as np

from edgebench.core.batching import Batcher, InferenceRequest
from edgebench.topology.model import Batch, Queue, WhenFull

X = np.zeros(1, np.float32)


def request(number: int, received_ns: int = 0) -> InferenceRequest[int]:
    return InferenceRequest(X, received_ns, number)


def batcher(
    max_batch: int = 4, max_wait_ms: float = 0.0, most: int = 100, full: WhenFull = "drop-oldest"
) -> Batcher[int]:
    return Batcher(Batch(max_batch=max_batch, max_wait_ms=max_wait_ms), Queue(max_samples=most, when_full=full))


def numbers(found: list[InferenceRequest[int]] | int | None) -> list[int]:
    assert isinstance(found, list)
    return [each.about for each in found]


def test_a_trial_is_decided_with_the_others_and_takes_the_room_of_none() -> None:
    waiting, trial = batcher(max_batch=2, most=2), InferenceRequest(X, 1, 7, is_trial=True)
    for each in (request(0, 0), trial, request(1, 2)):
        assert waiting.offer(each) is None
    assert waiting.offer(trial) is trial
    dropped = waiting.offer(request(2, 3))
    assert dropped is not None
    assert dropped.about == 0
    assert len(waiting) == 3
    assert numbers(waiting.next_batch(3)) == [7, 1]
    assert numbers(waiting.next_batch(3)) == [2]
    alone = batcher()
    alone.offer(trial)
    assert numbers(alone.next_batch(1)) == [7]


def test_where_nothing_waits_there_is_no_batch_and_no_time_for_one() -> None:
    assert batcher().next_batch(5) is None


def test_what_has_arrived_is_a_batch_up_to_the_bound_in_order() -> None:
    waiting = batcher(max_batch=4)
    for number in range(6):
        assert waiting.offer(request(number)) is None
    assert numbers(waiting.next_batch(0)) == [0, 1, 2, 3]
    assert numbers(waiting.next_batch(0)) == [4, 5]
    assert waiting.next_batch(0) is None


def test_a_partial_batch_is_due_when_its_first_sample_has_waited_long_enough() -> None:
    waiting = batcher(max_wait_ms=3.0)
    waiting.offer(request(0, received_ns=1_000_000))
    assert waiting.next_batch(1_000_000) == 4_000_000
    waiting.offer(request(1, received_ns=3_500_000))
    assert waiting.next_batch(3_999_999) == 4_000_000
    assert numbers(waiting.next_batch(4_000_000)) == [0, 1]


def test_a_full_batch_waits_for_nothing() -> None:
    waiting = batcher(max_batch=2, max_wait_ms=1_000.0)
    waiting.offer(request(0))
    waiting.offer(request(1))
    assert numbers(waiting.next_batch(0)) == [0, 1]


def test_when_nothing_more_will_come_a_partial_batch_is_due_at_once() -> None:
    waiting = batcher(max_wait_ms=1_000.0)
    waiting.offer(request(0))
    assert waiting.next_batch(0) == 1_000_000_000
    waiting.closing = True
    assert numbers(waiting.next_batch(0)) == [0]


def test_a_full_queue_gives_up_its_oldest_or_refuses_the_newest() -> None:
    oldest, newest = batcher(most=2), batcher(most=2, full="drop-newest")
    dropped = [[each.offer(request(number)) for number in range(4)] for each in (oldest, newest)]
    assert [[None if one is None else one.about for one in each] for each in dropped] == [
        [None, None, 0, 1],
        [None, None, 2, 3],
    ]
    assert numbers(oldest.next_batch(0)) == [2, 3]
    assert numbers(newest.next_batch(0)) == [0, 1]


def test_what_is_gathered_into_a_batch_is_in_the_queue_no_more() -> None:
    waiting = batcher(max_wait_ms=1.0, most=1)
    waiting.offer(request(0))
    assert waiting.next_batch(0) == 1_000_000
    assert len(waiting) == 0
    assert waiting.offer(request(1)) is None
    assert [each.about for each in waiting.gathered] == [0]
    assert numbers(waiting.next_batch(1_000_000)) == [0, 1]
