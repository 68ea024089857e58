"""What faults did to the parts of a run, step by step, and when it was their doing that parts were late."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgebench.clock import NS_PER_S
from edgebench.fabric.records import Faulted
from edgebench.results.chunks import Bools, SampleChunk

_CATCHING_UP_NS = NS_PER_S
"""So long after a part goes on again it has more to do than what is due."""
_ENDS = ("resume", "kill")
_END_OF_TIME_NS = (1 << 63) - 1


class Standstills:
    """When which nodes stood still, as a fault had it, and a moment more, in which they catch up; and when their clocks
    were stepped, which is as if they had."""

    def __init__(self, steps: Iterable[Faulted]) -> None:
        self._spans: dict[str, list[tuple[int, int]]] = {}
        paused: dict[str, Faulted] = {}
        for step in sorted(steps, key=lambda step: step.at_ns):
            if step.kind == "step":
                # The server's clock knows of the time only that it is before or after the step.
                around_ns = step.by_ns + _CATCHING_UP_NS
                self._add(step, step.at_ns + around_ns, from_ns=step.at_ns - around_ns)
            elif step.part is None:
                continue
            elif step.kind == "pause":
                paused[step.part] = step
            elif step.kind in _ENDS and step.part in paused:
                self._add(paused.pop(step.part), step.at_ns + _CATCHING_UP_NS)
        for step in paused.values():
            self._add(step, _END_OF_TIME_NS)

    def _add(self, step: Faulted, until_ns: int, *, from_ns: int | None = None) -> None:
        for node in step.nodes:
            self._spans.setdefault(node, []).append((step.at_ns if from_ns is None else from_ns, until_ns))

    def touched(self, chunk: SampleChunk) -> Bools:
        """Which samples were due while their device stood still [sample]."""
        found = np.zeros(len(chunk), np.bool_)
        for node, spans in self._spans.items():
            mine = chunk.is_of("node", node)
            for from_ns, to_ns in spans if mine.any() else ():
                found |= mine & (chunk.ns["scheduled_ns"] >= from_ns) & (chunk.ns["scheduled_ns"] <= to_ns)
        return found

    def during(self, node: str, second: int) -> bool:
        """Whether a node stood still in any of a second."""
        return self.touch(node, second * NS_PER_S, (second + 1) * NS_PER_S - 1)

    def touch(self, node: str, from_ns: int, to_ns: int) -> bool:
        """Whether a node stood still at any time between these, both included."""
        return any(first_ns <= to_ns and from_ns <= last_ns for first_ns, last_ns in self._spans.get(node, ()))
