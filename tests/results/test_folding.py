"""Whatever the chunks that a run is folded in, and whatever the order in which they merge, its figures are the same."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from edgebench.core.device import Moved
from edgebench.core.samples import SampleRecord
from edgebench.fabric.records import Calibration, Cascaded, RoundRecord
from edgebench.report.charts import latency_chart, throughput_chart
from edgebench.report.federated_view import quality_over_time
from edgebench.results import joints
from edgebench.results.chunks import SampleChunk, chunks_of
from edgebench.results.compute import result_of
from edgebench.results.observations import Observations
from edgebench.results.run_fold import RunFold, run_fold
from edgebench.results.scores import Scores
from edgebench.results.values import Extremes, Values
from edgebench.seeds import rng_for
from edgebench.topology.deployment import Deployment, FederatedPlan
from edgebench.topology.model import After, Federated, Joint, Server
from tests.results import factory, made_up_ward
from tests.results.factory import FIRST, at_ms

ROUNDS = [
    RoundRecord(
        "death-risk", "cloud", "train", n, 0, at_ms(4_000 * n), at_ms(4_000 * n + 90), at_ms(4_000 * n + 99), ()
    )
    for n in (3, 1, 2)
]


def _deployment() -> Deployment:
    """A ward with a federation, a cascade, a joint decision and a load with a bound, beside its roll-out."""
    ward = made_up_ward.deployment()
    plans = dict(ward.workloads)
    plans["heart-failure"] = msgspec.structs.replace(plans["heart-failure"], load=After(workloads=("decompensation",)))
    plans["decompensation"] = msgspec.structs.replace(plans["decompensation"], load=Server(rate_hz=2, p99_ms=12))
    how = Federated(workload="death-risk", rounds=3)
    return msgspec.structs.replace(
        ward,
        workloads=plans,
        joint={"all": Joint(of=("death-risk", "heart-failure"), deadline_ms=40)},
        federated={"death-risk": FederatedPlan(how=how, clients=("bed-0",), edges={})},
    )


def _observations() -> Observations:
    return made_up_ward.observations(
        cascades=[Cascaded("decompensation", FIRST, Calibration(0.8, 0.9, 0.3, 0.9, 0.8, 0.92))],
        moves=[
            Moved("bed-3", "ward-1", "ward-0", at_ms(9_000), at_ms(9_200), 1),
            Moved("bed-3", "ward-0", "ward-1", at_ms(20_000), None, 0),
        ],
    )


def _rows() -> list[SampleRecord]:
    """Of the ward, some by the cloud, some lost, some without a label, some in batches."""
    rng = rng_for(7, "folding")
    rows = []
    for row in made_up_ward.rows(lose=20):
        changes: dict[str, Any] = {}
        if row.workload == "decompensation" and rng.random() < 0.3:
            assert row.decision is not None
            received_ns = row.decision.stamps.received_ns
            changes |= {"decider": "cloud", "forward_in_ns": received_ns - 900, "forward_out_ns": received_ns}
        if rng.random() < 0.05:
            changes["label"] = None
        rows.append(factory.changed(row, **changes))
    return rows


DEPLOYMENT, OBSERVATIONS, ROWS = _deployment(), _observations(), _rows()


def _folded(rows: list[SampleRecord]) -> RunFold:
    fold = run_fold(DEPLOYMENT, OBSERVATIONS, ROUNDS)
    for workload, chunk in chunks_of(factory.table(*rows).to_batches(), DEPLOYMENT.workloads):
        fold.update(workload, chunk)
    return fold


def _merged(parts: list[list[SampleRecord]], rng: np.random.Generator) -> RunFold:
    """Each part folded for itself, and any two merged until there is one."""
    folds = [_folded(part) for part in parts]
    while len(folds) > 1:
        first = folds.pop(int(rng.integers(len(folds))))
        folds[int(rng.integers(len(folds)))].merge(first)
    return folds[0]


def _shown(fold: RunFold) -> list[Any]:
    """All figures, and the charts that are made of what was folded."""
    result = result_of(DEPLOYMENT, OBSERVATIONS, fold, ROUNDS)
    timelines = {name: each.timeline for name, each in fold.workloads.items()}
    charts = [latency_chart(name, result, each) for name, each in timelines.items()]
    federated = quality_over_time(result.federated["death-risk"], fold.workloads["death-risk"])
    return [msgspec.to_builtins(result), charts, throughput_chart(timelines), federated]


@pytest.fixture(scope="module")
def whole() -> list[Any]:
    shown = _shown(_folded(ROWS))
    result = shown[0]
    # It holds something of everything.
    assert result["workloads"]["decompensation"]["cascade"]["forwarded"] > 100
    assert result["workloads"]["death-risk"]["lost"] == 20
    assert result["rollouts"][0]["nodes"]["ward-0"]["usual_pause_p99_ms"] > 0
    assert result["federated"]["death-risk"]["in_rounds_ms"]["n"] > 0
    assert result["handovers"][0]["first_decision_ms"] is not None
    assert sum(path["critical"] for path in result["joint"]["all"]["paths"]) > 400
    return shown


@pytest.mark.parametrize("seed", range(3))
def test_folding_in_chunks_of_any_size_gives_the_figures_of_the_whole(whole: list[Any], seed: int) -> None:
    rng = rng_for(seed, "chunks")
    cuts = np.sort(rng.integers(0, len(ROWS), 12)).tolist()
    table = factory.table(*ROWS)
    batches = [
        batch
        for start, end in zip([0, *cuts], [*cuts, len(ROWS)], strict=True)
        for batch in table.slice(start, end - start).to_batches()
    ]
    fold = run_fold(DEPLOYMENT, OBSERVATIONS, ROUNDS)
    for workload, chunk in chunks_of(batches, DEPLOYMENT.workloads):
        fold.update(workload, chunk)
    assert _shown(fold) == whole


@pytest.mark.parametrize("seed", range(3))
def test_merging_in_any_order_gives_the_figures_of_the_whole(whole: list[Any], seed: int) -> None:
    rng = rng_for(seed, "merging")
    dealt = rng.integers(0, 6, len(ROWS))
    parts = [[ROWS[at] for at in rng.permutation(np.flatnonzero(dealt == part)).tolist()] for part in range(7)]
    assert parts[-1] == []
    assert _shown(_merged(parts, rng)) == whole


def test_frames_are_forgotten_once_they_are_whole(whole: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joints, "_OPEN_ROWS", 50)
    rng = rng_for(1, "frames")
    assert _shown(_merged([ROWS[:700], ROWS[700:710], ROWS[710:]], rng)) == whole
    fold = run_fold(DEPLOYMENT, OBSERVATIONS, ROUNDS)
    for start in range(0, len(ROWS), 30):
        for workload, chunk in chunks_of(factory.table(*ROWS[start : start + 30]).to_batches(), DEPLOYMENT.workloads):
            fold.update(workload, chunk)
    assert _shown(fold) == whole


def test_values_are_kept_exactly_in_as_few_bytes_as_hold_them() -> None:
    rng = rng_for(3, "values")
    parts = [rng.integers(-5, 2**bits, 1_000) for bits in (8, 20, 40)] + [np.full(1_000, 7)]
    values = Values()
    for part in parts:
        values.update(part)
    every = np.sort(np.concatenate(parts))
    assert len(values) == 4_000
    assert values.total == int(every.sum())
    assert np.array_equal(np.sort(values.array), every)
    assert values.percentiles(0.0, 0.5, 0.99, 1.0) == (every[0], every[1999], every[3959], every[-1])


def test_the_sum_of_values_may_be_more_than_an_int64_holds() -> None:
    values = Values()
    for _ in range(4):
        values.update(np.array([2**62]))
    assert values.total == 2**64
    assert values.mean == 2**62


def test_extremes_of_nothing_are_none() -> None:
    none, some = Extremes(), Extremes()
    some.update(np.array([3, 1, 2]))
    some.merge(none)
    none.merge(some)
    assert (none.least, none.most) == (1, 3)
    assert (Extremes().least, Extremes().most) == (None, None)


def _chunk(rows: list[SampleRecord]) -> SampleChunk:
    ((_, chunk),) = chunks_of(factory.table(*rows).to_batches(), ["death-risk"])
    return chunk


def _scores(parts: list[list[SampleRecord]], most: dict[str, int]) -> Scores:
    scores = Scores(**most)
    for part in parts:
        chunk = _chunk(part)
        keys = chunk.keys({"bed-0": 0})
        scores.update(chunk, keys, np.zeros(len(part), np.int64))
    return scores


# Of 20 bytes each, so that either is less than half of 4,000.
@pytest.mark.parametrize("most", [{"most_bytes": 30_000}, {"most_decisions": 1_500}])
def test_of_more_outputs_than_are_kept_an_even_share_is_whatever_the_chunks(most: dict[str, int]) -> None:
    rows = [factory.row(seq, seq, output=[seq / 4_000]) for seq in range(4_000)]
    whole = _scores([rows], most)
    kept = whole.of()
    assert whole.known.total() == 4_000
    assert 4_000 / 8 < len(kept) <= 1_500
    # Even: as many of the first half as of the second, but for chance.
    assert abs(int((kept.keys < 2_000).sum()) - len(kept) / 2) < 3 * np.sqrt(len(kept) / 4)
    rng = rng_for(5, "shares")
    cuts = np.sort(rng.integers(1, 4_000, 9)).tolist()
    parts = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, 4_000], strict=True) if start < end]
    in_chunks = _scores(parts, most).of()
    merged = Scores(**most)
    for part in reversed(parts):
        merged.merge(_scores([part], most))
    for other in (in_chunks, merged.of()):
        assert np.array_equal(other.keys, kept.keys)
        assert np.array_equal(other.outputs, kept.outputs)
    assert merged.known == whole.known


def test_a_figure_can_be_folded_over_some_samples_only() -> None:
    chunk = _chunk([factory.row(0, 0), factory.lost(1, 100), factory.row(2, 200, (1, 3, 2, 4, 9), label=None)])
    some = chunk.select(chunk.ns["scheduled_ns"] >= at_ms(100))
    assert len(some) == 2
    assert some.latency_ns.tolist() == [19_000_000]
    assert some.scored.tolist() == [False, False]
    assert some.count("node") == {"bed-0": 2}
