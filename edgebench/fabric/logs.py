"""What a process of a run writes to its log."""

from __future__ import annotations

import logging
import re
import sys

from edgebench.clock import now_s

_OURS = frozenset({"edgebench", "device_agent", "edge_node", "cloud", "__main__"})
_AT_ONCE = 5
_THEN_EVERY_S = 10.0
_MOST_KINDS = 1000
_NUMBERS = re.compile(r"\d+")


def log_to_stderr() -> None:
    """Set logging up for a process whose standard error is its log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Throttle())
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=[handler])


class Throttle(logging.Filter):
    """Lets the first lines of a kind pass, then one every 10 s, which tells how many there were in between.

    Lines are of one kind that differ in their numbers at most: a thousand connections to a broker that is away say the
    same over and over. What a user's own code logs passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[str, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; logging asks once a line."""
        if record.name.partition(".")[0] not in _OURS:
            return True
        message = record.getMessage()
        if len(self._kinds) == _MOST_KINDS:
            self._kinds.clear()
        kind = self._kinds.setdefault(_NUMBERS.sub("#", message), _Kind())
        now = now_s()
        if now < kind.quiet_until_s:
            kind.withheld += 1
            return False
        kind.passed += 1
        if kind.passed >= _AT_ONCE:
            kind.quiet_until_s = now + _THEN_EVERY_S
        if kind.withheld:
            record.msg, record.args = f"{message} (and {kind.withheld:,} more like it)", None
            kind.withheld = 0
        return True


class _Kind:
    """Lines that differ in their numbers at most."""

    __slots__ = ("passed", "quiet_until_s", "withheld")

    def __init__(self) -> None:
        self.passed = 0
        self.withheld = 0
        self.quiet_until_s = 0.0
