"""The control plane's files of a federation, seen from its child process: told of and asked by lines of JSON."""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from cloud.federation import Announced, CameLate, Done, FromParent, Go, Replied, Withdrawn
from edgebench.errors import EdgebenchError
from edgebench.federated.message_files import Announcement, Announcer, Carried

_ANSWER_S = 60.0
_READ_BYTES = 1 << 16


class AnnouncedFiles:
    """Stands for the `MessageFiles` of the control plane. A thread reads what the parent says."""

    def __init__(self, said: Iterator[bytes], tell: Callable[[Announced | Withdrawn], None]) -> None:
        """said: the parent's lines, from the next one on."""
        self._said = said
        self._tell = tell
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Done | None]] = {}
        self._announcer: Announcer | None = None
        self._go: queue.SimpleQueue[Go | None] = queue.SimpleQueue()
        self._over = False
        threading.Thread(target=self._read, name="federation-files", daemon=True).start()

    def go(self) -> Go | None:
        """Wait for the word to begin; None where it never comes."""
        return self._go.get()

    def announce(self, announcements: Sequence[Announcement], announcer: Announcer) -> None:
        """See `MessageFiles`. Raises EdgebenchError where they cannot be served."""
        self._announcer = announcer
        done = self._asked(lambda number: Announced(number, tuple(announcements)))
        if done is None or done.error is not None:
            raise EdgebenchError("the cloud does not serve messages" if done is None else str(done.error))

    def withdraw(self, message_ids: Iterable[str]) -> dict[str, Carried]:
        """See `MessageFiles`; nothing is known of them where the cloud is gone."""
        done = self._asked(lambda number: Withdrawn(number, tuple(message_ids)))
        return {} if done is None else done.carried

    def _asked(self, question: Callable[[int], Announced | Withdrawn]) -> Done | None:
        answer: queue.SimpleQueue[Done | None] = queue.SimpleQueue()
        with self._lock:
            if self._over:
                return None
            number = next(self._numbers)
            self._waiting[number] = answer
        self._tell(question(number))
        try:
            return answer.get(timeout=_ANSWER_S)
        except queue.Empty:
            return None

    def _read(self) -> None:
        for line in self._said:
            match msgspec.json.decode(line, type=FromParent):
                case Go() as go:
                    self._go.put(go)
                case Done() as done:
                    with self._lock:
                        answer = self._waiting.pop(done.number, None)
                    if answer is not None:
                        answer.put(done)
                case Replied(replies=replies):
                    if self._announcer is not None:
                        self._announcer.handed_in(replies)
                case CameLate(message_id=message_id):
                    if self._announcer is not None:
                        self._announcer.too_late(message_id)
        with self._lock:
            self._over = True
            waiting = list(self._waiting.values())
        for answer in waiting:
            answer.put(None)
        self._go.put(None)


def lines_on(descriptor: int) -> Iterator[bytes]:
    """The lines of a pipe, until it ends. Without a buffered file, whose lock a thread that waits would hold as the
    process ends."""
    rest = b""
    while data := os.read(descriptor, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
