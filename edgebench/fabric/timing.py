"""How long a warm model takes on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import now_ns
from edgebench.core.replacing import Takes
from edgebench.inference.runtime import Runtime
from edgebench.inference.spec import Manifest

_TIMED_CALLS = 5


def timed_ns(runtime: Runtime, x: NDArray[Any], enough_ns: float = 0.0) -> list[int]:
    """Of a few calls, until one took less than half of `enough_ns`."""
    took_ns: list[int] = []
    while len(took_ns) < _TIMED_CALLS and (not took_ns or took_ns[-1] >= enough_ns / 2):
        began_ns = now_ns()
        runtime.infer(x)
        took_ns.append(now_ns() - began_ns)
    return took_ns


def takes_here(runtime: Runtime, manifest: Manifest, max_batch: int) -> Takes:
    """For one sample, and for each of a full batch, at best."""
    single_ns, batch_ns = (
        min(timed_ns(runtime, np.zeros((n, *manifest.input.shape), manifest.input.dtype))) for n in (1, max_batch)
    )
    return Takes(single_ns, batch_ns / max_batch, max_batch)
