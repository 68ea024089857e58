"""Faults of a run while it goes on: what brings them about, at their times or once their conditions are met."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType

from edgebench.clock import NS_PER_S, now_ns
from edgebench.core.schedules import open_loop, within
from edgebench.fabric.slices import LiveState
from edgebench.topology.deployment import Deployment, Frozen, WorkloadPlan
from edgebench.topology.fault_model import FaultPlan, When
from edgebench.topology.link_model import LinkChange
from edgebench.topology.presence import presences


class CutLink(Frozen, frozen=True, tag="cut"):
    """Break every connection across a link, and let none pass. fault: its number in the plan, here and below."""

    link: str
    fault: int | None = None


class MendLink(Frozen, frozen=True, tag="mend"):
    """Let connections across a link pass again."""

    link: str
    fault: int | None = None


class Degrade(Frozen, frozen=True, tag="degrade"):
    """Make a link another one, for the connections across it too."""

    link: str
    to: LinkChange
    fault: int | None = None


class Restore(Frozen, frozen=True, tag="restore"):
    """Make a link again what it was planned to be."""

    link: str
    fault: int | None = None


class Kill(Frozen, frozen=True, tag="kill"):
    """Kill a part, whose death is then expected: it ends no run and is no reason against one. returns: it is to be
    started again."""

    part: str
    fault: int | None = None
    returns: bool = False


class Pause(Frozen, frozen=True, tag="pause"):
    """Have a part, and all that it has started, stand still."""

    part: str
    fault: int | None = None


class Resume(Frozen, frozen=True, tag="resume"):
    """Let a part that stands still go on."""

    part: str
    fault: int | None = None


class FillDisk(Frozen, frozen=True, tag="fill-disk"):
    """Leave no room on the disk of a part, which has one of its own."""

    part: str
    fault: int | None = None


class FreeDisk(Frozen, frozen=True, tag="free-disk"):
    """Give the room on it back."""

    part: str
    fault: int | None = None


class StepClock(Frozen, frozen=True, tag="step-clock"):
    """Step the clock of a machine, and of all parts there, on. nodes: that it hosts."""

    machine: str
    by_ms: float
    nodes: tuple[str, ...] = ()
    fault: int | None = None


class StartAgain(Frozen, frozen=True, tag="start-again"):
    """Start a part that was killed again."""

    part: str
    fault: int | None = None


class Forsake(Frozen, frozen=True, tag="forsake"):
    """A part that is dead, and was to be started again, is not."""

    part: str


Injected = CutLink | MendLink | Degrade | Restore | Kill | Pause | Resume | FillDisk | FreeDisk | StepClock
"""What a machine is asked to do."""

Injection = Injected | StartAgain | Forsake


class PlannedFault(Frozen, frozen=True):
    """A fault of a deployment, and what of a run it happens to. number: its place among them. nodes: of the machine
    whose clock it steps."""

    number: int
    plan: FaultPlan
    links: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


def samples_due(deployment: Deployment, traces: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """How many samples are due in the whole run, by workload of which a share has to be decided before a fault comes.

    traces: workload -> due times in s of a trace load.
    """
    waited_for = dict.fromkeys(fault.when.workload for fault in deployment.faults if fault.when and fault.when.decided)
    there = presences(deployment.faults) if waited_for else {}
    due: Counter[str] = Counter()
    for name in waited_for:
        plan = deployment.workloads[name]
        for device in plan.deciders:
            offsets, spans = _due(plan, device, deployment, traces), [each.span_ns for each in there.get(device, ())]
            due[name] += sum(1 for _ in (within(offsets, spans) if spans else offsets))
    return dict(due)


def _due(
    plan: WorkloadPlan, device: str, deployment: Deployment, traces: Mapping[str, Sequence[float]]
) -> Iterator[int]:
    paced_by = plan.paced_by or plan.name
    return open_loop(
        plan.load,
        seed=deployment.seed,
        device=device,
        workload=paced_by,
        duration_s=deployment.duration_s,
        trace_s=list(traces.get(paced_by, ())),
    )


class _Holders:
    """Which faults take which things; where several take the same, it comes back with the end of the last."""

    def __init__(self) -> None:
        self._by_thing: dict[str, set[int]] = {}

    def __contains__(self, thing: str) -> bool:
        return thing in self._by_thing

    def take(self, thing: str, fault: int) -> bool:
        """Whether nobody had it."""
        holders = self._by_thing.setdefault(thing, set())
        holders.add(fault)
        return len(holders) == 1

    def give_back(self, thing: str, fault: int) -> bool:
        """Whether nobody has it any more."""
        holders = self._by_thing[thing]
        holders.discard(fault)
        if not holders:
            del self._by_thing[thing]
        return not holders

    def any_of(self, thing: str) -> int:
        """One of those that have it."""
        return min(self._by_thing[thing])


class _Held:
    """What is taken away at a time, by whom, and what has to be done as faults begin and end."""

    def __init__(self) -> None:
        self._cut, self._dead, self._paused, self._full = _Holders(), _Holders(), _Holders(), _Holders()
        self._changed: dict[str, dict[int, LinkChange]] = {}
        self._lost: set[str] = set()

    def begin(self, fault: PlannedFault) -> Iterator[Injection]:
        """What a fault takes away that is not away yet."""
        for link in fault.links:
            yield from self._take_link(link, fault)
        for part in fault.parts:
            yield from self._take_part(part, fault)
        if fault.plan.machine is not None and fault.plan.by_ms is not None:
            yield StepClock(fault.plan.machine, fault.plan.by_ms, fault.nodes, fault.number)

    def end(self, fault: PlannedFault) -> Iterator[Injection]:
        """What of it comes back."""
        for link in fault.links:
            yield from self._give_back_link(link, fault)
        for part in fault.parts:
            yield from self._give_back_part(part, fault)

    def _take_link(self, link: str, fault: PlannedFault) -> Iterator[Injection]:
        if fault.plan.to is not None:
            self._changed.setdefault(link, {})[fault.number] = fault.plan.to
            if link not in self._cut:
                yield Degrade(link, fault.plan.to, fault.number)
        elif self._cut.take(link, fault.number):
            yield CutLink(link, fault.number)

    def _give_back_link(self, link: str, fault: PlannedFault) -> Iterator[Injection]:
        if fault.plan.to is not None:
            del self._changed[link][fault.number]
            if link in self._cut:
                return
            yield Restore(link, fault.number)
        elif self._cut.give_back(link, fault.number):
            yield MendLink(link, fault.number)  # which makes it what it was, too
        else:
            return
        if changes := self._changed.get(link):
            last = max(changes)
            yield Degrade(link, changes[last], last)

    def _take_part(self, part: str, fault: PlannedFault) -> Iterator[Injection]:
        number, returns = fault.number, fault.plan.for_s is not None
        match fault.plan.kind:
            case "disk":
                if self._full.take(part, number):
                    yield FillDisk(part, number)
            case "pause":
                if self._paused.take(part, number) and part not in self._dead:
                    yield Pause(part, number)
            case _:
                if self._dead.take(part, number):
                    yield Kill(part, number, returns)
                elif not returns and part not in self._lost:
                    yield Forsake(part)
                if not returns:
                    self._lost.add(part)

    def _give_back_part(self, part: str, fault: PlannedFault) -> Iterator[Injection]:
        number = fault.number
        match fault.plan.kind:
            case "disk":
                if self._full.give_back(part, number):
                    yield FreeDisk(part, number)
            case "pause":
                if self._paused.give_back(part, number) and part not in self._dead:
                    yield Resume(part, number)
            case _:
                if self._dead.give_back(part, number):
                    yield StartAgain(part, number)
                    if part in self._paused:
                        yield Pause(part, self._paused.any_of(part))


class FaultDriver:
    """Brings faults about at their times, and once what they wait for is seen."""

    def __init__(
        self,
        faults: Iterable[PlannedFault],
        inject: Callable[[Injection], None],
        asked: Callable[[int, int], None] = lambda _number, _seen_ns: None,
        due: Mapping[str, int] = {},
        clock: Callable[[], int] = now_ns,
    ) -> None:
        """asked: is told of each fault whose condition was met, by its number, and when that was seen. due: how many
        samples are in the whole run, by workload of which a share has to be decided."""
        self._order = itertools.count()
        self._due: list[tuple[int, bool, int, PlannedFault]] = []
        """When, whether it ends then (at one time what begins comes first), the order of all, and what."""
        self._waiting: list[PlannedFault] = []
        for fault in faults:
            if fault.plan.at_s is None:
                self._waiting.append(fault)
            else:
                self._plan(round(fault.plan.at_s * NS_PER_S), fault)
        self._inject = inject
        self._asked = asked
        self._samples_due = due
        self._now_ns = clock
        self._held = _Held()
        self._lock = threading.Lock()

    def see(self, live: LiveState) -> bool:
        """How the run stands, from any thread; whether faults come about by it, with the next `advance`."""
        met = [fault for fault in self._waiting if (when := fault.plan.when) and self._is_met(when, live)]
        if not met or live.start_ns is None:
            return False
        seen_ns = self._now_ns()
        with self._lock:
            for fault in met:
                self._waiting.remove(fault)
                self._plan(seen_ns - live.start_ns, fault)
        for fault in met:
            self._asked(fault.number, seen_ns)
        return True

    def next_in_s(self, start_ns: int) -> float | None:
        """How long it is until the next one; None after the last but those that wait for a condition."""
        with self._lock:
            return max(0.0, (self._due[0][0] + start_ns - self._now_ns()) / NS_PER_S) if self._due else None

    def advance(self, start_ns: int) -> None:
        """Inject what is due by now, of streams that began at `start_ns`."""
        while True:
            with self._lock:
                if not self._due or self._due[0][0] > self._now_ns() - start_ns:
                    return
                _, ends, _, fault = heapq.heappop(self._due)
            for injection in self._held.end(fault) if ends else self._held.begin(fault):
                self._inject(injection)

    def _is_met(self, when: When, live: LiveState) -> bool:
        if when.round is not None:
            return live.rounds.get(when.workload, 0) >= when.round
        if when.rollout is not None:
            return live.rolled_out.get(when.workload, 0) >= when.rollout
        assert when.decided is not None
        tally = live.totals.get(when.workload)
        return tally is not None and tally.decided >= when.decided * self._samples_due[when.workload]

    def _plan(self, at_ns: int, fault: PlannedFault) -> None:
        """at_ns: from the start of the streams."""
        heapq.heappush(self._due, (at_ns, False, next(self._order), fault))
        if fault.plan.for_s is not None:
            end_ns = at_ns + round(fault.plan.for_s * NS_PER_S)
            heapq.heappush(self._due, (end_ns, True, next(self._order), fault))


class FaultTimer:
    """Advances a driver from a thread of its own, so that whatever the run's watcher waits for delays no fault.

    To be used by `with`, at whose end the thread ends too, and with it brokers that it has started again: it has to
    last longer than what the run is made of.
    """

    def __init__(self, driver: FaultDriver) -> None:
        self._driver = driver
        self._thread: threading.Thread | None = None
        self._look = threading.Event()
        self._over = threading.Event()
        self._left = threading.Event()
        self._injecting = threading.Lock()
        self._failure: Exception | None = None

    def begin(self, start_ns: int) -> None:
        """The streams began, or will, at `start_ns`. To be called again and again: raises what a fault failed by."""
        self._raise_failure()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(start_ns,), name="faults", daemon=True)
            self._thread.start()

    def see(self, live: LiveState) -> None:
        """How the run stands: faults may wait for that."""
        if self._driver.see(live):
            self._look.set()

    def end(self) -> None:
        """Bring nothing about any more; what is being brought about is waited for."""
        self._over.set()
        self._look.set()
        with self._injecting:
            pass

    def _run(self, start_ns: int) -> None:
        try:
            while not self._over.is_set():
                self._look.wait(self._driver.next_in_s(start_ns))
                self._look.clear()
                with self._injecting:
                    if not self._over.is_set():
                        self._driver.advance(start_ns)
        except Exception as failure:  # noqa: BLE001  (whatever it is, it is raised in the thread of the run)
            self._failure = failure
        self._left.wait()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> FaultTimer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._left.set()
        if self._thread is not None:
            self._thread.join()
        if error is None:
            self._raise_failure()
