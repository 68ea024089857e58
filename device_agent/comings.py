"""Devices of an agent that come late, or go before the end, each in good order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edgebench.clock import now_ns
from edgebench.core.device import Device
from edgebench.fabric.node_process import NodeProcess
from edgebench.fabric.records import Faulted
from edgebench.topology.presence import Presence

_LOOK_S = 0.1


class Comings:
    """Who is there, and who is not. Everything runs in the reactor's thread."""

    def __init__(self, process: NodeProcess, *, come: Callable[[str], None], go: Callable[[Device], None]) -> None:
        """come: called with a device that is there from now on. go: with one that is not any more, and waits for
        nothing."""
        self._process = process
        self._come = come
        self._go = go
        self._spans = {name: spans for name, spans in process.plan.presence.items() if name in process.nodes}
        # Whoever is started again is told how long the streams have gone on only later.
        again = process.incarnation > 0
        self.absent = {device for device, spans in self._spans.items() if again or spans[0].joins is not None}
        self._leaving: dict[str, object] = {}
        """Those that wait for what is undecided before they go."""

    def spans_ns(self, device: str) -> list[tuple[int, int]]:
        """From when to when a device is there, from the start of the streams; nothing where that is all the time."""
        return [each.span_ns for each in self._spans.get(device, ())]

    def begin(self, start_ns: int, devices: dict[str, Device]) -> None:
        """The streams begin, or began, at a time. devices: of the agent, by their names."""
        at_ns = now_ns() - start_ns
        for name, spans in self._spans.items():
            for each in spans:
                from_ns, to_ns = each.span_ns
                if to_ns <= at_ns:
                    continue  # it was there, and has gone, before this process was started again
                come = partial(self._comes, name, each.joins if from_ns >= at_ns else None)
                self._process.reactor.call_at(start_ns + from_ns, come)
                if each.to_s is not None:
                    self._process.reactor.call_at(start_ns + to_ns, partial(self._goes, devices[name], each))

    def _comes(self, device: str, fault: int | None) -> None:
        is_here = self._leaving.pop(device, None) is not None
        if device not in self.absent and not is_here:
            return
        if fault is not None:
            self._process.write(Faulted(None, "join", now_ns(), nodes=(device,), fault=fault))
        if not is_here:
            self.absent.discard(device)
            self._come(device)

    def _goes(self, device: Device, presence: Presence) -> None:
        """Nothing more is sensed; what is under way is waited for, as at the end of the streams."""
        self._process.write(Faulted(None, "leave", now_ns(), nodes=(device.name,), fault=presence.leaves))
        now = now_ns()
        leaving = self._leaving[device.name] = object()
        until_ns = max((stream.leaves_by_ns(now) for stream in device.streams), default=now)
        self._take_leave(device, until_ns, leaving)

    def _take_leave(self, device: Device, until_ns: int, leaving: object) -> None:
        if self._leaving.get(device.name) is not leaving:
            return  # it is there again
        now = now_ns()
        if any(stream.pending for stream in device.streams) and now < until_ns:
            self._process.reactor.call_later(_LOOK_S, partial(self._take_leave, device, until_ns, leaving))
            return
        del self._leaving[device.name]
        for stream in device.streams:
            stream.leave(now)
        self.absent.add(device.name)
        self._go(device)
