"""Processes that learn for an agent's devices: who is asked next, and how many may compute at once."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from device_agent.learner_messages import LearnerSpec
from device_agent.learner_process import LearnerProcess, LearnerRequest, Task
from edgebench.clock import NS_PER_S, now_ns, now_s
from edgebench.fabric.records import Usage
from edgebench.federated.message_client import Received
from edgebench.memory import available_bytes

_LOOK_S = 0.25
_WAITS_BELOW_CORES = 0.1
"""A learner that has or wants less waits for something else than a core: a sleep, a lock, a network, a disk."""
_ROOM = 2
"""Times the memory of the largest learner so far that must be free before there is another."""
_UNTRIED_BYTES = 400_000_000
"""What a learner is taken to need at least, as long as none has done a task."""
_TOGETHER_S = 0.05
"""Clients who are asked together learn in so much time, as far as can be told: the others wait no longer for it."""
_MOST_TOGETHER = 32


class _Worker:
    """A process, the thread that asks it, and the tasks that it does. seen: at the last look, or as it began, at which
    tasks, when (ns), and the core time by then."""

    def __init__(self, process: LearnerProcess) -> None:
        self.process = process
        self.thread: threading.Thread | None = None
        self.tasks: Sequence[Task] = ()
        self.seen: tuple[Sequence[Task], int, float] | None = None
        self.only_waits = False
        self.has_learned = False
        """Whether it has done a task: until then it may take more memory than it does yet."""

    def compare(self, tasks: Sequence[Task], at_ns: int, core_time_s: float) -> None:
        """Whether it has only waited since the last look, or since it began with them, if that is long enough ago."""
        if self.seen is not None and self.seen[0] is tasks:
            _, before_ns, before_s = self.seen
            if at_ns - before_ns < _LOOK_S * NS_PER_S / 2:
                return
            wanted_s = core_time_s - before_s
            # Less than nothing: a thread has ended meanwhile.
            self.only_waits = 0.0 <= wanted_s < _WAITS_BELOW_CORES * (at_ns - before_ns) / NS_PER_S
        self.seen = tasks, at_ns, core_time_s

    def forget(self) -> None:
        """Nobody looks for a while: what it did before says nothing of what it does then."""
        self.seen, self.only_waits = None, False


class LearnerPool:
    """Tasks are begun in the order in which they came, at most `at_once` of them computing at a time.

    One whose process hardly uses a core is waiting, and holds nobody up: the next one is begun beside it, by one more
    process, as long as there is memory. A client has one task at a time. Clients of some workloads are asked together
    where they are quick, since asking takes time, too.
    """

    def __init__(
        self,
        spec: LearnerSpec,
        directory: Path,
        on_learned: Callable[[Sequence[LearnerRequest], Path], None],
        *,
        at_once: int,
        most: int,
        environment: dict[str, str],
        together: Collection[str] = (),
    ) -> None:
        """directory: for replies. on_learned: with the file of their replies, from a thread of the pool's. most:
        processes that there may be, one a client. environment: variables of the processes, beside this one's. together:
        workloads whose clients only compute, and may be asked some at a time."""
        self._spec = spec
        self._dir = directory
        self._on_learned = on_learned
        self._at_once = at_once
        self._most = most
        self._environment = environment
        self._together = together
        self._numbers = itertools.count()
        # All that follows is shared by the threads.
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, Task] = OrderedDict()
        self._workers: list[_Worker] = []
        self._watch: threading.Thread | None = None
        self._closing = threading.Event()
        self._largest_bytes = 0
        self._least_bytes = _UNTRIED_BYTES
        self._takes_s: dict[str, float] = {}
        """What a client took of late, by workload."""

    @property
    def pids(self) -> list[int]:
        """Of the processes that there are, or rather of their guards."""
        return [pid for worker in list(self._workers) if (pid := worker.process.pid) is not None]

    def usage(self) -> Usage | None:
        """What all processes have used so far, those that have ended included; None before the first."""
        return together(usage for worker in list(self._workers) if (usage := worker.process.usage()) is not None)

    def put(self, request: LearnerRequest) -> None:
        """Queue a request."""
        with self._changed:
            if self._watch is None:
                self._watch = threading.Thread(target=self._look_again, name="learners", daemon=True)
                self._watch.start()
                self._add_worker()
            self._waiting[request.received.message_id] = Task(request)
            self._changed.notify_all()

    def cancel(self, received: Received) -> None:
        """Do not begin with it, or end it: an app that hangs must not keep the other devices from learning."""
        with self._changed:
            self._waiting.pop(received.message_id, None)
            for worker in self._workers:
                for task in worker.tasks:
                    if task.request.received.message_id == received.message_id:
                        worker.process.call_off(task)

    def close(self) -> None:
        """End threads and processes; what waits is not begun."""
        with self._changed:
            self._closing.set()
            self._waiting.clear()
            for worker in self._workers:
                for task in worker.tasks:
                    worker.process.call_off(task)
            self._changed.notify_all()
        if self._watch is not None:
            self._watch.join()
        for worker in self._workers:
            assert worker.thread is not None
            worker.thread.join()

    def _add_worker(self) -> None:
        worker = _Worker(LearnerProcess(self._spec, self._environment))
        self._workers.append(worker)
        worker.thread = threading.Thread(target=self._work, args=(worker,), name="learner", daemon=True)
        worker.thread.start()

    def _work(self, worker: _Worker) -> None:
        """What a worker's thread does."""
        while tasks := self._next_for(worker):
            replies = self._dir / f"{next(self._numbers)}.reply"
            begun_s = now_s()
            self._note_start(worker, tasks)
            worker.process.do(tasks, replies)
            with self._changed:
                # Whoever calls one off later finds that it is done.
                worker.tasks, worker.only_waits = (), False
                worker.has_learned = True
                self._least_bytes = 0
                self._takes_s[tasks[0].request.workload] = (now_s() - begun_s) / len(tasks)
                self._changed.notify_all()
            wanted = [task.request for task in tasks if not task.called_off.is_set()]
            if wanted:
                self._on_learned(wanted, replies)
            else:
                replies.unlink(missing_ok=True)
        worker.process.close()

    def _note_start(self, worker: _Worker, tasks: Sequence[Task]) -> None:
        """What its process has had of a core by now: so a task that only waits is known as such at the next look."""
        if self._takes_s.get(tasks[0].request.workload, 0.0) > _TOGETHER_S:  # others are over by then
            at_ns, core_time_s = now_ns(), worker.process.core_time_s()
            if core_time_s is not None:
                with self._changed:
                    worker.compare(tasks, at_ns, core_time_s)

    def _next_for(self, worker: _Worker) -> Sequence[Task]:
        """Wait until there is a task, and take it, with others that go with it; none at the end."""
        with self._changed:
            while not self._closing.is_set():
                if self._places() > 0 and (task := self._first()) is not None:
                    worker.tasks = self._alike(task)
                    for each in worker.tasks:
                        del self._waiting[each.request.received.message_id]
                    return worker.tasks
                self._changed.wait()
        return ()

    def _places(self) -> int:
        """How many more may begin to compute."""
        computing = sum(bool(worker.tasks) and not worker.only_waits for worker in self._workers)
        return self._at_once - computing

    def _first(self) -> Task | None:
        """The first task that waits, but for those of clients that have one already."""
        busy = self._busy()
        return next((task for task in self._waiting.values() if _client(task) not in busy), None)

    def _alike(self, first: Task) -> tuple[Task, ...]:
        """The first task, and as many as go with it: fewer at the end, when all processes are to be done at once."""
        takes_s = self._takes_s.get(first.request.workload)
        if takes_s is None or first.request.workload not in self._together:
            return (first,)
        share = math.ceil(len(self._waiting) / (2 * self._at_once))
        most = max(1, min(_MOST_TOGETHER, share, int(_TOGETHER_S / takes_s)))
        busy = self._busy()
        alike: dict[tuple[str, int], Task] = {}
        for task in self._waiting.values():
            if len(alike) == most:
                break
            if _client(task) not in busy and _asked(task) == _asked(first):
                alike.setdefault(_client(task), task)
        return tuple(alike.values())

    def _busy(self) -> set[tuple[str, int]]:
        """Clients that have a task."""
        return {_client(task) for worker in self._workers for task in worker.tasks}

    def _look_again(self) -> None:
        """While tasks wait, look who computes and who only waits, and begin more."""
        while not self._closing.is_set():
            with self._changed:
                if not self._waiting:
                    for worker in self._workers:
                        worker.forget()
                while not self._waiting and not self._closing.is_set():
                    self._changed.wait()
            self._closing.wait(_LOOK_S)
            with self._changed:  # whoever has begun meanwhile is looked at, too
                workers = list(self._workers)
                at_work = [(worker, worker.tasks) for worker in workers if worker.tasks]
            # Without the lock, for which the reactor waits.
            looks = [(worker, tasks, now_ns(), worker.process.core_time_s()) for worker, tasks in at_work]
            used = {worker: usage.rss_bytes for worker in workers if (usage := worker.process.usage()) is not None}
            self._largest_bytes = max(self._largest_bytes, *used.values(), 0)
            needed_bytes = _ROOM * max(self._least_bytes, self._largest_bytes, 1)
            growing = [needed_bytes - used.get(worker, 0) for worker in workers if not worker.has_learned]
            room = (available_bytes() - sum(growing)) // needed_bytes
            with self._changed:
                for worker, tasks, at_ns, core_time_s in looks:
                    if worker.tasks is tasks and core_time_s is not None:
                        worker.compare(tasks, at_ns, core_time_s)
                idle = sum(not worker.tasks for worker in self._workers)
                could_begin = len({_client(task) for task in self._waiting.values()} - self._busy())
                lacking = min(self._places(), could_begin) - idle
                for _ in range(min(lacking, room, self._most - len(self._workers))):
                    self._add_worker()
                self._changed.notify_all()


def together(usages: Iterable[Usage]) -> Usage | None:
    """The sum, as of the newest; None of none."""
    all_of = list(usages)
    if not all_of:
        return None
    return Usage(
        max(usage.at_ns for usage in all_of),
        sum(usage.cpu_s for usage in all_of),
        sum(usage.rss_bytes for usage in all_of),
    )


def _client(task: Task) -> tuple[str, int]:
    return task.request.workload, task.request.node


def _asked(task: Task) -> tuple[str, Path]:
    return task.request.workload, task.request.received.path
