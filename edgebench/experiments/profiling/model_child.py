"""One thing that is timed in a process of its own: `python -m edgebench.experiments.profiling.model_child`.

The first line on standard input says what, lines on standard output what was found, as it is. So what a model needs of
memory is its own, and one that ends the process ends nothing else.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgebench.clock import NS_PER_S, now_ns, now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.fabric.pictures import compressed, decompressed
from edgebench.federated.content import (
    Array,
    Arrays,
    Content,
    Head,
    Metrics,
    arrays_in,
    pack,
    read_parcel,
    write_parcel,
)
from edgebench.federated.learner import LocalPlan
from edgebench.federated.litert_stepper import LiteRtStepper
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.memory import resident_bytes
from edgebench.seeds import rng_for

_WARM_UP = 5
_BEYOND = 4
"""Who takes this many times its time before it was timed as often as it should be has taken enough."""
_LONGEST_PAUSE_S = 0.5
SLICES = 20
"""Equal parts of the time of sustained load."""


class Patience(msgspec.Struct, frozen=True):
    """How often something is timed: `most` times, or for `most_s`, and at least `least` times, unless these take far
    longer than that."""

    least: int
    most: int
    most_s: float


class InferenceJob(msgspec.Struct, frozen=True, tag="inference"):
    """Batches of these sizes."""

    path: str
    manifest: Manifest
    samples: str
    batches: tuple[int, ...]
    patience: Patience


class PictureJob(msgspec.Struct, frozen=True, tag="pictures"):
    """Samples as JPEG files of these qualities."""

    samples: str
    qualities: tuple[int, ...]
    patience: Patience


class LearningJob(msgspec.Struct, frozen=True, tag="learning"):
    """Steps of the graph in a folder, and a request of few of them."""

    step: str
    weights: str
    x: str
    y: str
    patience: Patience


class SustainedJob(msgspec.Struct, frozen=True, tag="sustained"):
    """One sample after another without a pause, for `load_s`."""

    path: str
    manifest: Manifest
    samples: str
    load_s: float


Job = InferenceJob | PictureJob | LearningJob | SustainedJob


class Timed(msgspec.Struct, frozen=True):
    """What was found, ns, by name. medians_ns: of sustained load, of the calls that began in each of `SLICES`."""

    took_ns: dict[str, list[int]] = {}
    first_ms: float | None = None
    memory_mb: float | None = None
    medians_ns: list[float | None] = []
    error: str | None = None

    def and_of(self, other: Timed) -> Timed:
        """With what was found after it."""
        return Timed(
            self.took_ns | other.took_ns,
            self.first_ms if other.first_ms is None else other.first_ms,
            self.memory_mb if other.memory_mb is None else other.memory_mb,
            self.medians_ns or other.medians_ns,
            self.error or other.error,
        )


def timed(call: Callable[[], object], patience: Patience, *purpose: str) -> list[int]:
    """How long it takes, each time after a pause that is as long on average, as between the samples of a stream."""
    until_s = now_s() + patience.most_s
    for _ in range(_WARM_UP):
        call()
        if now_s() > until_s:
            break
    pauses = rng_for(0, "pauses", *purpose)
    took_ns: list[int] = []
    began_s = now_s()
    while not _is_enough(len(took_ns), now_s() - began_s, patience):
        began_ns = now_ns()
        call()
        took_ns.append(now_ns() - began_ns)
        sleep_s(min(pauses.exponential(took_ns[-1] / NS_PER_S), _LONGEST_PAUSE_S))
    return took_ns


def _is_enough(n: int, spent_s: float, patience: Patience) -> bool:
    least = patience.least if spent_s < _BEYOND * patience.most_s else 1
    return n >= patience.most or (n >= least and spent_s >= patience.most_s)


def _inference(job: InferenceJob) -> Iterator[Timed]:
    samples = np.load(job.samples, allow_pickle=False)
    began_ns = now_ns()
    runtime = open_runtime(Path(job.path), job.manifest)
    first_ms = (now_ns() - began_ns) / 1e6
    for batch in job.batches:
        x = np.resize(samples, (batch, *job.manifest.input.shape))
        took_ns = timed(lambda x=x: runtime.infer(x), job.patience, str(batch))  # type: ignore[misc]
        yield Timed({str(batch): took_ns}, first_ms, resident_bytes("self") / 1e6)


def _pictures(job: PictureJob) -> Iterator[Timed]:
    samples = np.load(job.samples, allow_pickle=False)
    spec = TensorSpec(str(samples.dtype), samples.shape[1:])
    for quality in job.qualities:
        turn = _Turns(list(samples))
        compress = timed(lambda t=turn, q=quality: compressed(t.next(), q), job.patience)  # type: ignore[misc]
        files = _Turns([memoryview(compressed(sample, quality)) for sample in samples])
        decompress = timed(lambda f=files: decompressed(f.next(), spec), job.patience)  # type: ignore[misc]
        yield Timed({f"compress {quality}": compress, f"decompress {quality}": decompress})


def _learning(job: LearningJob) -> Iterator[Timed]:
    x, y = np.load(job.x, allow_pickle=False), np.load(job.y, allow_pickle=False)
    stepper = LiteRtStepper(Path(job.step))
    batch = stepper.spec.batch
    rows = np.resize(np.arange(len(x)), batch)
    x, y, weight = x[rows], y[rows], np.ones(batch, np.float32)
    plan = LocalPlan(epochs=1, batch_size=batch, learning_rate=0.001, momentum=0.9, clip_norm=1.0)
    given = read_parcel(Path(job.weights))
    stepper.load([arrays_in(given.content)[name].numpy() for name in stepper.names], plan)
    yield Timed({"step": timed(lambda: stepper.step(x, y, weight), job.patience, "step")})
    with tempfile.TemporaryDirectory(prefix="edgebench-learn-") as folder:
        reply = Path(folder) / "reply"

        def rest() -> None:
            """What a request takes besides its steps: its weights read and loaded, the learned ones written."""
            sent = arrays_in(read_parcel(Path(job.weights)).content)
            stepper.load([sent[name].numpy() for name in stepper.names], plan)
            learned = {name: Array.of(each) for name, each in zip(stepper.names, stepper.weights(), strict=True)}
            content: Content = {"arrays": Arrays(learned), "metrics": Metrics({"num-examples": len(x)})}
            write_parcel(reply, pack(Head(message_id="r", kind="train"), content))

        rests_ns = timed(rest, job.patience, "rest")
    yield Timed({"rest": rests_ns}, memory_mb=resident_bytes("self") / 1e6)


def _sustained(job: SustainedJob) -> Iterator[Timed]:
    x = np.load(job.samples, allow_pickle=False)[:1]
    runtime = open_runtime(Path(job.path), job.manifest)
    for _ in range(_WARM_UP):
        runtime.infer(x)
    by_slice: list[list[int]] = [[] for _ in range(SLICES)]
    began_ns = now_ns()
    slice_ns = job.load_s * NS_PER_S / SLICES
    while (number := int((started_ns := now_ns()) - began_ns) // int(slice_ns)) < SLICES:
        runtime.infer(x)
        by_slice[number].append(now_ns() - started_ns)
    yield Timed(medians_ns=[float(np.median(each)) if each else None for each in by_slice])


class _Turns:
    """One after another, round and round."""

    def __init__(self, things: list[Any]) -> None:
        self._things = things
        self._next = 0

    def next(self) -> Any:
        self._next = (self._next + 1) % len(self._things)
        return self._things[self._next]


def main() -> None:
    """Do the job on standard input."""
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print must not mix with it
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    for found in _parts(job):
        told.write(msgspec.json.encode(found) + b"\n")
        told.flush()


def _parts(job: Job) -> Iterator[Timed]:
    """What is found, one thing after another."""
    try:
        match job:
            case InferenceJob():
                yield from _inference(job)
            case PictureJob():
                yield from _pictures(job)
            case LearningJob():
                yield from _learning(job)
            case SustainedJob():
                yield from _sustained(job)
    except EdgebenchError as error:
        yield Timed(error=str(error))


if __name__ == "__main__":
    main()
