"""Taking samples in and deciding them, with a real server thread."""

from __future__ import annotations

import msgspec
import numpy as np

from edgebench.core.tallies import Tally
from edgebench.fabric import wire
from edgebench.fabric.deciding import Decider, Intake, Origin
from edgebench.inference.fake import FakeRuntime
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Batch, ModelChoice, Poisson, Queue, Training
from tests.manifests import manifest

PLAN = WorkloadPlan(
    name="w", task="t", sources=("bed",), deciders={"bed-0": "ward"}, place="edge", load=Poisson(rate_hz=1.0),
    deadline_ms=None, model=ModelChoice(), train=Training(), rollout=(), batch=Batch(max_batch=2), queue=Queue(), qos=1,
)  # fmt: skip
MANIFEST = manifest(digest="d" * 64)


def envelope(seq: int, values: tuple[float, float] = (1.0, 2.0)) -> bytes:
    payload = np.array(values, np.float32).data.cast("B")
    return wire.encode(wire.Sample(wire.VERSION, seq, 1, 2, 3, "float32", (2,), None, payload))


def test_before_the_first_model_nothing_can_be_checked_so_all_is_rejected() -> None:
    tally = Tally()
    assert Intake(tally).take("bed-0", envelope(0)) is None
    assert tally.rejected == {"no-model-yet": 1}


def test_rejects_duplicates_and_late_samples_are_counted_by_name() -> None:
    tally = Tally()
    intake = Intake(tally)
    intake.expect(MANIFEST)
    taken = [intake.take("bed-0", envelope(seq)) for seq in (0, 2, 1, 1)]
    assert [accepted is not None for accepted in taken] == [True, True, True, False]
    assert intake.take("bed-1", envelope(0)) is not None
    assert intake.take("bed-0", b"\xc1") is None
    assert intake.take("bed-0", envelope(3, (float("nan"), 0.0))) is None
    assert intake.take("bed-0", envelope(3)) is not None
    assert (tally.duplicated, tally.reordered, tally.rejected) == (1, 1, {"not-a-sample": 1, "not-finite": 1})


def test_a_decision_carries_the_digest_and_the_stamps_of_its_way() -> None:
    replies: list[tuple[Origin, bytes]] = []
    swaps: list[str] = []
    tally = Tally()
    decider = Decider(
        "ward",
        PLAN,
        tally,
        reply=lambda origin, body: replies.append((origin, body)),
        on_swap=lambda m: swaps.append(m.digest),
    )
    decider.use(FakeRuntime(), MANIFEST)
    decider.decide(Origin("bed-0", 5, 6), envelope(0))
    while not replies:
        pass
    origin, body = replies[0]
    decision = wire.parse_decision(body)
    assert origin.device == "bed-0"
    assert (decision.seq, decision.decider, decision.digest) == (0, "ward", "d" * 64)
    stamps = decision.stamps
    assert (stamps.forward_in_ns, stamps.forward_out_ns, decision.batch) == (5, 6, 1)
    assert stamps.received_ns <= stamps.ready_ns <= stamps.started_ns <= stamps.finished_ns <= stamps.replied_ns
    assert swaps == ["d" * 64]


def test_what_a_cascade_is_unsure_of_is_passed_on_and_not_answered() -> None:
    replies: list[bytes] = []
    passed: list[tuple[str, int, bytes]] = []
    tally = Tally()
    decider = Decider(
        "ward",
        PLAN,
        tally,
        reply=lambda _origin, body: replies.append(body),
        on_swap=lambda _m: None,
        pass_on=lambda device, received_ns, payload: passed.append((device, received_ns, bytes(payload))),
    )
    # The fake gives one number for a sample, between 0 and 1; so sure is none.
    decider.use(FakeRuntime(), msgspec.structs.replace(MANIFEST, threshold=1.01))
    decider.decide(Origin("bed-0"), envelope(0))
    while not passed:
        pass
    device, received_ns, payload = passed[0]
    assert (device, payload) == ("bed-0", envelope(0))
    assert received_ns > 0
    decider.use(FakeRuntime(), msgspec.structs.replace(MANIFEST, digest="e" * 64, threshold=0.0))
    decider.decide(Origin("bed-0"), envelope(1))
    while not replies:
        pass
    assert wire.parse_decision(replies[0]).seq == 1
    assert len(passed) == 1
    assert tally.decided == 1


def test_plain_json_gets_a_plain_json_decision_with_its_id() -> None:
    replies: list[bytes] = []
    tally = Tally()
    decider = Decider("ward", PLAN, tally, reply=lambda _origin, body: replies.append(body), on_swap=lambda _m: None)
    decider.use(FakeRuntime(), MANIFEST)
    decider.decide(Origin("bed-0"), b'{"values": [0.5, 1.5], "id": 9}')
    while not replies:
        pass
    answer = msgspec.json.decode(replies[0])
    assert (answer["id"], answer["model"], answer["decider"], len(answer["output"])) == (9, "d" * 64, "ward", 1)
    assert tally.plain_json == 1
