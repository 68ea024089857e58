"""Generated traffic signs: 43 drawn ones, numbered as in GTSRB, each met on several drives and seen several times.

What makes it hard is what makes it hard on a road: few pixels, perspective, blur, dim or glaring light, noise. Frames
of one drive (a track) share place, light and side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.signs.drawing import drawn_signs
from edgebench.tasks.signs.warp import perspectives, warped
from edgebench.tasks.task import Dataset, Split

CLASSES, SIDE = 43, 32
TRACKS = {"train": 14, "valid": 3, "test": 6}
"""Of each class."""
FRAMES = 4
Floats = NDArray[np.float32]


def generate(*, seed: int) -> Dataset:
    """Train, valid and test splits of generated tracks; see `TRACKS` and `FRAMES` for their sizes."""
    signs = drawn_signs()
    splits: dict[str, Split] = {}
    first = 0
    for name, tracks in TRACKS.items():
        of = np.tile(np.arange(CLASSES), tracks)
        splits[name] = _split(signs, of, first, rng_for(seed, "sign-generator", name))
        first += len(of)
    train, valid, test = (splits[name] for name in TRACKS)
    return Dataset("generated", real=False, features=("red", "green", "blue"), train=train, valid=valid, test=test)


def _split(signs: NDArray[np.uint8], of: NDArray[np.int64], first: int, rng: np.random.Generator) -> Split:
    x = frames(signs, of, rng)
    group = np.repeat(np.arange(first, first + len(of), dtype=np.int64), FRAMES)
    shuffled = rng.permutation(len(x))
    label = np.repeat(of, FRAMES).astype(np.float32)[:, None]
    return Split(x=x[shuffled], y=label[shuffled], group=group[shuffled])


def frames(signs: NDArray[np.uint8], of: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pictures uint8 [track · FRAMES, 32, 32, 3]: of each track the one of `signs` uint8 [sign, h, w, 4] that `of`
    int64 [track] says."""
    count = len(of) * FRAMES

    def spread(of_tracks: float, of_frames: float, *more: int) -> Floats:
        """Around 0: what all frames of a track have in common, and what each has of its own."""
        common = np.repeat(rng.uniform(-of_tracks, of_tracks, (len(of), *more)), FRAMES, axis=0)
        return (common + rng.uniform(-of_frames, of_frames, (count, *more))).astype(np.float32)

    matrices = perspectives(
        turn=spread(0.15, 0.03),
        zoom=np.exp(spread(0.05, 0.15) - 0.1),
        shift=spread(0.05, 0.08, 2),
        stretch=np.exp(spread(0.1, 0.03)),
        shear=spread(0.1, 0.03),
        tilt=spread(0.15, 0.05, 2),
    )
    sign = warped(signs, np.repeat(of, FRAMES), matrices, SIDE)
    opacity: Floats = sign[..., 3:] / np.float32(255)
    seen = _behind(len(of), rng) * (1 - opacity) + sign[..., :3] * opacity
    # Light from dusk to glare, its colour, and a veil of haze or reflection.
    light = np.exp(spread(0.9, 0.1, 1, 1, 1) - 0.5 + spread(0.12, 0.0, 1, 1, 3))
    seen = seen * light + 40 * np.abs(spread(0.8, 0.2, 1, 1, 1))
    for axis in (1, 2):
        seen = _blurred(seen, axis, np.abs(spread(0.25, 0.08, 1, 1, 1)))
    noisy = seen + rng.normal(0, 5, seen.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _behind(tracks: int, rng: np.random.Generator) -> Floats:
    """What stands behind the signs of each track: patches of sky, leaves and walls, [track · FRAMES, 32, 32, 3]."""
    patches = rng.integers(0, 256, (tracks, 5, 5, 4), np.uint8)
    grey = patches.mean(axis=-1, keepdims=True)
    patches = (grey + 0.4 * (patches - grey)).astype(np.uint8)
    straight = np.zeros(tracks, np.float32), np.ones(tracks, np.float32), np.zeros((tracks, 2), np.float32)
    zero, one, nowhere = straight
    plain = perspectives(turn=zero, zoom=one, shift=nowhere, stretch=one, shear=zero, tilt=nowhere)
    return np.repeat(warped(patches, np.arange(tracks), plain, SIDE)[..., :3], FRAMES, axis=0)


def _blurred(x: Floats, axis: int, share: Floats) -> Floats:
    """Each pixel gives `share` of itself to each of its two neighbours along an axis; twice."""
    for _ in range(2):
        x = (1 - 2 * share) * x + share * (np.roll(x, 1, axis) + np.roll(x, -1, axis))
    return x
