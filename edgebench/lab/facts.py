"""What a machine says of itself."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import edgebench
from edgebench.cpu import shared_name
from edgebench.errors import FabricError
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.descriptors import most_descriptors
from edgebench.lab.messages import Facts
from edgebench.lab.wheel import code_digest
from edgebench.topology.model import BrokerKind

RUNTIMES = {
    "litert": ("ai_edge_litert", "tflite_runtime", "tensorflow"),
    "keras": ("keras",),
    "onnx": ("onnxruntime",),
    "torch": ("torch",),
}
"""Name -> the modules of which any one is enough."""
_BROKERS: tuple[BrokerKind, ...] = ("mosquitto", "nats")
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of this process, as a container sees them; cgroups of version 2 and of version 1."""
_TOLD = ("ai-edge-litert", "tflite-runtime", "numpy", "paho-mqtt")


def facts_of_this_machine() -> Facts:
    """Without its address, which depends on whom it talks to."""
    return Facts(
        arch=platform.machine(),
        cores=_cores(),
        memory_mb=_memory_mb(),
        versions={"edgebench": edgebench.__version__, "python": platform.python_version(), **_versions()},
        code=code_digest(),
        runtimes=tuple(name for name, modules in RUNTIMES.items() if any(map(_is_there, modules))),
        python=sys.executable,
        brokers=tuple(kind for kind in _BROKERS if _can_start(kind)),
        processors=shared_name(),
        open_files=most_descriptors(),
    )


def name_of_this_machine() -> str:
    """From its host name, as a name in a topology can be."""
    host = platform.node().partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", host).strip("-")[:50].rstrip("-") or "machine"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_mb() -> int:
    """What there is, or what a container may have of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = (file.read_text("utf-8").strip() for file in MEMORY_LIMITS if file.is_file())
    return round(min((physical, *(int(each) for each in allowed if each.isdigit()))) / 1e6)


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _can_start(kind: BrokerKind) -> bool:
    try:
        choose(kind)
    except FabricError:
        return False
    return True


def _versions() -> dict[str, str]:
    found = {}
    for package in _TOLD:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
