"""A node on an emulated machine: its work is done early, and what comes of it is released when that machine would have
had it.

What a node does there is on threads that share the machine's cores (see `station`): one that takes messages in, one for
each model, and that of the broker which an edge, or the cloud, has beside it. How long each job takes is drawn from the
machine's profile (see `service_times`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import Time
from edgebench.core.batching import Batcher, InferenceRequest, Served, ServerOwner
from edgebench.core.deciding import Answers, Decider, Forwarder, NextStage, Origin, QueuedSample, Trials, Upstream
from edgebench.core.intake import Accepted, Intake, Memory
from edgebench.core.releases import Releases
from edgebench.core.replacing import Takes
from edgebench.core.service_times import BatchTimes, MessageTimes, batch_times, quantile_ns, quantiles, sum_ns
from edgebench.core.station import Cores, Job, Leaving, LongWork, SlicedThread, Thread, Work
from edgebench.core.tallies import Tally
from edgebench.inference.spec import Manifest
from edgebench.seeds import rng_for
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Batch, Queue
from edgebench.topology.profiles import ModelKey, Profile, Times, TrainingCost

_BEHIND = 64
"""Jobs."""
T = TypeVar("T")
Outputs = NDArray[np.float32]


class Inferring(Protocol):
    """Real work that goes on."""

    def when_done(self, call: Callable[[Outputs | None], None]) -> bool:
        """Call with its outputs float32 [sample, output], or None where the model failed; whether they are there by
        now. Then it is called before this returns."""
        ...


class WarmModel(Protocol[T]):
    """A model that does real work, in whatever thread."""

    def begin(self, requests: Sequence[InferenceRequest[T]]) -> Inferring:
        """Decide these together, once all that was begun before is done."""
        ...

    def close(self) -> None:
        """Let go of it, once all that was begun is done."""
        ...


class ServiceTimes(Protocol):
    """What a model takes on an emulated machine."""

    @property
    def service_ns(self) -> Callable[[int], int]:
        """For a batch of n samples, ns."""
        ...


class _Begun(NamedTuple, Generic[T]):
    requests: list[InferenceRequest[T]]
    manifest: Manifest
    started_ns: int
    inferring: Inferring


class EmulatedServer(Generic[T]):
    """One model and its queue on a thread of an emulated machine; its owner is called in the thread of the time.

    A batch is made up when that thread has a core for it, of what the emulated machine has by then.
    """

    def __init__(
        self,
        thread: Thread,
        time: Time,
        batch: Batch,
        bound: Queue,
        owner: ServerOwner[T],
        releases: Releases,
        times_of: Callable[[Manifest], ServiceTimes],
        wake_ns: Callable[[], int],
    ) -> None:
        """times_of: what a model takes for batches there. wake_ns: its thread, to begin when it had nothing to do."""
        self.thread = thread
        self._time = time
        self._batcher: Batcher[T] = Batcher(batch, bound)
        self._owner = owner
        self._releases = releases
        self._times_of = times_of
        self._wake_ns = wake_ns
        self._next: tuple[WarmModel[T], Manifest] | None = None
        self._current: tuple[WarmModel[T], Manifest, ServiceTimes] | None = None
        self._asked = False
        self._looks_at_ns: int | None = None
        self._wakes = False
        self._begun: _Begun[T] | None = None

    def swap(self, model: WarmModel[T], manifest: Manifest) -> None:
        """Decide with this model from the next batch on; it now belongs to the server."""
        if self._next is not None:
            self._next[0].close()
        self._next = model, manifest
        if self._current is None:
            self._take_next_model()
        self._look(self._time.now_ns())

    def submit(self, request: InferenceRequest[T]) -> None:
        """Queue a sample that is here now; when the queue is full one is dropped by the stated policy."""
        self.submit_at(self._time.now_ns(), request)

    def submit_at(self, at_ns: int, request: InferenceRequest[T]) -> None:
        """Queue a sample that the emulated machine has from a time on, which may have passed a little."""
        dropped = self._batcher.offer(request)
        if dropped is not None:
            self._owner.dropped(dropped, "queue-full")
        # A thread that is at work looks for more by itself.
        if not self._asked and not self._wakes:
            self._wakes = True
            self._look_at(at_ns + self._wake_ns())

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being decided."""
        return self._begun is None and not len(self._batcher) and not self._batcher.gathered

    def begin(self, start_ns: int) -> int | None:
        """See `station.Job`: a batch, if one is due."""
        due = self._batcher.next_batch(start_ns)
        if not isinstance(due, list):
            self._asked = False
            if due is not None:
                self._look_at(due)
            return None
        model, manifest, times = self._take_next_model()
        self._begun = _Begun(due, manifest, start_ns, model.begin(due))
        return times.service_ns(len(due))

    def end(self, end_ns: int) -> None:
        """See `station.Job`: the emulated machine has decided the batch."""
        begun, self._begun, self._asked = self._begun, None, False
        assert begun is not None
        if not begun.inferring.when_done(partial(self._decided, begun, end_ns)):
            self._releases.unready += 1
        self._look(end_ns)

    def _decided(self, begun: _Begun[T], end_ns: int, outputs: Outputs | None) -> None:
        if outputs is None:
            for request in begun.requests:
                self._owner.dropped(request, "inference-failed")
        else:
            self._owner.served(Served(begun.requests, outputs, begun.manifest.digest, begun.started_ns, end_ns))

    def _look_at(self, at_ns: int) -> None:
        if self._looks_at_ns is None or at_ns < self._looks_at_ns:
            self._looks_at_ns = at_ns
            self._time.call_at(at_ns, partial(self._look_if, at_ns))

    def _look_if(self, at_ns: int) -> None:
        if self._looks_at_ns == at_ns:
            self._looks_at_ns, self._wakes = None, False
            self._look(at_ns)

    def _look(self, at_ns: int) -> None:
        if not self._asked and self._current is not None and (len(self._batcher) or self._batcher.gathered):
            self._asked = True
            self.thread.do(at_ns, self)

    def _take_next_model(self) -> tuple[WarmModel[T], Manifest, ServiceTimes]:
        if self._next is not None:
            model, manifest = self._next
            old, self._next = self._current, None
            self._current = model, manifest, self._times_of(manifest)
            if old is not None:
                old[0].close()
            self._owner.swapped(manifest)
        assert self._current is not None
        return self._current


class EmulatedDecider(Decider):
    """A decider whose messages, and pictures, take what they take on an emulated machine; see `Decider`."""

    __slots__ = ("_decompress", "_machine", "_qos")

    def __init__(
        self,
        machine: Machine,
        tally: Tally,
        answers: Answers,
        qos: int,
        *,
        decompress: Times | None = None,
        upstream: Upstream | None = None,
        next_stage: NextStage | None = None,
        trials: Trials | None = None,
        sparse: bool = False,
        memory: Memory | None = None,
    ) -> None:
        """decompress: what samples take that come as pictures."""
        super().__init__(
            machine.node,
            tally,
            answers,
            machine.time,
            upstream=upstream,
            next_stage=next_stage,
            trials=trials,
            sparse=sparse,
            memory=memory,
        )
        self._machine = machine
        self._qos = qos
        self._decompress = decompress

    def take(self, origin: Origin, payload: bytes | memoryview) -> None:
        """See `Decider`; once the emulated machine would have it, whatever it then is."""
        self._machine.takes_in(len(payload), self._qos, partial(self.came, origin, payload))

    def accept(self, origin: Origin, payload: bytes | memoryview, accepted: Accepted, received_ns: int) -> None:
        """See `Decider`; once the emulated machine would have it."""
        kept = b"" if self._upstream is None else payload
        self._machine.takes_in(len(payload), self._qos, partial(self.taken, origin, kept, accepted))

    def taken(self, origin: Origin, payload: bytes | memoryview, accepted: Accepted, at_ns: int) -> None:
        """See `Decider`; by the emulated machine."""
        ready = partial(self._ready, origin, payload, accepted, at_ns)
        if self._decompress is not None and accepted.seq is not None:
            self._machine.works(at_ns, self._decompress, ready)
        else:
            ready(at_ns)

    def _ready(
        self, origin: Origin, payload: bytes | memoryview, accepted: Accepted, received_ns: int, ready_ns: int
    ) -> None:
        server = cast("EmulatedServer[QueuedSample]", self._server)
        server.submit_at(ready_ns, self._request(origin, payload, accepted, received_ns, ready_ns))


class EmulatedForwarder(Forwarder):
    """A forwarder likewise; see `Forwarder`."""

    __slots__ = ("_machine", "_qos")

    def __init__(
        self,
        machine: Machine,
        intake: Intake,
        upstream: Upstream,
        qos: int,
    ) -> None:
        super().__init__(intake, upstream, machine.time)
        self._machine = machine
        self._qos = qos

    def take(self, origin: Origin, payload: bytes | memoryview) -> None:
        """See `Forwarder`; once the emulated machine would have it, whatever it then is."""
        self._machine.takes_in(len(payload), self._qos, partial(self.came, origin, payload))


class Machine:
    """What one node is emulated to run on."""

    def __init__(self, node: str, profile: Profile, time: Time, seed: int, *, has_broker: bool) -> None:
        """has_broker: the node's own broker is on that machine, too."""
        self.node = node
        self.profile = profile
        self.releases = Releases()
        self.time = time
        self._seed = seed
        self._cores = Cores(time, profile.cores)
        self._thread = Thread(self._cores)
        self._broker = Thread(self._cores) if has_broker else None
        self._messages = {
            qos: MessageTimes(costs, quantiles(seed, "messages", node, str(qos)))
            for qos in (0, 1)
            if (costs := profile.message_costs(qos))
        }
        self._others = quantiles(seed, "others", node)
        self._steps = rng_for(seed, "service", "steps", node)
        self._learner: SlicedThread | None = None
        self._third_ns = 0

    @property
    def is_behind(self) -> bool:
        """Whether it has so much to send that more need not come yet."""
        return self._thread.jobs > _BEHIND

    def server(self, batch: Batch, bound: Queue, owner: ServerOwner[T]) -> EmulatedServer[T]:
        """A server of a model, on a thread of its own."""
        thread = Thread(self._cores)
        return EmulatedServer(thread, self.time, batch, bound, owner, self.releases, self.times_of, self._wake_ns)

    def times_of(self, manifest: Manifest) -> BatchTimes:
        """What a model takes here."""
        share = 1.0 if manifest.part is None else manifest.part.share
        return batch_times(self.profile, key_of(manifest), manifest.batches, self._seed, self.node, share)

    def takes(self, manifest: Manifest, max_batch: int) -> Takes:
        """The means of that, for one sample and for each of a full batch."""
        times = self.times_of(manifest)
        return Takes(times.mean_ns(1), times.mean_ns(max_batch) / max_batch, max_batch)

    def _wake_ns(self) -> int:
        assert self.profile.wake is not None
        return self.draws_ns(self.profile.wake)

    def decompresses(self, plan: WorkloadPlan) -> Times | None:
        """What a workload's samples take to be made tensors again, where they come compressed."""
        if plan.compress is None:
            return None
        cost = self.profile.picture_cost(plan.task, plan.compress.quality)
        assert cost is not None
        return cost.decompress

    def passes_really(self, round_trip_ns: int) -> None:
        """A message from the node to its own broker and back takes so long on the machine that it really runs on.

        That is a third each for publishing, for the broker and for taking in. What of it has passed when a message is
        seen, or will pass after it is given away, counts as a part of what the emulated machine takes.
        """
        self._third_ns = round_trip_ns // 3

    def takes_in(self, size_bytes: int, qos: int, then: Callable[[int], None]) -> None:
        """A message has come to the node's own broker: `then(end_ns)` when the node has taken it in."""
        times = self._messages[qos]
        receive = Work(times.receive_ns(size_bytes), then)
        assert self._broker is not None
        relay = Work(times.relay_ns(size_bytes), lambda end_ns: self._thread.do(end_ns, receive))
        self._broker.do(self.time.now_ns() - 2 * self._third_ns, relay)

    def hears(self, size_bytes: int, qos: int, then: Callable[[int], None]) -> None:
        """A message has come from a broker elsewhere: `then(end_ns)` when the node has taken it in."""
        at_ns = self.time.now_ns() - self._third_ns
        self._thread.do(at_ns, Work(self._messages[qos].receive_ns(size_bytes), then))

    def works(self, at_ns: int, times: Times, then: Callable[[int], None]) -> None:
        """The thread that takes messages in has something else to do with one."""
        self._thread.do(at_ns, Work(self.draws_ns(times), then))

    def draws_ns(self, times: Times) -> int:
        """A draw of what is neither a message nor inference."""
        return round(quantile_ns(times, next(self._others)))

    def learns(
        self, cost: TrainingCost, steps: int, wanted: Callable[[], bool], then: Callable[[int, int], None]
    ) -> None:
        """A request to learn is here: `then(start_ns, end_ns)` when the node has taken so many steps, once it has done
        what was asked before. It goes no further than it is `wanted`."""
        if self._learner is None:
            self._learner = SlicedThread(self._cores)
        service_ns = self.draws_ns(cost.rest) + round(sum_ns(cost.step, steps, self._steps))
        self._learner.do(LongWork(service_ns, wanted, then))

    def sends(
        self,
        at_ns: int,
        size_bytes: int,
        qos: int,
        then: Callable[[int], None],
        *,
        thread: Thread | None = None,
        to_own_broker: bool = False,
        after_ns: int = 0,
    ) -> None:
        """The node sends a message: `then(due_ns)` when it has to be given away so as to leave the machine in time.

        thread: of a model, which sends it; None: the one that takes messages in. after_ns: it does something else for
        so long before.
        """
        times = self._messages[qos]
        send_ns = after_ns + (times.send_ns(size_bytes) if thread is None else times.answer_ns(size_bytes))
        send: Job
        if to_own_broker:
            assert self._broker is not None
            broker, relay = self._broker, Leaving(self.time, times.relay_ns(size_bytes), 2 * self._third_ns, then)
            send = Work(send_ns, lambda end_ns: broker.do(end_ns, relay))
        else:
            send = Leaving(self.time, send_ns, self._third_ns, then)
        (thread or self._thread).do(at_ns, send)

    def released(self, since_ns: int, due_ns: int) -> None:
        """What the machine had from `since_ns` on is given away now, when it was due."""
        self.releases.note(since_ns, due_ns, self.time.now_ns())

    def noted(self) -> Releases:
        """What was released so far, to be written down."""
        self.releases.beyond = sum(each.beyond for each in self._messages.values())
        self.releases.largest_bytes = max((each.largest_bytes for each in self._messages.values()), default=0)
        self.releases.busy_ns = self._cores.busy_ns
        # Noted in another thread than released, a worst slip of this very moment is lost; of the sums nothing is.
        noted = copy(self.releases)
        self.releases.most_slip_ns = 0
        return noted


def key_of(manifest: Manifest) -> ModelKey:
    """By what a profile knows a model's times."""
    return ModelKey(manifest.task, manifest.model_size, manifest.runtime, manifest.quantisation)
