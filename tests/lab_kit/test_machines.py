"""Machines of namespaces: what they have of their own, what others see of them, and that nothing of them stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgebench.clock import now_s, sleep_s
from tests.conftest import ROOT
from tests.lab_kit import scan
from tests.lab_kit.machines import PATIENCE_S, Machine, Network, network

SERVES = """
import socket, sys
for address, port in (("0.0.0.0", 8000), ("127.0.0.1", 8001)):
    globals()[f"s{port}"] = socket.create_server((address, port))
print("up", flush=True)
while True:
    with s8000.accept()[0] as caller:
        caller.sendall(b"hello")
"""
CLOCK = "import time; print(time.monotonic())"


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def serving(machine: Machine) -> None:
    task = machine.start(sys.executable, "-c", SERVES)
    assert task.popen.stdout is not None
    assert task.popen.stdout.readline() == "up\n"


def reaches(machine: Machine, other: Machine, within_s: float = 10.0) -> bool:
    """within_s: who has asked in vain for an address asks again after a second, and so may need more than that."""
    code = f"import socket; print(socket.create_connection(('{other.address}', 8000), {within_s}).recv(5))"
    return machine.run(sys.executable, "-c", code, check=False).returncode == 0


def test_of_a_machine_another_sees_what_listens_beyond_its_loopback(net: Network) -> None:
    server, other = net.machine("server"), net.machine("other")
    serving(server)
    seen = json.loads(other.run(sys.executable, scan.__file__, server.address).stdout)
    assert seen == [{"port": 8000, "tls": None, "old_tls": False, "plain": "hello"}]
    assert server.run("hostname").stdout == "server\n"
    assert len(server.left(timeout_s=0.0)) == 1


def test_a_machine_without_power_has_lost_all_that_ran_and_comes_back_at_its_address(net: Network) -> None:
    server, other = net.machine("server"), net.machine("other")
    serving(server)
    assert reaches(other, server)
    running = server.processes()
    server.power_off()
    assert psutil.wait_procs(running, timeout=PATIENCE_S)[1] == []
    server.power_on()
    assert server.left(timeout_s=0.0) == []
    assert not reaches(other, server, 1.0)
    serving(server)
    assert reaches(other, server)


def test_a_machine_comes_back_while_the_kernel_still_has_the_network_it_had(net: Network) -> None:
    server, other = net.machine("server"), net.machine("other")
    with Path(f"/proc/{server._first}/ns/net").open("rb"):  # as long as it is open, its network stays
        server.power_off()
        server.power_on()
    serving(server)
    assert reaches(other, server)


def test_a_cable_can_be_pulled_and_put_back(net: Network) -> None:
    server, other = net.machine("server"), net.machine("other")
    serving(server)
    net.unplug(server)
    assert not reaches(other, server, 1.0)
    net.plug(server)
    assert reaches(other, server)


def test_a_machines_monotonic_clock_can_be_ahead(net: Network) -> None:
    ahead, other = net.machine("ahead", monotonic_ahead_s=5000), net.machine("other")
    theirs_s, own_s = (float(each.run(sys.executable, "-c", CLOCK).stdout) for each in (ahead, other))
    assert 4990.0 < theirs_s - own_s < 5010.0


def test_a_command_of_a_machine_is_ended_there_and_tells_how(net: Network, tmp_path: Path) -> None:
    task = net.machine("one").start("sleep", "1000", log=tmp_path / "log")
    assert task.end() == -signal.SIGTERM


def test_nothing_of_a_network_outlives_the_process_that_made_it() -> None:
    code = """
from tests.lab_kit.machines import network
with network() as net:
    task = net.machine("one").start("sleep", "1000")
    print(task.process.pid, net.machines["one"]._first, net._switch._first, flush=True)
    task.wait(1000)
"""
    maker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    pids = [int(word) for word in maker.stdout.readline().split()]
    maker.kill()
    maker.communicate()
    assert len(pids) == 3
    until_s = now_s() + PATIENCE_S
    while any(psutil.pid_exists(pid) for pid in pids):
        assert now_s() < until_s
        sleep_s(0.01)
