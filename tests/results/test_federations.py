"""Figures of federations: worked out by hand from made-up rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgebench.fabric.records import AppMetrics, Partitioned, ReplyRecord, RoundRecord, RoundScored
from edgebench.report import federated_view
from edgebench.report.page import write_report
from edgebench.results import rundir
from edgebench.results.federated_figures import FederatedFigures
from edgebench.results.figures import Result
from edgebench.results.observations import Observations
from edgebench.topology.deployment import Deployment, FederatedPlan
from edgebench.topology.model import Federated
from tests.results import factory
from tests.results.factory import at_ms

ROWS = [factory.row(seq, 1_000 + 10 * seq) for seq in range(100)]
"""Samples due from 1,000 to 1,990 ms, each with 15 ms of latency."""


def deployment(**how: Any) -> Deployment:
    plan = FederatedPlan(
        how=Federated(**{"workload": "death-risk", "rounds": 2, **how}),
        clients=("bed-0",),
        edges={"ward-0": ("bed-0",)},
    )
    return msgspec.structs.replace(factory.deployment(), federated={"death-risk": plan})


def reply(node: str = "bed-0", **changes: Any) -> ReplyRecord:
    """Asked at 1,000 ms, delivered at 1,010, learns from 1,015 to 1,115, back at 1,130."""
    stamps = (at_ms(1_000), at_ms(1_010), at_ms(1_015), at_ms(1_115), at_ms(1_130))
    return msgspec.structs.replace(ReplyRecord(node, *stamps, 4_000, 5_000, 96, None), **changes)


def held(number: int = 1, *replies: ReplyRecord, **changes: Any) -> RoundRecord:
    """A round of the cloud from 1,000 to 1,150 ms, gathered at 1,140."""
    record = RoundRecord(
        workload="death-risk",
        server="cloud",
        kind="train",
        number=number,
        inner=0,
        started_ns=at_ms(1_000),
        gathered_ns=at_ms(1_140),
        ended_ns=at_ms(1_150),
        replies=replies or (reply(),),
    )
    return msgspec.structs.replace(record, **changes)


def scored(number: int, auroc: float) -> RoundScored:
    return RoundScored("death-risk", number, {"auroc": auroc, "auprc": 0.3})


def result(*rounds: RoundRecord, observed: Observations | None = None, **how: Any) -> Result:
    return factory.result(deployment(**how), observed or factory.observations(), ROWS, rounds)


def app_run(*rounds: RoundRecord, observed: Observations | None = None) -> Result:
    """The result of a run whose federation is an app of the user's own."""
    return result(*rounds, observed=observed, app="apps/tiny", rounds=None)


def federation(*rounds: RoundRecord, observed: Observations | None = None, **how: Any) -> FederatedFigures:
    return result(*rounds, observed=observed, **how).federated["death-risk"]


def test_a_round_is_timed_along_the_client_that_answered_last() -> None:
    early = reply("ward-0", arrived_ns=at_ms(1_050))
    (figures,) = federation(held(1, early, reply())).rounds
    assert figures.duration_s == pytest.approx(0.150)
    assert figures.started_s == pytest.approx(1.0)
    assert figures.phases_s is not None
    assert msgspec.structs.astuple(figures.phases_s) == pytest.approx((0.010, 0.005, 0.100, 0.015, 0.010, 0.010))
    assert sum(msgspec.structs.astuple(figures.phases_s)) == pytest.approx(figures.duration_s)


def test_a_buffered_round_counts_nothing_that_was_before_it() -> None:
    # Its one client was asked at 1,000 ms, when the round before was still going on; it began to learn at 1,015.
    late = held(2, started_ns=at_ms(1_120))
    (figures,) = federation(late, mode="buffered").rounds
    assert figures.phases_s is not None
    assert msgspec.structs.astuple(figures.phases_s) == pytest.approx((0, 0, 0, 0.010, 0.010, 0.010))
    assert sum(msgspec.structs.astuple(figures.phases_s)) == pytest.approx(figures.duration_s)


def test_failures_are_counted_and_named() -> None:
    late = reply("ward-0", started_ns=None, finished_ns=None, arrived_ns=None, bytes_up=0, error="no reply within 3 s")
    (figures,) = federation(held(1, reply(), late)).rounds
    assert (figures.clients, figures.failures, figures.failed) == (2, 1, {"ward-0": "no reply within 3 s"})
    assert (figures.bytes_down, figures.bytes_up) == (8_000, 5_000)


def test_quality_is_that_of_each_round_s_model_before_and_after() -> None:
    observed = factory.observations(scores=[scored(0, 0.7), scored(1, 0.75), scored(2, 0.8)])
    figures = federation(held(1), held(2), observed=observed)
    assert (figures.quality_before, figures.quality_after) == (0.7, 0.8)
    assert [each.quality for each in figures.rounds] == [0.75, 0.8]


def test_bytes_are_laid_on_every_link_between_a_client_and_its_server() -> None:
    flat = federation(held(1))
    assert {name: (share.up_bytes, share.down_bytes) for name, share in flat.links.items()} == {
        "bed-0 -> ward-0": (5_000, 4_000),
        "ward-0 -> cloud": (5_000, 4_000),
    }
    of_site = held(1, reply(), server="ward-0", inner=1)
    by_edges = federation(held(1, reply("ward-0")), of_site, of_site, aggregate=("edge", "cloud"))
    assert {name: (share.up_bytes, share.down_bytes) for name, share in by_edges.links.items()} == {
        "bed-0 -> ward-0": (10_000, 8_000),
        "ward-0 -> cloud": (5_000, 4_000),
    }
    assert [each.site_rounds for each in by_edges.rounds] == [2]


def test_latency_is_told_apart_by_whether_a_round_was_going_on() -> None:
    figures = federation(held(1))
    assert figures.in_rounds_ms is not None
    assert figures.between_rounds_ms is not None
    # 1,000, 1,010, …, 1,150 ms.
    assert (figures.in_rounds_ms.n, figures.between_rounds_ms.n) == (16, 84)
    assert figures.in_rounds_ms.p50 == pytest.approx(15.0)


def test_the_data_of_each_client_is_shown() -> None:
    observed = factory.observations(partitions=[Partitioned("death-risk", "natural", [96], [40])])
    shares = federation(held(1), observed=observed).partition
    assert shares is not None
    assert (shares.how, shares.samples, shares.groups) == ("natural", {"bed-0": 96}, {"bed-0": 40})


def test_rounds_that_were_not_held_make_a_run_invalid() -> None:
    assert result(held(1), held(2)).verdict.valid
    (reason,) = result(held(1)).verdict.reasons
    assert reason == "death-risk: 1 of 2 federated rounds were held; see the cloud's log"


def test_a_federation_without_a_single_model_makes_a_run_invalid() -> None:
    skipped = [held(n, skipped="0 of 1 replies are good, 1 needed") for n in (1, 2)]
    (reason,) = result(*skipped).verdict.reasons
    assert reason.startswith("death-risk: not one of 2 federated rounds gave a model")
    assert result(held(1), skipped[1]).verdict.valid


def test_a_skipped_round_and_a_failure_stand_in_the_report_s_sentences() -> None:
    bad = reply("bed-0", error="array 'w' holds values that are not finite")
    figures = federation(held(1), held(2, bad, skipped="0 of 1 replies are good, 1 needed"))
    text = " ".join(federated_view.lines(figures))
    assert "Round 2 was skipped: 0 of 1 replies are good, 1 needed." in text
    assert "the reply of bed-0 does not count: array 'w' holds values that are not finite." in text
    assert federated_view.strategy_line(figures) == (
        "2 federated rounds of FedAvg, 0.15 s each in the mean, 1 failure, 1 skipped round"
    )


def test_rounds_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rounds = [
        held(1, reply(), reply("bed-1", delivered_ns=None, error="offline"), metrics={"train-loss": 0.5}, epsilon=2.0),
        held(1, reply(unread=True), kind="evaluate", ended_ns=at_ms(1_500)),
        held(2, skipped="too few", resumed=True, ended_ns=at_ms(2_000)),
    ]
    rundir.write_rounds(tmp_path, rounds)
    assert rundir.read_rounds(tmp_path) == rounds


def test_a_run_without_a_federation_has_no_rounds(tmp_path: Path) -> None:
    rundir.write_rounds(tmp_path, [])
    assert not (tmp_path / rundir.ROUNDS).exists()
    assert rundir.read_rounds(tmp_path) == []


def test_a_report_shows_rounds_links_and_quality_over_time(tmp_path: Path) -> None:
    observed = factory.observations(
        scores=[scored(0, 0.7), scored(1, 0.8)],
        partitions=[Partitioned("death-risk", "iid", [96], [40])],
    )
    rundir.write_deployment(tmp_path, deployment(rounds=1))
    rundir.write_observations(tmp_path, observed)
    rundir.write_records(tmp_path, ROWS)
    rundir.write_rounds(tmp_path, [held(1)])
    assert write_report(tmp_path).federated["death-risk"].quality_after == 0.8
    page = (tmp_path / rundir.REPORT).read_text()
    for words in (
        "Federated learning",
        "Bytes of the federation by link",
        "0.700 before the first round",
        "distribute",
    ):
        assert words in page


def test_a_round_of_an_earlier_run_has_no_times_and_no_bytes_here() -> None:
    resumed = held(1, resumed=True)
    figures = federation(resumed, held(2))
    earlier, own = figures.rounds
    assert (earlier.duration_s, earlier.started_s, earlier.phases_s, earlier.bytes_up) == (None, None, None, None)
    assert own.duration_s == pytest.approx(0.150)
    assert figures.links["ward-0 -> cloud"].up_bytes == 5_000
    assert federated_view.round_table(figures).rows[0][-1].endswith("*")
    assert result(resumed, held(2)).verdict.valid


def test_what_an_earlier_run_came_to_does_not_make_this_one_valid() -> None:
    bad = reply(arrived_ns=None, error="ValueError: bad data")
    failed = held(2, bad, skipped="0 of 1 replies are good, 1 needed")
    verdict = result(held(1, resumed=True), failed).verdict
    assert verdict.kinds == ["federation"]
    assert "not one of 1 federated rounds gave a model; the first was skipped: 0 of 1 replies" in verdict.reasons[0]
    asked = held(2, bad, kind="evaluate")
    verdict = result(held(1, resumed=True), held(1, kind="evaluate", resumed=True), held(2), asked).verdict
    assert verdict.kinds == ["federation"]
    assert "any of the 1 messages of 1 federated rounds of kind 'evaluate'; the first failure" in verdict.reasons[0]
    assert result(held(1, bad, skipped="none", resumed=True), held(2)).verdict.valid


def test_bytes_that_an_engine_does_not_tell_are_unknown() -> None:
    (figures,) = federation(held(1, reply(bytes_up=None, bytes_down=None)), engine="ray").rounds
    assert (figures.bytes_up, figures.bytes_down) == (None, None)


def test_what_an_app_asks_besides_training_counts_for_links_but_is_no_round() -> None:
    figures = federation(held(1), held(1, kind="evaluate"))
    assert [each.round for each in figures.rounds] == [1]
    assert figures.links["ward-0 -> cloud"].down_bytes == 8_000


def measured(kind: str, number: int, **metrics: float | None) -> AppMetrics:
    return AppMetrics("death-risk", kind, number, metrics)


def test_rounds_are_counted_by_kind_with_their_own_failures() -> None:
    bad = reply("ward-0", arrived_ns=None, error="ValueError: bad data")
    found = app_run(held(1), held(1, reply(), bad, kind="evaluate"), held(1, kind="query.count"))
    figures = found.federated["death-risk"]
    assert {kind: msgspec.structs.astuple(each) for kind, each in figures.kinds.items()} == {
        "train": (1, 1, 1, 0, 0),
        "evaluate": (1, 2, 1, 1, 0),
        "query.count": (1, 1, 1, 0, 0),
    }
    assert [(each.kind, each.failures, each.failed) for each in figures.other_rounds] == [
        ("evaluate", 1, {"ward-0": "ValueError: bad data"}),
        ("query.count", 0, {}),
    ]
    assert found.verdict.valid
    line = "1 federated round of app tiny, 0.15 s each in the mean; 1 evaluate round, 1 failure; 1 query.count round"
    assert federated_view.strategy_line(figures) == line
    said = "Round 1 of kind evaluate: the reply of ward-0 does not count: ValueError: bad data."
    assert said in federated_view.lines(figures)
    assert [row[:2] for row in federated_view.other_table(figures).rows] == [("evaluate", "1"), ("query.count", "1")]


def test_a_reply_that_nobody_looked_for_is_no_failure() -> None:
    come, lost = reply(unread=True), reply("ward-0", arrived_ns=None, unread=True)
    found = app_run(held(1, come, lost))
    (figures,) = found.federated["death-risk"].rounds
    assert (figures.clients, figures.failures, figures.unread, figures.failed) == (2, 0, 2, {})
    assert found.verdict.valid
    assert federated_view.strategy_line(found.federated["death-risk"]) == (
        "1 federated round of app tiny, 0.15 s each in the mean, 2 never read"
    )


def test_a_federation_of_which_nothing_came_makes_a_run_invalid() -> None:
    bad = reply("ward-0", arrived_ns=None, error="ValueError: bad data")
    later = reply("ward-0", arrived_ns=None, error="KeyError: 'x'")
    lost = reply(arrived_ns=None, unread=True)
    why = "; the first failure was that of ward-0: ValueError: bad data"
    for rounds, said in (
        ((), "death-risk: the federation's app asked its clients nothing at all; see the cloud's log"),
        ((held(1, lost),), "no good reply came to any of the 1 messages of 1 federated rounds of kind 'train'"),
        (
            (held(1), held(1, bad, kind="evaluate"), held(2, later, kind="evaluate")),
            f"no good reply came to any of the 2 messages of 2 federated rounds of kind 'evaluate'{why}",
        ),
        (
            (held(1, bad, skipped="none of 1 replies is good"),),
            f"not one of 1 federated rounds gave a model; the first was skipped: none of 1 replies is good{why}",
        ),
    ):
        (reason,) = app_run(*rounds).verdict.reasons
        assert reason.endswith(said)


def test_what_an_app_measures_stands_beside_its_rounds() -> None:
    observed = factory.observations(
        app_metrics=[
            measured("server", 0, total=1.0),
            measured("train", 1, loss=0.5),
            measured("evaluate", 1, loss=0.25),
            measured("evaluate", 1, accuracy=None),
            measured("server", 1, total=2.0),
        ]
    )
    figures = app_run(held(1), held(1, kind="evaluate"), observed=observed).federated["death-risk"]
    assert [each.metrics for each in figures.rounds] == [{"loss": 0.5}]
    assert [each.metrics for each in figures.other_rounds] == [{"accuracy": None, "loss": 0.25}]
    assert figures.server_metrics == {0: {"total": 1.0}, 1: {"total": 2.0}}
    assert federated_view.metrics_table(figures).rows == (
        ("train", "1", "loss 0.5"),
        ("evaluate", "1", "accuracy not finite, loss 0.25"),
        ("at the server", "0", "total 1"),
        ("at the server", "1", "total 2"),
    )


def test_a_client_that_fails_twice_in_a_round_fails_twice() -> None:
    (figures,) = federation(held(1, reply(error="busy"), reply(error="busy"), reply())).rounds
    assert (figures.clients, figures.failures) == (3, 2)
