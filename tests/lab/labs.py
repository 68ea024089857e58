"""A lab's server in this process, on loopback, and machines of it in threads or processes, each with a home."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.fabric.brokers.ports import Reservation
from edgebench.lab import joining
from edgebench.lab.addresses import Listen
from edgebench.lab.joining import Identity
from edgebench.lab.machine import MachineLink
from edgebench.lab.messages import LOST_S, LabError, MachineInfo, Order
from edgebench.lab.operator import LabClient
from edgebench.lab.serving import ServedLab
from tests.conftest import ROOT

LOOPBACK = Listen("127.0.0.1", 0)


class Lab:
    """Started at once. `restart` gives the same one anew, at the same port, which is nobody else's until `close`."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._patch = patch
        self._held = Reservation(LOOPBACK.host)
        self.served = self._serve(Listen(LOOPBACK.host, self._held.port))
        self.client: LabClient = self.served.client()

    def restart(self) -> None:
        self.stop()
        self.served = self._serve(None)
        self.client = self.served.client()

    def serve_again(self) -> None:
        """For clients that there are."""
        self.served = self._serve(None)

    def stop(self) -> None:
        self.client.close()
        self.served.stop()

    def close(self) -> None:
        """For good."""
        self.stop()
        self._held.release()

    def _serve(self, listen: Listen | None) -> ServedLab:
        with self.at(self.home):
            return ServedLab(listen).start()

    @property
    def url(self) -> str:
        return str(self.served.url)

    def token(self, **how: float) -> str:
        return self.client.invite("any", **how).join.split()[-1]

    def joined(self, home: Path, name: str | None = None) -> Identity:
        """A machine with this home, by a token of its own."""
        with self.at(home):
            return joining.join(self.url, self.token(), name)

    @contextmanager
    def at(self, home: Path) -> Iterator[None]:
        """As on the machine with this home."""
        with self._patch.context() as patch:
            patch.setenv("EDGEBENCH_HOME", str(home))
            yield

    def link(self, home: Path, name: str | None = None, *, lost_s: float = LOST_S) -> Machine:
        """A machine that has joined, and does what the test says."""
        with self.at(home):
            identity = joining.kept_identity() or joining.join(self.url, self.token(), name)
            return Machine(MachineLink(identity, lambda _: None, lost_s=lost_s))

    def info(self, name: str) -> MachineInfo:
        return next(info for info in self.client.machines() if info.name == name)


class Machine:
    """Takes orders in a thread of its own, and notes them; `answer` may do something about each."""

    def __init__(self, link: MachineLink, answer: Callable[[Order], None] = lambda _: None) -> None:
        self.link = link
        self.answer = answer
        self.orders: list[Order] = []
        self.errors: list[LabError] = []
        self._thread = threading.Thread(target=self._work, name="machine of a test")

    def __enter__(self) -> Machine:
        self.link.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.link.interrupt()
        self._thread.join()
        self.link.__exit__(None, None, None)

    def _work(self) -> None:
        try:
            for order in self.link.orders():
                self.orders.append(order)
                self.answer(order)
        except LabError as error:
            self.errors.append(error)


def eventually(happened: Callable[[], object], within_s: float = 10.0) -> None:
    until_s = now_s() + within_s
    while not happened():
        assert now_s() < until_s, "it has not happened"
        sleep_s(0.02)


def command(home: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """`edgebench …` of the machine with this home, as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgebench.cli", *words],
        env={**os.environ, "EDGEBENCH_HOME": str(home), "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
