"""What the devices of an agent have sensed and have no decision on, kept in a file where durability is promised.

A sample is kept before it sets out, until what became of it is in the agent's records: so that an agent that is started
again goes on with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from edgebench.core.pending import EarlierLives, Pending
from edgebench.core.samples import SampleKey, SampleRecord
from edgebench.core.tallies import Tally
from edgebench.fabric.keep import Keep
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import SampleRows, TallySnapshot
from edgebench.fabric.spool import read_spool
from edgebench.topology.deployment import WorkloadPlan
from edgebench.topology.model import Durability

_MB = 1_000_000
_encode = msgspec.msgpack.Encoder().encode
_pending = msgspec.msgpack.Decoder(Pending)


class Outbox:
    """The samples of one workload. From the reactor's thread, but for `sync`."""

    def __init__(self, path: Path, plan: WorkloadPlan, durability: Durability, reactor: Reactor) -> None:
        """Raises FabricError where what an earlier life has left at `path` is damaged."""
        self._keep = Keep(path, power=durability == "power")
        self._soon = reactor.call_soon_threadsafe if durability == "power" else _now
        self._most_bytes = plan.store.max_mb * _MB

    def put(self, key: SampleKey, pending: Pending, set_out: Callable[[], None]) -> bool:
        """Keep a sample, and have it set out once it is kept; False where there is no room."""
        body = _encode(pending)
        if self._keep.size_bytes + len(body) > self._most_bytes:
            return False
        return self._keep.put(key, body, partial(self._soon, set_out))

    def undecided(self) -> dict[SampleKey, Pending]:
        """All that is kept."""
        return {key: _pending.decode(self._keep.get(key)) for key in self._keep}

    def drop(self, keys: Iterable[SampleKey]) -> None:
        """What became of these is known."""
        self._keep.drop(keys)

    def sync(self) -> None:
        """Return once all that was put survives what is promised."""
        self._keep.sync()

    def close(self) -> None:
        """Close the file."""
        self._keep.close()


class Recorded:
    """What earlier lives of an agent have recorded."""

    def __init__(self, spool: Path, kept: Mapping[str, Mapping[SampleKey, Pending]]) -> None:
        """spool: as they left it. kept: what they kept, by workload."""
        self._kept = kept
        self.done: dict[str, set[SampleKey]] = {workload: set() for workload in kept}
        """By workload, what was kept although it had been recorded."""
        self._decided: Counter[tuple[str, str]] = Counter()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._sensed: dict[tuple[str, str], int] = {}
        self._counts: dict[tuple[str, str], dict[int, Tally]] = {}
        for entry in read_spool(spool):
            if isinstance(entry, SampleRows):
                for row in entry.rows:
                    self._note(row)
            elif isinstance(entry, TallySnapshot):
                for workload, tally in entry.tallies.items():
                    self._counts.setdefault((entry.node, workload), {})[entry.incarnation] = tally

    def of(self, device: str, workload: str) -> EarlierLives:
        """What a stream goes on with."""
        undecided = {
            (key.incarnation, key.seq): pending
            for key, pending in self._kept.get(workload, {}).items()
            if key.device == device and key not in self.done[workload]
        }
        stream = device, workload
        counts = self._counts.get(stream, {}).values()
        scheduled = sum(tally.scheduled for tally in counts)
        dropped = sum(sum(tally.dropped.values()) for tally in counts)
        # What was dropped is mostly recorded as lost by now, and it counts once.
        known = self._decided[stream] + len(undecided) + max(dropped, self._lost[stream])
        uncounted = max(0, known - scheduled)
        return EarlierLives(
            undecided=undecided,
            sensed=max((scheduled, self._sensed.get(stream, 0), *(seq + 1 for _, seq in undecided))),
            uncounted=uncounted,
            accounted=scheduled + uncounted + sum(tally.missed for tally in counts),
        )

    def _note(self, row: SampleRecord) -> None:
        stream = row.node, row.workload
        (self._lost if row.arrived_ns is None else self._decided)[stream] += 1
        self._sensed[stream] = max(row.seq + 1, self._sensed.get(stream, 0))
        key = key_of(row)
        if key in self._kept.get(row.workload, ()):
            self.done[row.workload].add(key)


def key_of(row: SampleRecord) -> SampleKey:
    """Of a record."""
    return SampleKey(row.node, row.incarnation, row.seq)


def _now(call: Callable[[], None]) -> None:
    call()
