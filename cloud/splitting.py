"""A trained model cut in two: where it can be, what its parts are, and where it should be.

It can be cut where one tensor alone goes on. Which place is the best is found by `cutting_rule`.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.cutting_rule import any_may_be_best, predicted_ms, worthwhile
from cloud.export import Converter
from cloud.jobs import SplitOrder, Trained, TrainedFile
from cloud.model_files import Fitted, outputs_of, unscored_file
from edgebench.clock import NS_PER_MS, now_ns
from edgebench.errors import DataError, ModelError
from edgebench.fabric.records import Cut
from edgebench.inference.runtime import Runtime, open_runtime
from edgebench.inference.spec import Part, TensorSpec

_TIMED_CALLS, _TIMED_S = 200, 0.5
_FLAT, _SHAPED = "edgebench_flat", "edgebench_shaped"
"""Of our own layers: no other of a model may have the name of one."""


class Place(NamedTuple):
    """Where a model can be cut. tensor: that goes on there, float32 [batch, …]; values: of it, a sample. number: from
    1, from the input on. layer: what gives the tensor."""

    number: int
    layer: str
    tensor: Any
    values: int


class _Halves(NamedTuple):
    """A model's parts as files, and what each takes for a sample."""

    cut: Cut
    head: TrainedFile
    tail: TrainedFile


def places_of(model: keras.Model) -> list[Place]:
    """Where a model of one input and one output can be cut in two, each of which has a layer at least."""
    nodes = _nodes(model)
    found: list[tuple[str, Any]] = []
    going_on: dict[int, Any] = {}
    for index, node in enumerate(nodes):
        later = {id(tensor) for each in nodes[index + 1 :] for tensor in each.input_tensors}
        going_on |= {id(tensor): tensor for tensor in node.outputs}
        going_on = {key: tensor for key, tensor in going_on.items() if key in later}
        if node.is_input or len(going_on) != 1:
            continue
        (tensor,) = going_on.values()
        shape = tensor.shape[1:]
        masked = getattr(tensor, "_keras_mask", None) is not None  # which goes on beside the tensor
        if tensor is not node.outputs[0] or tensor.dtype != "float32" or None in shape or masked:
            continue
        found.append((node.operation.name, tensor))
    by_sample = _with_a_row_a_sample(model, [tensor for _, tensor in found])
    of_samples = [each for each, is_so in zip(found, by_sample, strict=True) if is_so]
    return [
        Place(number, layer, tensor, prod(tensor.shape[1:])) for number, (layer, tensor) in enumerate(of_samples, 1)
    ]


def cut_at(model: keras.Model, place: Place) -> tuple[keras.Model, keras.Model]:
    """The two parts, with the layers and weights of the model. What goes on between them is flat: [batch, value]."""
    head = keras.Model(model.inputs[0], keras.layers.Flatten(name=_FLAT)(place.tensor), name="head")
    flat = keras.Input((place.values,), dtype="float32", name=_FLAT)
    known = {id(place.tensor): keras.layers.Reshape(place.tensor.shape[1:], name=_SHAPED)(flat)}
    for node in _nodes(model):
        if node.is_input or node.outputs[0] is place.tensor:
            continue
        if all(id(tensor) in known for tensor in node.input_tensors):
            args, kwargs = node.arguments.fill_in(known)
            outputs = keras.tree.flatten(node.operation(*args, **kwargs))
            known |= {id(old): new for old, new in zip(node.outputs, outputs, strict=True)}
    return head, keras.Model(flat, known[id(model.outputs[0])], name="tail")


def split_files(model: Fitted, order: SplitOrder, converter: Converter | None) -> Trained:
    """The two parts of a trained model, for its job's only target. The metrics of the tail are those of both together.

    Raises DataError where it cannot be cut as it is asked for, ModelError where a part does not convert.
    """
    if model.native != "keras":
        raise ModelError(f"{model.job.task}: a torch module is not cut in two (give a Keras model, or no split)")
    whole = keras.models.load_model(model.file, compile=False, safe_mode=True)
    places = places_of(whole)
    halves = [_halves(model, whole, place, order, converter) for place in _wanted(places, order, model.job.name)]
    best = min(halves, key=lambda each: each.cut.predicted_ms or 0.0)
    files = _described(model, best)
    considered = tuple(each.cut for each in halves) if order.after == "auto" else ()
    return Trained(model.job.name, files, cut=best.cut, places=len(places), considered=considered)


def _with_a_row_a_sample(model: keras.Model, tensors: list[Any]) -> list[bool]:
    """Of tensors in a model: inside, the frames of a sample may have a row each."""
    if not tensors:
        return []
    (sample,) = model.inputs
    given = keras.Model(sample, tensors)(np.zeros((2, *sample.shape[1:]), sample.dtype), training=False)
    return [len(each) == 2 for each in keras.tree.flatten(given)]


def _wanted(places: list[Place], order: SplitOrder, name: str) -> list[Place]:
    at = f"$.workloads.{name}.split"
    if not places:
        raise DataError(
            f"{at}: nowhere in the model one tensor alone goes on (set place.infer to device, edge or cloud)"
        )
    if order.after == "auto":
        return places if any_may_be_best(order) else worthwhile(places)
    if order.after > len(places):
        raise DataError(
            f"{at}: {order.after}, and the model can be cut at {len(places)} places (write 1 to {len(places)})"
        )
    return [places[order.after - 1]]


def _nodes(model: keras.Model) -> list[Any]:
    """The calls that a model consists of, each after those that it needs. Keras offers no other way to them."""
    graph = getattr(model, "_functional", model)
    by_depth = getattr(graph, "_nodes_by_depth", None)
    if by_depth is None:
        raise ModelError(
            f"a model of class {type(model).__name__} cannot be cut in two (build it of inputs and outputs)"
        )
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def _halves(model: Fitted, whole: keras.Model, place: Place, order: SplitOrder, converter: Converter | None) -> _Halves:
    folder = Path(model.job.out_dir) / f"split-{place.number}"
    (target,) = model.job.targets
    files = []
    for part, outputs in zip(cut_at(whole, place), (place.values, model.outputs), strict=True):
        path = folder / part.name / "model.keras"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.save(path)
        own = replace(model, file=path, outputs=outputs, parameters=int(part.count_params()), picture=None)
        files.append(unscored_file(own, converter, *target))
    head, tail = files
    takes = TensorSpec("float32", (place.values,))
    tail = msgspec.structs.replace(tail, manifest=msgspec.structs.replace(tail.manifest, input=takes))
    head_ms, tail_ms = _medians_ms((head, tail), model.dataset.valid.x[:1])
    predicted = predicted_ms(order, head_ms, tail_ms, place.values) if order.speeds_known else None
    return _Halves(Cut(place.number, place.layer, place.values, head_ms, tail_ms, predicted), head, tail)


def _described(model: Fitted, halves: _Halves) -> tuple[TrainedFile, TrainedFile]:
    """The files, with what is known of both together."""
    cut, head, tail = halves
    x, y = model.dataset.valid.x, model.dataset.valid.y
    given = outputs_of(Path(head.path), head.manifest, x)
    scores = model.task.score(outputs_of(Path(tail.path), tail.manifest, given), y)
    share = cut.head_ms / (cut.head_ms + cut.tail_ms)
    described = (
        msgspec.structs.replace(head.manifest, part=Part("head", cut.layer, share)),
        msgspec.structs.replace(
            tail.manifest,
            part=Part("tail", cut.layer, 1 - share),
            metrics={name: value for name, value in scores.items() if np.isfinite(value)},
            metrics_before_export=model.metrics,
        ),
    )
    return TrainedFile(head.path, described[0]), TrainedFile(tail.path, described[1])


def _medians_ms(files: tuple[TrainedFile, TrainedFile], x: NDArray[Any]) -> tuple[float, float]:
    """What each takes for one sample x [1, …]. They take turns: whatever else this machine does hinders both alike."""
    head, tail = (open_runtime(Path(file.path), file.manifest) for file in files)
    took_ns: tuple[list[int], list[int]] = ([], [])
    began_ns = now_ns()
    while len(took_ns[0]) < _TIMED_CALLS and now_ns() - began_ns < _TIMED_S * 1e9:
        given, head_ns = _timed(head, x)
        _, tail_ns = _timed(tail, given)
        took_ns[0].append(head_ns)
        took_ns[1].append(tail_ns)
    head.close()
    tail.close()
    return statistics.median(took_ns[0]) / NS_PER_MS, statistics.median(took_ns[1]) / NS_PER_MS


def _timed(runtime: Runtime, x: NDArray[Any]) -> tuple[NDArray[np.float32], int]:
    began_ns = now_ns()
    outputs = runtime.infer(x)
    return outputs, now_ns() - began_ns
