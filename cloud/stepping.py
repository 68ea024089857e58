"""The training step of a model as a LiteRT graph of built-in operations, for devices without a training framework.

What the graph computes is said in `edgebench.federated.learner.Stepper`. It takes all weights as one vector `w`, their
velocity `v`, the weights to stay close to `anchor`, a batch `x`, `y`, `weight`, and the numbers `lr`, `momentum`,
`clip_norm`, `mu`; it gives new `w`, new `v`, and the loss. What is not trainable stays as it is in the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cloud.gradients import NoDerivative, gradients, plain
from edgebench.errors import ModelError
from edgebench.federated.keras_stepper import LOSSES
from edgebench.federated.learner import StepSpec, unique_names
from edgebench.inference.spec import TensorSpec
from edgebench.tasks.models import with_batch
from edgebench.tasks.task import Loss

_SCALARS = ("lr", "momentum", "clip_norm", "mu")
_LACKED = re.compile(r"^(?:TF Select|Custom) ops: (.+)$", re.MULTILINE)
_TOLD = 3
"""How many of the operations that stand in the way are named."""


def training_step(model: keras.Model, loss: Loss, batch: int) -> tuple[bytes, StepSpec]:
    """The graph, and what it takes.

    Raises ModelError that names the operations which LiteRT lacks, and the layers that need them.
    """
    spec = _spec(model, loss, batch)
    fixed = with_batch(model, batch)
    for layer in fixed._flatten_layers():  # those inside of wrappers and models, too
        if isinstance(layer, keras.layers.RNN):
            layer.unroll = True  # LiteRT has no derivative of a loop, and runs one more slowly than its steps
    try:
        step = tf.function(_step(fixed, spec), input_signature=_signature(spec), autograph=False)
        traced = step.get_concrete_function()
    except NoDerivative as error:
        raise ModelError(_in_the_way(fixed, [(error.what, error.name)])) from error
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    try:
        return bytes(converter.convert()), spec
    except Exception as error:
        lacked = {name for names in _LACKED.findall(str(error)) for name in names.split(", ")}
        if not lacked:
            raise
        found = [(op.type, op.name) for op in traced.graph.get_operations() if op.type in lacked]
        raise ModelError(_in_the_way(fixed, found)) from error


def _spec(model: keras.Model, loss: Loss, batch: int) -> StepSpec:
    taken, given = model.inputs[0], model.outputs[0]
    return StepSpec(
        names=unique_names(variable.path for variable in model.trainable_variables),
        shapes=tuple(tuple(variable.shape) for variable in model.trainable_variables),
        batch=batch,
        input=TensorSpec(dtype=taken.dtype, shape=tuple(taken.shape[1:])),
        label_shape=(1,) if loss == "sparse_categorical_crossentropy" else tuple(given.shape[1:]),
        loss=loss,
    )


def _signature(spec: StepSpec) -> list[tf.TensorSpec]:
    weights = sum(_sizes(spec))
    return [
        *(tf.TensorSpec((weights,), tf.float32, name) for name in ("w", "v", "anchor")),
        tf.TensorSpec((spec.batch, *spec.input.shape), spec.input.dtype, "x"),
        tf.TensorSpec((spec.batch, *spec.label_shape), tf.float32, "y"),
        tf.TensorSpec((spec.batch,), tf.float32, "weight"),
        *(tf.TensorSpec((), tf.float32, name) for name in _SCALARS),
    ]


def _sizes(spec: StepSpec) -> list[int]:
    return [int(np.prod(shape)) for shape in spec.shapes]


def _step(model: keras.Model, spec: StepSpec) -> Callable[..., tuple[Any, Any, Any]]:
    """The step as a function of what `_signature` lists."""
    constants = [keras.ops.convert_to_numpy(variable) for variable in model.non_trainable_variables]

    def step(
        w: Any, v: Any, anchor: Any, x: Any, y: Any, weight: Any, lr: Any, momentum: Any, clip_norm: Any, mu: Any
    ) -> tuple[Any, Any, Any]:
        parts = [tf.reshape(*each) for each in zip(tf.split(w, _sizes(spec)), spec.shapes, strict=True)]
        given, _ = model.stateless_call(parts, [tf.constant(each) for each in constants], x, training=False)
        losses = LOSSES[spec.loss](y, plain(given, parts))
        loss = tf.reduce_sum(weight * losses) / tf.reduce_sum(weight)
        found = zip(gradients(loss, parts), parts, strict=True)
        slopes = [tf.zeros_like(part) if slope is None else slope for slope, part in found]
        g = tf.concat([tf.reshape(slope, [-1]) for slope in slopes], axis=0) + mu * (w - anchor)
        norm = tf.sqrt(tf.reduce_sum(g * g))
        clipped = tf.logical_and(clip_norm > 0, norm > clip_norm)
        v = momentum * v + g * tf.where(clipped, clip_norm / norm, 1.0)
        return w - lr * v, v, loss

    return step


def _in_the_way(model: keras.Model, operations: Iterable[tuple[str, str]]) -> str:
    """operations: type and name of each."""
    layers = {layer.name for layer in model._flatten_layers()}
    needed_ops: dict[str, None] = {}
    for what, name in operations:
        scopes = [each for part in reversed(name.split("/")) for each in (_unnumbered(part), part)]
        layer = next((scope for scope in scopes if scope in layers), None)
        needed_ops[what if layer is None else f"{what} (layer '{layer}')"] = None
    needed = ", ".join([*needed_ops][:_TOLD]) + (", …" if len(needed_ops) > _TOLD else "")
    return f"the training step needs {needed}, which LiteRT lacks; use fit: {{runtime: keras}}"


def _unnumbered(part: str) -> str:
    # A layer's operations, and their derivatives, have its name in theirs, but with a number: Keras opens each scope
    # once before it computes in it.
    return re.sub(r"_\d+$", "", part)
