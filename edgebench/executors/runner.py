"""What a machine of a lab does for the runs that hold it: it obeys their orders, and tells what comes of them.

Runs come one after another. Whatever one has left here ends, and goes away, when it lets the machine go, when the lab
is lost, and when this process ends.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edgebench.clock import now_s
from edgebench.decoding import UNREADABLE
from edgebench.errors import EdgebenchError
from edgebench.executors.here import ThisMachine
from edgebench.executors.joined import decode_order, encode_reports
from edgebench.executors.measured_machine import MeasuredMachine
from edgebench.executors.orders import Failed, HandedIn, HandIn, KeepPiece, MeasureMachine, Noted, Report, Said
from edgebench.executors.power_meter import Meter
from edgebench.fabric.descriptors import allow_descriptors
from edgebench.fabric.listening import PORTS, Listening
from edgebench.fabric.records import Entry
from edgebench.fabric.tls import Trust
from edgebench.lab.messages import LostError, Order

_TELL_EVERY_S = 0.1
_SIGN_EVERY_S = 10.0


class Link(Protocol):
    """A machine's side of the channel; the lab's `MachineLink` is one."""

    @property
    def trust(self) -> Trust:
        """By which parts here speak TLS."""

    @property
    def address(self) -> str:
        """This machine's own, by which it reaches the lab."""

    def orders(self) -> Iterator[Order]:
        """Each once, in their order; one is carried out when the next is asked for. Raises LostError, after which it
        may be called again, and what ends it for good."""

    def report(self, body: bytes) -> None:
        """Tell the run that holds this machine; from any thread."""

    def upload(self, run_id: str, name: str, path: Path) -> None:
        """Hand a file in."""


def obey(
    link: Link,
    tell: Callable[[str], None],
    folder: Path,
    ports: tuple[int, int] = PORTS,
    sensors: Path | None = None,
    meter: Meter | None = None,
    *,
    once: bool = False,
) -> None:
    """Serve one run after another, until `orders` ends or raises something for good.

    tell: takes lines for whoever looks after this machine. folder: of this machine's runs; what is in it was left by a
    process that was killed, and goes. ports: the first and the last at which parts listen. sensors: the file
    of this machine's. meter: of its power. once: serve one run alone; LostError is for good then. To be called in a
    thread that lasts: parts die with it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    allow_descriptors()
    while True:
        with contextlib.ExitStack() as serving:
            run: _Run | None = None
            try:
                for order in link.orders():
                    if order.body is None or (run is not None and order.run_id != run.run_id):
                        serving.close()
                        run = None
                        if once:
                            return
                    if order.body is not None:
                        run = run or serving.enter_context(
                            _Run(link, tell, order.run_id, folder, ports, sensors, meter)
                        )
                        run.obey(order.body)
                return
            except LostError as error:
                if once:
                    raise
                tell(str(error) if run is None else f"{error}; what runs here is ended")


class _Run:
    """What a run has on this machine, from its first order to its end."""

    def __init__(
        self,
        link: Link,
        tell: Callable[[str], None],
        run_id: str,
        folder: Path,
        ports: tuple[int, int],
        sensors: Path | None,
        meter: Meter | None,
    ) -> None:
        self.run_id = run_id
        self._link = link
        self._tell = tell
        self._folder = folder / run_id
        self._folder.mkdir(mode=0o700, parents=True)
        self._untold: list[Report] = []
        self._untold_lock = threading.Lock()
        listening = Listening(link.address, ports)
        self._machine = ThisMachine(self._folder, self._note, listening, link.trust, sensors, meter, for_runs_only=True)
        self._measured = MeasuredMachine(
            self._folder, self._add, lambda name, path: self._link.upload(self.run_id, name, path)
        )
        self._over = threading.Event()
        self._next_sign_s = math.inf
        """When the run is to hear that a large file is still being handed in."""
        self._thread = threading.Thread(target=self._tell_regularly, name=f"reports of {run_id}", daemon=True)

    def __enter__(self) -> _Run:
        self._tell(f"the run {self.run_id} begins here")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._measured.close()
        self._machine.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._tell(f"the run {self.run_id} has ended here")

    def obey(self, body: bytes) -> None:
        """Carry an order out."""
        try:
            order = decode_order(body)
        except UNREADABLE as error:
            self._add(Failed(f"cannot read an order: {error} (join again with the code of the lab)"))
            return
        match order:
            case HandIn():
                self._hand_in()
            case KeepPiece() | MeasureMachine():
                self._measured.obey(order)
            case _:
                self._machine.send(order)

    def _hand_in(self) -> None:
        self._next_sign_s = now_s() + _SIGN_EVERY_S
        try:
            for name, path in self._machine.left_behind():
                self._link.upload(self.run_id, name, path)
                self._add(HandedIn(name))
        except (EdgebenchError, OSError) as error:
            self._add(Failed(f"cannot hand in what is left of the run: {error}"))
        else:
            self._add(HandedIn())
        finally:
            self._next_sign_s = math.inf

    def _note(self, entry: Entry) -> None:
        self._add(Noted(entry))  # type: ignore[arg-type]

    def _add(self, report: Report) -> None:
        with self._untold_lock:
            self._untold.append(report)

    def _tell_regularly(self) -> None:
        while not self._over.wait(_TELL_EVERY_S - now_s() % _TELL_EVERY_S):  # in time for each full second
            for report in self._machine.reports():
                self._add(report)
            self._measured.look()
            if now_s() > self._next_sign_s:
                self._next_sign_s += _SIGN_EVERY_S
                self._add(Said("hands in what the run has left here"))
            with self._untold_lock:
                untold, self._untold = self._untold, []
            if untold:
                self._link.report(encode_reports(untold))
