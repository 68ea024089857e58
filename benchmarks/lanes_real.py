"""Lanes on real labelled frames: models that learned on other frames, mostly drawn ones, and the classical finder.

    python benchmarks/lanes_real.py --data DIR [--frames DIR] [--model FILE …] [--seed N] [--json]

Trains the light and the heavy model of `lane-detection` on DIR, or takes models that were kept (`.keras`, or `.tflite`
with its manifest beside it, as `edgebench train --out` writes it), and evaluates each on the real frames: pictures
`N.jpg` with masks `N_inst.png`, in the folder of `--frames`, else in `lanes/tusimple-labelled` or
`tusimple-labelled` of DIR. There are few of them, of one road: a figure on them is a hint of what drawn frames do not
show.

Keys of the printed object:

data: what the models learned on. real: whether its frames are. frames: how many real ones there are to evaluate on.
figures: by model (`light`, `heavy` or the file's name, and `baseline`): accuracy, fp, fn and points as
`edgebench.tasks.lanes.evaluation` says.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.export import QUIET
from cloud.training import outputs_of as outputs_of_file
from edgebench.errors import EdgebenchError
from edgebench.inference.spec import Manifest
from edgebench.tasks import task_named
from edgebench.tasks.lanes import labelled
from edgebench.tasks.lanes.baseline import fitted
from edgebench.tasks.lanes.evaluation import lane_metrics
from edgebench.tasks.lanes.geometry import lanes_of
from edgebench.tasks.task import Size

SIZES: tuple[Size, ...] = ("light", "heavy")


def measured(data: Path, frames: Path, models: list[Path], seed: int) -> dict[str, Any]:
    """Everything."""
    task = task_named("lane-detection")
    dataset = task.load(data, seed=0)
    x, y, _ = labelled.read(frames)
    figures: dict[str, dict[str, float]] = {}
    for file in models:
        figures[file.name] = task.score(_outputs(file, x), y)
    for size in () if models else SIZES:
        from edgebench.tasks.models import outputs_of

        figures[size] = task.score(outputs_of(task.fit(size, dataset, seed=seed), x), y)
    figures["baseline"] = lane_metrics(fitted(dataset).lanes(x), lanes_of(y))
    return {"data": dataset.source, "real": dataset.real, "frames": len(x), "figures": figures}


def _outputs(file: Path, x: NDArray[np.uint8]) -> NDArray[np.float32]:
    if file.suffix == ".keras":
        import keras

        from edgebench.tasks.models import outputs_of

        task_named("lane-detection")
        return outputs_of(keras.models.load_model(file, compile=False, safe_mode=True), x)
    described = file.with_name(file.name + ".json")
    if not described.is_file():
        raise EdgebenchError(f"{described}: missing; edgebench train --out writes it beside the model")
    return outputs_of_file(file, msgspec.json.decode(described.read_bytes(), type=Manifest), x)


def _frames(data: Path) -> Path:
    found = [data / inside for inside in ("lanes/tusimple-labelled", "tusimple-labelled") if (data / inside).is_dir()]
    return found[0] if found else data


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder to learn from, as for edgebench train")
    parser.add_argument("--frames", type=Path, help="folder of labelled frames, N.jpg with N_inst.png")
    parser.add_argument("--model", type=Path, nargs="+", default=[], help="models to evaluate in place of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ.update(QUIET)
    try:
        result = measured(args.data, args.frames or _frames(args.data), args.model, args.seed)
    except EdgebenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return 0
    sys.stdout.write(f"{result['frames']} real frames; models of {result['data']}\n")
    for name, figures in result["figures"].items():
        sys.stdout.write(f"{name:20}" + "".join(f"  {key} {value:.3f}" for key, value in figures.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
