"""The networks: `light` for the edge, `heavy` for the cloud, `published` as in the literature.

Each takes frames uint8 [batch, 80, 160, 3] and gives float32 [batch, output], see `decoding`.

- light finds, for each slot and row, the column where the lane is, out of 40, and whether there is one (row anchors;
  after Qin et al. 2020, "Ultra Fast Structure-aware Deep Lane Detection", with convolutions in place of its large
  dense layer).
- heavy is a LaneNet: an encoder that two decoders share, one telling cells of lanes from others, one embedding them
  (Neven et al. 2018, "Towards End-to-End Lane Detection: an Instance Segmentation Approach").
- published is the LaneNet of that paper on 256 × 512 with ENet's stages, see `enet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from edgebench.tasks.lanes.decoding import EMBEDDING, GRID, SLOTS, TOP_CELLS
from edgebench.tasks.lanes.enet import lanenet
from edgebench.tasks.lanes.geometry import FRAME
from edgebench.tasks.task import Size

COLUMNS = 40
"""Cells of a row that the light model chooses from."""


@dataclass(frozen=True)
class Network:
    """`model` is what is kept; `trainee` shares its layers and gives what the loss is of."""

    model: keras.Model
    trainee: keras.Model


def build(size: Size) -> Network:
    """A new network."""
    inputs = keras.Input((*FRAME, 3), dtype="uint8", name="frame")
    picture = layers.Rescaling(1 / 64, offset=-2.0, name="rescale")(inputs)
    if size == "light":
        return _light(inputs, picture)
    binary, embedding = _lanenet(picture) if size == "heavy" else lanenet(picture)
    both = layers.Concatenate(name="segments")([binary, embedding])
    model = keras.Model(inputs, layers.Reshape((GRID[0] * GRID[1] * (1 + EMBEDDING),), name="cells")(both), name=size)
    return Network(model, model)


def _light(inputs: Any, picture: Any) -> Network:
    half = _conv(picture, 16, strides=2, name="half")
    quarter = _conv(half, 32, strides=2, name="quarter")
    quarter = _conv(quarter, 32, name="quarter_b")
    eighth = _conv(quarter, 56, strides=2, name="eighth")
    eighth = _residual(eighth, 56, name="eighth_b")
    coarse = _conv(eighth, 80, strides=2, name="coarse")
    coarse = _residual(coarse, 80, name="coarse_b")
    whole = layers.Flatten()(_conv(coarse, 12, size=1, name="squeeze"))
    whole = layers.Dense(96, activation="relu", name="whole")(whole)
    coarse = _conditioned(coarse, whole, 80, name="conditioned_coarse")
    eighth = _merged(coarse, eighth, 48, name="merge_eighth")
    quarter = _merged(eighth, quarter, 32, name="merge_quarter")
    quarter = _conditioned(quarter, whole, 32, name="conditioned_quarter")
    # Two rows of the grid for each row of the features.
    odds = layers.Conv2D(2 * SLOTS, 1, name="odds")(quarter)
    odds = layers.Reshape((FRAME[0] // 4, COLUMNS, 2, SLOTS))(odds)
    odds = layers.Permute((1, 3, 4, 2))(odds)
    odds = layers.Reshape((FRAME[0] // 2, SLOTS, COLUMNS))(odds)
    odds = layers.Cropping1D((TOP_CELLS, 0))(layers.Reshape((FRAME[0] // 2, SLOTS * COLUMNS))(odds))
    odds = layers.Permute((2, 1, 3))(layers.Reshape((GRID[0], SLOTS, COLUMNS))(odds))
    columns = layers.Softmax(axis=-1, name="columns")(odds)
    x = layers.Reshape((SLOTS * GRID[0],), name="x")(_expected()(columns))
    rows = layers.MaxPooling2D((1, COLUMNS))(_conv(quarter, 16, size=1, name="rows"))
    told = layers.Concatenate()([layers.Flatten()(rows), whole])
    there_odds = layers.Dense(SLOTS * GRID[0], name="there_odds")(
        layers.Dense(96, activation="relu", name="conditioned")(told)
    )
    there = layers.Activation("sigmoid", name="there")(there_odds)
    model = keras.Model(inputs, layers.Concatenate(name="anchors")([x, there]), name="light")
    flat = layers.Flatten()(odds)
    return Network(model, keras.Model(inputs, layers.Concatenate()([flat, x, there_odds])))


def _expected() -> Any:
    """The layer that gives the mean column's place, as a share of the width, of probabilities [..., column]."""
    centres = keras.initializers.Constant(0.0)
    layer = layers.Dense(1, use_bias=False, trainable=False, kernel_initializer=centres, name="expected")
    layer.build((None, SLOTS, GRID[0], COLUMNS))
    layer.set_weights([((ops.convert_to_numpy(ops.arange(COLUMNS)) + 0.5) / COLUMNS)[:, None].astype("float32")])
    return layer


def _lanenet(picture: Any) -> tuple[Any, Any]:
    half = _conv(picture, 24, strides=2, name="half")
    quarter = _residual(_conv(half, 48, strides=2, name="quarter"), 48, name="quarter_b")
    eighth = _conv(quarter, 64, strides=2, name="eighth")
    eighth = _residual(eighth, 64, name="eighth_b")
    eighth = _residual(eighth, 64, dilation=2, name="eighth_c")
    coarse = _conv(eighth, 96, strides=2, name="coarse")
    coarse = _residual(coarse, 96, name="coarse_b")
    coarse = _residual(coarse, 96, dilation=2, name="coarse_c")
    whole = layers.Flatten()(_conv(coarse, 12, size=1, name="squeeze"))
    coarse = _conditioned(coarse, layers.Dense(96, activation="relu", name="whole")(whole), 96, name="conditioned")
    shared = _merged(coarse, eighth, 64, name="shared")
    heads = []
    for head, outputs in (("binary", 1), ("embedding", EMBEDDING)):
        up = _merged(shared, quarter, 40, name=f"{head}_quarter")
        up = _merged(up, half, 16, name=f"{head}_half")
        up = layers.Cropping2D(((TOP_CELLS, 0), (0, 0)))(up)
        heads.append(layers.Conv2D(outputs, 1, name=head)(up))
    return heads[0], heads[1]


def _conv(x: Any, filters: int, *, size: int = 3, strides: int = 1, dilation: int = 1, name: str) -> Any:
    x = layers.Conv2D(
        filters, size, strides=strides, dilation_rate=dilation, padding="same", use_bias=False, name=name
    )(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def _residual(x: Any, filters: int, *, dilation: int = 1, name: str) -> Any:
    return layers.Add()([x, _conv(x, filters, dilation=dilation, name=name)])


def _conditioned(x: Any, whole: Any, filters: int, *, name: str) -> Any:
    """Tell each place what the whole frame is like."""
    known = layers.Reshape((1, 1, filters))(layers.Dense(filters, name=name)(whole))
    return layers.Add()([x, known])


def _merged(coarse: Any, fine: Any, filters: int, *, name: str) -> Any:
    """Coarse features, enlarged, and the finer ones of the encoder."""
    up = layers.UpSampling2D(2)(_conv(coarse, filters, size=1, name=f"{name}_up"))
    across = _conv(fine, filters, size=1, name=f"{name}_across")
    return _conv(layers.Add()([up, across]), filters, name=name)
