"""What machines observed by clocks of their own stands in the files of a run on the server's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.device import Moved
from edgebench.core.replacing import Replaced
from edgebench.core.tallies import Tally
from edgebench.fabric.records import (
    Began,
    Closed,
    Compared,
    Death,
    Died,
    Elsewhere,
    Entry,
    Hiccup,
    Hiccuped,
    HostUsage,
    HostUsed,
    MachineFacts,
    Opened,
    ReplyRecord,
    Rounded,
    RoundRecord,
    SampleRows,
    Swap,
    Swapped,
    TallySnapshot,
    TookPart,
    Usage,
    Used,
)
from edgebench.fabric.spool import Spool
from edgebench.results import rundir
from edgebench.results.collect import COMMAND_SPOOL, UPLOADS, collect
from edgebench.results.disturbance import disturbance_of
from edgebench.results.observations import Observations
from edgebench.results.server_time import MOST_EXCHANGES
from edgebench.seeds import rng_for
from tests.core.other_clocks import MachineClock, exchanges
from tests.results import factory

PI = MachineClock(5_000 * NS_PER_S + 300_000_000, ppm=100.0)
FACTS = MachineFacts("pi", "aarch64", 4, 4_000, "10.0.0.2")
START_NS = 10 * NS_PER_S


def pi(s: float) -> int:
    """A moment of the server's clock as the other machine stamps it."""
    return PI.own_ns(round(s * NS_PER_S))


def server(s: float) -> object:
    """It is told again to within this."""
    return pytest.approx(round(s * NS_PER_S), abs=0.3 * NS_PER_MS)


def spool(path: Path, *entries: Entry) -> None:
    path.parent.mkdir(exist_ok=True)
    file = Spool(path)
    file.write(*entries)
    file.close()


def run(run_dir: Path, command: list[Entry], **processes: list[Entry]) -> Observations:
    """Of which `bed_0` and `ward_0` are on the other machine, `cloud` is not."""
    compared = exchanges(PI, rng_for(7, "server time"), until_s=40.0)
    always: list[Entry] = [Opened(0, {}), TookPart(FACTS), Compared("pi", compared[:50]), Compared("pi", compared[20:])]
    rundir.write_deployment(run_dir, factory.placed(factory.deployment(), bed_0="pi", ward_0="pi"))
    spool(run_dir / COMMAND_SPOOL, *always, *command)
    for name, entries in processes.items():
        spool(run_dir / UPLOADS / f"{name.replace('_', '-')}.spool", *entries)
    return collect(run_dir)


def test_stamps_of_processes_are_brought_to_the_server_s_clock(tmp_path: Path) -> None:
    swap = Swap("ward-0", "w", "d" * 64, pi(5), pi(6))
    found = run(
        tmp_path,
        [
            Elsewhere("pi", Died(Death("ward-0", 1, pi(12)))),
            Elsewhere("pi", Used(["relay at pi"], Usage(pi(7), 1.0, 5))),
        ],
        cloud=[
            Began(START_NS, 2 * START_NS),
            Used(["cloud"], Usage(START_NS, 1.0, 5)),
            Closed(["cloud"], 0, {"a": "1"}),
        ],
        ward_0=[Swapped(swap), Used(["ward-0"], Usage(pi(8), 1.0, 5)), Closed(["ward-0"], pi(30), {"a": "2"})],
        bed_0=[
            Moved("bed-0", "ward-0", "ward-1", pi(11), pi(11.5), 0),
            Replaced("w", "ward-0", "cloud", "edge", pi(9), 90.0, 30.0, 3, 10.0),
        ],
    )
    assert (found.started_ns, found.usage["cloud"][0].at_ns) == (START_NS, START_NS)
    assert (found.swaps[0].fetched_ns, found.swaps[0].swapped_ns) == (server(5), server(6))
    assert [found.usage[name][0].at_ns for name in ("ward-0", "relay at pi")] == [server(8), server(7)]
    assert (found.moves[0].left_ns, found.moves[0].up_ns) == (server(11), server(11.5))
    assert [(each.at_ns, each.to) for each in found.replacements] == [(server(9), "edge")]
    assert found.deaths[0].at_ns == server(12)
    assert found.versions == {"a": "1"}
    assert found.machines["pi"].versions == {"a": "2"}
    assert found.machines["pi"].facts == FACTS
    assert found.machines["pi"].processes == ["relay at pi", "ward-0"]


def test_records_keep_the_stamps_of_each_machine(tmp_path: Path) -> None:
    row = factory.row(0, 0, scheduled_ns=pi(12), captured_ns=pi(12), sent_ns=pi(12.001), arrived_ns=pi(12.02))
    run(tmp_path, [], bed_0=[SampleRows([row])])
    assert rundir.read_records(tmp_path)["scheduled_ns"].to_pylist() == [pi(12)]


def test_of_a_round_the_client_s_stamps_are_by_its_clock_and_the_others_by_the_server_s(tmp_path: Path) -> None:
    reply = ReplyRecord("bed-0", 11 * NS_PER_S, pi(12), pi(13), pi(14), 15 * NS_PER_S, 1, 1, 1, None)
    failed = ReplyRecord("bed-0", 11 * NS_PER_S, 12 * NS_PER_S, None, None, None, 1, 1, None, "no reply")
    of_site = ReplyRecord("bed-0", pi(16), pi(17), pi(18), pi(19), pi(20), 1, 1, 1, None)
    at_cloud = RoundRecord("w", "cloud", "train", 1, 0, 10 * NS_PER_S, 20 * NS_PER_S, 21 * NS_PER_S, (reply, failed))
    at_edge = RoundRecord("w", "ward-0", "train", 1, 1, pi(15), pi(21), pi(22), (of_site,))
    run(tmp_path, [], cloud=[Rounded(at_cloud)], ward_0=[Rounded(at_edge)])
    cloud, edge = sorted(rundir.read_rounds(tmp_path), key=lambda each: each.server)
    told = cloud.replies[0]
    assert (cloud.started_ns, told.asked_ns, told.arrived_ns) == (10 * NS_PER_S, 11 * NS_PER_S, 15 * NS_PER_S)
    assert (told.delivered_ns, told.started_ns, told.finished_ns) == (server(12), server(13), server(14))
    assert cloud.replies[1] == failed
    assert (edge.started_ns, edge.gathered_ns, edge.ended_ns) == (server(15), server(21), server(22))
    (told,) = edge.replies
    assert (told.asked_ns, told.delivered_ns, told.arrived_ns) == (server(16), server(17), server(20))


def late(part: str, second: int, ms: float) -> Hiccuped:
    """A timer that was always late by so much, in a second of its own machine."""
    return Hiccuped(part, [Hiccup(second, round(ms * NS_PER_MS), round(10 * ms * NS_PER_MS), 10)])


def test_a_second_is_disturbed_if_it_was_on_a_machine_that_samples_pass(tmp_path: Path) -> None:
    # The other machine's second begins when 0.7 s of one of the server's are over.
    second = pi(12) // NS_PER_S
    foreign = HostUsage((second + 1) * NS_PER_S, 1.0, 0.0, 0.6, None, second * NS_PER_S)
    here = HostUsage(13 * NS_PER_S, 1.0, 0.0, 0.6, None, 12 * NS_PER_S)
    counted = TallySnapshot(0, "ward-0", {"w": Tally(decided=1)})
    found = run(
        tmp_path,
        [Elsewhere("pi", HostUsed(foreign)), HostUsed(here)],
        cloud=[late("cloud", 12, 20.0), Used(["cloud"], Usage(0, 0.0, 0))],
        ward_0=[counted, late("ward-0", second, 8.0), Used(["ward-0"], Usage(pi(8), 1.0, 5))],
    )
    by_machine = {each.machine: each.disturbed for each in found.lateness}
    assert by_machine == {"here": 0, "pi": 1}  # of what the server did no sample saw anything
    disturbance = disturbance_of(found)
    assert disturbance is not None
    ((from_ns, to_ns),) = disturbance.spans.tolist()
    assert PI.own_ns(from_ns) == pytest.approx(second * NS_PER_S, abs=0.3 * NS_PER_MS)
    assert to_ns - from_ns == NS_PER_S
    assert found.host_usage == [here]
    (of_pi,) = found.machines["pi"].host_usage
    assert of_pi.since_ns is not None
    assert of_pi.since_ns == pytest.approx(from_ns, abs=0.3 * NS_PER_MS)
    assert of_pi.at_ns == pytest.approx(to_ns, abs=NS_PER_MS)


def test_a_server_with_the_relay_is_passed_by_samples(tmp_path: Path) -> None:
    here = HostUsage(13 * NS_PER_S, 1.0, 0.0, 0.6, None, 12 * NS_PER_S)
    found = run(tmp_path, [HostUsed(here), late("relay", 12, 20.0)], cloud=[Used(["cloud"], Usage(0, 0.0, 0))])
    assert [each.disturbed for each in found.lateness] == [1]


def test_a_relay_that_is_late_among_many_parts_that_idle_disturbs_a_second(tmp_path: Path) -> None:
    here = HostUsage(13 * NS_PER_S, 1.0, 0.0, 0.6, None, 12 * NS_PER_S)
    relay: list[Entry] = [Used(["link relay"], Usage(0, 0.0, 0)), late("link relay", 12, 30.0)]
    idle = [late(f"bed-{number}", 12, 0.0) for number in range(40)]
    found = run(tmp_path, [HostUsed(here), *relay, *idle])
    (second,) = found.lateness
    assert second.mean_ns < NS_PER_MS  # so the mean over all parts does not tell
    assert (second.worst_ns, second.disturbed) == (30 * NS_PER_MS, 1)


def test_a_part_whose_nodes_have_counted_nothing_is_not_passed(tmp_path: Path) -> None:
    here = HostUsage(13 * NS_PER_S, 1.0, 0.0, 0.6, None, 12 * NS_PER_S)
    counted = TallySnapshot(0, "ward-0", {"w": Tally()})
    used = Used(["ward-0"], Usage(0, 0.0, 0))
    idle = [late(f"bed-{number}", 12, 0.0) for number in range(40)]
    found = run(tmp_path, [HostUsed(here), *idle], ward_0=[counted, late("ward-0", 12, 30.0), used])
    assert {(each.worst_ns, each.disturbed) for each in found.lateness} == {(0, 0)}


def test_of_a_long_run_the_quickest_exchanges_are_kept(tmp_path: Path) -> None:
    compared = exchanges(PI, rng_for(7, "long"), until_s=4_000.0, every_s=0.5)
    rundir.write_deployment(tmp_path, factory.placed(factory.deployment(), bed_0="pi"))
    spool(tmp_path / COMMAND_SPOOL, Opened(0, {}), TookPart(FACTS), Compared("pi", compared))
    kept = collect(tmp_path).machines["pi"].exchanges
    assert len(compared) > MOST_EXCHANGES >= len(kept) > MOST_EXCHANGES // 2


def test_of_a_run_that_was_cut_off_at_its_start_nothing_is_known_of_a_machine_s_clock(tmp_path: Path) -> None:
    rundir.write_deployment(tmp_path, factory.placed(factory.deployment(), bed_0="pi"))
    spool(tmp_path / COMMAND_SPOOL, Opened(0, {}))
    assert collect(tmp_path).machines["pi"].exchanges == []
