"""How long a device waits for decisions before it writes their samples down as lost."""

from __future__ import annotations

import msgspec

from edgebench.clock import NS_PER_S

LONGEST_DRAIN_S = 120.0
"""From the last sample due to the last decision that is waited for, whatever is known. The cloud waits as long."""

LEAST_S = 5.0
UNSEEN_S = 30.0
"""The least while nothing at all is known of how long a decision takes, since none has ever come."""

_MARGIN = 2.0
"""A wait as long as the longest that is known may be just too short."""


class Expected(msgspec.Struct, frozen=True):
    """What the deployment says of the way to the decision and back, of the workload's device with the longest.

    fixed_s: latency and jitter of its links both ways, and how long a batch waits to be filled. s_per_byte: for each
    byte of a sample (in a chain, too: how large what goes on is is known only with the models), on links with a rate,
    behind a sample of every other device that shares it. at_least_s: how long a decision is of use. back_s: from the
    start of the streams, when what a fault has taken away is there again, or a link's own outage is over. cut_s:
    likewise, by device, when something that all its decisions pass is taken away for good.
    """

    fixed_s: float = 0.0
    s_per_byte: float = 0.0
    at_least_s: float = 0.0
    back_s: float = 0.0
    cut_s: dict[str, float] = {}


class DecisionTimeout:
    """What one stream waits for a decision, from what is expected and from what decisions have taken so far."""

    __slots__ = ("_expected", "_least_s", "largest_bytes", "slowest_ns")

    def __init__(self, expected: Expected, least_s: float = LEAST_S) -> None:
        self._expected = expected
        self._least_s = least_s
        self.slowest_ns = 0
        """The longest from a sample's capture to its decision."""
        self.largest_bytes = 0
        """Of the samples sent so far."""

    @property
    def quiet_ns(self) -> int:
        """So long without any decision, and none will come any more."""
        on_the_way_s = self._expected.fixed_s + self._expected.s_per_byte * self.largest_bytes
        quiet_s = max(
            self._least_s if self.slowest_ns else max(self._least_s, UNSEEN_S),
            _MARGIN * max(on_the_way_s, self.slowest_ns / NS_PER_S),
            self._expected.at_least_s,
        )
        return round(min(quiet_s, LONGEST_DRAIN_S) * NS_PER_S)

    @property
    def back_ns(self) -> int:
        """From the start of the streams, when decisions can come again."""
        return round(self._expected.back_s * NS_PER_S)
