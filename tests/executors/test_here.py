"""What this machine does of what it is asked, and what it tells."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from edgebench.clock import NS_PER_S, now_s, sleep_s
from edgebench.executors import here
from edgebench.executors.faults import CutLink, Kill, MendLink, Pause, Resume
from edgebench.executors.here import PROCESSES, ThisMachine
from edgebench.executors.orders import (
    AllEnded,
    AwaitBroker,
    Counted,
    Emulate,
    End,
    Ended,
    Failed,
    Measured,
    Report,
    StartBroker,
    StartRelay,
    Up,
)
from edgebench.executors.plan import Part
from edgebench.fabric.records import Entry, Faulted, Hiccuped, HostUsed
from edgebench.fabric.relay import Route
from edgebench.topology.deployment import LinkPlan

BROKER = Part("broker of ward", "broker", offers=("mqtt:ward",))
RELAY = Part("link relay", "relay", offers=("mqtt:bed:ward",))
LINK = LinkPlan("bed", "ward", 1.0, 0.0, None, None, "bed -> ward")


def told(machine: ThisMachine, *kinds: type[Report]) -> list[Report]:
    return [each for each in machine.reports() if isinstance(each, kinds or Report)]


def test_a_broker_is_up_when_it_takes_connections_and_its_death_is_told_once(tmp_path: Path) -> None:
    noted: list[Entry] = []
    machine = ThisMachine(tmp_path, noted.append)
    machine.send(StartBroker(BROKER))
    machine.send(AwaitBroker(BROKER.name))
    (up,) = told(machine)
    assert isinstance(up, Up)
    assert up.ports.keys() == {"mqtt:ward"}
    machine.send(Kill(BROKER.name))
    ended: list[Report] = []
    while not ended:
        sleep_s(0.01)
        ended = told(machine)
    (death,) = ended
    assert isinstance(death, Ended)
    assert (death.part, death.status) == (BROKER.name, -9)
    assert [(each.kind, each.part) for each in noted if isinstance(each, Faulted)] == [("kill", BROKER.name)]
    machine.send(End((BROKER.name,)))
    assert told(machine) == [AllEnded((BROKER.name,))]
    assert (tmp_path / "logs" / "broker-ward.log").exists()
    machine.close()


def test_a_broker_that_was_killed_is_started_again_where_it_was_and_stands_still_when_asked_to(tmp_path: Path) -> None:
    noted: list[Entry] = []
    machine = ThisMachine(tmp_path, noted.append)
    machine.send(StartBroker(BROKER))
    machine.send(AwaitBroker(BROKER.name))
    (up,) = told(machine)
    machine.send(Kill(BROKER.name, 3, returns=True))
    machine.send(StartBroker(BROKER, incarnation=1, fault=3))
    machine.send(AwaitBroker(BROKER.name))
    ended, again = told(machine)
    assert isinstance(ended, Ended)
    assert (ended.status, ended.incarnation) == (-9, 0)
    assert again == up
    (pid,) = {int(line.split()[0]) for line in (tmp_path / "work" / PROCESSES).read_text().splitlines()[1:]}
    machine.send(Pause(BROKER.name, 4))
    assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    machine.send(Resume(BROKER.name, 4))
    assert psutil.Process(pid).status() != psutil.STATUS_STOPPED
    machine.send(Pause(BROKER.name, 5))
    machine.send(End((BROKER.name,)))  # which what stands still would not hear
    assert [type(each) for each in told(machine)] == [Ended, AllEnded]
    steps = [(each.kind, each.fault) for each in noted if isinstance(each, Faulted)]
    assert steps == [("kill", 3), ("start", 3), ("pause", 4), ("resume", 4), ("pause", 5)]
    machine.close()


def test_a_relay_is_measured_cut_and_counted(tmp_path: Path) -> None:
    noted: list[Entry] = []
    machine = ThisMachine(tmp_path, noted.append)
    machine.send(StartRelay(RELAY, (LINK,), seed=1))
    machine.send(Emulate(RELAY.name, (Route("mqtt:bed:ward", (LINK.name,), "127.0.0.1", 9, "mqtt"),)))
    measured, up = told(machine)
    assert isinstance(measured, Measured)
    assert measured.links.keys() == {LINK.name}
    assert isinstance(up, Up)
    machine.send(CutLink(LINK.name))
    machine.send(CutLink("bed-7 -> ward"))
    assert told(machine) == [Failed("link 'bed-7 -> ward' is not emulated here")]
    assert [(each.link, each.kind) for each in noted if isinstance(each, Faulted)] == [(LINK.name, "down")]
    hiccuped = [each.part for each in noted if isinstance(each, Hiccuped)]  # as they are told, and not at the end
    assert set(hiccuped) == {RELAY.name}
    sleep_s(0.5)  # in which it wakes 25 times, if others leave it the processor
    machine.send(End((RELAY.name,)))
    counted, ended, over = told(machine)
    assert isinstance(counted, Counted)
    assert isinstance(ended, Ended)
    assert over == AllEnded((RELAY.name,))
    assert len([each for each in noted if isinstance(each, Hiccuped)]) > len(hiccuped)
    machine.close()


def test_a_relay_tells_while_a_run_goes_on_and_one_that_was_killed_is_told_of_as_any_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "_HEARING_EVERY_S", 0.0)
    noted: list[Entry] = []
    machine = ThisMachine(tmp_path, noted.append)
    machine.send(StartRelay(RELAY, (LINK,), seed=1))
    assert told(machine) == []  # it is not up, and not asked
    machine.send(Emulate(RELAY.name, (Route("mqtt:bed:ward", (LINK.name,), "127.0.0.1", 9, "mqtt"),)))
    told(machine)
    until_s = now_s() + 20.0
    while not any(isinstance(each, Hiccuped) for each in noted):
        assert now_s() < until_s
        told(machine)
    process = machine.named(RELAY.name).process
    process.kill()
    assert process.wait(20.0)
    (ended,) = told(machine)
    assert isinstance(ended, Ended)
    machine.close()


def test_what_runs_when_a_machine_is_closed_is_ended(tmp_path: Path) -> None:
    machine = ThisMachine(tmp_path, lambda _entry: None)
    machine.send(StartBroker(BROKER))
    machine.close()
    assert [each.part for each in told(machine) if isinstance(each, Ended)] == [BROKER.name]
    assert not (tmp_path / "work" / "broker-ward" / "broker-ward.store").exists()


def test_after_a_standstill_the_machine_is_sampled_once_and_not_in_a_burst(tmp_path: Path) -> None:
    noted: list[Entry] = []
    machine = ThisMachine(tmp_path, noted.append)
    sleep_s(3.0)
    began_s = now_s()
    for _ in range(25):
        machine.reports()
        sleep_s(0.1)
    spans_ns = [each.usage.at_ns - (each.usage.since_ns or 0) for each in noted if isinstance(each, HostUsed)]
    assert 2 <= len(spans_ns) <= 2 + now_s() - began_s  # one of the standstill, and one for each full second since
    assert min(spans_ns) >= 0.5 * NS_PER_S
    assert max(spans_ns) >= 3.0 * NS_PER_S


def test_what_befalls_a_link_whose_relay_stands_still_does_so_when_that_goes_on(tmp_path: Path) -> None:
    noted: list[Entry] = []
    machine = ThisMachine(tmp_path, noted.append)
    machine.send(StartRelay(RELAY, (LINK,), seed=1))
    machine.send(Emulate(RELAY.name, (Route("mqtt:bed:ward", (LINK.name,), "127.0.0.1", 9, "mqtt"),)))
    told(machine)
    machine.send(Pause(RELAY.name, 1))
    began_s = now_s()
    machine.relay_across(LINK.name).hear()
    machine.send(CutLink(LINK.name, 2))
    machine.send(MendLink(LINK.name, 2))
    assert now_s() - began_s < 5.0, "it was waited for"
    machine.send(Resume(RELAY.name, 1))
    steps = [(each.kind, each.fault) for each in noted if isinstance(each, Faulted)]
    assert steps == [("pause", 1), ("resume", 1), ("down", 2), ("up", 2)]
    machine.send(Pause(RELAY.name, 3))
    machine.send(Kill(RELAY.name, 4))
    machine.send(CutLink(LINK.name, 5))  # nothing passes any more as it is
    ended: list[Report] = []
    until_s = now_s() + 20.0
    while not ended and now_s() < until_s:
        ended += told(machine)
    assert [type(each) for each in ended] == [Ended]
    assert [each.kind for each in noted if isinstance(each, Faulted)][-3:] == ["pause", "kill", "down"]
    machine.close()


def test_a_relay_that_is_being_stopped_is_not_asked_any_more(tmp_path: Path) -> None:
    """Its answer would never come, and would be taken for its death."""
    machine = ThisMachine(tmp_path, lambda _entry: None)
    machine.send(StartRelay(RELAY, (LINK,), seed=1))
    machine.send(Emulate(RELAY.name, (Route("mqtt:bed:ward", (LINK.name,), "127.0.0.1", 9, "mqtt"),)))
    relay = machine.relay_across(LINK.name)
    over = threading.Event()

    def ask_again() -> None:
        while not over.is_set():
            relay.hear()
            sleep_s(0.001)

    asking = ThreadPoolExecutor(1).submit(ask_again)
    machine.send(End((RELAY.name,)))
    over.set()
    asking.result(20.0)
    machine.close()
