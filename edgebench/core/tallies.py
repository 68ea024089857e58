"""What a node counts of a workload."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Tally(msgspec.Struct, omit_defaults=True):
    """Counts of one workload at one node; only what applies to its tier is ever above zero. Zeros are not written
    down.

    scheduled: samples that were due; sent: published; decided: decisions that arrived in time (device) or were made
    (decider). duplicated, reordered: samples (decider) or decisions (device) that came again, or after a later one.
    repeated: decisions that reached their device again as they were. outlived: decisions on samples of an earlier life
    of their device, which it did not keep. missed: samples that were due while their device, or its live sensor, was
    not there, or that died with it untold. rejected, dropped: by reason. forwarded: samples passed on towards the
    cloud. plain_json: samples in plain JSON.
    """

    scheduled: int = 0
    sent: int = 0
    decided: int = 0
    duplicated: int = 0
    reordered: int = 0
    unexpected: int = 0
    repeated: int = 0
    outlived: int = 0
    missed: int = 0
    forwarded: int = 0
    plain_json: int = 0
    rejected: dict[str, int] = {}
    dropped: dict[str, int] = {}

    def reject(self, reason: str) -> None:
        """Count one as rejected."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def drop(self, reason: str) -> None:
        """Count one as dropped."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


def add_tallies(tallies: Iterable[dict[str, Tally]]) -> dict[str, Tally]:
    """Sums by workload over nodes."""
    sums: dict[str, Tally] = {}
    for of_node in tallies:
        for workload, tally in of_node.items():
            total = sums.setdefault(workload, Tally())
            for field in _PLAIN_COUNTS:
                setattr(total, field, getattr(total, field) + getattr(tally, field))
            for reason, n in list(tally.rejected.items()):  # a copy: other threads add reasons
                total.rejected[reason] = total.rejected.get(reason, 0) + n
            for reason, n in list(tally.dropped.items()):
                total.dropped[reason] = total.dropped.get(reason, 0) + n
    return sums


_PLAIN_COUNTS = tuple(field for field in Tally.__struct_fields__ if field not in ("rejected", "dropped"))
