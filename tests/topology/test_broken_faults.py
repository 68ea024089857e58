"""Mistakes in faults and chaos: each is one line with its place and a mend, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.cli import main
from tests.topology.sound import SOUND

LEARNS = "federated: [{workload: risk, rounds: 2}]\n"


def faults(*entries: str) -> str:
    return SOUND + "faults:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries)


def chaos(entry: str) -> str:
    return SOUND + f"chaos: [{{{entry}}}]\n"


BROKEN: dict[str, tuple[str, str]] = {
    "an unknown kind": (
        faults("at_s: 1, kind: restrat, node: bed-0, for_s: 1"),
        (
            "$.faults[0].kind: 'restrat' is not one of clock, degrade, disk, down, join, kill, leave, pause, restart"
            " (did you mean 'restart'?)"
        ),
    ),
    "no time": (faults("kind: kill, node: bed-0"), "$.faults[0]: says no time (give one of at_s, when, trace)"),
    "two times": (
        faults("kind: kill, node: bed-0, at_s: 1, when: {workload: risk, decided: 0.5}"),
        "$.faults[0]: says at_s and when (give one of at_s, when, trace)",
    ),
    "after the end": (
        faults("kind: restart, node: bed-0, at_s: 8, for_s: 3"),
        "$.faults[0].for_s: is over at 11 s, after the run of 10 s (shorten it)",
    ),
    "a restart without an end": (
        faults("kind: restart, node: bed-0, at_s: 8"),
        "$.faults[0].for_s: is missing: 'restart' has an end",
    ),
    "a kill with an end": (
        faults("kind: kill, node: bed-0, at_s: 8, for_s: 1"),
        "$.faults[0].for_s: 'kill' is for good (remove it, or use restart)",
    ),
    "over and over without an end": (
        faults("kind: kill, node: bed-0, at_s: 1, every_s: 2"),
        "$.faults[0].every_s: 'kill' is for good (remove it, or use restart)",
    ),
    "over and over without a length": (
        faults("kind: down, link: bed-0 -> ward-0, at_s: 1, every_s: 2"),
        "$.faults[0].every_s: repeats what has an end (give for_s, or remove it)",
    ),
    "over and over too soon": (
        faults("kind: pause, node: bed-0, at_s: 1, every_s: 2, for_s: 2"),
        "$.faults[0].every_s: 2 s is over before the 2 s of each (lengthen it)",
    ),
    "a site that is a device": (
        faults("kind: kill, site: bed-0, at_s: 1"),
        "$.faults[0].site: 'bed-0' is of tier device (name an edge)",
    ),
    "a broker that is not there": (
        faults("kind: kill, broker: wrad-0, at_s: 1"),
        "$.faults[0].broker: no node 'wrad-0' (did you mean 'ward-0'?)",
    ),
    "the cloud killed": (
        faults("kind: kill, node: cloud, at_s: 1"),
        "$.faults[0].node: the cloud steers the run, which would end with it (pause it, or restart its broker)",
    ),
    "a broker of one's own": (
        faults("kind: restart, broker: ward-0, at_s: 1, for_s: 1") + "broker: {url: 'mqtt://host'}\n",
        "$.faults[0].broker: broker.url names one of your own, which no run ends (remove one of the two)",
    ),
    "a round without a federation": (
        faults("kind: kill, node: bed-0, when: {workload: risk, round: 1}"),
        "$.faults[0].when.round: 'risk' has no federation (give federated, or another condition)",
    ),
    "a round that there is not": (
        faults("kind: kill, node: bed-0, when: {workload: risk, round: 3}") + LEARNS,
        "$.faults[0].when.round: there are 2 rounds (lower it)",
    ),
    "a roll-out that there is not": (
        faults("kind: kill, node: bed-0, when: {workload: risk, rollout: 1}"),
        "$.faults[0].when.rollout: 'risk' has 0 roll-outs (add one, or lower it)",
    ),
    "a condition on nothing": (
        faults("kind: kill, node: bed-0, when: {workload: rsik, decided: 0.5}"),
        "$.faults[0].when.workload: no workload 'rsik' (did you mean 'risk'?)",
    ),
    "no condition": (
        faults("kind: kill, node: bed-0, when: {workload: risk}"),
        "$.faults[0].when: says no condition (give one of round, rollout, decided)",
    ),
    "a share beyond all": (
        faults("kind: kill, node: bed-0, when: {workload: risk, decided: 1.5}"),
        "$.faults[0].when.decided: 1.5 is not a number <= 1",
    ),
    "a device that joins when others may": (
        faults("kind: join, node: bed-0, at_s: 1, every_s: 2"),
        "$.faults[0].every_s: a device is to join at one time (give at_s)",
    ),
    "an edge that joins": (
        faults("kind: join, node: ward-0, at_s: 1"),
        "$.faults[0].node: 'ward-0' is no device (name a device, or a group of them)",
    ),
    "who joins twice": (
        faults("kind: join, node: bed, at_s: 1", "kind: join, node: bed-1, at_s: 2"),
        "$.faults[1]: 'bed-1' is to join twice (let it leave between)",
    ),
    "degraded to nothing": (
        faults("kind: degrade, link: bed-0 -> ward-0, at_s: 1, to: {}"),
        "$.faults[0].to: is missing: say what becomes of the link, as {latency_ms: 200}",
    ),
    "a change of what is cut": (
        faults("kind: down, link: bed-0 -> ward-0, at_s: 1, to: {latency_ms: 2}"),
        "$.faults[0].to: has no effect with kind 'down' (use degrade, or remove it)",
    ),
    "more jitter than latency": (
        faults("kind: degrade, link: bed-0 -> ward-0, at_s: 1, to: {jitter_ms: 3}"),
        "$.faults[0].to: of bed -> ward: 3 ms of jitter around a latency of 2 ms (must not be larger)",
    ),
    "a rate of nothing": (
        chaos("kind: degrade, links: [bed -> ward], rate_per_h: 10, to: {up_mbit_s: 0}"),
        "$.chaos[0].to.up_mbit_s: 0 is not a number >= 0.001",
    ),
    "the disk of who keeps nothing": (
        faults("kind: disk, node: bed-0, at_s: 1, for_s: 1"),
        "$.faults[0]: 'bed-0' keeps nothing on disk (give durability: process, or remove the fault)",
    ),
    "chance that fills the disk of who keeps nothing": (
        chaos("kind: disk, nodes: [ward-0], rate_per_h: 3600, for_s: [0.1, 0.1]"),
        "$.chaos[0]: 'ward-0' keeps nothing on disk (give durability: process, or remove the fault)",
    ),
    "a step of what is no clock": (
        faults("kind: join, node: bed-0, at_s: 1, by_ms: 5"),
        "$.faults[0].by_ms: is for kind clock (remove it)",
    ),
    "chance that steps clocks": (
        chaos("kind: clock, nodes: [ward], rate_per_h: 10"),
        "$.chaos[0].kind: 'clock' is no matter of chance (say when: faults)",
    ),
    "chance that fills the disk of the cloud": (
        chaos("kind: disk, nodes: [cloud], rate_per_h: 10, for_s: [1, 2]"),
        "$.chaos[0].nodes[0]: the cloud's disk holds the run itself (name an edge or a device)",
    ),
    "chance that holds the cloud up": (
        chaos("kind: pause, nodes: [cloud], rate_per_h: 10, for_s: [1, 30]").replace(
            "duration_s: 10", "duration_s: 100"
        ),
        "$.chaos[0].for_s: the cloud may be paused for 20 s at most, not 30 s",
    ),
    "chaos that does not fit": (
        chaos("kind: restart, nodes: [ward], rate_per_h: 10, for_s: [4, 6], from_s: 7"),
        "$.chaos[0].for_s: the shortest, 4 s, does not fit into 3 s (shorten it)",
    ),
    "a clock that is not stepped": (
        faults("kind: clock, machine: pi, at_s: 1"),
        "$.faults[0].by_ms: is missing: say how far it is stepped on",
    ),
    "the clock of a node": (
        faults("kind: clock, node: ward-0, at_s: 1, by_ms: 100"),
        "$.faults[0].kind: 'clock' is for a machine, not for a node",
    ),
    "a clock that goes back": (
        faults("kind: clock, machine: pi, at_s: 1, by_ms: -5"),
        "$.faults[0].by_ms: -5 is not a number > 0",
    ),
    "the disk of the cloud": (
        faults("kind: disk, node: cloud, at_s: 1, for_s: 1"),
        "$.faults[0].node: the cloud's disk holds the run itself (name an edge or a device)",
    ),
    "chance that joins": (
        chaos("kind: join, rate_per_h: 10, nodes: [bed]"),
        "$.chaos[0].kind: 'join' is no matter of chance (say when: faults)",
    ),
    "a trace of a link": (
        faults("kind: down, trace: churn.txt"),
        "$.faults[0].kind: 'down' does not follow a trace (use pause or restart)",
    ),
    "chaos on nothing": (
        chaos("kind: restart, rate_per_h: 10, for_s: [1, 2]"),
        "$.chaos[0]: names nothing (give nodes or sites or brokers)",
    ),
    "chaos of the wrong things": (
        chaos("kind: down, rate_per_h: 10, for_s: [1, 2], nodes: [ward]"),
        "$.chaos[0]: names nodes (give links)",
    ),
    "chaos on an unknown group": (
        chaos("kind: restart, rate_per_h: 10, for_s: [1, 2], nodes: [ward, bde]"),
        "$.chaos[0].nodes[1]: no node 'bde' (known: cloud, ward-0, ward-1, bed-0, bed-1, bed-2)",
    ),
    "chaos turned round": (
        chaos("kind: restart, rate_per_h: 10, for_s: [3, 2], nodes: [ward]"),
        "$.chaos[0].for_s: [3, 2] ends before it begins (swap the two)",
    ),
    "chaos after the end": (
        chaos("kind: restart, rate_per_h: 10, for_s: [1, 2], nodes: [ward], from_s: 10"),
        "$.chaos[0].from_s: nothing is left from 10 s on (lower it)",
    ),
    "started again too often": (
        faults("kind: restart, node: ward-0, at_s: 0, every_s: 0.01, for_s: 0.005"),
        "$.faults[0]: 'ward-0' would be started again 1,000 times, more than 500 (have fewer)",
    ),
    "too much of it": (
        chaos("kind: down, rate_per_h: 3600, for_s: [0.001, 0.001], links: [bed -> ward]").replace(
            "duration_s: 10", "duration_s: 5000"
        ),
        "$.chaos[0].rate_per_h: makes some 15,000 faults, more than 10,000 (lower it)",
    ),
}

TRACES: dict[str, tuple[str, str]] = {
    "words": ("1 bed-0\n", "line 1: '1 bed-0' is none (write: TIME NODE down, or TIME NODE up)"),
    "a state": ("1 bed-0 off\n", "line 1: '1 bed-0 off' is none (write: TIME NODE down, or TIME NODE up)"),
    "a time": ("# away\n\nx bed-0 down\n", "line 3: 'x' is no number (write a time in s)"),
    "order": ("2 bed-0 down\n1 bed-0 up\n", "line 2: 1 comes after 2 (sort the times)"),
    "twice": ("1 bed-0 down\n2 bed-0 down\n", "line 2: 'bed-0' is down already"),
    "never down": ("1 bed-0 up\n", "line 1: 'bed-0' is up already"),
    "nothing": ("# nothing\n", "nobody is ever down in it (write: TIME NODE down, or TIME NODE up)"),
    "after the end": ("10 bed-0 down\n", "nobody is away within the run of 10 s (write times in s)"),
    "a stranger": ("1 bed-9 down\n", "no node 'bed-9' (did you mean 'bed-2'?)"),
    "the cloud": ("1 cloud down\n", "'cloud' is the cloud, which steers the run (remove its lines)"),
}


def told(file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["validate", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("wrong", BROKEN)
def test_a_fault_that_cannot_be_is_one_line(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, problem = BROKEN[wrong]
    (file := tmp_path / "broken.yaml").write_text(text)
    assert told(file, capsys) == f"{file}: {problem}"


@pytest.mark.parametrize("wrong", TRACES)
def test_a_broken_availability_trace_is_one_line(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, problem = TRACES[wrong]
    (trace := tmp_path / "churn.txt").write_text(text)
    (file := tmp_path / "broken.yaml").write_text(faults("kind: restart, trace: churn.txt"))
    assert told(file, capsys) == f"{file}: $.faults[0].trace: {trace}: {problem}"


def test_an_availability_trace_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "broken.yaml").write_text(faults("kind: restart, trace: churn.txt"))
    assert told(file, capsys) == f"{file}: $.faults[0].trace: {tmp_path / 'churn.txt'}: no such file"
