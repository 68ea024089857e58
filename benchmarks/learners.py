"""Learners: what a training step costs with LiteRT alone, with Keras on TensorFlow, and with torch.

    python benchmarks/learners.py [--json] [--quick] [--anyway]

Two networks with random weights and data: an LSTM of 16 units on 48 × 76, and three 3 × 3 convolutions (16, 32 and 32
filters, each with a max pooling) on 32 × 32 × 3 with a dense layer. A step takes 32 samples: SGD with momentum,
gradient clipping and a proximal term. Each learner runs in a fresh process that does nothing else, on one thread; the
three take turns, and a figure is the median of the turns. torch runs the same networks as plain modules. `--quick`
takes one turn of a few steps, to see that it runs.

Keys of the printed object:

lstm, conv: by network:
    convert_s: how long the cloud takes to make the graph of the training step.
    step_bytes: size of that graph.
    litert, keras, torch: by learner:
        step_ms: one step, the median of a turn.
        rss_mb, pss_mb: memory of the process after its steps, four batches of data included: all of it, and with its
            share only of what processes have in common.
        start_s: from the start of the process to the end of its first step.
    step_vs_keras_ratio, step_vs_torch_ratio: LiteRT's step_ms over that of the other.
    rss_vs_keras_ratio, rss_vs_torch_ratio: LiteRT's rss_mb over that of the other.
turns, host: how often each was measured, and where; `host.stolen` is the share of CPU time that other guests took.
disturbed, watched: how busy others kept the machine during each turn; see `quiet.py`, which refuses a disturbed one
    unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.quiet import Quiet, add_anyway
from cloud.export import QUIET, Converter, StepConversion, quiet_environment
from edgebench.clock import now_s
from edgebench.cpu import cpu_times
from edgebench.tasks.task import Loss

BATCH = 32
SHAPES = {"lstm": (48, 76), "conv": (32, 32, 3)}
LOSSES: dict[str, Loss] = {"lstm": "binary_crossentropy", "conv": "sparse_categorical_crossentropy"}
LEARNERS = ("litert", "keras", "torch")
TURNS = 5
STEPS = {"lstm": 300, "conv": 60}
QUICK_STEPS = 5
_HERE = Path(__file__).resolve().parent


def measured(turns: int, quiet: Quiet, *, quick: bool) -> dict[str, Any]:
    """Everything."""
    before = cpu_times()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edgebench-learners-") as name:
        directory = Path(name)
        _save_networks(directory)
        with Converter() as converter:
            for network in SHAPES:
                figures[network] = _converted(converter, network, directory)
        for network in SHAPES:
            taken: dict[str, list[dict[str, float]]] = {learner: [] for learner in LEARNERS}
            for number in range(turns):
                with quiet.during(f"{network}, turn {number + 1}"):
                    for learner in LEARNERS:
                        steps = QUICK_STEPS if quick else STEPS[network]
                        taken[learner].append(_turn(learner, network, directory, steps))
            figures[network] |= _compared({learner: _medians(each) for learner, each in taken.items()})
    spent = cpu_times().since(before)
    host = {"cores": os.cpu_count(), "stolen": round(spent.stolen_s / spent.total_s, 4)}
    return {**figures, "turns": turns, "host": host, **quiet.told()}


def _save_networks(directory: Path) -> None:
    os.environ.update(QUIET)
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    lstm = [layers.LSTM(16), layers.Dense(1, activation="sigmoid")]
    conv: list[keras.layers.Layer] = []
    for filters in (16, 32, 32):
        conv += [layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    conv += [layers.Flatten(), layers.Dense(10, activation="softmax")]
    for network, inside in (("lstm", lstm), ("conv", conv)):
        keras.Sequential([keras.Input(SHAPES[network]), *inside]).save(directory / f"{network}.keras")


def _converted(converter: Converter, network: str, directory: Path) -> dict[str, Any]:
    out = directory / f"{network}.tflite"
    # Not the task's own model: a task only has to be there, for the layers that it may define.
    asked = StepConversion("icu-death", str(directory / f"{network}.keras"), LOSSES[network], BATCH, str(out))
    converter.convert_step(asked)  # the first one loads TensorFlow
    start_s = now_s()
    converter.convert_step(asked)
    return {"convert_s": round(now_s() - start_s, 2), "step_bytes": out.stat().st_size}


def _turn(learner: str, network: str, directory: Path, steps: int) -> dict[str, float]:
    start_s = now_s()
    process = subprocess.Popen(
        [sys.executable, str(_HERE / "one_learner.py"), learner, network, str(directory), str(steps)],
        env={**quiet_environment(threads=1), "PYTHONPATH": str(_HERE.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        began = process.stdout.readline()
        started_s = now_s() - start_s
        step_ms = process.stdout.readline()
        if not began or not step_ms:
            raise SystemExit(f"the {learner} learner of {network} ended before its work did")
        memory = psutil.Process(process.pid).memory_full_info()
        process.stdin.close()
    pss = getattr(memory, "pss", memory.uss)
    return {"step_ms": float(step_ms), "rss_mb": memory.rss / 1e6, "pss_mb": pss / 1e6, "start_s": started_s}


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(turn[key] for turn in turns), 3) for key in turns[0]}


def _compared(learners: dict[str, dict[str, float]]) -> dict[str, Any]:
    ratios = {
        f"{what}_vs_{other}_ratio": round(learners["litert"][key] / learners[other][key], 3)
        for what, key in (("step", "step_ms"), ("rss", "rss_mb"))
        for other in ("keras", "torch")
    }
    return {**learners, **ratios}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a training step costs, by learner; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one turn of a few steps, to see that it runs")
    add_anyway(parser)
    args = parser.parse_args()
    figures = measured(1 if args.quick else TURNS, Quiet(anyway=args.anyway), quick=args.quick)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for network in SHAPES:
        found = figures[network]
        print(f"{network}: graph of {found['step_bytes'] / 1e3:.0f} kB, made in {found['convert_s']:.1f} s")
        for learner in LEARNERS:
            each = found[learner]
            print(
                f"  {learner:7} {each['step_ms']:8.2f} ms a step"
                f"   {each['rss_mb']:6.0f} MB (its share {each['pss_mb']:.0f})"
                f"   begins after {each['start_s']:.1f} s"
            )
    print(f"{figures['turns']} turns; {figures['host']['stolen']:.1%} of the CPU time went to other guests")


if __name__ == "__main__":
    main()
