"""Traces of links: what is in them, and what is wrong with one, told before a run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgebench.errors import TopologyError
from edgebench.tasks import names
from edgebench.topology import check, link_traces_of, load, resolve
from edgebench.topology.link_model import Outage
from edgebench.topology.link_traces import LinkTraces, RateTrace, for_relay, read_outage_trace, read_rate_trace
from tests.topology.sound import edited

RATE = "each line is a time in ms at which 1,504 bytes may leave"
DELAY = "each line is a delay in ms"
OUTAGE = "each line is when and how long in s, like '12.5 3', with 'reset' behind it where it breaks connections"


def traced(tmp_path: Path, of_link: str, **files: str) -> Path:
    """A topology whose first link has these fields, and its traces beside it."""
    for name, text in files.items():
        (tmp_path / f"{name}.txt").write_text(text)
    file = tmp_path / "traced.yaml"
    file.write_text(edited(("latency_ms: 2}", f"{of_link}}}")))
    return file


def test_a_trace_of_rates_is_in_mahimahis_format(tmp_path: Path) -> None:
    file = tmp_path / "up.txt"
    file.write_text("# LTE\n0\n0\n3\n5\n5\n5\n")
    trace = read_rate_trace(file)
    assert trace == RateTrace(gaps_ms=(0, 3, 2), packets=(2, 1, 3))
    assert trace.mean_mbit_s == pytest.approx(6 * 1504 * 8 / 5e3)


def test_a_trace_of_outages_tells_when_how_long_and_what_breaks(tmp_path: Path) -> None:
    file = tmp_path / "outages.txt"
    file.write_text("1.5 2\n\n10 0 reset\n10 1 reset\n")
    assert read_outage_trace(file) == (Outage(1.5, 2.0), Outage(10.0, reset=True), Outage(10.0, 1.0, reset=True))


def test_a_link_with_traces_resolves_to_their_medians_and_means(tmp_path: Path) -> None:
    fields = "rate_trace: rate.txt, delay_trace: delay.txt, outage_trace: out.txt, outages: [{at_s: 1, reset: true}]"
    delays = "".join(f"{n}\n" for n in range(100))
    file = traced(tmp_path, fields, rate="1\n2\n2\n4\n", delay=delays, out="7 2\n")
    topology = load(file)
    check(topology, file, tasks=names())
    traces = link_traces_of(topology)
    plan = resolve(topology, run_id="r", executor="local", traces=traces).links["bed-0 -> ward-0"]
    assert (plan.latency_ms, plan.jitter_ms, plan.delays_ms) == (50.0, 50.0, (50.0, 90.0, 99.0))
    assert plan.up_mbit_s == plan.down_mbit_s == pytest.approx(12.032)
    assert plan.outages == (Outage(1.0, reset=True), Outage(7.0, 2.0))
    assert plan.shaped
    assert plan.loses
    for_it = for_relay(traces, [plan])
    assert for_it == msgspec.structs.replace(traces, outages={})
    assert for_it.rates[str(tmp_path / "rate.txt")].packets == (1, 2, 1)
    assert for_it.delays[str(tmp_path / "delay.txt")][:3] == [0.0, 1.0, 2.0]
    assert for_relay(traces, []) == LinkTraces()


@pytest.mark.parametrize(
    ("field", "trace", "problem"),
    [
        ("rate_trace", None, "no such file"),
        ("up_trace", "# nothing\n", f"no capacity in it ({RATE})"),
        ("up_trace", "0\n0\n", "all its times are 0 (the last is the time after which it repeats)"),
        ("down_trace", "0\n1\n1.5\n", f"line 3: '1.5' is no whole number ({RATE})"),
        ("down_trace", "3\n-1\n", f"line 2: '-1' is no whole number ({RATE})"),
        pytest.param("up_trace", "1\n" + "9" * 5000, f"line 2: '{'9' * 40}' is too large a number ({RATE})", id="long"),
        ("rate_trace", "3\n\n2\n", "line 3: 2 comes after 3 (sort the times)"),
        ("delay_trace", "", f"no delays in it ({DELAY})"),
        ("delay_trace", "12\nfast\n", f"line 2: 'fast' is no number from 0 to 60,000 ({DELAY})"),
        ("delay_trace", "nan\n", f"line 1: 'nan' is no number from 0 to 60,000 ({DELAY})"),
        ("outage_trace", "1 2 3\n", f"line 1: '1 2 3' is no outage ({OUTAGE})"),
        ("outage_trace", "reset\n", f"line 1: 'reset' is no outage ({OUTAGE})"),
        ("outage_trace", "5 0\n", "line 1: 0 s is no outage (remove the line, or write 'reset' behind it)"),
        (
            "outage_trace",
            "10 2\n",
            "its first outage, at 10 s, is not within the run of 10 s (make it sooner, or raise duration_s)",
        ),
        ("outage_trace", "1 2\n2 1\n", "line 2: 2 s is before 3 s, when the one above ends (sort the lines)"),
    ],
)
def test_a_broken_trace_is_one_line_with_file_place_and_mend(
    field: str, trace: str | None, problem: str, tmp_path: Path
) -> None:
    file = traced(tmp_path, f"{field}: t.txt", **({} if trace is None else {"t": trace}))
    with pytest.raises(TopologyError) as found:
        check(load(file), file, tasks=names())
    assert str(found.value) == f"{file}: $.links[0].{field}: {tmp_path / 't.txt'}: {problem}"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            "delay_trace: t.txt, latency_ms: 3",
            "latency_ms: has no effect beside delay_trace, which is the whole delay (remove",
        ),
        ("up_trace: t.txt, up_mbit_s: 2", "up_trace: stands beside up_mbit_s (remove one of the two)"),
        ("rate_trace: t.txt, rate_mbit_s: 2", "rate_trace: stands beside rate_mbit_s (remove one of the two)"),
        ("rate_trace: t.txt, up_mbit_s: 2", "rate_trace: is both directions at once (give it alone, or up_mbit_s)"),
    ],
)
def test_a_trace_beside_what_it_replaces_is_refused(fields: str, problem: str, tmp_path: Path) -> None:
    file = traced(tmp_path, fields, t="1\n")
    with pytest.raises(TopologyError) as found:
        check(load(file), file, tasks=names())
    assert f"$.links[0].{problem}" in str(found.value)


def test_traces_that_are_too_long_for_an_order_are_refused(tmp_path: Path) -> None:
    file = traced(tmp_path, "delay_trace: t.txt", t="1\n" * 100_001)
    with pytest.raises(TopologyError, match="their traces of delays have 100,001 lines, more than 100,000"):
        check(load(file), file, tasks=names())
