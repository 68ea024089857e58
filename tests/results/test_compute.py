import math

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from edgebench.core.samples import HeadStamps, SampleRecord
from edgebench.core.tallies import Tally
from edgebench.errors import EdgebenchError
from edgebench.fabric.records import Brokered, Chained, Cut, Death, HostUsage, Usage
from edgebench.results.chunks import HEAD_HOPS, HOPS, chunks_of
from edgebench.results.compute import result_of
from edgebench.results.figures import BrokerFigures, Result
from edgebench.results.observations import Observations
from edgebench.results.run_fold import folded
from edgebench.results.rundir import CHUNK_ROWS
from edgebench.results.sample_figures import HopStatistics, Latency, WorkloadFigures
from edgebench.results.scores import Scores
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Offline, Server
from tests.results import factory
from tests.results.factory import FIRST, SECOND, at_ms, lost, row


def _result(
    rows: list[SampleRecord], plan: WorkloadPlan | None = None, observations: Observations | None = None
) -> Result:
    deployment = factory.deployment(*([plan] if plan else []))
    return factory.result(deployment, observations or factory.observations(), rows)


def _death_risk(
    rows: list[SampleRecord], plan: WorkloadPlan | None = None, observations: Observations | None = None
) -> WorkloadFigures:
    return _result(rows, plan, observations).workloads["death-risk"]


def test_latency_counts_from_the_due_time_to_the_arrival_of_the_decision() -> None:
    # Latencies 15, 25, 35, 115 ms.
    rows = [row(seq, 500 * seq, (1, 3, 2, 4, 5 + extra)) for seq, extra in enumerate((0, 10, 20, 100))]
    figures = _death_risk(rows)
    assert figures.latency_ms == Latency(mean=47.5, p50=25, p90=115, p99=115, max=115)


def test_the_hops_are_told_apart_and_their_means_add_up_to_the_latency() -> None:
    figures = _death_risk([row(0, 0, (1, 3, 2, 4, 5)), row(1, 500, (2, 6, 0, 4, 9))])
    assert figures.hops_ms is not None
    assert figures.hops_ms.sense == HopStatistics(p50=1, p99=2, mean=1.5)
    assert figures.hops_ms.uplink == HopStatistics(p50=3, p99=6, mean=4.5)
    assert figures.hops_ms.queue == HopStatistics(p50=0, p99=2, mean=1)
    assert figures.hops_ms.infer == HopStatistics(p50=4, p99=4, mean=4)
    assert figures.hops_ms.downlink == HopStatistics(p50=5, p99=9, mean=7)
    assert figures.latency_ms is not None
    assert figures.latency_ms.mean == 1.5 + 4.5 + 1 + 4 + 7


def test_the_hops_of_every_sample_add_up_to_its_latency_whatever_stamps_it_lacks() -> None:
    on_device = row(1, 100, sent_ns=None)
    bare = row(2, 200, sent_ns=None, received_ns=None, started_ns=None, finished_ns=None)
    batches = factory.table(row(0, 0), on_device, bare, lost(3, 300)).to_batches()
    ((_, chunk),) = chunks_of(batches, ["death-risk"])
    assert np.sum(list(chunk.hops_ns.values()), axis=0).tolist() == chunk.latency_ns.tolist()
    # Where it is decided where it is sensed there is no uplink.
    assert [chunk.hops_ns[hop][1] / 1e6 for hop in HOPS] == [4, 0, 0, 0, 0, 2, 4, 0, 0, 5]


def test_what_an_edge_passes_on_to_the_cloud_has_hops_of_its_own() -> None:
    by_cloud = row(
        0,
        0,
        (1, 40, 2, 4, 30),
        forward_in_ns=at_ms(4),
        forward_out_ns=at_ms(19),
        return_in_ns=at_ms(67),
        return_out_ns=at_ms(68),
    )
    figures = _death_risk([by_cloud])
    assert figures.hops_ms is not None
    means = {hop: spread["mean"] for hop, spread in msgspec.to_builtins(figures.hops_ms).items()}
    assert means == {
        "sense": 1,
        "uplink": 3,
        "edge_forward": 15,
        "backhaul_up": 22,
        "decode": 0,
        "queue": 2,
        "infer": 4,
        "backhaul_down": 20,
        "edge_return": 1,
        "downlink": 9,
    }
    assert figures.latency_ms is not None
    assert sum(means.values()) == figures.latency_ms.mean


def test_the_first_stage_of_a_chain_has_hops_of_its_own_within_the_edges_part_of_the_way() -> None:
    chained = row(
        0,
        0,
        (1, 40, 2, 4, 30),
        forward_in_ns=at_ms(4),
        forward_out_ns=at_ms(19),
        head=HeadStamps(at_ms(5), at_ms(7), at_ms(17), 3),
    )
    plain = row(0, 0, workload="other")
    plans = (factory.workload(), factory.workload(name="other"))
    result = factory.result(factory.deployment(*plans), factory.observations(), [chained, plain])
    hops = result.workloads["death-risk"].hops_ms
    assert hops is not None
    means = {hop: spread["mean"] for hop, spread in msgspec.to_builtins(hops).items()}
    assert (means["uplink"], means["head_decode"], means["head_queue"], means["head_infer"]) == (3, 1, 2, 10)
    assert (means["edge_forward"], means["backhaul_up"]) == (2, 22)
    assert sum(means.values()) == 1 + 40 + 2 + 4 + 30
    other = result.workloads["other"].hops_ms
    assert other is not None
    assert not msgspec.to_builtins(other).keys() & set(HEAD_HOPS)


def test_the_first_stage_of_a_chain_on_a_device_has_hops_of_its_own_before_it_has_sent_anything() -> None:
    head = HeadStamps(at_ms(0.5), at_ms(1), at_ms(5), 1)  # ready as soon as it is taken
    chained = row(0, 0, (6, 40, 2, 4, 30), head=head)
    plan = factory.workload(split=1, head_tier="device", place="device → edge")
    observed = factory.observations(chains=[Chained("death-risk", FIRST, SECOND, None, 0, (), 8)])
    figures = factory.result(factory.deployment(plan), observed, [chained]).workloads["death-risk"]
    assert figures.hops_ms is not None
    means = {hop: spread["mean"] for hop, spread in msgspec.to_builtins(figures.hops_ms).items()}
    assert (means["sense"], means["head_decode"], means["head_queue"], means["head_infer"]) == (0.5, 0, 0.5, 4)
    assert (means["uplink"], means["edge_forward"]) == (41, 0)
    assert sum(means.values()) == 6 + 40 + 2 + 4 + 30
    assert figures.chain is not None
    # All but sensing, and the way back.
    assert (figures.chain.head_tier, figures.chain.measured_ms) == ("device", 0.5 + 4 + 41 + 2 + 4)


def test_what_was_predicted_of_a_cut_stands_beside_what_was_measured() -> None:
    head = HeadStamps(at_ms(4), at_ms(4), at_ms(18), 3)
    chained = row(0, 0, (1, 40, 2, 4, 30), forward_in_ns=at_ms(4), forward_out_ns=at_ms(19), head=head)
    cuts = (Cut(2, "dense", 8, 10.0, 3.0, 35.0), Cut(1, "flat", 24, 1.0, 12.0, 40.0))
    observed = factory.observations(chains=[Chained("death-risk", FIRST, SECOND, cuts[0], 3, cuts, 8)])
    found = _death_risk([chained], observations=observed).chain
    assert found is not None
    assert found.cut is not None
    assert (found.cut.place, found.places, found.cut.output_bytes, found.cut.predicted_ms) == (2, 3, 32, 35.0)
    assert [each.layer for each in found.considered] == ["dense", "flat"]
    # From the edge, at 4 ms, to the decision, 47 ms after the sample was due.
    assert (found.measured_ms, found.mean_head_batch) == (43, 3)


def test_one_reordering_counts_once_however_many_nodes_saw_it() -> None:
    seen = {node: {"death-risk": Tally(reordered=1)} for node in ("bed-0", "ward-0", "cloud")}
    assert _death_risk([row(0, 0)], observations=factory.observations(tallies=seen)).reordered == 1


def test_a_sample_without_a_decision_is_lost_and_has_no_latency() -> None:
    figures = _death_risk([row(0, 0), lost(1, 500), row(2, 1000)])
    assert (figures.scheduled, figures.decided, figures.lost) == (3, 2, 1)
    assert figures.latency_ms is not None
    assert figures.latency_ms.max == 15


def test_samples_that_a_device_did_not_live_to_write_down_are_lost_too() -> None:
    observed = factory.observations(tallies=factory.tallies(scheduled=7, sent=6, decided=2))
    figures = _death_risk([row(0, 0), row(1, 500)], observations=observed)
    assert (figures.scheduled, figures.decided, figures.lost) == (7, 2, 5)


def test_a_decision_beyond_the_deadline_is_late() -> None:
    rows = [row(0, 0, (1, 3, 2, 4, 140)), row(1, 500, (1, 3, 2, 4, 140.001)), lost(2, 1000)]
    assert _death_risk(rows, factory.workload(deadline_ms=150)).late == 1
    assert _death_risk(rows, factory.workload(deadline_ms=None)).late == 0


def test_counts_of_all_nodes_are_added_up_by_reason() -> None:
    observed = factory.observations(
        tallies={
            "bed-0": {"death-risk": Tally(scheduled=1, sent=1, decided=1, duplicated=2, reordered=1, unexpected=3)},
            "ward-0": {
                "death-risk": Tally(duplicated=1, plain_json=4, rejected={"shape": 2, "nan": 1}, dropped={"oldest": 5}),
                "other": Tally(rejected={"topic": 9}),
            },
            "cloud": {"death-risk": Tally(rejected={"shape": 1})},
        }
    )
    result = _result([row(0, 0)], observations=observed)
    figures = result.workloads["death-risk"]
    assert (figures.duplicated, figures.duplicated_at_devices, figures.reordered) == (3, 2, 1)
    assert (figures.unexpected, figures.plain_json) == (3, 4)
    assert (figures.rejected, figures.rejected_by_reason) == (4, {"nan": 1, "shape": 3})
    assert (figures.dropped, figures.dropped_by_reason) == (5, {"oldest": 5})
    assert result.rejected_elsewhere == {"topic": 9}


def test_the_slip_is_how_late_a_sample_was_taken() -> None:
    rows = [row(seq, 100 * seq, captured_ns=at_ms(100 * seq + slip)) for seq, slip in enumerate((1, 2, 3, 30))]
    slip = _death_risk(rows).slip_ms
    assert slip is not None
    assert (slip.p50, slip.p99, slip.max, slip.over) == (2, 30, 30, 1)


def test_throughput_is_decisions_over_the_time_in_which_samples_were_due() -> None:
    assert _death_risk([row(0, 0), row(1, 500), lost(2, 900)]).throughput_hz == 0.5


def test_an_offline_load_is_over_with_its_last_decision() -> None:
    plan = factory.workload(load=Offline(samples=2))
    # 15 ms after its start the first decision has arrived, after 50 ms the second.
    assert _death_risk([row(0, 0), row(1, 0, (1, 3, 37, 4, 5))], plan).throughput_hz == 40


def test_quality_is_scored_over_the_decisions_whose_label_is_known() -> None:
    rows = [
        row(0, 0, output=[0.1], label=[0.0]),
        row(1, 100, output=[0.4], label=[0.0]),
        row(2, 200, output=[0.3], label=[1.0]),
        row(3, 300, output=[0.8], label=[1.0]),
        row(4, 400, output=[0.9], label=None),
        lost(5, 500),
    ]
    quality = _death_risk(rows).quality
    # Of the four pairs of one death and one survival, three are in order.
    assert (quality.metric, quality.value, quality.n) == ("auroc", 0.75, 4)
    assert quality.interval is not None
    assert quality.interval[0] <= 0.75 <= quality.interval[1]
    assert (quality.source, quality.real) == ("generated", False)


def test_quality_without_labels_is_undefined_and_says_so() -> None:
    quality = _death_risk([row(0, 0, label=None), row(1, 100, label=None)]).quality
    assert (quality.value, quality.n, quality.interval) == (None, 0, None)


def test_quality_of_outputs_that_are_no_finite_numbers_is_undefined_and_says_so() -> None:
    rows = [row(0, 0), row(1, 100), row(2, 200, output=[math.nan]), row(3, 300, label=None, output=[math.inf])]
    figures = _death_risk([*rows, lost(4, 400)])
    assert figures.not_finite == 2
    assert (figures.quality.value, figures.quality.n) == (None, 3)
    assert figures.quality.undefined == "2 of 4 decisions are not finite numbers"
    (model,) = figures.models
    assert model.quality.undefined == figures.quality.undefined


@pytest.mark.parametrize(
    ("rows", "undefined"),
    [
        ([row(0, 0, label=None)], "no decision has a label that is known"),
        ([row(0, 0), row(2, 100)], "auroc has no value for these labels"),
        ([row(0, 0), row(1, 100)], None),
    ],
)
def test_a_quality_without_a_value_says_why(rows: list[SampleRecord], undefined: str | None) -> None:
    assert _death_risk(rows).quality.undefined == undefined


def test_every_node_says_that_it_ran_on_this_machine() -> None:
    assert {node.machine for node in _result([row(0, 0)]).nodes.values()} == {"here"}


def test_outputs_of_differing_lengths_are_refused() -> None:
    with pytest.raises(EdgebenchError, match="outputs of one workload have 1 to 2 values"):
        _result([row(0, 0), row(1, 100, output=[0.1, 0.9])])


def test_each_model_has_the_quality_of_its_own_decisions() -> None:
    observed = factory.observations(
        models=[factory.model(SECOND, 1_800, 2_000, 0.9), factory.model(FIRST, -1_200, -1_000, 0.7)],
        swaps=[factory.swap(FIRST, -900, -800), factory.swap(SECOND, 2_100, 2_150)],
    )
    rows = [row(seq, 500 * seq, output=[1.0 - seq % 2]) for seq in range(4)]
    rows += [row(seq, 500 * seq, digest=SECOND, output=[float(seq % 2)]) for seq in range(4, 8)]
    first, second = _death_risk(rows, observations=observed).models
    assert (first.digest, first.from_s, first.n, first.quality.value) == (FIRST, 0, 4, 0)
    assert (second.digest, second.from_s, second.n, second.quality.value) == (SECOND, 2.15, 4, 1)
    assert second.validated is not None
    assert (second.validated.value, second.validated.evaluated_on) == (0.9, "held-out")


def test_a_model_that_was_not_announced_is_listed_after_those_that_were() -> None:
    observed = factory.observations(
        models=[factory.model(SECOND, -2_000, None, 0.6), factory.model(FIRST, -1_200, -1_000, 0.7)]
    )
    models = _death_risk([row(0, 0)], observations=observed).models
    assert [(model.digest, model.announced, model.n) for model in models] == [(FIRST, True, 1), (SECOND, False, 0)]


def test_a_roll_out_shows_the_longest_pause_around_each_swap_beside_the_usual_ones() -> None:
    observed = factory.observations(
        models=[factory.model(FIRST, -1_200, -1_000, 0.7), factory.model(SECOND, 1_900, 2_000, 0.9)],
        swaps=[factory.swap(FIRST, -900, -800), factory.swap(SECOND, 2_050, 2_105)],
    )
    # A decision every 100 ms; the one due at 2,100 ms waits 42 ms for the swap.
    rows = [row(seq, 100 * seq, (1, 3, 42 if seq == 21 else 2, 4, 5)) for seq in range(40)]
    (rollout,) = _result(rows, observations=observed).rollouts
    assert (rollout.workload, rollout.digest, rollout.ready_s, rollout.announced_s) == ("death-risk", SECOND, 1.9, 2.0)
    node = rollout.nodes["ward-0"]
    assert (node.fetched_s, node.swapped_s, node.lost) == (2.05, 2.105, 0)
    assert (node.pause_ms, node.usual_pause_p99_ms, node.usual_pause_max_ms) == (140, 100, 100)
    assert (node.waited_ms, node.usual_waited_p99_ms) == (42, 2)


def test_a_sample_lost_around_a_swap_is_counted_there() -> None:
    observed = factory.observations(
        models=[factory.model(SECOND, 1_900, 2_000, 0.9)], swaps=[factory.swap(SECOND, 2_050, 2_100)]
    )
    (rollout,) = _result([row(0, 0), lost(1, 1_500), lost(2, 2_200)], observations=observed).rollouts
    assert rollout.nodes["ward-0"].lost == 1


def test_a_p99_is_adequate_when_there_are_samples_enough_for_those_beyond_the_bound() -> None:
    rows = [row(seq, seq, (1, 3, 2, 4, 200 if seq == 0 else 5)) for seq in range(661)]
    plan = factory.workload(deadline_ms=150)
    adequacy = _death_risk(rows, plan).adequacy
    assert adequacy is not None
    assert (adequacy.bound_ms, adequacy.over, adequacy.needed, adequacy.adequate) == (150, 1, 662, False)
    assert adequacy.p99_upper_ms == 210
    enough = _death_risk([*rows, row(661, 661)], plan).adequacy
    assert enough is not None
    assert (enough.adequate, enough.p99_upper_ms) == (True, 15)


@pytest.mark.parametrize(("p99_ms", "met"), [(14.9, False), (15, True)])
def test_a_server_load_meets_its_bound_when_its_p99_does(p99_ms: float, met: bool) -> None:
    bound = _death_risk([row(0, 0)], factory.workload(load=Server(rate_hz=1, p99_ms=p99_ms))).bound
    assert bound is not None
    assert bound.met is met


def test_a_link_has_its_bytes_both_ways_and_what_was_asked_beside_what_was_measured() -> None:
    links = _result([row(0, 0)]).links
    assert list(links) == ["bed-0 -> ward-0", "ward-0 -> cloud"]  # as the deployment has them
    link = links["bed-0 -> ward-0"]
    assert (link.bytes, link.up_bytes, link.down_bytes, link.messages) == (58_880, 58_400, 480, 8)
    assert (link.requested["up_mbit_s"], link.measured["up_mbit_s"]) == (40, 39.2)


def test_a_process_that_hosts_several_nodes_is_shown_whole_and_says_so() -> None:
    observed = factory.observations(
        usage={
            "site": [
                Usage(at_ms(-100), 0.9, 70_000_000),
                Usage(at_ms(0), 1.0, 60_000_000),
                Usage(at_ms(4_000), 3.0, 50),
            ]
        },
        hosts_of={"site": ["ward-0", "bed-0"]},
    )
    nodes = _result([row(0, 0)], observations=observed).nodes
    assert nodes["bed-0"] == msgspec.structs.replace(nodes["ward-0"], tier="device")
    assert (nodes["ward-0"].cpu_s, nodes["ward-0"].rss_mb, nodes["ward-0"].process_of) == (3.0, 70.0, 2)
    assert nodes["ward-0"].busy_cores == 0.5
    assert (nodes["cloud"].cpu_s, nodes["cloud"].process_of) == (None, 0)


def test_the_use_of_the_host_counts_while_samples_were_due() -> None:
    usage = [HostUsage(at_ms(at), busy, 0.02) for at, busy in ((-500, 1.0), (1_000, 0.5), (2_000, 0.97), (3_000, 0.3))]
    host = _result([row(0, 0)], observations=factory.observations(host_usage=usage)).host_use
    assert host is not None
    assert (host.busy, host.full, host.stolen) == (0.59, 0.3333, 0.02)


def test_the_use_of_the_host_counts_by_time_and_not_by_sample() -> None:
    # 2 s at 30 %, then a burst of three samples in 0.3 s at 100 %.
    spans = ((0, 2_000, 0.3), (2_000, 2_100, 1.0), (2_100, 2_200, 1.0), (2_200, 2_300, 1.0))
    usage = [HostUsage(at_ms(to), busy, 0.0, busy - 0.1, None, at_ms(since)) for since, to, busy in spans]
    host = _result([row(0, 0)], observations=factory.observations(host_usage=usage)).host_use
    assert host is not None
    assert (host.busy, host.full, host.foreign) == (0.3913, 0.1304, 0.2913)


def test_each_site_says_which_broker_served_it() -> None:
    brokers = [Brokered("cloud", "mosquitto", "2.0.11"), Brokered("ward-0", "nats", "2.15.1")]
    assert _result([row(0, 0)], observations=factory.observations(brokers=brokers)).brokers == {
        "cloud": BrokerFigures("mosquitto", "2.0.11"),
        "ward-0": BrokerFigures("nats", "2.15.1"),
    }


def test_who_was_refused_is_a_note_and_no_reason_against_a_run() -> None:
    refused = {"cloud": {"connections": 1, "requests": 2}}
    result = _result([row(0, 0)], observations=factory.observations(refused=refused))
    assert result.refused == refused
    (note,) = result.verdict.notes
    assert note.startswith("cloud refused 1 connection, 2 requests of somebody who may not")
    assert not any("refused" in reason for reason in result.verdict.reasons)


def test_the_first_decision_counts_from_the_start_of_the_command() -> None:
    assert _result([row(1, 500), row(0, 100)]).started_to_first_decision_s == 5.115


def test_result_json_has_the_agreed_keys_first_and_in_order() -> None:
    raw = msgspec.json.decode(msgspec.json.encode(_result([row(0, 0), row(1, 500)])))
    agreed = "schema, run_id, name, seed, executor, verdict, workloads, federated, links, nodes, host, versions"
    assert ", ".join(raw).startswith(agreed)
    figures = raw["workloads"]["death-risk"]
    agreed = (
        "task, place, scheduled, decided, lost, duplicated, reordered, rejected, late, latency_ms, hops_ms, "
        "throughput_hz, quality, models"
    )
    assert ", ".join(figures).startswith(agreed)
    assert ", ".join(figures["models"][0]).startswith("digest, origin, runtime, quantisation, from_s, quality")
    assert (raw["schema"], raw["figures"], raw["seed"]) == (1, "measured", 7)


def test_a_run_in_which_nothing_happened_has_figures_too() -> None:
    observed = factory.observations(started_ns=None, ended_ns=None, swaps=[], models=[], links=[], usage={})
    result = _result([], observations=observed)
    figures = result.workloads["death-risk"]
    assert (figures.scheduled, figures.latency_ms, figures.hops_ms, figures.throughput_hz) == (0, None, None, 0)
    assert (result.started_to_first_decision_s, result.rollouts, result.host_use) == (None, [], None)


def test_a_death_is_dated_from_the_start_of_the_streams() -> None:
    observed = factory.observations(deaths=[Death("edge node ward-0", -9, at_ms(1_230))])
    assert _result([row(0, 0)], observations=observed).deaths[0].at_s == 1.23


def test_a_million_rows_are_summed_up() -> None:
    thousand = factory.table(*(row(seq, 4 * seq, (1, 3, 2, 4, seq / 100)) for seq in range(1_000)))
    deployment, observed = factory.deployment(), factory.observations()
    million = pa.concat_tables([thousand] * 1_000).combine_chunks()
    result = result_of(deployment, observed, folded(deployment, observed, million.to_batches(CHUNK_ROWS)))
    figures = result.workloads["death-risk"]
    assert figures.decided == 1_000_000
    assert figures.latency_ms == Latency(mean=14.995, p50=14.99, p90=18.99, p99=19.89, max=19.99)


def test_a_model_of_whose_decisions_none_is_kept_for_its_metrics_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many an even share is kept, in which a few may have no part."""
    monkeypatch.setattr(Scores, "_too_many", lambda scores: scores._zero_bits < 40)
    quality = _death_risk([row(seq, 10 * seq) for seq in range(40)]).quality
    assert (quality.value, quality.n, quality.scored) == (None, 40, 0)
    assert quality.undefined == "none of its 40 decisions is among the even share of all that is kept"
