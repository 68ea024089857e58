import math
from typing import Any

import msgspec
import pytest

from edgebench.core.samples import SampleRecord
from edgebench.core.tallies import Tally
from edgebench.fabric.records import Brokered, Death, HostUsage, LinkObserved
from edgebench.results.figures import Verdict
from edgebench.results.observations import Observations
from edgebench.topology.deployment import OnlinePlan, WorkloadPlan
from edgebench.topology.model import Server
from tests.results import factory
from tests.results.factory import SECOND, at_ms, lost, row

# Without labels: what the quality is has no say in the verdict.
ROWS = [row(seq, 10 * seq, label=None) for seq in range(400)]


def _verdict(
    observations: Observations | None = None,
    rows: list[SampleRecord] | None = None,
    plan: WorkloadPlan | None = None,
) -> Verdict:
    deployment = factory.deployment(*([plan] if plan else []))
    return factory.result(deployment, observations or factory.observations(), ROWS if rows is None else rows).verdict


def _slipped(count: int, slip_ms: float) -> list[SampleRecord]:
    late = [row(seq, 10 * seq, label=None, captured_ns=at_ms(10 * seq + slip_ms)) for seq in range(count)]
    return late + ROWS[count:]


def _link(asked: dict[str, float], found: dict[str, float]) -> Observations:
    return factory.observations(links=[LinkObserved("ward-0 -> cloud", asked, found, 1, 1, 1, 1)])


def _one(verdict: Verdict) -> str:
    assert not verdict.valid
    (reason,) = verdict.reasons
    assert "\n" not in reason
    return reason


def test_a_run_in_which_all_went_well_is_valid() -> None:
    assert _verdict() == Verdict(valid=True, reasons=[])


def test_a_lost_sample_makes_a_run_invalid() -> None:
    reason = _one(_verdict(rows=[*ROWS, lost(400, 3_999)]))
    assert reason == "death-risk: 1 of 401 samples was lost (none may be)"


def test_a_generator_that_slips_more_than_a_twentieth_of_its_samples_makes_a_run_invalid() -> None:
    reason = _one(_verdict(rows=_slipped(21, 25.1)))
    assert reason.startswith(
        "death-risk: the load generator slipped its schedule: 21 of 400 samples were taken more than 25 ms late "
        "(p99 25.1 ms; at most 5% may be)"
    )


@pytest.mark.parametrize(("count", "slip_ms"), [(20, 900.0), (400, 25.0)])
def test_a_hiccup_of_a_few_samples_or_of_a_few_ms_does_not(count: int, slip_ms: float) -> None:
    assert _verdict(rows=_slipped(count, slip_ms)).valid


def test_a_long_deadline_forgives_a_longer_slip() -> None:
    assert _verdict(rows=_slipped(40, 40), plan=factory.workload(deadline_ms=1_000)).valid
    assert not _verdict(rows=_slipped(40, 40), plan=factory.workload(deadline_ms=700)).valid


def test_a_few_slipped_samples_of_a_short_run_do_not_make_it_invalid() -> None:
    assert _verdict(rows=_slipped(4, 30)[:20]).valid
    assert not _verdict(rows=_slipped(5, 30)[:20]).valid


def _host(busy: float, stolen: float = 0.0) -> Observations:
    return factory.observations(host_usage=[HostUsage(at_ms(500 * n), busy, stolen) for n in range(8)])


def test_a_host_that_is_full_and_late_was_saturated() -> None:
    reason = _one(_verdict(_host(0.98), _slipped(30, 17)))
    assert reason.startswith(
        "the host was saturated: every core was busy for 100% of the time (limit 50%) and the schedule slipped by "
        "17.0 ms at p95 (limit 16 ms)"
    )


def test_a_host_that_is_full_but_in_time_was_not_saturated() -> None:
    assert _verdict(_host(1.0)).valid


def test_a_host_that_is_late_but_not_full_was_not_saturated() -> None:
    assert _verdict(_host(0.8), _slipped(30, 17)).valid


def test_a_host_that_is_late_because_its_time_is_stolen_makes_a_run_invalid() -> None:
    late = _slipped(30, 17)
    assert _one(_verdict(_host(0.5, 0.12), late)).startswith("the host lost 12% of its CPU time to other guests")
    assert _verdict(_host(0.5, 0.08), late).valid


@pytest.mark.parametrize(("node", "valid"), [("bed_0", False), ("ward_0", True)])
def test_a_full_machine_makes_a_run_invalid_where_it_makes_the_load(node: str, valid: bool) -> None:
    # An edge that is full is what was to be found out; a full host with emulated beds is no bench of boards.
    full = [HostUsage(at_ms(500 * n), 0.98, 0.0) for n in range(8)]
    observed = factory.observations(machines=factory.board("pi", host_usage=full))
    boards = factory.placed(factory.deployment(), **{node: "pi"})
    found = factory.result(boards, observed, _slipped(30, 17)).verdict
    assert found.valid is valid
    assert [reason.partition(":")[0] for reason in found.reasons] == ["machine pi was saturated"] * (not valid)


def test_stolen_time_that_kept_nobody_waiting_does_not() -> None:
    assert _verdict(_host(0.5, 0.3)).valid


def test_outputs_that_are_no_finite_numbers_make_a_run_invalid() -> None:
    broken = [factory.row(seq, 10 * seq, output=[math.nan if seq < 3 else math.inf]) for seq in range(4)]
    (reason,) = _verdict(rows=[*broken, *ROWS[4:]]).reasons
    assert reason.startswith("death-risk: 4 of 400 decisions are not finite numbers (none may be); the model is broken")


def test_each_reason_for_dropping_has_the_mend_that_fits_it() -> None:
    tally = Tally(dropped={"inference-failed": 1, "queue-full": 2, "something-new": 3})
    failed, full, new = _verdict(factory.observations(tallies={"ward-0": {"death-risk": tally}})).reasons
    assert "1 sample was dropped (inference-failed); the model failed" in failed
    assert "rate" not in failed
    assert full.endswith("2 samples were dropped (queue-full); lower the rate, or give the queue more room")
    assert new.endswith("3 samples were dropped (something-new); see the logs of its nodes")


def test_what_is_dropped_may_have_been_decided_when_it_came_again_where_it_was_kept() -> None:
    observed = factory.observations(tallies={"ward-0": {"death-risk": Tally(dropped={"queue-full": 7})}})
    deployment = msgspec.structs.replace(factory.deployment(), durability="process")
    assert factory.result(deployment, observed, ROWS).verdict.valid
    found = factory.result(deployment, observed, [*ROWS, lost(400, 3_999), lost(401, 3_999)]).verdict
    assert found.reasons == [
        "death-risk: 2 of 402 samples were lost (none may be)",
        "death-risk: at most 2 samples were dropped (queue-full); lower the rate, or give the queue more room",
    ]
    assert not factory.result(factory.deployment(), observed, ROWS).verdict.valid
    plain = Tally(dropped={"queue-full": 7}, plain_json=9)
    observed = factory.observations(tallies={"ward-0": {"death-risk": plain}})
    found = factory.result(deployment, observed, ROWS).verdict
    assert found.reasons == [
        "death-risk: at most 7 samples were dropped (queue-full); lower the rate, or give the queue more room"
    ], "what comes in plain JSON nobody keeps"


def test_devices_without_our_software_are_asked_for_their_samples_alone() -> None:
    deployment = factory.deployment()
    bed = msgspec.structs.replace(deployment.nodes["bed-0"], board="esp-1")
    deployment = msgspec.structs.replace(deployment, nodes={**deployment.nodes, "bed-0": bed})
    closed = ["cloud", "ward-0"]
    came = factory.observations(tallies={"ward-0": {"death-risk": Tally(plain_json=3)}}, closed=closed)
    assert factory.result(deployment, came, []).verdict.reasons == []
    silent = factory.result(deployment, factory.observations(closed=closed), []).verdict.reasons
    assert silent == [
        "death-risk: not one sample came of its devices, which run nothing of ours; see what they publish, and where"
    ]


def test_dropped_samples_are_counted_by_reason() -> None:
    observed = factory.observations(tallies={"ward-0": {"death-risk": Tally(dropped={"queue-full": 2})}})
    verdict = _verdict(observed, [*ROWS, lost(400, 3_999), lost(401, 3_999)])
    assert verdict.reasons == [
        "death-risk: 2 of 402 samples were lost, 2 of them dropped (none may be)",
        "death-risk: 2 samples were dropped (queue-full); lower the rate, or give the queue more room",
    ]


def test_a_sample_whose_answer_was_forgotten_is_named_where_it_was_lost_and_only_there() -> None:
    mend = (
        "each was decided, and its answer forgotten before its device had it, or is more than 16,384 behind the last "
        "of its device that was forgotten; shorten the outage, or lower the rate at the node that decides"
    )
    observed = factory.observations(tallies={"ward-0": {"death-risk": Tally(dropped={"answer-gone": 1})}})
    assert _verdict(observed, [*ROWS, lost(400, 3_999)]).reasons == [
        "death-risk: 1 of 401 samples was lost (none may be)",
        f"death-risk: at most 1 sample was dropped (answer-gone); {mend}",
    ]
    assert _verdict(observed).valid  # whoever sent it again had the answer by then
    several = Tally(dropped={"queue-full": 2, "answer-gone": 5})  # of which all were heard, beside two that were lost
    observed = factory.observations(tallies={"ward-0": {"death-risk": several}})
    assert _verdict(observed, [*ROWS, lost(400, 3_999), lost(401, 3_999)]).reasons == [
        "death-risk: 2 of 402 samples were lost, 2 of them dropped (none may be)",
        f"death-risk: at most 2 samples were dropped (answer-gone); {mend}",
        "death-risk: 2 samples were dropped (queue-full); lower the rate, or give the queue more room",
    ]


def test_what_keeps_what_nats_server_loses_is_said_where_it_is_the_broker() -> None:
    rows = [*ROWS, lost(400, 3_999)]
    for kind, bound in (
        ("nats", "none may be; durability: process keeps what nats-server has under way when a connection breaks"),
        ("mosquitto", "none may be"),
    ):
        observed = factory.observations(brokers=[Brokered("ward-0", kind, "1")])  # type: ignore[arg-type]
        assert _verdict(observed, rows).reasons == [f"death-risk: 1 of 401 samples was lost ({bound})"]


def _counted(**counts: Any) -> Observations:
    return factory.observations(tallies=factory.tallies(scheduled=400, sent=400, decided=400, **counts))


def test_a_decision_that_reached_its_device_twice_makes_a_run_invalid() -> None:
    assert _one(_verdict(_counted(duplicated=3))) == "death-risk: 3 decisions reached their device twice (none may)"


def test_a_sample_that_reached_its_decider_twice_and_was_decided_once_does_not() -> None:
    observed = factory.observations(tallies={"ward-0": {"death-risk": Tally(duplicated=3)}})
    assert _verdict(observed).valid


def test_a_decision_that_answers_nothing_makes_a_run_invalid() -> None:
    assert "1 decision answered no sample" in _one(_verdict(_counted(unexpected=1)))


def test_a_sample_sent_by_hand_does_not() -> None:
    observed = factory.observations(tallies={"ward-0": {"death-risk": Tally(plain_json=1)}})
    assert _verdict(observed).valid


def test_rejected_payloads_of_others_do_not_make_a_run_invalid() -> None:
    observed = factory.observations(tallies={"ward-0": {"death-risk": Tally(rejected={"not an envelope": 10_000})}})
    assert _verdict(observed).valid


def test_a_death_is_told_by_its_part_its_signal_and_its_time() -> None:
    killed = Death("ward-0", -9, at_ms(12_300), "INFO connected")
    reason = _one(_verdict(factory.observations(deaths=[killed])))
    assert reason == "edge node ward-0 was killed at 12.3 s by signal 9, SIGKILL; its log is in the run directory"


def test_a_death_at_the_start_is_told_with_its_last_words() -> None:
    failed = Death("cloud", 1, at_ms(-3_000), "Traceback\nEdgebenchError: no such model\n")
    reason = _one(_verdict(factory.observations(deaths=[failed])))
    assert reason == "cloud ended 2.0 s into the start of the run with status 1: EdgebenchError: no such model"


def test_those_that_are_stopped_because_a_part_died_are_not_called_silent() -> None:
    observed = factory.observations(deaths=[Death("broker of ward-0", -9, at_ms(100))], closed=[])
    assert "broker of ward-0 was killed" in _one(_verdict(observed))


def test_a_part_that_a_fault_has_killed_is_no_reason_and_its_nodes_are_not_called_silent() -> None:
    closed = ["cloud", "bed-0"]
    wanted = Death("ward-0", -9, at_ms(100), nodes=("ward-0",), expected=True)
    assert _verdict(factory.observations(deaths=[wanted], closed=closed)).valid
    not_wanted = msgspec.structs.replace(wanted, expected=False)
    assert "ward-0 was killed" in _one(_verdict(factory.observations(deaths=[not_wanted], closed=closed)))


def test_beside_a_part_that_a_fault_has_killed_others_that_fall_silent_are_named() -> None:
    wanted = Death("broker of ward-0", -9, at_ms(100), expected=True)
    reason = _one(_verdict(factory.observations(deaths=[wanted], closed=["cloud", "bed-0"])))
    assert reason.startswith("ward-0 did not end in good order")


def test_a_node_that_did_not_end_in_good_order_is_named() -> None:
    reason = _one(_verdict(factory.observations(closed=["cloud", "bed-0"])))
    assert reason.startswith("ward-0 did not end in good order, so what it saw last is missing")


@pytest.mark.parametrize(("found", "valid"), [(23.4, True), (23.6, False), (16.6, True), (16.4, False)])
def test_a_latency_may_be_off_by_1_ms_a_tenth_and_a_quarter_of_the_jitter(found: float, valid: bool) -> None:
    # 20 ms with 2 ms of jitter: 1 + 2 + 0.5 ms.
    asked = {"latency_ms": 20.0, "jitter_ms": 2.0}
    assert _verdict(_link(asked, {"latency_ms": found, "jitter_ms": 9.0})).valid is valid


def test_the_latency_down_is_held_against_the_same_request() -> None:
    observed = _link({"latency_ms": 20.0}, {"latency_ms": 20.0, "down_latency_ms": 25.0, "down_jitter_ms": 9.0})
    assert _one(_verdict(observed)).startswith("link ward-0 -> cloud: one-way latency down measured 25 ms where 20")


def test_the_latency_of_the_few_lines_of_a_trace_that_are_probed_is_not_held_against_that_of_the_whole() -> None:
    deployment = factory.deployment()
    traced = msgspec.structs.replace(deployment.links["ward-0 -> cloud"], delay_trace="minutes.txt")
    deployment = msgspec.structs.replace(deployment, links={**deployment.links, traced.name: traced})
    observed = _link({"latency_ms": 45.0, "jitter_ms": 70.0, "up_mbit_s": 20.0}, {"latency_ms": 80.0, "up_mbit_s": 9.0})
    (reason,) = factory.result(deployment, observed, ROWS).verdict.reasons
    assert reason.startswith("link ward-0 -> cloud: rate up measured 9 Mbit/s where 20 was asked for")


def test_a_rate_may_be_off_by_a_tenth() -> None:
    assert _verdict(_link({"up_mbit_s": 20.0}, {"up_mbit_s": 18.1})).valid
    assert _one(_verdict(_link({"up_mbit_s": 20.0}, {"up_mbit_s": 17.9}))) == (
        "link ward-0 -> cloud: rate up measured 17.9 Mbit/s where 20 was asked for (limit ±2); "
        "free the machine, or ask for what it can emulate"
    )


def test_what_was_not_measured_is_not_judged() -> None:
    assert _verdict(_link({"up_mbit_s": 20.0, "latency_ms": 20.0}, {})).valid


def test_many_links_that_are_off_are_not_all_named() -> None:
    links = [LinkObserved(f"bed-{n} -> ward-0", {"latency_ms": 2.0}, {"latency_ms": 9.0}, 1, 1, 1, 1) for n in range(8)]
    reasons = _verdict(factory.observations(links=links)).reasons
    assert len(reasons) == 6
    assert reasons[-1] == "3 more link figures are off what was asked for; see the table of links"


def test_a_run_without_a_decision_is_invalid() -> None:
    assert _one(_verdict(rows=[lost(0, 10)])).startswith("death-risk: no decision arrived for any of 1 sample;")


def test_a_workload_without_a_sample_is_invalid() -> None:
    assert _one(_verdict(rows=[])).startswith("death-risk: not one sample was due")


def test_a_server_load_that_misses_its_bound_is_invalid() -> None:
    plan = factory.workload(load=Server(rate_hz=1, p99_ms=14.5))
    assert _one(_verdict(plan=plan)) == "death-risk: p99 15.0 ms misses the bound of 14.5 ms; lower the rate"


def test_a_run_that_was_cut_short_is_invalid() -> None:
    assert _one(_verdict(factory.observations(ended_ns=None))).startswith(
        "the run was cut off before its 4 s were over"
    )
    observed = factory.observations(
        started_ns=None, ended_ns=None, invalidated=["interrupted while models were trained"]
    )
    verdict = _verdict(observed, [])
    assert verdict.reasons[:2] == [
        "interrupted while models were trained",
        "the run ended before its streams started; no figure of it means anything",
    ]


def test_what_invalidated_a_run_stands_in_its_own_words() -> None:
    assert _one(_verdict(factory.observations(invalidated=["interrupted at 2.1 s"]))) == "interrupted at 2.1 s"


def test_decisions_of_a_model_that_was_never_announced_make_a_run_invalid() -> None:
    rows = [*ROWS, row(400, 3_990, digest=SECOND)]
    assert _one(_verdict(rows=rows)) == (
        "death-risk: 1 decision was made by bbbbbbbbbbbb, a model that was never announced"
    )


def test_of_what_is_placed_online_whoever_goes_on_deciding_has_to_take_up_a_model() -> None:
    plan = factory.workload(online=OnlinePlan("edge", 0.2, 1.0))
    models = [factory.model(factory.FIRST, -900, -800, 0.7), factory.model(SECOND, 900, 1_000, 0.8)]

    def reasons(decided: dict[str, tuple[float, str]], *swapped: str) -> list[str]:
        """decided: of a node, when it decided last, and with which model."""
        swaps = [factory.swap(SECOND, 1_100, 1_200, node) for node in swapped]
        observed = factory.observations(ended_ns=at_ms(20_000), models=models, swaps=swaps)
        last = [
            row(400 + seq, due_ms, decider=node, digest=digest)
            for seq, (node, (due_ms, digest)) in enumerate(decided.items())
        ]
        found = factory.result(factory.deployment(plan), observed, [*ROWS, *last]).verdict.reasons
        return [reason.split(" never")[0] for reason in found if "never decided with model bbbb" in reason]

    first = factory.FIRST
    assert reasons({}) == []  # until 4 s, 3 after the model was announced, the edge has decided
    assert reasons({"cloud": (5_900, first)}) == []
    assert reasons({"cloud": (6_100, first)}) == ["death-risk: cloud"]
    assert reasons({"cloud": (6_100, first), "ward-0": (9_000, first)}, "cloud") == ["death-risk: ward-0"]
    assert reasons({"cloud": (6_100, SECOND)}, "cloud") == []


def test_a_model_need_not_be_used_that_another_one_superseded_at_once() -> None:
    third = "c" * 64
    swaps = [factory.swap(factory.FIRST, -900, -800), factory.swap(third, 2_100, 2_200)]

    def never_used(next_ms: float) -> bool:
        models = [factory.model(SECOND, 900, 1_000, 0.8), factory.model(third, next_ms - 100, next_ms, 0.9)]
        observed = factory.observations(ended_ns=at_ms(20_000), models=models, swaps=swaps)
        return any(f"never decided with model {SECOND[:12]}" in reason for reason in _verdict(observed).reasons)

    assert not never_used(next_ms=2_000)
    assert never_used(next_ms=10_000)
