"""The queue, the batches and the swap, with a real thread and a runtime that is all arithmetic."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import now_ns
from edgebench.core.batching import InferenceRequest, Served
from edgebench.fabric.serving import ModelServer
from edgebench.inference.spec import Manifest
from edgebench.topology.model import Batch, Queue
from tests.manifests import manifest


class Gated:
    """A runtime that adds `offset`, and waits for `gate` before each batch; it remembers the batch sizes."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset
        self.gate = threading.Event()
        self.started = threading.Event()
        self.batches: list[int] = []
        self.closed = False

    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        self.started.set()
        assert self.gate.wait(10.0)
        self.batches.append(len(x))
        return x.astype(np.float32) + np.float32(self.offset)

    def close(self) -> None:
        self.closed = True


class Failing(Gated):
    def infer(self, x: NDArray[Any]) -> NDArray[np.float32]:
        raise RuntimeError("no such op")


class Bench:
    """The owner of a server, which keeps what it is told."""

    def __init__(self, batch: Batch | None = None, queue: Queue | None = None) -> None:
        self.batches: list[Served[int]] = []
        self.drops: list[tuple[int, str]] = []
        self.swaps: list[str] = []
        self.server: ModelServer[int] = ModelServer(
            "test",
            batch or Batch(max_batch=4),
            queue or Queue(),
            self,
        )

    def served(self, served: Served[int]) -> None:
        self.batches.append(served)

    def dropped(self, request: InferenceRequest[int], reason: str) -> None:
        self.drops.append((request.about, reason))

    def swapped(self, manifest: Manifest) -> None:
        self.swaps.append(manifest.digest)

    def submit(self, *numbers: int) -> None:
        for number in numbers:
            self.server.submit(InferenceRequest(np.array([number], np.float32), now_ns(), number))

    @property
    def decided(self) -> list[tuple[int, float, str]]:
        return [
            (request.about, float(output[0]), served.digest)
            for served in self.batches
            for request, output in zip(served.requests, served.outputs, strict=True)
        ]


def test_what_has_arrived_is_decided_together_up_to_the_bound() -> None:
    bench, runtime = Bench(Batch(max_batch=4)), Gated()
    bench.submit(*range(10))
    runtime.gate.set()
    bench.server.swap(runtime, manifest(digest="a"))
    bench.server.stop()
    assert runtime.batches == [4, 4, 2]
    assert bench.decided == [(n, float(n), "a") for n in range(10)]


def test_a_partial_batch_is_flushed_at_its_deadline() -> None:
    bench, runtime = Bench(Batch(max_batch=4, max_wait_ms=30.0)), Gated()
    runtime.gate.set()
    bench.server.swap(runtime, manifest(digest="a"))
    bench.submit(1, 2)
    while not bench.server.idle:
        pass
    assert runtime.batches == [2]
    assert bench.batches[0].started_ns - bench.batches[0].requests[0].received_ns >= 30e6
    bench.server.stop()


def test_a_swap_takes_effect_between_two_batches_and_loses_nothing() -> None:
    bench, old, new = Bench(Batch(max_batch=1)), Gated(), Gated(offset=100.0)
    bench.server.swap(old, manifest(digest="old"))
    bench.submit(1, 2, 3)
    assert old.started.wait(10.0)
    bench.server.swap(new, manifest(digest="new"))
    old.gate.set()
    new.gate.set()
    bench.server.stop()
    assert bench.decided == [(1, 1.0, "old"), (2, 102.0, "new"), (3, 103.0, "new")]
    assert bench.swaps == ["old", "new"]
    assert old.closed
    assert not new.closed


def test_a_model_that_was_overtaken_before_its_first_batch_is_closed() -> None:
    bench, first, second, third = Bench(Batch(max_batch=1)), Gated(), Gated(), Gated()
    bench.server.swap(first, manifest(digest="1"))
    bench.submit(1)
    assert first.started.wait(10.0)
    bench.server.swap(second, manifest(digest="2"))
    bench.server.swap(third, manifest(digest="3"))
    assert second.closed
    first.gate.set()
    third.gate.set()
    bench.submit(2)
    bench.server.stop()
    assert bench.swaps == ["1", "3"]


def test_a_full_queue_drops_the_oldest_and_says_so() -> None:
    bench, runtime = Bench(Batch(max_batch=1), Queue(max_samples=2, when_full="drop-oldest")), Gated()
    bench.submit(1, 2, 3, 4)
    runtime.gate.set()
    bench.server.swap(runtime, manifest(digest="a"))
    bench.server.stop()
    assert bench.drops == [(1, "queue-full"), (2, "queue-full")]
    assert [about for about, _, _ in bench.decided] == [3, 4]


def test_a_full_queue_drops_the_newest_where_that_is_the_policy() -> None:
    bench, runtime = Bench(Batch(max_batch=1), Queue(max_samples=2, when_full="drop-newest")), Gated()
    bench.submit(1, 2, 3, 4)
    runtime.gate.set()
    bench.server.swap(runtime, manifest(digest="a"))
    bench.server.stop()
    assert bench.drops == [(3, "queue-full"), (4, "queue-full")]
    assert [about for about, _, _ in bench.decided] == [1, 2]


def test_a_model_that_fails_drops_its_batch_by_name_and_the_next_goes_on() -> None:
    bench, good = Bench(Batch(max_batch=1)), Gated()
    bench.server.swap(Failing(), manifest(digest="bad"))
    bench.submit(1)
    while not bench.drops:
        pass
    good.gate.set()
    bench.server.swap(good, manifest(digest="good"))
    bench.submit(2)
    bench.server.stop()
    assert bench.drops == [(1, "inference-failed")]
    assert bench.decided == [(2, 2.0, "good")]


def test_it_is_idle_only_when_all_is_decided_or_dropped() -> None:
    bench, runtime = Bench(Batch(max_batch=1), Queue(max_samples=1)), Gated()
    assert bench.server.idle
    bench.submit(1, 2)
    assert not bench.server.idle
    runtime.gate.set()
    bench.server.swap(runtime, manifest(digest="a"))
    bench.server.stop()
    assert bench.server.idle
