"""Samples whose stamps were made by clocks of several machines."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.samples import HeadStamps, SampleRecord
from edgebench.fabric.records import Faulted, MachineFacts
from edgebench.results.chunks import BY_DECIDER, BY_DEVICE, BY_EDGE, HEAD_HOPS, HOPS, SampleChunk, chunks_of
from edgebench.results.figures import Result
from edgebench.results.observations import MachineSeen, Observations
from edgebench.results.sample_figures import Hops, HopStatistics
from edgebench.results.sample_times import SampleTimes
from edgebench.results.workload_figures import known_within
from edgebench.seeds import rng_for
from edgebench.topology.deployment import Deployment
from edgebench.topology.fault_model import FaultPlan
from tests.core.other_clocks import AHEAD_NS, Delay, MachineClock, exchanges, lan, wifi
from tests.results import factory
from tests.results.factory import START_NS, at_ms

CLOCKS = {"pi-bed": MachineClock(AHEAD_NS - START_NS, ppm=200.0), "pi-ward": MachineClock(-NS_PER_S, ppm=-40.0)}
NODES = {"pi-bed": "bed_0", "pi-ward": "ward_0"}


def machines(*names: str, network: Delay = lan) -> dict[str, MachineSeen]:
    """Compared with the server from 5 s before the streams to 5 s after."""
    found = {}
    for name in names:
        rng = rng_for(7, "machine", name)
        before_s = START_NS / NS_PER_S - 6
        compared = exchanges(_From(CLOCKS[name], before_s), rng, there=network, back=network, until_s=15.0)
        shift_ns = round(before_s * NS_PER_S)
        kept = [msgspec.structs.replace(e, t1_ns=e.t1_ns + shift_ns, t2_ns=e.t2_ns + shift_ns) for e in compared]
        found[name] = MachineSeen(MachineFacts(name, "aarch64", 4, 4_000, "10.0.0.2"), kept)
    return found


class _From(MachineClock):
    """A clock of which the server's begins later."""

    def __init__(self, clock: MachineClock, from_s: float) -> None:
        super().__init__()
        self._clock, self._from_ns = clock, round(from_s * NS_PER_S)

    def own_ns(self, server_ns: int) -> int:
        return self._clock.own_ns(self._from_ns + server_ns)


def stamped(row: SampleRecord, **by: str) -> SampleRecord:
    """A row of true times as machines write it down. by: `device`, `edge`, `decider` -> whose clock it is."""
    stamps = dict(zip(("device", "edge", "decider"), (BY_DEVICE, BY_EDGE, BY_DECIDER), strict=True))
    columns = dict(zip(row_columns(), row.columns(), strict=True))
    changes: dict[str, Any] = {}
    for whose, machine in by.items():
        for name in stamps[whose]:
            if columns[name] is not None:
                changes[name] = CLOCKS[machine].own_ns(columns[name])
    return factory.changed(row, **changes)


def row_columns() -> tuple[str, ...]:
    from edgebench.core.samples import COLUMNS

    return COLUMNS


def observed(*names: str, network: Delay = lan) -> Observations:
    return factory.observations(machines=machines(*names, network=network))


def boards(observations: Observations) -> Deployment:
    """Each with its node."""
    return factory.placed(factory.deployment(), **{NODES[name]: name for name in observations.machines})


def result(observations: Observations, rows: list[SampleRecord]) -> Result:
    return factory.result(boards(observations), observations, rows)


def chunk(observations: Observations, *rows: SampleRecord, heads_on_devices: tuple[str, ...] = ()) -> SampleChunk:
    ((_, found),) = chunks_of(factory.table(*rows).to_batches(), ["death-risk"], heads_on_devices)
    return SampleTimes(boards(observations), observations).on_server(found)


def true_rows(n: int = 40) -> list[SampleRecord]:
    rng = rng_for(7, "rows")
    return [factory.row(seq, 100.0 * seq, (1, 3 + rng.exponential(), 2, 4, 5 + rng.exponential())) for seq in range(n)]


def test_hops_between_machines_are_true_within_their_bound_and_add_up_to_the_device_s_own_latency() -> None:
    rows = true_rows()
    true = chunk(factory.observations(), *rows)
    found = chunk(observed("pi-bed", "pi-ward"), *(stamped(row, device="pi-bed", decider="pi-ward") for row in rows))
    assert set(found.hop_bounds_ns) == {"uplink", "downlink"}
    for hop in ("uplink", "downlink"):
        assert np.abs(found.hops_ns[hop] - true.hops_ns[hop]).max() <= found.hop_bounds_ns[hop] < 0.5 * NS_PER_MS
    for hop in ("sense", "queue", "infer"):  # of one clock, which is 200 ppm off at the most
        assert np.abs(found.hops_ns[hop] - true.hops_ns[hop]).max() <= 2_000
    assert np.sum([found.hops_ns[hop] for hop in HOPS], axis=0).tolist() == found.latency_ns.tolist()
    own = chunk(factory.observations(), *(stamped(row, device="pi-bed", decider="pi-ward") for row in rows))
    assert found.latency_ns.tolist() == own.latency_ns.tolist()
    assert np.abs(found.ns["scheduled_ns"] - true.ns["scheduled_ns"]).max() < 0.3 * NS_PER_MS


def test_what_goes_on_to_the_cloud_crosses_from_the_edge_s_clock_to_the_server_s() -> None:
    rows = []
    for seq in range(20):
        row = factory.row(seq, 100.0 * seq, (1, 30, 2, 4, 30), decider="cloud")
        due = 100.0 * seq
        ways = {"forward_in_ns": 5, "forward_out_ns": 6, "return_in_ns": 57, "return_out_ns": 58}
        rows.append(factory.changed(row, **{name: at_ms(due + ms) for name, ms in ways.items()}))
    true = chunk(factory.observations(), *rows)
    found = chunk(observed("pi-ward"), *(stamped(row, edge="pi-ward") for row in rows))
    assert set(found.hop_bounds_ns) == {"uplink", "backhaul_up", "backhaul_down", "downlink"}
    for hop in HOPS:
        limit_ns = found.hop_bounds_ns.get(hop, 1_000)
        assert np.abs(found.hops_ns[hop] - true.hops_ns[hop]).max() <= limit_ns < 0.3 * NS_PER_MS
    assert np.sum([found.hops_ns[hop] for hop in HOPS], axis=0).tolist() == found.latency_ns.tolist()


def test_the_first_stage_of_a_chain_is_stamped_by_whoever_s_it_is() -> None:
    of_edge, of_device = [], []
    for seq in range(20):
        due = 100.0 * seq
        row = factory.row(seq, due, (6, 30, 2, 4, 30), decider="cloud")
        ways = {"forward_in_ns": 8, "forward_out_ns": 16, "return_in_ns": 60, "return_out_ns": 61}
        forwarded = factory.changed(row, **{name: at_ms(due + ms) for name, ms in ways.items()})
        head = HeadStamps(at_ms(due + 9), at_ms(due + 10), at_ms(due + 15), 1)
        of_edge.append(factory.changed(forwarded, head=head))
        head = HeadStamps(row.captured_ns, at_ms(due + 1), at_ms(due + 5), 1)
        of_device.append(factory.changed(forwarded, head=head))
    for rows, whose in ((of_edge, "edge"), (of_device, "device")):
        machines = dict(zip(("device", "edge"), ("pi-bed", "pi-ward"), strict=True))
        heads = ("death-risk",) if whose == "device" else ()
        true = chunk(factory.observations(), *rows, heads_on_devices=heads)
        by_clocks = [stamped(row, **machines) for row in rows]
        moved = []
        for row, by in zip(rows, by_clocks, strict=True):
            assert row.decision is not None
            assert row.decision.stamps.head is not None
            own, head = CLOCKS[machines[whose]].own_ns, row.decision.stamps.head
            theirs = HeadStamps(own(head.ready_ns), own(head.started_ns), own(head.finished_ns), 1)
            moved.append(factory.changed(by, head=theirs))
        found = chunk(observed("pi-bed", "pi-ward"), *moved, heads_on_devices=heads)
        for hop in ("sense", "edge_forward", *HEAD_HOPS):
            assert np.abs(found.hops_ns[hop] - true.hops_ns[hop]).max() <= 2_000, (whose, hop)
        hops = (*HOPS, *HEAD_HOPS)
        assert np.sum([found.hops_ns[hop] for hop in hops], axis=0).tolist() == found.latency_ns.tolist()


def test_two_nodes_on_one_board_share_its_clock_and_need_no_bound() -> None:
    both = factory.placed(factory.deployment(), bed_0="pi-bed", ward_0="pi-bed")
    rows = [stamped(row, device="pi-bed", decider="pi-bed") for row in true_rows()]
    ((_, raw),) = chunks_of(factory.table(*rows).to_batches(), ["death-risk"])
    assert SampleTimes(both, observed("pi-bed")).on_server(raw).hop_bounds_ns == {}


def test_on_one_machine_nothing_is_changed() -> None:
    rows = true_rows(3)
    ((_, raw),) = chunks_of(factory.table(*rows).to_batches(), ["death-risk"])
    assert SampleTimes(factory.deployment(), factory.observations()).on_server(raw) is raw
    figures = result(factory.observations(), rows)
    assert "bound_ms" not in msgspec.to_builtins(figures)["workloads"]["death-risk"]["hops_ms"]["uplink"]


def test_the_result_states_the_bound_of_a_hop_and_the_clock_of_each_machine() -> None:
    rows = [stamped(row, device="pi-bed") for row in true_rows()]
    found = result(observed("pi-bed"), rows)
    hops = found.workloads["death-risk"].hops_ms
    assert hops is not None
    assert hops.uplink.bound_ms is not None
    assert hops.uplink.bound_ms < 0.3
    assert hops.uplink.p50 == pytest.approx(3.7, abs=0.6)
    assert hops.queue.p50 == pytest.approx(2, abs=1e-3)
    assert hops.queue.bound_ms is None
    machine = found.machines["pi-bed"]
    assert machine.clock is not None
    assert machine.clock.offset_ms is not None
    true_ms = (CLOCKS["pi-bed"].own_ns(START_NS) - START_NS) / NS_PER_MS
    assert machine.clock.bound_ms is not None
    assert abs(machine.clock.offset_ms - true_ms) <= machine.clock.bound_ms < 0.3
    assert machine.clock.drift_ppm == pytest.approx(200, abs=machine.clock.drift_bound_ppm)
    assert (found.nodes["bed-0"].machine, found.nodes["ward-0"].machine) == ("pi-bed", "here")
    assert found.verdict.valid
    (note,) = found.verdict.notes
    assert note.startswith(f"pi-bed: its clock drifted by {machine.clock.drift_ppm:.0f} ppm (up to 100 are usual)")


def test_a_figure_is_not_given_where_its_bound_is_more_than_a_twentieth_and_half_a_ms() -> None:
    hop = HopStatistics(p50=4.0, p99=40.0, mean=9.0)
    assert known_within(hop, 450_000) == HopStatistics(4.0, 40.0, 9.0, 0.45)
    assert known_within(hop, 1_900_000) == HopStatistics(None, 40.0, None, 1.9)
    assert known_within(hop, 2_100_000) == HopStatistics(None, None, None, 2.1)


def test_over_a_slow_network_short_hops_are_not_given() -> None:
    rows = [stamped(row, device="pi-bed") for row in true_rows()]
    hops = result(observed("pi-bed", network=wifi), rows).workloads["death-risk"].hops_ms
    assert isinstance(hops, Hops)
    assert hops.uplink.bound_ms is not None
    assert hops.uplink.bound_ms > 0.5
    assert (hops.uplink.p50, hops.uplink.mean) == (None, None)
    assert hops.infer.p50 == pytest.approx(4, abs=1e-3)


def test_a_clock_that_was_never_compared_gives_no_hop_and_no_valid_run() -> None:
    seen = machines("pi-bed")["pi-bed"]
    never = factory.observations(machines={"pi-bed": msgspec.structs.replace(seen, exchanges=[])})
    found = result(never, [stamped(row, device="pi-bed") for row in true_rows()])
    hops = found.workloads["death-risk"].hops_ms
    assert hops is not None
    assert hops.uplink == HopStatistics(None, None, None)
    assert found.workloads["death-risk"].latency_ms is not None
    assert found.verdict.kinds == ["clock"]
    assert found.verdict.reasons[0].startswith("pi-bed: its clock was never compared with the server's")


def test_a_step_in_mid_run_is_named_and_the_run_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    jumping = MachineClock(AHEAD_NS - START_NS, ppm=5.0).change(START_NS / NS_PER_S + 2, by_ms=80.0)
    monkeypatch.setitem(CLOCKS, "pi-bed", jumping)
    rows = [stamped(row, device="pi-bed") for row in true_rows()]
    found = result(observed("pi-bed"), rows)
    assert "clock" in found.verdict.kinds
    (reason,) = (reason for reason in found.verdict.reasons if "clock" in reason)
    assert reason.startswith("pi-bed: its clock jumped forward by 80.")
    assert "between 1.9 and 2.1 s" in reason or "between 1.8 and 2.1 s" in reason or "between 1.9 and 2.2 s" in reason


def test_a_step_that_a_fault_asked_for_is_a_note_and_what_is_late_by_it_no_slip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jumping = MachineClock(AHEAD_NS - START_NS, ppm=5.0).change(START_NS / NS_PER_S + 2, by_ms=80.0)
    monkeypatch.setitem(CLOCKS, "pi-bed", jumping)
    observations = observed("pi-bed")
    step = Faulted(None, "step", START_NS + 2 * NS_PER_S, nodes=("bed-0",), fault=0, by_ns=80 * NS_PER_MS)
    observations.faults.append(step)
    fault = FaultPlan("clock", 2.0, by_ms=80.0, machine="pi-bed", entry="faults[0]")
    asked = msgspec.structs.replace(boards(observations), faults=(fault,))
    found = factory.result(asked, observations, [stamped(row, device="pi-bed") for row in true_rows()])
    assert not [reason for reason in found.verdict.reasons if "clock" in reason]
    (note,) = (note for note in found.verdict.notes if "jumped" in note)
    assert note.startswith("pi-bed: its clock jumped forward by 80.")
    assert note.endswith("as a fault had it, and every latency of that time is wrong by as much")
    (figures,) = found.faults
    assert (figures.kind, figures.target, figures.at_s, figures.until_s) == ("clock", "machine", 2.0, 2.0)


def test_a_drift_that_changes_in_mid_run_is_named_and_allowed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    other = MachineClock(AHEAD_NS - START_NS, ppm=5.0).change(START_NS / NS_PER_S + 1, ppm=400.0)
    monkeypatch.setitem(CLOCKS, "pi-bed", other)
    rows = true_rows()
    found = result(observed("pi-bed"), [stamped(row, device="pi-bed") for row in rows])
    true = result(factory.observations(), rows)
    assert found.verdict.valid
    (note,) = (note for note in found.verdict.notes if "changed" in note)
    assert note.startswith("pi-bed: its clock drifted by ")
    hops, true_hops = found.workloads["death-risk"].hops_ms, true.workloads["death-risk"].hops_ms
    assert hops is not None
    assert true_hops is not None
    assert hops.uplink.bound_ms is not None
    assert hops.uplink.mean == pytest.approx(true_hops.uplink.mean, abs=hops.uplink.bound_ms)


def test_frames_of_joint_decisions_are_joined_by_the_device_s_own_clock() -> None:
    found = chunk(observed("pi-bed"), *(stamped(row, device="pi-bed") for row in true_rows(3)))
    own = chunk(factory.observations(), *(stamped(row, device="pi-bed") for row in true_rows(3)))
    assert found.own_ns("arrived_ns").tolist() == own.ns["arrived_ns"].tolist()
    assert found.select(np.array([False, True, False])).own_ns("scheduled_ns").tolist() == [own.ns["scheduled_ns"][1]]
