"""Builds the model of `stream.py`, an LSTM of 16 units on 48 × 76 float32: as edgebench runs it, and bare.

    python benchmarks/lstm16.py DIR

writes a registry with one model (`registry/`, its digest to `digest`), and the same network converted by TensorFlow
alone, one file a batch size, for whoever calls an interpreter by hand (`bare-<batch>.tflite`). The weights are those
that Keras starts with: what a model has learned costs nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cloud.export import BATCHES, QUIET, Conversion, Converter
from cloud.registry import Registry
from edgebench.fabric.digests import digest_of
from edgebench.inference.spec import Manifest, TensorSpec

TASK = "icu-death"
SHAPE = (48, 76)
BARE_BATCHES = (1, 32)


def main(directory: Path) -> None:
    """Build everything in `directory`."""
    os.environ.update(QUIET)
    import keras
    import tensorflow as tf
    from keras import layers

    def network(batch: int | None) -> keras.Model:
        inputs = keras.Input(batch_shape=(batch, *SHAPE))
        return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.LSTM(16)(inputs)))

    keras.utils.set_random_seed(7)
    model = network(None)
    keras_file = directory / "model.keras"
    model.save(keras_file)
    for batch in BARE_BATCHES:
        fixed = network(batch)
        fixed.set_weights(model.get_weights())
        bare = tf.lite.TFLiteConverter.from_keras_model(fixed).convert()
        (directory / f"bare-{batch}.tflite").write_bytes(bare)
    merged = directory / "model.tflite"
    with Converter() as converter:
        converter.convert(Conversion(TASK, str(keras_file), "float32", None, str(merged)))
    manifest = Manifest(
        digest=digest_of(merged),
        size_bytes=merged.stat().st_size,
        task=TASK,
        model_size="light",
        runtime="litert",
        quantisation="float32",
        input=TensorSpec("float32", SHAPE),
        outputs=1,
        batches=BATCHES,
        parameters=int(model.count_params()),
        data_source="none",
        real=False,
        examples=0,
        epochs=0,
        seed=7,
        evaluated_on="valid",
        metrics={},
        train_s=0.0,
    )
    (directory / "digest").write_text(Registry(directory / "registry").put(merged, manifest))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
