"""Replies of devices that learn on emulated machines, in virtual time: held until those would have learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from device_agent.emulated_learning import EmulatedLearning
from device_agent.learner_process import LearnerRequest
from edgebench.core.batching import InferenceRequest, Served
from edgebench.core.emulation import Machine
from edgebench.core.fake_transport import AtOnce, VirtualTime
from edgebench.core.releases import Releases
from edgebench.federated.content import Head, pack, read_parcel, write_parcel
from edgebench.federated.message_client import Received
from edgebench.inference.fake import FakeRuntime
from edgebench.inference.spec import Manifest
from edgebench.topology.model import Batch, Queue
from edgebench.topology.profiles import TrainingCost
from tests.core.test_emulation import MANIFEST
from tests.core.ward import ms
from tests.profiles import inference, ms_times, profile

COST = TrainingCost("icu-death", "light", "litert", 32, step=ms_times(30.0), rest=ms_times(10.0))
BEGAN_NS = ms(5_000.0)
"""As on a machine that has been up for a while, so that stamps take as much room as they do there."""


class Beds:
    """Emulated devices that learn, and what they have answered: message id -> ms after the beginning."""

    def __init__(self, tmp_path: Path, cores: int = 2) -> None:
        self.time = VirtualTime(BEGAN_NS)
        self.folder = tmp_path
        described = profile(cores=cores, inference=(inference(1, 20.0),), training=(COST,))
        self.machines = [Machine(f"bed-{number}", described, self.time, 1, has_broker=False) for number in range(2)]
        self.answered: dict[str, float] = {}
        self.stamps: dict[str, Any] = {}
        self.learning = EmulatedLearning(self._answer)

    def asked(self, bed: int, message: str, steps: int) -> Received:
        received = Received(Head(message_id=message, kind="train"), self.folder / "request", self.time.now_ns())
        self.learning.begin(self.machines[bed], received, COST, steps)
        return received

    def learned(self, received: Received) -> bool:
        """Really: its reply is written, with the stamps of that."""
        reply = self.folder / f"{received.message_id}.reply"
        now = self.time.now_ns()
        stamps = {"received_ns": received.received_ns, "started_ns": now, "finished_ns": now}
        write_parcel(reply, pack(Head(message_id="re", kind="train", meta=cast("Any", stamps)), {}))
        return self.learning.done(LearnerRequest("w", 1, received, cast("Any", None)), reply)

    def _answer(self, request: LearnerRequest, reply: Path) -> None:
        name = request.received.message_id
        self.answered[name] = (self.time.now_ns() - BEGAN_NS) / 1e6
        self.stamps[name] = {
            key: (value - BEGAN_NS) / 1e6 for key, value in read_parcel(reply).head.meta.items() if type(value) is int
        }


def test_a_reply_waits_until_its_machine_has_learned_and_says_when_that_was(tmp_path: Path) -> None:
    beds = Beds(tmp_path)
    received = beds.asked(0, "a", steps=3)
    assert beds.learned(received)
    beds.time.run()
    assert beds.answered == {"a": 100.0}  # 10 and three times 30
    assert beds.stamps["a"] == {"received_ns": 0.0, "started_ns": 0.0, "finished_ns": 100.0}
    assert beds.machines[0].noted() == Releases(n=1, took_ns=ms(100.0), busy_ns=ms(100.0))


def test_devices_of_one_process_learn_side_by_side_and_each_one_thing_after_another(tmp_path: Path) -> None:
    beds = Beds(tmp_path)
    for received in [beds.asked(0, "a", 3), beds.asked(1, "b", 1), beds.asked(0, "c", 2)]:
        beds.learned(received)
    beds.time.run()
    assert beds.answered == {"b": 40.0, "a": 100.0, "c": 170.0}
    assert beds.stamps["c"]["started_ns"] == 100.0


def test_a_reply_that_comes_later_than_its_machine_would_have_had_it_is_told(tmp_path: Path) -> None:
    beds = Beds(tmp_path)
    received = beds.asked(0, "a", steps=3)
    beds.time.run(BEGAN_NS + ms(160.0))
    assert beds.learned(received)
    assert beds.answered == {"a": 160.0}
    assert beds.stamps["a"]["finished_ns"] == 100.0
    noted = beds.machines[0].noted()
    assert (noted.unready, noted.late, noted.slip_ns) == (1, 1, ms(60.0))


def test_what_nobody_wants_any_more_takes_no_more_of_the_machine(tmp_path: Path) -> None:
    beds = Beds(tmp_path)
    unwanted = beds.asked(0, "a", steps=100)
    beds.time.run(BEGAN_NS + ms(60.0))
    beds.learning.cancel(unwanted)
    assert not beds.learned(unwanted)
    received = beds.asked(0, "b", steps=1)
    beds.learned(received)
    beds.time.run()
    assert beds.answered == {"b": 104.0}  # the slice that had begun ends at 64


def test_a_reply_that_is_called_off_while_it_waits_is_given_to_nobody_and_deleted(tmp_path: Path) -> None:
    beds = Beds(tmp_path)
    unwanted = beds.asked(0, "a", steps=100)
    waiting = beds.asked(0, "b", steps=100)
    beds.learned(unwanted)
    beds.learned(waiting)
    beds.time.run(BEGAN_NS + ms(60.0))
    for received in (unwanted, waiting):
        beds.learning.cancel(received)
    beds.asked(0, "c", steps=1)
    beds.time.run()
    assert (beds.answered, beds.machines[0].noted().n) == ({}, 0)
    assert list(tmp_path.glob("*.reply")) == []
    assert beds.time.now_ns() == BEGAN_NS + ms(104.0)  # "b" has taken nothing of the machine


def test_on_one_core_a_decision_waits_for_no_more_than_a_slice_of_learning(tmp_path: Path) -> None:
    beds = Beds(tmp_path, cores=1)
    decided: list[float] = []

    class Owner:
        def served(self, served: Served[None]) -> None:
            decided.append((served.finished_ns - BEGAN_NS) / 1e6)

        def dropped(self, request: InferenceRequest[None], reason: str) -> None:
            raise AssertionError(reason)

        def swapped(self, _manifest: Manifest) -> None:
            pass

    server = beds.machines[0].server(Batch(max_batch=1), Queue(), Owner())
    server.swap(AtOnce(FakeRuntime()), MANIFEST)
    received = beds.asked(0, "a", steps=3)
    beds.learned(received)
    beds.time.run(BEGAN_NS + ms(20.0))
    server.submit(InferenceRequest(np.zeros(2, np.float32), 0, None))
    beds.time.run()
    assert decided == [44.0]
    assert beds.answered == {"a": 120.0}
