"""What a node has taken in of its devices' samples and has answered: so that each is decided once, however often it
comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from edgebench.core.samples import SampleKey
from edgebench.fabric.forgotten import Forgotten
from edgebench.fabric.keep import Keep
from edgebench.fabric.last_keys import LastKeys
from edgebench.topology.model import Durability

MOST_BYTES = 16_000_000
"""Of answers that are kept for whoever asks again, some 80,000. Of the oldest it is known only that they were given."""
_AT_ONCE_BYTES = MOST_BYTES // 8


class Ledger:
    """See `edgebench.core.intake.Memory`. An answer is written down before it is sent. From any thread."""

    def __init__(
        self,
        path: Path,
        durability: Durability,
        *,
        answer_again: Callable[[SampleKey, bytes], None],
        answer_gone: Callable[[SampleKey], None],
        came_again: Callable[[SampleKey], None] | None = None,
        taken_in: Iterable[SampleKey] = (),
    ) -> None:
        """answer_again: sends what a sample was answered once more. answer_gone: is told of one that came again after
        its answer was forgotten; came_again: before it had one. taken_in: by an earlier life of this node, and not
        answered by it.

        Raises FabricError where what an earlier life has left at `path` is damaged.
        """
        self._keep = Keep(path, power=durability == "power")
        self._forgotten = Forgotten(path.with_suffix(".forgotten"), power=durability == "power")
        self._answer_again = answer_again
        self._answer_gone = answer_gone
        self._came_again = came_again
        self._lock = threading.Lock()
        self._forgets_above_bytes = MOST_BYTES
        self._forgetting = False
        """Some thread is at it."""
        self._open = {key for key in taken_in if key not in self._keep}
        self._dropped = LastKeys()

    def takes(self, key: SampleKey) -> bool:
        """Whether a sample is to be decided: it is news. Else it is answered as it was, as soon as it was; never more
        where that is forgotten."""
        with self._lock:
            is_open, is_kept = key in self._open, key in self._keep
            is_gone = not is_open and not is_kept and key in self._forgotten
            if not (is_open or is_kept or is_gone):
                self._open.add(key)
                return True
            reply = self._keep.get(key) if is_kept and not is_open else None
        if reply is not None:
            self._answer_again(key, reply)
        elif is_gone:
            self._answer_gone(key)
        elif self._came_again is not None:
            self._came_again(key)
        return False

    def answered(self, key: SampleKey, reply: bytes, send: Callable[[], None]) -> bool:
        """A sample has its answer; it is sent once it is written down. Another answer to it comes to nothing.

        False where the disk is full: it is not sent, and decided again if it comes again.
        """
        with self._lock:
            if key in self._keep or (key not in self._open and key in self._forgotten):
                return True
            oldest = self._to_forget(len(reply))
        if oldest:
            self._forget(oldest)
        if self._keep.put(key, reply, partial(self._written, key, send)):
            return True
        self.dropped(key)
        return False

    def has_answered(self, key: SampleKey) -> bool:
        """Whether the answer to a sample is written down."""
        return key in self._keep

    def dropped(self, key: SampleKey) -> bool:
        """A sample is not decided after all, unless it comes again. Whether that is so for the first time, as far as
        the last 100,000 tell."""
        with self._lock:
            self._open.discard(key)
            return self._dropped.add(key)

    def close(self) -> None:
        """Close the files."""
        self._keep.close()
        self._forgotten.close()

    def _to_forget(self, size_bytes: int) -> list[SampleKey]:
        """What makes room for an answer of so many bytes; nothing where there is room."""
        if self._forgetting or self._keep.size_bytes + size_bytes <= self._forgets_above_bytes:
            return []
        oldest = self._keep.oldest(_AT_ONCE_BYTES)
        self._forgotten.add(oldest)  # what is kept all the same is answered as it was
        self._forgetting = True
        return oldest

    def _forget(self, oldest: list[SampleKey]) -> None:
        is_written = False
        try:
            is_written = self._forgotten.write()  # without the lock, for which those wait that take samples in
        finally:
            with self._lock:
                self._forgetting = False
                self._forgets_above_bytes = MOST_BYTES
                if is_written:
                    self._keep.drop(oldest)
                else:  # the disk is full: as long as answers have room all the same, it is tried again now and then
                    self._forgets_above_bytes = self._keep.size_bytes + _AT_ONCE_BYTES

    def _written(self, key: SampleKey, send: Callable[[], None]) -> None:
        with self._lock:
            self._open.discard(key)
            self._dropped.discard(key)
        send()
