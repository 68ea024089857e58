"""Models that are not trained here: files of the user's own, described by `FILE.json` or by what they tell."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from edgebench.decoding import from_json
from edgebench.errors import ModelError
from edgebench.fabric.child_process import ChildProcess, describe_end
from edgebench.fabric.digests import digest_of
from edgebench.inference import model_facts
from edgebench.inference.model_facts import SUFFIXES, ModelFacts
from edgebench.inference.runtime import BUILT_IN
from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.tasks.cache import cache_dir

_READING_S = 120.0
"""Loading Keras takes seconds, and many more on a busy machine."""
_READ_BY = {"litert": ("ai-edge-litert", "tflite-runtime", "tensorflow"), "keras": ("tensorflow", "keras")}
"""Packages of a runtime whose files hold all that is known of a model; ONNX may keep a part of it beside them."""
_MOST_KEPT = 256
UNTOLD = "unknown"
"""What stands in a manifest where neither file nor description tells."""


def read_facts(runtime: str, path: Path) -> ModelFacts:
    """What a model file tells, read in a process of its own, once: what a file with the same content has told to the
    same packages is kept in the user's cache. Raises ModelError where it cannot be read."""
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}") from error
    return _facts_of(runtime, path.resolve(), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=64)
def _facts_of(runtime: str, path: Path, _mtime_ns: int, _size_bytes: int) -> ModelFacts:
    # Python, NumPy and LiteRT take most of a second to start, Keras several; and a file is asked for its manifest,
    # against it, and against the samples.
    kept = _kept_in(runtime, path)
    facts = None if kept is None else _recalled(kept)
    if facts is not None:
        return facts
    facts = _told(runtime, path)
    if kept is not None and kept == _kept_in(runtime, path):  # else another file may have told it
        _keep(kept, facts)
    return facts


def _told(runtime: str, path: Path) -> ModelFacts:
    child = ChildProcess(
        [sys.executable, "-m", "edgebench.inference.model_facts", runtime, str(path)],
        family=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        line = child.read_line(_READING_S)
    except TimeoutError:
        raise ModelError(f"cannot be read within {_READING_S:.0f} s") from None
    finally:
        status = child.end()
    if not line:
        raise ModelError(f"ends the process that reads it ({describe_end(status)}): export it again")
    facts = msgspec.json.decode(line, type=ModelFacts)
    if facts.error is not None:
        raise ModelError(facts.error)
    return facts


def _kept_in(runtime: str, path: Path) -> Path | None:
    """The file for what a model file of this content tells, as far as this machine's packages, and we, read it; None
    where it is not known by what it would be read."""
    packages = []
    for package in _READ_BY.get(runtime, ()):
        with contextlib.suppress(PackageNotFoundError):
            packages.append(f"{package} {version(package)}")
    if not packages:
        return None
    try:
        content = digest_of(path)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}") from error
    about = [_own_code(), platform.python_version(), platform.machine(), runtime, *packages, content]
    key = hashlib.sha256("\n".join(about).encode()).hexdigest()
    return cache_dir() / "model-facts" / f"{key[:32]}.json"


@lru_cache(maxsize=1)
def _own_code() -> str:
    """A digest of how we read model files."""
    found = hashlib.sha256()
    for file in sorted(Path(model_facts.__file__).parent.glob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()


def _recalled(kept: Path) -> ModelFacts | None:
    try:
        return from_json(kept.read_bytes(), ModelFacts)
    except (OSError, msgspec.MsgspecError):
        return None


def _keep(kept: Path, facts: ModelFacts) -> None:
    """Where nothing can be kept, it is read again the next time."""
    unfinished = kept.with_name(f"{kept.stem}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(msgspec.json.encode(facts))
        unfinished.replace(kept)
        by_age = sorted(kept.parent.iterdir(), key=lambda each: each.stat().st_mtime)
        for old in by_age[:-_MOST_KEPT]:
            old.unlink(missing_ok=True)


def manifest_of(path: Path, task: str) -> Manifest:
    """The manifest of a model file for a task: its description, or what it tells itself. Raises ModelError."""
    description = path.with_name(path.name + ".json")
    if not description.exists():
        return _told_by_itself(path, description, task)
    try:
        manifest = from_json(description.read_bytes(), Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"its description {description} cannot be read: {error}") from error
    if (path.stat().st_size, digest_of(path)) != (manifest.size_bytes, manifest.digest):
        raise ModelError(f"is not the file that {description.name} describes (give both again, or remove that)")
    return manifest


def problem_of(path: Path, manifest: Manifest, task: str) -> str | None:
    """What keeps a model from deciding a workload of this task, as far as its file and its manifest tell."""
    if manifest.task != task:
        return f"is for {manifest.task}, not {task} (name another, or change the task)"
    if manifest.runtime not in BUILT_IN:
        return f"is for the runtime '{manifest.runtime}'; there are {', '.join(BUILT_IN)} (convert it)"
    if manifest.runtime == "fake":
        return None
    try:
        facts = read_facts(manifest.runtime, path)
    except ModelError as error:
        return str(error)
    if len(facts.inputs) != 1 or len(facts.outputs) != 1:
        return f"inputs: {len(facts.inputs)}, outputs: {len(facts.outputs)}; a model has one of each (export it so)"
    (taken,), (given,) = facts.inputs, facts.outputs
    if not fits(taken, manifest.input):
        return f"takes {shown(taken)}, where its description says {shown(manifest.input)} (export it so, or mend that)"
    if not fits(given, TensorSpec("float32", (manifest.outputs,))):
        if manifest.model_size == UNTOLD:
            return f"gives {shown(given)} a sample, and a decision is float32 [values] (export it so)"
        wanted = f"float32 [{manifest.outputs}]"
        return f"gives {shown(given)} a sample, where its description says {wanted} (export it so, or mend that)"
    if absent := set(manifest.batches) - set(facts.batches):
        sizes = ", ".join(map(str, sorted(absent)))
        return f"does not run at batch size {sizes}, which its description lists (remove that there)"
    return None


def fits(found: TensorSpec, wanted: TensorSpec) -> bool:
    """Whether a tensor is as wanted; an axis of any size (-1) is."""
    return (
        found.dtype == wanted.dtype
        and len(found.shape) == len(wanted.shape)
        and all(size in (-1, other) for size, other in zip(found.shape, wanted.shape, strict=True))
    )


def shown(spec: TensorSpec) -> str:
    """For people: `float32 [10, 5]`."""
    return f"{spec.dtype} {list(spec.shape)}"


def _told_by_itself(path: Path, description: Path, task: str) -> Manifest:
    runtime = SUFFIXES.get(path.suffix)
    if runtime is None:
        known = ", ".join(SUFFIXES)
        raise ModelError(f"has no description {description.name}, and only files {known} do without (put one there)")
    facts = read_facts(runtime, path)
    if not facts.inputs or not facts.outputs or -1 in facts.inputs[0].shape:
        raise ModelError(f"does not tell the shape of a sample (describe it in {description.name})")
    outputs = facts.outputs[0].shape
    return Manifest(
        digest=digest_of(path),
        size_bytes=path.stat().st_size,
        task=task,
        model_size=UNTOLD,
        runtime=runtime,
        quantisation=UNTOLD,
        input=facts.inputs[0],
        outputs=outputs[-1] if outputs else 0,
        batches=facts.batches,
        parameters=0,
        data_source=UNTOLD,
        real=False,
        examples=0,
        epochs=0,
        seed=0,
        evaluated_on="nothing",
        metrics={},
        train_s=0.0,
    )
