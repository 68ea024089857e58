"""Taking samples in: what is none, what came before, and in which order."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray

from edgebench.core.samples import RejectedError, SampleKey
from edgebench.core.tallies import Tally

_BEFORE_THE_FIRST = 1_000
"""So many samples that were sent before the first one to arrive may still come, where only some come at all."""

Order = Literal["new", "late", "again", "jump"]


class Accepted(NamedTuple):
    """A sound sample. x: [*shape]. seq: None for plain JSON, which may have an `id` of its sender's instead.

    incarnation: of its device, which counts anew in each.
    """

    x: NDArray[Any]
    seq: int | None
    id: str | int | None = None
    incarnation: int = 0


class Reader(Protocol):
    """Reads what claims to be a sample."""

    def read(self, payload: bytes | memoryview) -> Accepted:
        """The sample. Raises RejectedError."""
        ...


class Memory(Protocol):
    """What a node remembers of the samples that it took in, where none may be decided twice."""

    def takes(self, key: SampleKey) -> bool:
        """Whether a sample is to be decided: it is news. Else it is answered as it was, as soon as it was; never more
        where that is forgotten."""
        ...

    def dropped(self, key: SampleKey) -> bool:
        """A sample is not decided after all, unless it comes again. Whether that is so for the first time."""
        ...


class Intake:
    """Checks what claims to be a sample of one workload, and counts what is not: malformed, or seen before."""

    __slots__ = ("_memory", "_reader", "_sparse", "_tally", "_trackers")

    def __init__(self, tally: Tally, *, sparse: bool = False, memory: Memory | None = None) -> None:
        """sparse: of each device's samples only some are to come this way, or are still to come. memory: says what is
        news, where more is promised than that nobody repeats a sample."""
        self._tally = tally
        self._memory = memory
        self._sparse = sparse
        self._reader: Reader | None = None
        self._trackers: dict[tuple[str, int, str | None], SequenceTracker] = {}

    def expect(self, reader: Reader) -> None:
        """From now on samples are of this form."""
        self._reader = reader

    def take(self, device: str, payload: bytes | memoryview, *, by: str | None = None) -> Accepted | None:
        """The sample of a device, or None where it is counted as rejected or duplicated.

        by: the edge that passed it on. What comes by another edge is no duplicate: the device has moved there, and
        would not hear of a decision that went to the old one.
        """
        try:
            if self._reader is None:
                raise RejectedError("no-model-yet")
            accepted = self._reader.read(payload)
            if accepted.seq is None:
                self._tally.plain_json += 1
                return accepted
            order = self._tracker(device, accepted.incarnation, by).see(accepted.seq)
            if order == "jump":
                raise RejectedError("sequence-jump")
            if self._memory is not None:
                is_news = self._memory.takes(SampleKey(device, accepted.incarnation, accepted.seq, by or ""))
                order = "again" if not is_news else "late" if order == "again" else order
        except RejectedError as rejected:
            self.reject(rejected.reason)
            return None
        if order == "again":
            self._tally.duplicated += 1
            return None
        if order == "late":
            self._tally.reordered += 1
        return accepted

    def read(self, payload: bytes | memoryview) -> Accepted | None:
        """What a payload holds, which is not counted; None where it is no sample, which is."""
        try:
            if self._reader is None:
                raise RejectedError("no-model-yet")
            return self._reader.read(payload)
        except RejectedError as rejected:
            self.reject(rejected.reason)
            return None

    def reject(self, reason: str) -> None:
        """Count a payload that is no sample."""
        self._tally.reject(reason)

    def _tracker(self, device: str, incarnation: int, by: str | None) -> SequenceTracker:
        tracker = self._trackers.get((device, incarnation, by))
        if tracker is None:
            # A device that was started again goes on with its schedule, so it does not begin with the first sample.
            sparse = self._sparse or incarnation > 0
            tracker = SequenceTracker(sparse=sparse, checked=sparse and by is not None)
            self._trackers[device, incarnation, by] = tracker
        return tracker


class SequenceTracker:
    """Tells samples that are new from those that come late or again, in a bit for each that might be missing.

    >>> tracker = SequenceTracker()
    >>> [tracker.see(seq) for seq in (0, 1, 3, 2, 3)]
    ['new', 'new', 'new', 'late', 'again']
    """

    __slots__ = ("_checked", "_first", "_gaps", "_jumped_to", "_next", "_sparse")
    _WINDOW = 100_000
    """What is so far behind the latest is taken as seen, and what is so far ahead of it is not believed."""

    def __init__(self, *, sparse: bool = False, checked: bool = False) -> None:
        """sparse: only some samples come this way, and it need not be the first that comes first. checked: whoever
        sends them has seen all that there are, so that none is too far ahead."""
        self._sparse = sparse
        self._checked = checked
        self._next = 0
        # The bit `seq - self._first` is set where `seq` has not been seen; there are none beyond the last gap.
        self._first, self._gaps = 0, 0
        self._jumped_to: int | None = None

    def see(self, seq: int) -> Order:
        """`new`, `late` (after a later one, not seen before), `again`, or `jump` (too far ahead to be believed)."""
        if seq == self._next:
            self._next += 1
            self._jumped_to = None
            return "new"
        if seq < self._next:
            bit = 1 << seq - self._first if seq >= self._first else 0
            if not self._gaps & bit:
                return "again"
            self._gaps ^= bit
            return "late"
        is_far = seq - self._next > self._WINDOW
        if (self._sparse and self._next == 0) or (is_far and (self._checked or self._follows_a_jump(seq))):
            # Others may be about to come that were sent before it.
            self._next = max(0, seq - _BEFORE_THE_FIRST)
            self._gaps = 0
        elif is_far:
            return "jump"
        self._miss(self._next, seq)
        self._next = seq + 1
        self._jumped_to = None
        return "new"

    def _follows_a_jump(self, seq: int) -> bool:
        """Whether one that is too far ahead follows another: the device has been cut off for long, and one number that
        was made up would have no successor."""
        before, self._jumped_to = self._jumped_to, seq
        return before is not None and 0 < seq - before <= _BEFORE_THE_FIRST

    def _miss(self, begin: int, end: int) -> None:
        if not self._gaps:
            self._first = begin
        self._gaps |= ((1 << end - begin) - 1) << begin - self._first
        if (passed := end - self._first - self._WINDOW) > self._WINDOW:  # seldom, as it moves all bits
            self._gaps >>= passed
            self._first += passed
