"""Skeletons that move, as pictures: joint × time × (x, y, z), whoever moves, wherever, and for however long.

A skeleton has the 20 joints of the first Kinect. Its hip centre is put at the origin in every frame and its torso (hip
centre to shoulder centre) is one long; time is resampled to `STEPS`. The axes stay those of the camera: x to its right,
y up, z away from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

JOINTS = (
    *("head", "neck", "right shoulder", "right elbow", "right wrist", "right hand"),
    *("left shoulder", "left elbow", "left wrist", "left hand", "spine", "hip centre"),
    *("right hip", "right knee", "right ankle", "right foot", "left hip", "left knee", "left ankle", "left foot"),
)
"""In the order of samples: neighbours of a picture are neighbours of the body, but for four jumps."""
STEPS = 48
SHAPE = (len(JOINTS), STEPS, 3)
LEVELS_PER_TORSO = 42
"""The resolution of samples, about 1 cm; they reach three torsos from the hip centre, a hand on high is at 2.7."""

_NECK, _HIP = JOINTS.index("neck"), JOINTS.index("hip centre")
_ORIGIN = 128


def normalised(frames: NDArray[np.floating[Any]], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Sequences of skeletons as float32 [sequence, joint, step, 3], in torsos from the hip centre.

    frames: [frame, joint, 3] in any unit, the sequences one after another; lengths: int64 [sequence]. Frames of nothing
    but zeros, which a camera gives when it has lost the person, are left out; a sequence needs one that is not.
    """
    seen = frames.any(axis=(1, 2))
    sequence = np.repeat(np.arange(len(lengths)), lengths)[seen]
    found = np.bincount(sequence, minlength=len(lengths))
    centred = frames[seen] - frames[seen][:, _HIP : _HIP + 1]
    starts = np.cumsum(found) - found
    torso = np.linalg.norm(centred[:, _NECK], axis=1)
    ordered = torso[np.lexsort((torso, sequence))]
    # The median of a sequence: a torso has one length, and what is measured of it has outliers.
    scale = np.maximum(ordered[starts + (found - 1) // 2], 1e-6)
    place = np.linspace(0, 1, STEPS) * (found - 1)[:, None]
    before = place.astype(np.int64)
    after = np.minimum(before + 1, found[:, None] - 1)
    share = (place - before)[..., None, None]
    steps = centred[starts[:, None] + before] * (1 - share) + centred[starts[:, None] + after] * share
    return (steps / scale[:, None, None, None]).transpose(0, 2, 1, 3).astype(np.float32)


def to_bytes(skeletons: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Torsos as uint8: 128 is the hip centre, and a torso has `LEVELS_PER_TORSO` levels. What lies beyond is cut."""
    return np.clip(np.rint(skeletons * LEVELS_PER_TORSO) + _ORIGIN, 0, 255).astype(np.uint8)


def from_bytes(samples: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The inverse of `to_bytes`, to half a level."""
    return (samples.astype(np.float32) - np.float32(_ORIGIN)) / np.float32(LEVELS_PER_TORSO)
