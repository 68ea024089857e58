"""Independent random streams from one run seed.

Each use of chance has its own stream, named by what it is for, so that one can change without
disturbing another: `rng_for(seed, "load", "death-risk", "bed-3")`.
"""

from __future__ import annotations

import hashlib
import random
import sys

import numpy as np


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on the run's seed and on every part of the purpose."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng_for(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator seeded by `seed_for`."""
    return np.random.default_rng(seed_for(seed, *purpose))


def seed_everything(seed: int, *purpose: str | int) -> None:
    """Seed the generators that are global to the process, for code of others that draws from them.

    Python's and NumPy's; torch's and Keras's (with its backend's) where they have been imported.
    """
    drawn = seed_for(seed, *purpose) % 2**32
    random.seed(drawn)
    np.random.seed(drawn)  # noqa: NPY002  (the legacy generator is the one that others use)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(drawn)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(drawn)
