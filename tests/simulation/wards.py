"""A ward that is simulated, and a run that tells what things take there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import edgebench
from edgebench.experiments.simulate import simulate_with
from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import Profile
from tests.profiles import inference, profile
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
    found, _ = simulate_with(times([20 * MS], COSTS), edgebench.load(file), folder / "measured", page="no")
    return found


SLOW = profile(cores=4, inference=(inference(1, 20.0, runtime="litert"), inference(8, 40.0, runtime="litert")))


def of_slow_boards(found: ServiceTimes) -> ServiceTimes:
    """What this machine took, slow boards took."""
    return ServiceTimes(
        infer={model._replace(profile=SLOW.name): values for model, values in found.infer.items()},
        costs={
            cost._replace(profile=SLOW.name if cost.profile else ""): values for cost, values in found.costs.items()
        },
    )


def slow_ward(folder: Path, changed: tuple[str, ...] = tuple(NODES), board: Profile = SLOW, **changes: Any) -> Path:
    """Its file, and that of the profile. changed: the groups of nodes that are slow."""
    (folder / "slow.json").write_bytes(written(board))
    nodes = {name: {**of, **({"profile": "slow.json"} if name in changed else {})} for name, of in NODES.items()}
    return ward(folder, nodes=nodes, **changes)
