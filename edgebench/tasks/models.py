"""What every task's models have in common."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

_CHUNK = 512


def with_batch(model: keras.Model, batch: int) -> keras.Model:
    """The same model, with the same weights, for batches of exactly `batch` samples.

    Recurrent layers of a free batch size need operations that LiteRT lacks; of a fixed one they become
    its fused kernel.
    """
    fixed = [keras.Input(batch_shape=(batch, *i.shape[1:]), dtype=i.dtype, name=i.name) for i in model.inputs]
    clone = keras.models.clone_model(model, input_tensors=fixed if len(fixed) > 1 else fixed[0])
    clone.set_weights(model.get_weights())
    return clone


def outputs_of(model: keras.Model, x: NDArray[Any]) -> NDArray[np.float32]:
    """The model's outputs [sample, output], without compiling it first, which takes longer than a few runs."""
    chunks = [model(x[start : start + _CHUNK], training=False) for start in range(0, len(x), _CHUNK)]
    return np.concatenate([ops.convert_to_numpy(chunk) for chunk in chunks])
