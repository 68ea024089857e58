"""The published LaneNet: ENet, whose first two stages both heads share, and whose third and decoder each has alone.

Frames are enlarged to 256 × 512, and what comes out at that size is averaged to the grid of `decoding`. Where ENet's
decoder puts values back to where max pooling found them, this one repeats them: the parameters are the same.
Sources: Paszke et al. 2016, "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation"; Neven et
al. 2018.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from edgebench.tasks.lanes.decoding import EMBEDDING, GRID

HEIGHT, WIDTH = 256, 512
_PARTS = 4
"""A bottleneck's inner convolutions have this part of its filters."""


def lanenet(picture: Any) -> tuple[Any, Any]:
    """Log-odds [batch, 32, 80, 1] and embeddings [batch, 32, 80, 4] of a picture [batch, y, x, 3]."""
    x = layers.Resizing(HEIGHT, WIDTH, name="enlarge")(picture)
    first = layers.Conv2D(13, 3, strides=2, padding="same", use_bias=False)(x)
    x = _normalised(layers.Concatenate()([first, layers.MaxPooling2D(2)(x)]))
    x = _down(x, 64, dropout=0.01)
    for _ in range(4):
        x = _bottleneck(x, dropout=0.01)
    shared = _context(_down(x, 128, dropout=0.1))
    heads = []
    for outputs in (1, EMBEDDING):
        x = _up(_context(shared), 64)
        for _ in range(2):
            x = _bottleneck(x, dropout=0.1, slope=False)
        x = _bottleneck(_up(x, 16), dropout=0.1, slope=False)
        x = layers.Conv2DTranspose(outputs, 2, strides=2)(x)
        # 256 rows and 512 columns to 40 and 80; the upper rows are all sky.
        x = layers.Resizing(40 * 8, 80 * 8, interpolation="nearest")(x)
        x = layers.AveragePooling2D(8)(x)
        heads.append(layers.Cropping2D(((40 - GRID[0], 0), (0, 0)))(x))
    return heads[0], heads[1]


def _context(x: Any) -> Any:
    """A stage of eight bottlenecks that see ever farther."""
    for dilations in ((1, 2, "asymmetric", 4), (1, 8, "asymmetric", 16)):
        for dilation in dilations:
            if dilation == "asymmetric":
                x = _bottleneck(x, dropout=0.1, asymmetric=True)
            else:
                x = _bottleneck(x, dropout=0.1, dilation=int(dilation))
    return x


def _bottleneck(x: Any, *, dropout: float, dilation: int = 1, asymmetric: bool = False, slope: bool = True) -> Any:
    filters = x.shape[-1]
    inner = filters // _PARTS
    side = _normalised(layers.Conv2D(inner, 1, use_bias=False)(x), slope=slope)
    if asymmetric:
        side = layers.Conv2D(inner, (5, 1), padding="same", use_bias=False)(side)
        side = layers.Conv2D(inner, (1, 5), padding="same")(side)
    else:
        side = layers.Conv2D(inner, 3, padding="same", dilation_rate=dilation)(side)
    side = _expanded(_normalised(side, slope=slope), filters, dropout)
    return _active(layers.Add()([x, side]), slope=slope)


def _down(x: Any, filters: int, *, dropout: float) -> Any:
    inner, before = filters // _PARTS, x.shape[-1]
    side = _normalised(layers.Conv2D(inner, 2, strides=2, use_bias=False)(x))
    side = _normalised(layers.Conv2D(inner, 3, padding="same")(side))
    side = _expanded(side, filters, dropout)
    # The main branch has fewer channels: those it lacks are zero.
    main = layers.MaxPooling2D(2)(x)
    rows, columns = main.shape[1:3]
    main = layers.Reshape((rows * columns, before))(main)
    main = layers.Permute((2, 1))(layers.ZeroPadding1D((0, filters - before))(layers.Permute((2, 1))(main)))
    return _active(layers.Add()([layers.Reshape((rows, columns, filters))(main), side]))


def _up(x: Any, filters: int) -> Any:
    inner = filters // _PARTS
    side = _normalised(layers.Conv2D(inner, 1, use_bias=False)(x), slope=False)
    side = layers.Conv2DTranspose(inner, 3, strides=2, padding="same")(side)
    side = _expanded(_normalised(side, slope=False), filters, 0.1)
    main = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
    return _active(layers.Add()([layers.UpSampling2D(2)(main), side]), slope=False)


def _expanded(x: Any, filters: int, dropout: float) -> Any:
    x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
    return layers.SpatialDropout2D(dropout)(x)


def _normalised(x: Any, *, slope: bool = True) -> Any:
    return _active(layers.BatchNormalization()(x), slope=slope)


def _active(x: Any, *, slope: bool = True) -> Any:
    """PReLU with a slope for each channel in the encoder, ReLU in the decoder."""
    return layers.PReLU(shared_axes=[1, 2])(x) if slope else layers.ReLU()(x)
