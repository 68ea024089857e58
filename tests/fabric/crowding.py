"""A process that has a thousand descriptors open already, so that what it opens next is above what `select` knows."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from edgebench.fabric.descriptors import allow_descriptors

SELECT_KNOWS = 1024


@contextmanager
def crowded() -> Iterator[None]:
    """All descriptors up to 1,023 are taken."""
    allow_descriptors()
    gc.collect()  # what is garbage already would let some go meanwhile
    taken: list[int] = []
    try:
        while not taken or taken[-1] < SELECT_KNOWS:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
