"""A ward whose nodes are all of one slow machine, of which it is known what it draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgebench.simulation.service_times import ServiceTimes
from edgebench.topology.profile_files import written
from edgebench.topology.profiles import Power, Profile
from tests.profiles import inference, profile
from tests.simulation.made import MS, times
from tests.simulation.wards import COSTS, NODES, WATCH, ward

CORES = 4
METERED = profile(
    cores=CORES,
    inference=(
        inference(1, 20.0, runtime="litert"),
        msgspec.structs.replace(inference(1, 20.0, runtime="litert"), size="heavy"),
    ),
    power=Power(2.0, 6.0, "a plug", measured=True),
)
JPEG = "as JPEG 75"


def metered_ward(folder: Path, described: Profile = METERED, **changes: Any) -> Path:
    """Its file, and that of the profile. Beds send samples of 2,000 bytes for ten seconds, and get decisions of 100."""
    (folder / "slow.json").write_bytes(written(described))
    nodes = {name: {**of, "profile": "slow.json"} for name, of in NODES.items()}
    return ward(folder, **{"nodes": nodes, "workloads": {"watch": WATCH}, **changes})


def slow_times() -> ServiceTimes:
    """What such machines take for each step, but for messages, whose links alone take any time."""
    made = times([20 * MS], COSTS, unsure=0.5, head_ns={1: [5 * MS]}, tail_ns={1: [15 * MS]})
    slow = METERED.name
    plain = {each._replace(profile=slow if each.profile else ""): values for each, values in made.costs.items()}
    of_pictures = {each._replace(how=JPEG): values for each, values in plain.items() if not each.how}
    return ServiceTimes(
        infer={model._replace(profile=slow): values for model, values in made.infer.items()},
        costs=plain | of_pictures,
        unsure=made.unsure,
    )
