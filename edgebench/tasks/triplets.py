"""What embeddings of people learn by, on any backend of Keras."""

from __future__ import annotations

from typing import Any

from keras import ops


def hard_triplets(person: Any, embeddings: Any) -> Any:
    """For each picture of the batch, log(1 + exp(d+ − d−)): the distance to the farthest of the same person, less that
    to the nearest of another, of embeddings [batch, dimension] of length 1. Source: Hermans et al. 2017, eq. 5 and 6.

    Distances on a sphere are small, so they are multiplied by 8. Copies of a picture in the batch change nothing, and
    where all pictures are of one person there is next to nothing to learn.
    """
    number = ops.reshape(person, (-1, 1))
    same = ops.cast(ops.equal(number, ops.transpose(number)), embeddings.dtype)
    squared = 2 - 2 * ops.matmul(embeddings, ops.transpose(embeddings))
    distance = ops.sqrt(ops.maximum(squared, 1e-6))
    # No distance is above 2.
    farthest = ops.max(distance * same, axis=1)
    nearest = ops.min(distance + 4 * same, axis=1)
    return ops.softplus(8 * (farthest - nearest))
