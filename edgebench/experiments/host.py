"""The machine that a command runs on."""

from __future__ import annotations

import os
import platform

from edgebench.cpu import core_count, cpu_model
from edgebench.memory import physical_bytes


def host_facts() -> dict[str, str | int | float]:
    """What a run directory says of this machine."""
    return {
        "cores": os.cpu_count() or 1,
        "usable_cores": core_count(),
        "machine": platform.machine(),
        "memory_mb": round(physical_bytes() / 1e6),
        "system": platform.system(),
        "release": platform.release(),
        "cpu": cpu_model(),
    }
