"""What a machine says of itself."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version

import edgebench
from edgebench.clock import STEPPED
from edgebench.cpu import core_count, shared_name
from edgebench.errors import FabricError
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.descriptors import most_descriptors
from edgebench.lab.messages import Facts
from edgebench.lab.wheel import code_digest
from edgebench.memory import most_bytes
from edgebench.topology.model import BrokerKind

RUNTIMES = {
    "litert": ("ai_edge_litert", "tflite_runtime", "tensorflow"),
    "keras": ("keras",),
    "onnx": ("onnxruntime",),
    "torch": ("torch",),
}
"""Name -> the modules of which any one is enough."""
_BROKERS: tuple[BrokerKind, ...] = ("mosquitto", "nats")
_TOLD = ("ai-edge-litert", "tflite-runtime", "numpy", "paho-mqtt")


def facts_of_this_machine() -> Facts:
    """Without its address, which depends on whom it talks to."""
    return Facts(
        arch=platform.machine(),
        cores=core_count(),
        memory_mb=round(most_bytes() / 1e6),
        versions={"edgebench": edgebench.__version__, "python": platform.python_version(), **_versions()},
        code=code_digest(),
        runtimes=tuple(name for name, modules in RUNTIMES.items() if any(map(_is_there, modules))),
        python=sys.executable,
        brokers=tuple(kind for kind in _BROKERS if _can_start(kind)),
        processors=shared_name(),
        open_files=most_descriptors(),
        steps=STEPPED is not None,
    )


def name_of_this_machine() -> str:
    """From its host name, as a name in a topology can be."""
    host = platform.node().partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", host).strip("-")[:50].rstrip("-") or "machine"


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
