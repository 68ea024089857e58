"""How far from its time what emulated nodes gave away was given away."""

from __future__ import annotations

import msgspec

from edgebench.clock import NS_PER_MS

LATE_NS = NS_PER_MS
LATE_SHARE = 0.05
"""A release is late beyond the larger of `LATE_NS` and this share of what the emulated machine took for it."""


class Releases(msgspec.Struct):
    """What was released at a node, and how far from its time; cumulative.

    slip_ns: how much later than the emulated machine would have had it, the sum; took_ns: what that took, the sum;
    most_slip_ns: the worst since this was last written down; late: how many, see `LATE_NS`. unready: of these, how many
    because the real work was not done by then. beyond: messages that were larger than any that the profile knows, and
    were taken for the largest. busy_ns: of the emulated machine's cores, all together. largest_bytes: of those beyond.
    """

    n: int = 0
    slip_ns: int = 0
    took_ns: int = 0
    most_slip_ns: int = 0
    late: int = 0
    unready: int = 0
    beyond: int = 0
    busy_ns: int = 0
    largest_bytes: int = 0

    def __add__(self, other: Releases) -> Releases:
        """Of both together."""
        return Releases(
            self.n + other.n,
            self.slip_ns + other.slip_ns,
            self.took_ns + other.took_ns,
            max(self.most_slip_ns, other.most_slip_ns),
            self.late + other.late,
            self.unready + other.unready,
            self.beyond + other.beyond,
            self.busy_ns + other.busy_ns,
            max(self.largest_bytes, other.largest_bytes),
        )

    def since(self, earlier: Releases) -> Releases:
        """What came after an earlier state of the same life."""
        return Releases(
            self.n - earlier.n,
            self.slip_ns - earlier.slip_ns,
            self.took_ns - earlier.took_ns,
            self.most_slip_ns,
            self.late - earlier.late,
            self.unready - earlier.unready,
            self.beyond - earlier.beyond,
            self.busy_ns - earlier.busy_ns,
            self.largest_bytes,
        )

    def note(self, since_ns: int, due_ns: int, now_ns: int) -> None:
        """Something that the emulated machine had from `since_ns` on was due, and is released now."""
        slip_ns, took_ns = max(0, now_ns - due_ns), due_ns - since_ns
        self.n += 1
        self.slip_ns += slip_ns
        self.took_ns += took_ns
        if slip_ns > self.most_slip_ns:
            self.most_slip_ns = slip_ns
        if slip_ns > max(LATE_NS, LATE_SHARE * took_ns):
            self.late += 1
