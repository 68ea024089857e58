"""What faults cost: worked out by hand on one bed and its ward."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edgebench.core.samples import SampleRecord
from edgebench.core.tallies import Tally
from edgebench.fabric.records import Brokered, Death, FaultAsked, Faulted, FaultStep
from edgebench.report.charts import OVER_TIME, latency_chart, with_faults
from edgebench.report.faults_view import fault_tables, summary_lines
from edgebench.results.chunks import Bools, SampleChunk, chunks_of
from edgebench.results.fault_costs import FaultCost, fault_costs, happened_in
from edgebench.results.figures import FaultFigures, Result
from edgebench.results.observations import LastLife
from edgebench.results.rundir import records_table
from edgebench.topology.fault_model import FaultPlan, When
from edgebench.topology.link_model import Outage
from edgebench.topology.model import Durability
from tests.results import factory
from tests.results.factory import at_ms, lost, row

RESTART = FaultPlan("restart", 1.0, for_s=1.0, node="ward-0", entry="faults[0]")


def step(kind: FaultStep, ms: float, fault: int | None = 0, part: str = "ward-0", *nodes: str) -> Faulted:
    return Faulted(None, kind, at_ms(ms), part, nodes or ("ward-0",), fault)


def result(
    plans: list[FaultPlan],
    steps: list[Faulted],
    rows: list[SampleRecord],
    qos: int = 1,
    durability: Durability = "none",
    **observed: Any,
) -> Result:
    deployment = factory.deployment(factory.workload(qos=qos))
    deployment = msgspec.structs.replace(deployment, faults=tuple(plans), durability=durability)
    return factory.result(deployment, factory.observations(faults=steps, **observed), rows)


def came(seq: int, due_ms: float, arrived_ms: float) -> SampleRecord:
    return row(seq, due_ms, arrived_ns=at_ms(arrived_ms))


ROWS = [
    came(0, 500, 520),  # before
    came(1, 990, 1_010),  # on its way
    came(2, 1_500, 2_600),  # during, and late: more than 150 ms
    came(3, 2_100, 2_620),  # after its end, before it has recovered
    came(4, 2_650, 2_670),
]
SILENCE: tuple[tuple[FaultStep, float], ...] = (("silent", 1_000), ("again", 2_000))
KILLED = [step("kill", 1_020), step("start", 2_050)]


def test_a_fault_says_when_it_happened_and_what_it_cost() -> None:
    (figures,) = result([RESTART], KILLED, ROWS).faults
    assert figures == FaultFigures(
        kind="restart",
        target="node",
        name="ward-0",
        asked_s=1.0,
        at_s=1.02,
        until_s=2.05,
        devices=1,
        recovery_s=0.55,
        all_recovered_s=0.55,
        samples=1,
        late=2,
        lost=0,
        slowest_ms=1_100.0,
        entry="faults[0]",
    )


def test_what_was_on_its_way_when_it_happened_counts_and_what_is_lost_after_the_recovery_does_not() -> None:
    rows = [
        came(9, 1_010, 1_030),
        lost(10, 10),
        lost(11, 900),
        lost(12, 1_900),
        *ROWS,
        lost(13, 2_300),
        lost(14, 3_900),
    ]
    found = result([RESTART], KILLED, rows)
    (figures,) = found.faults
    assert (figures.samples, figures.lost) == (4, 3)
    # From 1 s before it to 5 s after; what else is lost counts against the run.
    assert found.verdict.reasons == ["death-risk: 1 of 11 samples was lost beside 4 that faults took (none may be)"]


def test_at_qos_0_what_a_fault_takes_is_no_reason_against_the_run_and_what_else_is_lost_is() -> None:
    rows = [*ROWS, lost(11, 900), lost(12, 1_900)]
    found = result([RESTART], KILLED, rows, qos=0)
    assert found.verdict.valid
    assert "death-risk: 2 of 7 samples were lost to faults, as was to be expected of them" in found.verdict.notes
    found = result([RESTART], KILLED, [*rows, lost(13, 8_000)], qos=0)
    assert found.verdict.reasons == ["death-risk: 1 of 8 samples was lost beside 2 that faults took (none may be)"]


LINK_DOWN = FaultPlan("down", 1.0, for_s=1.0, link="bed-0 -> ward-0")
CUT = [Faulted(LINK_DOWN.link, "down", at_ms(1_000), fault=0), Faulted(LINK_DOWN.link, "up", at_ms(2_000), fault=0)]
DUE_AGAIN = [step("pause", 1_000), step("resume", 2_000)]


@pytest.mark.parametrize(
    ("plan", "steps", "broker", "excused"),
    [
        (RESTART, KILLED, "mosquitto", True),
        (LINK_DOWN, CUT, "nats", True),
        (LINK_DOWN, CUT, "mosquitto", False),
        (FaultPlan("pause", 1.0, for_s=1.0, node="ward-0"), DUE_AGAIN, "nats", False),
    ],
)
def test_what_a_fault_takes_is_a_reason_against_the_run_where_the_durability_promises_that_it_takes_nothing(
    plan: FaultPlan, steps: list[Faulted], broker: Any, excused: bool
) -> None:
    rows, brokers = [*ROWS, lost(9, 1_200)], [Brokered("ward-0", broker, "1")]
    found = result([plan], steps, rows, brokers=brokers)
    assert found.verdict.valid is excused
    lost_note = "death-risk: 1 of 6 samples was lost to faults, as was to be expected of them"
    keeps = "; durability: process keeps them over restarts" if plan.kind == "restart" else ""
    assert found.verdict.notes == ([lost_note + keeps] if excused else [])
    assert not result([plan], steps, rows, durability="process", brokers=brokers).verdict.valid


def test_what_a_device_counted_before_a_restart_and_did_not_live_to_write_down_was_promised_by_durability_alone() -> (
    None
):
    plan = FaultPlan("restart", 1.0, for_s=1.0, node="bed-0")
    agent = "device agent of bed-0"
    dead = Death(agent, -9, at_ms(1_010), nodes=("bed-0",), expected=True, returns=True)
    steps = [step("kill", 1_000, 0, agent, "bed-0"), step("start", 2_000, 0, agent, "bed-0")]
    counted = {"bed-0": {"death-risk": Tally(scheduled=7, sent=7, decided=5)}}
    observed: dict[str, Any] = {"deaths": [dead], "tallies": counted, "closed": ["cloud", "ward-0", "bed-0"]}
    found = result([plan], steps, ROWS, **observed)
    assert found.verdict.valid, found.verdict.reasons
    assert found.verdict.notes[0].startswith("death-risk: 2 of 7 samples were lost to faults")
    assert not result([plan], steps, ROWS, durability="process", **observed).verdict.valid


def test_what_a_device_counted_after_a_restart_and_did_not_write_down_no_fault_has_taken() -> None:
    plan = FaultPlan("restart", 1.0, for_s=1.0, node="bed-0")
    agent = "device agent of bed-0"
    dead = Death(agent, -9, at_ms(1_010), nodes=("bed-0",), expected=True, returns=True)
    steps = [step("kill", 1_000, 0, agent, "bed-0"), step("start", 2_000, 0, agent, "bed-0")]
    found = result(
        [plan],
        steps,
        ROWS,
        deaths=[dead],
        tallies={"bed-0": {"death-risk": Tally(scheduled=7, sent=7, decided=5)}},
        last_lives={"bed-0": LastLife(1, {"death-risk": Tally(scheduled=1, sent=1)})},
        closed=["cloud", "ward-0", "bed-0"],
    )
    assert found.verdict.reasons == ["death-risk: 1 of 7 samples was lost beside 1 that faults took (none may be)"]


def test_what_is_taken_away_for_good_takes_all_that_has_to_pass_it() -> None:
    plan = FaultPlan("kill", 1.0, node="bed-0")
    dead = Death("device agent of bed-0", -9, at_ms(1_010), nodes=("bed-0",), expected=True)
    steps = [step("kill", 1_000, 0, dead.part, "bed-0")]
    # Two that it had counted died with it.
    counted = {"bed-0": {"death-risk": Tally(scheduled=5, sent=5, decided=2)}}
    closed = ["cloud", "ward-0"]
    found = result([plan], steps, [ROWS[0], ROWS[1], lost(2, 995)], deaths=[dead], tallies=counted, closed=closed)
    assert found.verdict.valid, found.verdict.reasons
    assert "death-risk: 3 of 5 samples were lost to faults, as was to be expected of them" in found.verdict.notes
    (figures,) = found.faults
    assert (figures.until_s, figures.recovery_s, figures.lost) == (None, None, 1)


def test_a_node_that_was_started_again_has_to_end_in_good_order() -> None:
    dead = Death("ward-0", -9, at_ms(1_100), nodes=("ward-0",), expected=True, returns=True)
    found = result([RESTART], KILLED, ROWS, deaths=[dead], closed=["cloud", "bed-0"])
    assert found.verdict.reasons[0].startswith("ward-0 did not end in good order")
    found = result([RESTART], KILLED[:1], ROWS, deaths=[dead], closed=["cloud", "bed-0"])
    assert found.verdict.valid


def test_a_fault_that_never_came_about_has_no_time() -> None:
    waits = FaultPlan("kill", when=When("death-risk", decided=0.5), node="bed-0", entry="faults[3]")
    met = FaultPlan("kill", when=When("death-risk", decided=0.2), node="bed-0")
    held = FaultPlan("down", 1.5, for_s=0.1, link="bed-0 -> ward-0")
    found = result([waits, met, held], [step("kill", 700, 1)], ROWS, faults_asked=[FaultAsked(1, at_ms(650))])
    assert [(each.asked_s, each.at_s) for each in found.faults] == [(None, None), (0.65, 0.7), (1.5, None)]
    assert summary_lines(found) == ["1 of 3 faults happened"]
    assert found.verdict.notes[0] == "faults[3]: what it waits for never came about, so nothing befell bed-0 (kill)"


def test_where_two_faults_take_the_same_thing_each_lasts_until_it_is_back() -> None:
    plans = [
        FaultPlan("down", 1.0, for_s=1.0, link="bed-0 -> ward-0"),
        FaultPlan("down", 1.5, for_s=1.0, link="bed-0 -> ward-0"),
    ]
    link = "bed-0 -> ward-0"
    steps = [Faulted(link, "down", at_ms(1_000), fault=0), Faulted(link, "up", at_ms(2_500), fault=1)]
    first, second = result(plans, steps, ROWS).faults
    assert (first.at_s, first.until_s) == (1.0, 2.5)
    assert (second.asked_s, second.at_s, second.until_s) == (1.5, None, None)


def test_cut_links_of_runs_before_faults_had_numbers_are_told() -> None:
    plan = FaultPlan("down", 1.0, for_s=1.0, link="bed-0 -> ward-0")
    steps = [Faulted(plan.link, "down", at_ms(1_001)), Faulted(plan.link, "up", at_ms(2_002))]
    (figures,) = result([plan], steps, ROWS).faults
    assert (figures.at_s, figures.until_s) == (1.001, 2.002)


def test_a_device_that_stands_still_by_a_fault_slips_no_schedule() -> None:
    late = [changed_slip(seq, due_ms=1_000 + 100 * seq, taken_ms=2_000) for seq in range(10)]
    plan = FaultPlan("pause", 1.0, for_s=1.0, node="bed-0")
    steps = [
        step("pause", 990, 0, "device agent of bed-0", "bed-0"),
        step("resume", 2_000, 0, "device agent of bed-0", "bed-0"),
    ]
    assert result([plan], steps, late).verdict.valid
    assert result([], [], late).verdict.kinds == ["load"]


def changed_slip(seq: int, due_ms: float, taken_ms: float) -> SampleRecord:
    return row(seq, due_ms, (taken_ms - due_ms + 1, 3, 2, 4, 5), captured_ns=at_ms(taken_ms))


def test_what_faults_cost_is_the_same_however_the_records_are_cut_up() -> None:
    rows = [*ROWS, lost(11, 900), lost(12, 1_900), lost(13, 2_300)]
    whole = result([RESTART], KILLED, rows).faults
    deployment = msgspec.structs.replace(factory.deployment(factory.workload()), faults=(RESTART,))
    observed = factory.observations(faults=KILLED)
    for order in itertools.islice(itertools.permutations(rows), 0, 5_000, 1_000):
        parts = [factory.folded(deployment, observed, *order[:3]), factory.folded(deployment, observed, *order[3:])]
        parts[0].merge(parts[1])
        assert [each.figures(observed) for each in parts[0].faults.faults] == whole


def test_faults_are_marked_in_charts_over_time_and_stand_in_a_table() -> None:
    deployment = msgspec.structs.replace(factory.deployment(factory.workload()), faults=(RESTART,))
    observed = factory.observations(faults=KILLED)
    found = factory.result(deployment, observed, ROWS)
    timeline = factory.folded(deployment, observed, *ROWS).workloads["death-risk"].timeline
    chart = latency_chart("death-risk", found, timeline)
    assert chart is not None
    marked = with_faults(chart, found.faults)
    shapes = [(shape["type"], shape["x0"], shape["x1"]) for shape in marked["layout"]["shapes"]]
    assert shapes[:2] == [("rect", 1.02, 2.05), ("line", 1.02, 1.02)]
    assert marked["layout"]["annotations"][0]["text"] == "ward-0: restart"
    assert with_faults(chart, []) is chart
    table, rest = fault_tables(found)
    assert table.rows == (("ward-0: restart", "1.00", "1.02", "2.05", "1", "0.55", "0.55", "1", "2", "0", "1,100.0"),)
    assert rest.rows == ()
    assert summary_lines(found) == ["1 of 1 fault happened; decisions came again within 0.55 s of the end of each"]


@pytest.mark.parametrize(("qos", "valid"), [(0, True), (1, False)])
def test_a_link_that_is_there_again_keeps_what_it_promises(qos: int, valid: bool) -> None:
    plan = FaultPlan("down", 1.0, for_s=1.0, link="bed-0 -> ward-0")
    steps = [Faulted(plan.link, "down", at_ms(1_000), fault=0), Faulted(plan.link, "up", at_ms(2_000), fault=0)]
    assert result([plan], steps, [*ROWS, lost(9, 1_200)], qos=qos).verdict.valid is valid


def with_outages(rows: list[SampleRecord], qos: int = 1) -> Result:
    """The bed's link is to be silent for a second at 1 s, and reset at 3 s; it is 2 ms late."""
    deployment = factory.deployment(factory.workload(qos=qos))
    name = "bed-0 -> ward-0"
    link = msgspec.structs.replace(deployment.links[name], outages=(Outage(1.0, 1.0), Outage(3.0, reset=True)))
    deployment = msgspec.structs.replace(deployment, links={**deployment.links, name: link})
    happened: tuple[tuple[FaultStep, float], ...] = (("silent", 1_002), ("again", 2_002), ("reset", 3_002))
    steps = [Faulted(name, kind, at_ms(ms)) for kind, ms in happened]
    return factory.result(deployment, factory.observations(faults=steps), rows)


def test_an_outage_of_a_link_costs_as_a_fault_does() -> None:
    outage, reset = with_outages(ROWS).faults
    assert (outage.kind, outage.target, outage.name, outage.entry) == ("outage", "link", "bed-0 -> ward-0", "links")
    assert (outage.asked_s, outage.at_s, outage.until_s, outage.recovery_s) == (1.0, 1.002, 2.002, 0.598)
    assert (outage.devices, outage.samples, outage.late) == (1, 2, 2)
    assert (reset.kind, reset.asked_s, reset.at_s, reset.until_s, reset.lost) == ("reset", 3.0, 3.002, 3.002, 0)


@pytest.mark.parametrize("due_ms", [1_500, 2_990])
@pytest.mark.parametrize(("qos", "valid"), [(0, True), (1, False)])
def test_what_an_outage_or_a_reset_loses_counts_against_a_run_where_it_was_promised(
    due_ms: float, qos: int, valid: bool
) -> None:
    assert with_outages([*ROWS, lost(9, due_ms)], qos).verdict.valid is valid


def test_links_between_two_groups_have_their_outages_together() -> None:
    deployment = factory.deployment(factory.workload(deciders={"bed-0": "ward-0", "bed-1": "ward-0"}))
    bed = msgspec.structs.replace(deployment.nodes["bed-0"], name="bed-1")
    links = [
        msgspec.structs.replace(deployment.links["bed-0 -> ward-0"], child=child, outages=(Outage(1.0, 1.0),))
        for child in ("bed-0", "bed-1")
    ]
    deployment = msgspec.structs.replace(
        deployment,
        nodes={**deployment.nodes, "bed-1": bed},
        links={**deployment.links, **{link.name: link for link in links}},
    )
    steps = [Faulted(link.name, kind, at_ms(ms)) for link in links for kind, ms in SILENCE]
    (outage,) = factory.result(deployment, factory.observations(faults=steps), ROWS).faults
    assert (outage.name, outage.at_s, outage.until_s, outage.devices) == ("bed -> ward", 1.0, 2.0, 2)


def test_what_is_to_come_back_and_never_does_since_another_fault_takes_it_for_good_is_taken_for_good() -> None:
    plans = [LINK_DOWN, FaultPlan("down", 1.5, link=LINK_DOWN.link)]  # which finds it taken away already
    rows = [ROWS[0], ROWS[1], lost(9, 1_200), lost(10, 4_000)]
    assert result(plans, CUT[:1], rows).verdict.valid
    assert not result(plans[:1], CUT[:1], rows).verdict.valid, "that was promised"
    slower = FaultPlan("degrade", 1.5, link=LINK_DOWN.link)  # for good, and takes nothing
    assert not result([LINK_DOWN, slower], CUT[:1], rows).verdict.valid


def test_a_part_that_was_to_come_back_and_whose_site_is_then_lost_is_taken_for_good() -> None:
    plans = [FaultPlan("restart", 1.0, for_s=5.0, node="bed-0"), FaultPlan("kill", 2.0, site="ward-0")]
    steps = [step("kill", 1_000, 0, "device agent of bed-0", "bed-0"), step("kill", 2_000, 1)]
    deaths = [
        Death("device agent of bed-0", -9, at_ms(1_010), nodes=("bed-0",), expected=True),
        Death("ward-0", -9, at_ms(2_010), nodes=("ward-0",), expected=True),
    ]
    rows = [ROWS[0], lost(1, 1_300)]
    found = result(plans, steps, rows, durability="process", deaths=deaths, closed=["cloud"])
    assert found.verdict.reasons == []


@pytest.mark.parametrize(
    ("taken", "other", "for_good"),
    [
        (FaultPlan("restart", 1.0, for_s=5.0, node="ward-0"), FaultPlan("kill", 2.0, node="ward-0"), True),
        (FaultPlan("restart", 1.0, for_s=5.0, node="bed-0"), FaultPlan("kill", 2.0, site="ward-0"), True),
        (FaultPlan("restart", 1.0, for_s=5.0, broker="ward-0"), FaultPlan("kill", 2.0, site="ward-0"), True),
        (FaultPlan("restart", 1.0, for_s=5.0, site="ward-0"), FaultPlan("kill", 2.0, machine="here"), True),
        (FaultPlan("restart", 1.0, for_s=5.0, node="bed-0"), FaultPlan("kill", 2.0, node="ward-0"), False),
        (FaultPlan("restart", 1.0, for_s=5.0, node="ward-0"), FaultPlan("kill", 0.5, node="ward-0"), False),
        (FaultPlan("restart", 1.0, for_s=5.0, node="ward-0"), FaultPlan("kill", 7.0, node="ward-0"), False),
        (FaultPlan("pause", 1.0, for_s=5.0, node="ward-0"), FaultPlan("disk", 2.0, node="ward-0"), False),
    ],
)
def test_what_is_taken_away_already_is_for_good_where_a_later_fault_takes_as_much(
    taken: FaultPlan, other: FaultPlan, for_good: bool
) -> None:
    deployment = msgspec.structs.replace(factory.deployment(factory.workload()), faults=(taken, other))
    first, _ = happened_in(deployment, factory.observations(faults=[step("kill", 1_000)]))
    assert (first.at_ns, first.until_ns, first.for_good) == (at_ms(1_000), None, for_good)


def test_decisions_that_never_came_again_after_some_faults_are_not_said_to_have() -> None:
    later = FaultPlan("restart", 2.7, for_s=0.1, node="ward-0")
    steps = [*KILLED, step("kill", 2_700, 1), step("start", 2_800, 1)]
    found = result([RESTART, later], steps, ROWS)
    assert [each.recovery_s for each in found.faults] == [0.55, None]
    line = "2 of 2 faults happened; decisions came again within 0.55 s of the end of 1 of the 2 that ended"
    assert summary_lines(found) == [line]


def test_thousands_of_faults_are_drawn_as_what_can_be_told_apart() -> None:
    chart = {"layout": {"xaxis": {"title": {"text": OVER_TIME}}}, "data": []}
    (figures,) = result([RESTART], KILLED, ROWS).faults
    each_s = [replace(figures, at_s=float(at_s), until_s=at_s + 0.25) for at_s in range(10_000)]
    shapes = with_faults(chart, each_s)["layout"]["shapes"]
    bands = [shape for shape in shapes if shape["type"] == "rect"]
    assert 900 < len(bands) <= 1_000
    assert 900 < len(shapes) - len(bands) <= 1_000
    assert sum(band["x1"] - band["x0"] for band in bands) == pytest.approx(2_500)
    crowded = [replace(figures, at_s=number / 20, until_s=number / 20 + 30) for number in range(10_000)]
    bands = [shape for shape in with_faults(chart, crowded)["layout"]["shapes"] if shape["type"] == "rect"]
    assert len(bands) <= 1_000
    assert max(band["x1"] for band in bands) == pytest.approx(9_999 / 20 + 30), "none goes on after the last fault"
    few = with_faults(chart, each_s[:100])["layout"]["shapes"]
    assert [(shape["x0"], shape["x1"]) for shape in few][98:102] == [(98, 98.25), (99, 99.25), (0, 0), (1, 1)]


def test_chunks_that_are_not_near_a_fault_cost_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[FaultCost] = []
    update = FaultCost.update

    def noted(fault: FaultCost, chunk: SampleChunk, mine: Bools, late: Bools) -> None:
        looked.append(fault)
        update(fault, chunk, mine, late)

    monkeypatch.setattr(FaultCost, "update", noted)
    plans = [FaultPlan("restart", 200.0 * number, for_s=1.0, node="ward-0") for number in range(1, 50)]
    killed: tuple[tuple[FaultStep, float], ...] = (("kill", 0), ("start", 1_000))
    steps = [step(kind, 200_000.0 * number + ms, number - 1) for number in range(1, 50) for kind, ms in killed]
    deployment = msgspec.structs.replace(factory.deployment(factory.workload()), faults=tuple(plans))
    observed = factory.observations(faults=steps)
    rows = [came(at_s, 1_000.0 * at_s, 1_000.0 * at_s + 20) for at_s in range(0, 10_000, 50)]
    found = fault_costs(deployment, observed)
    for workload, chunk in chunks_of(records_table(rows).to_batches(max_chunksize=1), deployment.workloads):
        found.update(workload, chunk)
    whole = factory.folded(deployment, observed, *rows).faults.faults
    assert [each.figures(observed) for each in found.faults] == [each.figures(observed) for each in whole]
    assert len(looked) < 200 * 49 / 5
