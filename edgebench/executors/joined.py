"""Machines that have joined a lab: orders go to them, and reports come from them, over the lab's channel."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from edgebench.clock import now_s
from edgebench.core.clocks import Exchange, Offset
from edgebench.decoding import UNREADABLE
from edgebench.errors import describe_error
from edgebench.executors.assigning import boards_of
from edgebench.executors.here import RECORDS
from edgebench.executors.orders import BeginLinks, Gone, Noted, Order, Report
from edgebench.fabric.records import Brokered, Compared, Elsewhere, Entry
from edgebench.lab.messages import LOST_S, LabError, MachineReport, ReportKind
from edgebench.topology.deployment import HERE, Deployment

_WAIT_S = 1.0
_AGAIN_S = 0.5
_COMPARE_EVERY_S = 2.0
_WHY: Mapping[ReportKind, str] = {
    "lost": f"was lost: nothing has been heard of it for {LOST_S:.0f} s",
    "restarted": "was restarted, and what it ran is gone",
    "removed": "was removed from the lab",
}

encode_order = msgspec.json.Encoder().encode
decode_order = msgspec.json.Decoder(Order).decode
encode_reports = msgspec.json.Encoder().encode
decode_reports = msgspec.json.Decoder(list[Report]).decode


class Channel(Protocol):
    """What a run says to a lab; its `LabClient` does so."""

    def send(self, run_id: str, machine: str, order: bytes) -> int:
        """Lay an order ready for a machine."""

    def reports(self, run_id: str, after: int, wait_s: float) -> Sequence[MachineReport]:
        """Those after this number; waits for one."""

    def clock(self, machine: str) -> Offset | None:
        """The lab's clock minus the machine's, now; None before they were compared."""

    def exchanges(self, machine: str, after_ns: int) -> Sequence[Exchange]:
        """Of its clock with the lab's, those that began after a moment of its clock."""

    def files(self, run_id: str) -> Path:
        """Where what machines hand in lies, in a folder a machine."""


class JoinedMachines:
    """Those that a run holds, devices without Python included. A thread of it hears what they tell, from `with` to its
    end."""

    def __init__(self, channel: Channel, deployment: Deployment, run_dir: Path, write: Callable[[Entry], None]) -> None:
        self._channel = channel
        self._run_id = deployment.run_id
        self._write = write
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hear, name="machines of the lab", daemon=True)
        self.machines: dict[str, JoinedMachine] = {}
        for node in deployment.nodes.values():
            if node.machine != HERE and node.machine not in self.machines:
                self.machines[node.machine] = JoinedMachine(channel, deployment, node.machine, run_dir, write)
        self._compared = dict.fromkeys(self.machines, 0)
        self._boards = {name: Board() for name in boards_of(deployment)}

    def __enter__(self) -> dict[str, JoinedMachine | Board]:
        self._thread.start()
        return {**self.machines, **self._boards}

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _hear(self) -> None:
        try:
            self._hear_on()
        except Exception as error:
            # Nothing that these machines tell would ever be heard again.
            self._lose_all(f"cannot be heard any more: {describe_error(error)}")
            raise

    def _hear_on(self) -> None:
        after = 0
        heard_s = next_compare_s = now_s()
        while not self._over.is_set():
            try:
                for report in self._channel.reports(self._run_id, after, _WAIT_S):
                    after = report.seq
                    if report.kind == "removed":
                        self._compared.pop(report.machine, None)
                    if (told_of := self.machines.get(report.machine) or self._boards.get(report.machine)) is not None:
                        told_of.hear(report)
                if now_s() >= next_compare_s:
                    next_compare_s = now_s() + _COMPARE_EVERY_S
                    self._note_clocks()
                heard_s = now_s()
            except LabError as error:
                if now_s() - heard_s > LOST_S:
                    self._lose_all(f"was lost with the lab: {error}")
                    return
                self._over.wait(_AGAIN_S)

    def _lose_all(self, why: str) -> None:
        for machine in self.machines.values():
            machine.lose(why)

    def _note_clocks(self) -> None:
        for name, last_ns in self._compared.items():
            exchanges = self._channel.exchanges(name, last_ns)
            if exchanges:
                self._compared[name] = exchanges[-1].t0_ns
                self._write(Compared(name, list(exchanges)))


class JoinedMachine:
    """See `Machine`."""

    def __init__(
        self, channel: Channel, deployment: Deployment, name: str, run_dir: Path, write: Callable[[Entry], None]
    ) -> None:
        self._channel = channel
        self._run_id = deployment.run_id
        self._name = name
        self._nodes = {node.name for node in deployment.nodes.values() if node.machine == name}
        self._run_dir = run_dir
        self._write = write
        self._told: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._is_gone = False

    def send(self, order: Order) -> None:
        """Lay it ready for the machine, and do not wait. One that is gone is told nothing."""
        if self._is_gone:
            return
        try:
            if isinstance(order, BeginLinks):
                order = self._by_its_clock(order)
            self._channel.send(self._run_id, self._name, encode_order(order))
        except LabError as error:
            self.lose(f"cannot be told anything: {error}")

    def _by_its_clock(self, order: BeginLinks) -> BeginLinks:
        ahead = self._channel.clock(self._name)
        if ahead is None:
            raise LabError("its clock was never compared")
        return msgspec.structs.replace(order, at_ns=order.at_ns - ahead.offset_ns)

    def reports(self) -> Sequence[Report]:
        """See `Machine`."""
        told = []
        while not self._told.empty():
            told.append(self._told.get())
        return told

    def close(self) -> None:
        """Take in what it has handed in; what still runs there ends when the run lets the machine go."""
        handed_in = self._channel.files(self._run_id) / self._name
        for log in handed_in.glob("logs/*"):
            self._take_in(log, self._run_dir / "logs" / self._name / log.name)
        for records in handed_in.glob(f"work/*/{RECORDS}"):
            # Nobody speaks for nodes that are elsewhere.
            if (node := records.parent.name) in self._nodes:
                self._take_in(records, self._run_dir / "work" / node / RECORDS)

    def hear(self, report: MachineReport) -> None:
        """What the lab has of it. From any thread."""
        if report.kind != "report":
            self._is_gone = True
            self._told.put(_gone(report.kind))
            return
        try:
            reports = decode_reports(report.body)
        except UNREADABLE as error:  # the others are to be heard all the same
            self.lose(f"tells what cannot be understood: {error}")
            return
        for each in reports:
            if isinstance(each, Noted):
                entry = each.entry
                self._write(entry if isinstance(entry, Brokered) else Elsewhere(self._name, entry))
            elif not self._is_gone:  # else its parts count as dead already
                self._told.put(each)

    def lose(self, why: str) -> None:
        """It is not there any more."""
        self._is_gone = True
        self._told.put(Gone(why))

    def _take_in(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)


class Board:
    """A device without Python, on which nothing is started: all that is told of it is that it was removed."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Report] = queue.SimpleQueue()

    def send(self, order: Order) -> None:
        """Nothing is asked of it."""
        raise AssertionError(f"{order}: for a device without Python")

    def reports(self) -> Sequence[Report]:
        """See `Machine`."""
        return [] if self._told.empty() else [self._told.get()]

    def close(self) -> None:
        """There is nothing to end."""

    def hear(self, report: MachineReport) -> None:
        """What the lab says of it. From any thread."""
        if report.kind == "removed":
            self._told.put(_gone(report.kind))


def why_gone(kind: ReportKind) -> str:
    """What became of a machine of which this is reported, after its name."""
    return _WHY[kind]


def _gone(kind: ReportKind) -> Gone:
    return Gone(why_gone(kind), removed=kind == "removed")
