"""What a node has taken in of its devices' samples and has answered: so that each is decided once, however often it
comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from edgebench.core.samples import SampleKey
from edgebench.fabric.keep import Keep
from edgebench.topology.model import Durability

MOST_BYTES = 16_000_000
"""Of answers that are kept for whoever asks again, some 80,000. The oldest are forgotten first."""
_AT_ONCE_BYTES = MOST_BYTES // 8


class Ledger:
    """See `edgebench.core.intake.Memory`. An answer is written down before it is sent. From any thread."""

    def __init__(
        self,
        path: Path,
        durability: Durability,
        *,
        answer_again: Callable[[SampleKey, bytes], None],
        came_again: Callable[[SampleKey], None] | None = None,
        taken_in: Iterable[SampleKey] = (),
    ) -> None:
        """answer_again: sends what a sample was answered once more. came_again: is told of one that came again before
        it was answered. taken_in: by an earlier life of this node, and not answered by it.

        Raises FabricError where what an earlier life has left at `path` is damaged.
        """
        self._keep = Keep(path, power=durability == "power")
        self._answer_again = answer_again
        self._came_again = came_again
        self._lock = threading.Lock()
        self._open = {key for key in taken_in if key not in self._keep}

    def takes(self, key: SampleKey) -> bool:
        """Whether a sample is to be decided: it is news. Else it is answered as it was, as soon as it was."""
        with self._lock:
            is_open = key in self._open
            if not is_open and key not in self._keep:
                self._open.add(key)
                return True
            reply = None if is_open else self._keep.get(key)
        if reply is not None:
            self._answer_again(key, reply)
        elif self._came_again is not None:
            self._came_again(key)
        return False

    def answered(self, key: SampleKey, reply: bytes, send: Callable[[], None]) -> bool:
        """A sample has its answer; it is sent once it is written down. Another answer to it comes to nothing.

        False where the disk is full: it is not sent, and decided again if it comes again.
        """
        with self._lock:
            if key in self._keep:
                return True
            if self._keep.size_bytes + len(reply) > MOST_BYTES:
                self._keep.drop(self._keep.oldest(_AT_ONCE_BYTES))
        if self._keep.put(key, reply, partial(self._written, key, send)):
            return True
        self.dropped(key)
        return False

    def has_answered(self, key: SampleKey) -> bool:
        """Whether the answer to a sample is written down."""
        return key in self._keep

    def dropped(self, key: SampleKey) -> None:
        """A sample is not decided after all, unless it comes again."""
        with self._lock:
            self._open.discard(key)

    def close(self) -> None:
        """Close the file."""
        self._keep.close()

    def _written(self, key: SampleKey, send: Callable[[], None]) -> None:
        self.dropped(key)
        send()
