"""Orders that cross a lab: real servers and links of one, and a machine in a thread that obeys."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
import pytest

from edgebench.clock import now_ns, now_s, sleep_s
from edgebench.core.clocks import Exchange, Offset
from edgebench.executors.faults import CutLink, Kill
from edgebench.executors.here import PROCESSES
from edgebench.executors.joined import JoinedMachine, JoinedMachines, decode_order, encode_reports
from edgebench.executors.orders import (
    AllEnded,
    BeginLinks,
    Counted,
    Emulate,
    End,
    Ended,
    Failed,
    Gone,
    HandedIn,
    HandIn,
    Measured,
    Order,
    Report,
    Said,
    StartRelay,
    Up,
)
from edgebench.executors.plan import Part
from edgebench.executors.runner import obey
from edgebench.fabric.listening import PORTS
from edgebench.fabric.records import Compared, Elsewhere, Entry, Faulted, HostUsed
from edgebench.fabric.relay import Route
from edgebench.lab import joining
from edgebench.lab.machine import MachineLink
from edgebench.lab.messages import MachineReport
from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment, LinkPlan
from edgebench.topology.link_model import Link, Outage
from edgebench.topology.model import NodeGroup, Poisson, Topology, Workload
from tests.lab.labs import Lab, eventually

T = TypeVar("T")

RELAY = Part("link relay of pi", "relay", machine="pi", offers=("mqtt:bed:ward",))
LINK = LinkPlan("bed", "ward", 1.0, 0.0, None, None, "bed -> ward")


class Board:
    """A machine of the lab that obeys, in a thread."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.runs = home / "machine" / "runs"
        with lab.at(home):
            identity = joining.join(lab.url, lab.token(), "pi")
            self._link = MachineLink(identity, lambda _line: None)
        self._thread = threading.Thread(target=lambda: obey(self._link, lambda _line: None, self.runs))

    def __enter__(self) -> Board:
        self._link.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        self._link.interrupt()
        self._thread.join()
        self._link.__exit__(None, None, None)


def deployment(machines: dict[str, str | tuple[str, ...]] | None = None) -> Deployment:
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", parent="cloud"),
            "bed": NodeGroup(tier="device", parent="ward"),
        },
        links=(Link(between=("bed", "ward"), latency_ms=1.0),),
        workloads={"w": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0))},
        machines=machines or {"ward": "pi"},
    )
    return resolve(topology, run_id="run-1", executor="lab")


class Held:
    """A run that holds the board."""

    def __init__(self, lab: Lab, run_dir: Path) -> None:
        self.written: list[Entry] = []
        self.run_dir = run_dir
        self._joined = JoinedMachines(lab.client, deployment(), run_dir, self.written.append)
        self._told: list[Report] = []

    def __enter__(self) -> Held:
        self._joined.__enter__()
        self.pi: JoinedMachine = self._joined.machines["pi"]
        return self

    def __exit__(self, *_: object) -> None:
        self._joined.__exit__()

    def told(self, kind: type[T], within_s: float = 20.0) -> T:
        """The first report of a kind that was not read before, as soon as it is there."""
        until_s = now_s() + within_s
        while now_s() < until_s:
            self._told += self.pi.reports()
            for report in self._told:
                if isinstance(report, kind):
                    self._told.remove(report)
                    return report
            sleep_s(0.02)
        raise AssertionError(f"no {kind.__name__} was told")

    def observed(self, kind: type[Entry]) -> bool:
        """Whether anything of a kind has been observed there."""
        return any(isinstance(each, Elsewhere) and isinstance(each.entry, kind) for each in self.written)

    def start_relay(self) -> None:
        self.pi.send(StartRelay(RELAY, (LINK,), seed=1))
        self.pi.send(Emulate(RELAY.name, (Route("mqtt:bed:ward", (LINK.name,), "127.0.0.1", 9, "opaque"),)))
        assert self.told(Measured).links.keys() == {LINK.name}
        (port,) = self.told(Up).ports.values()
        assert PORTS[0] <= port <= PORTS[1]


@pytest.fixture
def board(lab: Lab, tmp_path: Path) -> Iterator[Board]:
    with Board(lab, tmp_path / "pi") as joined:
        lab.client.hold("run-1", ["pi"], "a test", wait_s=10.0)
        yield joined


def test_a_part_is_started_watched_and_ended_on_a_machine_of_the_lab(lab: Lab, board: Board, tmp_path: Path) -> None:
    with Held(lab, tmp_path / "run") as held:
        held.start_relay()
        held.pi.send(CutLink(LINK.name))
        eventually(
            lambda: any(isinstance(each, Elsewhere) and isinstance(each.entry, Faulted) for each in held.written)
        )
        eventually(
            lambda: any(isinstance(each, Elsewhere) and isinstance(each.entry, HostUsed) for each in held.written)
        )
        assert any(isinstance(each, Compared) and each.machine == "pi" for each in held.written)
        held.pi.send(End((RELAY.name,)))
        assert held.told(Counted).links.keys() == {LINK.name}
        assert held.told(Ended).part == RELAY.name
        assert held.told(AllEnded).parts == (RELAY.name,)
        held.pi.send(HandIn())
        while held.told(HandedIn).name is not None:
            continue
        held.pi.close()
        assert (held.run_dir / "logs" / "pi" / "relay.log").exists()
        lab.client.release("run-1")
        eventually(lambda: lab.info("pi").holder is None)
        assert not (board.runs / "run-1").exists()


def test_what_dies_there_is_told_and_what_still_runs_when_the_run_lets_go_is_ended(
    lab: Lab, board: Board, tmp_path: Path
) -> None:
    with Held(lab, tmp_path / "run") as held:
        held.start_relay()
        held.pi.send(Kill(RELAY.name))
        assert held.told(Ended).status == -9
        held.pi.send(StartRelay(msgspec.structs.replace(RELAY, name="another"), (LINK,), seed=1))
        listed = board.runs / "run-1" / "work" / PROCESSES
        eventually(lambda: len(listed.read_text().splitlines()) == 2)
        pid = int(listed.read_text().splitlines()[1].split()[0])
        lab.client.release("run-1")
        eventually(lambda: lab.info("pi").holder is None)
        assert not psutil.pid_exists(pid)


def test_a_machine_that_leaves_is_gone_for_its_run(lab: Lab, board: Board, tmp_path: Path) -> None:
    with Held(lab, tmp_path / "run") as held:
        held.start_relay()
        board.leave()
        assert "" in held.told(Gone).why
        assert not board.runs.exists() or not list(board.runs.iterdir())


def test_a_machine_that_tells_what_cannot_be_understood_is_lost_and_no_other(lab: Lab, tmp_path: Path) -> None:
    of = deployment({"ward": "pi", "bed": "qi"})
    with lab.link(tmp_path / "pi", "pi") as pi, lab.link(tmp_path / "qi", "qi") as qi:
        lab.client.hold("run-1", ["pi", "qi"], "a test", wait_s=10.0)
        with JoinedMachines(lab.client, of, tmp_path, lambda _entry: None) as machines:
            told: dict[str, list[Report]] = {"pi": [], "qi": []}

            def have_told(name: str, number: int) -> bool:
                told[name] += machines[name].reports()
                return len(told[name]) == number

            pi.link.report(b"no report")
            pi.link.report(encode_reports([AllEnded(("what counts as dead",))]))
            eventually(lambda: have_told("pi", 1))
            (gone,) = told["pi"]
            assert isinstance(gone, Gone)
            assert gone.why.startswith("tells what cannot be understood: ")
            qi.link.report(encode_reports([AllEnded(("what ran there",))]))
            eventually(lambda: have_told("qi", 1))
            assert told["qi"] == [AllEnded(("what ran there",))]
            assert have_told("pi", 1)
        lab.client.release("run-1")


def test_a_device_without_python_that_is_removed_is_told_of(lab: Lab, tmp_path: Path) -> None:
    lab.client.invite_device("esp-1")
    of = deployment()
    nodes = {**of.nodes, "bed": msgspec.structs.replace(of.nodes["bed"], board="esp-1")}
    nodes["ward"] = msgspec.structs.replace(nodes["ward"], machine="here")
    lab.client.hold("run-1", ["esp-1"], "a test")
    joined = JoinedMachines(lab.client, msgspec.structs.replace(of, nodes=nodes), tmp_path, lambda _entry: None)
    with joined as machines:
        assert list(machines) == ["esp-1"]
        assert machines["esp-1"].reports() == []
        lab.client.remove("esp-1")
        found: list[Report] = []
        eventually(lambda: found.extend(machines["esp-1"].reports()) or found)  # type: ignore[func-returns-value]
        assert found == [Gone("was removed from the lab", removed=True)]
        machines["esp-1"].close()


class Channel:
    """To a machine whose clock is `behind_ns` behind the lab's, or was not compared; it keeps what it is given."""

    def __init__(self, behind_ns: int | None) -> None:
        self.behind_ns = behind_ns
        self.sent: list[Order] = []

    def send(self, _run_id: str, _machine: str, order: bytes) -> int:
        self.sent.append(decode_order(order))
        return len(self.sent)

    def clock(self, _machine: str) -> Offset | None:
        return None if self.behind_ns is None else Offset(self.behind_ns, 1000, 0.0, 1.0)

    def reports(self, _run_id: str, _after: int, _wait_s: float) -> list[MachineReport]:
        return []

    def exchanges(self, _machine: str, _after_ns: int) -> list[Exchange]:
        return []

    def files(self, _run_id: str) -> Path:
        raise AssertionError("nothing is handed in")


def test_links_elsewhere_begin_by_the_clock_that_is_there(tmp_path: Path) -> None:
    channel = Channel(behind_ns=5_000)
    pi = JoinedMachine(channel, deployment(), "pi", tmp_path, lambda _entry: None)
    pi.send(BeginLinks(RELAY.name, 12_000))
    assert channel.sent == [BeginLinks(RELAY.name, 7_000)]
    assert pi.reports() == []


def test_a_machine_whose_clock_was_never_compared_cannot_begin_its_links(tmp_path: Path) -> None:
    pi = JoinedMachine(Channel(None), deployment(), "pi", tmp_path, lambda _entry: None)
    pi.send(BeginLinks(RELAY.name, 12_000))
    assert pi.reports() == [Gone("cannot be told anything: its clock was never compared")]


def test_outages_of_links_elsewhere_are_told_as_they_happened(lab: Lab, board: Board, tmp_path: Path) -> None:
    link = msgspec.structs.replace(LINK, outages=(Outage(0.0, 0.1), Outage(0.2, reset=True)))
    with Held(lab, tmp_path / "run") as held, socket.create_server(("127.0.0.1", 0)) as beyond:
        route = Route("mqtt:bed:ward", (LINK.name,), "127.0.0.1", beyond.getsockname()[1], "opaque")
        held.pi.send(StartRelay(RELAY, (link,), seed=1))
        held.pi.send(Emulate(RELAY.name, (route,)))
        (port,) = held.told(Up).ports.values()
        with socket.create_connection(("127.0.0.1", port), 20.0) as across:
            beyond.settimeout(20.0)
            there, _ = beyond.accept()
            with there, contextlib.suppress(ConnectionResetError):
                held.pi.send(BeginLinks(RELAY.name, now_ns()))
                assert across.recv(1) == b""  # by the last of them, which breaks connections
        held.pi.send(End((RELAY.name,)))
        held.told(AllEnded)
        entries = [each.entry for each in held.written if isinstance(each, Elsewhere)]
    assert [each.kind for each in entries if isinstance(each, Faulted)] == ["silent", "again", "reset"]


def test_nothing_is_said_to_a_machine_that_is_gone(lab: Lab, board: Board, tmp_path: Path) -> None:
    """Each try would wait for the lab for half a minute."""
    with Held(lab, tmp_path / "run") as held:
        held.start_relay()
        held.pi.lose("was lost with the lab")
        lab.stop()
        began_s = now_s()
        held.pi.send(End((RELAY.name,)))
        assert now_s() - began_s < 5.0
        lab.serve_again()


def test_an_order_that_is_of_other_code_is_told_and_the_machine_goes_on(lab: Lab, board: Board, tmp_path: Path) -> None:
    with Held(lab, tmp_path / "run") as held:
        lab.client.send("run-1", "pi", b'{"type": "cut", "link": "a -> b", "of another version": 1}')
        assert held.told(Failed).reason.startswith("cannot read an order: ")
        held.start_relay()


def test_a_run_hears_of_a_machine_that_hands_in_for_long(
    lab: Lab, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgebench.executors.runner._SIGN_EVERY_S", 0.3)
    monkeypatch.setattr(MachineLink, "upload", lambda *_: sleep_s(2.0))
    with Held(lab, tmp_path / "run") as held:
        held.start_relay()
        held.pi.send(End((RELAY.name,)))
        held.pi.send(HandIn())
        held.told(Said)
        while held.told(HandedIn).name is not None:
            continue
