"""Independent random streams from one run seed.

Each use of chance has its own stream, named by what it is for, so that one can change without
disturbing another: `rng_for(seed, "load", "death-risk", "bed-3")`.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on the run's seed and on every part of the purpose."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng_for(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator seeded by `seed_for`."""
    return np.random.default_rng(seed_for(seed, *purpose))
