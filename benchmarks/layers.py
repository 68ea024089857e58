"""Machines that are made up, for benchmarks of where work should run: a slow device, an edge, a fast cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgebench.topology.profile_files import written
from edgebench.topology.profiles import ByDataSheet, Inference, MessageCost, Profile, Times

MESSAGE_MS = 0.5
"""For each of those who pass a message on."""
BATCHES = (1, 8)
_BYTES = (100, 100_000)


def write_layer(
    folder: Path, name: str, infer_ms: Mapping[str, float], *, cores: int, spread: Sequence[float] = (1.0,)
) -> str:
    """Write a profile; the name of its file. infer_ms: what the light model of a task takes for a sample, alone or in a
    batch; spread: the shares of that which it takes, each as likely as any other."""
    message = Times(1, (1e3 * MESSAGE_MS,))
    profile = Profile(
        schema=1,
        name=name,
        origin=ByDataSheet("nothing", 1.0, "made up for a benchmark"),
        cores=cores,
        memory_mb=1000,
        inference=tuple(
            Inference(task, "light", "litert", "float32", 1, batch, _times(batch * ms, spread))
            for task, ms in infer_ms.items()
            for batch in BATCHES
        ),
        wake=Times(1, (0.0,)),
        messages=tuple(MessageCost(1, size, message, message, message, message) for size in _BYTES),
    )
    file = f"{name}.json"
    (folder / file).write_bytes(written(profile))
    return file


def _times(ms: float, spread: Sequence[float]) -> Times:
    return Times(len(spread), tuple(1e3 * ms * share for share in sorted(spread)))
