"""A ward that is simulated, and a run that tells what things take there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import edgebench
from edgebench.experiments.simulate import simulate_with
from tests.simulation.made import MS, TASK, times

NODES: dict[str, dict[str, Any]] = {
    "cloud": {"tier": "cloud"},
    "ward": {"tier": "edge", "parent": "cloud"},
    "bed": {"tier": "device", "count": 3, "parent": "ward"},
}
WATCH = {
    "task": TASK,
    "source": "bed",
    "load": {"kind": "fixed", "rate_hz": 5},
    "deadline_ms": 100,
    "batch": {"max_batch": 1},
}
WARD: dict[str, Any] = {
    "schema": 1,
    "name": "ward",
    "seed": 4,
    "duration_s": 10,
    "nodes": NODES,
    "links": [
        {"between": ["bed", "ward"], "latency_ms": 2, "rate_mbit_s": 4},
        {"between": ["ward", "cloud"], "latency_ms": 30},
    ],
    "workloads": {"watch": WATCH},
}
COSTS = {
    "size": (2_000,),
    "site-up": (500_000,),
    "site-down": (300_000,),
    "wake": (100_000,),
    "answer": (50_000,),
    "hear": (8 * MS,),
}
"""A device is slow to hear of its own decisions."""


def ward(folder: Path, **changes: Any) -> Path:
    """Its file; a decision takes 20 ms wherever it is made."""
    path = folder / "ward.yaml"
    path.write_text(yaml.safe_dump({**WARD, **changes}))
    return path


def measured(folder: Path) -> Path:
    """The directory of a run in which each tier decided: of three workloads of the same task."""
    each = {tier: {**WATCH, "load": {"kind": "fixed", "rate_hz": 1}} for tier in ("device", "edge", "cloud")}
    for tier, plan in each.items():
        plan["place"] = {"infer": tier}
    del each["device"]["batch"]
    file = folder / "measured.yaml"
    file.write_text(yaml.safe_dump({**WARD, "workloads": each}))
    found, _ = simulate_with(times([20 * MS], COSTS), edgebench.load(file), folder / "measured", page=False)
    return found
