"""Computers on this one: namespaces with an address, processes, a name, a clock and, where it is asked for, a disk of
their own, joined by a switch.

Each lives as long as its first process, and that no longer than the thread that made it. When it ends, however it ends,
the kernel ends all others there, and takes network and mounts away: so nothing stays behind a test, whatever dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from edgebench.clock import now_s, sleep_s
from tests.conftest import ROOT
from tests.lab_kit.needs import SYSTEM_PATH, need_root_and

PATIENCE_S = 60.0
_PREFIX = "10.47.0."
_FIRST_PROCESS = """
import signal, socket, sys
for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
socket.sethostname(sys.argv[1])
print("up", flush=True)
while True:
    signal.pause()
"""
"""Whoever is left to it is forgotten at once, which is what ignoring SIGCHLD means."""


class Disk(NamedTuple):
    """A machine's own file system: read-only layers, the uppermost first, and a folder for what it writes. It outlives
    the machine's being off."""

    layers: tuple[Path, ...]
    folder: Path

    @property
    def written(self) -> Path:
        """What the machine has written, laid out as it sees it."""
        return self.folder / "written"


class Task:
    """A command that runs on a machine."""

    def __init__(self, popen: subprocess.Popen[str], log: Path | None) -> None:
        self.popen = popen
        self._log = log

    @property
    def process(self) -> psutil.Process:
        """The command itself, as this computer sees it."""
        until_s = now_s() + PATIENCE_S
        while now_s() < until_s and self.popen.poll() is None:
            below = psutil.Process(self.popen.pid).children()
            if below:
                return below[0]
            sleep_s(0.01)
        raise AssertionError(f"did not start, or has ended with status {self.popen.returncode}: {self.said()}")

    def said(self) -> str:
        """What it has written to its log."""
        return self._log.read_text(errors="replace") if self._log is not None else ""

    def ask_to_end(self, number: int = signal.SIGTERM) -> None:
        """Send the command a signal, and do not wait."""
        self.process.send_signal(number)

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Ask it to end, unless it has, and wait; its exit status, negative for a signal."""
        if self.popen.poll() is None:
            self.ask_to_end()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status, negative for a signal."""
        return self.popen.wait(timeout_s)


class Machine:
    """A computer, off until `power_on`. Without a disk it has this computer's files."""

    def __init__(
        self,
        name: str,
        *,
        network: Network | None = None,
        address: str = "127.0.0.1",
        disk: Disk | None = None,
        monotonic_ahead_s: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """network: to be plugged into; without one it has this computer's own. environment: added to that of commands,
        which is this process's where the machine has no disk of its own."""
        self.name = name
        self.address = address
        self.disk = disk
        self._network = network
        self._ahead_s = monotonic_ahead_s
        own = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        here = {**os.environ, "PATH": SYSTEM_PATH, "PYTHONPATH": str(ROOT)}
        self.environment = {**(own if disk is not None else here), **(environment or {})}
        self._holder: subprocess.Popen[str] | None = None
        self._first = 0
        self._tasks: list[Task] = []

    def power_on(self) -> None:
        """Boot, with an empty memory and whatever its disk has kept."""
        assert self._holder is None, f"{self.name} is on"
        namespaces = ["--mount", "--mount-proc", "--uts", "--pid", "--fork", "--kill-child=KILL"]
        if self._network is not None:
            namespaces.append("--net")
        if self._ahead_s:
            namespaces += ["--time", "--monotonic", str(self._ahead_s), "--boottime", str(self._ahead_s)]
        self._holder = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", *namespaces),
                *(sys.executable, "-I", "-S", "-c", _FIRST_PROCESS, self.name),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": SYSTEM_PATH},
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        assert self._holder.stdout.readline() == "up\n", self._holder.stderr.read()
        self._first = psutil.Process(self._holder.pid).children()[0].pid
        if self._network is not None:
            self._within("ip", "link", "set", "lo", "up")
            self._network.plug_in(self, self._first)
        if self.disk is not None:
            self._mount(self.disk)

    def _mount(self, disk: Disk) -> None:
        root, scratch = disk.folder / "root", disk.folder / "scratch"
        for folder in (root, scratch, disk.written):
            folder.mkdir(parents=True, exist_ok=True)
        layers = ":".join(map(str, disk.layers))
        options = f"lowerdir={layers},upperdir={disk.written},workdir={scratch}"
        self._within("mount", "-t", "overlay", "overlay", "-o", options, str(root))
        self._within("mount", "-t", "proc", "proc", str(root / "proc"))
        self._within("mount", "--rbind", "/dev", str(root / "dev"))

    def power_off(self) -> None:
        """Pull the plug: everything there is killed in the same moment. Off before is fine."""
        if self._holder is None:
            return
        if self._holder.poll() is None:
            os.kill(self._first, signal.SIGKILL)
        for popen in (self._holder, *(task.popen for task in self._tasks)):
            popen.wait(PATIENCE_S)
            for pipe in (popen.stdin, popen.stdout, popen.stderr):
                if pipe is not None:
                    pipe.close()
        self._holder = None
        self._tasks.clear()
        if self._network is not None:
            self._network.take_out(self)

    def command(self, *argv: str) -> list[str]:
        """This computer's command that runs `argv` there; to be given `environment`."""
        enter = ["nsenter", "--target", str(self._first), "--all"]
        if self.disk is not None:
            return [*enter, "chroot", str(self.disk.folder / "root"), "env", "--chdir=/root", *argv]
        return [*enter, "env", f"--chdir={ROOT}", *argv]

    def run(
        self, *argv: str, timeout_s: float = PATIENCE_S, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end; with `check`, a test fails where that does."""
        done = subprocess.run(
            self.command(*argv), input=stdin, capture_output=True, text=True, timeout=timeout_s, env=self.environment
        )
        assert not check or done.returncode == 0, f"{self.name}: {argv}: {done.stdout}{done.stderr}"
        return done

    def start(self, *argv: str, log: Path | None = None, stdin: int = subprocess.DEVNULL) -> Task:
        """Start a command there. log: for all that it says; without one it is for the caller to read from `popen`."""
        out: IO[bytes] | int = subprocess.PIPE if log is None else log.open("ab")
        try:
            popen = subprocess.Popen(
                self.command(*argv), stdin=stdin, stdout=out, stderr=subprocess.STDOUT, text=True, env=self.environment
            )
        finally:
            if not isinstance(out, int):
                out.close()
        self._tasks.append(Task(popen, log))
        return self._tasks[-1]

    def processes(self) -> list[psutil.Process]:
        """All that runs there but its first process."""
        assert self._holder is not None, f"{self.name} is off"
        there = _pid_namespace(self._first)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                there_too = process.pid != self._first and _pid_namespace(process.pid) == there
                if there_too and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def left(self, timeout_s: float = 10.0) -> list[str]:
        """The command lines of what still runs there when that time is over; empty as soon as nothing does."""
        until_s = now_s() + timeout_s
        while (found := self.processes()) and now_s() < until_s:
            sleep_s(0.05)
        lines = []
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                lines.append(" ".join(process.cmdline()))
        return lines

    def _within(self, *argv: str) -> None:
        """A command of this computer, in the machine's namespaces."""
        _run("nsenter", "--target", str(self._first), "--all", *argv)


class Network:
    """A switch and what is plugged into it; nothing of it can be seen from this computer's own network."""

    def __init__(self) -> None:
        self._switch = Machine("switch", network=self)
        self.machines: dict[str, Machine] = {}
        self._ports: dict[str, str] = {}

    def machine(
        self,
        name: str,
        *,
        disk: Disk | None = None,
        monotonic_ahead_s: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> Machine:
        """A machine that is on, and has an address of its own. It is off when the network is closed."""
        number = len(self.machines) + 1
        made = Machine(
            name,
            network=self,
            address=f"{_PREFIX}{number}",
            disk=disk,
            monotonic_ahead_s=monotonic_ahead_s,
            environment=environment,
        )
        self.machines[name] = made
        self._ports[name] = f"port{number}"
        made.power_on()
        return made

    def plug_in(self, machine: Machine, first: int) -> None:
        """Lay a cable to a machine that boots. first: its first process."""
        if machine is self._switch:
            _run(*_at_network(first), "ip", "link", "add", "bridge", "up", "type", "bridge")
            return
        port = self._ports[machine.name]
        # One hardware address for good: others remember it while the machine is off and on again.
        hardware = f"02:00:00:00:00:{int(port.removeprefix('port')):02x}"
        cable = ("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "address", hardware)
        self._do(*cable, "netns", str(first))
        self._do("ip", "link", "set", port, "master", "bridge", "up")
        there = _at_network(first)
        _run(*there, "ip", "address", "add", f"{machine.address}/24", "dev", "eth0")
        _run(*there, "ip", "link", "set", "eth0", "up")

    def take_out(self, machine: Machine) -> None:
        """Take the cable of a machine that is off out of the switch."""
        if machine is not self._switch:
            # The kernel ends a network some time after the last process in it; until then the cable's end is still
            # here, and the machine could not be plugged in again. One that is gone already is what was wanted: before
            # it is looked up by its name, or between that and its end.
            gone = "Cannot find device", "No such device"
            self._do("ip", "link", "delete", self._ports[machine.name], or_says=gone)

    def unplug(self, machine: Machine) -> None:
        """Pull its cable: what is sent either way is lost, and neither side is told."""
        self._do("ip", "link", "set", self._ports[machine.name], "nomaster")

    def plug(self, machine: Machine) -> None:
        """Put its cable back."""
        self._do("ip", "link", "set", self._ports[machine.name], "master", "bridge")

    def open(self) -> None:
        """Switch on."""
        self._switch.power_on()

    def close(self) -> None:
        """Power everything off; what fails at one machine is raised when all are off."""
        with contextlib.ExitStack() as last_first:
            for machine in (self._switch, *self.machines.values()):
                last_first.callback(machine.power_off)

    def _do(self, *argv: str, or_says: tuple[str, ...] = ()) -> None:
        _run(*_at_network(self._switch._first), *argv, or_says=or_says)


@contextmanager
def network() -> Iterator[Network]:
    """A network without machines, for the time of a test; nothing of it is left at the end."""
    need_root_and("unshare", "nsenter", "setpriv", "ip", "mount")
    made = Network()
    try:
        made.open()
        yield made
    finally:
        made.close()


def _at_network(first: int) -> tuple[str, ...]:
    """Before a command of this computer that is to see that machine's network, and this computer's processes."""
    return "nsenter", "--target", str(first), "--net"


def _pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:  # ended meanwhile
        return ""


def _run(*argv: str, or_says: tuple[str, ...] = ()) -> None:
    """Run a command of this computer, to be done well. or_says: what it may say instead, any of these."""
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PATH": SYSTEM_PATH})
    assert done.returncode == 0 or any(each in done.stderr for each in or_says), f"{argv}: {done.stderr}"
