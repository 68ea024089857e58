"""Chains: are the two stages what can be made and run, and is nothing asked of them that nobody does?"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from edgebench.topology.checking_jobs import task_problem
from edgebench.topology.model import Head, Topology, Workload

Problem = tuple[str, str]

_CHAINS = (("device", "edge"), ("device", "cloud"), ("edge", "cloud"))
_WAYS = " or ".join(f"[{', '.join(chain)}]" for chain in _CHAINS)
_NO_RANGES = "nothing tells the ranges of what goes on between two parts"


def check_chains(topology: Topology, tasks: Collection[str]) -> Iterator[Problem]:
    """All workloads with two stages, and those that say of one what they have not got."""
    for name, workload in topology.workloads.items():
        path = f"$.workloads.{name}"
        if isinstance(workload.place.infer, tuple):
            yield from _check_chain(topology, name, workload)
            if workload.head is not None:
                yield from _check_head(f"{path}.head", workload.head, tasks)
        else:
            for field in ("split", "head"):
                if getattr(workload, field) is not None:
                    mend = f"(write {_WAYS} there, or remove it)"
                    yield f"{path}.{field}", f"has no effect without two stages in place.infer {mend}"


def _check_chain(topology: Topology, name: str, workload: Workload) -> Iterator[Problem]:
    path, model, cut = f"$.workloads.{name}", workload.model, workload.split is not None
    if workload.place.infer not in _CHAINS:
        yield f"{path}.place.infer", f"a chain goes from a tier to one above it (write {_WAYS})"
    elif workload.head_on_device:
        yield from _check_on_device(topology, path, workload)
    if cut and workload.head is not None:
        yield f"{path}.head", "split says already what the first stage is (remove one of the two)"
    if not cut and workload.head is None:
        stages = "(set split, which cuts the model in two, or head, a model before it)"
        yield f"{path}.place.infer", f"does not say what the two stages are {stages}"
    how = "a model is cut once it is trained" if cut else "the second stage learns from what the first gives"
    if model.source != "train":
        yield f"{path}.model.source", f"{how}, and this one is not trained (set it to train)"
    elif cut and model.runtime not in ("litert", "keras"):
        yield f"{path}.model.runtime", f"{how}, with Keras: its parts run by litert or keras, not {model.runtime}"
    elif model.runtime == "fake":
        yield (
            f"{path}.model.runtime",
            f"{how}, and a model of runtime 'fake' learns nothing (use litert, keras or onnx)",
        )
    if cut and model.quantisation == "int8":
        yield f"{path}.model.quantisation", f"{_NO_RANGES} (write float32, float16 or dynamic)"
    if workload.rollout:
        yield f"{path}.rollout", f"{how}, and a roll-out would replace one of its parts (remove it)"
    if any(federated.workload == name and federated.app is None for federated in topology.federated):
        yield f"{path}.place.infer", f"{how}, and federated learning would replace it (use device, edge or cloud)"


def _check_on_device(topology: Topology, path: str, workload: Workload) -> Iterator[Problem]:
    if workload.compress is not None:
        yield f"{path}.compress", "what the first stage gives on a device is no picture (remove it)"
    if topology.durability != "none":
        promise = f"durability '{topology.durability}' is promised of samples as they were sensed (begin at the edge)"
        yield f"{path}.place.infer", f"what a device sends is what its first stage gives, and {promise}"


def _check_head(path: str, head: Head, tasks: Collection[str]) -> Iterator[Problem]:
    problem = task_problem(head.task, tasks)
    if problem is not None:
        yield f"{path}.task", problem
    if head.runtime == "fake":
        yield f"{path}.runtime", "what a model of runtime 'fake' gives means nothing (use litert, keras or onnx)"
    elif head.runtime in ("keras", "onnx") and head.quantisation != "float32":
        quantised = f"the {head.runtime} runtime runs float32 only, not {head.quantisation} (or use litert)"
        yield f"{path}.quantisation", quantised
