"""What an edge adds to the bare call of its model, for the light model of every task.

    python benchmarks/inference.py [--quick] [--json] [--anyway] [TASK …]

Both sides are threads of one process that wait for samples; they are given the same ones in turns, each of them first
as often as second, so that each call is made by a thread that has just woken up. Ours is the model server that edges,
devices and the cloud decide with, given the file that the exporter makes, in float32; its time is the `infer` hop as it
is recorded with every sample: from the batch taken off the queue to its outputs ready as an array. The bare side is
`set_tensor`, `invoke`, `get_tensor` on the same network converted by TensorFlow alone for exactly that batch size, with
the batch laid out ready. Networks have the weights that Keras starts with, or nearly: what a model has learned costs
nothing.

Keys of the printed object:

tasks: by task and batch size (`batch_1`, `batch_32`): `ratio`, the median of `ratios` (one a round), and the medians
    `edge_us`, `bare_us` of a call.
worst: the largest `ratio`.
rounds, calls: how many rounds, and how many calls of either side each has.
disturbed, watched: how busy others kept the machine meanwhile, by task and batch size; see `quiet.py`, which refuses
    what was disturbed unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.quiet import Quiet, add_anyway
from edgebench.clock import now_ns
from edgebench.core.batching import InferenceRequest, Served
from edgebench.fabric.serving import ModelServer
from edgebench.inference.litert import interpreter_class
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest
from edgebench.seeds import rng_for
from edgebench.tasks import names
from edgebench.topology.model import Batch, Queue

BATCHES = (1, 32)
SAMPLES = 128
PATIENCE_S = 600.0
ROUNDS, CALLS, QUICK_CALLS = 5, 60, 5
_WARM_UP_CALLS = 5


def build(task_name: str, directory: Path) -> None:
    """Write `model.tflite`, `manifest.json` and `bare-<batch>.tflite` of the task's light model, and `samples.npy`."""
    import keras
    import tensorflow as tf

    from cloud.export import Converter
    from cloud.jobs import TrainJob
    from cloud.model_files import file_for
    from cloud.training import fitted
    from edgebench.tasks import task_named
    from edgebench.tasks.models import with_batch

    task, target = task_named(task_name), ("litert", "float32")
    dataset = task.load(None, seed=0)
    job = TrainJob(
        name=task_name,
        task=task_name,
        data=None,
        size="light",
        seed=0,
        out_dir=str(directory),
        targets=(target,),
        epochs=1,
        examples=2,
    )
    model = fitted(job, task, dataset, lambda _: None)
    with Converter() as converter:
        file = file_for(model, converter, *target)
    Path(file.path).rename(directory / "model.tflite")
    (directory / "manifest.json").write_bytes(msgspec.json.encode(file.manifest))
    np.save(directory / "samples.npy", dataset.test.x[:SAMPLES], allow_pickle=False)
    network = keras.models.load_model(model.file, compile=False, safe_mode=True)
    for batch in BATCHES:
        bare = tf.lite.TFLiteConverter.from_keras_model(with_batch(network, batch)).convert()
        (directory / f"bare-{batch}.tflite").write_bytes(bare)


class Edge:
    """A model server, asked by one caller at a time."""

    def __init__(self, directory: Path, batch: int) -> None:
        manifest = msgspec.json.decode((directory / "manifest.json").read_bytes(), type=Manifest)
        self._served: queue.SimpleQueue[Served[None] | str] = queue.SimpleQueue()
        self._server: ModelServer[None] = ModelServer(
            "edge",
            Batch(max_batch=batch, max_wait_ms=1000.0 if batch > 1 else 0.0),
            Queue(),
            self,
        )
        self._server.swap(open_runtime(directory / "model.tflite", manifest, warm_for=batch), manifest)

    def served(self, served: Served[None]) -> None:
        """Hand a decided batch to the caller."""
        self._served.put(served)

    def dropped(self, _request: InferenceRequest[None], reason: str) -> None:
        """Hand the reason to the caller."""
        self._served.put(reason)

    def swapped(self, manifest: Manifest) -> None:
        """Nobody asks which model it is."""

    def call_ns(self, x: NDArray[Any]) -> int:
        """The time of the `infer` hop of the samples x [batch, *shape]."""
        for sample in x:
            self._server.submit(InferenceRequest(sample, now_ns(), None))
        served = self._served.get(timeout=PATIENCE_S)
        if isinstance(served, str):
            raise SystemExit(f"a sample was dropped: {served}")
        if len(served.requests) != len(x):
            raise SystemExit(f"a batch of {len(served.requests)} where {len(x)} was meant")
        return served.finished_ns - served.started_ns

    def close(self) -> None:
        """End its thread."""
        self._server.stop()


class Bare:
    """A thread that calls an interpreter, asked by one caller at a time."""

    def __init__(self, directory: Path, batch: int) -> None:
        self._interpreter = interpreter_class()(model_path=str(directory / f"bare-{batch}.tflite"), num_threads=1)
        self._interpreter.allocate_tensors()
        self._asked: queue.SimpleQueue[NDArray[Any] | None] = queue.SimpleQueue()
        self._called_ns: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def call_ns(self, x: NDArray[Any]) -> int:
        """The time of a call with the batch x [batch, *shape]."""
        self._asked.put(x)
        return self._called_ns.get(timeout=PATIENCE_S)

    def close(self) -> None:
        """End its thread."""
        self._asked.put(None)
        self._thread.join()

    def _call(self) -> None:
        interpreter = self._interpreter
        taken, given = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        while (x := self._asked.get()) is not None:
            start_ns = now_ns()
            interpreter.set_tensor(taken, x)
            interpreter.invoke()
            interpreter.get_tensor(given)
            self._called_ns.put(now_ns() - start_ns)


def measure(directory: Path, batch: int, rounds: int, calls: int) -> dict[str, Any]:
    """The figures of one task and batch size."""
    samples = np.load(directory / "samples.npy", allow_pickle=False)
    edge, bare = Edge(directory, batch), Bare(directory, batch)
    rng = rng_for(0, "inference", batch)

    def both_ns(edge_first: bool) -> tuple[int, int]:
        x = samples[rng.integers(0, len(samples), batch)]
        if edge_first:
            return edge.call_ns(x), bare.call_ns(x)
        theirs = bare.call_ns(x)
        return edge.call_ns(x), theirs

    for _ in range(_WARM_UP_CALLS):
        both_ns(True)
    medians = []
    for _ in range(rounds):
        pairs = [both_ns(call % 2 == 0) for call in range(calls)]
        medians.append([statistics.median(each) / 1e3 for each in zip(*pairs, strict=True)])
    edge.close()
    bare.close()
    ratios = [ours / theirs for ours, theirs in medians]
    edge_us, bare_us = (statistics.median(each) for each in zip(*medians, strict=True))
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "edge_us": round(edge_us, 3),  # a small network takes a few µs
        "bare_us": round(bare_us, 3),
    }


def measured(tasks: list[str], rounds: int, calls: int, quiet: Quiet) -> dict[str, Any]:
    """Everything. Each model is built in a process of its own, so that no training framework shares ours."""
    figures: dict[str, dict[str, Any]] = {}
    for name in tasks:
        with tempfile.TemporaryDirectory(prefix="edgebench-inference-") as folder:
            command = [sys.executable, __file__, "--build-in", folder, name]
            built = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
            if built.returncode != 0:
                raise SystemExit(f"the model of {name} could not be built: {built.stderr}")
            figures[name] = {}
            for batch in BATCHES:
                with quiet.during(f"{name}, batch {batch}"):
                    figures[name][f"batch_{batch}"] = measure(Path(folder), batch, rounds, calls)
        for which, found in figures[name].items():
            about = f"edge {found['edge_us']:,.1f} µs, bare call {found['bare_us']:,.1f} µs"
            sys.stderr.write(f"{name}, {which}: {found['ratio']:.3f} ({about})\n")
    worst = max(found["ratio"] for by_batch in figures.values() for found in by_batch.values())
    return {"tasks": figures, "worst": worst, "rounds": rounds, "calls": calls, **quiet.told()}


def main() -> int:
    """Measure and print, or build a model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="all built-in ones if none is named")
    parser.add_argument("--quick", action="store_true", help="few calls: does it work?")
    parser.add_argument("--json", action="store_true")
    add_anyway(parser)
    parser.add_argument("--build-in", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build_in is not None:
        from cloud.export import QUIET

        os.environ.update(QUIET)
        build(args.tasks[0], args.build_in)
        return 0
    unknown = set(args.tasks) - set(names())
    if unknown:
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    rounds, calls = (1, QUICK_CALLS) if args.quick else (ROUNDS, CALLS)
    result = measured(args.tasks or list(names()), rounds, calls, Quiet(anyway=args.anyway))
    sys.stdout.write((json.dumps(result, indent=2) if args.json else f"worst ratio {result['worst']:.3f}") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
