"""A whole tree in virtual time, a window of it after another, where nothing that happens acts back on what comes
before.

Memory holds what is under way, and not what has been: messages are handed out as soon as all is known of them. What
falls due is drawn for a window, since all devices are asked for it; a window is gone through in parts, so small that a
processor's cache holds their messages. Devices and edges are some parts ahead of the cloud and the way back, on a
thread of their own: one waits for the other once for all these.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgebench.simulation import columns
from edgebench.simulation.advancing import above, below
from edgebench.simulation.columns import (
    ABSENT,
    ARRIVED,
    FIRST,
    FIRST_KEY,
    LAST_KEY,
    NEAR,
    ON_DEVICE,
    PART_COLUMNS,
    WHERE,
    Above,
    Bag,
    BagsAbove,
    BagsBelow,
    Below,
    Carried,
    Parts,
    Rows,
)
from edgebench.simulation.layout import Layout, missing_service_time
from edgebench.simulation.ordering import poured_out, room
from edgebench.simulation.places import Places
from edgebench.simulation.stages import handed_out

_MESSAGES_A_PART = 1 << 11
_PARTS_TOGETHER = 4
"""So many are gone through by a thread until it waits for the other."""
_PARTS = 8
_SOURCES_A_MESSAGE = 3
"""A window has so many parts, or more where there are so many devices that asking them all would take longer."""
_KEY_BITS = 62


class Vectorised:
    """One simulation."""

    def __init__(self, layout: Layout, places: Places, messages_a_part: int = _MESSAGES_A_PART) -> None:
        """places: by which the lanes of devices are counted. messages_a_part: about so many fall due in one."""
        self._layout = layout
        self._messages = messages_a_part
        self._schedules = layout.schedules()
        fleet, n_flows, edges = layout.fleet, len(layout.flows), layout.fleet.count("edge")
        sources, edge_group = layout.sources(), fleet.group_of("edge")
        deciding = fleet.count("device") * n_flows if (sources[:, WHERE] == ON_DEVICE).any() else 0
        edge_free, return_free = np.zeros((2, edges), np.int64)
        self._below = Below(
            sources,
            layout.devices(),
            fleet.group_of("device"),
            edge_group,
            edge_free,
            edges=columns.servers(edges * n_flows),
            own=columns.servers(deciding),
            heard=np.zeros(deciding, np.int64),
            up=layout.device_lanes("up", places.of_device),
            far_up=layout.edge_lanes("up"),
        )
        self._above = Above(
            edge_group,
            return_free,
            cloud_group=np.array([fleet.cloud.number], np.int64),
            cloud_free=np.zeros(1, np.int64),
            cloud=columns.servers(n_flows),
            far_down=layout.edge_lanes("down"),
            down=layout.device_lanes("down", places.of_device),
        )
        self._bags_below = BagsBelow(*(columns.bag(0) for _ in BagsBelow._fields))
        self._bags_above = BagsAbove(*(columns.bag(0) for _ in BagsAbove._fields))
        self._bits = max(1, len(sources).bit_length())
        messages = max(_PARTS * messages_a_part, len(sources) // _SOURCES_A_MESSAGE)
        self._asked_ns = max(1, layout.end_ns * messages // max(1, layout.expected()))
        self._keys = np.empty(2 * messages, np.int64)
        self._rows = np.zeros((0, layout.columns), np.int64)
        self._handed_out = [self._rows, self._rows]
        """Filled in by turns: whoever took the last rows may still be at them, on another thread."""
        self._handed_over, self._handing_over = np.zeros((2, _PARTS_TOGETHER, 2), np.int64)
        self._grow(4 * _PARTS_TOGETHER * messages_a_part)

    def run(self) -> Iterator[Rows]:
        """The rows [message, column] of all samples, as they come to their end; those without `ARRIVED` are lost. They
        are there until the next but one are asked for, which take their place: memory that is new is slow.

        Raises EdgebenchError where a service time is needed that is not known.
        """
        steps = self._steps()
        step: Parts | None = None
        following = next(steps, None)
        with ThreadPoolExecutor(1, "below") as ahead:
            while step is not None or following is not None:
                job = None
                if following is not None:
                    due = int(following[-1, LAST_KEY] - following[0, FIRST_KEY])
                    if self._bags_below.unused[NEAR] < due:
                        self._grow(2 * max(len(self._rows), due))
                    job = ahead.submit(self._go_below, following, steps)
                if step is not None:
                    yield from self._go_above(step)
                step, following = following, job.result() if job else None
                self._hand_over()
        left = np.delete(self._rows, self._bags_below.unused[FIRST:][: self._bags_below.unused[NEAR]], axis=0)
        left[:, ARRIVED] = ABSENT
        yield left

    @property
    def carried(self) -> dict[tuple[str, str], Carried]:
        """What has crossed links, by the tier of the child and direction."""
        lanes = {("device", "up"): self._below.up, ("device", "down"): self._above.down}
        lanes |= {("edge", "up"): self._below.far_up, ("edge", "down"): self._above.far_down}
        return {key: Carried(*each.crossed.T) for key, each in lanes.items()}

    def _go_below(self, step: Parts, steps: Iterator[Parts]) -> Parts | None:
        """Go through some parts at devices and edges; the next ones."""
        tree, bags, arrays = self._below, self._bags_below, self._layout.arrays
        lacks = below(step, self._keys, self._bits, tree, bags, self._rows, arrays, self._rooms[0], self._handing_over)
        self._check(lacks)
        return next(steps, None)

    def _go_above(self, step: Parts) -> Iterator[Rows]:
        """Go through some parts above; what has come to its end, if anything has."""
        bags, arrays = self._bags_above, self._layout.arrays
        self._check(above(step, self._above, bags, self._rows, arrays, self._rooms[1], self._handed_over))
        n = int(bags.done[NEAR])
        if n:
            self._handed_out.reverse()
            if n > len(self._handed_out[0]):
                self._handed_out[0] = np.empty((2 * n, self._layout.columns), np.int64)
            handed_out(bags.done, bags.returned, self._rows, self._layout.until_ns, self._handed_out[0])
            yield self._handed_out[0][:n]

    def _hand_over(self) -> None:
        """What has left edges, for the cloud or devices, is at hand above; what was handed out is at hand below."""
        down, up = self._bags_below, self._bags_above
        self._handed_over, self._handing_over = self._handing_over, self._handed_over
        poured_out(down.at_cloud, up.for_cloud)
        poured_out(down.to_devices, up.for_devices)
        poured_out(down.done, up.done)
        poured_out(up.returned, down.unused)

    def _steps(self) -> Iterator[Parts]:
        """Windows, until nothing is under way any more, in parts, of which some are gone through together. The keys of
        a window are there from its first on."""
        end_ns, until_ns = self._layout.end_ns, self._layout.until_ns
        base = 0
        while base < end_ns or (base <= until_ns and self._bags_below.unused[NEAR] < len(self._rows)):
            end = min(base + self._window_ns(), end_ns if base < end_ns else until_ns + 1)
            n, first, since = self._due(base, end), 0, base
            while since < end:
                step = np.empty((_PARTS_TOGETHER, PART_COLUMNS), np.int64)
                number = 0
                while since < end and number < _PARTS_TOGETHER:
                    until, last = self._part(first, n, base, end)
                    step[number] = base, end, since, until, first, last
                    first, since, number = last, until, number + 1
                yield step[:number]
            base = end

    def _window_ns(self) -> int:
        """How much time the next window has: about so many messages fall due in it, and its times fit into keys, even
        where twice as many messages are under way at its end."""
        bits = max(self._bits, (2 * (len(self._rows) + len(self._keys))).bit_length())
        return min(self._asked_ns, 1 << (_KEY_BITS - bits))

    def _due(self, base: int, end: int) -> int:
        """Put the keys of what falls due in a window in order; how many."""
        n = 0
        for each in self._schedules:
            while (n := each.fill(self._keys, n, base, end, self._bits)) == len(self._keys):
                self._keys = np.resize(self._keys, 2 * len(self._keys))
        self._keys[:n].sort()
        return n

    def _part(self, first: int, n: int, base: int, end: int) -> tuple[int, int]:
        """When a part of a window ends that begins with the key `first` of `n`, and the key that is the next one's
        first: what is due at one time is not parted."""
        following = first + self._messages
        if following >= n:
            return end, n
        due, following_due = (int(self._keys[place] >> self._bits) for place in (first, following))
        after = max(following_due, due + 1)
        return base + after, int(np.searchsorted(self._keys[:n], after << self._bits))

    def _check(self, lacks: int) -> None:
        """Raises EdgebenchError for a batch of which no service time is known."""
        if lacks:
            which, size = divmod(-int(lacks), 1024)
            flow, group = divmod(which, self._layout.arrays.service.shape[1])
            raise missing_service_time(self._layout, flow, group, size)

    def _grow(self, capacity: int) -> None:
        """Make room for so many messages at a time."""
        before = len(self._rows)
        rows = np.full((capacity, self._layout.columns), ABSENT, np.int64)
        rows[:before] = self._rows
        self._rows = rows
        self._bags_below = BagsBelow(*(_larger(bag, capacity) for bag in self._bags_below))
        self._bags_above = BagsAbove(*(_larger(bag, capacity) for bag in self._bags_above))
        unused, more = self._bags_below.unused, capacity - before
        unused[FIRST + unused[NEAR] :][:more] = np.arange(capacity - 1, before - 1, -1)
        unused[NEAR] += more
        self._rooms = tuple(room(capacity, self._messages) for _ in range(2))


def _larger(bag: Bag, capacity: int) -> Bag:
    """The same messages, with room for more."""
    found, half = columns.bag(capacity), FIRST + (len(bag) - FIRST) // 2
    near, far = bag[:FIRST].tolist()
    found[: FIRST + near] = bag[: FIRST + near]
    found[FIRST + capacity :][:far] = bag[half : half + far]
    return found
