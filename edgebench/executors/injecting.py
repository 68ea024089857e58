"""Faults brought about: by a run, which knows whom they concern, and on a machine, which notes when that was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from msgspec.structs import replace

from edgebench.clock import NS_PER_MS, STEPPED, now_ns
from edgebench.errors import FabricError
from edgebench.executors.disks import SmallDisk
from edgebench.executors.faults import (
    CutLink,
    Degrade,
    FillDisk,
    Forsake,
    FreeDisk,
    Injected,
    Injection,
    Kill,
    MendLink,
    Pause,
    Restore,
    Resume,
    StartAgain,
    StepClock,
)
from edgebench.executors.machine import Machine
from edgebench.executors.orders import Order, StartBroker, StartNode
from edgebench.executors.plan import Part
from edgebench.executors.processes import PartProcess
from edgebench.executors.supervisor import Supervisor
from edgebench.fabric.links import Relay
from edgebench.fabric.records import Entry, Faulted, FaultStep

_OfLink = CutLink | MendLink | Degrade | Restore
_STEPS: Mapping[type[_OfLink], FaultStep] = {CutLink: "down", MendLink: "up", Degrade: "degrade", Restore: "restore"}


class RunInjector:
    """Has the machines of a run do it."""

    def __init__(
        self,
        machines: Mapping[str, Machine],
        links: Mapping[str, str],
        parts: Iterable[Part],
        supervisor: Supervisor,
        order_to_start: Callable[[Part], Order],
    ) -> None:
        """links: those that are emulated, by the machines that do so. parts: that the command has started."""
        self._machines = machines
        self._links = links
        self._parts = {part.name: part for part in parts}
        self._supervisor = supervisor
        self._order_to_start = order_to_start
        self._incarnation: Counter[str] = Counter()

    def incarnation_of(self, part: str) -> int:
        """How often it was started again."""
        return self._incarnation[part]

    def inject(self, injection: Injection) -> None:
        """See `Execution.inject`."""
        if isinstance(injection, CutLink | MendLink | Degrade | Restore):
            if injection.link not in self._links:
                raise FabricError(f"link '{injection.link}' of this run is not emulated")
            self._machines[self._links[injection.link]].send(injection)
            return
        if isinstance(injection, StepClock):
            self._machines[injection.machine].send(injection)
            return
        part = self._parts.get(injection.part)
        if part is None:
            raise FabricError(f"no part '{injection.part}' of this run was started by the command")
        match injection:
            case Kill(returns=returns):
                self._supervisor.expect_death(part.name, returns=returns)
                self._machines[part.machine].send(injection)
            case StartAgain(fault=fault):
                self._start_again(part, fault)
            case Forsake():
                self._supervisor.forsake(part)
            case _:
                self._machines[part.machine].send(injection)

    def _start_again(self, part: Part, fault: int | None) -> None:
        self._incarnation[part.name] += 1
        incarnation = self._incarnation[part.name]
        self._supervisor.started_again(part, incarnation)
        order = self._order_to_start(part)
        assert isinstance(order, StartBroker | StartNode)
        self._machines[part.machine].send(replace(order, incarnation=incarnation, fault=fault))


class Parts(Protocol):
    """What runs on a machine."""

    def named(self, name: str) -> PartProcess:
        """The last life of a part. Raises FabricError where there is none."""
        ...

    def pause(self, name: str) -> None:
        """Have a part stand still. Raises FabricError where there is none."""
        ...

    def relay_across(self, link: str) -> Relay:
        """That which emulates a link. Raises FabricError where none does."""
        ...

    def disk_of(self, name: str) -> SmallDisk:
        """Of a part that has one of its own. Raises FabricError."""
        ...


class MachineInjector:
    """Does it to what runs on a machine, and notes it."""

    def __init__(self, parts: Parts, note: Callable[[Entry], None]) -> None:
        self._parts = parts
        self._note = note
        self._put_off: list[_OfLink] = []
        """Until a relay that stands still goes on: it would not answer."""

    def inject(self, order: Injected) -> None:
        """Bring it about, now. Raises FabricError where it cannot be."""
        match order:
            case CutLink() | MendLink() | Degrade() | Restore():
                relay = self._parts.relay_across(order.link)
                if relay.process.is_paused:
                    self._put_off.append(order)
                    return
                _change(relay, order)
                self._note(Faulted(order.link, _STEPS[type(order)], now_ns(), fault=order.fault))
            case StepClock(nodes=nodes, by_ms=by_ms):
                if STEPPED is None:
                    raise FabricError("the clock of this machine cannot be stepped")
                before_ns, by_ns = now_ns(), round(by_ms * NS_PER_MS)
                STEPPED.step(by_ns)
                self._note(Faulted(None, "step", before_ns, nodes=nodes, fault=order.fault, by_ns=by_ns))
            case _:
                self.note(self._of_part(order), order.part, order.fault)
                put_off, self._put_off = self._put_off, []
                for each in put_off:
                    self.inject(each)

    def note(self, step: FaultStep, name: str, fault: int | None) -> None:
        """Write down what has happened to a part just now."""
        self._note(Faulted(None, step, now_ns(), name, self._parts.named(name).part.nodes, fault))

    def _of_part(self, order: Kill | Pause | Resume | FillDisk | FreeDisk) -> FaultStep:
        match order:
            case Kill(part=name):
                self._parts.named(name).process.kill()
                return "kill"
            case Pause(part=name):
                self._parts.pause(name)
                return "pause"
            case Resume(part=name):
                self._parts.named(name).process.resume()
                return "resume"
            case FillDisk(part=name):
                self._parts.disk_of(name).fill()
                return "fill"
            case FreeDisk(part=name):
                self._parts.disk_of(name).free()
                return "free"


def _change(relay: Relay, order: _OfLink) -> None:
    """Of one that a fault has killed nothing changes: no message passes any more."""
    try:
        match order:
            case CutLink(link=link):
                relay.cut(link)
            case Degrade(link=link, to=change):
                relay.degrade(link, change)
            case MendLink(link=link) | Restore(link=link):
                relay.mend(link)
    except FabricError:
        if not relay.process.is_killed:
            raise
