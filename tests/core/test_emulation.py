"""A node on an emulated machine, in virtual time: when it releases what; all times worked out by hand."""

from __future__ import annotations

import msgspec
import numpy as np

from edgebench.core.batching import InferenceRequest, Served
from edgebench.core.deciding import HeadOutput, Origin
from edgebench.core.emulation import EmulatedDecider, EmulatedForwarder, EmulatedServer, Machine
from edgebench.core.fake_transport import AtOnce, VirtualTime
from edgebench.core.intake import Intake
from edgebench.core.releases import Releases
from edgebench.core.samples import Decision, SampleKey
from edgebench.core.station import Cores, Thread
from edgebench.core.tallies import Tally
from edgebench.inference.fake import FakeRuntime
from edgebench.inference.spec import Manifest, Part
from edgebench.topology.model import Batch, Queue
from edgebench.topology.profiles import Profile
from tests.core.ward import SAMPLE_BYTES, Payloads, ms
from tests.manifests import manifest
from tests.profiles import inference, message, ms_times, profile

MANIFEST = manifest(task="icu-death", batches=(1, 8, 32))
EXACT = profile(
    inference=(inference(1, 20.0), inference(8, 41.0)),
    messages=(message(SAMPLE_BYTES, 1.0, 2.0, 3.0), message(8 * SAMPLE_BYTES, 8.0, 16.0, 24.0)),
)
"""A batch of n takes 17 + 3 n ms; a sample 1 ms at the broker, and 2 ms to be taken in."""


class Ward:
    """An emulated edge that decides, whose answers leave through its own broker."""

    def __init__(self, described: Profile = EXACT, batch: Batch | None = None, queue: Queue | None = None) -> None:
        self.time = VirtualTime()
        self.tally = Tally()
        self.machine = Machine("ward", described, self.time, 1, has_broker=True)
        self.decider = EmulatedDecider(self.machine, self.tally, self, 1)
        self.server = self.machine.server(batch or Batch(), queue or Queue(), self.decider)
        self.decider.served_by(self.server)
        self.decider.expect(MANIFEST, Payloads())
        self.server.swap(AtOnce(FakeRuntime()), MANIFEST)
        self.decided: list[tuple[int, float, float, int]] = []
        """Sequence number, ms at which it was decided and left, batch."""

    def arrives(self, *seqs: int) -> None:
        for seq in seqs:
            self.decider.take(Origin("bed"), Payloads.of(seq))

    def answer(self, _origin: Origin, decision: Decision) -> None:
        finished_ns = decision.stamps.finished_ns

        def leave(end_ns: int) -> None:
            self.machine.released(decision.stamps.received_ns, end_ns)
            self.decided.append((decision.seq, finished_ns / 1e6, end_ns / 1e6, decision.batch))

        self.machine.sends(finished_ns, SAMPLE_BYTES, 1, leave, thread=self.server.thread, to_own_broker=True)

    def answer_plain(self, _origin: Origin, _output: list[float], _digest: str, _id: str | int | None) -> None:
        raise AssertionError("no plain sample was sent")

    def flush(self) -> None:
        pass

    def swapped(self, _manifest: Manifest) -> None:
        pass


def test_a_sample_passes_broker_node_model_and_back_each_at_its_own_cost() -> None:
    ward = Ward()
    ward.time.run(ms(5.0))
    ward.arrives(0)
    ward.time.run()
    # 5 + 1 + 2 is taken in, + 20 is decided, + 3 is sent, + 1 is with its own broker.
    assert ward.decided == [(0, 28.0, 32.0, 1)]
    assert ward.machine.noted() == Releases(n=1, took_ns=ms(24.0), busy_ns=ms(27.0))


def test_a_model_that_had_nothing_to_do_begins_once_its_thread_is_awake_and_one_at_work_begins_at_once() -> None:
    ward = Ward(msgspec.structs.replace(EXACT, wake=ms_times(0.5)), batch=Batch(max_batch=1))
    ward.arrives(0, 1)
    ward.time.run()
    # Taken in at 3 and 5: the second waits for the first.
    assert [(seq, finished) for seq, finished, _, _ in ward.decided] == [(0, 23.5), (1, 46.5)]


def test_a_thread_that_wakes_up_is_awake_no_sooner_for_what_comes_meanwhile() -> None:
    ward, wakes_ns = Ward(), iter((ms(4.0), ms(0.0)))
    ward.server = EmulatedServer(
        Thread(Cores(ward.time, 1)),
        ward.time,
        Batch(),
        Queue(),
        ward.decider,
        Releases(),
        ward.machine.times_of,
        lambda: next(wakes_ns),
    )
    ward.decider.served_by(ward.server)
    ward.server.swap(AtOnce(FakeRuntime()), MANIFEST)
    ward.arrives(0, 1)
    ward.time.run()
    # Taken in at 3 and 5, begun 4 after the first.
    assert [(seq, finished, batch) for seq, finished, _, batch in ward.decided] == [(0, 30.0, 2), (1, 30.0, 2)]


def test_a_batch_is_what_the_emulated_machine_has_when_its_model_is_free() -> None:
    ward = Ward()
    ward.arrives(0, 1, 2)
    ward.time.run()
    # Taken in at 3, 5 and 7; the first alone until 23, sent by 26: then the two others together, until 26 + 23.
    assert [(seq, finished, batch) for seq, finished, _, batch in ward.decided] == [
        (0, 23.0, 1),
        (1, 49.0, 2),
        (2, 49.0, 2),
    ]
    assert [left for _, _, left, _ in ward.decided] == [27.0, 53.0, 56.0]


def test_on_one_core_messages_wait_for_the_model() -> None:
    ward = Ward(profile(inference=EXACT.inference, messages=EXACT.messages, cores=1))
    ward.arrives(0)
    ward.time.run(ms(4.0))
    ward.arrives(1)
    ward.time.run()
    # From 23 on: the second's relay, the first's answer (27), the second is taken in (29), the first leaves (30).
    assert ward.decided == [(0, 23.0, 30.0, 1), (1, 50.0, 54.0, 1)]


def test_a_full_queue_is_that_of_the_emulated_machine() -> None:
    ward = Ward(batch=Batch(max_batch=1), queue=Queue(max_samples=2, when_full="drop-newest"))
    ward.arrives(0, 1, 2, 3, 4)
    ward.time.run()
    assert [seq for seq, *_ in ward.decided] == [0, 1, 2]
    assert ward.tally.dropped == {"queue-full": 2}


def test_a_batch_that_is_not_full_waits_without_a_core() -> None:
    ward = Ward(batch=Batch(max_batch=8, max_wait_ms=10.0))
    ward.arrives(0, 1)
    ward.time.run()
    # Taken in at 3 and 5, begun 10 after the first.
    assert [(seq, finished, batch) for seq, finished, _, batch in ward.decided] == [(0, 36.0, 2), (1, 36.0, 2)]


def test_two_models_of_one_machine_share_its_cores() -> None:
    time = VirtualTime()
    finished: list[float] = []

    class Owner:
        def served(self, served: Served[None]) -> None:
            finished.append(served.finished_ns / 1e6)

        def dropped(self, request: InferenceRequest[None], reason: str) -> None:
            raise AssertionError(reason)

        def swapped(self, _manifest: Manifest) -> None:
            pass

    machine = Machine("bed", profile(inference=EXACT.inference, cores=2), time, 1, has_broker=False)
    servers = [machine.server(Batch(max_batch=1), Queue(), Owner()) for _ in range(3)]
    for server in servers:
        server.swap(AtOnce(FakeRuntime()), MANIFEST)
        server.submit(InferenceRequest(np.zeros(2, np.float32), 0, None))
    time.run()
    assert finished == [20.0, 20.0, 40.0]


def test_what_comes_again_takes_as_long_to_be_taken_in_and_nothing_more() -> None:
    ward = Ward()
    ward.arrives(0, 0)
    ward.time.run()
    assert ward.decided == [(0, 23.0, 27.0, 1)]
    assert (ward.tally.decided, ward.tally.duplicated) == (1, 1)
    # Twice 1 + 2, and once 20 + 3 + 1.
    assert ward.machine.noted().busy_ns == ms(30.0)


def test_a_forwarder_takes_in_and_passes_on_in_time() -> None:
    time, passed = VirtualTime(), list[tuple[str, float]]()

    class Cloudward:
        def pass_on(self, device: str, received_ns: int, _payload: bytes | memoryview, _key: SampleKey | None) -> None:
            machine.sends(received_ns, SAMPLE_BYTES, 1, lambda end_ns: passed.append((device, end_ns / 1e6)))

    machine = Machine("ward", EXACT, time, 1, has_broker=True)
    forwarder = EmulatedForwarder(machine, Intake(Tally()), Cloudward(), 1)
    forwarder.intake.expect(Payloads())
    for seq in (0, 0, 1):
        forwarder.take(Origin("bed"), Payloads.of(seq))
    time.run()
    # What comes again is taken in from 3 to 5; then the first is sent, and then the last taken in and sent.
    assert passed == [("bed", 8.0), ("bed", 13.0)]


def test_what_the_machine_has_taken_in_already_waits_for_the_model_alone() -> None:
    ward = Ward()
    accepted = ward.decider.intake.take("bed", Payloads.of(0))
    assert accepted is not None
    ward.time.run(ms(3.0))
    ward.decider.taken(Origin("bed"), b"", accepted, ms(3.0))
    ward.time.run()
    assert ward.decided == [(0, 23.0, 27.0, 1)]


def test_pictures_are_decompressed_after_they_have_been_taken_in() -> None:
    ward = Ward()
    ward.decider = EmulatedDecider(ward.machine, ward.tally, ward, 1, decompress=ms_times(5.0))
    ward.server = ward.machine.server(Batch(), Queue(), ward.decider)
    ward.decider.served_by(ward.server)
    ward.decider.expect(MANIFEST, Payloads())
    ward.server.swap(AtOnce(FakeRuntime()), MANIFEST)
    ward.arrives(0)
    ward.time.run()
    assert ward.decided == [(0, 28.0, 32.0, 1)]


def test_the_first_part_of_a_model_takes_its_share_and_what_it_gives_is_handed_on() -> None:
    ward, handed = Ward(), list[HeadOutput]()

    class Uplink:
        def hand_on(self, output: HeadOutput) -> None:
            handed.append(output)

    ward.decider = EmulatedDecider(ward.machine, ward.tally, ward, 1, next_stage=Uplink())
    ward.server = ward.machine.server(Batch(), Queue(), ward.decider)
    ward.decider.served_by(ward.server)
    head = msgspec.structs.replace(MANIFEST, part=Part("head", "dense", 0.25))
    ward.decider.expect(head, Payloads())
    ward.server.swap(AtOnce(FakeRuntime()), head)
    ward.arrives(0)
    ward.time.run()
    # Taken in at 3; a quarter of 20.
    assert [(each.seq, each.received_ns, each.stamps.finished_ns) for each in handed] == [(0, ms(3.0), ms(8.0))]
    assert ward.decided == []


def test_a_release_is_late_beyond_1_ms_and_5_percent_of_what_it_took() -> None:
    releases = Releases()
    releases.note(0, ms(10.0), ms(10.9))
    releases.note(0, ms(100.0), ms(104.0))
    releases.note(0, ms(10.0), ms(11.1))
    releases.note(0, ms(100.0), ms(106.0))
    assert releases == Releases(
        n=4, slip_ns=ms(0.9) + ms(4.0) + ms(1.1) + ms(6.0), took_ns=ms(220.0), most_slip_ns=ms(6.0), late=2
    )


def test_a_message_larger_than_any_that_was_measured_is_told() -> None:
    ward = Ward(profile(inference=EXACT.inference, messages=(message(SAMPLE_BYTES - 1, 1.0, 2.0, 3.0),)))
    ward.arrives(0)
    ward.time.run()
    assert ward.machine.noted().beyond == 2


def test_what_passes_really_is_a_part_of_what_the_emulated_machine_takes() -> None:
    ward = Ward()
    ward.machine.passes_really(ms(0.6))
    ward.time.run(ms(5.0))
    ward.arrives(0)
    ward.time.run()
    # Its broker had it 0.4 ms before, and what it sends is with the device's broker 0.4 ms after it is given away.
    assert ward.decided == [(0, 27.6, 31.2, 1)]


def test_a_machine_that_has_more_to_send_than_it_gets_done_is_behind() -> None:
    ward = Ward()
    for _ in range(70):
        ward.machine.sends(0, SAMPLE_BYTES, 1, lambda _due_ns: None)
    assert ward.machine.is_behind
    ward.time.run(ms(17.0))
    assert ward.machine.is_behind  # five are done, at 3 ms each
    ward.time.run(ms(18.0))
    assert not ward.machine.is_behind
