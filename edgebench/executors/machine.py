"""A machine that parts of a run are started on: this one, or one that has joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgebench.executors.orders import Order, Report


class Machine(Protocol):
    """Takes orders, and tells what comes of them."""

    def send(self, order: Order) -> None:
        """See to it that this is done; it may be done when this returns. From any thread."""

    def reports(self) -> Sequence[Report]:
        """What there is to tell since the last call, at once. To be called several times a second, by one thread."""

    def close(self) -> None:
        """End whatever has not ended, by force. What there is to tell has been told."""
