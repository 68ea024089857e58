"""Who has died, and whether that ends a run: real processes, and a cloud that says what it is told to."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edgebench.clock import now_ns
from edgebench.errors import FabricError
from edgebench.executors.orders import Ended
from edgebench.executors.plan import Part, PartKind
from edgebench.executors.processes import PartProcess
from edgebench.executors.supervisor import Lost, Supervisor
from edgebench.fabric.child_process import ChildProcess, end_children
from edgebench.fabric.records import Died, Entry, Hiccuped, Invalidated
from edgebench.fabric.slices import LiveState, Phase

WAITS = "import sys; sys.stdin.read()"
AGENTS = ("device agent of bed-0", "device agent of bed-1")


class Cloud:
    """Notes whom it is told of as dead; answers with its phase, or not at all."""

    def __init__(self) -> None:
        self.phase: Phase | None = "running"
        self.dead: list[str] = []

    def state(self) -> LiveState:
        if self.phase is None:
            raise FabricError("no answer")
        return LiveState(self.phase, now_ns(), "", [], [], {})

    def report_dead(self, nodes: list[str]) -> None:
        self.dead += nodes


class Watched:
    """A cloud, an edge, a broker and two agents, that all wait for the end of their standard input."""

    def __init__(self, tmp_path: Path) -> None:
        self.cloud = Cloud()
        self.written: list[Entry] = []
        self._log = tmp_path / "log"
        self.running = [
            self._started("broker of ward", "broker"),
            self._started("cloud", "cloud", "cloud"),
            self._started("ward", "edge", "ward"),
            *(self._started(name, "agent", name.rpartition(" ")[2]) for name in AGENTS),
        ]
        self.supervisor = self.new_supervisor()
        self.lost: list[Lost] = []
        self._told: set[tuple[str, int]] = set()

    def new_supervisor(self) -> Supervisor:
        parts = [each.part for each in self.running]
        return Supervisor(parts, self._ended, self.cloud, lambda _machine, entry: self.written.append(entry))

    def move(self, name: str, machine: str) -> None:
        """To another one, before it is watched."""
        moved = self.named(name)
        moved.part = msgspec.structs.replace(moved.part, machine=machine)
        self.supervisor = self.new_supervisor()

    def _ended(self) -> list[Ended | Lost]:
        found = [
            ended
            for each in self.running
            if (ended := each.ended()) and (ended.part, ended.incarnation) not in self._told
        ]
        self._told |= {(ended.part, ended.incarnation) for ended in found}
        lost, self.lost = self.lost, []
        return [*found, *lost]

    def _started(self, name: str, kind: PartKind, *nodes: str) -> PartProcess:
        with self._log.open("ab") as log:
            process = ChildProcess([sys.executable, "-c", WAITS], lifeline=True, stdin=subprocess.PIPE, stderr=log)
        return PartProcess(Part(name, kind, nodes=nodes, fatal=kind != "agent"), process, self._log)

    def kill(self, name: str, *, expected: bool = False, returns: bool = False) -> None:
        if expected:
            self.supervisor.expect_death(name, returns=returns)
        part = self.named(name)
        part.process.kill()
        assert part.process.wait(30.0)

    def named(self, name: str) -> PartProcess:
        """The last life of a part."""
        return next(each for each in reversed(self.running) if each.part.name == name)

    def start_again(self, name: str) -> None:
        gone = self.named(name)
        again = self._started(name, gone.part.kind, *gone.part.nodes)
        again.incarnation = gone.incarnation + 1
        self.running.append(again)
        self.supervisor.started_again(again.part, again.incarnation)

    def end_well(self) -> None:
        for each in self.running:
            if each.part.nodes:
                each.process.hang_up()

    def watch(self, *then: Callable[[], None]) -> None:
        """Watch to the end; each of `then` is done at one look at the run, one after another."""
        doing = list(then)
        self.supervisor.watch(lambda _live: None, lambda _start_ns: doing.pop(0)() if doing else None)

    def deaths(self) -> dict[str, bool]:
        """By part: was its death expected?"""
        return {entry.death.part: entry.death.expected for entry in self.written if isinstance(entry, Died)}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    running = Watched(tmp_path)
    yield running
    end_children([each.process for each in running.running])


@pytest.mark.parametrize("name", ["broker of ward", "cloud", "ward"])
def test_a_part_that_the_others_cannot_do_without_ends_the_run_when_it_dies(watched: Watched, name: str) -> None:
    watched.watch(lambda: watched.kill(name))
    assert watched.deaths() == {name: False}
    assert watched.cloud.dead == []


def test_a_dead_agent_is_told_to_the_cloud_and_the_run_goes_on_to_its_end(watched: Watched) -> None:
    watched.watch(lambda: watched.kill(AGENTS[0]), lambda: None, watched.end_well)
    assert watched.deaths() == {AGENTS[0]: False}
    assert watched.cloud.dead == ["bed-0"]


@pytest.mark.parametrize("name", ["ward", "broker of ward", AGENTS[0]])
def test_a_death_that_was_expected_ends_nothing_and_is_written_down_as_expected(watched: Watched, name: str) -> None:
    looks: list[str] = []
    watched.watch(lambda: watched.kill(name, expected=True), *[lambda: looks.append("on")] * 3, watched.end_well)
    assert looks == ["on"] * 3
    assert watched.deaths() == {name: True}
    assert watched.cloud.dead == {"ward": ["ward"], AGENTS[0]: ["bed-0"]}.get(name, [])


def test_a_death_beside_an_expected_one_is_not_excused_by_it(watched: Watched) -> None:
    watched.watch(lambda: watched.kill(AGENTS[0], expected=True), lambda: watched.kill("ward"))
    assert watched.deaths() == {AGENTS[0]: True, "ward": False}


@pytest.mark.parametrize("names", [("ward",), AGENTS], ids=["an edge", "all agents"])
def test_whoever_is_started_again_is_waited_for_and_the_cloud_is_not_told(
    watched: Watched, names: tuple[str, ...]
) -> None:
    looks: list[str] = []

    def kill() -> None:
        for name in names:
            watched.kill(name, expected=True, returns=True)

    def start_again() -> None:
        for name in names:
            watched.start_again(name)

    watched.watch(
        kill, *[lambda: looks.append("on")] * 2, start_again, *[lambda: looks.append("on")] * 2, watched.end_well
    )
    assert looks == ["on"] * 4
    assert watched.deaths() == dict.fromkeys(names, True)
    assert watched.cloud.dead == []


def test_whoever_dies_by_itself_after_it_was_started_again_ends_the_run(watched: Watched) -> None:
    def again() -> None:
        watched.start_again("ward")
        watched.kill("ward")

    watched.watch(lambda: watched.kill("ward", expected=True, returns=True), again)
    assert [entry.death.expected for entry in watched.written if isinstance(entry, Died)] == [True, False]


def test_whoever_has_ended_otherwise_than_killed_did_so_by_itself(watched: Watched) -> None:
    def expect_too_late() -> None:
        part = watched.named("ward")
        part.process.ask_to_end()
        assert part.process.wait(30.0)
        watched.supervisor.expect_death("ward", returns=True)

    watched.watch(expect_too_late)
    assert watched.deaths() == {"ward": False}


def test_whoever_does_not_come_back_after_all_is_told_to_the_cloud(watched: Watched) -> None:
    watched.watch(
        lambda: watched.kill(AGENTS[0], expected=True, returns=True),
        lambda: None,
        lambda: watched.supervisor.forsake(watched.named(AGENTS[0]).part),
        lambda: None,
        watched.end_well,
    )
    assert watched.cloud.dead == ["bed-0"]


def test_without_any_agent_a_run_is_over(watched: Watched) -> None:
    def kill_all() -> None:
        for name in AGENTS:
            watched.kill(name)

    watched.watch(kill_all)
    assert watched.deaths() == dict.fromkeys(AGENTS, False)


def test_in_a_run_that_the_cloud_calls_off_parts_that_end_are_no_news(watched: Watched) -> None:
    def call_off() -> None:
        watched.cloud.phase = "aborted"
        watched.kill(AGENTS[0])

    watched.watch(call_off)
    assert watched.deaths() == {}


@pytest.mark.parametrize("removed", [False, True])
def test_a_machine_that_is_lost_is_named_and_one_that_is_removed_ends_the_run(watched: Watched, removed: bool) -> None:
    looks = 0

    def ended() -> list[Lost]:
        nonlocal looks
        looks += 1
        return [Lost("pi", "is not there", removed=removed)] if looks == 3 else []

    parts = [
        msgspec.structs.replace(each.part, machine="pi") for each in watched.running if each.part.name == AGENTS[0]
    ]
    parts += [each.part for each in watched.running if each.part.name != AGENTS[0]]
    watched.supervisor = Supervisor(parts, ended, watched.cloud, lambda _machine, entry: watched.written.append(entry))
    watched.watch(*[lambda: None] * 5, lambda: setattr(watched.cloud, "phase", "aborted"))
    assert watched.cloud.phase == ("running" if removed else "aborted")  # which comes to it in a run that goes on
    (entry,) = watched.written
    assert isinstance(entry, Invalidated)
    assert entry.reason.endswith(f" is not there, and with it {AGENTS[0]}")
    assert watched.cloud.dead == ([] if removed else ["bed-0"])


def test_a_cloud_that_does_not_answer_is_asked_again(watched: Watched) -> None:
    watched.cloud.phase = None
    answering = threading.Timer(0.7, lambda: setattr(watched.cloud, "phase", "running"))
    answering.start()
    watched.watch(watched.end_well)
    answering.join()
    assert watched.deaths() == {}


def test_a_run_leaves_no_thread_in_the_program_that_runs_it(watched: Watched) -> None:
    before = set(threading.enumerate())
    watched.supervisor = watched.new_supervisor()
    watched.watch(watched.end_well)
    assert set(threading.enumerate()) <= before
    assert not any(isinstance(each, Hiccuped) for each in watched.written)


def test_a_part_that_is_to_be_started_again_on_a_machine_that_was_lost_is_waited_for_no_more(watched: Watched) -> None:
    def lose() -> None:
        watched.kill(AGENTS[0])
        watched.lost.append(Lost("pi", "was lost"))

    watched.move(AGENTS[0], "pi")
    watched.watch(
        lose,
        lambda: watched.supervisor.started_again(watched.named(AGENTS[0]).part, 1),
        watched.end_well,
    )
    reasons = [entry.reason for entry in watched.written if isinstance(entry, Invalidated)]
    assert [reason.split()[:2] for reason in reasons] == [["machine", "pi"]]


def test_what_was_to_come_back_on_a_machine_that_is_lost_is_told_to_the_cloud(watched: Watched) -> None:
    watched.move(AGENTS[0], "pi")
    watched.watch(
        lambda: watched.kill(AGENTS[0], expected=True, returns=True),
        lambda: watched.lost.append(Lost("pi", "was lost")),
        lambda: None,
        watched.end_well,
    )
    assert watched.cloud.dead == ["bed-0"]
