"""What Flower writes into its log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = "flwr"


def into_our_log() -> None:
    """Let it go where everything goes that this process logs, and nowhere else. After Flower has been imported."""
    logger = logging.getLogger(_LOGGER)
    logger.handlers.clear()
    logger.setLevel(logging.INFO)
    logger.propagate = True


@contextmanager
def quietly() -> Iterator[None]:
    """Errors only, meanwhile."""
    logger = logging.getLogger(_LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
