"""Links that follow traces, lose packets, or fall silent, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import edgebench
from edgebench.cli import main
from edgebench.core.links import Lane, Losses, Outages, Pipe
from edgebench.core.tcp import TcpFlow, arrivals_ns
from edgebench.experiments.simulate import simulate_with
from edgebench.simulation.layout import Layout
from edgebench.topology.link_model import Outage
from edgebench.topology.model import Topology
from tests.simulation.made import MS, event_driven, laid_out, times, topology, vectorised
from tests.simulation.test_command import TOPOLOGY

S = 1_000 * MS


def ward(link: Mapping[str, Any], *, load: Any, duration_s: float = 10.0, **more: Any) -> Topology:
    """A bed whose link to its ward, which decides, has these fields."""
    nodes = {
        "cloud": {"tier": "cloud"},
        "ward": {"tier": "edge", "parent": "cloud"},
        "bed": {"tier": "device", "parent": "ward"},
    }
    plan = {"source": "bed", "load": load, "batch": {"max_batch": 1}, **more}
    return topology(nodes, {"watch": plan}, links=[{"between": ("bed", "ward"), **link}], duration_s=duration_s, seed=3)


def due_at(folder: Path, *due_ms: float) -> dict[str, str]:
    """A load of samples that fall due then."""
    (folder / "due.txt").write_text("".join(f"{each / 1e3}\n" for each in due_ms))
    return {"kind": "trace", "file": str(folder / "due.txt")}


def sample_bytes(layout: Layout) -> int:
    """Of a sample of 1,000 on its link."""
    return 1_000 + int(layout.arrays.up_bytes[0, layout.fleet.groups["bed"].number])


def test_messages_leave_when_a_trace_lets_them_and_arrive_by_one_of_delays(tmp_path: Path) -> None:
    (tmp_path / "rate.txt").write_text("10\n10\n40\n")  # packets of 1,504 bytes
    (tmp_path / "delays.txt").write_text("5\n7\n")
    link = {"up_trace": str(tmp_path / "rate.txt"), "delay_trace": str(tmp_path / "delays.txt")}
    layout = laid_out(ward(link, load=due_at(tmp_path, 0, 0, 0, 105, 125)), times())
    assert 752 < sample_bytes(layout) < 1_504 - 1_000 // 3  # two take two packets, but three no more than three
    found, _ = vectorised(layout)
    # The third waits for the packet at 40 ms; what is there at 105 for that at 120 (a third one was at 90), the last
    # for that at 130, since the next packet of the third round is at its beginning and 10 ms.
    left_ms = [10, 10, 40, 120, 130]
    delays_ms = [round(at / MS) - left for at, left in zip(found["received_ns"], left_ms, strict=True)]
    assert delays_ms[:3] == [delays_ms[0]] * 3  # what leaves without a pause is delayed alike
    assert {*delays_ms} == {5, 7}
    assert event_driven(layout)[0] == found


def test_what_is_sent_in_an_outage_arrives_when_tcp_tries_again(tmp_path: Path) -> None:
    outage = {"at_s": 1, "for_s": 3}
    due_ms = [500, 1_500, 1_600, 3_900, 4_100, 9_000]
    layout = laid_out(ward({"latency_ms": 20, "outages": [outage]}, load=due_at(tmp_path, *due_ms)), times())
    lanes = [Lane(Pipe(None), 20 * MS, 0, iter(())) for _ in range(2)]
    for lane in lanes:
        lane.losses = Losses(iter(()))
        lane.losses.outages = Outages([Outage(1.0, 3.0)], 0)
    offers = [(round(each * MS), sample_bytes(layout)) for each in due_ms]
    expected = arrivals_ns(TcpFlow((lanes[0],), (lanes[1],), 0), offers)
    found, counts = event_driven(layout)
    assert found["received_ns"] == expected
    assert expected[0] == 520 * MS
    assert expected[1] > 4 * S
    assert None not in found["arrived_ns"]
    assert [link.requested["latency_ms"] for link in counts["links"] if link.name == "bed -> ward"] == [20.0]


def test_a_lone_packet_that_is_lost_costs_what_a_probe_of_tcp_waits() -> None:
    """Samples and decisions are a packet each, far from others: either is lost by its chance, and comes 200 ms late or
    more."""
    link = {"latency_ms": 10, "loss_percent": 5}
    made = ward(link, load={"kind": "fixed", "rate_hz": 0.5}, duration_s=4_000.0)
    found, counts = event_driven(laid_out(made, times()))
    latency_ms = [(arrived - due) / MS for arrived, due in zip(found["arrived_ns"], found["scheduled_ns"], strict=True)]
    late, n, chance = sum(each > 200 for each in latency_ms), len(latency_ms), 1 - 0.95**2
    assert n == 2_000
    assert late == pytest.approx(n * chance, abs=3 * math.sqrt(n * chance * (1 - chance)))
    assert sum(each < 21.1 for each in latency_ms) == n - late
    link_of_bed = counts["links"][-1]
    assert link_of_bed.requested == {"latency_ms": 10.0, "loss_percent": 5.0}
    assert link_of_bed.measured == pytest.approx({"up_loss_percent": 5.0, "down_loss_percent": 5.0}, abs=1.0)


def test_delays_of_which_few_are_long_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "delays.txt").write_text("5\n" * 6 + "80\n")
    link = {"delay_trace": str(tmp_path / "delays.txt")}
    layout = laid_out(ward(link, load={"kind": "fixed", "rate_hz": 2}), times())
    found, _ = vectorised(layout)
    ways_ms = [
        round((received - sent) / MS) for received, sent in zip(found["received_ns"], found["sent_ns"], strict=True)
    ]
    assert (len(ways_ms), {*ways_ms}) == (20, {5, 80})
    assert 2 <= ways_ms.count(80) <= 3
    assert event_driven(layout)[0] == found


@pytest.mark.parametrize("link", [{"loss_percent": 5}, {"outages": [{"at_s": 2, "for_s": 2, "every_s": 5}]}])
@pytest.mark.parametrize(
    "load",
    [{"kind": "single-stream"}, {"kind": "offline", "samples": 300}, {"kind": "poisson", "rate_hz": 20}],
)
@pytest.mark.parametrize("infer", ["edge", "cloud"])
def test_nothing_is_lost_or_twice_behind_a_bad_link(link: Any, load: Any, infer: str) -> None:
    made = ward({"rate_mbit_s": 2, "latency_ms": 5, **link}, load=load, place={"infer": infer}, duration_s=20.0)
    found, counts = event_driven(laid_out(made, times()))
    assert len(found["seq"]) > 20
    assert found["seq"] == list(range(len(found["seq"])))
    assert None not in found["arrived_ns"]
    bed = counts["tallies"]["bed"]["watch"]
    assert (bed.scheduled, bed.decided) == (len(found["seq"]), len(found["seq"]))
    links = {each.name: each for each in counts["links"]}
    assert links["bed -> ward"].up_messages == links["bed -> ward"].down_messages == len(found["seq"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("varying")
    watch = {**TOPOLOGY["workloads"]["watch"], "place": {"infer": "cloud"}}
    links = [{"between": ["ward", "cloud"], "latency_ms": 5, "rate_mbit_s": 20}]
    made = {**TOPOLOGY, "duration_s": 20, "links": links, "workloads": {"watch": watch}}
    (folder / "rate.txt").write_text("0\n7\n7\n30\n")
    (folder / "outages.txt").write_text("1 31\n40 2 reset\n")
    (folder / "ward.yaml").write_text(yaml.safe_dump(made))
    return folder / "ward.yaml"


@pytest.fixture(scope="module")
def run_dir(file: Path) -> Path:
    """A run to calibrate by, simulated itself."""
    return simulate_with(times(), edgebench.load(file), file.parent / "runs")[0]


def test_an_outage_is_among_the_faults_with_what_it_cost(file: Path, run_dir: Path, tmp_path: Path) -> None:
    silent = "links[0].outages=[{at_s: 4, for_s: 2, every_s: 10}]"
    changes = [silent, "links[0].rate_mbit_s=null", "links[0].up_trace=rate.txt"]
    run = edgebench.simulate(edgebench.load(file, changes), calibrate=[run_dir], out=tmp_path)
    watch = run.figures.workloads["watch"]
    assert (watch.scheduled, watch.decided, watch.lost) == (300, 300, 0)
    one, other = run.figures.faults
    assert (one.kind, one.asked_s, other.asked_s) == ("outage", 4.0, 14.0)
    assert one.recovery_s is not None
    assert 0 < one.recovery_s < 4
    assert 20 < one.late < 60
    assert "outage" in run.report.read_text()
    again = edgebench.load_run(run.folder, rebuild=True)
    assert again.figures.faults == run.figures.faults


def test_a_simulation_in_which_a_connection_would_have_broken_is_invalid(
    file: Path, run_dir: Path, tmp_path: Path
) -> None:
    """After an outage of 29 s TCP tries again some 50 s after it began."""
    changes = ["duration_s=90", "links[0].outages=[{at_s: 4, for_s: 29}]"]
    run = edgebench.simulate(edgebench.load(file, changes), calibrate=[run_dir], out=tmp_path)
    assert run.figures.verdict.kinds == ["link"]
    (reason,) = run.figures.verdict.reasons
    assert reason.startswith("links of ward: nothing came through to or from ward for 5")
    assert reason.endswith("(keep-alive 30 s; lose less, or shorten outages)")


def test_groups_that_are_silent_at_a_time_are_told_each(file: Path, run_dir: Path, tmp_path: Path) -> None:
    of_beds = "{between: [bed, ward], shared: true, rate_mbit_s: 10, outages: [{at_s: 5, for_s: 2}]}"
    changes = [f"links=[{{between: [ward, cloud], outages: [{{at_s: 4, for_s: 2}}]}}, {of_beds}]"]
    run = edgebench.simulate(edgebench.load(file, changes), calibrate=[run_dir], out=tmp_path)
    assert run.figures.verdict.valid, run.figures.verdict.reasons
    assert {(each.kind, each.name, each.asked_s, each.devices) for each in run.figures.faults} == {
        ("outage", "ward -> cloud", 4.0, 3),
        ("outage", "bed -> ward", 5.0, 3),
    }
    assert (run.figures.workloads["watch"].decided, run.figures.workloads["watch"].lost) == (300, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["links[0].outages=[{at_s: 1, for_s: 2, reset: true}]"],
            "$.links[0].outages: the simulate executor cannot enforce outages that break connections (leave out",
        ),
        (
            ["links[0].outage_trace=outages.txt"],
            "$.links[0].outage_trace: the simulate executor cannot enforce an outage of 31 s, as MQTT's keep-alive of ",
        ),
        (
            ["nodes.bed.count=10001", "nodes.ward.count=2", "links[0].loss_percent=1"],
            "$.links[0]: packets that get lost, of so many devices or samples (use fewer, or leave loss_percent and",
        ),
        (["links[0].rate_trace=nowhere.txt"], "nowhere.txt: no such file"),
    ],
)
def test_what_links_do_that_no_simulation_does_is_a_line(
    file: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], said: str
) -> None:
    words = [word for change in changes for word in ("--set", change)]
    out = tmp_path / "runs"
    assert main(["simulate", str(file), "--calibrate", str(run_dir), "--out", str(out), *words]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()
