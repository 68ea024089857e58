"""What steps cost, one sample at a time, as the kernels draw it."""

from __future__ import annotations

from collections.abc import Callable

from edgebench.simulation import columns
from edgebench.simulation.columns import PURPOSES, STREAM, UNSURE
from edgebench.simulation.draws import draw
from edgebench.simulation.layout import Layout, missing_service_time

Costs = list[int]
"""Of a sample: ns, or bytes, by purpose."""

_AT = dict.fromkeys(
    (
        *(columns.TIMER, columns.CAPTURE, columns.SIZE_DRAW, columns.SITE_UP, columns.REPLY_DRAW, columns.SITE_DOWN),
        *(columns.OWN_CAPTURE, columns.HEAR, columns.CLOUD_REPLY, columns.BROUGHT_DOWN),
    ),
    0,
) | dict.fromkeys((columns.CLOUD_DECODE, columns.CLOUD_WAKE, columns.CLOUD_ANSWER, columns.CLOUD_INTAKE), 2)
"""Whose group a purpose is of: the device's, or the cloud's; all others are of whoever takes from the device."""


class EventCosts:
    """Of one layout."""

    def __init__(self, layout: Layout) -> None:
        flows = layout.arrays
        self._layout = layout
        self._values = layout.tables.values.tolist()
        self._drawn = flows.drawn.tolist()
        self._batches = flows.batches.tolist()
        self._share = flows.share.tolist()

    def of(self, flow: int, device: int, groups: tuple[int, int, int]) -> Callable[[int], Costs]:
        """What the samples of a workload on a device cost, by their number. groups: of the device, of whoever takes
        them from it, itself where nobody does, and the cloud's."""
        places = ((groups[_AT.get(purpose, 1)], purpose) for purpose in range(PURPOSES))
        steps = [self._drawn[flow][group][purpose] for group, purpose in places]
        fixed = [place for _, place, _ in steps]
        chances = [(purpose, *step) for purpose, step in enumerate(steps) if step[0] > 1]
        values = self._values

        def costs(seq: int) -> Costs:
            found = fixed.copy()
            for purpose, count, place, stream in chances:
                found[purpose] = values[place + int(draw(stream, device, seq) * count)]
            return found

        return costs if chances else lambda _seq: fixed

    def service_ns(
        self, purpose: int, flow: int, group: int, device: int, seq: int, size: int, *, at_once: bool = False
    ) -> int:
        """What a batch takes whose first sample this is. at_once: it begins as soon as another is done. Raises
        EdgebenchError where that was never measured."""
        count, place, _ = self._batches[flow][group][at_once][size]
        if count == 0:
            raise missing_service_time(self._layout, flow, group, size)
        stream = self._drawn[flow][group][purpose][STREAM]
        return place if count == 1 else self._values[place + int(draw(stream, device, seq) * count)]

    def is_unsure(self, flow: int, device: int, seq: int) -> bool:
        """Whether a cascade passes a sample on."""
        return draw(self._drawn[flow][0][UNSURE][STREAM], device, seq) < self._share[flow]
