"""Generated faces: ellipses for head, hair, eyes, brows, nose and mouth.

A person has proportions, skin, hair, and perhaps a beard or glasses; a picture has a pose (turned, tilted, nearer, off
the centre), a light from some side, an expression, a background and noise. Pose and light change the pixels about as
much as the person does, and the features of a turned head move by their depth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.faces.labels import labels_of
from edgebench.tasks.faces.pictures import HEIGHT, WIDTH
from edgebench.tasks.task import Dataset, Split

PEOPLE = {"train": 60, "valid": 20, "test": 30}
PICTURES = 10
"""Of each person."""

_PERSON = {
    "head_width": (0.62, 0.045),
    "head_height": (0.80, 0.05),
    "jaw": (0.0, 0.12),
    "eye_y": (-0.10, 0.035),
    "eye_gap": (0.27, 0.03),
    "eye_width": (0.115, 0.015),
    "eye_height": (0.05, 0.011),
    "brow_rise": (0.14, 0.025),
    "brow_width": (0.15, 0.025),
    "brow_height": (0.024, 0.009),
    "brow_slope": (0.0, 0.12),
    "nose_length": (0.26, 0.035),
    "nose_width": (0.085, 0.02),
    "mouth_y": (0.42, 0.035),
    "mouth_width": (0.20, 0.03),
    "lips": (0.045, 0.014),
    "skin": (165, 26),
    "hair": (70, 40),
    "hairline": (-0.50, 0.08),
    "hair_volume": (0.09, 0.05),
    "beard": (-0.25, 0.45),
    "glasses": (-0.55, 0.6),
}
"""Mean and spread between people, in half heights of the picture; skin and hair in levels of grey, and a beard or
glasses are worn by those for whom the number is above 0."""

_PICTURE = {
    "shift_x": (0.0, 0.036),
    "shift_y": (0.0, 0.03),
    "scale": (1.0, 0.036),
    "tilt": (0.0, 0.054),
    "yaw": (0.0, 0.17),
    "nod": (0.0, 0.06),
    "light_x": (0.0, 0.17),
    "light_y": (-0.05, 0.11),
    "exposure": (1.0, 0.072),
    "open": (-0.02, 0.021),
    "smile": (0.0, 0.018),
    "lid": (1.0, 0.15),
    "backdrop": (110, 27),
    "backdrop_slope": (0.0, 21),
}
"""Mean and spread between pictures of one person."""

_EDGE = 0.03
"""Half heights over which one surface passes into another."""
_NOISE = 5.0


def generate(*, seed: int) -> Dataset:
    """Train, valid and test splits of generated people, `PICTURES` of each; see `PEOPLE` for how many."""
    x, person = faces(sum(PEOPLE.values()), rng_for(seed, "faces-generator"))
    splits, start = {}, 0
    for name, people in PEOPLE.items():
        rows = slice(start * PICTURES, (start + people) * PICTURES)
        splits[name] = Split(x=x[rows], y=labels_of(person[rows]), group=person[rows])
        start += people
    return Dataset.of(splits, source="generated", real=False, features=("grey",))


def faces(people: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures uint8 [people * PICTURES, 56, 48, 1] and the person of each, from 0."""
    person = np.repeat(np.arange(people), PICTURES)
    # Of each trait a column, so that it meets the rows and columns of a picture.
    own = {name: _column(rng.normal(*spread, people)[person]) for name, spread in _PERSON.items()}
    now = {name: _column(rng.normal(*spread, len(person))) for name, spread in _PICTURE.items()}
    grey = _drawn(own, now) + _NOISE * rng.standard_normal((len(person), HEIGHT, WIDTH), np.float32)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], person


def _column(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)[:, None, None]


def _drawn(own: dict[str, NDArray[np.float32]], now: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Levels of grey [sample, 56, 48] before they are cut to 0 … 255."""
    half_width = WIDTH / HEIGHT
    y, x = np.linspace(-1, 1, HEIGHT, dtype=np.float32), np.linspace(-half_width, half_width, WIDTH, dtype=np.float32)
    y, x = y[:, None], x[None, :]
    # Where each pixel lies on an upright head of ordinary size.
    u0, v0 = (x - now["shift_x"]) / now["scale"], (y - now["shift_y"]) / now["scale"]
    u = np.cos(now["tilt"]) * u0 + np.sin(now["tilt"]) * v0
    v = np.cos(now["tilt"]) * v0 - np.sin(now["tilt"]) * u0
    turned, nodded = np.sin(now["yaw"]), np.sin(now["nod"])

    def at(a: Any, b: Any, depth: float) -> tuple[Any, Any]:
        """Places relative to a point of the head that stands out by its depth."""
        return u - a * np.cos(now["yaw"]) - depth * turned, v - b - depth * nodded

    grey = now["backdrop"] + now["backdrop_slope"] * x + np.zeros_like(u)
    hair, skin = np.clip(own["hair"], 15, 200), np.clip(own["skin"], 80, 235)
    width, height = own["head_width"] * (1 - own["jaw"] * np.clip(v, 0, 1)), own["head_height"]
    around = own["hair_volume"] + 0.03
    grey = _over(grey, hair, _ellipse(u + 0.1 * turned, v + 0.06, own["head_width"] + around, height + around))
    # A ball in the light of a lamp.
    round_x, round_y = (u - 0.15 * turned) / width, v / height
    bulge = np.sqrt(np.clip(1 - round_x**2 - round_y**2, 0.05, 1))
    shade = 0.72 + 0.32 * bulge + now["light_x"] * round_x + now["light_y"] * round_y
    head = _ellipse(u, v, width, height)
    grey = _over(grey, skin * shade, head)
    _, beard_v = at(0, own["mouth_y"] - 0.08, 0.1)
    grey = _over(grey, hair * 0.8 + 20, head * _step(beard_v) * 0.75 * (own["beard"] > 0))
    for side in (-1, 1):
        eye_u, eye_v = at(side * own["eye_gap"], own["eye_y"], 0.25)
        lids = np.clip(own["eye_height"] * now["lid"], 0.012, None)
        socket = _ellipse(eye_u, eye_v, own["eye_width"] * 1.4, own["eye_height"] * 2.4)
        grey = _over(grey, skin * shade * 0.8, socket * 0.7)
        eye = _ellipse(eye_u, eye_v, own["eye_width"], lids)
        grey = _over(grey, 215.0, eye)
        grey = _over(grey, 35.0, eye * _ellipse(eye_u, eye_v, lids * 1.1, lids * 1.1))
        brow_u, brow_v = at(side * own["eye_gap"], own["eye_y"] - own["brow_rise"], 0.28)
        tilted = brow_v + side * own["brow_slope"] * brow_u
        brow = _ellipse(brow_u, tilted, own["brow_width"], np.clip(own["brow_height"], 0.01, None))
        grey = _over(grey, hair * 0.9, brow)
        ring = _ellipse(eye_u, eye_v, 0.2, 0.15) - _ellipse(eye_u, eye_v, 0.165, 0.115)
        grey = _over(grey, 30.0, np.clip(ring, 0, 1) * (own["glasses"] > 0))
    tip = own["eye_y"] + own["nose_length"]
    nose_u, nose_v = at(0, tip, 0.5)
    grey = _over(grey, skin * shade * 0.62, _ellipse(nose_u, nose_v, own["nose_width"] * 1.3, 0.035) * 0.9)
    ridge = _ellipse(nose_u + 0.5 * turned * nose_v, nose_v + own["nose_length"] / 2, own["nose_width"] * 0.5, 0.16)
    grey = _over(grey, skin * shade * 1.18, ridge * 0.6)
    mouth_u, mouth_v = at(0, own["mouth_y"], 0.3)
    bent = mouth_v + now["smile"] * (mouth_u / own["mouth_width"]) ** 2
    lips = np.clip(own["lips"], 0.015, None) + np.clip(now["open"], 0, None)
    grey = _over(grey, skin * shade * 0.58, _ellipse(mouth_u, bent, own["mouth_width"] * (1 + now["smile"]), lips))
    inside = np.clip(now["open"], 0.008, None)
    grey = _over(grey, 30.0, _ellipse(mouth_u, bent, own["mouth_width"] * 0.8, inside))
    _, fringe_v = at(0, own["hairline"], 0.2)
    grey = _over(grey, hair, head * _step(-fringe_v))
    return np.clip(now["exposure"], 0.6, 1.5) * grey


def _ellipse(u: Any, v: Any, width: Any, height: Any) -> Any:
    """1 inside, 0 outside, and between them over about `_EDGE`."""
    distance = np.sqrt((u / width) ** 2 + (v / height) ** 2) - 1
    return _step(-distance * np.minimum(width, height))


def _step(distance: Any) -> Any:
    return np.clip(distance / _EDGE + 0.5, 0, 1)


def _over(below: Any, above: Any, cover: Any) -> Any:
    return below + (above - below) * cover
