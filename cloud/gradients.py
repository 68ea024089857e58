"""A TensorFlow graph and its derivatives in operations that LiteRT has.

TensorFlow differentiates many layers by operations that exist for training alone (`TanhGrad`, `MaxPoolGrad`,
`Conv2DBackpropFilter`). LiteRT lacks them, so `plain` puts ordinary operations in the place of a few, and `gradients`
has derivatives of its own for others. What neither of them knows keeps TensorFlow's derivative, which may or may not
convert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# TensorFlow's public `tf.gradients` walks the whole graph for each operation that it is asked about.
from tensorflow.python.framework.ops import get_gradient_function

Tensor = Any
Operation = Any
_LOWEST = float(np.finfo(np.float32).min)


class NoDerivative(Exception):
    """An operation that cannot be differentiated. what: it needs; name: of the operation."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"no derivative of {name}: {what}")
        self.what = what
        self.name = name


def plain(y: Tensor, xs: Sequence[Tensor]) -> Tensor:
    """The same y, in the operations that LiteRT runs fastest and that `gradients` can differentiate.

    y: computed from xs in the graph that is being built. Only what depends on xs is computed anew.
    """
    anew: dict[Any, Tensor] = {}
    for op in _between(xs, y.graph):
        inputs = [anew.get(x.ref(), x) for x in op.inputs]
        replacement = _PLAIN.get(op.type)
        with tf.name_scope(op.name):
            output = replacement(op, *inputs) if replacement is not None else None
        outputs = [output] if output is not None else _copied(op, inputs)
        anew |= {old.ref(): new for old, new in zip(op.outputs, outputs, strict=True)}
    return anew.get(y.ref(), y)


def gradients(y: Tensor, xs: Sequence[Tensor], dy: Tensor = None) -> list[Tensor]:
    """∂y/∂x times dy (ones where it is None), for each x; None where y does not depend on it.

    Raises NoDerivative.
    """
    path = _between(xs, y.graph)
    wanted = {t.ref() for t in xs}.union(t.ref() for op in path for t in op.outputs)
    found = {y.ref(): tf.ones_like(y) if dy is None else dy}
    for op in reversed(path):
        dys = [found.get(t.ref()) for t in op.outputs]
        if all(each is None for each in dys):
            continue
        with tf.name_scope(op.name):  # what comes of an operation is known by its name: see `cloud.stepping`
            for x, dx in _backward(op, dys):
                if dx is not None and x.ref() in wanted:
                    found[x.ref()] = dx if x.ref() not in found else found[x.ref()] + dx
    return [found.get(x.ref()) for x in xs]


def moving_window(
    x: Tensor, window: tuple[int, int], strides: tuple[int, int], padding: str, fill: float = 0.0
) -> list[Tensor]:
    """What each place of a window sees as the window moves over x [batch, row, column, channel], row by row.

    padding: `SAME` (filled with `fill`) or `VALID`, as TensorFlow means them. Each is [batch, row, column, channel] of
    the windows.
    """
    batch, *sizes, channels = x.shape
    rows, columns = (_Moves(*each, padding) for each in zip(sizes, window, strides, strict=True))
    x = tf.slice(x, [0, 0, 0, 0], [batch, rows.used, columns.used, channels])
    x = tf.pad(x, [[0, 0], rows.padded, columns.padded, [0, 0]], constant_values=fill)
    down, right = strides
    if strides != (1, 1):  # the places within a stride become channels, so that windows are slices without steps
        x = tf.reshape(x, [batch, rows.blocks, down, columns.blocks, right * channels])
        x = tf.transpose(x, [0, 1, 3, 2, 4])
        x = tf.reshape(x, [batch, rows.blocks, columns.blocks, down * right * channels])
    if window == strides:
        return list(tf.split(x, down * right, axis=3))
    size = [batch, rows.count, columns.count, channels]
    return [
        tf.slice(x, [0, i // down, j // right, (i % down * right + j % right) * channels], size)
        for i in range(window[0])
        for j in range(window[1])
    ]


class _Moves:
    """How a window moves along one axis.

    count: of windows. padded: before and after. used: of the axis. blocks: strides in what is used and padded.
    """

    def __init__(self, size: int, window: int, stride: int, padding: str) -> None:
        self.count = -(-size // stride) if padding == "SAME" else (size - window) // stride + 1
        self.blocks = self.count + (window - 1) // stride
        reach = (self.count - 1) * stride + window
        before = max(reach - size, 0) // 2
        self.used = min(size, self.blocks * stride - before)
        self.padded = (before, self.blocks * stride - before - self.used)
        starts = np.arange(self.count) * stride - before
        self.covered = np.minimum(starts + window, size) - np.maximum(starts, 0)
        """How much of each window lies on the axis: int64 [count]."""


def _between(xs: Sequence[Tensor], graph: Any) -> list[Operation]:
    """The operations of a graph that depend on xs, each after those that it needs."""
    reached = {x.ref() for x in xs}
    found = []
    for op in graph.get_operations():  # in the order in which they were made
        if any(x.ref() in reached for x in op.inputs):
            reached.update(t.ref() for t in op.outputs)
            found.append(op)
    return found


def _copied(op: Operation, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    # Attributes with an underscore are notes to TensorFlow, among them derivatives that belong to the original.
    attributes = {name: op.node_def.attr[name] for name in op.node_def.attr if not name.startswith("_")}
    types = [t.dtype for t in op.outputs]
    return op.graph.create_op(op.type, inputs, types, attrs=attributes, name=op.name).outputs


def _product(op: Operation, a: Tensor, b: Tensor) -> Tensor | None:
    # LiteRT runs a batch of one product several times as fast as the product: XNNPACK takes variable factors only so.
    if op.get_attr("transpose_a") or op.get_attr("transpose_b"):
        return None
    return tf.reshape(tf.matmul(_batch_of_one(a), _batch_of_one(b)), [a.shape[0], b.shape[1]])


def _batch_of_one(a: Tensor) -> Tensor:
    # A recurrent layer multiplies by the same kernel again and again: its derivatives are added up before the reshape.
    shape = [1, *a.shape]
    made = (op.outputs[0] for op in a.consumers() if op.type == "Reshape" and op.outputs[0].shape == shape)
    found = next(made, None)
    return tf.reshape(a, shape) if found is None else found


def _convolution(op: Operation, x: Tensor, kernel: Tensor) -> Tensor | None:
    # One product of all that the window sees: in LiteRT faster than its convolution with a variable kernel.
    height, width, channels, filters = kernel.shape
    _, down, right, _ = op.get_attr("strides")
    padding = op.get_attr("padding").decode()
    if list(op.get_attr("dilations")) != [1, 1, 1, 1] or channels != x.shape[3] or padding == "EXPLICIT":
        return None
    seen = tf.concat(moving_window(x, (height, width), (down, right), padding), axis=3)
    by_window = tf.reshape(seen, [1, -1, height * width * channels])
    return tf.reshape(tf.matmul(by_window, tf.reshape(kernel, [1, -1, filters])), [*seen.shape[:3], filters])


_PLAIN: dict[str, Callable[..., Tensor | None]] = {"MatMul": _product, "Conv2D": _convolution}
"""Type of an operation -> its output from its inputs, or None where the operation has to stay."""


def _backward(op: Operation, dys: Sequence[Tensor]) -> Iterable[tuple[Tensor, Tensor]]:
    """Inputs of an operation, each with ∂/∂input of what depends on the outputs, whose dys are given."""
    rule = _RULES.get(op.type)
    dxs = rule(op, dys[0]) if rule is not None else None
    if dxs is not None:
        return zip(op.inputs, dxs, strict=True)
    full = [tf.zeros(y.shape, y.dtype) if dy is None else dy for y, dy in zip(op.outputs, dys, strict=True)]
    try:
        derivative = get_gradient_function(op)
    except LookupError as error:
        raise NoDerivative(f"the derivative of {op.type}", op.name) from error
    dxs = derivative(op, *full) if derivative is not None else [None] * len(op.inputs)
    # Of one input TensorFlow gives the derivative itself.
    dxs = dxs if isinstance(dxs, list | tuple) else [dxs]
    if any(isinstance(dx, tf.IndexedSlices) for dx in dxs):
        raise NoDerivative(f"the sparse derivative of {op.type}", op.name)
    return zip(op.inputs, dxs, strict=True)


def _by(same: Callable[[Operation], Tensor]) -> Callable[[Operation, Tensor], list[Tensor]]:
    """The derivative of an operation from that of other ones which compute the same."""
    return lambda op, dy: gradients(same(op), list(op.inputs), dy)


def _largest(op: Operation) -> Tensor:
    first, *others = _seen_by_pool(op, fill=_LOWEST)
    for other in others:
        first = tf.maximum(first, other)
    return first


def _mean(op: Operation) -> Tensor:
    (_, down, right, _), (_, height, width, _) = op.get_attr("strides"), op.get_attr("ksize")
    padding, (_, rows, columns, _) = op.get_attr("padding").decode(), op.inputs[0].shape
    vertical, horizontal = _Moves(rows, height, down, padding), _Moves(columns, width, right, padding)
    counts = np.outer(vertical.covered, horizontal.covered)[np.newaxis, :, :, np.newaxis]
    return tf.add_n(_seen_by_pool(op)) / counts.astype(np.float32)


def _seen_by_pool(op: Operation, fill: float = 0.0) -> list[Tensor]:
    (_, down, right, _), (_, height, width, _) = op.get_attr("strides"), op.get_attr("ksize")
    return moving_window(op.inputs[0], (height, width), (down, right), op.get_attr("padding").decode(), fill)


def _maximum(op: Operation, dy: Tensor) -> list[Tensor] | None:
    a, b = op.inputs
    if a.shape != b.shape:
        return None
    to_a = tf.where(a >= b, dy, tf.zeros_like(dy))
    return [to_a, dy - to_a]


def _slice(op: Operation, dy: Tensor) -> list[Tensor] | None:
    x, *_ = op.inputs
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    masks = {name: op.get_attr(name) for name in names}
    begin, end, strides = (tf.get_static_value(each) for each in op.inputs[1:])
    if begin is None or end is None or strides is None:
        return None
    with tf.init_scope():  # which places of x were taken, computed now
        places = tf.reshape(tf.range(x.shape.num_elements()), x.shape)
        taken = tf.raw_ops.StridedSlice(input=places, begin=begin, end=end, strides=strides, **masks).numpy()
    first, last = (np.array(np.unravel_index(taken.flat[i], x.shape)) for i in (0, -1))
    size = last - first + 1
    if np.prod(size) != taken.size or np.any(size < 1):  # not all that lies between them
        return None
    around = np.stack([first, np.array(x.shape) - last - 1], axis=1)
    return [tf.pad(tf.reshape(dy, size), around), None, None, None]


def _relu(op: Operation, dy: Tensor) -> list[Tensor]:
    return [tf.where(op.outputs[0] > 0, dy, tf.zeros_like(dy))]


def _relu6(op: Operation, dy: Tensor) -> list[Tensor]:
    y = op.outputs[0]
    return [tf.where(tf.logical_and(y > 0, y < 6), dy, tf.zeros_like(dy))]


def _leaky_relu(op: Operation, dy: Tensor) -> list[Tensor]:
    return [tf.where(op.inputs[0] > 0, dy, op.get_attr("alpha") * dy)]


def _elu(op: Operation, dy: Tensor) -> list[Tensor]:
    y = op.outputs[0]
    return [tf.where(y > 0, dy, dy * (y + 1))]


_RULES: dict[str, Callable[[Operation, Tensor], list[Tensor] | None]] = {
    "AvgPool": _by(_mean),
    "BiasAdd": lambda _, dy: [dy, tf.reduce_sum(dy, axis=list(range(dy.shape.rank - 1)))],
    "Elu": _elu,
    "LeakyRelu": _leaky_relu,
    "MaxPool": _by(_largest),
    "Maximum": _maximum,
    "Relu": _relu,
    "Relu6": _relu6,
    "Rsqrt": lambda op, dy: [-0.5 * dy * op.outputs[0] ** 3],
    "Sigmoid": lambda op, dy: [dy * op.outputs[0] * (1 - op.outputs[0])],
    "Softplus": lambda op, dy: [dy * tf.sigmoid(op.inputs[0])],
    "StridedSlice": _slice,
    "Tanh": lambda op, dy: [dy * (1 - op.outputs[0] * op.outputs[0])],
}
"""Type of an operation with one output -> ∂/∂input for each input, or None where the rule does not apply."""
