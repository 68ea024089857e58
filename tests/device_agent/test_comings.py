"""Devices that go and come back: one with a stream whose decisions may be late, in virtual time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from device_agent.comings import Comings
from edgebench.core.device import Device
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.records import Entry, Faulted
from edgebench.topology.model import Trace
from edgebench.topology.presence import Presence
from tests.core.ward import Bed, plan

S = 1_000_000_000


class Going:
    """A bed that is there for its first second, and again from `back_s` on; it senses at 0.9 s and, if it is there, at
    2.5 s. A decision takes `service_s`, and is given up after 30 s without any."""

    def __init__(self, patch: pytest.MonkeyPatch, service_s: float, back_s: float) -> None:
        self.bed = Bed(plan(load=Trace(file="")), lambda _size: 1e3 * service_s)
        self.time = self.bed.time
        self.told: list[tuple[float, str]] = []
        spans = (Presence(0.0, 1.0, None, 0), Presence(back_s, None, 1, None))
        process = SimpleNamespace(
            plan=SimpleNamespace(presence={"bed": spans}),
            nodes=["bed"],
            incarnation=0,
            reactor=SimpleNamespace(call_at=self.time.call_at, call_later=self._call_later),
            write=self._note,
        )
        patch.setattr("device_agent.comings.now_ns", self.time.now_ns)
        comings = Comings(
            cast(NodeProcess, process),
            come=lambda _device: self._say("connects"),
            go=lambda _device: self._say("hangs up"),
        )
        device = Device("bed", "ward")
        device.streams.append(self.bed.stream)
        present = comings.spans_ns("bed")
        self.bed.stream.begin(0, seed=1, duration_s=10.0, trace_s=[0.9, 2.5], present=present)
        comings.begin(0, {"bed": device})
        self.time.run(60 * S)

    def _call_later(self, delay_s: float, call: Any) -> None:
        self.time.call_at(self.time.now_ns() + int(delay_s * S), call)

    def _note(self, entry: Entry) -> None:
        assert isinstance(entry, Faulted)
        self._say(entry.kind)

    def _say(self, what: str) -> None:
        self.told.append((round(self.time.now_ns() / S, 1), what))

    @property
    def rows(self) -> list[tuple[int, bool]]:
        """Which samples have come to an end, and whether by a decision."""
        return [(row.seq, row.arrived_ns is not None) for row in self.bed.rows]


def test_a_device_waits_for_what_is_undecided_before_it_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    going = Going(monkeypatch, service_s=0.5, back_s=2.0)
    assert going.told == [(1.0, "leave"), (1.5, "hangs up"), (2.0, "join"), (2.0, "connects")]
    assert going.rows == [(0, True), (1, True)]


def test_a_device_that_is_back_before_it_has_hung_up_stays_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    going = Going(monkeypatch, service_s=4.0, back_s=2.0)
    assert going.told == [(1.0, "leave"), (2.0, "join")]
    assert going.rows == [(0, True), (1, True)]


def test_a_decision_that_comes_when_its_device_has_given_it_up_is_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    going = Going(monkeypatch, service_s=35.0, back_s=34.0)
    assert [what for _, what in going.told] == ["leave", "hangs up", "join", "connects"]
    assert going.rows == [(0, False)]
    assert (going.bed.tally.duplicated, going.bed.tally.unexpected) == (0, 0)
    assert going.bed.stream.timeout.slowest_ns == 0, "it may have been kept for it"
