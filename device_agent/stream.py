"""One workload on one device: samples on schedule, and what has become of each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from device_agent.sensor import Sensor
from edgebench.clock import NS_PER_S, now_ns
from edgebench.core.samples import Decision, SampleRecord
from edgebench.core.schedules import open_loop, query_size
from edgebench.core.tallies import Tally
from edgebench.fabric import topics, wire
from edgebench.fabric.pictures import JPEG, compressed
from edgebench.inference.serving import InferenceRequest
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import After, Offline

if TYPE_CHECKING:
    from device_agent.agent import DeviceAgent

_CLOSED_LOOP_PATIENCE_S = 10.0
_AGAINST_OVERRUN = 64
"""Samples sent in one turn of the loop at most, so that decisions are read meanwhile."""
_BACKED_UP_S = 0.001
"""How soon an offline load looks again whether its connection takes more."""


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """A sample on its way. envelope: only of a device that may have to send it again from elsewhere."""

    scheduled_ns: int
    captured_ns: int
    sent_ns: int | None
    size_bytes: int
    label: bytes
    envelope: bytes = b""


class Stream:
    """One workload on one device."""

    def __init__(self, agent: DeviceAgent, device: str, plan: WorkloadPlan, sensor: Sensor, tally: Tally) -> None:
        self.device = device
        self.plan = plan
        self.tally = tally
        self.pending: dict[int, Pending] = {}
        self.last_arrival_ns = 0
        self._agent = agent
        self._sensor = sensor
        self._sample_topic = topics.sample(agent.run_id, device, plan.name)
        self._next_seq = 0
        self._highest_decided: dict[str, int] = {}
        self._offsets: Iterator[int] = iter(())
        self._query_size = query_size(plan.load)
        self._all_at_once = isinstance(plan.load, Offline)
        self._start_ns = 0
        self._end_ns = 0
        self._awaited = plan.load.workloads if isinstance(plan.load, After) else ()
        self._decided_before: dict[int, int] = {}
        self._given_up: set[int] = set()
        self._moves = any(move.node == device for move in agent.process.plan.moves)

    def begin(self, start_ns: int) -> None:
        """Sense from `start_ns` on, for the duration of the run."""
        plan = self._agent.process.plan
        self._start_ns = start_ns
        self._end_ns = start_ns + int(plan.duration_s * NS_PER_S)
        if self._query_size is not None:
            self._agent.process.reactor.call_at(start_ns, partial(self._query, start_ns))
            return
        pace = self.plan.paced_by or self.plan.name
        self._offsets = open_loop(
            self.plan.load,
            seed=plan.seed,
            device=self.device,
            workload=pace,
            duration_s=plan.duration_s,
            trace_s=plan.traces.get(pace, []),
        )
        self._arm(next(self._offsets, None))

    def decided(self, decision: Decision, arrived_ns: int, reply_bytes: int) -> None:
        """A decision came in."""
        pending = self.pending.pop(decision.seq, None)
        if pending is None:
            if decision.seq in self._given_up:
                self._given_up.discard(decision.seq)  # too late: it is written down as lost
            elif 0 <= decision.seq < self._next_seq:
                self.tally.duplicated += 1
            else:
                self.tally.unexpected += 1
            return
        # By decider: what the edge passes on to the cloud takes longer than what it decides itself.
        if decision.seq < self._highest_decided.get(decision.decider, -1):
            self.tally.reordered += 1
        else:
            self._highest_decided[decision.decider] = decision.seq
        self.tally.decided += 1
        self.last_arrival_ns = arrived_ns
        self._agent.rows.append(
            SampleRecord(
                self.device,
                self.plan.name,
                decision.seq,
                pending.scheduled_ns,
                pending.captured_ns,
                pending.sent_ns,
                pending.size_bytes,
                pending.label,
                arrived_ns,
                reply_bytes,
                decision,
            )
        )
        self._agent.frame_decided(self, decision.seq, arrived_ns)
        if self._query_size is not None and not self.pending:
            self._query(arrived_ns)

    def decided_before(self, seq: int, now: int) -> None:
        """One of the workloads that are awaited has decided a frame; with the last of them it is sent."""
        count = self._decided_before.pop(seq, 0) + 1
        if count < len(self._awaited):
            self._decided_before[seq] = count
        else:
            self._send(now, seq)

    def lost_rows(self) -> list[SampleRecord]:
        """Rows of the samples that never got a decision; they no longer wait."""
        rows = [
            SampleRecord(
                self.device, self.plan.name, seq, p.scheduled_ns, p.captured_ns, p.sent_ns, p.size_bytes, p.label
            )
            for seq, p in self.pending.items()
        ]
        self.pending.clear()
        return rows

    @property
    def takes_along(self) -> list[bytes]:
        """The samples that are undecided, and may be sent again from another site."""
        return [pending.envelope for pending in self.pending.values() if pending.envelope]

    def send_again(self) -> None:
        """Publish what is undecided once more, since the device is at another site now."""
        for envelope in self.takes_along:
            self._agent.connections[self.device].publish(self._sample_topic, envelope, qos=self.plan.qos)

    def give_up_query(self, now: int) -> None:
        """A closed loop whose query got no decision for too long goes on with the next; what was open is lost."""
        if self._query_size is None or not self.pending:
            return
        if now - max(p.captured_ns for p in self.pending.values()) > _CLOSED_LOOP_PATIENCE_S * NS_PER_S:
            self._given_up.update(self.pending)
            self._agent.rows += self.lost_rows()
            self._query(now)

    def _arm(self, offset_ns: int | None) -> None:
        if offset_ns is None:
            return
        self._agent.process.reactor.call_at(self._start_ns + offset_ns, partial(self._fire, offset_ns))

    def _fire(self, offset_ns: int | None) -> None:
        if self._all_at_once and self._agent.connections[self.device].backed_up:
            # Everything is due already: what the network does not take yet stays with the sensor, or the
            # acknowledgements of decisions would queue behind it all, and the memory would hold it all.
            self._agent.process.reactor.call_later(_BACKED_UP_S, partial(self._fire, offset_ns))
            return
        now = now_ns()
        for _ in range(_AGAINST_OVERRUN):
            if offset_ns is None or self._start_ns + offset_ns > now:
                break
            self._send(self._start_ns + offset_ns)
            offset_ns = next(self._offsets, None)
        self._arm(offset_ns)

    def _query(self, due_ns: int) -> None:
        if due_ns >= self._end_ns:
            return
        for _ in range(self._query_size or 0):
            self._send(due_ns)

    def _send(self, scheduled_ns: int, seq: int | None = None) -> None:
        """seq: of the frame, where that is known; else the next."""
        seq = self._next_seq if seq is None else seq
        self._next_seq = max(self._next_seq, seq + 1)
        self.tally.scheduled += 1
        captured_ns = now_ns()
        x, label = self._sensor.capture()
        server = self._agent.servers.get(self.plan.name)
        if server is not None:
            self.pending[seq] = Pending(scheduled_ns, captured_ns, captured_ns, 0, label)
            self.tally.sent += 1
            server.submit(InferenceRequest(x, captured_ns, (self, seq)))
            return
        compress = self.plan.compress
        payload = x.data.cast("B") if compress is None else memoryview(compressed(x, compress.quality))
        sent_ns = now_ns()
        sample = wire.Sample(
            wire.VERSION,
            seq,
            scheduled_ns,
            captured_ns,
            sent_ns,
            self._sensor.dtype if compress is None else JPEG,
            self._sensor.shape,
            None,  # which no sensor would know: it stays here
            payload,
        )
        envelope = wire.encode(sample)
        kept = envelope if self._moves and self.plan.qos else b""
        self.pending[seq] = Pending(scheduled_ns, captured_ns, sent_ns, len(envelope), label, kept)
        if kept and self._agent.is_moving(self.device):
            self.tally.sent += 1  # with all that is undecided, once it has come to its new site
        elif self._agent.connections[self.device].publish(self._sample_topic, envelope, qos=self.plan.qos):
            self.tally.sent += 1
        else:
            self.tally.drop("not-connected")
