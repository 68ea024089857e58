"""When a signal to end interrupts the main thread: never amid what must be whole, such as starting a process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_sections: list[None] = []
"""One for each that the main thread is in."""

_due: list[KeyboardInterrupt] = []


def interrupt(with_what: KeyboardInterrupt) -> None:
    """Raise it: at once, or where the outermost `uninterrupted` section ends. For handlers of signals."""
    if not _sections:
        raise with_what
    _due.append(with_what)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """What `interrupt` is told to raise meanwhile is raised at the end, whatever else ended it. Other threads are never
    interrupted, and pass."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _sections.append(None)
    try:
        yield
    finally:
        _sections.pop()
        if not _sections and _due:
            raise _due.pop()
